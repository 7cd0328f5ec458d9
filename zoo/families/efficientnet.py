"""EfficientNet B0 to B8 and L2 (Tan & Le 2019, arXiv 1905.11946): B0's table, and the rest by compound scaling."""

from __future__ import annotations

from dataclasses import replace

from scaling_rules import compound
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import IMAGENET, TENSORFLOW, Group, Make, named, timm

DIALECTS = named(TENSORFLOW, timm())

TABLE = (
    # expansion, channels, layers, kernel, stride of the first layer (Table 1, stages 2 to 8)
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


def mbconv_stages(
    table: tuple[tuple[int, int, int, int, int], ...], fan_in: int, activation: str, squeeze: bool
) -> tuple[Stage, ...]:
    """Stages of MBConv blocks from rows (expansion, channels, layers, kernel, first stride).

    Squeeze-and-excitation has a quarter of the block's *input* channels, as in the released code.
    """
    stages = []
    for expansion, out, layers, kernel, first_stride in table:
        stage = []
        for layer in range(layers):
            stride = first_stride if layer == 0 else 1
            hidden = fan_in * expansion
            stage.append(
                Block(
                    "mbconv",
                    out,
                    mids=(hidden,) if expansion == 1 else (hidden, hidden),
                    kernel=kernel,
                    stride=stride,
                    shortcut="identity" if stride == 1 and fan_in == out else "none",
                    activation=activation,
                    squeeze=max(1, fan_in // 4) if squeeze else 0,
                )
            )
            fan_in = out
        stages.append(tuple(stage))
    return tuple(stages)


def b0(dialect: Dialect) -> NetworkSpec:
    """The baseline of Table 1."""
    return NetworkSpec(
        name="efficientnet-b0",
        family="efficientnet",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=Stem(32, activation="swish"),
        stages=mbconv_stages(TABLE, 32, "swish", squeeze=True),
        head=Head(conv=1280, activation="swish", dropout=0.2),
        drop_path=0.2,
        source="arXiv 1905.11946 Table 1; coefficients of tensorflow/tpu efficientnet_builder.py",
        note="Depth of B5 and up follows the released table, not alpha ** phi. Dropout is the released code's "
        "0.2 to 0.5 in steps where the paper says linear.",
        **IMAGENET,
    )


def scaled(variant: str, dialect: Dialect) -> NetworkSpec:
    """B1 to B8 and L2 by the released coefficients."""
    c = compound.OFFICIAL[variant]
    spec = compound.scale(b0(dialect), c.depth, c.width, c.resolution)
    return replace(spec, name=f"efficientnet-{variant}", head=replace(spec.head, dropout=c.dropout))


def _make(variant: str) -> Make:
    return lambda dialect: scaled(variant, dialect)


MODELS = {f"efficientnet-{variant}": _make(variant) for variant in compound.OFFICIAL}
GROUPS = (Group(MODELS, DIALECTS),)
