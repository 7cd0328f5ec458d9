"""The prior: Gibbs' distribution where the budget is wide, the budget's cost on the mean where it is not."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax

from scaling_rules.coupling import coupling
from scaling_rules.errors import ZooError
from scaling_rules.prior import prior
from scaling_rules.width_space import space
from zoo import registry

BENCH = coupling(space(registry.architecture("channel-bench-mobilenet-4444444")), "bcnet", 4, 1)
EVERY = np.array(list(itertools.product(range(1, 5), repeat=7)))


def losses(seed=1):
    found = np.full((7, 5), np.inf)
    found[:, 1:] = np.random.default_rng(seed).uniform(1.0, 2.0, (7, 4))
    return found


def test_expected_macs_are_the_mean_over_all_networks():
    chances = np.random.default_rng(2).dirichlet(np.ones(4), 7)
    weights = chances[np.arange(7), EVERY - 1].prod(1)
    found, slopes = BENCH.space.expected_macs(BENCH.edges[:, 1:], chances)
    assert found == pytest.approx(weights @ BENCH.macs(EVERY), rel=1e-12)
    for variable, number in ((0, 1), (4, 3)):
        moved = chances.copy()
        moved[variable, number] += 1e-3
        change = BENCH.space.expected_macs(BENCH.edges[:, 1:], moved)[0] - found
        assert change / 1e-3 == pytest.approx(slopes[variable, number], rel=1e-6)


def test_expected_macs_with_squeeze_and_excitation():
    """A squeeze layer's widths depend on the one they squeeze: a product of means would be another number."""
    found = coupling(space(registry.architecture("efficientnet-b0")), "bcnet", 3, 1)
    rng = np.random.default_rng(3)
    chances = rng.dirichlet(np.ones(3), len(found.edges))
    drawn = np.array([rng.choice([1, 2, 3], 40_000, p=row) for row in chances]).T
    macs = found.macs(drawn)
    error = macs.std() / np.sqrt(len(macs))
    assert abs(found.space.expected_macs(found.edges[:, 1:], chances)[0] - macs.mean()) < 4 * error


def test_a_wide_budget_leaves_gibbs_distribution():
    given = losses()
    seen = given[:, 1:]
    wanted = softmax(-(seen - seen.mean()) / seen.std() / 0.5, axis=1)
    np.testing.assert_allclose(prior(BENCH, given, 10**10), wanted, atol=1e-4)


def test_a_budget_is_met_on_the_mean_and_good_widths_stay_likely():
    given = losses(4)
    half = int(BENCH.macs(np.array([[4] * 7]))[0]) // 4
    wide = prior(BENCH, given, 10**10)
    chances = prior(BENCH, given, half)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert BENCH.space.expected_macs(BENCH.edges[:, 1:], wide)[0] > half
    assert BENCH.space.expected_macs(BENCH.edges[:, 1:], chances)[0] == pytest.approx(half, rel=2e-3)
    mean = (chances * given[:, 1:]).sum(1).mean()
    # Even chances, made narrower until they cost as much, know nothing of the losses.
    even = min(
        (softmax(-slope * np.arange(4)) * np.ones((7, 1)) for slope in np.linspace(0, 4, 400)),
        key=lambda row: abs(BENCH.space.expected_macs(BENCH.edges[:, 1:], row)[0] - half),
    )
    assert mean < (even * given[:, 1:]).sum(1).mean()


def test_what_was_never_seen_is_no_better_than_the_worst():
    given = losses(5)
    given[2, 3] = np.inf
    chances = prior(BENCH, given, 10**10)
    assert chances[2, 2] <= chances[2].min() + 1e-9


def test_bad_input():
    with pytest.raises(ZooError, match=r"the narrowest network costs 14,285,312 MACs, more than the budget 1,000"):
        prior(BENCH, losses(), 1000)
    with pytest.raises(ZooError, match="no width has a loss"):
        prior(BENCH, np.full((7, 5), np.inf), 10**9)
