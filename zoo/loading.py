"""A name to a Keras model, with or without weights."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import manifest, store
from zoo import catalog, graph, registry
from zoo.inspection import variables
from zoo.records import travelling

log = logging.getLogger("zoo")

Size = int | tuple[int | None, ...]


def _shape(spec: NetworkSpec, shape: Size | None) -> tuple[NetworkSpec, tuple[int | None, int | None]]:
    """The spec for a user's input shape, and the (height, width) of the Keras input, None where it is open."""
    if shape is None:
        return spec, (None, None)
    sides = (shape, shape) if isinstance(shape, int) else tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(sides) == 2:
        sides = (*sides, spec.input[2])
    if len(sides) != 3:
        raise ZooError(f"input_shape must be a side, (height, width) or (height, width, channels), not {shape!r}.")
    height, width, channels = sides
    size = (height, width)
    # An open side is costed at the spec's own; a given one must be a whole number of at least the total stride.
    full = [own if side is None else side for own, side in zip(spec.input, sides, strict=True)]
    if type(channels) is int and channels != spec.input[2]:
        mean, std = (sum(values) / len(values) for values in (spec.mean, spec.std))
        spec = replace(spec, input=(*spec.input[:2], channels), mean=(mean,) * channels, std=(std,) * channels)
    return replace(spec, input=(full[0], full[1], full[2])), size


