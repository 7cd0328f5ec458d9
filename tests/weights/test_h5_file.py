"""The HDF5 reader against files that Keras wrote, files as old TensorFlow wrote them, and hostile ones."""

from __future__ import annotations

import os
import random
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from mutations import h5_seeds, mutated, old_h5

from scaling_rules.errors import ZooError
from weights import h5_file
from weights.h5_file import read


def refused(path: Path) -> str:
    with pytest.raises(ZooError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 500 + len(str(path))
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def good(tmp_path) -> Path:
    return old_h5(tmp_path / "good.h5")


def same(found: dict[str, np.ndarray], model: keras.Model) -> None:
    expected = {f"{layer.name}/{w.name}": np.array(w) for layer in model.layers for w in layer.weights}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.c_contiguous
        assert found[name].flags.writeable


# -- what is read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "EfficientNetB0"])
def test_what_keras_writes(tmp_path, name):
    narrow = {"MobileNet": {"alpha": 0.25}, "MobileNetV2": {"alpha": 0.35}, "EfficientNetB0": {}}[name]
    model = getattr(keras.applications, name)(weights=None, classes=10, **narrow)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32":  # not the count of a Normalization
            weight.assign(rng.standard_normal(weight.shape))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        save_weights_to_hdf5_group(file, model)
    model.save(tmp_path / "model.h5")
    for path in (tmp_path / "w.h5", tmp_path / "model.h5"):
        tensors, layers = read(path)
        same(tensors, model)
        assert layers == tuple(layer.name for layer in model.layers)
    if name == "EfficientNetB0":
        assert any(layer.startswith("rescaling") for layer in layers)  # numbered, where a test made one before
        assert tensors["normalization/count"].dtype == np.int64
        assert tensors["block1a_dwconv/kernel"].shape == (3, 3, 32, 1)


def test_what_old_tensorflow_wrote(tmp_path):
    for whole in (False, True):
        tensors, layers = read(old_h5(tmp_path / "x.h5", whole))
        assert layers == ("input_1", "rescaling", "normalization", "stem_conv", "stem_bn", "block1a_dwconv", "top")
        assert list(tensors) == [
            *(f"normalization/{leaf}" for leaf in ("mean", "variance", "count")),
            "stem_conv/kernel",
            *(f"stem_bn/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")),
            "block1a_dwconv/kernel",
            *(f"top/{leaf}" for leaf in ("kernel", "bias")),
        ]
        np.testing.assert_array_equal(tensors["stem_conv/kernel"], np.arange(216, dtype="f4").reshape(3, 3, 3, 8))
        assert tensors["normalization/count"].shape == ()


def test_nested_and_sequential_models(tmp_path):
    dense = keras.layers.Dense
    inner = keras.Sequential([keras.Input((4,)), dense(3, name="a"), dense(2, name="b")], name="inner")
    lone = keras.Sequential([keras.Input((2,)), dense(2, name="c")], name="lone")
    outer = keras.Sequential([keras.Input((4,)), inner, lone, dense(1, name="d")], name="outer")
    outer.save(tmp_path / "x.h5")
    tensors, layers = read(tmp_path / "x.h5")
    assert layers == ("inner", "lone", "d")
    assert list(tensors) == [f"{layer}/{leaf}" for layer in "abcd" for leaf in ("kernel", "bias")]
    np.testing.assert_array_equal(tensors["c/kernel"], np.array(lone.layers[0].kernel))


def named(*pairs: tuple[str, str]) -> list[str]:
    return h5_file._renamed(list(pairs))


def test_names():
    assert named(("bn", "bn_2/gamma:0"), ("bn", "bn_2/beta_1:0")) == ["bn/gamma", "bn/beta"]
    assert named(("c", "c/c/kernel:0"), ("d", "kernel:0")) == ["c/kernel", "d/kernel"]
    assert named(("dw", "dw/depthwise_kernel:0"), ("dw", "dw/bias:0")) == ["dw/kernel", "dw/bias"]
    both = ("s", "s/depthwise_kernel:0"), ("s", "s/pointwise_kernel:0")
    assert named(*both) == ["s/depthwise_kernel", "s/pointwise_kernel"]
    assert named(("base", "c/kernel:0"), ("base", "bn/gamma:0")) == ["c/kernel", "bn/gamma"]  # nested, by Keras 2
    assert named(("top_level_model_weights", "scale:0")) == ["top_level_model_weights/scale"]


