"""A supernet of widths: one set of tensors that is trained as all networks of a width space. TensorFlow only.

In training a path is told by masks on the output channels of each layer, so one compiled step serves every width. To
score a network the tensors are cut to its channels at run time instead, which computes less (docs/width.md). Either
equals the network of those widths with those channels' tensors: tests/training/test_supernet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import zoo
from scaling_rules.coupling import Coupling
from scaling_rules.lower import Conv, Dense, Primitive, SqueezeExcite, lower
from training import forward
from zoo.graph import normalize
from zoo.inspection import spec_of

LEFT, RIGHT = 0, 1


class Measured(NamedTuple):
    """top1 in percent and cross-entropy in nats, each the mean over the paths of a choice."""

    top1: float
    loss: float


class Supernet:
    """The widest network of a coupling as a Keras model, and the paths through it.

    classes; size: of the pictures, pixels a side. The weights are drawn anew, by Keras' random seed. Raises ZooError
    on another backend than TensorFlow.
    """

    def __init__(self, coupling: Coupling, classes: int, size: int) -> None:
        forward.require_tensorflow("supernets")
        self.coupling = coupling
        self.model = zoo.build(coupling.wide, num_classes=classes, input_shape=size, dropout=0.0, drop_path=0.0)
        self.spec = spec_of(self.model)
        self.ops = lower(self.spec)
        self.variables = zoo.variables(self.model)
        self._sides = coupling.space.sides
        # A row for each side and number of groups: small, so the mask of a path is a row of a constant.
        self._masks = {side: coupling.uses(side).astype(np.float32) for side in set(self._sides.values())}
        # Sums, poolings and gates of masked maps are masked already.
        own = {op.path for op in self.ops if isinstance(op, Conv | Dense)}
        self._masked = {path for path in self._sides if path in own or path.endswith(".reduce")}
        # By signature: other channels and batches must not compile anew.
        path = (tf.TensorSpec((len(coupling.edges),), tf.int32), tf.TensorSpec((), tf.int32))
        images = tf.TensorSpec((None, size, size, coupling.space.spec.input[2]), tf.float32)
        statistics = {name: tf.TensorSpec((None,)) for name in self.variables if ".norm.moving_" in name}
        batch = (images, tf.TensorSpec((None,), tf.int64))
        self._calibrate = tf.function(self._calibrated, (*path, images), autograph=False)
        self._evaluate = tf.function(self._evaluated, (*path, statistics, *batch), autograph=False)

    def logits(self, images: tf.Tensor, choices: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
        """Of one path or more in one pass, as training computes them: batch norms by the batch's own statistics.

        images: float32 (batch, size, size, 3) in [0, 255]; the i-th of equal parts of the batch takes the i-th path,
        with statistics of its own. choices: int32 (paths, variables), groups; sides: int32 (paths,), LEFT or RIGHT.
        """
        parts = choices.shape[0]
        each = tf.shape(images)[0] // parts

        def made(path: str, x: tf.Tensor) -> tf.Tensor:
            if path not in self._masked:
                return x
            side = self._sides[path]
            mask = tf.gather_nd(self._masks[side], tf.stack([sides, choices[:, side[0]]], -1))
            mask = mask if parts == 1 else tf.repeat(mask, each, 0)
            return x * (mask[:, None, None] if x.shape.rank == 4 else mask)

        tensors = self._tensors()
        norm = forward.batch(self.spec.dialect, tensors, parts)
        return forward.forward(self.ops, self.spec.dialect, tensors, normalize(self.spec, images), norm, made=made)

    def measure(
        self,
        choice: Iterable[int],
        calibration: tf.Tensor,
        evaluation: Iterable[tuple[tf.Tensor, tf.Tensor]],
    ) -> Measured:
        """What the network of a choice reaches on `evaluation` with the supernet's weights, as the mean over its paths.

        Its batch norms take the statistics of `calibration`, float32 (pictures, size, size, 3). evaluation: batches of
        such images and int64 labels. Nothing is compiled anew for another choice.
        """
        batches = list(evaluation)
        count = sum(int(images.shape[0]) for images, _ in batches)
        found = np.zeros(2)
        groups = tf.constant(list(choice), tf.int32)
        sides = (LEFT, RIGHT) if self.coupling.both else (LEFT,)
        for side in map(tf.constant, sides):
            statistics = self._calibrate(groups, side, calibration)
            found += sum(self._evaluate(groups, side, statistics, *batch).numpy() for batch in batches)
        right, loss = found / (count * len(sides))
        return Measured(100 * float(right), float(loss))

    def narrow(self, choice: tf.Tensor, side: tf.Tensor) -> dict[str, tf.Tensor]:
        """The tensors of a path by their own, cut to its channels. choice: int32 (variables,); side: int32 scalar."""
        kept = {
            key: tf.where(tf.gather_nd(mask, [side, choice[key[0]]]) > 0)[:, 0] for key, mask in self._masks.items()
        }
        own = {path: kept[side] for path, side in self._sides.items()}
        return cut(self.ops, self._tensors(), own.get)

    def _tensors(self) -> dict[str, tf.Tensor]:
        return {path: tf.convert_to_tensor(variable.value) for path, variable in self.variables.items()}

    def _calibrated(self, choice: tf.Tensor, side: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        tensors = self.narrow(choice, side)
        found: dict[str, tf.Tensor] = {}
        norm = forward.collecting(self.spec.dialect, tensors, found)
        forward.forward(self.ops, self.spec.dialect, tensors, normalize(self.spec, images), norm)
        return found

    def _evaluated(
        self, choice: tf.Tensor, side: tf.Tensor, statistics: dict[str, tf.Tensor], images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor:
        """How many are right, and the sum of their losses."""
        tensors = self.narrow(choice, side) | statistics
        norm = forward.moving(self.spec.dialect, tensors)
        logits = forward.forward(self.ops, self.spec.dialect, tensors, normalize(self.spec, images), norm)
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        return tf.stack([right, tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))])


def cut(
    ops: Iterable[Primitive], tensors: Mapping[str, tf.Tensor], kept: Callable[[str], tf.Tensor | None]
) -> dict[str, tf.Tensor]:
    """`tensors` with the channels `kept` of each primitive's output, and of what it reads; None keeps all."""
    narrow = dict(tensors)

    def take(path: str, axis: int, channels: tf.Tensor | None) -> None:
        if channels is not None:
            narrow[path] = tf.gather(narrow[path], channels, axis=axis)

    for op in ops:
        own = kept(op.path)
        if isinstance(op, Conv):
            if op.groups == 1:
                take(f"{op.path}.conv.kernel", 2, kept(op.inputs[0]))
            take(f"{op.path}.conv.kernel", 3 if op.groups == 1 else 2, own)
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                take(f"{op.path}.norm.{name}", 0, own)
        elif isinstance(op, SqueezeExcite):
            inner = kept(f"{op.path}.reduce")
            take(f"{op.path}.reduce.kernel", 2, own)
            take(f"{op.path}.reduce.kernel", 3, inner)
            take(f"{op.path}.reduce.bias", 0, inner)
            take(f"{op.path}.expand.kernel", 2, inner)
            take(f"{op.path}.expand.kernel", 3, own)
            take(f"{op.path}.expand.bias", 0, own)
        elif isinstance(op, Dense):
            take(f"{op.path}.dense.kernel", 0, kept(op.inputs[0]))
    return narrow
