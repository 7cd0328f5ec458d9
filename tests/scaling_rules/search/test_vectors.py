"""Searches over vectors under a budget, against optima that can be known."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from scaling_rules.search.evolution import evolution
from scaling_rules.search.surrogate import surrogate
from scaling_rules.search.vectors import Problem, random_search

SEARCHES = (random_search, evolution, surrogate)


def added(vectors):
    return np.asarray(vectors).sum(-1)


def problem(variables=5, high=6, share=0.5):
    return Problem(variables, 1, high, added, int(share * variables * high))


def best_of(weights, given_problem):
    """The highest sum of weight * log: as costs are alike and gains fall, the steepest step each time is exact."""
    vector = np.full(given_problem.variables, given_problem.low)
    while vector.sum() < given_problem.budget:
        gains = np.where(vector < given_problem.high, weights * np.log((vector + 1) / vector), -1)
        vector[gains.argmax()] += 1
    return float((weights * np.log(vector)).sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(2, 12), st.floats(0.0, 1.0), st.integers(0, 999))
def test_drawn_vectors_fit(variables, high, share, seed):
    low = 1
    budget = round(variables * (low + share * (high - low)))
    found = Problem(variables, low, high, added, budget).draw(np.random.default_rng(seed), 30)
    assert found.shape == (30, variables)
    assert found.min() >= low
    assert found.max() <= high
    assert added(found).max() <= budget


def test_chances_are_those_given():
    chances = np.array([[0.0, 0.5, 0.5], [0.2, 0.0, 0.8]])
    found = Problem(2, 3, 5, added, 100).draw(np.random.default_rng(1), 4000, chances)
    shares = [[(found[:, n] == value).mean() for value in (3, 4, 5)] for n in (0, 1)]
    np.testing.assert_allclose(shares, chances, atol=0.03)


def test_a_budget_that_nothing_meets():
    with pytest.raises(ZooError, match=r"the narrowest network costs 6 MACs, more than the budget 5\."):
        Problem(6, 1, 8, added, 5)


@pytest.mark.parametrize("search", SEARCHES)
def test_queries_fit_and_are_the_same_for_a_seed(search):
    weights = np.arange(1, 6)
    found, again = (
        list(islice(search(problem(), lambda v: float((weights * np.log(v)).sum()), np.random.default_rng(3)), 30))
        for _ in range(2)
    )
    assert found == again
    assert added([query.vector for query in found]).max() <= problem().budget
    assert added([query.best for query in found]).max() <= problem().budget
    if search is not random_search:
        assert len({query.vector for query in found}) == 30
    if search is not surrogate:
        assert all(q.best == max(found[: n + 1], key=lambda q: q.score).vector for n, q in enumerate(found))


@pytest.mark.parametrize("seed", range(3))
def test_the_model_finds_the_best_of_a_noisy_sum(seed):
    """Within a hundredth of the way from a random vector to the best, after 40 noisy scores; chance is far from it."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.2, 1, 5)

    def true(vector):
        return float((weights * np.log(vector)).sum())

    space = problem()
    optimum = best_of(weights, space)
    usual = np.mean([true(vector) for vector in space.draw(rng, 200)])
    picks = {
        search: list(islice(search(space, lambda v: true(v) + 0.02 * rng.standard_normal(), rng), 40))[-1].best
        for search in SEARCHES
    }
    regret = {search: (optimum - true(pick)) / (optimum - usual) for search, pick in picks.items()}
    assert 0 <= regret[surrogate] < 0.03
    assert regret[surrogate] < regret[random_search]


def test_a_space_too_large_to_list():
    """20 ** 12 vectors, as of a network of twelve widths: 40 scores come near the best, and evolution beats chance."""
    space = problem(12, 20)
    weights = np.random.default_rng(5).uniform(0.2, 1, 12)

    def true(vector):
        return float((weights * np.log(vector)).sum())

    optimum = best_of(weights, space)
    usual = np.mean([true(vector) for vector in space.draw(np.random.default_rng(6), 200)])
    found = list(islice(surrogate(space, true, np.random.default_rng(7)), 40))
    assert 0 <= optimum - true(found[-1].best) < 0.1 * (optimum - usual)
    reached = {
        search: np.mean(
            [max(q.score for q in islice(search(space, true, np.random.default_rng(s)), 300)) for s in range(3)]
        )
        for search in (random_search, evolution)
    }
    assert reached[evolution] > reached[random_search] + 0.2 * (optimum - reached[random_search])
