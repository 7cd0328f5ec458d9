"""ResNets with the downsampling positions of Balanced Mixture of SuperNets (arXiv 2306.11982), by name.

A name lists how many layers run at each resolution: resnet-20-pool-4-3-3 is the ordinary ResNet-20.
"""

from __future__ import annotations

from dataclasses import replace

from scaling_rules.errors import ZooError
from scaling_rules.pooling import placed, positions
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stem
from zoo.families import CIFAR, PYTORCH, Group, Pattern, named
from zoo.families.resnet import imagenet, residual

SOURCE = "arXiv 2306.11982; github mehravehj/Balanced-Mixture-of-SuperNets"


def _placed(label: str, spec: NetworkSpec, lengths: tuple[int, ...]) -> NetworkSpec:
    """The network with its downsampling where a name says."""
    total = sum(positions(spec))
    if min(lengths) < 1 or sum(lengths) != total:
        given = "-".join(map(str, lengths))
        raise ZooError(f"{label}: the numbers must each be at least 1 and add up to {total}, not {given}.")
    return placed(spec, lengths)


def _cifar10(name: str, stem: int, blocks: list[Block], dialect: Dialect, note: str) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        family="resnet-pool",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(stem, stride=1),
        stages=(tuple(blocks),),
        head=Head(),
        source=SOURCE,
        note=note,
        **CIFAR,
    )


def resnet20(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Ten layers, the stem counted, for CIFAR-10; a 2x2 max-pool before the first layer of a new resolution."""
    blocks, fan_in = [], 16
    for index in range(9):
        out = 16 * 2 ** (index // 3)
        block = residual("basic", out, (out,), fan_in, 1, "projection")
        blocks.append(replace(block, pool=2 if index in (3, 6) else 0))
        fan_in = out
    note = "Shortcuts are projections where channels change; channels do not move with the pooling."
    return _placed("resnet-20-pool-A-B-C", _cifar10("resnet-20", 16, blocks, dialect, note), lengths)


def resnet18(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Nine layers, the stem counted, for CIFAR-10; the first block of a new resolution strides."""
    blocks, fan_in = [], 64
    for index in range(8):
        out, stride = 64 * 2 ** (index // 2), 2 if index in (2, 4, 6) else 1
        blocks.append(residual("basic", out, (out,), fan_in, stride, "projection"))
        fan_in = out
    note = "A strided block of equal channels has a plain subsampled shortcut."
    return _placed("resnet-18-pool-A-B-C-D", _cifar10("resnet-18", 64, blocks, dialect, note), lengths)


def resnet50(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Sixteen bottlenecks for Food-101; the first block of a new resolution strides in its 3x3 convolution."""
    note = (
        "All three strides are set. The released search code's bit string is one short: a last number of 1 lost "
        "its stride there, so its accuracies for such names belong to another network."
    )
    spec = replace(imagenet(50, dialect), family="resnet-pool", classes=101, source=SOURCE, note=note)
    return _placed("resnet-50-pool-A-B-C-D", spec, lengths)


PATTERNS = (
    Pattern("resnet-20-pool-A-B-C", "resnet-20-pool-4-3-3", r"resnet-20-pool-(\d+)-(\d+)-(\d+)", 36, resnet20),
    Pattern(
        "resnet-18-pool-A-B-C-D",
        "resnet-18-pool-3-2-2-2",
        r"resnet-18-pool-(\d+)-(\d+)-(\d+)-(\d+)",
        56,
        resnet18,
    ),
    Pattern(
        "resnet-50-pool-A-B-C-D",
        "resnet-50-pool-3-4-6-3",
        r"resnet-50-pool-(\d+)-(\d+)-(\d+)-(\d+)",
        455,
        resnet50,
    ),
)
GROUPS = (Group({}, named(PYTORCH), PATTERNS),)
