"""Optimizers as the sources of the recipes computed them, on any backend of Keras.

They differ from Keras' own in four points. Keras' RMSprop starts its mean square at 0, TensorFlow 1 at 1. Keras' SGD
keeps the learning rate inside the momentum, the sources outside, which differs when the rate changes. Weight decay
and rate depend on the tensor's path, where Keras knows neither l2 nor a rate of its own for a layer. And over several
devices Keras clips what each of them has by itself, not their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from scaling_rules.lower import stage_of
from training import recipe as recipes
from training.recipe import Recipe
from training.schedule import Schedule

NORMS = ("gamma", "beta")


class Rule(NamedTuple):
    """weight_decay of a tensor, 0 for none, and the multiple of the learning rate it is trained at."""

    weight_decay: float
    rate: float


def rules(recipe: Recipe, paths: Sequence[str]) -> list[Rule]:
    """What the recipe does with each trainable tensor, by paths as in `scaling_rules.shapes.tensors`, in network order.

    Batch norms and biases are told by the last part of the path. The last part of the network (the head) learns at
    the full rate, each one before it at `layer_rates` of the next one's; parts without a path here do not count.
    """
    told = recipe.optimizer
    parts = list(dict.fromkeys(stage_of(path) for path in paths))
    return [
        Rule(
            told.weight_decay if decays(told, path) else 0.0,
            recipe.layer_rates ** (len(parts) - 1 - parts.index(stage_of(path))),
        )
        for path in paths
    ]


def decays(optimizer: recipes.Optimizer, path: str) -> bool:
    """Whether the weight decay covers a tensor, 'stage2.block1.expand.norm.gamma' or 'head.classifier.dense.bias'."""
    name = path.rpartition(".")[2]
    return optimizer.decay_norms if name in NORMS else optimizer.decay_biases if name == "bias" else True


def tensor_path(variable: keras.Variable) -> str:
    """'stage2.block1.expand.conv.kernel' for the variable kernel of the layer stage2.block1.expand.conv."""
    return ".".join(variable.path.split("/")[-2:])


def make(recipe: Recipe, schedule: Schedule) -> keras.optimizers.Optimizer:
    """The recipe's optimizer, for float32 variables whose paths `tensor_path` gives.

    Gradients are clipped by their global norm first, then decayed, as in PyTorch. It is made from the recipe and not
    from a .keras file: save models without it.
    """
    told = recipe.optimizer
    common: dict[str, Any] = {
        "learning_rate": schedule,
        "global_clipnorm": told.clip_norm,
        "name": told.name,
    }
    optimizer: _ByPath
    if told.name == "sgd":
        optimizer = _SGD(momentum=told.momentum, nesterov=told.nesterov, **common)
    elif told.name == "rmsprop":
        optimizer = _RMSprop(rho=told.rho, momentum=told.momentum, epsilon=told.epsilon, **common)
    else:
        optimizer = _AdamW(beta_1=told.momentum, beta_2=told.rho, epsilon=told.epsilon, **common)
    optimizer.recipe = recipe
    return optimizer


class _ByPath(keras.optimizers.Optimizer):
    """Weight decay and learning rate by tensor, before the update of the class that follows."""

    recipe: Recipe

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.rules = tuple(rules(self.recipe, [tensor_path(variable) for variable in variables]))

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if not self.global_clipnorm or keras.backend.backend() != "tensorflow":
            return super()._clip_gradients(grads)
        import tensorflow as tf

        # Each replica's share by the norm of their sum, as they are summed after this.
        sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, grads)
        scale = tf.minimum(1.0, self.global_clipnorm / tf.linalg.global_norm(sums))
        return [gradient * scale for gradient in grads]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # Here gradients are summed over devices already; in `apply` each device would add the decay once more.
        decay, multiple = self.rules[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        rate = ops.cast(learning_rate, variable.dtype) * multiple
        if decay and self.recipe.optimizer.decay == "l2":
            gradient = gradient + decay * variable
        elif decay:
            self.assign_sub(variable, rate * decay * variable)
        super().update_step(gradient, variable, rate)


class _Momentum(keras.optimizers.SGD):
    """buffer = momentum * buffer + gradient, then weight -= rate * buffer: TensorFlow 1, PyTorch, MindSpore."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        buffer = self.momentums[self._get_variable_index(variable)]
        self.assign(buffer, self.momentum * buffer + gradient)
        self.assign_sub(variable, learning_rate * (gradient + self.momentum * buffer if self.nesterov else buffer))


class _MeanSquareFromOne(keras.optimizers.RMSprop):
    """tf.compat.v1.train.RMSPropOptimizer."""

    def add_optimizer_variables(self, trainable_variables: Any, name: Any, initializer: Any = "zeros") -> Any:
        return super().add_optimizer_variables(trainable_variables, name, "ones" if name == "velocity" else initializer)


class _SGD(_ByPath, _Momentum): ...


class _RMSprop(_ByPath, _MeanSquareFromOne): ...


class _AdamW(_ByPath, keras.optimizers.Adam): ...
