"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) and MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

from dataclasses import replace

from scaling_rules import compound
from scaling_rules.rounding import make_divisible
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import CIFAR, INCEPTION, TENSORFLOW, Group, Make, named, pixels, timm
from zoo.families.efficientnet import mbconv_stages

DIALECTS = named(TENSORFLOW, timm())

V1_WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.25)
V2_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
V2_DEEP = ((1.1, 1.2), (1.2, 1.4))
"""Widths and depths of timm's mobilenetv2_110d and 120d: stem, head and the first and last stage stay."""

V1_TABLE = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Channels, layers, stride of the first layer (Table 1)."""

V2_TABLE = (
    # expansion, channels, layers, kernel, stride of the first layer (Table 2)
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 32, 3, 3, 2),
    (6, 64, 4, 3, 2),
    (6, 96, 3, 3, 1),
    (6, 160, 3, 3, 2),
    (6, 320, 1, 3, 1),
)


def v1(width: float, dialect: Dialect) -> NetworkSpec:
    """MobileNetV1 with every width times `width`."""
    fan_in = int(32 * width)
    stem = Stem(fan_in, activation="relu6")
    stages: list[Stage] = []
    for channels, layers, first_stride in V1_TABLE:
        stage = []
        for layer in range(layers):
            out, stride = int(channels * width), first_stride if layer == 0 else 1
            stage.append(Block("separable", out, (fan_in,), stride=stride, activation="relu6"))
            fan_in = out
        stages.append(tuple(stage))
    return NetworkSpec(
        name=f"mobilenet-v1-{width}x",
        family="mobilenet-v1",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=stem,
        stages=tuple(stages),
        head=Head(dropout=0.001),
        source="arXiv 1704.04861 Table 1; tensorflow/models slim mobilenet_v1.py",
        note="The last depthwise layer has stride 1 as in the released code; the table prints 2.",
        **INCEPTION,
    )


def v2(width: float, dialect: Dialect) -> NetworkSpec:
    """MobileNetV2 with every width times `width`; the last convolution never has fewer than 1280 channels."""
    base = NetworkSpec(
        name=f"mobilenet-v2-{width}x",
        family="mobilenet-v2",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=Stem(32, activation="relu6"),
        stages=mbconv_stages(V2_TABLE, 32, "relu6", squeeze=False),
        head=Head(conv=1280, activation="relu6", dropout=0.2),
        source="arXiv 1801.04381 Table 2; tensorflow/models slim mobilenet_v2.py",
        **pixels(dialect, INCEPTION),
    )
    spec = compound.scale(base, width=width)
    return replace(spec, head=replace(spec.head, conv=max(1280, make_divisible(1280 * width, 8))))


def v2_deep(width: float, depth: float, dialect: Dialect) -> NetworkSpec:
    """MobileNetV2 `width` times as wide and `depth` times as deep, but for its ends (timm's `fix_stem_head`)."""
    spec = compound.scale(v2(1.0, dialect), depth, width, fixed_ends=True)
    return replace(
        spec,
        name=f"mobilenet-v2-{width}x-d{depth}",
        source=f"arXiv 1801.04381 Table 2; timm mobilenetv2_{width * 100:.0f}d",
    )


def v2_cifar(dialect: Dialect) -> NetworkSpec:
    """MobileNetV2 for 32x32 pictures with the strides of the BCNet authors' configuration."""
    strides = (1, 1, 1, 2, 1, 2, 1)
    table = tuple((*row[:4], stride) for row, stride in zip(V2_TABLE, strides, strict=True))
    return NetworkSpec(
        name="mobilenet-v2-cifar",
        family="mobilenet-v2",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(32, stride=1, activation="relu6"),
        stages=mbconv_stages(table, 32, "relu6", squeeze=False),
        head=Head(conv=1280, activation="relu6", dropout=0.2),
        source="xiusu/BCNetV2 BCNet/config, MobileNetV2 for CIFAR-10",
        **CIFAR,
    )


def _v1(width: float) -> Make:
    return lambda dialect: v1(width, dialect)


def _v2(width: float) -> Make:
    return lambda dialect: v2(width, dialect)


def _v2_deep(width: float, depth: float) -> Make:
    return lambda dialect: v2_deep(width, depth, dialect)


MODELS = {f"mobilenet-v1-{width}x": _v1(width) for width in V1_WIDTHS}
MODELS |= {f"mobilenet-v2-{width}x": _v2(width) for width in V2_WIDTHS}
MODELS |= {f"mobilenet-v2-{width}x-d{depth}": _v2_deep(width, depth) for width, depth in V2_DEEP}
MODELS |= {"mobilenet-v2-cifar": v2_cifar}
GROUPS = (Group(MODELS, DIALECTS),)
