"""Search by a model of the scores: a smooth function of each number and a smooth rest, with Thompson sampling.

The accuracy of a network is nearly additive in its widths, and each width's part is smooth in its logarithm. A Gaussian
process with such a covariance has few effective parameters, so some ten scores say which widths matter (additive
Gaussian processes, Duvenaud et al., arXiv 1112.4394); the rest, a function of all numbers at once, learns where the sum
is wrong. Each query is the best vector of one function drawn from the posterior (Thompson 1933).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from scaling_rules.search.vectors import Problem, Query, Score, Vector, as_vector

FIRST = 5
"""Vectors that are drawn at random before the model is asked."""

ALL = 20_000
"""Spaces of so many vectors at most are looked at whole."""

WAVES = 128
"""Random Fourier features (Rahimi and Recht 2007) that stand for the smooth function of all numbers."""

SIGNALS, RESTS, NOISES = (0.5, 1.0, 2.0, 4.0), (0.03, 0.1, 0.3), (0.03, 0.1, 0.3, 1.0)
"""Prior variances of the sum, the rest and a score's noise, over the variance of the scores, to choose among."""


def surrogate(problem: Problem, score: Score, rng: np.random.Generator, *, smooth: float = 1.0) -> Iterator[Query]:
    """Queries without end; the best is the one of the highest posterior mean, whether it was scored or not.

    smooth: how far apart two numbers' natural logarithms are where the score has changed its course. Nothing is scored
    twice before everything is once.
    """
    features = _features(problem, rng, smooth)
    whole = _whole(problem)
    known = None if whole is None else features(whole)
    seen: dict[Vector, float] = {}
    prior, fitted = _Prior(2.0, 0.1, 0.1), 0

    def highest(weights: np.ndarray, new: bool) -> Vector:
        if whole is None or known is None:
            pool = _climbed(problem, rng, np.array(list(seen)), lambda vectors: features(vectors) @ weights)
        else:
            pool = whole[np.argsort(-(known @ weights), kind="stable")]
        return next(vector for row in pool if (vector := as_vector(row)) not in seen or not new)

    mean, root = np.zeros(0), np.zeros((0, 0))
    while True:
        if len(seen) < FIRST or (whole is not None and len(seen) == len(whole)):
            vector = as_vector(problem.draw(rng, 1)[0])
        else:
            vector = highest(mean + np.linalg.solve(root.T, rng.standard_normal(len(mean))), new=True)
        seen[vector] = score(vector)
        given, scores = features(np.array(list(seen))), np.array(list(seen.values()))
        targets = (scores - scores.mean()) / (scores.std() or 1.0)
        if len(seen) >= 1.1 * fitted:
            priors = itertools.starmap(_Prior, itertools.product(SIGNALS, RESTS, NOISES))
            prior, fitted = max(priors, key=lambda prior: _regression(given, targets, prior)[0]), len(seen)
        _, mean, root = _regression(given, targets, prior)
        yield Query(vector, seen[vector], highest(mean, new=False))


class _Prior(NamedTuple):
    """Variances, in those of the scores."""

    signal: float
    rest: float
    noise: float


def _features(problem: Problem, rng: np.random.Generator, smooth: float) -> Callable[[np.ndarray], np.ndarray]:
    """vectors, int (n, variables) -> float64 (n, features): of each number alone, of all at once, and a constant."""
    levels = np.log(np.arange(problem.low, problem.high + 1))
    values, directions = np.linalg.eigh(np.exp(-0.5 * ((levels[:, None] - levels) / smooth) ** 2))
    basis = (directions * np.sqrt(values.clip(0)))[:, values > 1e-6] / math.sqrt(problem.variables)
    # Over all numbers at once as far apart as two random vectors are, or nothing is near anything.
    frequencies = rng.standard_normal((problem.variables, WAVES)) / (smooth * math.sqrt(problem.variables))
    phases = rng.uniform(0, 2 * math.pi, WAVES)

    def made(vectors: np.ndarray) -> np.ndarray:
        places = vectors - problem.low
        alone = basis[places].reshape(len(vectors), -1)
        together = np.cos(levels[places] @ frequencies + phases) * math.sqrt(2 / WAVES)
        return np.concatenate([alone, together, np.ones((len(vectors), 1))], 1)

    return made


def _regression(features: np.ndarray, targets: np.ndarray, prior: _Prior) -> tuple[float, np.ndarray, np.ndarray]:
    """(log evidence, mean, Cholesky factor of the precision) of the weights of Bayesian linear regression.

    The evidence has a weak prior on the variances around 2, 0.1 and 0.1, which decides while there are few scores.
    """
    precision = np.full(features.shape[1], 1 / prior.signal)
    precision[-1 - WAVES : -1] = 1 / prior.rest
    precision[-1] = 0.1
    root = np.linalg.cholesky(features.T @ features / prior.noise + np.diag(precision))
    half = np.linalg.solve(root, features.T @ targets / prior.noise)
    evidence = (
        0.5 * (half @ half - targets @ targets / prior.noise - len(targets) * math.log(prior.noise))
        + 0.5 * np.log(precision).sum()
        - np.log(np.diag(root)).sum()
        - sum(0.5 * (math.log(own / usual) / math.log(4)) ** 2 for own, usual in zip(prior, (2, 0.1, 0.1), strict=True))
    )
    return evidence, np.linalg.solve(root.T, half), root


def _whole(problem: Problem) -> np.ndarray | None:
    numbers = range(problem.low, problem.high + 1)
    if len(numbers) ** problem.variables > ALL:
        return None
    vectors = np.array(list(itertools.product(numbers, repeat=problem.variables)))
    return vectors[problem.fits(vectors)]


def _climbed(
    problem: Problem, rng: np.random.Generator, seen: np.ndarray, value: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Vectors within the budget from the highest value down: uphill from many places, some numbers at a time."""
    pool = np.concatenate([problem.draw(rng, 500), seen])
    for _ in range(40):
        pool = pool[np.argsort(-value(pool), kind="stable")]
        parents = pool[rng.integers(min(len(pool), 50), size=500)]
        changed = rng.random(parents.shape) < 2 / problem.variables
        children = np.where(changed, rng.integers(problem.low, problem.high + 1, parents.shape), parents)
        pool = np.unique(np.concatenate([pool[:200], children[problem.fits(children)]]), axis=0)
    return pool[np.argsort(-value(pool), kind="stable")]
