"""Weights of one network for a variant of it: other classes, other input channels, parts left out on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from scaling_rules.errors import ZooError, nearest, shown
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec

STEM = ("stem.conv.kernel", "stem.norm.moving_mean")


class Report(NamedTuple):
    """What became of each tensor, by path: our names, and the source's own for those in `unused`.

    loaded: as they are. adapted: changed to fit (the stem's, for other input channels; split, by growth). new: drawn at
    random.
    unused: in the source, but not in the network.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for what in ("adapted", "new", "unused"):
            names = getattr(self, what)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            some = ", ".join(shown(name) for name in names[:3])
            parts.append(f"{len(names)} {what} ({some}{more})" if names else f"none {what}")
        return ", ".join(parts)


def with_channels(spec: NetworkSpec, channels: int) -> NetworkSpec:
    """The spec for another number of input channels.

    One channel takes the average of mean and std, several repeat them in turn: a fourth is normalised as the first.
    """
    have = spec.input[2]
    if channels == have:
        return spec
    mean, std = (
        (sum(values) / have,) if channels == 1 else tuple(values[n % have] for n in range(channels))
        for values in (spec.mean, spec.std)
    )
    return replace(spec, input=(*spec.input[:2], channels), mean=mean, std=std)


def stem(source: NetworkSpec, given: Mapping[str, np.ndarray], channels: int) -> dict[str, np.ndarray]:
    """The stem's kernel (h, w, channels, out) for another number of input channels, and its moving mean.

    One channel: the kernels are summed, each scaled to the common std, and what the common mean shifts goes into
    the batch norm, so that a grey picture answers as its RGB copy does, but for the border that padding sees.
    Several: they repeat in turn and are scaled to the same total, so that RGB given twice answers as given once.
    """
    kernel, moving_mean = (np.asarray(given[path], np.float32) for path in STEM)
    have = source.input[2]
    if channels > 1:
        return {STEM[0]: kernel[:, :, np.arange(channels) % have] * np.float32(have / channels)}
    target = with_channels(source, 1)
    scale = np.array([target.std[0] / std for std in source.std], np.float32)
    shift = np.array([(target.mean[0] - m) / s for m, s in zip(source.mean, source.std, strict=True)], np.float32)
    return {
        STEM[0]: (kernel * scale[:, None]).sum(axis=2, keepdims=True),
        STEM[1]: moving_mean - np.einsum("hwio,i->o", kernel, shift),
    }


def adapt(
    source: NetworkSpec,
    given: Mapping[str, np.ndarray],
    target: NetworkSpec,
    *,
    skip: Sequence[str] | str = (),
    unused: Iterable[str] = (),
) -> tuple[dict[str, np.ndarray], Report]:
    """The arrays by path that a variant `target` of `source` starts from, and a report of all tensors.

    given: of `source`, by path. skip: shell patterns of paths that are not loaded ('head.classifier.*'). unused:
    names that the source's file had besides. A classifier of another width, and whatever has another shape, is
    new. Raises ZooError for a pattern that no path matches.
    """
    table = tensors(target)
    skip = (skip,) if isinstance(skip, str) else skip
    for pattern in skip:
        if not any(fnmatchcase(path, pattern) for path in table):
            hint = nearest(pattern, table) or f" Paths are such as {next(iter(table))}."
            raise ZooError(f"skip: no tensor of {target.name} matches {pattern!r}.{hint}")
    changed: dict[str, np.ndarray] = {}
    if source.input[2] != target.input[2] and all(path in given for path in STEM):
        changed = stem(source, given, target.input[2])
    values: dict[str, np.ndarray] = {}
    found: dict[str, list[str]] = {"loaded": [], "adapted": [], "new": []}
    for path, tensor in table.items():
        array = changed.get(path, given.get(path))
        if array is None or array.shape != tensor.shape or any(fnmatchcase(path, pattern) for pattern in skip):
            found["new"].append(path)
            continue
        values[path] = array
        found["adapted" if path in changed else "loaded"].append(path)
    left = [path for path in given if path not in values]
    return values, Report(tuple(found["loaded"]), tuple(found["adapted"]), tuple(found["new"]), (*left, *unused))
