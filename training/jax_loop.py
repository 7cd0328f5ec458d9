"""The loop of training on Keras with JAX: over the devices of one process, or of several on as many hosts.

A batch is one array of which each device holds some rows, so batch norm and the mean of the loss are over the whole of
it, and every process computes what one alone would with the same batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental import multihost_utils

from scaling_rules.errors import ZooError, shown
from training import checkpoint, loop
from training.checkpoint import State
from training.loop import Progress

Loss = Callable[[Any, jax.Array], jax.Array]
"""(labels, logits) -> the mean over a batch, float32, in operations that JAX can trace."""

Values = list[jax.Array]


class Trainer(loop.Trainer):
    """`training.loop.Trainer` with its step compiled by JAX. What differs:

    strategy: of `training.strategy`; None for JAX's first device. batches: the rows of this process only; the batch
    has those of all processes in the order of their ranks, and as many on each device. accumulate: part i of k has
    every k-th row from row i on, however many devices there are. teach: gets the whole batch, outside of what is
    compiled here. Pictures a second are those of all processes.

    All processes must call the same methods in the same order: an operation on an array that all of them hold waits
    until all have started it.
    """

    whole = "int32"

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batches: Callable[[int], Iterable[tuple[Any, Any]]],
        *,
        decay: Callable[[int], float] | None = None,
        accumulate: int = 1,
        teach: Callable[[jax.Array], jax.Array] | None = None,
        strategy: keras.distribution.DataParallel | None = None,
        guarded: Callable[[int], Iterable[tuple[Any, Any]]] | None = None,
    ) -> None:
        strategy = strategy or keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:1])
        super().__init__(
            model,
            optimizer,
            loss,
            batches,
            decay=decay,
            accumulate=accumulate,
            teach=teach,
            strategy=strategy,
            guarded=guarded,
        )
        self._everywhere = jax.NamedSharding(strategy.device_mesh.backend_mesh, jax.P())
        self._compiled = jax.jit(self._stateless_step, donate_argnums=0, out_shardings=self._everywhere)
        self._step = self._jax_step

    def _jax_step(self, images: jax.Array, labels: Any, step: Any, decay: Any) -> jax.Array:
        if self.teach:
            labels = (labels, self.teach(images))
        groups = (
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.optimizer.variables,
            self.averages,
            [self.bad],
        )
        values = tuple([variable.value for variable in group] for group in groups)
        # What was assigned since the last step may lie elsewhere, for which all would be compiled anew.
        values = jax.device_put(values, self._everywhere)
        values, loss = self._compiled(values, images, labels, np.int32(step), np.float32(decay))
        for group, changed in zip(groups, values, strict=True):
            for variable, value in zip(group, changed, strict=True):
                variable.assign(value)
        return loss

    def _stateless_step(
        self, values: tuple[Values, ...], images: jax.Array, labels: Any, step: jax.Array, decay: jax.Array
    ) -> tuple[tuple[Values, ...], jax.Array]:
        trainable, others, slots, averages, (bad,) = values
        loss, others, gradients = self._summed(trainable, others, slots, images, labels)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        variables = self.model.trainable_variables + self.model.non_trainable_variables
        now = {id(variable): value for variable, value in zip(variables, trainable + others, strict=True)}
        averages = [
            average + (1.0 - decay) * (now[id(variable)].astype(average.dtype) - average)
            for average, variable in zip(averages, loop._averaged(self.model) if averages else [], strict=True)
        ]
        bad = jnp.where((bad < 0) & ~jnp.isfinite(loss), step.astype(bad.dtype), bad)
        return (trainable, others, slots, averages, [bad]), loss

    def _summed(
        self, trainable: Values, others: Values, slots: Values, images: jax.Array, labels: Any
    ) -> tuple[jax.Array, Values, Values]:
        """Loss, the other variables after it, and gradients (scaled for half precision), summed over the parts."""

        def share(trainable: Values, others: Values, images: jax.Array, labels: Any) -> tuple[jax.Array, Any]:
            logits, others = self.model.stateless_call(trainable, others, images, training=True)
            loss = self.loss(labels, logits) / self.accumulate
            with keras.StatelessScope(state_mapping=zip(self.optimizer.variables, slots, strict=True)):
                scaled = self.optimizer.scale_loss(loss)
            return scaled, (loss, others)

        gradients_of = jax.grad(share, has_aux=True)
        if self.accumulate == 1:
            gradients, (loss, others) = gradients_of(trainable, others, images, labels)
            return loss, others, gradients

        def split(rows: jax.Array) -> jax.Array:  # neighbours are on one device, so that none has to move
            return jnp.moveaxis(rows.reshape(-1, self.accumulate, *rows.shape[1:]), 1, 0)

        def add(carried: tuple[Any, ...], part: tuple[Any, ...]) -> tuple[tuple[Any, ...], None]:
            loss, others, gradients = carried
            found, (more, others) = gradients_of(trainable, others, *part)
            return (loss + more, others, [a + b for a, b in zip(gradients, found, strict=True)]), None

        start = (jnp.zeros(()), others, [jnp.zeros_like(value) for value in trainable])
        return jax.lax.scan(add, start, jax.tree.map(split, (images, labels)))[0]

    def forward(self) -> Callable[[Any], None]:
        """A pass over images of `distributed` as training makes it, which moves the statistics of batch norms alone."""

        def changed(trainable: Values, others: Values, images: jax.Array) -> Values:
            return self.model.stateless_call(trainable, others, images, training=True)[1]

        compiled = jax.jit(changed, out_shardings=self._everywhere)

        def forward(images: jax.Array) -> None:
            others = self.model.non_trainable_variables
            values = [[v.value for v in group] for group in (self.model.trainable_variables, others)]
            values = jax.device_put(values, self._everywhere)
            for variable, value in zip(others, compiled(*values, images), strict=True):
                variable.assign(value)

        return forward

    def distributed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Batches as the devices of the strategy take them. Raises ZooError where they do not divide the rows."""

        def together(rows: Any) -> jax.Array:
            rows = np.asarray(rows)
            if rows.shape[0] % (devices * self.accumulate):
                raise ZooError(
                    f"{rows.shape[0]} rows of a batch for each process must be a multiple of its {devices} devices "
                    f"times {self.accumulate} parts."
                )
            layout = self.strategy.get_data_layout(rows.shape).backend_layout
            return jax.make_array_from_process_local_data(layout, rows)

        devices = self.strategy.num_model_replicas // self.strategy.num_processes
        return (jax.tree.map(together, (images, labels)) for images, labels in batches)

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
        """Make steps up to step `until`, each process writing checkpoints into its own `rank-N` of `folder`.

        Raises ZooError as `training.loop` does, and where another process was lost: then all have to be started anew.
        """
        own = folder and _of_rank(folder)
        try:
            super().run(until, folder=own, every=every, told=told, report=report, report_every=report_every)
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            raise ZooError(
                f"process {jax.process_index()} of {jax.process_count()} stopped after step {self.step}; if another "
                f"one was lost, start all again, to go on from the last checkpoint: {shown(error, 300)}"
            ) from error


