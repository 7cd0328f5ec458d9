"""Exports in int8: ranges measured on pictures, and what the answers lose, measured on others."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from zoo import images, metadata, processor
from zoo.prediction import class_names
from zoo.preprocessing import at_size, preprocess

FEWEST = 10
"""Pictures that calibrating and comparing needs at least; some hundred are better."""

CALIBRATED, COMPARED = 256, 1024
"""Pictures that are used at most for each."""


class Pictures(NamedTuple):
    """What ranges are measured on, and others to compare on; labels: class indices of the latter, None if unknown."""

    calibrated: Sequence[Any]
    compared: Sequence[Any]
    labels: Sequence[int] | None
    prepare: Callable[[Sequence[Any]], np.ndarray]

    def batches(self, which: Sequence[Any], size: int) -> Iterator[np.ndarray]:
        """Prepared pixels, (size, height, width, channels) each but for the last."""
        for start in range(0, len(which), size):
            yield self.prepare(which[start : start + size])

    def samples(self, batch: int | None) -> list[np.ndarray]:
        """What ranges are measured on, in the file's batches, the first pictures once more to fill the last."""
        size = batch or 1
        filled = [*self.calibrated, *self.calibrated[: -len(self.calibrated) % size]]
        return list(self.batches(filled, size))


def pictures(calibration: Any, spec: NetworkSpec, record: dict[str, Any] | None) -> Pictures:
    """A folder of pictures, or several as `zoo.preprocess` takes them, divided: four fifths and one fifth.

    A folder whose sub-folders are named as the network's classes, or as their indices, has labels. Without a record
    they must be an array of the network's own input. Raises ZooError for too few, and for what cannot be read.
    """
    if calibration is None:
        raise ZooError("int8 needs calibration=, a folder of pictures or a list of them like those it will see.")
    if isinstance(calibration, str | os.PathLike):
        calibration = images.find([os.fspath(calibration)])
    given = list(calibration)
    if len(given) < FEWEST:
        raise ZooError(
            f"int8 needs at least {FEWEST} pictures to calibrate with, some hundred are better; got {len(given)}."
        )
    order = np.random.default_rng(0).permutation(len(given))
    split = max(len(given) * 4 // 5, len(given) - COMPARED)
    first, second = order[:split][:CALIBRATED], order[split:]
    labels = _labels([given[index] for index in second], spec, record)
    if record is None:

        def prepare(some: Sequence[Any]) -> np.ndarray:
            pixels = np.stack([np.asarray(one, np.float32) for one in some])
            if pixels.shape[1:] != spec.input:
                raise ZooError(f"without a record, calibration must be pixels (n, *{spec.input}), not {pixels.shape}.")
            return pixels

    else:
        fitting = record | {"preprocessing": at_size(record["preprocessing"], spec.input[:2])}

        def prepare(some: Sequence[Any]) -> np.ndarray:
            return preprocess(list(some), fitting)

    return Pictures([given[index] for index in first], [given[index] for index in second], labels, prepare)


def _labels(some: Sequence[Any], spec: NetworkSpec, record: dict[str, Any] | None) -> Sequence[int] | None:
    if not record or not record["classes"] or not all(isinstance(one, str | os.PathLike) for one in some):
        return None
    known = {name: index for index, name in enumerate(class_names(record, spec.classes))}
    known |= {str(index): index for index in range(spec.classes)}
    found = [known.get(Path(one).parent.name) for one in some]
    return None if None in found else found  # type: ignore[return-value]  # none is None


def openvino_int8(network: Any, samples: list[np.ndarray]) -> Any:
    """An OpenVINO network with int8 weights and maps, but for depthwise convolutions, by ranges of the samples.

    These have few weights a channel and lose most: docs/performance.md has what. On a processor whose sums of bytes
    overflow, weights use half of their range, which costs accuracy: `processors`.
    """
    nncf = metadata.needs("nncf", "int8")
    fix = nncf.OverflowFix.DISABLE if processors() == "vnni" else nncf.OverflowFix.ENABLE
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # a progress bar
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(types=["GroupConvolution"], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
        )


def processors() -> str:
    """Which run OpenVINO's int8 that is made here: 'all', or 'vnni', those whose sums of bytes do not overflow."""
    return "vnni" if processor.INT8 & processor.features() else "all"


def litert_int8(path: Path, samples: list[np.ndarray]) -> None:
    """Replace a .tflite by one with int8 weights and maps, that takes and gives floats.

    Depthwise convolutions stay in float, as in OpenVINO's.
    """
    quantizer = metadata.needs("ai_edge_quantizer.quantizer", "int8")
    recipe = metadata.needs("ai_edge_quantizer.recipe", "int8")
    work = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    for end in ("INPUT", "OUTPUT", "DEPTHWISE_CONV_2D"):
        name = metadata.needs("ai_edge_quantizer.qtyping", "int8").TFLOperationName(end)
        work.update_quantization_recipe(regex=".*", operation_name=name, algorithm_key="no_quantize")
    with contextlib.redirect_stdout(io.StringIO()):
        ranges = work.calibrate({"serving_default": [{"image": batch} for batch in samples]})
        path.write_bytes(bytes(work.quantize(ranges).quantized_model))


def change(model: keras.Model, run: Callable[[np.ndarray], np.ndarray], given: Pictures) -> dict[str, Any]:
    """What int8 changes on pictures that its ranges were not measured on, as the file will say.

    same_first: share of pictures whose first class is float32's. error: mean difference of the logits, of the largest.
    accuracy, where labels are known: of both, as shares.
    """
    ours = np.concatenate([run(batch) for batch in given.batches(given.compared, 32)])
    theirs = np.concatenate([model.predict_on_batch(batch) for batch in given.batches(given.compared, 32)])
    first = [logits.argmax(axis=-1) for logits in (ours, theirs)]
    found: dict[str, Any] = {
        "calibrated_on": len(given.calibrated),
        "compared_on": len(given.compared),
        "same_first": float((first[0] == first[1]).mean()),
        "error": float(np.abs(ours - theirs).mean() / np.abs(theirs).max()),
    }
    if given.labels is not None:
        right = [float((one == np.asarray(given.labels)).mean()) for one in first]
        found["accuracy"] = {"int8": right[0], "float32": right[1]}
    return found
