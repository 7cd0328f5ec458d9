"""Batch norm in TensorFlow's one fused operation, for the time of training.

Keras 3's own is a dozen operations on TensorFlow, which costs networks of depthwise convolutions a third of a step and
more. The layers stay what they are in everything that is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras import layers


class _Fused(layers.BatchNormalization):
    """Keras' layer with another way to compute the same."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        # A half-precision input keeps float32 statistics, as Keras' own; what is not a picture's map is Keras' to do.
        if not training or not self.trainable or inputs.shape.rank != 4 or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma.value),
            offset=tf.convert_to_tensor(self.beta.value),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            data_format="NHWC",
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1) / count  # TensorFlow's is the unbiased one; Keras averages the other
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


@contextmanager
def fused(model: keras.Model) -> Iterator[None]:
    """Compute the batch norms of a model by the fused operation inside this block, where they train.

    Nothing happens on another backend than TensorFlow, and to layers that are not exactly Keras' own with scale, offset
    and channels last.
    """
    own = [layer for layer in model._flatten_layers() if _fits(layer)]
    try:
        for layer in own:
            object.__setattr__(layer, "__class__", _Fused)
        yield
    finally:
        for layer in own:
            object.__setattr__(layer, "__class__", layers.BatchNormalization)


def _fits(layer: Any) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and type(layer) is layers.BatchNormalization
        and layer.scale
        and layer.center
        and layer.axis in (-1, 3)
    )
