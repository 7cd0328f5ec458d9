"""The loop of training on TensorFlow: a step, its average of weights, checkpoints, and nothing lost when it is killed.

Ours and not Keras' `fit`: the average covers moving statistics with a decay that ramps up, a resumed run is bit-equal
to one that was never stopped, a loss that is not a number is known by its step, and `MultiWorkerMirroredStrategy`
fails under `fit` (keras-team/keras#20585).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scaling_rules.errors import ZooError
from training import checkpoint, pipeline
from training.batch_norm import fused
from training.checkpoint import State

log = logging.getLogger("zoo")

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(labels, logits) -> the mean over a batch, float32."""


@dataclass(frozen=True)
class Progress:
    """What is told every so many steps: the last step, mean loss since the last time, rate, pictures a second."""

    step: int
    loss: float
    learning_rate: float
    pictures_per_second: float


class Trainer:
    """A model on its way: its optimizer, its average, how many steps it has made.

    batches(step): an iterable over (images, labels) from that step on, the same whenever it is asked for. guarded:
    gives them from the first on that `batches` fails at. decay: of the average by step, None for no average.
    accumulate: parts that each replica's share of a batch is computed in, one after the other, for less memory; their
    gradients are averaged. teach(images): a teacher's logits, which the loss then gets with the labels, as (labels,
    logits). Variables are made here, under `strategy`, in whose scope the model and the optimizer must have been made.
    """

    whole = "int64"
    """Type of a step's number."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batches: Callable[[int], Iterable[tuple[Any, Any]]],
        *,
        decay: Callable[[int], float] | None = None,
        accumulate: int = 1,
        teach: Callable[[tf.Tensor], tf.Tensor] | None = None,
        strategy: tf.distribute.Strategy | None = None,
        guarded: Callable[[int], Iterable[tuple[Any, Any]]] | None = None,
    ) -> None:
        self.model, self.optimizer, self.loss, self.decay = model, optimizer, loss, decay
        self.batches, self.guarded = batches, guarded or batches
        self.accumulate, self.teach = accumulate, teach
        self.strategy = strategy or tf.distribute.get_strategy()
        self.step = 0
        with self.strategy.scope():
            optimizer.build(model.trainable_variables)
            self.bad = keras.Variable(-1, dtype=self.whole, trainable=False, name="bad")
            # Moving means and variances too, as the release of EfficientNet averages them.
            self.averages = [_copy(variable) for variable in _averaged(model)] if decay else []
        compiled = tf.function(self._train_step, autograph=False)
        # As tensors: of other values a graph would be traced for each.
        self._step = lambda images, labels, *numbers: compiled(images, labels, *map(tf.constant, numbers))

    def forward(self) -> Callable[[Any], None]:
        """A pass over images of `distributed` as training makes it, which moves the statistics of batch norms alone."""

        @tf.function
        def forward(images: Any) -> None:
            self.strategy.run(lambda images: self.model(images, training=True), (images,))

        return forward

    def _train_step(self, images: Any, labels: Any, step: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        def replica(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            loss, gradients = self._gradients(images, labels, step)
            # The optimizer sums over replicas by itself.
            self.optimizer.apply(gradients, self.model.trainable_variables)
            for average, variable in zip(self.averages, _averaged(self.model) if self.decay else (), strict=True):
                average.assign(average + (1.0 - decay) * (tf.cast(variable.value, average.dtype) - average))
            return loss

        losses = self.strategy.run(replica, (images, labels))
        loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        first = tf.logical_and(self.bad.value < 0, tf.logical_not(tf.math.is_finite(loss)))
        self.bad.assign(tf.where(first, step, self.bad.value))
        return loss

    def _part(self, images: tf.Tensor, labels: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Loss and gradients of some pictures, as their share of what all replicas and parts have."""
        if self.teach:
            labels = (labels, self.teach(images))
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.model(images, training=True))
            loss /= self.strategy.num_replicas_in_sync * self.accumulate
            scaled = self.optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, [variable.value for variable in self.model.trainable_variables])

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, _step: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        if self.accumulate == 1:
            return self._part(images, labels)
        size = tf.shape(images)[0] // self.accumulate

        def body(index: tf.Tensor, loss: tf.Tensor, gradients: list[tf.Tensor]) -> tuple[Any, ...]:
            rows = slice(index * size, (index + 1) * size)
            more, found = self._part(images[rows], labels[rows])
            return index + 1, loss + more, [a + b for a, b in zip(gradients, found, strict=True)]

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.model.trainable_variables]
        start = (tf.constant(0), tf.constant(0.0), zeros)
        _, loss, gradients = tf.while_loop(lambda index, *_: index < self.accumulate, body, start)
        return loss, gradients

    def run(
        self,
        until: int,
        *,
        folder: Path | None = None,
        every: int = 0,
        told: dict[str, Any] | None = None,
        report: Callable[[Progress], None] | None = None,
        report_every: int = 20,
    ) -> None:
        """Make steps up to step `until`, writing a checkpoint into `folder` each `every` steps and at the end.

        Raises ZooError, which names the step, for a loss that is not finite: before anything of it is saved.
        """
        losses: list[tf.Tensor] = []
        pictures, start = 0, time.perf_counter()
        if self.step >= until:
            return
        with fused(self.model):
            for images, labels in self.stream(self.step):
                decay = self.decay(self.step) if self.decay else 0.0
                losses.append(self._step(images, labels, np.int64(self.step), np.float32(decay)))
                pictures += _count(images)
                self.step += 1
                last = self.step == until
                saves = folder is not None and (last or (every > 0 and self.step % every == 0))
                if last or saves or self.step % report_every == 0:
                    # Waits for the steps, so the time is theirs.
                    mean = float(np.mean([keras.ops.convert_to_numpy(loss) for loss in losses]))
                    self._check()
                    if report:
                        rate = pictures / (time.perf_counter() - start)
                        report(Progress(self.step, mean, self.learning_rate, rate))
                    losses, pictures, start = [], 0, time.perf_counter()
                if folder is not None and saves:
                    checkpoint.save(folder, self.state(told or {}))
                if last:
                    return
        raise ZooError(f"the data ended at step {self.step} of {until}.")

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def _check(self) -> None:
        step = int(keras.ops.convert_to_numpy(self.bad))
        if step >= 0:
            raise ZooError(
                f"the loss of step {step} is not a finite number: nothing after the last checkpoint before it is kept; "
                "a lower learning rate, a longer warm-up or optimizer.clip_norm may help."
            )

    def stream(self, step: int) -> Iterator[tuple[Any, Any]]:
        """Batches from `step` on, as the devices of the strategy take them."""
        return pipeline.steady(
            lambda step: self.distributed(self.batches(step)), lambda step: self.distributed(self.guarded(step)), step
        )

    def distributed(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Batches as the devices of the strategy take them."""
        if self.strategy.num_replicas_in_sync == 1 or not isinstance(batches, tf.data.Dataset):
            return batches
        return self.strategy.experimental_distribute_dataset(batches)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[keras.Model]:
        """The model with the average in place of its weights, inside this block."""
        own = _averaged(self.model)
        kept = [keras.ops.convert_to_numpy(variable) for variable in own]
        try:
            for variable, average in zip(own, self.averages, strict=True):
                variable.assign(average)
            yield self.model
        finally:
            for variable, value in zip(own, kept, strict=True):
                variable.assign(value)

    # -- what is saved

    def _named(self) -> dict[str, keras.Variable]:
        groups = (("model", self.model.variables), ("optimizer", self.optimizer.variables), ("average", self.averages))
        return {f"{group}/{n:04d}/{v.path}": v for group, variables in groups for n, v in enumerate(variables)}

    def state(self, told: dict[str, Any]) -> State:
        """All that a later step depends on: weights, seeds of dropout, optimizer, average, and the step."""
        arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in self._named().items()}
        return State(self.step, arrays, told)

    def restore(self, state: State) -> None:
        """Go on from a state. Raises ZooError, before anything is changed, where it is of another model or recipe."""
        own = self._named()
        shapes = {name: tuple(variable.shape) for name, variable in own.items()}
        theirs = {name: tuple(array.shape) for name, array in state.arrays.items()}
        if shapes != theirs:
            name = next(iter(sorted(shapes.items() ^ theirs.items())))[0]
            raise ZooError(f"the checkpoint of step {state.step} is of another run: {name} differs.")
        for name, variable in own.items():
            variable.assign(state.arrays[name])
        self.step = state.step


latest = checkpoint.latest


def process() -> tuple[int, int]:
    """(number of this process, number of all)."""
    return 0, 1


def gathered(value: Any) -> list[Any]:
    """What each process has, as JSON holds it."""
    return [value]


def answer_of(model: keras.Model) -> Callable[[Any], Any]:
    """Images -> float32 logits, compiled, on this process's first device."""
    return tf.function(lambda images: tf.cast(model(images, training=False), tf.float32), reduce_retracing=True)


def teacher_of(model: keras.Model) -> Callable[[Any], Any]:
    """Images of a step -> logits, where the step is computed."""
    return lambda images: model(images, training=False)


def _averaged(model: keras.Model) -> Sequence[keras.Variable]:
    """Weights and moving statistics, without the seeds of dropout."""
    return [variable for variable in model.variables if "float" in str(variable.dtype)]


def _copy(variable: keras.Variable) -> keras.Variable:
    name = variable.path.replace("/", "_")
    return keras.Variable(keras.ops.convert_to_numpy(variable), trainable=False, dtype="float32", name=name)


def _count(images: Any) -> int:
    """Pictures of a batch, over all replicas of this process."""
    local = getattr(images, "values", (images,))
    return sum(int(part.shape[0]) for part in local)
