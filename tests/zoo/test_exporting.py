"""Exported files in their own engines answer as Keras does, say what they are, and are there whole or not at all."""

import json
import sys

import keras
import numpy as np
import openvino
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnxruntime import InferenceSession
from regenerate import calm, pixels_of

import zoo
from zoo import cli, graph, metadata, registry
from zoo.exporting import PRECISIONS, export
from zoo.metadata import SUFFIXES

FAMILIES = [
    ("efficientnet-b0", 64),
    ("efficientnet-lite0", 64),
    ("ghostnet-0.5x", 64),
    ("ghostnet-enlarged-600m", 64),
    ("resnet-18", 64),
    ("mobilenet-v1-0.25x", 64),
    ("mobilenet-v2-0.35x", 64),
    ("vgg-19-cifar", 32),
    ("resnet-20-pool-4-3-3", 32),
    ("channel-bench-mobilenet-4444444", 32),
    ("mobilenet-v2-cifar-bcnet-28m", 32),
]
ENGINES = ["onnx", "openvino", "litert", "saved_model", "keras"]
TOLERANCE = 1e-3
"""Of the largest logit; engines differ from Keras by some 1e-6 where the network is well-conditioned."""


def built(name):
    return graph.build(registry.architecture(name), values=calm(registry.architecture(name)))


def answer(path, kind, pixels):
    """What the format's own engine says, as one who never heard of zoo would ask it."""
    if kind == "onnx":
        return InferenceSession(path).run(None, {"image": pixels})[0]
    if kind == "openvino":
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        assert len(compiled.outputs) == 1
        return compiled(pixels)[0]
    if kind == "litert":
        interpreter = Interpreter(str(path))
        entry = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(entry, pixels.shape, strict=True)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    if kind == "saved_model":
        return np.asarray(keras.layers.TFSMLayer(path, call_endpoint="serve")(pixels))
    return np.asarray(keras.models.load_model(path)(pixels))


def agree(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize(("name", "side"), FAMILIES)
@pytest.mark.parametrize("kind", ENGINES)
def test_every_family_in_every_format(name, side, kind, tmp_path):
    """With any number of pictures: two, then five."""
    model = built(name)
    path = export(model, tmp_path / f"net{SUFFIXES[kind]}", size=side)
    assert metadata.format_of(path) == kind
    for count in (2, 5):
        pixels = pixels_of(side, count)
        agree(answer(path, kind, pixels), keras.ops.convert_to_numpy(model(pixels)))
    told = metadata.read(path)
    total = zoo.cost(registry.architecture(name))
    assert told["params"] == total.params
    assert told["input"] == [None, side, side, 3]
    assert told["config"]["spec"]["name"] == name
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []
    keras.backend.clear_session()


@pytest.mark.parametrize("kind", ENGINES)
def test_a_fixed_batch_and_bare_pixels(kind, tmp_path):
    model = built("resnet-20")
    spec = registry.architecture("resnet-20")
    path = export(model, tmp_path / f"net{SUFFIXES[kind]}", batch=3, include_preprocessing=False)
    pixels = pixels_of(32, 3)
    normalised = ((pixels - np.float32(spec.mean)) / np.float32(spec.std)).astype(np.float32)
    agree(answer(path, kind, normalised), keras.ops.convert_to_numpy(model(pixels)))
    assert metadata.read(path)["normalized_input"] is True
    assert metadata.read(path)["input"] == [3, 32, 32, 3]


@pytest.mark.parametrize("kind", ENGINES)
def test_real_weights_and_what_they_say(kind, tmp_path, photos):
    """Classes, licence and preprocessing travel; the six photographs keep their five classes in order."""
    model = zoo.load("efficientnet-lite0", pretrained=True)
    path = export(model, tmp_path / f"lite0{SUFFIXES[kind]}")
    told = metadata.read(path)
    assert told["classes"][281] == "tabby"
    assert told["macs"] == 385_187_552
    record = told["config"]["record"]
    assert (record["license"], record["preprocessing"]["crop"]) == ("Apache-2.0", 224)
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "camera.png", "motorcycle_left.png")
    found = [photos / name for name in names if (photos / name).is_file()]
    assert len(found) >= 4
    pixels = zoo.preprocess(found, record)
    ours, theirs = answer(path, kind, pixels), keras.ops.convert_to_numpy(model(pixels))
    agree(ours, theirs)
    best = [np.argsort(-logits, axis=-1)[:, :5] for logits in (ours, theirs)]
    np.testing.assert_array_equal(*best)


