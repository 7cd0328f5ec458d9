"""Engines answer as Keras does, from a file that is made once, whatever became of it and whoever asks."""

import itertools
import json
import logging
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import openvino
import pytest
from regenerate import calm, pixels_of

import zoo
from weights import cache
from zoo import cli, compiling, engines, graph, memory, registry
from zoo.exporting import export

ENGINES = ["openvino", "onnxruntime", "litert", "keras"]
FAMILIES = [
    ("efficientnet-b0", 64),
    ("ghostnet-0.5x", 64),
    ("resnet-18", 64),
    ("mobilenet-v2-0.35x", 64),
    ("resnet-20-pool-4-3-3", 32),
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network of its own with calm weights, as `zoo.save` writes it, and its answers by Keras."""
    spec = registry.architecture("mobilenet-v2-0.35x")
    model = graph.build(spec, values=calm(spec))
    path = tmp_path_factory.mktemp("saved") / "net.safetensors"
    zoo.save(model, path)
    pixels = pixels_of(96, 7)
    return path, pixels, keras.ops.convert_to_numpy(model(pixels))


def load(path, engine, **options):
    """In float32, so that what processor it is does not matter."""
    return zoo.load(path, engine=engine, input_shape=96, precision="float32", **options)


def agree(ours, theirs, tolerance=1e-3):
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(("name", "side"), FAMILIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_pictures_of_any_family(name, side, engine, root, tmp_path):
    spec = registry.architecture(name)
    model = graph.build(spec, values=calm(spec))
    zoo.save(model, tmp_path / "net.safetensors")
    for batch in (None, 3):
        made = zoo.load(tmp_path / "net.safetensors", engine=engine, input_shape=side, precision="float32", batch=batch)
        for count in (1, 3, 5):
            pixels = pixels_of(side, count)
            theirs = keras.ops.convert_to_numpy(model(pixels))
            agree(made(pixels), theirs)
            agree(made(pixels.astype(np.uint8)), theirs)
            agree(made.predict(pixels, batch_size=2), theirs)
        assert (made.name, made.precision, made.batch, made.input) == (engine, "float32", batch, (side, side, 3))
        assert made.spec.name == name
    keras.backend.clear_session()


@pytest.mark.parametrize("engine", ENGINES)
def test_many_threads_get_their_own_answers(engine, saved, root):
    path, pixels, theirs = saved
    made = load(path, engine, **({} if engine == "keras" else {"threads": 1}))
    together = threading.Barrier(4)

    def ask(index):
        together.wait()
        return [made(pixels[which : which + 1]) for which in (index, 6 - index, index)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    for index, answers in enumerate(found):
        for which, answer in zip((index, 6 - index, index), answers, strict=True):
            agree(answer, theirs[which : which + 1])


CHILD = """
    import sys, numpy as np, zoo
    zoo.load({path!r}, engine={engine!r}, input_shape=96, precision="float32")(np.zeros((1, 96, 96, 3), np.uint8))
    print(sorted({{"keras", "tensorflow"}} & set(sys.modules)))
"""


def run(path, engine):
    script = textwrap.dedent(CHILD.format(path=str(path), engine=engine))
    return subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("engine", ENGINES[:3])
def test_a_cached_file_answers_without_keras(engine, saved, root):
    load(saved[0], engine)
    done = run(saved[0], engine)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_two_processes_at_once_convert_once(saved, root):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run(saved[0], "openvino"), range(2)))
    assert [each.returncode for each in done] == [0, 0], done
    # The one that came second found the first one's file: it may have started Keras, but converted nothing.
    assert len(list((root / "engines").glob("*.xml"))) == 1
    assert [file for file in (root / "engines").iterdir() if "part" in file.name] == []
    agree(load(saved[0], "openvino")(saved[1]), saved[2])


def files(root, engine):
    ending = {"openvino": ".bin", "litert": ".tflite", "onnxruntime": ".onnx"}[engine]
    return [path for path in (root / "engines").iterdir() if path.suffix == ending]


@pytest.mark.parametrize("engine", ENGINES[:3])
@pytest.mark.parametrize("damage", ["flip", "cut", "unsealed", "nonsense with a seal"])
def test_a_damaged_file_is_made_again(engine, damage, saved, root, caplog):
    load(saved[0], engine)
    (file,) = files(root, engine)
    whole = file.read_bytes()
    if damage == "flip":
        file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:])
    elif damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "unsealed":
        cache.seal_of(file).unlink()
    else:
        file.write_bytes(b"\0" * 100)
        cache.seal(file, {})
    agree(load(saved[0], engine)(saved[1]), saved[2])
    assert "is corrupted and is made again" in caplog.text
    caplog.clear()
    agree(load(saved[0], engine)(saved[1]), saved[2])
    assert caplog.text == ""


def test_other_weights_sizes_and_versions_are_other_files(saved, root, tmp_path, monkeypatch):
    load(saved[0], "openvino")
    spec = registry.architecture("mobilenet-v2-0.35x")
    other = {path: array * 1.01 for path, array in calm(spec).items()}
    zoo.save(graph.build(spec, values=other), tmp_path / "net.safetensors")
    load(tmp_path / "net.safetensors", "openvino")
    zoo.load(saved[0], engine="openvino", input_shape=64)
    zoo.load(saved[0], engine="openvino", input_shape=96, include_preprocessing=False)
    assert len(files(root, "openvino")) == 4
    load(saved[0], "openvino", threads=1, batch=2)
    assert len(files(root, "openvino")) == 4
    version = compiling.packages.version
    monkeypatch.setattr(compiling.packages, "version", lambda name: "0" if name == "openvino" else version(name))
    load(saved[0], "openvino")
    assert len(files(root, "openvino")) == 5


def test_random_weights_are_not_kept(root):
    made = zoo.load("resnet-20", engine="openvino", input_shape=32)
    assert made(pixels_of(32)).shape == (2, 10)
    assert not (root / "engines").exists()


def test_a_cache_that_cannot_be_written(saved, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))  # root may write anywhere but into a file
    with caplog.at_level(logging.WARNING, "zoo"):
        agree(load(saved[0], "openvino")(saved[1]), saved[2])
    assert "cannot write the cache" in caplog.text
    assert "Not a directory" in caplog.text


def test_a_cache_that_is_only_read_answers(saved, root, monkeypatch):
    """Filled by one who may write: nothing is written any more, not even a lock."""
    load(saved[0], "litert")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr(compiling, "_made", None)
    agree(load(saved[0], "litert")(saved[1]), saved[2])
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


# -- precision, processors, memory


def test_the_processor_decides_the_precision():
    assert engines.openvino_precisions(["FP32", "BF16", "INT8"]) == ("bfloat16", "float32")
    assert engines.openvino_precisions(["FP32", "FP16"]) == ("float16", "float32")
    assert engines.openvino_precisions(["FP32", "INT8", "BIN"]) == ("float32",)


def test_a_file_made_on_another_processor(saved, root, monkeypatch):
    """It holds no code of any processor: what it is computed in is decided where it is opened."""
    has = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    best = engines.openvino_precisions(has)[0]
    assert zoo.load(saved[0], engine="openvino", input_shape=96).precision == best
    monkeypatch.setattr(engines, "openvino_precisions", lambda has: ("float32",))
    monkeypatch.setattr(compiling, "_made", None)
    made = zoo.load(saved[0], engine="openvino", input_shape=96)
    assert made.precision == "float32"
    agree(made(saved[1]), saved[2])
    with pytest.raises(zoo.ZooError, match=r"precision of openvino on this processor 'bfloat16'; valid: float32"):
        zoo.load(saved[0], engine="openvino", input_shape=96, precision="bfloat16")


def test_float32_is_float32(saved, root):
    """OpenVINO's own default would be bfloat16 on many processors: off by 1e-2, not 1e-5."""
    agree(load(saved[0], "openvino")(saved[1]), saved[2], tolerance=1e-4)


def test_the_fastest_precision_keeps_the_order_of_what_it_can_tell_apart(photos):
    """The five classes of the six photographs, where logits lie further apart than the two precisions' answers."""
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "camera.png", "motorcycle_left.png")
    found = [photos / name for name in names if (photos / name).is_file()]
    assert len(found) >= 4
    exact = zoo.load("efficientnet-lite0", pretrained=True, engine="openvino", precision="float32")
    fast = zoo.load("efficientnet-lite0", pretrained=True, engine="openvino")
    pixels = zoo.preprocess(found, exact.record)
    theirs, ours = exact(pixels), fast(pixels)
    noise = 2 * np.abs(ours - theirs).max()
    assert noise < 0.1 * np.abs(theirs).max()
    for row, other in zip(theirs, ours, strict=True):
        best = np.argsort(-row)[:6]
        for higher, lower in itertools.pairwise(best):
            assert row[higher] - row[lower] < noise or other[higher] > other[lower]
    assert [answer[0].index for answer in fast.classify(found)] == [answer[0].index for answer in exact.classify(found)]


