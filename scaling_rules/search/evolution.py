"""Evolution of vectors under a budget: tournaments, uniform crossover, mutation; nothing is scored twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from scaling_rules.search.vectors import Problem, Query, Score, Vector, as_vector

TRIES = 100
"""Children that are made at most for one that fits and is new; then one is drawn."""


def evolution(
    problem: Problem,
    score: Score,
    rng: np.random.Generator,
    *,
    population: int = 20,
    recent: int = 60,
    tournament: int = 5,
    mutation: float = 0.15,
    chances: np.ndarray | None = None,
) -> Iterator[Query]:
    """Queries without end; the best is the one with the highest score.

    The first `population` vectors are drawn, by `chances` (as of `Problem.draw`: the prior initial population of BCNet,
    arXiv 2105.10533, section 3.3). Then each child has two parents, each the best of `tournament` of the last `recent`
    vectors (regularised evolution, arXiv 1802.01548); a number comes from either, or with the chance `mutation` it is
    drawn anew, by `chances` too. A child above the budget is not scored.
    """
    scores: dict[Vector, float] = {}

    def parent() -> np.ndarray:
        last = list(islice(reversed(scores), recent))
        rivals = [last[index] for index in rng.integers(len(last), size=tournament)]
        return np.array(max(rivals, key=scores.__getitem__))

    def child() -> Vector:
        for _ in range(TRIES):
            crossed = np.where(rng.random(problem.variables) < 0.5, parent(), parent())
            fresh = problem.draw_any(rng, 1, chances)[0]
            made = np.where(rng.random(problem.variables) < mutation, fresh, crossed)
            vector = as_vector(made)
            if vector not in scores and problem.fits(made[None])[0]:
                return vector
        return as_vector(problem.draw(rng, 1, chances)[0])

    start = iter(problem.draw(rng, population, chances))
    best: Vector | None = None
    while True:
        drawn = next(start, None)
        vector = child() if drawn is None else as_vector(drawn)
        if vector not in scores:
            scores[vector] = score(vector)
        if best is None or scores[vector] > scores[best]:
            best = vector
        yield Query(vector, scores[vector], best)