def test_float16_halves_the_file(tmp_path):
    model = built("resnet-18")
    whole = export(model, tmp_path / "a.xml", size=64).with_suffix(".bin").stat().st_size
    half = export(model, tmp_path / "b.xml", size=64, precision="float16").with_suffix(".bin").stat().st_size
    assert half == pytest.approx(whole / 2, rel=0.01)
    pixels = pixels_of(64)
    ours, theirs = answer(tmp_path / "b.xml", "openvino", pixels), keras.ops.convert_to_numpy(model(pixels))
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()
    assert metadata.read(tmp_path / "b.xml")["precision"] == "float16"


def test_one_channel_and_a_fixed_input(tmp_path):
    model = zoo.build("resnet-20", in_channels=1, input_shape=48)
    path = export(model, tmp_path / "net.onnx")
    pixels = pixels_of(48, channels=1)
    agree(answer(path, "onnx", pixels), keras.ops.convert_to_numpy(model(pixels)))
    with pytest.raises(zoo.ZooError, match="size is 32, and the model takes 48 x 48 only"):
        export(model, tmp_path / "other.onnx", size=32)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("net.pb", {}, r"unknown ending of an exported file '.pb'; valid: .onnx, .xml, .tflite, .keras"),
        ("net.onnx", {"format": "tflite"}, "unknown export format 'tflite'; valid: keras, saved_model, onnx, litert"),
        ("net.onnx", {"format": "openvino"}, r"openvino is written to .xml, not 'net.onnx'"),
        ("net.onnx", {"precision": "int4"}, "unknown precision of onnx 'int4'; valid: float32"),
        ("net.xml", {"batch": 0}, "batch must be a whole number of at least 1, or None for any, not 0"),
        ("net.xml", {"size": 8.5}, "size must be a side"),
        ("net.xml", {"size": (8, 0)}, "size must be a side"),
        ("no/such/folder/net.keras", {}, "cannot write|No such file"),
    ],
)
def test_bad_options_write_nothing(path, options, message, tmp_path):
    (tmp_path / "no").touch()  # a file where a folder would be made
    with pytest.raises(zoo.ZooError, match=message):
        export(zoo.build("resnet-20"), tmp_path / path, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["no"]


def test_a_library_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(zoo.ZooError, match=r"this needs openvino: pip install 'zoo\[export\]'"):
        export(zoo.build("resnet-20"), tmp_path / "net.xml")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_zoo_did_not_build(tmp_path):
    with pytest.raises(zoo.ZooError, match="was not built by zoo"):
        export(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), tmp_path / "net.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite", ".keras"])
def test_what_was_not_exported_by_zoo(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"<net/>" if suffix == ".xml" else b"\0" * 100)
    with pytest.raises(zoo.ZooError) as error:
        metadata.read(tmp_path / f"x{suffix}")
    assert str(error.value).startswith(str(tmp_path))
    with pytest.raises(zoo.ZooError, match="no exported file"):
        metadata.read(tmp_path / f"y{suffix}")


def test_the_command(tmp_path, capsys):
    assert cli.run(["export", "efficientnet-lite0", "--to", str(tmp_path / "net.tflite"), "--batch", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'net.tflite'} (18.")
    assert metadata.read(tmp_path / "net.tflite")["input"] == [1, 224, 224, 3]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["efficientnet-lite0", "--to", "x.pb"], "zoo export: unknown ending of an exported file '.pb'"),
        (["efficientnet-lit0", "--to", "x.onnx"], "zoo export: unknown model 'efficientnet-lit0'"),
        (["efficientnet-lite0", "--to", "none/x.onnx"], "zoo export: no folder 'none' to write 'x.onnx' into"),
    ],
)
def test_wrong_commands(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["export", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_a_saved_keras_file_is_still_plain_keras(tmp_path):
    path = export(built("resnet-20"), tmp_path / "net.keras")
    assert json.loads(keras.models.load_model(path).to_json())
    assert zoo.variables(keras.models.load_model(path))
    assert set(PRECISIONS) == set(SUFFIXES)
