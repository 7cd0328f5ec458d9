"""A model as a file for other engines: ONNX, OpenVINO, LiteRT, SavedModel, Keras."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError, unknown
from scaling_rules.spec import NetworkSpec
from weights import config
from zoo import engines, graph, metadata, quantizing
from zoo.inspection import carried, complete_variables, spec_of
from zoo.prediction import class_names
from zoo.preprocessing import at_size
from zoo.quiet import without_chatter

PRECISIONS = {
    "keras": ("float32",),
    "saved_model": ("float32",),
    "onnx": ("float32",),
    "litert": ("float32", "int8"),
    "openvino": ("float32", "float16", "int8"),
}
"""Format -> how its weights may be stored. float16 halves the file, and what it is computed in is the engine's; int8 is
computed in as well."""


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    precision: str = "float32",
    batch: int | None = None,
    size: int | tuple[int, int] | None = None,
    include_preprocessing: bool = True,
    calibration: Any = None,
) -> Path:
    """Write a model that zoo built for another engine, and return where.

    format: 'onnx' (.onnx), 'openvino' (.xml, and .bin beside it), 'litert' (.tflite), 'saved_model' (a new folder) or
    'keras' (.keras); default by the path's ending. The file takes float32 pixels (batch, height, width, channels), RGB
    in [0, 255], and gives float32 logits. batch: pictures a call, None for any. size: side or (height, width) of the
    pictures, default the model's own fixed input, else what its record crops to, else the network's. precision: of the
    stored weights (PRECISIONS). include_preprocessing: False for a network that takes normalised pixels. calibration:
    for int8, a folder of pictures, or several as `zoo.preprocess` takes them: on four fifths ranges are measured, on
    the rest what the answers lose, which the file then says ('int8' of `zoo.metadata.read`).

    The file carries its network, record, class names, MACs and parameters (`zoo.metadata.read`), and is written whole
    or not at all. Raises ZooError for a model that is not just one of zoo's networks, wrong options, a missing library,
    a backend other than TensorFlow (but for .keras), and a place that cannot be written.
    """
    path = Path(path).expanduser()
    kind = metadata.format_of(path) if format is None else format
    if kind not in PRECISIONS:
        raise unknown("export format", kind, PRECISIONS)
    if path.suffix.lower() != metadata.SUFFIXES[kind]:
        raise ZooError(f"{kind} is written to {metadata.SUFFIXES[kind] or 'a folder'}, not {path.name!r}.")
    if precision not in PRECISIONS[kind]:
        raise unknown(f"precision of {kind}", precision, PRECISIONS[kind])
    if calibration is not None and precision != "int8":
        raise ZooError(f"calibration is for precision='int8', not {precision!r}.")
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ZooError(f"batch must be a whole number of at least 1, or None for any, not {batch!r}.")
    if kind == "saved_model" and path.exists():
        raise ZooError(f"{str(path)!r} exists; give a new folder.")
    if kind != "keras" and keras.backend.backend() != "tensorflow":
        raise ZooError(f"{kind} is exported under KERAS_BACKEND=tensorflow, not {keras.backend.backend()}.")
    values = complete_variables(model)
    spec = sized(model, size)
    plain = any(layer.name == "normalize" for layer in model.layers)
    if kind == "keras" or plain != include_preprocessing:
        arrays = {key: keras.ops.convert_to_numpy(value) for key, value in values.items()}
        record = carried(model).get("record")
        if record:
            record = record | {"normalized_input": not include_preprocessing}
        model = graph.build(
            spec,
            size=spec.input[:2],
            include_preprocessing=include_preprocessing,
            values=arrays,
            record=record,
        )
    shape = (batch, *spec.input)
    given = None
    if precision == "int8":
        given = quantizing.pictures(calibration, spec, carried(model).get("record"))
    _place(model, path, kind, shape, precision, describe(model, spec, shape, precision), given)
    return path


def describe(model: keras.Model, spec: NetworkSpec, shape: tuple[int | None, ...], precision: str) -> dict[str, Any]:
    """What an exported file says of itself: config (network and record), classes, macs, params, input, precision.

    classes: names in order, or None where nobody named them. normalized_input: whether it takes normalised pixels.
    """
    record = carried(model).get("record")
    names = list(class_names(record, spec.classes)) if record and record["classes"] else None
    told = {key: value for key, value in record.items() if key != "origin"} if record else None
    if told:
        told["preprocessing"] = at_size(told["preprocessing"], spec.input[:2])
    total = cost(spec)
    return {
        "format": metadata.FORMAT,
        "config": json.loads(config.dump(config.Config(spec, told))),
        "classes": names,
        "macs": total.macs,
        "params": total.params,
        "input": list(shape),
        "precision": precision,
        "normalized_input": not any(layer.name == "normalize" for layer in model.layers),
    }


def sized(model: keras.Model, size: int | tuple[int, int] | None = None) -> NetworkSpec:
    """The network at the height and width it is exported for."""
    spec, record = spec_of(model), carried(model).get("record")
    height, width = model.input_shape[1:3]
    if size is not None:
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
            raise ZooError(f"size must be a side or (height, width) in pixels, not {size!r}.")
        if any(own not in (None, side) for own, side in zip((height, width), sides, strict=True)):
            raise ZooError(f"size is {size!r}, and the model takes {height} x {width} only.")
    elif height and width:
        sides = (height, width)
    else:
        sides = (record["preprocessing"]["crop"],) * 2 if record else spec.input[:2]
    return replace(spec, input=(*sides, spec.input[2]))


def _place(
    model: keras.Model,
    path: Path,
    kind: str,
    shape: tuple[int | None, ...],
    precision: str,
    data: dict[str, Any],
    given: quantizing.Pictures | None,
) -> None:
    """Write into a folder beside the target, then move what came."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    made = part / path.name
    try:
        part.mkdir(parents=True)
        _write(model, made, kind, shape, precision, data, given)
        for file in sorted(part.iterdir()):  # OpenVINO's .bin before its .xml
            file.replace(path.with_name(file.name))
    except OSError as error:
        raise ZooError(f"cannot write {str(path)!r}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Neither what converters print nor what they warn of in their own code."""
    with without_chatter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _write(
    model: keras.Model,
    path: Path,
    kind: str,
    shape: tuple[int | None, ...],
    precision: str,
    data: dict[str, Any],
    given: quantizing.Pictures | None,
) -> None:
    if kind == "openvino":
        _write_openvino(model, path, shape, precision, data, given)
        return
    if kind == "keras":
        model.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(metadata.FILE, json.dumps(data, ensure_ascii=False))
        return
    if kind == "onnx":
        metadata.needs("tf2onnx")
    if kind == "litert":
        metadata.needs("ai_edge_litert")
    signature = [keras.InputSpec(shape=shape, dtype="float32", name="image")]
    with _quietly():
        model.export(
            path,
            format="tf_saved_model" if kind == "saved_model" else kind,
            input_signature=signature,
            verbose=False,
        )
        if given:
            quantizing.litert_int8(path, given.samples(shape[0]))
    if given:
        plain = path.read_bytes()
        metadata.attach(path, data)
        data = data | {"int8": quantizing.change(model, engines.open_file(path), given)}
        path.write_bytes(plain)
    metadata.attach(path, data)


def _write_openvino(
    model: keras.Model,
    path: Path,
    shape: tuple[int | None, ...],
    precision: str,
    data: dict[str, Any],
    given: quantizing.Pictures | None,
) -> None:
    """Converted from the model: Keras' own export leaves an output for each of its swishes, at half the speed."""
    openvino = metadata.needs("openvino")

    def save(told: dict[str, Any]) -> None:
        converted.set_rt_info(json.dumps(told, ensure_ascii=False), [metadata.KEY])
        openvino.save_model(converted, path, compress_to_fp16=precision == "float16")

    with _quietly():
        converted = openvino.convert_model(model, input=[-1 if side is None else side for side in shape])
        if given:
            converted = quantizing.openvino_int8(converted, given.samples(shape[0]))
    save(data)
    if given:
        changed = quantizing.change(model, engines.open_file(path), given)
        save(data | {"int8": changed | {"processors": quantizing.processors()}})
