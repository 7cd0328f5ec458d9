"""GhostNet (Han et al. 2020, arXiv 1911.11907), and GhostNet enlarged stage by stage (arXiv 2108.00177)."""

from __future__ import annotations

from dataclasses import replace

from scaling_rules.rounding import make_divisible
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import IMAGENET, PYTORCH, TENSORFLOW, Group, Make, named, timm

HARD = replace(PYTORCH, gate="hard_sigmoid")
DIALECTS = named(
    HARD,  # huawei-noah's PyTorch release, which timm repeats
    timm(HARD),
    # the authors' original: gate clipped to [0, 1], squeeze int(exp / 4), batch norm after the 1280 layer
    replace(TENSORFLOW, gate="clip", momentum=0.9997),
    replace(PYTORCH, name="paddle", gate="clip"),
)

TABLE = (
    # kernel, expansion, channels, squeeze-and-excitation, stride; a stage a feature size, /16 in two
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2), (3, 72, 24, False, 1)),
    ((5, 72, 40, True, 2), (5, 120, 40, True, 1)),
    ((3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1), (3, 184, 80, False, 1)),
    ((3, 480, 112, True, 1), (3, 672, 112, True, 1)),
    (
        (5, 672, 160, True, 2),
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
        (5, 960, 160, False, 1),
        (5, 960, 160, True, 1),
    ),
)


def _bottleneck(kernel: int, expansion: int, fan_in: int, out: int, stride: int, squeeze: int) -> Block:
    shortcut = "identity" if stride == 1 and fan_in == out else "separable"
    return Block("ghost", out, (expansion,), kernel, stride, shortcut=shortcut, squeeze=squeeze)


def ghostnet(width: float, dialect: Dialect) -> NetworkSpec:
    """GhostNet with every width times `width`, rounded to multiples of 4; the 1280 hidden units stay."""
    authors_code = dialect.name in ("tensorflow", "paddle")
    fan_in = make_divisible(16 * width, 4)
    stem = Stem(fan_in)
    stages: list[Stage] = []
    for rows in TABLE:
        stage = []
        for kernel, expansion, channels, se, stride in rows:
            hidden, out = make_divisible(expansion * width, 4), make_divisible(channels * width, 4)
            squeeze = (hidden // 4 if authors_code else make_divisible(hidden / 4, 4)) if se else 0
            stage.append(_bottleneck(kernel, hidden, fan_in, out, stride, squeeze))
            fan_in = out
        stages.append(tuple(stage))
    return NetworkSpec(
        name=f"ghostnet-{width}x",
        family="ghostnet",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=stem,
        stages=tuple(stages),
        head=Head(conv=make_divisible(960 * width, 4), hidden=1280, hidden_norm=authors_code, dropout=0.2),
        source="arXiv 1911.11907; huawei-noah/Efficient-AI-Backbones ghostnet_pytorch/ghostnet.py",
        note="The authors' two releases differ in the squeeze-and-excitation gate, its rounding and the hidden "
        "layer (bias or batch norm): the default is the PyTorch one, dialect='tensorflow' the original.",
        **IMAGENET,
    )


ENLARGED = {
    # channels and layers of the six stages, resolution, dropout, drop path
    "ghostnet-enlarged-600m": ((28, 44, 72, 140, 196, 280), (1, 2, 3, 4, 3, 6), 240, 0.2, 0.2),
    "ghostnet-enlarged-4.4b": ((36, 60, 108, 168, 232, 336), (3, 5, 5, 12, 6, 14), 384, 0.3, 0.1),
}

LARGE = (
    # kernel, stride, expansion of the first block (times its input), of the others (times their own channels)
    (3, 1, 1, 1),
    (3, 2, 3, 3),
    (5, 2, 3, 3),
    (3, 2, 6, 2.5),
    (3, 1, 6, 6),
    (5, 2, 6, 6),
)


def enlarged(name: str, dialect: Dialect) -> NetworkSpec:
    """A released S-GhostNet: its 'large' definition has squeeze-and-excitation of ratio 0.1 in every block."""
    channels, layers, resolution, dropout, drop_path = ENLARGED[name]
    fan_in = make_divisible(channels[0], 4)
    stem = Stem(fan_in, activation="hard_swish")
    stages: list[Stage] = []
    for out, count, (kernel, first_stride, first, other) in zip(channels, layers, LARGE, strict=True):
        stage = []
        for layer in range(count):
            stride = first_stride if layer == 0 else 1
            hidden = make_divisible(fan_in * first if layer == 0 else out * other, 4)
            stage.append(_bottleneck(kernel, hidden, fan_in, out, stride, make_divisible(hidden * 0.1, 8)))
            fan_in = out
        stages.append(tuple(stage))
    return NetworkSpec(
        name=name,
        family="ghostnet-enlarged",
        input=(resolution, resolution, 3),
        classes=1000,
        dialect=dialect,
        stem=stem,
        stages=tuple(stages),
        head=Head(
            conv=stages[-1][-1].mids[0],
            hidden=max(1280, 5 * channels[-1]),
            hidden_activation="hard_swish",
            dropout=dropout,
        ),
        drop_path=drop_path,
        source="arXiv 2108.00177; mindspore-ai/models research/cv/S-GhostNet README.md and src/big_net.py",
        note="The released counterpart of the paper's network: its README states a top-1 1.1 to 1.3 points "
        "below the abstract's and does not say why; no weights and no search code were released.",
        **IMAGENET,
    )


def _make(width: float) -> Make:
    return lambda dialect: ghostnet(width, dialect)


def _make_enlarged(name: str) -> Make:
    return lambda dialect: enlarged(name, dialect)


GROUPS = (
    Group({f"ghostnet-{width}x": _make(width) for width in (0.5, 1.0, 1.3)}, DIALECTS),
    Group({name: _make_enlarged(name) for name in ENLARGED}, named(replace(HARD, name="mindspore"))),
)
