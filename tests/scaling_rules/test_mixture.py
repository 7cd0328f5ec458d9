"""Balancing against closed forms, and equal totals whatever the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.mixture import balance, probabilities, temperature


def test_two_configurations_and_two_models():
    """Rows proportional to [[a, b], [c, d]] balance to x / (x + 1) on the diagonal, x = sqrt(a d / b c)."""
    (a, b), (c, d) = (0.7, 0.3), (0.9, 0.1)
    logits = np.log([[a, b], [c, d]])
    x = np.sqrt(a * d / (b * c))
    wanted = np.array([[x, 1], [1, x]]) / (x + 1)
    np.testing.assert_allclose(probabilities(logits, balance(logits)), wanted, atol=1e-5)


def test_equal_rows_become_even():
    """What all configurations prefer alike is divided out."""
    logits = np.tile(np.log([0.5, 0.3, 0.2]), (5, 1))
    np.testing.assert_allclose(probabilities(logits, balance(logits)), np.full((5, 3), 1 / 3), atol=1e-12)


def test_one_round_is_the_releases():
    """Divide by each model's mean probability, then make rows sum to 1: what one number a model says as well."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3))
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = q.mean(0)
    wanted = q / mean / (q / mean).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(logits, np.log(3 * mean)), wanted)


def test_the_threshold_is_a_divergence():
    rng = np.random.default_rng(1)
    logits = 60 * rng.uniform(0.3, 0.9, (36, 4))
    for threshold in (1e-2, 1e-4, 1e-9):
        total = probabilities(logits, balance(logits, threshold)).mean(0)
        divergence = (total * np.log(total * 4)).sum()
        assert divergence <= threshold
        assert divergence > 1e-3 * threshold  # it stops there


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 60), models=st.integers(1, 8), warmth=st.floats(1, 300))
def test_every_model_has_the_same_total(seed, count, models, warmth):
    rng = np.random.default_rng(seed)
    logits = warmth * (rng.uniform(0.2, 0.9, (count, 1)) + rng.normal(0, 0.05, (count, models)))
    found = probabilities(logits, balance(logits))
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found.mean(0), 1 / models, atol=1e-4)


def test_temperature():
    assert [temperature(epoch, 4, 101) for epoch in range(5)] == [1, 26, 51, 76, 101]


@pytest.mark.parametrize("models", [1, 3])
def test_a_single_model_and_equal_scores_need_no_bias(models):
    assert balance(np.ones((4, models))).tolist() == [0.0] * models
