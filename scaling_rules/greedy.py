"""Greedy enlarging: a network grows step by step to a MAC budget, each time where that scores best.

In the spirit of Greedy Network Enlarging (Liu et al., arXiv 2108.00177): of its method the claim and the assumption can
be read, its candidates, proxy and constants cannot. Ours are in `scaling_rules.enlarging` and here, docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from scaling_rules.cost import human, macs
from scaling_rules.enlarging import MOVES, NO_LIMITS, Candidate, Limits, candidates
from scaling_rules.errors import ZooError
from scaling_rules.search import scoring
from scaling_rules.search.engines import Engine, serial
from scaling_rules.search.scoring import Cache, Score, Scorer
from scaling_rules.spec import NetworkSpec

ROUNDING = 1.01
"""Costs within this factor are the same: candidates are as large as the rounding of widths lets them be."""


class Scored(NamedTuple):
    """A candidate of a step: where it comes from, how it scored, and whether it was kept."""

    parent: str
    candidate: Candidate
    score: Score
    kept: bool


class Step(NamedTuple):
    """A step of the budget: what a network of it may cost, all candidates, the noise of one score (one deviation)."""

    target: int
    scored: tuple[Scored, ...]
    noise: float


class Enlarged(NamedTuple):
    """What came out: the network, its cost in multiply-adds, the candidates on the way to it, and all steps."""

    spec: NetworkSpec
    macs: int
    path: tuple[Candidate, ...]
    steps: tuple[Step, ...]


class _Node(NamedTuple):
    spec: NetworkSpec
    path: tuple[Candidate, ...]


def targets(start: int, budget: int, steps: int) -> list[int]:
    """`steps` budgets in multiply-adds that grow by one factor from `start`, which is left out, to `budget`."""
    return [*(int(start * (budget / start) ** (step / steps)) for step in range(1, steps)), budget]


def enlarge(
    baseline: NetworkSpec,
    budget: int,
    scorer: Scorer,
    *,
    steps: int = 8,
    beam: int = 1,
    seeds: Sequence[int] = (0,),
    moves: Iterable[str] = MOVES,
    limits: Limits = NO_LIMITS,
    engine: Engine = serial,
    cache: Cache | None = None,
    report: Callable[[int, int, int, int], None] | None = None,
) -> Enlarged:
    """The enlarging of `baseline` to `budget` multiply-adds that `scorer` likes best, one move a step.

    Each step allows the same factor more; its candidates are all made as large as it allows, so that they differ in
    allocation alone, and the `beam` best go on. By successive halving (Jamieson & Talwalkar, arXiv 1502.07943): all are
    scored by the first of `seeds`, the better half, never less than beam + 1, by the next, and so on. Among those with
    the most seeds that the noise does not tell from the best (one standard error of the difference), one cheaper by
    more than a percent is taken; a smaller difference is the rounding's, and the higher mean decides.
    A candidate without a score is left out. report(step, of, scores done, of).

    Raises ZooError for a budget that is not above the baseline's cost, or that the limits do not let it come within
    1 % of, and where no candidate of a step has a score.
    """
    for what, value in (("budget", budget), ("steps", steps), ("beam", beam)):
        if type(value) is not int or value < 1:
            raise ZooError(f"{what} must be a whole number of at least 1, not {value!r}.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ZooError(f"seeds must be different whole numbers, at least one, not {list(seeds)}.")
    start = macs(baseline)
    if budget <= start:
        raise ZooError(f"a budget of {human(budget)} is not above the {human(start)} MACs of {baseline.name}.")
    moves = tuple(moves)
    cache = cache or Cache()
    nodes = [_Node(baseline, ())]
    done: list[Step] = []
    for number, target in enumerate(targets(start, budget, steps), 1):
        offered: dict[str, tuple[_Node, Candidate]] = {}
        for node in nodes:
            for candidate in candidates(node.spec, target, baseline, moves, limits):
                offered.setdefault(candidate.spec.fingerprint(), (node, candidate))
        if not offered:  # the step is less than any move costs: the next one allows more
            continue

        def told(count: int, of: int, number: int = number) -> None:
            if report:
                report(number, steps, count, of)

        pairs = list(offered.values())
        scores = _halved([candidate for _, candidate in pairs], seeds, beam, scorer, engine, cache, told)
        noise = scoring.noise(scores)
        kept = _best([candidate for _, candidate in pairs], scores, noise, beam)
        if not kept:
            raise ZooError(f"no candidate of step {number} has a score; the first: {scores[0].failed}.")
        rows = (
            Scored(node.spec.fingerprint(), candidate, scores[index], index in kept)
            for index, (node, candidate) in enumerate(pairs)
        )
        done.append(Step(target, tuple(rows), noise))
        nodes = [_Node(pairs[index][1].spec, (*pairs[index][0].path, pairs[index][1])) for index in kept]
    best = nodes[0]
    reached = macs(best.spec)
    if not best.path:
        raise ZooError(f"nothing larger than {baseline.name} at {human(start)} MACs fits a budget of {human(budget)}.")
    if reached < budget / ROUNDING and limits != NO_LIMITS:
        raise ZooError(
            f"{baseline.name} cannot be enlarged to {human(budget)} MACs within these limits; the nearest that was "
            f"reached is {reached} ({human(reached)})."
        )
    return Enlarged(best.spec, reached, best.path, tuple(done))


def _halved(
    offered: Sequence[Candidate],
    seeds: Sequence[int],
    beam: int,
    scorer: Scorer,
    engine: Engine,
    cache: Cache,
    report: Callable[[int, int], None],
) -> list[Score]:
    """Successive halving: more seeds for the better ones."""
    left = list(range(len(offered)))
    scores: dict[int, Score] = {}
    for count in range(1, len(seeds) + 1):
        found = scoring.score(
            [offered[index].spec for index in left], seeds[:count], scorer, engine=engine, cache=cache, report=report
        )
        scores |= dict(zip(left, found, strict=True))
        left.sort(key=lambda index: -scores[index].mean)
        left = left[: max(beam + 1, -(-len(left) // 2))]
    return [scores[index] for index in range(len(offered))]


def _best(offered: Sequence[Candidate], scores: Sequence[Score], noise: float, count: int) -> list[int]:
    """The best `count` by their numbers, the best first."""
    left = [index for index, score in enumerate(scores) if score.values]
    chosen: list[int] = []
    while left and len(chosen) < count:
        most = max(len(scores[index].values) for index in left)
        surest = [index for index in left if len(scores[index].values) == most]
        top = max(surest, key=lambda index: scores[index].mean)
        equal = [index for index in surest if not scoring.better(scores[top], scores[index], noise)]
        cheapest = min(offered[index].macs for index in equal)
        taken = max(
            (index for index in equal if offered[index].macs <= ROUNDING * cheapest),
            key=lambda index: (scores[index].mean, -index),
        )
        chosen.append(taken)
        left.remove(taken)
    return chosen


def as_json(found: Enlarged) -> dict[str, Any]:
    """The trajectory, for a found file: targets, candidates with their scores, and the allocation of each."""
    return {
        "macs": found.macs,
        "path": [candidate.name for candidate in found.path],
        "steps": [
            {
                "target": step.target,
                "noise": step.noise,
                "candidates": [
                    {
                        "move": one.candidate.name,
                        "parent": one.parent,
                        "fingerprint": one.candidate.spec.fingerprint(),
                        "macs": one.candidate.macs,
                        "gap": 1 - one.candidate.macs / step.target,
                        "scores": list(one.score.values),
                        "failed": one.score.failed,
                        "kept": one.kept,
                        "blocks": [len(stage) for stage in one.candidate.spec.stages],
                        "channels": [stage[-1].out for stage in one.candidate.spec.stages],
                        "resolution": one.candidate.spec.input[0],
                    }
                    for one in step.scored
                ],
            }
            for step in found.steps
        ],
    }
