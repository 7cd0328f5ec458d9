"""Mixup and cutmix against their definitions, on pictures whose pixels say whose they are."""

import numpy as np
import pytest
import tensorflow as tf

from training.mixing import mix
from training.recipe import Augment

N, SIDE = 4, 40
IMAGES = np.broadcast_to(np.arange(N, dtype=np.float32)[:, None, None, None], (N, SIDE, SIDE, 3)).copy()
LABELS = np.eye(N, dtype=np.float32)


def mixed(augment, seed):
    images, labels = mix(tf.constant(IMAGES), tf.constant(LABELS), tf.constant([seed, 1]), augment)
    return images.numpy(), labels.numpy()


def test_nothing():
    images, labels = mixed(Augment(), 0)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_mixup_mixes_pixels_and_labels_alike():
    shares = []
    for seed in range(300):
        images, labels = mixed(Augment(mixup=0.4), seed)
        share = labels[0, N - 1]
        shares.append(share)
        np.testing.assert_allclose(labels, (1 - share) * LABELS + share * LABELS[::-1], atol=1e-6)
        np.testing.assert_allclose(images, (1 - share) * IMAGES + share * IMAGES[::-1], atol=1e-5)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    variance = 1 / (4 * 1.8)
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.sqrt(variance / 300))
    assert np.var(shares) == pytest.approx(variance, rel=0.2)


def test_cutmix_counts_its_pixels():
    areas = []
    for seed in range(200):
        images, labels = mixed(Augment(cutmix=1.0), seed)
        other = images[0, :, :, 0] == N - 1
        rows, columns = other.any(1), other.any(0)
        np.testing.assert_array_equal(other, rows[:, None] & columns)  # one rectangle
        assert np.abs(np.diff(rows.astype(int))).sum() <= 2
        np.testing.assert_array_equal(images[1, :, :, 0], np.where(other, N - 2, 1))
        share = other.mean()
        np.testing.assert_allclose(labels, (1 - share) * LABELS + share * LABELS[::-1], atol=1e-6)
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
        areas.append(share)
    assert min(areas) < 0.05
    assert max(areas) > 0.6


def test_both_take_turns():
    kinds = []
    for seed in range(100):
        images, _ = mixed(Augment(mixup=1.0, cutmix=1.0), seed)
        kinds.append(len(np.unique(images[0])) == 2 or not images[0].any())
    assert 25 < sum(kinds) < 75


def test_the_seed_says_it_all():
    for told in (Augment(mixup=0.2), Augment(cutmix=1.0)):
        np.testing.assert_array_equal(mixed(told, 3)[0], mixed(told, 3)[0])
        assert not np.array_equal(mixed(told, 3)[0], mixed(told, 4)[0])
