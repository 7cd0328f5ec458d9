"""Batch norms: in TensorFlow's one fused operation for the time of training, and their statistics estimated anew.

Keras 3's own is a dozen operations on TensorFlow, which costs networks of depthwise convolutions a third of a step and
more. The layers stay what they are in everything that is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from scaling_rules.errors import ZooError


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


def recalibrate(
    model: keras.Model, batches: Iterable[tuple[Any, Any]], count: int, make: Callable[[], Callable[[Any], None]]
) -> None:
    """Set each moving mean and variance to its average over `count` batches, with nothing dropped.

    make: gives the pass that moves them, `Trainer.forward`; the batches are those of `Trainer.stream`. Each layer
    sees what the layers before it, normalised by the batch, give: the statistics are those of training.
    Raises ZooError where the data ends before.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    if not norms:
        return
    drops = [layer for layer in model._flatten_layers() if isinstance(layer, layers.Dropout)]
    kept = [(layer.momentum, layer.trainable) for layer in norms], [layer.rate for layer in drops]
    moving = [variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)]
    sums = [np.zeros(variable.shape, np.float64) for variable in moving]
    try:
        for layer in norms:
            layer.trainable, layer.momentum = True, 0.0  # so that moving is the batch's own
        for layer in drops:
            layer.rate = 0.0
        forward = make()
        seen = 0
        for images, *_ in batches:
            forward(images)
            for total, variable in zip(sums, moving, strict=True):
                total += keras.ops.convert_to_numpy(variable)
            seen += 1
            if seen == count:
                break
        if seen < count:
            raise ZooError(f"the data ended after {seen} of {count} batches.")
        for total, variable in zip(sums, moving, strict=True):
            variable.assign((total / count).astype(np.float32))
    finally:
        for layer, (momentum, trainable) in zip(norms, kept[0], strict=True):
            layer.momentum, layer.trainable = momentum, trainable
        for layer, rate in zip(drops, kept[1], strict=True):
            layer.rate = rate