def build(
    spec: NetworkSpec | str,
    *,
    num_classes: int | None = None,
    input_shape: Size | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """A Keras model of a spec or model name, with weights drawn at random.

    It takes RGB pixels in [0, 255], (batch, height, width, channels), uint8 or float, and gives float32
    logits (batch, classes). num_classes: 0 for the features before the classifier. input_shape: a side,
    (height, width) or (height, width, channels), sides None for any; default any size. dropout: before the
    classifier. drop_path: stochastic depth of the last block, growing linearly from 0 at the first.
    include_preprocessing: False for a bare network that takes normalised pixels. Raises ZooError for values
    out of range and an input smaller than the total stride.
    """
    network, size = _adapt(
        spec if isinstance(spec, NetworkSpec) else catalog.spec(spec), num_classes, input_shape, dropout, drop_path
    )
    return graph.build(network, size=size, include_preprocessing=include_preprocessing)


def _adapt(
    spec: NetworkSpec,
    num_classes: int | None,
    input_shape: Size | None,
    dropout: float | None,
    drop_path: float | None,
) -> tuple[NetworkSpec, tuple[int | None, int | None]]:
    if num_classes is not None:
        if type(num_classes) is not int or num_classes < 0:
            raise ZooError(f"num_classes must be a whole number, 0 for features without a head, not {num_classes!r}.")
        spec = replace(spec, classes=num_classes)
    if dropout is not None:
        spec = replace(spec, head=replace(spec.head, dropout=dropout))
    if drop_path is not None:
        spec = replace(spec, drop_path=drop_path)
    return _shape(spec, input_shape)


def load(
    name: str,
    pretrained: bool | str | Path = False,
    *,
    num_classes: int | None = None,
    input_shape: Size | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    include_preprocessing: bool = True,
    dialect: str | None = None,
) -> keras.Model:
    """A Keras model by name, with published weights, your own, or none.

    name: a model name, or name.tag. pretrained: True for the default tag, a tag, or the path of a
    .safetensors or PyTorch file whose tensors have our names or those of a layout known for the family.
    num_classes other than the weights' gives a new, random classifier and keeps the rest. input_shape: a fixed
    square one also sets what `zoo.preprocess` makes of a picture. dialect: of the network, where it is not the
    weights' record that says. The other arguments are those of `build`.

    The graph is the same with and without weights. Raises ZooError for an unknown name, tag or dialect, for
    weights that were never published (saying how to load your own), that cannot be fetched, or do not fit.
    """
    model_name, tag = catalog.split(name)
    path = _own_file(pretrained)
    if isinstance(pretrained, str) and path is None:
        tag = pretrained
    record = _published(model_name, tag) if pretrained and path is None else None
    if record and dialect not in (None, record["dialect"]):
        raise ZooError(f"{name}: the weights {record['tag']!r} are of dialect {record['dialect']!r}, not {dialect!r}.")
    spec = catalog.spec(model_name, tag, dialect=None if record else dialect)
    network, size = _adapt(spec, num_classes, input_shape, dropout, drop_path)
    values: dict[str, np.ndarray] = {}
    carried: dict[str, Any] | None = None
    if pretrained:
        if network.input[2] != spec.input[2]:
            raise ZooError(
                f"{name}: the weights take {spec.input[2]} input channels, not {network.input[2]}; "
                "load it without weights, or repeat your channels."
            )
        if record:
            values = store.published(spec, record)
            carried = travelling(record) | {"normalized_input": not include_preprocessing}
            carried["preprocessing"] = _resized(carried["preprocessing"], size)
        elif path:
            values = _own(replace(spec, classes=network.classes), spec.classes, model_name, path)
        if network.classes != _classes(values):
            values = {key: value for key, value in values.items() if not key.startswith("head.classifier.")}
            if carried:
                carried["classes"] = None if network.classes else []
            if network.classes:
                log.warning("zoo: %s: the classifier is new (%d classes); all else is loaded", name, network.classes)
    return graph.build(network, size=size, include_preprocessing=include_preprocessing, values=values, record=carried)


def _resized(preprocessing: dict[str, Any], size: tuple[int | None, int | None]) -> dict[str, Any]:
    """The preprocessing for a model of a fixed square input: the same share of the picture at that size."""
    side, crop = size[0], preprocessing["crop"]
    if side is None or side != size[1]:
        return preprocessing
    return preprocessing | {"crop": side, "resize": round(preprocessing["resize"] * side / crop)}


def save(model: keras.Model, path: str | Path) -> None:
    """Write the model's weights, named by spec path, to a .safetensors file, atomically.

    `zoo.load(name, pretrained=path)` reads them back. Raises ZooError for a model that zoo did not build,
    another file ending, and a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ZooError(f"weights are saved as .safetensors, not {path.name!r}.")
    arrays = {key: keras.ops.convert_to_numpy(value) for key, value in variables(model).items()}
    try:
        store.write(path, arrays)
    except OSError as error:
        raise ZooError(f"cannot write {str(path)!r}: {error.strerror}.") from None


def _own_file(pretrained: bool | str | Path) -> Path | None:
    """The path of a user's own weights, None where `pretrained` is a tag or a switch."""
    if isinstance(pretrained, Path):
        return pretrained
    if isinstance(pretrained, str) and ("/" in pretrained or "\\" in pretrained or Path(pretrained).suffix):
        return Path(pretrained).expanduser()
    if not isinstance(pretrained, bool | str):
        raise ZooError(f"pretrained must be True, False, a tag or a path, not {pretrained!r:.80}.")
    return None


def _classes(values: dict[str, np.ndarray]) -> int:
    """The number of classes that weights were made for, 0 for weights without a classifier."""
    kernel = values.get("head.classifier.dense.kernel")
    return 0 if kernel is None else kernel.shape[-1]


def _own(spec: NetworkSpec, usual: int, name: str, path: Path) -> dict[str, np.ndarray]:
    """The tensors of a user's file, with a classifier for the spec's classes or the model's `usual` ones.

    Where they do not fit, the error names a dialect in which they do.
    """
    for classes in dict.fromkeys((spec.classes, usual)):
        try:
            return store.local(replace(spec, classes=classes), path)
        except ZooError as error:
            reason = str(error)
    others = [dialect for dialect in registry.dialects(name) if dialect != spec.dialect.name]
    fitting = [dialect for dialect in others if _fits(registry.architecture(name, dialect), path)]
    raise ZooError(f"{reason} It fits dialect={fitting[0]!r}." if fitting else reason)


def _fits(spec: NetworkSpec, path: Path) -> bool:
    try:
        return bool(store.local(spec, path))
    except ZooError:
        return False


def _published(name: str, tag: str | None) -> manifest.Record:
    """The record of weights that can be had; ZooError that says what is known where there are none."""
    own = f"load your own with zoo.load({name!r}, pretrained='weights.safetensors') (or .pth)"
    if not manifest.tags(name):
        raise ZooError(f"no public weights of {name} are known; {own}.")
    record = manifest.record(name, tag)
    if not record["sources"]:
        claims = "; ".join(f"{c['metric']} {c['value']} on {c['dataset']} ({c['source']})" for c in record["claimed"])
        raise ZooError(
            f"no public weights of {name} exist; claimed: {claims}. "
            f"Recipe to train them: training/recipes/{record['recipe']}; {own}."
        )
    return record
