"""Steps of M supernets and of the scores that associate configurations with them, as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scaling_rules.errors import ZooError, unknown
from scaling_rules.mixture import balance, probabilities, temperature
from training.loop import Loss, Trainer
from training.pooling_net import PoolingNet

METHODS = ("balanced", "unbalanced", "uniform")
"""How a configuration's model is drawn: by its scores with equal totals of the models, by its scores alone, evenly."""


class MixtureTrainer(Trainer):
    """A `Trainer` of M models with the tensors of one net, each of whose steps draws a configuration and a model.

    Each batch has pictures twice: the first half trains the model at that configuration; by the second half its running
    score is moved, w = decay * w + (1 - decay) * accuracy, w being 1 at first. The draw is that of the step's number.
    The net's own variables, and the optimizer's, are where the model drawn is computed: what each model has lies in
    `copies`, float32 (models, ...), and is copied in and out, so a step costs the same for any number of models.

    models: 1 is a single supernet (single-path one-shot). method: of METHODS. last_temperature: after all `epochs`.
    score_decay: of the running scores. seed: of the draws and of the models' weights. Raises ZooError for fewer models
    than one, another method, and numbers out of range.
    """

    def __init__(
        self,
        net: PoolingNet,
        models: int,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        batches: Callable[[int], Iterable[tuple[Any, Any]]],
        *,
        seed: int,
        epochs: int,
        method: str = "balanced",
        last_temperature: float = 100.0,
        score_decay: float = 0.9,
        guarded: Callable[[int], Iterable[tuple[Any, Any]]] | None = None,
    ) -> None:
        check(models, method, last_temperature, score_decay)
        self.net, self.models, self.seed, self.epochs = net, models, seed, epochs
        self.method, self.last_temperature, self.score_decay = method, last_temperature, score_decay
        super().__init__(net.model, optimizer, loss, batches, guarded=guarded)
        shared = (optimizer.iterations, optimizer.learning_rate)  # the schedule's clock is that of all
        slots = [variable for variable in optimizer.variables if not any(variable is each for each in shared)]
        self.own = [*net.model.trainable_variables, *slots]
        fresh = [_fresh(net.model, seed, model) for model in range(models)]
        self.copies = [
            _kept(np.stack([values.get(variable.path, _value(variable)) for values in fresh])) for variable in self.own
        ]
        count = len(net.space.lengths)
        self.table = _kept(np.ones((count, models)))
        self.bias = _kept(np.zeros(models))
        self.temperature = _kept(np.array(1.0))
        self.history = _kept(np.zeros((epochs, count, models)))
        """Probabilities at the start of each epoch."""
        self._take = tf.function(self._taken, (tf.TensorSpec((), tf.int32),), autograph=False)
        image = tf.TensorSpec((None, *net.model.input_shape[1:]), tf.float32)
        labels = tf.TensorSpec((None, net.model.output_shape[-1]), tf.float32)
        self._count = tf.function(self._counted, (tf.TensorSpec((), tf.int32), image, labels), autograph=False)

    def start(self, epoch: int) -> None:
        """Set what an epoch draws by: its temperature, and the bias that balances the models' totals."""
        now = 0.0 if self.method == "uniform" else temperature(epoch, self.epochs, self.last_temperature)
        logits = now * _value(self.table).astype(np.float64)
        bias = balance(logits) if self.method == "balanced" else np.zeros(self.models)
        self.temperature.assign(now)
        self.bias.assign(bias)
        history = _value(self.history)
        history[epoch] = probabilities(logits, bias)
        self.history.assign(history)

    def probabilities(self) -> np.ndarray:
        """Of each model for each configuration by the present scores, (configurations, models)."""
        return probabilities(_value(self.temperature) * _value(self.table).astype(np.float64), _value(self.bias))

    def drawn(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(configuration, model) of a step, int64 scalar, by the present scores; int32 scalars."""
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), step]), 2)
        configuration = tf.random.stateless_uniform((), seeds[0], 0, self.table.shape[0], tf.int32)
        logits = self.temperature.value * tf.convert_to_tensor(self.table.value)[configuration] - self.bias.value
        model = tf.random.stateless_categorical(logits[None], 1, seeds[1], dtype=tf.int32)[0, 0]
        return configuration, model

    def _train_step(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        configuration, model = self.drawn(step)
        half = images.shape[0] // 2
        self._taken(model)
        loss = super()._train_step(images[:half], labels[:half], step, decay)
        for copies, variable in zip(self.copies, self.own, strict=True):
            copies.value.scatter_update(tf.IndexedSlices(variable.value[None], model[None]))
        accuracy = self._counted(configuration, images[half:], labels[half:]) / half
        old = tf.convert_to_tensor(self.table.value)
        new = self.score_decay * old[configuration, model] + (1.0 - self.score_decay) * accuracy
        self.table.assign(tf.tensor_scatter_nd_update(old, [[configuration, model]], [new]))
        return loss

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        configuration, _ = self.drawn(step)  # the same again: the scores have not moved yet
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.net.logits(images, configuration))
        return loss, tape.gradient(loss, [variable.value for variable in self.model.trainable_variables])

    def _taken(self, model: tf.Tensor) -> None:
        """Put a model's tensors where the net computes."""
        for copies, variable in zip(self.copies, self.own, strict=True):
            variable.assign(tf.gather(copies.value, model))

    def _counted(self, configuration: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """How many pictures are classified right, float32 scalar."""
        answers = tf.argmax(self.net.logits(images, configuration), -1)
        return tf.reduce_sum(tf.cast(answers == tf.argmax(labels, -1), tf.float32))

    def scores(self, wanted: np.ndarray, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> np.ndarray:
        """Top-1 in percent of each configuration in each model, over all of `batches`; nan where not wanted.

        wanted: bool (configurations, models). batches: (images, labels one-hot), each normalised by its own statistics,
        so they should be as large, and as mixed, as those of training.
        """
        right, pictures = np.zeros(wanted.shape), 0
        for images, labels in batches:
            pictures += images.shape[0]
            for model in range(self.models):
                self._take(model)
                for configuration in np.flatnonzero(wanted[:, model]):
                    right[configuration, model] += self._count(int(configuration), images, labels)
        return np.where(wanted, 100 * right / pictures, np.nan)

    def _named(self) -> dict[str, keras.Variable]:
        copies = {f"copies/{number:04d}": variable for number, variable in enumerate(self.copies)}
        rest = {"table": self.table, "bias": self.bias, "temperature": self.temperature, "history": self.history}
        return super()._named() | copies | {f"mixture/{name}": variable for name, variable in rest.items()}


def check(models: int, method: str, last_temperature: float, score_decay: float) -> None:
    """Raise ZooError for what `MixtureTrainer` does not take."""
    if models < 1:
        raise ZooError(f"a mixture has at least 1 model, not {models}.")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not last_temperature >= 1:
        raise ZooError(f"the last temperature must be at least 1, the first one's, not {last_temperature}.")
    if not 0 <= score_decay < 1:
        raise ZooError(f"the decay of scores must lie in [0, 1), not {score_decay}.")


def _kept(value: np.ndarray) -> keras.Variable:
    return keras.Variable(value, dtype="float32", trainable=False)


def _value(variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))


def _fresh(model: keras.Model, seed: int, number: int) -> dict[str, np.ndarray]:
    """Kernels by variable path as the layers declare them, drawn for the `number`-th copy of a model."""
    found = {}
    for place, layer in enumerate(layer for layer in model._flatten_layers() if hasattr(layer, "kernel")):
        told = layer.kernel_initializer.get_config() | {"seed": int(_word(seed, number, place))}
        found[layer.kernel.path] = np.asarray(type(layer.kernel_initializer).from_config(told)(layer.kernel.shape))
    return found


def _word(*numbers: int) -> np.uint32:
    return np.random.SeedSequence(numbers).generate_state(1)[0] >> 1
