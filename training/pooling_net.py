"""A supernet of downsampling positions: one set of tensors that runs as every configuration. TensorFlow only.

The configuration is a number, and where it downsamples a row of a constant, so one compiled graph serves a whole space;
a convolution that strides computes no pixel that it drops. Batch norms take the batch's own statistics, in scoring too,
as in the release. Each configuration equals its network alone: tests/training/test_pooling_net.py.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import zoo
from scaling_rules.lower import Conv, Pool, lower
from scaling_rules.pooling import PoolingSpace, pools, starts, strided, undivided
from scaling_rules.spec import Dialect
from training import forward
from zoo.graph import normalize
from zoo.inspection import spec_of


class PoolingNet:
    """The tensors of a space's networks, as a Keras model of the one that never downsamples, and their forward pass.

    classes: of the data. The weights are drawn anew, by Keras' random seed. Raises ZooError on another backend than
    TensorFlow.
    """

    def __init__(self, space: PoolingSpace, classes: int) -> None:
        forward.require_tensorflow("supernets")
        self.space = space
        size = space.spec.input[:2]
        self.model = zoo.build(undivided(space.spec), num_classes=classes, input_shape=size, dropout=0.0, drop_path=0.0)
        self.spec = spec_of(self.model)
        self.ops = lower(self.spec)
        self.variables = zoo.variables(self.model)
        blocks = self.spec.blocks
        self._table = np.zeros((len(space.lengths), len(blocks)), bool)
        for number, lengths in enumerate(space.lengths):
            self._table[number, starts(space.spec, lengths)] = True
        self._pool = Pool("pool", (), 0, "max", max(block.pool for block in space.spec.blocks), 2)
        # The block, by the path of what is changed where it downsamples.
        self._pooled: dict[str, int] = {}
        self._strided: dict[str, int] = {}
        self._subsampled: dict[str, int] = {}
        for index in np.flatnonzero(self._table.any(0)).tolist():
            at = f"stage1.block{index + 1}"
            if pools(space.spec):
                self._pooled[next(op.inputs[0] for op in self.ops if op.path.startswith(f"{at}."))] = index
            else:
                self._strided[f"{at}.{strided(blocks[index])}"] = index
                self._subsampled[f"{at}.shortcut"] = index

    def logits(self, images: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Of configuration `number`, int32 scalar; images: float32 (batch, height, width, 3) in [0, 255]."""
        here = tf.constant(self._table)[number]

        def read(path: str, x: tf.Tensor) -> tf.Tensor:
            if path not in self._subsampled:
                return x
            return tf.cond(here[self._subsampled[path]], lambda: x[:, ::2, ::2], lambda: x)

        def made(path: str, x: tf.Tensor) -> tf.Tensor:
            if path not in self._pooled:
                return x
            return tf.cond(here[self._pooled[path]], lambda: forward.pooling(self._pool, dialect, x), lambda: x)

        def conv(op: Conv, dialect: Dialect, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            def at(stride: int) -> tf.Tensor:
                return forward.convolution(op._replace(stride=stride), dialect, kernel, x)

            if op.path not in self._strided:
                return at(op.stride)
            return tf.cond(here[self._strided[op.path]], lambda: at(2), lambda: at(1))

        dialect = self.spec.dialect
        tensors = {path: tf.convert_to_tensor(variable.value) for path, variable in self.variables.items()}
        norm = forward.batch(dialect, tensors)
        x = normalize(self.spec, images)
        return forward.forward(self.ops, dialect, tensors, x, norm, read=read, made=made, conv=conv)
