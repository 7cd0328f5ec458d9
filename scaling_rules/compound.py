"""EfficientNet's rule: depth, width and resolution grow together (Tan & Le, arXiv 1905.11946, section 3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from scaling_rules.cost import macs
from scaling_rules.errors import ZooError
from scaling_rules.rounding import make_divisible
from scaling_rules.search import scoring
from scaling_rules.search.engines import Engine, serial
from scaling_rules.search.scoring import Cache, Score, Scorer
from scaling_rules.spec import Block, NetworkSpec, Stage


class Coefficients(NamedTuple):
    """Factors for width and depth, the resolution in pixels, the dropout before the classifier."""

    width: float
    depth: float
    resolution: int
    dropout: float


OFFICIAL = {
    "b0": Coefficients(1.0, 1.0, 224, 0.2),
    "b1": Coefficients(1.0, 1.1, 240, 0.2),
    "b2": Coefficients(1.1, 1.2, 260, 0.3),
    "b3": Coefficients(1.2, 1.4, 300, 0.3),
    "b4": Coefficients(1.4, 1.8, 380, 0.4),
    "b5": Coefficients(1.6, 2.2, 456, 0.4),
    "b6": Coefficients(1.8, 2.6, 528, 0.5),
    "b7": Coefficients(2.0, 3.1, 600, 0.5),
    "b8": Coefficients(2.2, 3.6, 672, 0.5),
    "l2": Coefficients(4.3, 5.3, 800, 0.5),
}
"""The released coefficients (tensorflow/tpu, efficientnet_builder.py). They are not the formula's:
from B5 on the depth falls behind alpha ** phi."""

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Bases of depth, width and resolution that the paper's grid search found on B0 (section 4)."""

FOLLOWS_INPUT = ("mbconv", "separable")
"""Kinds whose first inner width is a fixed multiple of the block's input; others round their own."""


