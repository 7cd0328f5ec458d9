"""Counting against NumPy, and the interval against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from training.measuring import Z, interval, measure


@given(st.integers(1, 2000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_is_where_the_score_test_accepts(pair):
    """Wilson: the ends p of the interval solve (share - p)^2 = z^2 p (1 - p) / n."""
    right, count = pair
    for end in interval(right, count):
        p = end / 100
        assert -1e-12 <= p <= 1 + 1e-12
        if 0 < p < 1:
            assert (right / count - p) ** 2 == pytest.approx(Z * Z * p * (1 - p) / count, rel=1e-6, abs=1e-12)


def test_the_interval_of_a_published_example():
    """81 of 263 (Newcombe 1998, Statistics in Medicine 17, table I): 0.2553 to 0.3662."""
    assert interval(81, 263) == pytest.approx((25.53, 36.62), abs=0.005)


def test_counts():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 12)), rng.integers(0, 12, 50)
    found = measure(lambda rows: logits[rows], [(slice(0, 30), labels[:30]), (slice(30, 50), labels[30:])], 12)
    order = logits.argsort(1)[:, ::-1]
    assert found.top1 == pytest.approx(100 * (order[:, 0] == labels).mean())
    assert found.top5 == pytest.approx(100 * (order[:, :5] == labels[:, None]).any(1).mean())
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found.loss == pytest.approx(-np.log(odds[np.arange(50), labels]).mean())
    assert found.pictures.tolist() == np.bincount(labels, minlength=12).tolist()
    assert found.right.sum() == found.right1
    assert found.told()["count"] == 50


def test_a_model_that_says_the_same_for_all_is_never_right():
    assert measure(lambda x: np.zeros((4, 3)), [(None, np.array([0, 1, 2, 0]))], 3).top1 == 0


def test_several_labels_and_none():
    """As ReaL: right with any of them, left out without one."""
    labels = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    logits = np.array([[0, 2, 1], [3, 0, 1], [9, 9, 9]], float)
    found = measure(lambda x: logits, [(None, labels)], 3)
    assert (found.count, found.right1) == (2, 1)


def test_what_cannot_be_counted():
    with pytest.raises(zoo.ZooError, match=r"no picture with a label"):
        measure(lambda x: x, [], 3)
    with pytest.raises(zoo.ZooError, match=r"logits of picture 0 and after are not finite"):
        measure(lambda x: np.full((1, 3), np.nan), [(None, np.array([1]))], 3)
