"""What can be asked of a built model, a reloaded one too: what it carries, its weights by path, its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers

from scaling_rules.errors import ZooError, unknown
from scaling_rules.shapes import endpoints, tensors
from scaling_rules.spec import NetworkSpec, spec_from_dict
from zoo.graph import CARRIED, functional


def _layers(model: keras.Model) -> Iterator[layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def carried(model: keras.Model) -> dict[str, Any]:
    """What a model of `build` carries in its config: {'spec': ..., 'record': ...}, also after a reload.

    A model around one carries what that one does; {} for any other model. Raises ZooError for what is no
    Keras model.
    """
    if not isinstance(model, keras.Model):
        raise ZooError(f"expected a Keras model, a model name or a record, not {type(model).__name__}.")
    for layer in _layers(model):
        value = getattr(getattr(layer, "bias_initializer", None), "value", None)
        if isinstance(value, dict) and CARRIED in value:
            return value[CARRIED]
    return {}


def spec_of(model: keras.Model) -> NetworkSpec:
    """The network of a model that zoo built, a reloaded one too. Raises ZooError for any other."""
    own = carried(model).get("spec")
    if own is None:
        raise ZooError(f"model {model.name!r} was not built by zoo: it carries no spec.")
    return spec_from_dict(own)


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's weights by tensor path ('stage1.block1.expand.conv.kernel'), as `scaling_rules.shapes.tensors` has.

    Works on a reloaded model and on one around it too; a model's further layers and dropout's seeds are left out.
    Raises ZooError for a model without a spec.
    """
    paths = tensors(spec_of(model))
    found = {f"{layer.name}.{v.name}": v for layer in _layers(model) for v in layer.variables}
    return {path: found[path] for path in paths if path in found}


def complete_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The same for a model that is the whole network and nothing more, which can be saved or loaded into as such.

    Raises ZooError for one that lacks a part, has further layers with weights or a second network of zoo's inside,
    or whose weights were quantized.
    """
    spec = spec_of(model)
    table = tensors(spec)
    advice = "; save or load the network that zoo built (num_classes= gives it a new head)."
    found: dict[str, keras.Variable] = {}
    more: list[str] = []
    for layer in _layers(model):
        generator = getattr(layer, "seed_generator", None)  # of a dropout
        for variable in layer.variables:
            path = f"{layer.name}.{variable.name}"
            if path in table and path not in found:
                found[path] = variable
            elif generator is None or variable is not generator.state:
                more.append(layer.name)
    if len(found) < len(table):
        lacking = next(path for path in table if path not in found)
        raise ZooError(f"model {model.name!r} is a part of {spec.name}: it lacks {lacking}{advice}")
    if more:
        raise ZooError(f"model {model.name!r} is more than one {spec.name}: {more[0]} has weights too{advice}")
    for path, variable in found.items():
        if tuple(variable.shape) != table[path].shape or "float" not in str(variable.dtype):
            raise ZooError(
                f"{path} is {variable.dtype} of shape {tuple(variable.shape)}, no float {table[path].shape}."
            )
    return found


def features(model: keras.Model, strides: Sequence[int] | None = None) -> keras.Model:
    """A model with the same input and weights whose outputs are the last maps at each total stride.

    Outputs: a dict 'stride2' ... 'stride32' of (batch, height / stride, width / stride, channels).
    `strides`: which ones, default all the network has. Raises ZooError for one it does not have, and for a model
    without a spec.
    """
    ends = endpoints(spec_of(model))
    outputs = {}
    named = {layer.name: layer for layer in model.layers}
    for stride in ends if strides is None else strides:
        if stride not in ends:
            raise unknown("stride", stride, map(str, ends))
        layer = next(
            named[name] for end in ("act", "norm", "") if (name := f"{ends[stride]}.{end}".rstrip(".")) in named
        )
        outputs[f"stride{stride}"] = layer.output
    return functional(model.input, outputs, f"{model.name}-features")
