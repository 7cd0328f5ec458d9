"""Weights files of every kind as arrays by name. Nothing in them is executed; what they declare is checked first."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scaling_rules.errors import ZooError, shown
from weights import config, h5_file, torch_file

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".hdf5")

METADATA = "zoo"
"""Key, in a safetensors file's metadata, of the config of the network that its tensors are of."""

MAX_HEADER = 1 << 24
"""Bytes. A header takes some 100 a tensor, and a config in it at most config.MAX_BYTES."""

MAX_DIMS = 32
"""NumPy's own limit is 64."""

# bfloat16 has no NumPy type: it is read as its upper half of a float32.
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class Opened:
    """A file that stays open, and is closed, with the tensors that are read from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` on. Raises ZooError where the file has become shorter."""
        data = os.pread(self.descriptor, size, start)
        if len(data) != size:
            raise ZooError(f"weights file {str(self.path)!r} became shorter while it was read.")
        return data


class Stored(NamedTuple):
    """A tensor of a safetensors file, read each time an array is made of it: only one is in memory at a time."""

    file: Opened
    start: int
    size: int
    stored: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Of the array: float32 for bfloat16, which NumPy does not have."""
        return np.dtype("<f4" if self.stored == "BF16" else _DTYPES[self.stored])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.frombuffer(self.file.read(self.start, self.size), _DTYPES[self.stored]).reshape(self.shape)
        if self.stored == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array if dtype is None else array.astype(dtype, copy=False)


class File(NamedTuple):
    """tensors: by name, arrays or Stored. config: of the network, where the file carries one.

    layers: names of a Keras .h5, in order.
    """

    tensors: Mapping[str, Any]
    config: config.Config | None = None
    layers: tuple[str, ...] = ()


def read(path: str | Path) -> File:
    """The tensors of a .safetensors file, a PyTorch checkpoint (.pth, .pt, .bin) or a Keras .h5 of the old layout.

    Tensors of a .safetensors are read when an array is made of them. Raises ZooError, one line naming the file, when it
    is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"no weights file {str(path)!r}.")
    if path.suffix.lower() in (".pth", ".pt", ".bin"):
        return File(torch_file.read(path))
    if path.suffix.lower() in (".h5", ".hdf5"):
        tensors, layers = h5_file.read(path)
        return File(tensors, layers=tuple(layers))
    if path.suffix.lower() == ".keras":
        raise ZooError(f"{str(path)!r} is a whole Keras model: open it with keras.models.load_model.")
    if path.suffix.lower() != ".safetensors":
        raise ZooError(f"weights file {str(path)!r} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    try:
        return _safetensors(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ZooError(f"weights file {str(path)!r} cannot be read: {' '.join(str(error)[:300].split())}") from None


def _safetensors(path: Path) -> File:
    opened = Opened(path)
    size = int.from_bytes(opened.read(0, 8), "little")
    if size > MAX_HEADER:
        raise ValueError(f"its header claims {size:,} bytes; at most {MAX_HEADER:,}")
    header = json.loads(opened.read(8, size))
    with safe_open(path, framework="numpy") as checked:  # offsets, shapes and sizes against the file
        carried = (checked.metadata() or {}).get(METADATA)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ZooError(f"tensor {shown(name)!r} is of type {entry['dtype']}; read are {', '.join(_DTYPES)}.")
        if len(entry["shape"]) > MAX_DIMS:
            raise ZooError(f"tensor {shown(name)!r} has {len(entry['shape'])} dimensions; at most {MAX_DIMS}.")
        low, high = entry["data_offsets"]
        tensors[name] = Stored(opened, 8 + size + low, high - low, entry["dtype"], tuple(entry["shape"]))
    return File(tensors, config.parse(carried) if carried else None)


def write(path: Path, tensors: Mapping[str, Any], carried: config.Config | None = None) -> None:
    """Write a .safetensors file atomically: beside the target first, then renamed over it. Raises OSError."""
    metadata = {METADATA: config.dump(carried)} if carried else None
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(arrays, temporary, metadata)
        except SafetensorError as error:  # of its Rust code: a full disk, no permission
            raise OSError(errno.EIO, " ".join(str(error).split())) from None


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """The path of a new file beside `path`, which replaces it when the block ends well, and else is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
