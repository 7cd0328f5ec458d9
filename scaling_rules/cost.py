"""What a spec costs, from the spec alone: multiply-adds, parameters, buffers, activations.

The rule, written once. MACs: multiply-adds of convolutions and dense layers, those inside
squeeze-and-excitation included; batch norm, activations, pooling, sums, biases and the gate's scaling
multiplication are not counted. Params: what is trained. Buffers: batch norm's moving statistics.
Activations: output elements of convolutions (the measure of "Designing Network Design Spaces", section 3.1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scaling_rules.lower import Conv, Dense, Primitive, SqueezeExcite, lower_part, stage_of
from scaling_rules.shapes import sizes_of
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem


class Draft(NamedTuple):
    """What a network costs by, not yet checked to be one; the fields are a `NetworkSpec`'s."""

    input: tuple[int, int, int]
    classes: int
    dialect: Dialect
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head


class Part(NamedTuple):
    """Cost of one block or stage; whole numbers."""

    macs: int
    params: int
    buffers: int
    activations: int

    def plus(self, other: Part) -> Part:
        """The sum of both, field by field."""
        return Part(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Cost:
    """Cost of a network for one picture of the spec's input size, in whole numbers, and of its parts.

    stages: by 'stem', 'stage1', ..., 'head'. blocks: by 'stem', 'stage1.block1', ..., 'head'.
    """

    macs: int
    params: int
    buffers: int
    activations: int
    stages: dict[str, Part]
    blocks: dict[str, Part]


def _part(op: Primitive, size: tuple[int, int]) -> Part | None:
    """Cost of one primitive whose output has `size` pixels, None where it costs nothing."""
    if isinstance(op, Conv):
        kernel = op.kernel * op.kernel * op.cin // op.groups * op.cout
        pixels = size[0] * size[1]
        return Part(kernel * pixels, kernel + 2 * op.cout, 2 * op.cout, op.cout * pixels)
    if isinstance(op, SqueezeExcite):
        kernel = 2 * op.cout * op.squeeze
        return Part(kernel, kernel + op.cout + op.squeeze, 0, op.cout + op.squeeze)
    if isinstance(op, Dense):
        kernel = op.cin * op.cout
        return Part(kernel, kernel + (2 if op.norm else 1) * op.cout, 2 * op.cout if op.norm else 0, 0)
    return None


def cost(spec: NetworkSpec | Draft) -> Cost:
    """Cost of the spec at its own input size and number of classes. Raises ZooError for a draft that is no network."""
    blocks = dict(_parts(spec))
    stages: dict[str, Part] = {}
    total = zero = Part(0, 0, 0, 0)
    for path, part in blocks.items():
        stage = stage_of(path)
        stages[stage] = stages.get(stage, zero).plus(part)
        total = total.plus(part)
    return Cost(*total, stages=stages, blocks=blocks)


def macs(spec: NetworkSpec | Draft) -> int:
    """`cost(spec).macs` alone, for rules that ask for it thousands of times."""
    where = (spec.dialect.padding, spec.dialect.gate, spec.classes)
    part, width, size = alone(spec.stem, spec.input[2], spec.input[:2], *where)
    total = part.macs
    for stage in spec.stages:
        more, width, size = _stage_macs(stage, width, size, *where)
        total += more
    return total + alone(spec.head, width, size, *where)[0].macs


@functools.lru_cache(maxsize=1 << 14)
def _stage_macs(
    stage: Stage, width: int, size: tuple[int, int], padding: str, gate: str, classes: int
) -> tuple[int, int, tuple[int, int]]:
    """As `alone`, of all blocks of a stage, multiply-adds only."""
    total = 0
    for block in stage:
        part, width, size = alone(block, width, size, padding, gate, classes)
        total += part.macs
    return total, width, size


def _parts(spec: NetworkSpec | Draft) -> Iterator[tuple[str, Part]]:
    where = (spec.dialect.padding, spec.dialect.gate, spec.classes)
    part, width, size = alone(spec.stem, spec.input[2], spec.input[:2], *where)
    yield "stem", part
    for s, stage in enumerate(spec.stages, 1):
        for b, block in enumerate(stage, 1):
            part, width, size = alone(block, width, size, *where)
            yield f"stage{s}.block{b}", part
    yield "head", alone(spec.head, width, size, *where)[0]


@functools.lru_cache(maxsize=1 << 16)
def alone(
    part: Stem | Block | Head, fan_in: int, size: tuple[int, int], padding: str, gate: str, classes: int
) -> tuple[Part, int, tuple[int, int]]:
    """Cost of a part that reads `fan_in` channels of `size` pixels; its own channels and pixels.

    Raises ZooError for a block whose sum or depthwise convolution has two widths.
    """
    ops = lower_part(part, fan_in, gate, classes)
    sizes = sizes_of(ops, size, padding)
    total = Part(0, 0, 0, 0)
    for op in ops:
        found = _part(op, sizes[op.path])
        total = total.plus(found) if found else total
    return total, ops[-1].cout, sizes[ops[-1].path]


def slug(value: int) -> str:
    """A count as a part of a name: 600000000 is '600m'."""
    number, unit = human(value)[:-1], human(value)[-1].lower()
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit


def human(value: float) -> str:
    """A count with three significant digits and its unit: 385814848 is '386M', 4089184256 is '4.09G'."""
    if value < 1000:
        return str(value)
    power = min(int(math.log10(value) // 3), 4)
    scaled = float(f"{value / 1000**power:.3g}")
    if scaled >= 1000 and power < 4:
        scaled, power = scaled / 1000, power + 1
    return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{'KMGT'[power - 1]}"
