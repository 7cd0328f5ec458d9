"""Vectors of whole numbers under a budget, and the plainest search among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaling_rules.cost import human
from scaling_rules.errors import ZooError

Vector = tuple[int, ...]
Score = Callable[[Vector], float]
"""What a vector is worth, the higher the better; with or without noise."""

TRIES = 50
"""Batches that are drawn at most before vectors above the budget are brought under it."""


class Query(NamedTuple):
    """A vector that a search had scored, its score, and the vector the search would now pick."""

    vector: Vector
    score: float
    best: Vector


@dataclass(frozen=True)
class Problem:
    """All vectors of `variables` whole numbers from `low` to `high` that cost `budget` at most.

    cost: int (n, variables) -> (n,), which no number that grows makes smaller. Raises ZooError where nothing fits.
    """

    variables: int
    low: int
    high: int
    cost: Callable[[np.ndarray], np.ndarray]
    budget: int

    def __post_init__(self) -> None:
        least = int(self.cost(np.full((1, self.variables), self.low))[0])
        if least > self.budget:
            raise ZooError(
                f"the narrowest network costs {human(least)} MACs, more than the budget {human(self.budget)}."
            )

    def fits(self, vectors: np.ndarray) -> np.ndarray:
        """Whether each is in the budget, bool (n,)."""
        return self.cost(vectors) <= self.budget

    def draw(
        self, rng: np.random.Generator, count: int, chances: np.ndarray | None = None, floor: float = 0.0
    ) -> np.ndarray:
        """`count` vectors, int64 (count, variables), by rejection. chances: of each number from `low` on, float
        (variables, high - low + 1); even ones if None. floor: cost at least so many budgets, as long as it can be had.

        Where a budget lets hardly any through, the rest have numbers lowered at random until they fit.
        """
        found = np.empty((0, self.variables), np.int64)
        for _ in range(TRIES):
            drawn = self.draw_any(rng, max(64, 4 * count), chances)
            costs = self.cost(drawn)
            found = np.concatenate([found, drawn[(costs <= self.budget) & (costs >= floor * self.budget)]])
            if len(found) >= count:
                return found[:count]
        rest = self.draw_any(rng, count - len(found), chances)
        while (over := ~self.fits(rest)).any():
            places = rng.integers(self.variables, size=len(rest))
            rows = np.flatnonzero(over & (rest[np.arange(len(rest)), places] > self.low))
            rest[rows, places[rows]] -= 1
        return np.concatenate([found, rest])

    def draw_any(self, rng: np.random.Generator, count: int, chances: np.ndarray | None = None) -> np.ndarray:
        """As `draw`, whatever they cost."""
        if chances is None:
            return rng.integers(self.low, self.high + 1, (count, self.variables))
        edges = np.cumsum(chances, 1)
        uniform = rng.random((count, self.variables)) * edges[:, -1]
        return self.low + np.minimum((uniform[..., None] >= edges).sum(-1), self.high - self.low)


def random_search(problem: Problem, score: Score, rng: np.random.Generator) -> Iterator[Query]:
    """Vectors drawn at random; the best is the one with the highest score. Ends only where its reader does."""
    best, highest = None, 0.0
    while True:
        vector = as_vector(problem.draw(rng, 1)[0])
        value = score(vector)
        if best is None or value > highest:
            best, highest = vector, value
        yield Query(vector, value, best)


def as_vector(row: np.ndarray) -> Vector:
    """A row as a tuple of Python's own numbers."""
    return tuple(int(value) for value in row)
