"""ResNets with the downsampling positions of Balanced Mixture of SuperNets (arXiv 2306.11982), by name.

A name lists how many layers run at each resolution: resnet-20-pool-4-3-3 is the ordinary ResNet-20.
"""

from __future__ import annotations

from dataclasses import replace

from scaling_rules.errors import ZooError
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import CIFAR, IMAGENET, PYTORCH, Group, Pattern, named
from zoo.families.resnet import residual

SOURCE = "arXiv 2306.11982; github mehravehj/Balanced-Mixture-of-SuperNets"


def _check(label: str, lengths: tuple[int, ...], total: int) -> None:
    if min(lengths) < 1 or sum(lengths) != total:
        given = "-".join(map(str, lengths))
        raise ZooError(f"{label}: the numbers must each be at least 1 and add up to {total}, not {given}.")


def _stages(blocks: list[Block], lengths: list[int]) -> tuple[Stage, ...]:
    """The blocks cut into stages of one resolution; a stage that held only the stem is left out."""
    stages, start = [], 0
    for length in lengths:
        stages.append(tuple(blocks[start : start + length]))
        start += length
    return tuple(stage for stage in stages if stage)


def _cifar10(name: str, stem: int, stages: tuple[Stage, ...], dialect: Dialect, note: str) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        family="resnet-pool",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(stem, stride=1),
        stages=stages,
        head=Head(),
        source=SOURCE,
        note=note,
        **CIFAR,
    )


def resnet20(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Ten layers, the stem counted, for CIFAR-10; a 2x2 max-pool before the first layer of a new resolution."""
    _check("resnet-20-pool-A-B-C", lengths, 10)
    starts = {lengths[0] - 1, lengths[0] + lengths[1] - 1}
    blocks, fan_in = [], 16
    for index in range(9):
        out = 16 * 2 ** (index // 3)
        block = residual("basic", out, (out,), fan_in, 1, "projection")
        blocks.append(replace(block, pool=2 if index in starts else 0))
        fan_in = out
    stages = _stages(blocks, [lengths[0] - 1, *lengths[1:]])
    name = f"resnet-20-pool-{'-'.join(map(str, lengths))}"
    note = "Shortcuts are projections where channels change; channels do not move with the pooling."
    return _cifar10(name, 16, stages, dialect, note)


def resnet18(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Nine layers, the stem counted, for CIFAR-10; the first block of a new resolution strides."""
    _check("resnet-18-pool-A-B-C-D", lengths, 9)
    starts = {sum(lengths[:n]) - 1 for n in (1, 2, 3)}
    blocks, fan_in = [], 64
    for index in range(8):
        out, stride = 64 * 2 ** (index // 2), 2 if index in starts else 1
        shortcut = "projection" if fan_in != out else "padded"
        blocks.append(residual("basic", out, (out,), fan_in, stride, shortcut))
        fan_in = out
    stages = _stages(blocks, [lengths[0] - 1, *lengths[1:]])
    name = f"resnet-18-pool-{'-'.join(map(str, lengths))}"
    note = "A strided block of equal channels has a plain subsampled shortcut."
    return _cifar10(name, 64, stages, dialect, note)


def resnet50(lengths: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Sixteen bottlenecks for Food-101; the first block of a new resolution strides in its 3x3 convolution."""
    _check("resnet-50-pool-A-B-C-D", lengths, 16)
    starts = {sum(lengths[:n]) for n in (1, 2, 3)}
    blocks: list[Block] = []
    fan_in = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for _ in range(count):
            out, stride = 4 * width, 2 if len(blocks) in starts else 1
            shortcut = "projection" if fan_in != out else "padded"
            blocks.append(residual("bottleneck", out, (width, width), fan_in, stride, shortcut, stride_at=1))
            fan_in = out
    name = f"resnet-50-pool-{'-'.join(map(str, lengths))}"
    note = (
        "All three strides are set. The released search code's bit string is one short: a last number of 1 lost "
        "its stride there, so its accuracies for such names belong to another network."
    )
    return NetworkSpec(
        name=name,
        family="resnet-pool",
        input=(224, 224, 3),
        classes=101,
        dialect=dialect,
        stem=Stem(64, kernel=7, pool=3),
        stages=_stages(blocks, list(lengths)),
        head=Head(),
        source=SOURCE,
        note=note,
        **IMAGENET,
    )


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
