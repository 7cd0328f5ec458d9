"""VGG-19 for CIFAR with batch norm (Simonyan & Zisserman, arXiv 1409.1556, as pruning papers run it)."""

from __future__ import annotations

from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import CIFAR, PYTORCH, Group, named

DIALECTS = named(PYTORCH)

TABLE = ((64, 1), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each stage after the stem, which is the first of the two 64-wide ones."""


def vgg19_cifar(dialect: Dialect) -> NetworkSpec:
    """Sixteen 3x3 convolutions, a max-pool before each new size, one classifier layer."""
    stages: list[Stage] = []
    for number, (out, layers) in enumerate(TABLE):
        blocks = [Block("conv", out, pool=2 if number and not layer else 0) for layer in range(layers)]
        stages.append(tuple(blocks))
    return NetworkSpec(
        name="vgg-19-cifar",
        family="vgg",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(64, stride=1),
        stages=tuple(stages),
        head=Head(),
        source="xiusu/BCNetV2 BCNet/config, VGG-19 for CIFAR-10 (one 512 -> 10 linear layer)",
        **CIFAR,
    )


GROUPS = (Group({"vgg-19-cifar": vgg19_cifar}, DIALECTS),)
