"""A name, a file, a folder or a hub repository to a Keras model, with or without weights, or to an engine.

Keras is imported only where a model of it is built: a cached engine file answers before it would have started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakKeyDictionary

import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec
from weights import manifest, store
from weights.adapt import Report, adapt, with_channels
from zoo import catalog, compiling, engines, growing, metadata
from zoo.preprocessing import at_size
from zoo.records import travelling
from zoo.sources import at_place, by_tag, is_place, weights_for

if TYPE_CHECKING:
    import keras

    from zoo.engines import Engine

log = logging.getLogger("zoo")

Size = int | tuple[int | None, ...]

_REPORTS: WeakKeyDictionary[keras.Model, Report] = WeakKeyDictionary()

FAR = 2
"""A fixed input this many times larger or smaller than the weights were trained for is worth a warning."""


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
    if type(channels) is int and channels > 0:
        spec = with_channels(spec, channels)
    # An open side is costed at the spec's own; a given one must be a whole number of at least the total stride.
    full = [own if side is None else side for own, side in zip(spec.input, sides, strict=True)]
    return replace(spec, input=(full[0], full[1], full[2])), size


def _variant(
    spec: NetworkSpec,
    num_classes: int | None,
    in_channels: int | None,
    input_shape: Size | None,
    dropout: float | None,
    drop_path: float | None,
) -> tuple[NetworkSpec, tuple[int | None, int | None]]:
    if num_classes is not None:
        if type(num_classes) is not int or num_classes < 0:
            raise ZooError(f"num_classes must be a whole number, 0 for features without a head, not {num_classes!r}.")
        spec = replace(spec, classes=num_classes)
    if in_channels is not None:
        if type(in_channels) is not int or in_channels < 1:
            raise ZooError(f"in_channels must be a whole number of at least 1, not {in_channels!r}.")
        spec = with_channels(spec, in_channels)
    if dropout is not None:
        spec = replace(spec, head=replace(spec.head, dropout=dropout))
    if drop_path is not None:
        spec = replace(spec, drop_path=drop_path)
    shaped, size = _shape(spec, input_shape)
    if in_channels not in (None, shaped.input[2]):
        raise ZooError(f"in_channels is {in_channels}, and input_shape {input_shape!r} says {shaped.input[2]}.")
    return shaped, size


def build(
    spec: NetworkSpec | str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_shape: Size | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """A Keras model of a spec or model name, with weights drawn at random.

    It takes RGB pixels in [0, 255], (batch, height, width, channels), uint8 or float, and gives float32
    logits (batch, classes). num_classes: 0 for the features before the classifier. in_channels: other than
    RGB's three. input_shape: a side, (height, width) or (height, width, channels), sides None for any; default
    any size. dropout: before the classifier. drop_path: stochastic depth of the last block, growing linearly
    from 0 at the first. include_preprocessing: False for a bare network that takes normalised pixels. Raises
    ZooError for values out of range and an input smaller than the total stride.
    """
    network = spec if isinstance(spec, NetworkSpec) else catalog.spec(spec)
    network, size = _variant(network, num_classes, in_channels, input_shape, dropout, drop_path)
    from zoo import graph

    return graph.build(network, size=size, include_preprocessing=include_preprocessing)


@overload
def load(
    name: str | os.PathLike[str],
    pretrained: bool | str | os.PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_shape: Size | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    include_preprocessing: bool = True,
    dialect: str | None = None,
    skip: Sequence[str] | str = (),
    strict: bool = True,
    engine: None = None,
) -> keras.Model: ...


@overload
def load(
    name: str | os.PathLike[str],
    pretrained: bool | str | os.PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_shape: Size | None = None,
    include_preprocessing: bool = True,
    dialect: str | None = None,
    skip: Sequence[str] | str = (),
    strict: bool = True,
    engine: str,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> Engine: ...


def load(
    name: str | os.PathLike[str],
    pretrained: bool | str | os.PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_shape: Size | None = None,
    dropout: float | None = None,
    drop_path: float | None = None,
    include_preprocessing: bool = True,
    dialect: str | None = None,
    skip: Sequence[str] | str = (),
    strict: bool = True,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> keras.Model | Engine:
    """A Keras model by name, with published weights, your own, or none; or by where a published network is.

    name: a model name; name.tag, whose weights are loaded unless `pretrained` says otherwise; the path of a file or
    folder that `zoo.save` or `zoo publish` wrote, or 'hf://owner/repo[@revision]'. pretrained: True for the default
    tag, a tag, 'hf://...', or the path of such a folder or of a weights file (.safetensors, PyTorch's .pth, Keras' old
    .h5) whose tensors have our names or those of a layout known for the family; or 'grow:' and a smaller network's
    name or place, to start at its function, docs/scaling.md. dialect: of the network, where nothing that comes with
    the weights says.

    What does not fit is adapted: num_classes other than the weights' gives a new, random classifier; in_channels
    other than theirs sums or repeats the stem's kernels; input_shape, when fixed and square, also sets what
    `zoo.preprocess` makes of a picture. Left out, the first two are the weights'. skip: shell patterns of tensor
    paths to draw anew ('head.classifier.*'). strict=False: tensors that are missing or do not fit are drawn too,
    and unknown ones passed over. What became of each tensor is logged, and `report` has it. The other arguments are
    those of `build`.

    engine: 'openvino', 'onnxruntime', 'litert', 'keras', or 'auto' for the fastest that is installed; the answer is
    then an `Engine`, which does not train, at the one size of input_shape, or of the record. A converted file is kept
    in the cache by the hash of the weights and the versions of the converters; where it is there, Keras is not
    imported. name may also be a file that `zoo.export` wrote for an engine. precision: 'float32', or what else the
    processor computes in ('bfloat16', 'float16'; OpenVINO only), default the fastest of these. threads: default the
    engine's choice. batch: pictures a pass to compile for; default any number.

    The graph is the same with and without weights. Raises ZooError for an unknown name, tag, dialect or engine, for
    an engine that is not installed, for weights that were never published (saying how to load your own), that cannot
    be fetched, or do not fit.
    """
    label = str(name)
    if engine is not None:
        engines.check(engine, precision, threads, batch)
    if label.lower().endswith(metadata.ENGINE_SUFFIXES):
        return engines.open_file(Path(name).expanduser(), engine, precision=precision, threads=threads, batch=batch)
    if engine is None and any(option is not None for option in (precision, threads, batch)):
        raise ZooError("precision, threads and batch are an engine's: give engine='auto', or openvino, onnxruntime ...")
    weights: store.Weights | None
    split: frozenset[str] = frozenset()
    if isinstance(pretrained, str) and pretrained.startswith(growing.PREFIX):
        own, sides = _shape(catalog.spec(label), input_shape)
        weights, split = growing.grown(own, pretrained.removeprefix(growing.PREFIX), sides, dialect, strict)
    else:
        weights = weights_for(name, pretrained, dialect, strict)
    values: dict[str, np.ndarray] | None = None
    record: dict[str, Any] | None = None
    if weights is None:
        if skip:
            raise ZooError("skip leaves out tensors of weights, and pretrained=False loads none.")
        network, size = _variant(
            catalog.spec(label, dialect=dialect), num_classes, in_channels, input_shape, dropout, drop_path
        )
        outcome = Report((), (), tuple(tensors(network)), ())
    else:
        if dialect not in (None, weights.spec.dialect.name):
            raise ZooError(f"{label}: the weights are of dialect {weights.spec.dialect.name!r}, not {dialect!r}.")
        network, size = _variant(weights.spec, num_classes, in_channels, input_shape, dropout, drop_path)
        values, outcome = adapt(weights.spec, weights.tensors, network, skip=skip, unused=weights.unused)
        outcome = outcome._replace(
            loaded=tuple(path for path in outcome.loaded if path not in split),
            adapted=(*outcome.adapted, *(path for path in outcome.loaded if path in split)),
        )
        _log(label, outcome, network)
        record = _carried(weights.record, network, size, include_preprocessing, outcome)
        _warn_of_size(label, weights.record, size)

    def built() -> keras.Model:
        from zoo import graph

        return graph.build(
            network, size=size, include_preprocessing=include_preprocessing, values=values, record=record
        )

    if engine is None:
        return _kept(built(), outcome)
    return compiling.compiled(
        built,
        compiling.Source(network, None if outcome.new else values, record, size, include_preprocessing),
        engine,
        precision=precision,
        threads=threads,
        batch=batch,
    )


def load_weights(
    model: keras.Model,
    weights: str | os.PathLike[str],
    *,
    skip: Sequence[str] | str = (),
    strict: bool = True,
) -> Report:
    """Put weights into a model that zoo built, in place, and say what became of each tensor.

    weights: a tag of the model's own name, 'hf://owner/repo[@revision]', or a path, as `load` takes them; skip and
    strict too. Tensors that are new keep the values they have. Raises ZooError, before anything is changed, for
    weights that cannot be had or do not fit, and for those of another dialect or normalisation than the model's.
    """
    from zoo.inspection import complete_variables, spec_of

    spec = spec_of(model)
    own = complete_variables(model)
    if is_place(weights, manifest.tags(spec.name)):
        given = at_place(spec, weights, strict)
    else:
        given = by_tag(spec.name, str(weights))
    theirs = with_channels(given.spec, spec.input[2])
    named = replace(theirs.dialect, name=spec.dialect.name)
    if strict and (named, theirs.mean, theirs.std) != (spec.dialect, spec.mean, spec.std):
        raise ZooError(
            f"the model's dialect is {spec.dialect.name!r}, its mean {spec.mean} and std {spec.std}; the weights' are "
            f"{theirs.dialect.name!r}, {theirs.mean} and {theirs.std}: zoo.load builds the model that they need."
        )
    values, found = adapt(given.spec, given.tensors, spec, skip=skip, unused=given.unused)
    _log(spec.name, found, spec)
    import keras

    for path, array in values.items():
        # Keras' own assign converts the array first and assigns then, on TensorFlow a third of the time of both.
        variable = own[path].value if keras.backend.backend() == "tensorflow" else own[path]
        variable.assign(np.asarray(array))  # read from its file, perhaps: one at a time
    _kept(model, found)
    return found


def report(model: keras.Model) -> Report:
    """What became of each tensor when weights were last put into a model: loaded, adapted, new, unused.

    Raises ZooError for a model that this process did not get from `load`.
    """
    if model not in _REPORTS:
        raise ZooError("this model was not loaded by zoo.load in this process, so there is no report of its weights.")
    return _REPORTS[model]


def _kept(model: keras.Model, found: Report) -> keras.Model:
    _REPORTS[model] = found
    return model


def _log(label: str, found: Report, network: NetworkSpec) -> None:
    """Say once what became of the tensors: quietly where all are loaded as they are."""
    classifier = any(path.startswith("head.classifier.") for path in found.new)
    level = logging.WARNING if found.adapted or found.new or found.unused else logging.INFO
    new = f"the classifier is new ({network.classes} classes); " if classifier else ""
    log.log(level, "zoo: %s: %s%s", label, new, found)


def _carried(
    record: dict[str, Any] | None,
    network: NetworkSpec,
    size: tuple[int | None, int | None],
    include_preprocessing: bool,
    found: Report,
) -> dict[str, Any] | None:
    """The record that the model carries: the weights', as far as they are what the model computes with."""
    if record is None:
        return None
    carried = travelling(record) | {"normalized_input": not include_preprocessing}
    prepare = carried["preprocessing"] | {"mean": list(network.mean), "std": list(network.std)}
    height, width = size
    carried["preprocessing"] = at_size(prepare, (height, width)) if height and width else prepare
    if not network.classes:
        carried["classes"] = []
    elif any(path.startswith("head.classifier.") for path in found.new):
        carried["classes"] = None
    return carried


def _warn_of_size(label: str, record: dict[str, Any] | None, size: tuple[int | None, int | None]) -> None:
    crop = record["preprocessing"]["crop"] if record else None
    for side in filter(None, size):
        if crop and not crop / FAR <= side <= crop * FAR:
            log.warning(
                "zoo: %s: an input of %d px is far from the %d px of its weights; accuracy falls", label, side, crop
            )
            return
