"""A network to the engine that answers with it: converted once, kept in the cache, converted anew when damaged."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import cache, store
from zoo import engines, metadata
from zoo.engines import Engine

if TYPE_CHECKING:
    import keras

log = logging.getLogger("zoo")

CONVERTERS = {
    "openvino": ("keras", "tensorflow", "openvino"),
    "onnxruntime": ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    "litert": ("keras", "tensorflow", "ai-edge-litert"),
}
"""Engine -> the packages whose versions decide what its file is. A file made by others is made anew."""


class Source(NamedTuple):
    """What an engine file is made of, and known by.

    values: arrays by tensor path, None where some are drawn at random, so that nothing is worth keeping.
    """

    network: NetworkSpec
    values: Mapping[str, np.ndarray] | None
    record: dict[str, Any] | None
    size: tuple[int | None, int | None]
    include_preprocessing: bool

    def key(self, engine: str) -> str:
        """sha256 over the network, its weights, how its input is prepared, and the versions of the converters."""
        assert self.values is not None
        stated = {
            "network": self.network.to_json(),
            "tensors": store.digest(self.values),
            "record": self.record,
            "size": self.size,
            "include_preprocessing": self.include_preprocessing,
            "format": metadata.FORMAT,
            "converters": {name: packages.version(name) for name in CONVERTERS[engine]},
        }
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def compiled(
    build: Callable[[], keras.Model],
    source: Source,
    engine: str,
    *,
    precision: str | None,
    threads: int | None,
    batch: int | None,
) -> Engine:
    """The engine for a network that `build` makes in Keras, which is called only where no file of it is in the cache.

    Of several processes one converts and the others wait. A damaged file, also one that the engine refuses, is
    converted again; where the cache cannot be written, a warning says that each process converts. Raises ZooError for
    an engine that is not installed and a precision that the processor lacks.
    """
    name = engines.fastest() if engine == "auto" else engine
    engines.check(name, precision, threads, batch)
    if name == "keras":
        return _keras(build(), batch)
    options = {"precision": engines.computes_in(name, precision), "threads": threads, "batch": batch}
    suffix = metadata.SUFFIXES[engines.FORMATS[name]]
    if source.values is None:
        return _unkept(build, suffix, options)
    root = cache.cache_dir()
    path = root / "engines" / f"{source.network.name}-{source.key(name)[:16]}{suffix}"
    cache.refuse_links(path, root)
    return _cached(path, options) or _made(build, path, root, options)


def _cached(path: Path, options: dict[str, Any]) -> Engine | None:
    if not path.is_file():
        return None
    try:
        for file in _files(path):
            cache.check_seal(file)
        return engines.open_file(path, **options)
    except (ZooError, OSError) as error:
        log.warning("zoo: engine file %s is corrupted and is made again (%s)", path, str(error).rstrip("."))
    return None


def _files(path: Path) -> tuple[Path, ...]:
    """The file and, of OpenVINO's two, the other."""
    return (path.with_suffix(".bin"), path) if path.suffix == ".xml" else (path,)


def _made(build: Callable[[], keras.Model], path: Path, root: Path, options: dict[str, Any]) -> Engine:
    with cache.lock(root, path.name):
        found = _cached(path, options) if path.is_file() else None  # another process may have made it
        if found:
            return found
        if reason := _refuses(path.parent):
            log.warning(
                "zoo: cannot write the cache %s (%s): the network is converted again each time", path.parent, reason
            )
            return _unkept(build, path.suffix, options)
        _export(build(), path)
        for file in _files(path):
            cache.seal(file, {})
        return engines.open_file(path, **options)


def _refuses(folder: Path) -> str | None:
    """Why nothing can be written into a folder, None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror


def _unkept(build: Callable[[], keras.Model], suffix: str, options: dict[str, Any]) -> Engine:
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"net{suffix}"
        _export(build(), path)
        return engines.open_file(path, **options)


def _export(model: keras.Model, path: Path) -> None:
    """`zoo.export`, imported with Keras only where a file must be made."""
    from zoo import exporting

    plain = any(layer.name == "normalize" for layer in model.layers)
    exporting.export(model, path, include_preprocessing=plain)


def _keras(model: keras.Model, batch: int | None) -> Engine:
    from zoo import exporting

    spec = exporting.sized(model)
    told = exporting.describe(model, spec, (batch, *spec.input), "float32")
    return Engine(model.predict_on_batch, told, name="keras", precision="float32", threads=None, batch=batch)
