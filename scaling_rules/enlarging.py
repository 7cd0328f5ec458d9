"""Larger networks of a given cost: one stage deeper or wider, a higher resolution, or all of it by one rule.

Greedy Network Enlarging (Liu et al., arXiv 2108.00177) enlarges width, depth and resolution stage by stage, on the
assumption that the best small network is a sub-network of the best large one. What can be read of it gives no
candidates and no constants: those here are ours, docs/scaling.md.

Each candidate contains its parent: no stage is shallower, no width or resolution smaller. As the paper counts, a stage
is all layers of one map size: the stem grows with the first stage if that keeps its size, the head's convolution with
the last.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple, cast

from scaling_rules import compound
from scaling_rules.cost import Draft, alone, macs
from scaling_rules.errors import ZooError, unknown
from scaling_rules.lower import total_stride
from scaling_rules.rounding import make_divisible
from scaling_rules.spec import Block, Head, NetworkSpec, Stage

MOVES = ("deeper", "wider", "resolution", "uniform")
GRID = 512
"""Factors of width are multiples of 1 / GRID."""

MOST = 64
"""No stage gains more blocks than this in a step, and no factor of width is beyond it."""


class Limits(NamedTuple):
    """The most that a network may have. None is no limit.

    blocks: by stage. channels: by stage, of any convolution in it, inner ones too. resolution: pixels a side.
    """

    blocks: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    resolution: int | None = None


NO_LIMITS = Limits()


class Candidate(NamedTuple):
    """A larger network: the move that leads to it, stage 0 for all stages, and what it costs in multiply-adds."""

    move: str
    stage: int
    spec: NetworkSpec
    macs: int

    @property
    def name(self) -> str:
        """'wider stage3', 'resolution'."""
        return f"{self.move} stage{self.stage}" if self.stage else self.move


def candidates(
    parent: NetworkSpec,
    target: int,
    baseline: NetworkSpec | None = None,
    moves: Iterable[str] = MOVES,
    limits: Limits = NO_LIMITS,
) -> list[Candidate]:
    """Every enlarging of `parent` by one of `moves` that costs at most `target` multiply-adds and more than `parent`.

    deeper: as many blocks as fit are added to a stage, copies of its last one; wider: its widths grow in proportion,
    by the rounding of its family; resolution: the largest that fits, in halves of the total stride, which change every
    map, or from an odd half to the next whole every one but the coarsest; uniform: what compound scaling of `baseline`
    (`parent` itself if None) has and `parent` lacks. What is then missing to `target` is made up by widths of the moved
    stage, or of all: no further step of one of them fits.

    A move that leads to nothing within the target and the limits is left out. Raises ZooError for an unknown move,
    limits of another number of stages, and a target below the parent's cost.
    """
    moves = tuple(moves)
    for move in moves:
        if move not in MOVES:
            raise unknown("move", move, MOVES)
    _check(limits, len(parent.stages))
    start = _draft(parent)
    if target < macs(start):
        raise ZooError(f"a target of {target} multiply-adds is below the {macs(start)} that {parent.name} costs.")

    def fits(draft: Draft) -> bool:
        return _within(draft, limits) and macs(draft) <= target

    every = range(len(parent.stages))
    found: list[tuple[str, int, Draft | None]] = []
    for move in moves:
        if move in ("deeper", "wider"):
            for stage in every:
                larger = _deeper(start, stage, fits) if move == "deeper" else start
                found.append((move, stage + 1, _filled(larger, [stage], fits, target, limits)))
        else:
            larger = _resolved(start, fits) if move == "resolution" else _uniform(start, baseline or parent, fits)
            found.append((move, 0, _filled(larger, every, fits, target, limits)))
    return [
        Candidate(move, stage, _spec(parent, draft), macs(draft))
        for move, stage, draft in found
        if draft is not None and macs(draft) > macs(start)
    ]


def _check(limits: Limits, stages: int) -> None:
    for what, values in (("blocks", limits.blocks), ("channels", limits.channels)):
        if values is not None and len(values) != stages:
            raise ZooError(f"limits of {what} are for {len(values)} stages, the network has {stages}.")


def _within(draft: Draft, limits: Limits) -> bool:
    return (
        all(len(stage) <= most for stage, most in zip(draft.stages, limits.blocks or (), strict=False))
        and all(_widest_of(stage) <= most for stage, most in zip(draft.stages, limits.channels or (), strict=False))
        and (limits.resolution is None or max(draft.input[:2]) <= limits.resolution)
    )


def _widest_of(blocks: Iterable[Block]) -> int:
    return max(width for block in blocks for width in (block.out, *block.mids))


def _draft(spec: NetworkSpec) -> Draft:
    return Draft(spec.input, spec.classes, spec.dialect, spec.stem, spec.stages, spec.head)


def _spec(parent: NetworkSpec, draft: Draft) -> NetworkSpec:
    return replace(parent, input=draft.input, stem=draft.stem, stages=draft.stages, head=draft.head)


def _possible(fits: Callable[[Draft], bool], draft: Draft) -> bool:
    """Whether it fits; a draft that is no network, since a sum's widths differ, does not."""
    try:
        return fits(draft)
    except ZooError:
        return False


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest whole number up to `most` that fits, all below it do; 0, which is not asked for, if none does."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