def test_batch_norm_is_folded(saved, root):
    """Nothing but convolutions and what stands between them is left: no multiplication or sum a channel."""
    spec = registry.architecture("resnet-18")
    zoo.save(graph.build(spec, values=calm(spec)), root.parent / "r.safetensors")
    zoo.load(root.parent / "r.safetensors", engine="openvino", input_shape=64)
    core = openvino.Core()
    (path,) = (root / "engines").glob("*.xml")
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]
    assert kinds.count("Convolution") == 20
    assert not {"BatchNormInference", "Multiply", "Normalize"} & set(kinds)


def test_a_batch_that_memory_does_not_hold(saved, root, monkeypatch):
    made = load(saved[0], "litert")
    each = memory.per_picture(made.spec, made.input, made.precision)
    monkeypatch.setattr(memory, "available", lambda: 5 * each)
    made(saved[1][:4])
    with pytest.raises(zoo.ZooError, match=r"a batch of 7 needs at least 0\.0 GB, and 0\.0 GB is free: 4 fit\."):
        made(saved[1])
    agree(made.predict(saved[1], batch_size=4), saved[2])
    monkeypatch.setattr(memory, "available", lambda: each // 2)
    with pytest.raises(zoo.ZooError, match="not one fits"):
        made(saved[1][:1])


def test_the_bound_on_memory_is_below_what_was_measured():
    """And not by much: the slope of the peak over the batch, benchmarks/runtime.json."""
    rows = json.loads((Path(__file__).parents[2] / "benchmarks" / "runtime.json").read_text())["batches"]["results"]
    spec = zoo.spec("efficientnet-b0")
    for precision in ("float32", "bfloat16"):
        peak = {row["batch"]: row["peak_mb"] * 1e6 for row in rows if row["variant"] == f"zoo openvino {precision}"}
        slope = (peak[128] - peak[1]) / 127
        bound = memory.per_picture(spec, spec.input, precision)
        assert bound < slope < 1.6 * bound


@pytest.mark.parametrize(
    "words", ["Failed to allocate 99 bytes of memory", "XNNPack delegate failed to allocate", "std::bad_alloc"]
)
def test_an_engine_that_runs_out_of_memory(words, saved, root, monkeypatch):
    made = load(saved[0], "litert")

    def fail(pixels):
        raise RuntimeError(words)

    monkeypatch.setattr(made, "_run", fail)
    with pytest.raises(zoo.ZooError, match=r"a batch of 7 needs at least .* GB is free: 3 fit"):
        made(saved[1])
    monkeypatch.setattr(made, "_run", lambda pixels: [][0])
    with pytest.raises(IndexError):
        made(saved[1])


# -- what is asked for


def test_an_exported_file_is_opened_by_its_path(saved, root, tmp_path):
    model = zoo.load(saved[0])
    for name in ("net.onnx", "net.xml", "net.tflite"):
        path = export(model, tmp_path / name, size=96)
        agree(zoo.load(path, engine="auto", precision="float32")(saved[1]), saved[2])
    fixed = export(model, tmp_path / "three.tflite", size=96, batch=3)
    made = zoo.load(fixed)
    assert made.batch == 3
    agree(made(saved[1]), saved[2])
    assert not (root / "engines").exists()
    with pytest.raises(zoo.ZooError, match=r"was exported for 3 pictures a call, not 2"):
        zoo.load(fixed, batch=2)
    with pytest.raises(zoo.ZooError, match=r"net.onnx' is run by onnxruntime, not by openvino"):
        zoo.load(tmp_path / "net.onnx", engine="openvino")
    with pytest.raises(zoo.ZooError, match="no exported file"):
        zoo.load(tmp_path / "none.onnx")


def test_classify_and_features(photos):
    made = zoo.load("efficientnet-lite0", pretrained=True, engine="auto")
    assert made.name == "openvino"
    (best,) = made.classify(photos / "coffee.png", top=1)
    assert best[0].name == "espresso"
    assert zoo.classify(made, photos / "coffee.png", 1)[0][0] == best[0]
    assert zoo.record_of(made)["classes"] == "imagenet-1k"
    vectors = zoo.load("efficientnet-lite0", pretrained=True, num_classes=0, engine="litert")
    pixels = zoo.preprocess(photos / "coffee.png", vectors.record)
    theirs = zoo.load("efficientnet-lite0", pretrained=True, num_classes=0)(pixels)
    agree(vectors(pixels), keras.ops.convert_to_numpy(theirs))
    with pytest.raises(zoo.ZooError, match="no classifier"):
        vectors.classify(photos / "coffee.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "unknown engine 'tensorrt'; valid: openvino, litert, onnxruntime, keras, auto"),
        ({"engine": "litert", "threads": 0}, "threads must be a whole number of at least 1, or None, not 0"),
        ({"engine": "litert", "batch": 1.5}, "batch must be a whole number of at least 1, or None, not 1.5"),
        ({"engine": "litert", "precision": "bfloat16"}, "precision of litert 'bfloat16'; valid: float32"),
        ({"engine": "openvino", "precision": "int4"}, "precision of openvino on this processor 'int4'; valid: "),
        ({"engine": "keras", "threads": 2}, "TF_NUM_INTRAOP_THREADS"),
        ({"threads": 2}, "precision, threads and batch are an engine's: give engine='auto'"),
    ],
)
def test_bad_options(options, message, root):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load("resnet-20", **options)


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 32, 32, 3)), np.zeros((96, 96, 3)), np.zeros((0, 96, 96, 3)), np.full((1, 96, 96, 3), "a")]
)
def test_bad_pixels(pixels, saved, root):
    with pytest.raises(zoo.ZooError, match=r"takes pixels \(n, 96, 96, 3\)|no pictures"):
        load(saved[0], "litert")(pixels)


