"""Training a supernet of widths: which paths each step takes, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from training.loop import Loss, Trainer
from training.supernet import LEFT, RIGHT, Supernet

KEPT = 100
"""Lowest losses that are kept of each width of each variable, as in both releases (bcnet.md, section 5)."""

SANDWICH = 4
"""Paths of an AutoSlim step: the widest, the narrowest, two drawn (arXiv 1903.11728; US-Nets, section 3.2)."""


class WidthTrainer(Trainer):
    """A `Trainer` each of whose steps takes paths of a supernet, drawn by the step's number.

    method: of `scaling_rules.coupling.METHODS`, the one of net.coupling. seed: of the draws. halves: one pass, whose
    first half of the batch takes the left path and whose second half the right one; otherwise each path is a pass over
    the whole batch, one after the other, and their gradients are averaged. distill: in 'autoslim' all paths but the
    widest learn its outputs instead of the labels.

    `lowest`, float32 (variables, groups + 1, KEPT), has the lowest losses of steps that took so many groups of a
    variable; infinity where there were fewer.
    """

    def __init__(
        self,
        net: Supernet,
        method: str,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batches: Callable[[int], Iterable[tuple[Any, Any]]],
        *,
        seed: int,
        halves: bool = False,
        distill: bool = True,
        decay: Callable[[int], float] | None = None,
        guarded: Callable[[int], Iterable[tuple[Any, Any]]] | None = None,
    ) -> None:
        self.net, self.coupling, self.seed = net, net.coupling, seed
        self.sandwich = method == "autoslim"
        self.halves = halves and self.coupling.both
        self.distill = distill and self.sandwich
        shape = (len(self.coupling.edges), self.coupling.groups + 1, KEPT)
        self.lowest = keras.Variable(tf.fill(shape, float("inf")), trainable=False, name="lowest")
        super().__init__(net.model, optimizer, loss, batches, decay=decay, guarded=guarded)

    def paths(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(choices int32 (passes, parts, variables), sides int32 (passes, parts)) of a step, int64 scalar."""
        coupling = self.coupling
        variables = len(coupling.edges)
        low, high = coupling.drawn
        draw = step // 2 if coupling.total else step
        count = SANDWICH - 2 if self.sandwich else 1
        drawn = tf.random.stateless_uniform(
            (count, variables), tf.stack([tf.constant(self.seed, tf.int64), draw]), low, high + 1, tf.int32
        )
        if coupling.total:
            drawn = tf.where(step % 2 == 0, drawn, coupling.total - drawn)
        if self.sandwich:
            ends = tf.constant([[coupling.groups] * variables, [coupling.least] * variables])
            return tf.concat([ends, drawn], 0)[:, None], tf.fill((SANDWICH, 1), LEFT)
        if not coupling.both:
            return drawn[:, None], tf.fill((1, 1), LEFT)
        both = tf.repeat(drawn, 2, 0)
        sides = tf.constant([LEFT, RIGHT])
        return (both[None], sides[None]) if self.halves else (both[:, None], sides[:, None])

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        choices, sides = self.paths(step)
        passes = choices.shape[0]
        own = [variable.value for variable in self.model.trainable_variables]

        def one(index: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                logits = self.net.logits(images, choices[index], sides[index])
                loss = self.loss(targets, logits) / passes
                scaled = self.optimizer.scale_loss(loss)
            return loss, logits, tape.gradient(scaled, own)

        def body(index: tf.Tensor, loss: tf.Tensor, targets: tf.Tensor, total: list[tf.Tensor]) -> tuple[Any, ...]:
            more, logits, gradients = one(index, targets)
            if self.distill:
                targets = tf.where(index == 0, tf.nn.softmax(tf.stop_gradient(logits)), targets)
            return index + 1, loss + more, targets, [a + b for a, b in zip(total, gradients, strict=True)]

        if passes == 1:
            loss, _, gradients = one(tf.constant(0), labels)
        else:
            # A loop, so that a pass's maps are freed before the next.
            start = (tf.constant(0), tf.constant(0.0), labels, [tf.zeros_like(value) for value in own])
            _, loss, _, gradients = tf.while_loop(lambda index, *_: index < passes, body, start, parallel_iterations=1)
        if not self.sandwich:
            self._record(choices[0, 0], loss)
        return loss, gradients

    def _record(self, choice: tf.Tensor, loss: tf.Tensor) -> None:
        places = tf.stack([tf.range(choice.shape[0]), choice], -1)
        lowest = tf.convert_to_tensor(self.lowest.value)
        rows = tf.concat([tf.gather_nd(lowest, places), tf.fill((choice.shape[0], 1), loss)], -1)
        self.lowest.assign(tf.tensor_scatter_nd_update(lowest, places, tf.sort(rows, -1)[:, :KEPT]))

    def _named(self) -> dict[str, keras.Variable]:
        return super()._named() | {"lowest": self.lowest}