# -- moves: each gives the largest draft that fits, None where there is none


def _deeper(start: Draft, stage: int, fits: Callable[[Draft], bool]) -> Draft | None:
    def at(count: int) -> Draft:
        blocks = start.stages[stage]
        fan_in = blocks[-2].out if len(blocks) > 1 else _width_before(start, stage)
        more = [compound.repeat(blocks[-1], fan_in)]
        while len(more) < count:
            more.append(compound.repeat(more[-1], more[-1].out))
        return _with_stage(start, stage, (*blocks, *more))

    count = _largest(lambda count: _possible(fits, at(count)), MOST)
    return at(count) if count else None


def _widest(start: Draft, stages: Iterable[int], fits: Callable[[Draft], bool]) -> Draft:
    moved = set(stages)

    def at(step: int) -> Draft:
        return _widened(start, moved, 1 + step / GRID)

    step = _largest(lambda step: _possible(fits, at(step)), (MOST - 1) * GRID)
    return at(step) if step else start


def _resolved(start: Draft, fits: Callable[[Draft], bool]) -> Draft | None:
    stride = total_stride(start.stem, (block for stage in start.stages for block in stage))
    step = stride // 2 if stride % 2 == 0 else stride

    def at(count: int) -> Draft:
        height, width, channels = start.input
        return start._replace(input=(height + count * step, width + count * step, channels))

    count = _largest(lambda count: _possible(fits, at(count)), 4096)
    return at(count) if count else None


def _uniform(start: Draft, baseline: NetworkSpec, fits: Callable[[Draft], bool]) -> Draft:
    def at(step: int) -> Draft:
        depth, width, resolution = compound.factors(step / GRID)
        return _union(start, _draft(compound.scale(baseline, depth, width, round(baseline.input[0] * resolution))))

    step = _largest(lambda step: _possible(fits, at(step)), 32 * GRID)
    return at(step) if step else start


# -- drafts from drafts


def _with_stage(draft: Draft, stage: int, blocks: Stage) -> Draft:
    return draft._replace(stages=(*draft.stages[:stage], blocks, *draft.stages[stage + 1 :]))


def _width_before(draft: Draft, stage: int) -> int:
    return draft.stages[stage - 1][-1].out if stage else draft.stem.out


def _stem_goes_along(draft: Draft) -> bool:
    first = draft.stages[0][0]
    return first.stride == 1 and not first.pool and not draft.stem.pool


def _widened(draft: Draft, moved: set[int], factor: float) -> Draft:
    """The stages numbered in `moved` (from 0) wider by `factor`; what follows an input follows it."""
    divisor = compound.divisor(draft.stages[0][0])

    def grown(width: int) -> int:
        return max(width, make_divisible(width * factor, divisor)) if width else 0

    stem, head = draft.stem, draft.head
    everything = len(moved) == len(draft.stages)
    if everything or (0 in moved and _stem_goes_along(draft)):
        stem = replace(stem, out=grown(stem.out))
    if len(draft.stages) - 1 in moved:
        head = replace(head, conv=grown(head.conv))
    fan_in, new_in = draft.stem.out, stem.out
    stages = []
    for number, stage in enumerate(draft.stages):
        wide = []
        for block in stage:
            if number in moved:
                wide.append(_at_least(block, compound.widen(block, fan_in, new_in, factor)))
            else:
                wide.append(_following(block, fan_in, new_in))
            fan_in, new_in = block.out, wide[-1].out
        stages.append(tuple(wide))
    return draft._replace(stem=stem, head=head, stages=tuple(stages))


@functools.lru_cache(maxsize=1 << 14)
def _at_least(block: Block, other: Block) -> Block:
    """The wider of two blocks of one shape, width by width; their other fields are those of `block`."""
    return replace(
        block,
        out=max(block.out, other.out),
        mids=tuple(map(max, zip(block.mids, other.mids, strict=True))),
        squeeze=max(block.squeeze, other.squeeze),
    )


def _following(block: Block, fan_in: int, new_in: int) -> Block:
    """`block` as it is when it reads `new_in` channels and no longer `fan_in`, its own output unchanged."""
    if block.kind not in compound.FOLLOWS_INPUT or fan_in == new_in:
        return block
    return replace(compound.widen(block, fan_in, new_in, 1.0), out=block.out)


def _union(draft: Draft, other: Draft) -> Draft:
    """What either has: the deeper of each stage, the wider of each block, the higher resolution."""
    stages = []
    for own, theirs in zip(draft.stages, other.stages, strict=True):
        longer = own if len(own) >= len(theirs) else theirs
        both = [_at_least(a, b) for a, b in zip(own, theirs, strict=False)]
        # A block that only one of them has reads, and adds to, what the blocks before it have now.
        for block in longer[len(both) :]:
            both.append(_tied(block, both[-1].out))
        stages.append(tuple(both))
    return draft._replace(
        input=(max(draft.input[0], other.input[0]), max(draft.input[1], other.input[1]), draft.input[2]),
        stem=replace(draft.stem, out=max(draft.stem.out, other.stem.out)),
        head=replace(draft.head, conv=max(draft.head.conv, other.head.conv)),
        stages=tuple(stages),
    )


