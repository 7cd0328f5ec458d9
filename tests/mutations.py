"""Small valid files of each kind that is read, and ways to spoil them: what the fuzz and the tests of readers share."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import random
import re
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

# -- valid files ---------------------------------------------------------------------------------------


def old_h5(path: Path, whole: bool = False) -> Path:
    """Weights, or a whole model, as tf.keras 2.x wrote them: names in byte strings of one length, with ':0'."""
    import h5py

    bn = {f"stem_bn/{leaf}:0": np.full(8, n, "f4") for n, leaf in enumerate(("gamma", "beta"), 1)}
    bn |= {f"stem_bn/{leaf}:0": np.full(8, n, "f4") for n, leaf in enumerate(("moving_mean", "moving_variance"), 3)}
    layers: dict[str, dict[str, np.ndarray]] = {
        "input_1": {},
        "rescaling": {},
        "normalization": {
            "normalization/mean:0": np.zeros(3, "f4"),
            "normalization/variance:0": np.ones(3, "f4"),
            "normalization/count:0": np.array(0, "i8"),
        },
        "stem_conv": {"stem_conv/kernel:0": np.arange(216, dtype="f4").reshape(3, 3, 3, 8)},
        "stem_bn": bn,
        "block1a_dwconv": {"block1a_dwconv/depthwise_kernel:0": np.ones((3, 3, 8, 1), "f4")},
        "top": {"top/kernel:0": np.ones((8, 2), "f4"), "top/bias:0": np.zeros(2, "f4")},
    }
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = b'{"class_name": "Functional"}'
            file.create_group("optimizer_weights")["SGD/iter:0"] = np.array(3, "i8")
        root.attrs["layer_names"] = np.array([name.encode() for name in layers])
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in weights])
            for name, array in weights.items():
                group.create_dataset(name, data=array)
    return path


def h5_seeds(folder: Path) -> list[bytes]:
    """Old weights and a whole model, and what Keras 3 writes, in both of HDF5's file versions."""
    import h5py

    found = [old_h5(folder / "seed.h5", whole).read_bytes() for whole in (False, True)]
    kinds = ("FILE_ACCESS", "FILE_CREATE", "GROUP_CREATE")
    for newest in (False, True):
        # Without times, or the seeds would be others each second.
        options, root, inner = (h5py.h5p.create(getattr(h5py.h5p, kind)) for kind in kinds)
        if newest:
            options.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
        root.set_obj_track_times(False)
        inner.set_obj_track_times(False)
        place = os.fsencode(folder / "seed.h5")
        with h5py.File(h5py.h5f.create(place, h5py.h5f.ACC_TRUNC, fcpl=root, fapl=options)) as file:
            file.attrs["layer_names"] = [b"input", b"conv", b"bn"]
            for layer, leaves in {"input": (), "conv": ("kernel", "bias"), "bn": ("gamma", "beta")}.items():
                outer = h5py.Group(h5py.h5g.create(file.id, layer.encode(), gcpl=inner))
                outer.attrs["weight_names"] = [f"{layer}/{leaf}".encode() for leaf in leaves]  # of variable length
                group = h5py.Group(h5py.h5g.create(outer.id, layer.encode(), gcpl=inner))
                for n, leaf in enumerate(leaves):
                    group.create_dataset(leaf, data=np.full((3, 4), n, "f4"))
        found.append((folder / "seed.h5").read_bytes())
    (folder / "seed.h5").unlink()
    return found


def safetensors_seeds(folder: Path) -> list[bytes]:
    """Many types, scalars and empty arrays; one with metadata; one that carries its network's config."""
    from safetensors.numpy import save

    types = {code: np.ones((2, 3), code) for code in ("f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8", "?")}
    plain = {f"layer.{n}.weight": np.full((n, 4), n, "f4") for n in range(12)}
    carried = {"zoo": config_seeds(folder)[0].decode()}
    return [save({**types, "scalar": np.array(1.0)}), save(plain, {"format": "np"}), save(plain, carried)]