def factors(phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> tuple[float, float, float]:
    """(depth, width, resolution) factors alpha ** phi, beta ** phi, gamma ** phi of the paper's equation 3."""
    return alpha**phi, beta**phi, gamma**phi


def divisor(block: Block) -> int:
    """What widths of the block's family are multiples of."""
    return 4 if block.kind == "ghost" else 8


@functools.lru_cache(maxsize=1 << 14)
def widen(block: Block, fan_in: int, new_in: int, width: float) -> Block:
    """`block`, which read `fan_in` channels, made `width` times wider and reading `new_in`."""
    if block.kind in FOLLOWS_INPUT:
        # As in the released code: expansion and squeeze are ratios of the (rounded) input, not rounded again.
        mids = tuple(max(1, mid * new_in // fan_in) for mid in block.mids)
        squeeze = max(1, block.squeeze * new_in // fan_in) if block.squeeze else 0
    else:
        mids = tuple(make_divisible(mid * width, divisor(block)) for mid in block.mids)
        squeeze = make_divisible(block.squeeze * mids[0] / block.mids[0], divisor(block)) if block.squeeze else 0
    return replace(block, out=make_divisible(block.out * width, divisor(block)), mids=mids, squeeze=squeeze)


def repeat(block: Block, fan_in: int) -> Block:
    """A further block like `block`, which read `fan_in` channels, to follow it: it reads `block.out`."""
    if block.kind in FOLLOWS_INPUT:
        block = replace(
            block,
            mids=tuple(max(1, mid * block.out // fan_in) for mid in block.mids),
            squeeze=max(1, block.squeeze * block.out // fan_in) if block.squeeze else 0,
        )
    shortcut = "none" if block.kind in ("separable", "conv") else "identity"
    return replace(block, stride=1, pool=0, shortcut=shortcut)


def scale(
    spec: NetworkSpec,
    depth: float = 1.0,
    width: float = 1.0,
    resolution: int | None = None,
    fixed_ends: bool = False,
) -> NetworkSpec:
    """Return `spec` with each stage `depth` times as deep and `width` times as wide, at `resolution` pixels.

    Depth is rounded up; widths to multiples of 8, in Ghost blocks of 4 (`round_repeats` and `round_filters`
    of the released code); a hidden layer after pooling keeps its size. A block that a stage gains is a copy
    of its last one with stride 1. `fixed_ends`: stem, head and the depth of the first and last stage stay
    (EfficientNet-Lite). Raises ZooError for a factor that is not positive and a resolution below the total
    stride.
    """
    for what, value in (("depth", depth), ("width", width)):
        if not (isinstance(value, int | float) and 0 < value < 1000):
            raise ZooError(f"{what} must be a positive factor, not {value!r}.")
    stem_divisor = divisor(spec.blocks[0])
    stem, head = spec.stem, spec.head
    if not fixed_ends:
        stem = replace(stem, out=make_divisible(stem.out * width, stem_divisor))
        if head.conv:
            head = replace(head, conv=make_divisible(head.conv * width, stem_divisor))
    fan_in, new_in = spec.stem.out, stem.out
    stages: list[Stage] = []
    for number, stage in enumerate(spec.stages):
        wide: list[Block] = []
        for block in stage:
            last_in = new_in
            wide.append(widen(block, fan_in, new_in, width))
            fan_in, new_in = block.out, wide[-1].out
        fixed = fixed_ends and number in (0, len(spec.stages) - 1)
        count = len(stage) if fixed else math.ceil(depth * len(stage))
        while len(wide) < count:
            wide.append(repeat(wide[-1], last_in))
            last_in = new_in
        stages.append(tuple(wide[:count]))
    pixels = spec.input[:2] if resolution is None else (resolution, resolution)
    return replace(spec, stem=stem, head=head, stages=tuple(stages), input=(*pixels, spec.input[2]))


def _at(spec: NetworkSpec, phi: float, alpha: float, beta: float, gamma: float) -> NetworkSpec:
    depth, width, resolution = factors(phi, alpha, beta, gamma)
    return scale(spec, depth, width, max(1, round(spec.input[0] * resolution)))


def largest(
    spec: NetworkSpec, budget: int, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA
) -> tuple[float, NetworkSpec]:
    """(phi, network): the largest compound scaling of `spec` that costs at most `budget` multiply-adds.

    phi is found to 1/1024; it is below zero where `spec` itself costs more than `budget`. Resolution is rounded
    to whole pixels. Raises ZooError when the budget is below what the rule can shrink the network to.
    """
    if type(budget) is not int or budget <= 0:
        raise ZooError(f"macs must be a positive whole number, not {budget!r}.")

    def at(phi: float) -> NetworkSpec:
        return _at(spec, phi, alpha, beta, gamma)

    def fits(step: int) -> bool:
        try:
            return macs(at(step / 1024)) <= budget
        except ZooError:  # a resolution below the total stride: too small is within any budget
            return step < 0

    # Every factor grows with phi and rounding keeps the order, so the cost does too: bisection is exact.
    low, high = -16 * 1024, 1024
    while fits(high):
        high *= 2
        if high > 64 * 1024:
            raise ZooError(f"macs {budget} is beyond what this rule scales to.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    phi = low / 1024
    try:
        return phi, at(phi)
    except ZooError:
        raise ZooError(f"macs {budget} is below the smallest scaling of {spec.name}.") from None


ALONE = {"depth": (2.0, 1.0, 1.0), "width": (1.0, 2.0, 1.0), "resolution": (1.0, 1.0, 2.0)}
"""Bases that make `largest` grow one dimension alone, for comparison at equal cost (the paper's Tables 3 and 7)."""


class GridPoint(NamedTuple):
    """A candidate of the grid search: its bases, the network at phi = 1, its multiply-adds and score."""

    alpha: float
    beta: float
    gamma: float
    spec: NetworkSpec
    macs: int
    score: Score


def grid(baseline: NetworkSpec, step: float = 0.05, tolerance: float = 0.1) -> list[tuple[float, float, float]]:
    """All (alpha, beta, gamma), from 1 on in multiples of `step`, that double the cost of `baseline` at phi = 1.

    Within `tolerance`, relative, both by the formula, alpha * beta ** 2 * gamma ** 2 near 2 (the paper's equation 3),
    and by the network's real multiply-adds, which rounding may put elsewhere. Raises ZooError for a step or tolerance
    that is not in (0, 1), and where no point is left.
    """
    for what, value in (("step", step), ("tolerance", tolerance)):
        if not (isinstance(value, int | float) and 0 < value < 1):
            raise ZooError(f"{what} must lie between 0 and 1, not {value!r}.")
    least, most = 2 * (1 - tolerance), 2 * (1 + tolerance)
    start = macs(baseline)
    ones = [round(1 + step * count, 10) for count in range(math.floor((most - 1) / step) + 1)]
    formula = [
        (alpha, beta, gamma)
        for alpha in ones
        for beta in ones
        for gamma in ones
        if least <= alpha * beta**2 * gamma**2 <= most
    ]
    points = [bases for bases in formula if least <= macs(_at(baseline, 1.0, *bases)) / start <= most]
    if not points:
        raise ZooError(
            f"no point of a grid of step {step} doubles the cost of {baseline.name} within {tolerance}; "
            f"{len(formula)} do by the formula, and none by its real multiply-adds."
        )
    return points


def grid_search(
    baseline: NetworkSpec,
    scorer: Scorer,
    *,
    step: float = 0.05,
    tolerance: float = 0.1,
    seeds: Sequence[int] = (0,),
    engine: Engine = serial,
    cache: Cache | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[GridPoint]:
    """Every point of `grid` with its score over `seeds`, the best first, those without a score last.

    The first is the paper's step 1 (section 3.3): the bases that double the cost best; its step 2 is `largest` with
    them. How far the first is ahead of the others, beside the noise of `scoring.noise`, is for the caller to look at.
    """
    points = grid(baseline, step, tolerance)
    specs = [_at(baseline, 1.0, *bases) for bases in points]
    scores = scoring.score(specs, seeds, scorer, engine=engine, cache=cache, report=report)
    found = [
        GridPoint(*bases, spec, macs(spec), score) for bases, spec, score in zip(points, specs, scores, strict=True)
    ]
    return sorted(found, key=lambda point: -point.score.mean)
