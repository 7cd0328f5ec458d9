"""Tensors from one layout to another: names by `layouts`, axes by kind, and strictly one for one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from scaling_rules.errors import ZooError, shown
from scaling_rules.shapes import Tensor, tensors
from scaling_rules.spec import NetworkSpec
from weights.adapt import with_channels
from weights.convert.layouts import LAYOUTS, modules

Tensors = Mapping[str, Any]
"""By name: NumPy arrays, or what NumPy makes an array of when asked, such as a tensor that is still in its file."""

TORCH = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

IGNORED = "num_batches_tracked"
"""A counter that PyTorch keeps beside each batch norm; nothing here depends on it."""

NORMALIZATION = re.compile(r"normalization(?:_\d+)?/(mean|variance|count)")
"""What Keras' Normalization layer keeps inside keras.applications' EfficientNets; Keras numbers further ones."""

IMAGENET_STD = np.array([0.229, 0.224, 0.225])

AS_CONVOLUTION = {"timm": "head.hidden.", "keras.applications.mobilenet": "head.classifier."}
"""Dense layers that a layout keeps as 1x1 convolutions: timm's GhostNet, Keras' MobileNetV1."""


def _names(spec: NetworkSpec, layout: str) -> Iterator[tuple[str, str, Tensor]]:
    """(our tensor path, their tensor name, our tensor) of every weight; layout '' is our own naming."""
    named = modules(spec, layout) if layout else {}
    keras = layout.startswith("keras")
    for path, tensor in tensors(spec).items():
        if not layout:
            yield path, path, tensor
            continue
        module, _, leaf = path.rpartition(".")
        yield path, f"{named[module]}/{leaf}" if keras else f"{named[module]}.{TORCH[leaf]}", tensor


def _from_keras(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As it is; a dense layer may be stored as a 1x1 convolution (1, 1, I, O)."""
    return array[0, 0] if array.ndim == 4 and len(shape) == 2 and array.shape[:2] == (1, 1) else array