@pytest.mark.parametrize(("engine", "module"), engines.MODULES.items())
def test_an_engine_that_is_not_installed(engine, module, monkeypatch, root):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.interpreter", None)
    with pytest.raises(zoo.ZooError, match=rf"this needs {module}: pip install 'zoo\[export\]'"):
        zoo.load("resnet-20", engine=engine)


def test_auto_takes_what_is_there(monkeypatch, root):
    assert engines.fastest() == "openvino"
    monkeypatch.setattr(engines, "installed", lambda name: name in ("onnxruntime", "keras"))
    assert engines.fastest() == "onnxruntime"
    monkeypatch.setattr(engines, "installed", lambda name: name == "keras")
    made = zoo.load("resnet-20", engine="auto", input_shape=32)
    assert made.name == "keras"
    assert made(pixels_of(32)).shape == (2, 10)


# -- the command


def test_predict_with_an_engine(capsys, photos, tmp_path):
    argv = ["predict", str(photos / "coffee.png"), str(photos / "chelsea.png"), "--top", "1", "--json"]
    assert cli.run([*argv, "--engine", "auto", "--precision", "float32"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [each["top"][0]["name"] for each in found] == ["espresso", "tiger cat"]
    path = export(zoo.load("efficientnet-lite0", pretrained=True), tmp_path / "lite0.tflite")
    assert cli.run([*argv, "--model", str(path)]) == 0
    assert [each["top"][0]["index"] for each in json.loads(capsys.readouterr().out)["predictions"]] == [967, 282]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine", "fast"], "zoo predict: unknown engine 'fast'"),
        (["--threads", "2"], "zoo predict: --precision and --threads are an engine's"),
        (["--model", "none.tflite"], "zoo predict: unknown model|no exported file"),
        (["--engine", "auto", "--model", "none.keras"], "zoo predict: no saved model 'none.keras'"),
    ],
)
def test_wrong_commands(more, message, capsys, photos):
    assert cli.run(["predict", str(photos / "coffee.png"), *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert any(part in error for part in message.split("|"))