def write(path: Path, **options) -> tuple[Path, h5py.File, h5py.Group]:
    """An open file of one layer 'conv' with one weight 'conv/kernel' that is not there yet."""
    file = h5py.File(path, "w", **options)
    file.attrs["layer_names"] = [b"conv"]
    group = file.create_group("conv")
    group.attrs["weight_names"] = [b"conv/kernel"]
    return path, file, group.create_group("conv")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i8", ">f2", ">f4", ">f8", ">i8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_types_and_shapes(tmp_path, dtype, shape):
    path, file, group = write(tmp_path / "x.h5", userblock_size=512, libver="latest")
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    with file:
        group.create_dataset("kernel", data=values)
    found = read(path).tensors["conv/kernel"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype.newbyteorder("=")


def test_names_in_several_attributes(tmp_path):
    layers = [f"layer_{n:05}_{'x' * 60}".encode() for n in range(1200)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for n, part in enumerate((layers[:900], layers[900:])):
            file.attrs[f"layer_names{n}"] = np.array(part)
        for layer in layers:
            file.create_group(layer).attrs["weight_names"] = np.array([], "f8")
        group = file.create_group("top_level_model_weights")
        group.attrs["weight_names"] = [b"w"]
        group["w"] = np.ones(2, "f4")
    tensors, found = read(tmp_path / "x.h5")
    assert found == tuple(layer.decode() for layer in layers)
    assert list(tensors) == ["top_level_model_weights/w"]


# -- what is refused -----------------------------------------------------------------------------------


def test_files_of_other_kinds(tmp_path, good):
    path = tmp_path / "x.h5"
    assert refused(path) == "no such file"
    path.mkdir()
    assert refused(path) == "no such file"
    path = tmp_path / "new.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(path)
    assert "Keras 3's .weights.h5" in refused(path)
    for content in (b"", b"PK\x03\x04", good.read_bytes()[:1000]):
        path.write_bytes(content)
        assert "not a readable HDF5 file" in refused(path)
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(3)
    assert "not from Keras" in refused(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = np.array([], "f8")
    assert refused(path) == "holds no weights"
    with path.open("wb") as stream:
        stream.truncate(h5_file.MAX_FILE + 1)
    assert "bytes; an HDF5 file may have" in refused(path)
    os.mkfifo(tmp_path / "pipe.h5")
    assert refused(tmp_path / "pipe.h5") == "no such file"


def test_links(tmp_path, good):
    for link in (h5py.SoftLink("/other"), h5py.ExternalLink(str(good), "/stem_conv/stem_conv/kernel:0")):
        path, file, group = write(tmp_path / "x.h5")
        with file:
            file["other"] = np.ones(3, "f4")
            group["kernel"] = link
        assert "'conv/kernel' is a soft, external or user-defined link" in refused(path)
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(good), "/")
    assert "'model_weights' is a soft" in refused(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"stem_conv"]
        file["stem_conv"] = h5py.ExternalLink(str(good), "/stem_conv")
    assert "'stem_conv' is a soft" in refused(path)


def test_datasets_that_keras_does_not_write(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(400))
    virtual = h5py.VirtualLayout((100,), "f4")
    virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (100,))
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_fields(31, 22, 9, 0, 22)
    space = h5py.h5s.create_simple((100,))
    makers = {
        "chunked": lambda g: g.create_dataset("kernel", data=np.ones(100, "f4"), chunks=(10,)),
        "chunked; Keras": lambda g: g.create_dataset("kernel", data=np.ones(100, "f4"), compression="gzip"),
        "virtual": lambda g: g.create_virtual_dataset("kernel", virtual),
        "in another file": lambda g: g.create_dataset("kernel", (100,), "f4", external=[(tmp_path / "raw", 0, 400)]),
        "compact": lambda g: h5py.h5d.create(g.id, b"kernel", h5py.h5t.IEEE_F32LE, space, compact),
        "declares 400000000000000 bytes, the file stores 0": lambda g: g.create_dataset("kernel", (10**14,), "f4"),
        "is not of float16, float32": lambda g: h5py.h5d.create(g.id, b"kernel", odd, space),
        "user-defined type": lambda g: (
            g.file.__setitem__("t", np.dtype("f4")),
            g.create_dataset("kernel", data=np.ones(3), dtype=g.file["t"]),
        ),
        "no dataset": lambda g: g.create_group("kernel"),
        "is missing": lambda g: g.create_group("other"),
    }
    for reason, make in makers.items():
        path, file, group = write(tmp_path / "x.h5")
        with file:
            make(group)
        assert reason in refused(path)
    for dtype in ("i4", "u1", "c8", "S5", h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype("f4"), "f4,f4", "?"):
        path, file, group = write(tmp_path / "x.h5")
        with file:
            group.create_dataset("kernel", (3,), dtype)
        assert "is not of float16, float32, float64 or int64" in refused(path)


def test_names_that_are_none(tmp_path):
    for value in ([b"a" * 501], np.ones(3), np.array([[b"a"]]), [b"a\nb"], [b"\xff"], [b""], [b"conv/kernel"] * 20_001):
        path, file, group = write(tmp_path / "x.h5", libver="latest")
        with file:
            group["kernel"] = np.ones(3, "f4")
            del file["conv"].attrs["weight_names"]
            file["conv"].attrs["weight_names"] = value
        refused(path)


def test_one_dataset_under_many_names(tmp_path):
    path, file, group = write(tmp_path / "x.h5")
    with file:
        group["kernel"] = np.ones(100_000, "f4")
        for n in range(5):
            group[f"w{n}"] = group["kernel"]
        file["conv"].attrs["weight_names"] = [b"conv/kernel", *(f"conv/w{n}".encode() for n in range(5))]
    assert "bytes of tensors so far in a file of" in refused(path)
    with h5py.File(path, "a") as file:
        file["conv"].attrs["weight_names"] = [b"conv/kernel"] * 2
    assert refused(path) == "two weights are named 'conv/kernel'"


# -- mutations -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    return h5_seeds(tmp_path_factory.mktemp("seeds"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_mutations_are_read_or_refused(tmp_path, seeds, seed):
    path = tmp_path / "mutated.h5"
    path.write_bytes(mutated(random.Random(seed), seeds))
    try:
        tensors, layers = read(path)
    except ZooError as error:
        message = str(error)
    else:
        message = f"{path}: "
        assert sum(array.nbytes for array in tensors.values()) <= 2 * path.stat().st_size
        assert all(isinstance(name, str) for name in layers)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
