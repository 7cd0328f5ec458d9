"""Tensors in the user's cache: converted once to safetensors, written atomically, verified each time."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import torch_file
from weights.convert.tensors import check, detect, from_layout
from weights.fetch import source_file
from weights.manifest import Record

log = logging.getLogger("zoo")


def cache_dir() -> Path:
    """Folder of downloaded and converted weights: $ZOO_CACHE, else zoo/ in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("ZOO_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zoo"


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 of names, shapes, types and bytes, in the order of the names: the same for any file that holds them."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file atomically: beside the target first, then renamed over it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def read(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a .safetensors file, or of a PyTorch checkpoint (.pth, .pt, .bin), which is never executed.

    Raises ZooError naming the file when it is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"no weights file {str(path)!r}.")
    if path.suffix in (".pth", ".pt", ".bin"):
        return torch_file.read(path)
    if path.suffix != ".safetensors":
        raise ZooError(f"weights file {str(path)!r} must end in .safetensors, .pth, .pt or .bin.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ZooError(f"weights file {str(path)!r} cannot be read: {' '.join(str(error).split())}") from None


def local(spec: NetworkSpec, path: str | Path) -> dict[str, np.ndarray]:
    """The network's tensors from a user's own file, in our names or in a layout known for its family.

    Raises ZooError for a file that cannot be read and for tensors that do not fit the network.
    """
    try:
        return detect(spec, read(path))
    except ZooError as error:
        raise error if str(path) in str(error) else ZooError(f"{path}: {error}") from None


def _cached(path: Path, spec: NetworkSpec, record: Record) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        tensors = check(spec, read(path))
        if digest(tensors) == record["tensors_sha256"]:
            return tensors
        reason = "its hash is not the record's"
    except ZooError as error:
        reason = str(error)
    log.warning("zoo: cache file %s is corrupted and is made again (%s)", path, reason)
    return None


def published(spec: NetworkSpec, record: Record) -> dict[str, np.ndarray]:
    """The tensors of a record, by spec path: from the cache if they are there and intact, else from a source.

    A source file is verified against the record's sha256, converted, verified again and written to the
    cache; where the cache cannot be written a warning says so and the tensors are returned all the same.
    Raises ZooError when no source can be had or one holds other bytes than the record says.
    """
    name = f"{record['name']}.{record['tag']}"
    path = cache_dir() / "weights" / f"{name}-{record['tensors_sha256'][:8]}.safetensors"
    tensors = _cached(path, spec, record)
    if tensors is not None:
        return tensors
    with source_file(record) as source:
        tensors = from_layout(spec, record["layout"], read(source))
    if digest(tensors) != record["tensors_sha256"]:
        raise ZooError(f"{name}: the converted tensors are not those of its record; nothing was cached.")
    try:
        write(path, tensors)
    except OSError as error:
        log.warning(
            "zoo: cannot write the cache %s (%s): the weights are converted again each time",
            path.parent,
            error.strerror,
        )
    return tensors
