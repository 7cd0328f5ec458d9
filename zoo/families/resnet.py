"""ResNet (He et al. 2016, arXiv 1512.03385): 18 to 152 for ImageNet, 20 to 110 for CIFAR."""

from __future__ import annotations

from dataclasses import replace

from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import CIFAR, IMAGENET, PYTORCH, Group, Make, named, timm

DIALECTS = named(
    replace(PYTORCH, name="torchvision"),
    timm(),
    replace(PYTORCH, name="he"),  # as printed in 2015: a bottleneck strides in its first 1x1 convolution
)

LAYERS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}

CIFAR_DEPTHS = (20, 32, 44, 56, 110)


def residual(
    kind: str, out: int, mids: tuple[int, ...], fan_in: int, stride: int, shortcut: str, stride_at: int = 0
) -> Block:
    """A block of `out` channels reading `fan_in`: identity where it can be, else `shortcut`."""
    same = stride == 1 and fan_in == out
    return Block(
        kind,
        out,
        mids,
        stride=stride,
        stride_at=stride_at,
        shortcut="identity" if same else shortcut,
        sum_activation="relu",
    )


def imagenet(depth: int, dialect: Dialect) -> NetworkSpec:
    """Table 1 of the paper; option B: a projection where the shape changes."""
    kind, layers = LAYERS[depth]
    stride_at = 1 if kind == "bottleneck" and dialect.name != "he" else 0
    fan_in = 64
    stages: list[Stage] = []
    for number, count in enumerate(layers):
        width = 64 * 2**number
        out, mids = (width, (width,)) if kind == "basic" else (4 * width, (width, width))
        stage = []
        for layer in range(count):
            stride = 2 if number and not layer else 1
            stage.append(residual(kind, out, mids, fan_in, stride, "projection", stride_at))
            fan_in = out
        stages.append(tuple(stage))
    return NetworkSpec(
        name=f"resnet-{depth}",
        family="resnet",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=Stem(64, kernel=7, pool=3),
        stages=tuple(stages),
        head=Head(),
        source="arXiv 1512.03385 Table 1; torchvision's layout",
        note="The stride of a bottleneck sits on its 3x3 convolution ('v1.5', 4.09 billion MACs for ResNet-50); "
        "dialect='he' puts it on the first 1x1 as the paper did (printed there as 3.8 billion).",
        **IMAGENET,
    )


def cifar(depth: int, dialect: Dialect) -> NetworkSpec:
    """Section 4.2 of the paper: 6n + 2 layers, option A: shortcuts without parameters."""
    stages: list[Stage] = []
    fan_in = 16
    for number, out in enumerate((16, 32, 64)):
        stage = []
        for layer in range((depth - 2) // 6):
            stride = 2 if number and not layer else 1
            stage.append(residual("basic", out, (out,), fan_in, stride, "padded"))
            fan_in = out
        stages.append(tuple(stage))
    return NetworkSpec(
        name=f"resnet-{depth}",
        family="resnet-cifar",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(16, stride=1),
        stages=tuple(stages),
        head=Head(),
        source="arXiv 1512.03385 section 4.2",
        note="New channels of a shortcut are zeros after the old ones; the paper does not say where they go.",
        **CIFAR,
    )


def _imagenet(depth: int) -> Make:
    return lambda dialect: imagenet(depth, dialect)


def _cifar(depth: int) -> Make:
    return lambda dialect: cifar(depth, dialect)


MODELS = {f"resnet-{depth}": _imagenet(depth) for depth in LAYERS}
CIFAR_MODELS = {f"resnet-{depth}": _cifar(depth) for depth in CIFAR_DEPTHS}
GROUPS = (Group(MODELS, DIALECTS), Group(CIFAR_MODELS, named(PYTORCH)))