def _from_torch(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """OIHW or OI to Keras' axes; a dense layer may be stored as a 1x1 convolution."""
    if array.ndim == 4 and len(shape) == 2 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    if array.ndim == 2:
        return array.T
    if array.ndim == 4:
        # depthwise kernels are (C, 1, h, w) there and (h, w, C, 1) here
        return array.transpose(2, 3, 0, 1) if shape[3] == 1 and array.shape[1] == 1 else array.transpose(2, 3, 1, 0)
    return array


def _to_torch(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return array.T
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if array.shape[3] == 1 else array.transpose(3, 2, 0, 1)
    return array


def _passed_over(layout: str, name: str) -> bool:
    return name.endswith(IGNORED) or (layout.startswith("keras") and NORMALIZATION.fullmatch(name) is not None)


class Match(NamedTuple):
    """What of a foreign state dict fits a network.

    tensors: ours by path, in Keras' axes. missing, unused: their names, in order. misshapen: a sentence for
    each tensor whose shape does not give ours.
    """

    tensors: dict[str, np.ndarray]
    missing: list[str]
    unused: list[str]
    misshapen: list[str]


def match(spec: NetworkSpec, layout: str, theirs: Tensors) -> Match:
    """Pair the network's tensors with a foreign state dict's; `layout` '' is our own naming.

    Arrays of our own naming stay as they are, others become float32. Batch counters and what Keras' in-graph
    normalisation keeps (`normalized` reads that) count as used.
    """
    found = Match({}, [], [], [])
    left = dict.fromkeys(name for name in theirs if not _passed_over(layout, name))
    for path, name, tensor in _names(spec, layout):
        if name not in left:
            found.missing.append(name)
            continue
        left.pop(name)
        array = theirs[name]
        if layout:
            array = np.asarray(array)
            array = _from_keras(array, tensor.shape) if layout.startswith("keras") else _from_torch(array, tensor.shape)
        if array.dtype.kind != "f" and not layout:
            found.misshapen.append(f"tensor {name} is of type {array.dtype}, not a float")
            found.unused.append(name)
        elif array.shape != tensor.shape:
            gives = f"which does not give {path} {tensor.shape}" if layout else f"not {tensor.shape}"
            found.misshapen.append(f"tensor {name} has shape {theirs[name].shape}, {gives}")
            found.unused.append(name)
        else:
            found.tensors[path] = np.ascontiguousarray(array, dtype=np.float32) if layout else array
    found.unused.extend(left)
    return found


def require(spec: NetworkSpec, layout: str, found: Match) -> None:
    """Raise ZooError, naming the tensors, unless every one of theirs and of ours was used, with equal shapes."""
    where = f"{spec.name}, layout {layout}" if layout else spec.name
    misshapen = {sentence.split()[1] for sentence in found.misshapen}
    unused = [name for name in found.unused if name not in misshapen]
    if found.missing or unused:
        raise ZooError(f"{where}: {_listing('missing', found.missing)}; {_listing('unused', unused)}.")
    if found.misshapen:  # after the names: a file of another family shares a few of them
        more = f", and {len(found.misshapen) - 1} more do not fit" if len(found.misshapen) > 1 else ""
        raise ZooError(f"{spec.name}: {found.misshapen[0]}{more}.")


def from_layout(spec: NetworkSpec, layout: str, theirs: Tensors) -> dict[str, np.ndarray]:
    """The network's tensors by spec path, in Keras' axes and float32, from a foreign state dict.

    Strict: every tensor of theirs is used exactly once and every one of ours is found, with equal shape.
    Raises ZooError naming the tensors that are missing, left over or of another shape.
    """
    found = match(spec, layout, theirs)
    require(spec, layout, found)
    return found.tensors


def to_layout(spec: NetworkSpec, layout: str, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `from_layout`, without PyTorch's batch counters."""
    keras, convolution = layout.startswith("keras"), AS_CONVOLUTION.get(layout)
    theirs = {}
    for path, name, tensor in _names(spec, layout):
        array = ours[path]
        if convolution and path.startswith(convolution) and len(tensor.shape) == 2:
            array = array[None, None]
        theirs[name] = np.ascontiguousarray(array if keras else _to_torch(array))
    return theirs


def detect(spec: NetworkSpec, theirs: Tensors) -> str:
    """The layout that the names of a state dict fit best: '' for our own, else a key of LAYOUTS.

    Raises ZooError where none of the names is known.
    """
    overlap: dict[str, int] = {}
    for layout in ("", *LAYOUTS):
        try:
            overlap[layout] = sum(name in theirs for _, name, _ in _names(spec, layout))
        except ZooError:  # a layout of other families
            continue
    best = max(overlap, key=lambda layout: overlap[layout])
    if not overlap[best]:
        found = next(iter(theirs), "none")
        raise ZooError(
            f"{spec.name}: no tensor name is one of its own or of a known layout; the first is {shown(found)!r}."
        )
    return best


def as_stored(spec: NetworkSpec, layout: str, theirs: Tensors) -> NetworkSpec:
    """The spec with the number of classes and of input channels that a state dict was made for."""
    ends = {path: theirs.get(name) for path, name, _ in _names(replace(spec, classes=spec.classes or 1), layout)}
    torch = layout and not layout.startswith("keras")
    classifier, stem = ends["head.classifier.dense.kernel"], ends["stem.conv.kernel"]
    classes = 0
    if classifier is not None and len(classifier.shape) >= 2:
        classes = classifier.shape[0] if torch else classifier.shape[-1]
    channels = spec.input[2]
    if stem is not None and len(stem.shape) == 4:
        channels = stem.shape[1] if torch else stem.shape[2]
    return with_channels(replace(spec, classes=classes), channels)


def normalized(spec: NetworkSpec, theirs: Tensors, layers: Sequence[str] = ()) -> NetworkSpec:
    """The spec with the normalisation that a keras.applications EfficientNet file carries, as our one constant layer.

    Their graph computes (pixel / 255 - mean) / sqrt(variance) and, in the graph of weights='imagenet', divides by
    sqrt(std) of ImageNet once more: the published files hold std where the layer expects the variance
    (keras/src/applications/efficientnet.py; tensorflow issue 49930). `layers`, the layer names a file lists, tell
    one graph from the other by their second rescaling; so does a variance that is ImageNet's std.
    """
    stored: dict[str, list[np.ndarray]] = {"mean": [], "variance": [], "count": []}
    for name, array in theirs.items():
        if found := NORMALIZATION.fullmatch(name):
            stored[found[1]].append(array)
    if not stored["mean"] and not stored["variance"]:
        return spec
    if len(stored["mean"]) != 1 or len(stored["variance"]) != 1:
        raise ZooError(f"{spec.name}: the file holds {len(stored['mean'])} normalization/mean, not 1.")
    stored_mean, stored_variance = stored["mean"][0], stored["variance"][0]
    mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in (stored_mean, stored_variance))
    if mean.shape != (spec.input[2],) or variance.shape != mean.shape:
        raise ZooError(f"{spec.name}: normalization/mean and variance are not of {spec.input[2]} channels.")
    if not (np.isfinite(mean).all() and (variance > 0).all() and np.isfinite(variance).all()):
        raise ZooError(f"{spec.name}: normalization/variance must be above zero, not {variance.tolist()}.")
    std = np.sqrt(variance)
    twice = sum(name.startswith("rescaling") for name in layers) > 1
    if twice or np.allclose(variance, IMAGENET_STD, atol=1e-4):
        std = std * np.sqrt(IMAGENET_STD)
    # Stored in float32: more digits than that would be noise, and would differ from the record's for none.
    return replace(
        spec, mean=tuple(float(f"{v:.6g}") for v in 255 * mean), std=tuple(float(f"{v:.6g}") for v in 255 * std)
    )


def _listing(what: str, names: set[str] | list[str]) -> str:
    if not names:
        return f"none {what}"
    ordered = names if isinstance(names, list) else sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"{what} {', '.join(shown(name) for name in ordered[:3])}{more}"
