"""What depends on the step: the learning rate, and the decay of the average of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from scaling_rules.errors import ZooError
from training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each update, from 0; scalar float32. In plain Python: float(schedule(step)).

    peak, start, final: rates. warmup: updates from `start` to `peak`, linearly. shape: as `LearningRate.schedule`.
    origin: update at which the shape's clock starts, total: at which it ends; it stays there. every, milestones: in
    updates. A class, because a Keras optimizer calls it with its own step inside the compiled one, on every backend.
    """

    peak: float
    shape: str
    total: float
    warmup: float
    start: float
    origin: float
    final: float
    factor: float
    every: float
    milestones: tuple[float, ...]

    def __call__(self, step: Any) -> Any:
        """The rate of update `step`, a number or an integer tensor."""
        step = ops.cast(step, "float32")
        rate = self._shaped(step)
        if self.warmup:
            ramp = self.start + (self.peak - self.start) * step / self.warmup
            rate = ops.where(step < self.warmup, ramp, rate)
        return rate

    def _shaped(self, step: Any) -> Any:
        passed = ops.clip(step - self.origin, 0.0, max(self.total - self.origin, 0.0))
        share = passed / max(self.total - self.origin, 1.0)
        if self.shape == "cosine":
            return self.final + (self.peak - self.final) * 0.5 * (1.0 + ops.cos(math.pi * share))
        if self.shape == "linear":
            return self.peak + (self.final - self.peak) * share
        if self.shape == "exponential":
            return self.peak * ops.power(self.factor, ops.floor(passed / self.every))
        rate = ops.full_like(step, self.peak)
        for milestone in self.milestones:
            rate = ops.where(step < milestone, rate, rate * self.factor)
        return rate


def learning_rate(recipe: Recipe, steps_per_epoch: float) -> Schedule:
    """The recipe's learning rate by update; the last one of the training is epochs * steps_per_epoch - 1.

    steps_per_epoch: updates, thus batches of `recipe.batch` images. Raises ZooError where it is not above 0.
    """
    if not (math.isfinite(steps_per_epoch) and steps_per_epoch > 0):
        raise ZooError(f"steps_per_epoch must be above 0, not {steps_per_epoch!r}.")
    told = recipe.learning_rate
    scale = recipe.batch / told.per if told.per else 1.0
    warmup = told.warmup_epochs * steps_per_epoch
    return Schedule(
        peak=told.peak * scale,
        shape=told.schedule,
        total=recipe.epochs * steps_per_epoch,
        warmup=warmup,
        start=told.warmup_from * scale,
        origin=warmup if told.decay_from == "warmup" else 0.0,
        final=told.final * scale,
        factor=told.factor or 1.0,
        every=(told.every_epochs or 1.0) * steps_per_epoch,
        milestones=tuple(epoch * steps_per_epoch for epoch in told.milestones),
    )


def ema_decay(step: int, decay: float, ramp: bool) -> float:
    """Share of the average that stays at a step, `step` updates having been made.

    With `ramp`, min(decay, (1 + step) / (10 + step)): tf.train.ExponentialMovingAverage with num_updates, as
    tensorflow/tpu models/official/efficientnet/main.py uses it.
    """
    return min(decay, (1 + step) / (10 + step)) if ramp else decay
