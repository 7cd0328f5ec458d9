"""int8 exports: what they say they lose is what they lose, and they lose little."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli, engines, metadata, processor, quantizing
from zoo.exporting import export
from zoo.prediction import class_names

NAMES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
SIDE = 160


@pytest.fixture(scope="module")
def model():
    return zoo.load("efficientnet-lite0", pretrained=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos, model):
    """48 crops of photographs in folders named as the class that float32 sees in each, but for one picture."""
    root, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for name in NAMES:
        image = Image.open(photos / name).convert("RGB")
        for number in range(12):
            side = int(min(image.size) * rng.uniform(0.6, 1))
            left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
            crop = image.crop((left, top, left + side, top + side))
            best = zoo.classify(model, np.asarray(crop), 2)[0]
            place = root / best[1 if (name, number) == (NAMES[0], 0) else 0].name
            place.mkdir(exist_ok=True)
            crop.save(place / f"{name}-{number}.png")
    return root


@pytest.mark.parametrize(("suffix", "batch"), [(".xml", None), (".tflite", None), (".xml", 3), (".tflite", 3)])
def test_what_the_file_says_of_itself_is_so(suffix, batch, model, folder, tmp_path):
    path = export(model, tmp_path / f"q{suffix}", precision="int8", batch=batch, size=SIDE, calibration=folder)
    told = metadata.read(path)["int8"]
    assert (told["calibrated_on"], told["compared_on"]) == (38, 10)
    made = zoo.load(path)
    assert made.precision == "int8"
    given = quantizing.pictures(folder, made.spec, made.record)
    assert not set(given.calibrated) & set(given.compared)
    pixels = np.concatenate(list(given.batches(given.compared, 4)))
    ours, theirs = made(pixels), model.predict_on_batch(pixels)
    assert told["same_first"] == np.mean(ours.argmax(-1) == theirs.argmax(-1))
    assert told["error"] == pytest.approx(np.abs(ours - theirs).mean() / np.abs(theirs).max(), rel=0.05)
    assert told["same_first"] >= 0.9
    assert 0 < told["error"] < 0.02
    names = class_names(made.record, 1000)
    right = np.array([names.index(path.parent.name) for path in given.compared])
    assert told["accuracy"] == {
        "int8": np.mean(ours.argmax(-1) == right),
        "float32": np.mean(theirs.argmax(-1) == right),
    }
    assert any(file.stat().st_size < 0.6 * 18.6e6 for file in (path, path.with_suffix(".bin")) if file.is_file())


@pytest.mark.parametrize("suffix", [".xml", ".tflite"])
def test_the_photographs_are_seen_as_they_are(suffix, model, folder, photos, tmp_path):
    """Those that none of the calibration pictures was cut from, too."""
    found = [photos / name for name in (*NAMES, "camera.png", "motorcycle_left.png") if (photos / name).is_file()]
    made = zoo.load(export(model, tmp_path / f"q{suffix}", precision="int8", calibration=folder))
    theirs, ours = zoo.classify(model, found, 5), made.classify(found)
    assert [answer[0].index for answer in ours] == [answer[0].index for answer in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert len({one.index for one in mine} & {one.index for one in other}) >= 3


def test_a_file_for_vnni_warns_on_other_processors(tmp_path, monkeypatch, caplog):
    plain = zoo.build("resnet-20")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.float32)
    for flags, expected in (({"avx2"}, "all"), ({"avx2", "avx512_vnni"}, "vnni")):
        monkeypatch.setattr(processor, "features", lambda flags=flags: flags)
        monkeypatch.setattr(engines, "features", lambda: {"avx2"})
        caplog.clear()
        path = export(plain, tmp_path / f"{expected}.xml", precision="int8", calibration=pixels)
        assert metadata.read(path)["int8"]["processors"] == expected
        zoo.load(path)
        assert ("has none, its int8 sums overflow" in caplog.text) == (expected == "vnni")
        monkeypatch.setattr(engines, "features", lambda: {"avx_vnni"})
        caplog.clear()
        zoo.load(path)
        assert not caplog.text


def test_pixels_without_a_record(tmp_path):
    """A network of random weights, and one whose input is not RGB."""
    plain = zoo.build("resnet-20", in_channels=2)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 2)).astype(np.float32)
    told = metadata.read(export(plain, tmp_path / "q.xml", precision="int8", calibration=pixels))["int8"]
    assert (told["calibrated_on"], told["compared_on"]) == (9, 3)
    assert "accuracy" not in told
    with pytest.raises(zoo.ZooError, match=r"calibration must be pixels \(n, \*\(32, 32, 2\)\), not \(\d, 32, 32, 3\)"):
        export(plain, tmp_path / "r.xml", precision="int8", calibration=np.zeros((12, 32, 32, 3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.bin", "q.xml"]


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("q.xml", {}, r"int8 needs calibration=, a folder of pictures or a list of them"),
        ("q.xml", {"calibration": np.zeros((3, 224, 224, 3))}, r"at least 10 pictures to calibrate .* got 3\."),
        ("q.xml", {"calibration": "nowhere"}, r"nowhere"),
        ("q.onnx", {"calibration": "nowhere"}, r"precision of onnx 'int8'; valid: float32"),
        ("q.xml", {"precision": "float16", "calibration": "nowhere"}, r"calibration is for precision='int8'"),
    ],
)
def test_what_cannot_be(path, options, said, model, tmp_path):
    with pytest.raises(zoo.ZooError, match=said):
        export(model, tmp_path / path, **({"precision": "int8"} | options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "module"), [(".xml", "nncf"), (".tflite", "ai_edge_quantizer.quantizer")])
def test_a_library_that_is_missing(suffix, module, model, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(zoo.ZooError, match=rf"needs {module.split('.')[0]}: pip install 'zoo\[int8\]'"):
        export(model, tmp_path / f"q{suffix}", precision="int8", size=SIDE, calibration=folder)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_is_lost(folder, tmp_path, capsys):
    target = tmp_path / "q.tflite"
    wanted = ["--precision", "int8", "--size", str(SIDE), "--calibration", os.fspath(folder)]
    assert cli.run(["export", "efficientnet-lite0", "--to", os.fspath(target), *wanted]) == 0
    told, said = metadata.read(target)["int8"], capsys.readouterr().out
    assert f"on 10 others the first class is float32's for {100 * told['same_first']:.1f} %" in said
    assert f"accuracy on these: {100 * told['accuracy']['int8']:.1f} %, in float32 " in said
    assert cli.run(["export", "efficientnet-lite0", "--to", os.fspath(tmp_path / "r.xml"), "--precision", "int8"]) == 2
    assert "zoo export: int8 needs calibration" in capsys.readouterr().err