def pth_seeds(folder: Path) -> list[bytes]:
    """Both forms of torch.save, of the reader's own tests."""
    place = Path(__file__).parent / "weights" / "test_torch_file.py"
    spec = importlib.util.spec_from_file_location("fuzzed_torch_file", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    tree = module.example()
    with mock.patch("time.localtime", return_value=time.gmtime(1e9)):  # which a zip file notes
        zips = [module.zipped(tree), module.zipped(tree, protocol=4)]
    return [*zips, module.legacy(tree), module.legacy({"model": tree})]


def config_seeds(folder: Path) -> list[bytes]:
    """The configs of networks of every block kind, without and with records, small and large."""
    from weights import config
    from zoo import registry

    names = ("mobilenet-v2-0.35x", "resnet-20", "ghostnet-1.0x", "efficientnet-b0")
    return [config.dump(config.Config(registry.architecture(name), None)).encode() for name in names]


SEEDS: dict[str, Callable[[Path], list[bytes]]] = {
    "safetensors": safetensors_seeds,
    "pth": pth_seeds,
    "h5": h5_seeds,
    "config": config_seeds,
}

# -- any bytes -----------------------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with one to eight random changes, each of one of the kinds below."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8))):
        _mutate(rng, content, seeds)
    return bytes(content)


def _mutate(rng: random.Random, content: bytearray, seeds: list[bytes]) -> None:
    at = rng.randrange(len(content) + 1)
    if rng.random() < 0.3:  # where headers are
        at = min(at, rng.choice((16, 128, 1024)))
    size = rng.choice((1, 2, 4, 8, 16, 64, 512))
    how = rng.randrange(10)
    if how == 0 and at < len(content):
        content[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        del content[at:]
    elif how == 2:  # a splice of two files
        other = rng.choice(seeds)
        content[at:] = other[min(at, len(other)) if rng.random() < 0.5 else rng.randrange(len(other)) :]
    elif how == 3:
        content[at:at] = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 32, 91))]) * size
    elif how == 4:
        del content[at : at + size]
    elif how == 5:
        content[at:at] = content[at : at + size]
    elif how == 6:  # a number in binary: lengths, offsets, counts
        width = rng.choice((1, 2, 4, 8))
        content[at : at + width] = struct.pack("<Q", rng.choice(NUMBERS))[:width]
    elif how == 7:  # a number in text
        found = list(re.finditer(rb"\d+", content))
        if found:
            start, end = rng.choice(found).span()
            content[start:end] = _number(rng).encode()
    elif how == 8:  # two fields change places
        other_at = rng.randrange(len(content) + 1)
        first, second = content[at : at + size], content[other_at : other_at + size]
        content[other_at : other_at + size] = first
        content[at : at + size] = second
    elif how == 9 and at < len(content):
        content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(rng: random.Random) -> str:
    special, digits = rng.choice(NUMBERS), rng.choice((20, 400, 5000))
    return rng.choice((str(special), str(-special), str(rng.randrange(1000)), "9" * digits))


# -- JSON ----------------------------------------------------------------------------------------------


class Text(str):
    """JSON that is put into the text as it is."""


def mutated_json(rng: random.Random, text: bytes) -> bytes:
    """A JSON text with one to four structural changes: types, nesting, names, doubled keys, no-numbers, lengths."""
    tree: Any = copy.deepcopy(json.loads(text))
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(tree))
        if places:
            _change(rng, *rng.choice(places), places)
    return _text(rng, tree).encode("utf-8", "surrogatepass")


def _places(node: Any) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield node, key
        yield from _places(child)


def _change(rng: random.Random, parent: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    how = rng.randrange(7)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[rng.choice(("", "x" * 100_000, "__class__", "\ud800", f"{key}_", "0"))] = parent.pop(key)
    elif how == 2 and isinstance(parent, list):
        times = rng.choice((1, 2, 10, 2000)) if len(str(parent[key])) < 1000 else 1
        parent[key:key] = [copy.deepcopy(parent[key]) for _ in range(times)]  # or a later change would hit all
    elif how == 3 and isinstance(parent[key], int | float):
        parent[key] = Text(_number(rng)) if rng.random() < 0.8 else Text(f"{rng.randrange(1000)}e{rng.randrange(400)}")
    elif how == 4:
        other, where = rng.choice(places)
        if (isinstance(other, dict) and where not in other) or (isinstance(other, list) and where >= len(other)):
            return
        parent[key] = copy.deepcopy(other[where])
    else:
        parent[key] = rng.choice(
            (
                None, True, False, 0, -1, 0.5, "", [], {}, [[]], [None], {"": 0}, "x" * 200_000, "\x00\n\x1b[31m",
                Text("NaN"), Text("Infinity"), Text("-Infinity"), Text("1e999"), Text("-0"), Text("9" * 5000),
                Text("[" * 100_000), Text("[" * 900 + "]" * 900), Text('{"a":' * 50_000 + "0" + "}" * 50_000),
                Text('"\\ud800"'), Text('{"a":1,"a":2}'), Text(_number(rng)), [0] * 5000, str(parent[key])[:1000],
            )
        )  # fmt: skip


def _text(rng: random.Random, node: Any) -> str:
    if isinstance(node, Text):
        return str(node)
    if isinstance(node, dict):
        pairs = [f"{json.dumps(key)}: {_text(rng, value)}" for key, value in node.items()]
        if pairs and rng.random() < 0.002:
            pairs.append(rng.choice(pairs))  # a doubled key
        return "{" + ", ".join(pairs) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(_text(rng, item) for item in node) + "]"
    return json.dumps(node)


def spoilt(kind: str, rng: random.Random, seeds: list[bytes]) -> bytes:
    """A mutated file of a kind of SEEDS; JSON, also a safetensors header, is in half of them changed as a tree."""
    if kind == "config" and rng.random() < 0.5:
        return mutated_json(rng, rng.choice(seeds))
    if kind == "safetensors" and rng.random() < 0.5:
        content = rng.choice(seeds)
        end = 8 + int.from_bytes(content[:8], "little")
        header = mutated_json(rng, content[8:end])
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + content[end:]
    return mutated(rng, seeds)
