"""Pictures mixed with others of their batch, and their labels with them."""

from __future__ import annotations

import tensorflow as tf

from training.recipe import Augment


def mix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augment: Augment) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixup or cutmix of a batch with itself in reverse order, one share for all; either at random where both are on.

    images float32 (n, h, w, 3), labels float32 (n, classes), seed int32 (2,); returned as they came in. Mixup
    (Zhang et al. 2018, arXiv 1710.09412): share ~ Beta(alpha, alpha), of pixels and labels. Cutmix (Yun et al. 2019,
    arXiv 1905.04899): a rectangle of that share, of the other picture, cut at the border; labels by its true area.
    """
    if not augment.mixup and not augment.cutmix:
        return images, labels
    seeds = tf.random.split(seed, 3)
    if augment.mixup and augment.cutmix:
        either = tf.random.stateless_uniform((), seeds[2]) < 0.5
        return tf.cond(
            either,
            lambda: _mixup(images, labels, seeds[0], augment.mixup),
            lambda: _cutmix(images, labels, seeds, augment.cutmix),
        )
    if augment.mixup:
        return _mixup(images, labels, seeds[0], augment.mixup)
    return _cutmix(images, labels, seeds, augment.cutmix)


def _beta(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    one, other = tf.unstack(tf.random.stateless_gamma((2,), seed, alpha), num=2)
    # Of a small alpha both may be 0 in float32.
    return tf.where(one + other > 0, tf.math.divide_no_nan(one, one + other), 0.5)


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return values + share * (tf.reverse(values, [0]) - values)


def _mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    share = _beta(seed, alpha)
    return _blend(images, share), _blend(labels, share)


def _cutmix(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32), num=2)
    side = tf.sqrt(_beta(seeds[0], alpha))
    middle = tf.random.stateless_uniform((2,), seeds[1])
    rows, columns = tf.range(height), tf.range(width)
    inside = (tf.abs(rows + 0.5 - middle[0] * height) < side * height / 2)[:, None] & (
        tf.abs(columns + 0.5 - middle[1] * width) < side * width / 2
    )[None]
    share = tf.reduce_mean(tf.cast(inside, tf.float32))
    return tf.where(inside[None, :, :, None], tf.reverse(images, [0]), images), _blend(labels, share)