def _tied(block: Block, width: int) -> Block:
    """`block`, which reads and gives as many channels, with `width` of them if it has fewer."""
    if block.out >= width:
        return block
    return replace(_following(block, block.out, width), out=width)


# -- the rest, by single widths


def _filled(
    draft: Draft | None, stages: Iterable[int], fits: Callable[[Draft], bool], target: int, limits: Limits
) -> Draft | None:
    """All widths of `stages` in proportion, then by single steps the outputs, then the inner widths, while one fits."""
    if draft is None:
        return None
    draft = _widest(draft, stages, fits)
    left = list(stages)
    while left:
        # Costs only grow, so what does not fit now never will.
        still = []
        for number in left:
            if _possible(fits, larger := _outputs_wider(draft, number)):
                draft = larger
                still.append(number)
        left = still
    return _inner_filled(draft, set(stages), target, limits)


def _inner_filled(draft: Draft, stages: set[int], target: int, limits: Limits) -> Draft:
    """Round by round each inner width of `stages`, and the head's, a step wider, the costliest first, while one fits.

    Each costs what it costs in its own block: nothing else is computed again.
    """
    where = (draft.dialect.padding, draft.dialect.gate, draft.classes)
    divisor = compound.divisor(draft.stages[0][0])
    room = target - macs(draft)
    parts: list[Block | Head] = []
    reads: list[tuple[int, tuple[int, int]]] = []
    places: list[tuple[int, int, tuple[int, ...], float]] = []
    _, width, size = alone(draft.stem, draft.input[2], draft.input[:2], *where)

    def extra(index: int, larger: Block | Head) -> int:
        return alone(larger, *reads[index], *where)[0].macs - alone(parts[index], *reads[index], *where)[0].macs

    flat: list[tuple[int, Block | Head]] = [(n, block) for n, stage in enumerate(draft.stages) for block in stage]
    for index, (number, part) in enumerate([*flat, (len(draft.stages) - 1, draft.head)]):
        parts.append(part)
        reads.append((width, size))
        if number in stages:
            most = limits.channels[number] if limits.channels and isinstance(part, Block) else math.inf
            for inner in _free(part):
                places.append((extra(index, _next_part(part, inner, divisor)), index, inner, most))
        _, width, size = alone(part, width, size, *where)
    places.sort(reverse=True)
    while places:
        still = []
        for place in places:
            _, index, inner, most = place
            larger = _next_part(parts[index], inner, divisor)
            cost = extra(index, larger)
            if cost <= room and (isinstance(larger, Head) or _widest_of([larger]) <= most):
                room -= cost
                parts[index] = larger
                still.append(place)
        places = still
    blocks = iter(parts)
    grown = tuple(tuple(cast(Block, next(blocks)) for _ in stage) for stage in draft.stages)
    return draft._replace(stages=grown, head=cast(Head, next(blocks)))


def _free(part: Block | Head) -> list[tuple[int, ...]]:
    """The inner widths that do not follow an input, as groups that a depthwise convolution ties together."""
    if isinstance(part, Head):
        return [()] if part.conv else []
    if part.kind in compound.FOLLOWS_INPUT:
        return [(0, 1)] if len(part.mids) == 2 else []
    return [(inner,) for inner in range(len(part.mids))]


def _next_part(part: Block | Head, inner: tuple[int, ...], divisor: int) -> Block | Head:
    """`part` with the inner widths numbered in `inner`, or the head's convolution, the next multiple of `divisor`."""
    if isinstance(part, Head):
        return replace(part, conv=_next(part.conv, divisor))
    mids = tuple(_next(mid, divisor) if i in inner else mid for i, mid in enumerate(part.mids))
    return replace(part, mids=mids)


def _next(width: int, divisor: int) -> int:
    return (width // divisor + 1) * divisor


def _outputs_wider(draft: Draft, number: int) -> Draft:
    """All outputs of a stage a step wider, and what a tie binds to them; expansions stay as they are."""
    stem = draft.stem
    divisor = compound.divisor(draft.stages[number][0])
    if number == 0 and _stem_goes_along(draft):
        stem = replace(stem, out=_next(stem.out, divisor))
    stages = list(draft.stages)
    new_in = stem.out if number == 0 else _width_before(draft, number)
    wide = []
    for block in stages[number]:
        wide.append(_reading(replace(block, out=_next(block.out, divisor)), new_in))
        new_in = wide[-1].out
    stages[number] = tuple(wide)
    if number + 1 < len(stages):
        stages[number + 1] = (_reading(stages[number + 1][0], new_in), *stages[number + 1][1:])
    return draft._replace(stem=stem, stages=tuple(stages))


def _reading(block: Block, width: int) -> Block:
    """`block` with the one inner width that is always its input's, if it has such."""
    only = block.kind in compound.FOLLOWS_INPUT and len(block.mids) == 1
    return replace(block, mids=(width,)) if only else block
