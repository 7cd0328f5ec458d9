"""Tensors from one layout to another: names by `layouts`, axes by kind, and strictly one for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.shapes import Tensor, tensors
from scaling_rules.spec import NetworkSpec
from weights.convert.layouts import LAYOUTS, modules

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


def _names(spec: NetworkSpec, layout: str) -> Iterator[tuple[str, str, Tensor]]:
    """(our tensor path, their tensor name, our tensor) of every weight."""
    named = modules(spec, layout)
    keras = layout.startswith("keras")
    for path, tensor in tensors(spec).items():
        module, _, leaf = path.rpartition(".")
        yield path, f"{named[module]}/{leaf}" if keras else f"{named[module]}.{TORCH[leaf]}", tensor


def _from_torch(path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """OIHW or OI to Keras' axes; a dense layer may be stored as a 1x1 convolution."""
    if array.ndim == 4 and len(shape) == 2 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    if array.ndim == 2:
        return array.T
    if array.ndim == 4:
        # depthwise kernels are (C, 1, h, w) there and (h, w, C, 1) here
        return array.transpose(2, 3, 0, 1) if shape[3] == 1 and array.shape[1] == 1 else array.transpose(2, 3, 1, 0)
    return array


def _to_torch(path: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array.T
        # timm keeps GhostNet's hidden layer as a 1x1 convolution
        return array[:, :, None, None] if path.startswith("head.hidden.") else array
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if array.shape[3] == 1 else array.transpose(3, 2, 0, 1)
    return array


def from_layout(spec: NetworkSpec, layout: str, theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's tensors by spec path, in Keras' axes and float32, from a foreign state dict.

    Strict: every tensor of theirs is used exactly once and every one of ours is found, with equal shape.
    Raises ZooError naming the tensors that are missing, left over or of another shape.
    """
    ours: dict[str, np.ndarray] = {}
    left = {name for name in theirs if not name.endswith(IGNORED)}
    missing, misshapen = [], []
    for path, name, tensor in _names(spec, layout):
        if name not in left:
            missing.append(name)
            continue
        left.remove(name)
        array = theirs[name] if layout.startswith("keras") else _from_torch(path, theirs[name], tensor.shape)
        if array.shape != tensor.shape:
            misshapen.append(f"tensor {name} has shape {theirs[name].shape}, which does not give {path} {tensor.shape}")
            continue
        ours[path] = np.ascontiguousarray(array, dtype=np.float32)
    if missing or left:
        raise ZooError(f"{spec.name}, layout {layout}: {_listing('missing', missing)}; {_listing('unused', left)}.")
    if misshapen:  # after the names: a file of another family shares a few of them
        more = f", and {len(misshapen) - 1} more do not fit" if len(misshapen) > 1 else ""
        raise ZooError(f"{spec.name}: {misshapen[0]}{more}.")
    return ours


def to_layout(spec: NetworkSpec, layout: str, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `from_layout`, without PyTorch's batch counters."""
    keras = layout.startswith("keras")
    return {
        name: np.ascontiguousarray(ours[path] if keras else _to_torch(path, ours[path]))
        for path, name, _ in _names(spec, layout)
    }


def detect(spec: NetworkSpec, theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's tensors from a file in our own or any known layout, told by the tensors' names.

    Raises ZooError, as `from_layout` does, by the layout that fits the names best.
    """
    own = tensors(spec)
    overlap: dict[str, int] = {"": len(own.keys() & theirs.keys())}
    for layout in LAYOUTS:
        try:
            overlap[layout] = sum(name in theirs for _, name, _ in _names(spec, layout))
        except ZooError:  # a layout of other families
            continue
    best = max(overlap, key=lambda layout: overlap[layout])
    if not overlap[best]:
        found = next(iter(theirs), "none")
        raise ZooError(f"{spec.name}: no tensor name is one of its own or of a known layout; the first is {found!r}.")
    return from_layout(spec, best, theirs) if best else check(spec, theirs)


def check(spec: NetworkSpec, ours: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors by spec path as they are. Raises ZooError for missing, unused and misshapen ones."""
    table = tensors(spec)
    missing, left = table.keys() - ours.keys(), ours.keys() - table.keys()
    if missing or left:
        raise ZooError(f"{spec.name}: {_listing('missing', missing)}; {_listing('unused', left)}.")
    for path, tensor in table.items():
        if ours[path].shape != tensor.shape:
            raise ZooError(f"{spec.name}: tensor {path} has shape {ours[path].shape}, not {tensor.shape}.")
    return dict(ours)


def _listing(what: str, names: set[str] | list[str]) -> str:
    if not names:
        return f"none {what}"
    ordered = names if isinstance(names, list) else sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"{what} {', '.join(ordered[:3])}{more}"