def latest(folder: Path) -> State | None:
    """The state of the last step that every process has in its own part of `folder`, None where none has any.

    Processes are at most one checkpoint apart, for a step needs them all, and each keeps its last two. What one has
    of later steps is removed. To be called by all processes.

    Raises ZooError where some have none and others do, and for a damaged one that the others have gone on from.
    """
    own = _of_rank(folder)
    last = checkpoint.latest(own)
    steps = [int(step) for step in np.ravel(multihost_utils.process_allgather(np.int32(last.step if last else -1)))]
    if max(steps) < 0:
        return None
    if min(steps) < 0:
        raise ZooError(
            f"process {steps.index(-1)} has no checkpoint in {folder}, process {steps.index(max(steps))} has step "
            f"{max(steps)}: copy its rank-{steps.index(max(steps))} to rank-{steps.index(-1)}, or remove all."
        )
    for path in own.glob("step-*.safetensors"):
        if int(path.stem.partition("-")[2]) > min(steps):
            path.unlink()
    found = last if last and last.step == min(steps) else checkpoint.latest(own)
    if found is None or found.step != min(steps):
        raise ZooError(f"{own} has no whole checkpoint of step {min(steps)}: copy that of another rank there.")
    return found


def process() -> tuple[int, int]:
    """(number of this process, number of all)."""
    return jax.process_index(), jax.process_count()


def gathered(value: Any) -> list[Any]:
    """What each process has, as JSON holds it. To be called by all processes."""
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.int32(own.size)))
    rows = multihost_utils.process_allgather(np.pad(own, (0, max(sizes) - own.size)))
    return [json.loads(bytes(row[:size])) for row, size in zip(np.asarray(rows), sizes, strict=True)]


def answer_of(model: keras.Model) -> Callable[[Any], Any]:
    """Images -> float32 logits, compiled, on this process's first device: other processes need not ask the same."""
    logits_of = _logits_of(model)

    def answer(images: Any) -> jax.Array:
        local = [[v.value.addressable_data(0) for v in group] for group in _values(model)]
        return logits_of(*local, np.asarray(images))

    return answer


def teacher_of(model: keras.Model) -> Callable[[Any], Any]:
    """Images of a step -> logits, where the step is computed."""
    logits_of = _logits_of(model)
    return lambda images: logits_of(*([v.value for v in group] for group in _values(model)), images)


def _logits_of(model: keras.Model) -> Callable[..., jax.Array]:
    def logits_of(trainable: Values, others: Values, images: Any) -> jax.Array:
        return model.stateless_call(trainable, others, images, training=False)[0].astype("float32")

    return jax.jit(logits_of)


def _values(model: keras.Model) -> tuple[list[keras.Variable], list[keras.Variable]]:
    return model.trainable_variables, model.non_trainable_variables


def _of_rank(folder: Path) -> Path:
    # All write and not the first alone: a host may see its own disk only, and whoever saves works on arrays that all
    # hold, where an operation that the others do not start too can bring them all down.
    return folder / f"rank-{jax.process_index()}"
