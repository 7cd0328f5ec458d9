"""A folder of pictures as an index: which files there are, of which class, and which of them train.

Plain os.walk and not TFDS' ImageFolder: that one has no sub-splits, no seed, and takes any file for a picture.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling_rules.errors import ZooError, nearest, shown, unknown
from zoo.images import SUFFIXES

log = logging.getLogger("zoo")

DECODED = frozenset(".bmp .gif .jfif .jpe .jpeg .jpg .png .webp".split())  # noqa: SIM905
"""The file name endings (lower case) that TensorFlow decodes; other pictures are refused by name."""

SPLITS = ("train", "minival", "validation", "val", "test")
"""The folders that are parts of a data set; 'val' and 'validation' are the same part."""

TEST_SHARE = 0.2
"""Of a folder without splits."""


@dataclass(frozen=True)
class Index:
    """The pictures of one part of a data set. classes: names in order; labels: int64 (n,), places in `classes`."""

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray


def share(key: str, purpose: str) -> float:
    """A number in [0, 1) that depends on `key` and `purpose` alone: the same on every machine, at every time."""
    digest = hashlib.sha256(f"{purpose}/{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def parts_of(root: Path) -> dict[str, Path]:
    """The folders in `root` that are parts of a data set, by name; none where its folders are classes.

    Raises ZooError where there is no such folder.
    """
    if not root.is_dir():
        raise ZooError(f"no such folder of pictures: {shown(root)!r}")
    found = [path for path in _folders(root) if path.name in SPLITS and _folders(path)]
    return {"validation" if path.name == "val" else path.name: path for path in found}


def read(root: Path, split: str, fold: tuple[int, int] | None = None) -> Index:
    """The pictures of a part of the data set at `root`.

    Either root/train/CLASS/x.jpg and root/validation (or val, test, minival)/CLASS/x.jpg, or root/CLASS/x.jpg. A folder
    without splits is split by a hash of 'CLASS/x.jpg': a fifth is 'test', the rest 'train' and 'minival', and 'all' is
    everything. 'minival', where it has no folder, is a tenth of the training pictures by another hash, or at most about
    10,000; with fold (i, k) the i-th k-th, counted from 1. 'train' are the others.

    The classes are those of train, in the order of Python's sort; of the part itself where there is no train.

    Raises ZooError: no such folder or part, no pictures, a class without pictures or that train does not have, a
    picture that TensorFlow cannot decode.
    """
    parts = parts_of(root)
    if not parts:
        return _unsplit(root, split, fold)
    wanted = "validation" if split == "val" else split
    own = "minival" in parts and (fold is None or "train" not in parts)
    valid = {*parts, "minival"} if "train" in parts else set(parts)
    if wanted not in valid:
        raise unknown(f"split of {shown(root)}", split, sorted(valid))
    source = "train" if wanted == "minival" and not own else wanted
    classes = _classes(parts.get("train", parts[source]))
    for name in _classes(parts[source]):
        if name not in classes:
            raise ZooError(f"{shown(parts[source] / name)}: train has no such class.{nearest(name, classes)}")
    lacking = [name for name in classes if not (parts[source] / name).is_dir()]
    if lacking:
        log.warning("zoo: %s lacks %d classes of train: %s", parts[source], len(lacking), shown(", ".join(lacking)))
    index = _index(parts[source], classes)
    return index if source != "train" or own else _held(parts[source], index, wanted, fold)


def _unsplit(root: Path, split: str, fold: tuple[int, int] | None) -> Index:
    valid = ("train", "minival", "test", "all")
    if split not in valid:
        raise unknown(f"split of {shown(root)}, which has no folder for it", split, valid)
    index = _index(root, _classes(root))
    if split == "all":
        return index
    test = np.array([share(key, "test") < TEST_SHARE for key in _keys(root, index)])
    index = _chosen(index, test if split == "test" else ~test)
    return index if split == "test" else _held(root, index, split, fold)


def _held(folder: Path, index: Index, split: str, fold: tuple[int, int] | None) -> Index:
    low, high = (
        (0.0, min(0.1, 10_000 / len(index.paths))) if fold is None else ((fold[0] - 1) / fold[1], fold[0] / fold[1])
    )
    shares = np.array([share(key, "minival") for key in _keys(folder, index)])
    minival = (shares >= low) & (shares < high)
    return _chosen(index, minival if split == "minival" else ~minival)


def _chosen(index: Index, mask: np.ndarray) -> Index:
    return Index(index.classes, tuple(p for p, kept in zip(index.paths, mask, strict=True) if kept), index.labels[mask])


def _keys(root: Path, index: Index) -> list[str]:
    """'CLASS/x.jpg' of each picture, with / on every system."""
    return [path[len(str(root)) + 1 :].replace(os.sep, "/") for path in index.paths]


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."]


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in _folders(folder)))


def _index(folder: Path, classes: tuple[str, ...]) -> Index:
    if not classes:
        raise ZooError(f"{shown(folder)} has no class folders: pictures lie in CLASS/x.jpg below it.")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        found = sorted(_pictures(folder / name))
        if not found:
            raise ZooError(f"class folder {shown(folder / name)} has no pictures ({' '.join(sorted(DECODED))}).")
        paths += found
        labels += [label] * len(found)
    return Index(classes, tuple(paths), np.array(labels, np.int64))


def _pictures(folder: Path) -> list[str]:
    found = []
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million files takes long
            if suffix in DECODED and name[0] != ".":  # macOS leaves a '._x.jpg' that is no picture
                found.append(f"{root}{os.sep}{name}")
            elif suffix in SUFFIXES and name[0] != ".":
                raise ZooError(
                    f"{shown(f'{root}{os.sep}{name}')}: {suffix} is not read in training; convert it to one of "
                    f"{' '.join(sorted(DECODED))}."
                )
    return found
