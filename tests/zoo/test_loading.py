"""What `load` and `build` accept, refuse and report."""

import importlib.metadata
import logging
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from regenerate import values

import zoo
from weights import files, manifest, store
from zoo import registry


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes must be a whole number.*not -1"),
        ({"num_classes": 2.5}, "not 2.5"),
        ({"num_classes": True}, "not True"),
        ({"input_shape": 16}, "input 16x16 is smaller than the network's total stride 32"),
        ({"input_shape": (224.0, 224)}, "input height must be a whole number"),
        ({"input_shape": (224, 0, 3)}, "input width must be a whole number of at least 1, not 0"),
        ({"input_shape": "224"}, "input_shape must be a side"),
        ({"input_shape": (1, 2, 3, 4)}, "input_shape must be a side"),
        ({"input_shape": (224, 224, 0)}, "input channels must be a whole number"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), not 1.0"),
        ({"drop_path": -0.1}, "drop_path must be a number"),
        ({"pretrained": 3}, "pretrained must be True, False, a tag, a path or hf://owner/repo, not 3"),
        ({"pretrained": "in22k"}, "unknown tag of efficientnet-lite0 'in22k'; valid: pypi_in1k"),
        ({"pretrained": "no/such.safetensors"}, "no weights file 'no/such.safetensors'"),
        ({"pretrained": "weights.h5"}, "no weights file .weights.h5."),
        ({"in_channels": 0}, "in_channels must be a whole number of at least 1, not 0"),
        ({"in_channels": 1, "input_shape": (64, 64, 4)}, r"in_channels is 1, and input_shape \(64, 64, 4\) says 4"),
        ({"skip": ["head*"]}, "skip leaves out tensors of weights, and pretrained=False loads none"),
        ({"pretrained": True, "skip": ["haed*"]}, "skip: no tensor of efficientnet-lite0 matches 'haed"),
        ({"pretrained": True, "dialect": "timm"}, "the weights 'pypi_in1k' are of dialect 'tensorflow', not 'timm'"),
        ({"dialect": "caffe"}, "unknown dialect of efficientnet-lite0 'caffe'; valid: tensorflow, timm"),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(zoo.ZooError, match=message) as error:
        zoo.load("efficientnet-lite0", **options)
    assert "\n" not in str(error.value)


def test_weights_that_were_never_published():
    with pytest.raises(zoo.ZooError) as error:
        zoo.load("ghostnet-enlarged-600m", pretrained=True)
    text = str(error.value)
    for part in (
        "80.9",
        "arXiv 2108.00177 abstract",
        "79.844",
        "ghostnet-enlarged.yaml",
        "pretrained='weights.safetensors'",
    ):
        assert part in text
    with pytest.raises(zoo.ZooError, match="no public weights of resnet-20 are known; load your own"):
        zoo.load("resnet-20", pretrained=True)


def test_shapes():
    name = "mobilenet-v1-0.25x"
    assert zoo.build(name).input_shape == (None, None, None, 3)
    assert zoo.build(name, input_shape=96).input_shape == (None, 96, 96, 3)
    assert zoo.build(name, input_shape=(64, 96)).input_shape == (None, 64, 96, 3)
    assert zoo.build(name, input_shape=(None, None, 1)).input_shape == (None, None, None, 1)
    assert zoo.build(name, input_shape=(64, 64, 4))(np.zeros((1, 64, 64, 4))).shape == (1, 1000)
    assert zoo.build(name, num_classes=0)(np.zeros((1, 64, 64, 3))).shape == (1, 256)
    for size in (32, 57, 224):
        assert zoo.build(zoo.spec(name), num_classes=3)(np.zeros((2, size, size + 1, 3), np.uint8)).shape == (2, 3)


@pytest.mark.parametrize("name", ["ghostnet-0.5x", "resnet-18", "mobilenet-v2-0.35x", "vgg-19-cifar"])
def test_own_weights_round_trip(name, tmp_path, caplog):
    spec = registry.architecture(name)
    files.write(tmp_path / "w.safetensors", values(spec))
    model = zoo.load(name, pretrained=tmp_path / "w.safetensors")
    zoo.save(model, tmp_path / "again.safetensors")
    again = files.read(tmp_path / "again.safetensors").tensors
    assert all(np.array_equal(again[path], array) for path, array in values(spec).items())
    assert len(again) == len(values(spec))
    x = np.zeros((1, 64, 64, 3), np.uint8)
    other = zoo.load(name, pretrained=str(tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(numpy(model(x)), numpy(other(x)))
    with caplog.at_level(logging.WARNING, "zoo"):
        assert zoo.load(name, pretrained=tmp_path / "w.safetensors", num_classes=3)(x).shape == (1, 3)
    assert "the classifier is new (3 classes)" in caplog.text


def test_a_file_with_a_head_of_its_own(tmp_path, caplog):
    model = zoo.build("resnet-20", num_classes=7)
    zoo.save(model, tmp_path / "seven.safetensors")
    again = zoo.load("resnet-20", pretrained=tmp_path / "seven.safetensors", num_classes=7)
    for path, variable in zoo.variables(model).items():
        assert np.array_equal(numpy(zoo.variables(again)[path]), numpy(variable)), path
    assert "classifier is new" not in caplog.text
    zoo.save(zoo.build("resnet-20", num_classes=0), tmp_path / "none.safetensors")
    assert zoo.load("resnet-20", pretrained=tmp_path / "none.safetensors", num_classes=0).output_shape == (None, 64)
    # without num_classes the file decides
    assert zoo.load("resnet-20", pretrained=tmp_path / "seven.safetensors").output_shape == (None, 7)
    assert zoo.load("resnet-20", pretrained=tmp_path / "none.safetensors").output_shape == (None, 64)
    assert zoo.load("resnet-20", pretrained=tmp_path / "seven.safetensors", num_classes=4).output_shape == (None, 4)
    assert "the classifier is new (4 classes)" in caplog.text


def test_weights_in_timms_names_are_recognised(tmp_path):
    from weights.convert.tensors import to_layout

    spec = registry.architecture("resnet-18")
    files.write(tmp_path / "timm.safetensors", to_layout(spec, "timm", values(spec)))
    model = zoo.load("resnet-18", pretrained=tmp_path / "timm.safetensors", dialect="timm")
    drawn = values(spec)
    assert all(np.array_equal(numpy(v), drawn[path]) for path, v in zoo.variables(model).items())


def test_a_file_of_another_dialect_or_family_says_so(tmp_path):
    from weights.convert.tensors import to_layout

    timm = registry.architecture("ghostnet-0.5x", "timm")
    files.write(tmp_path / "w.safetensors", to_layout(timm, "timm", values(timm)))
    with pytest.raises(zoo.ZooError, match=r"dialect='pytorch'\.$"):
        zoo.load("ghostnet-0.5x", pretrained=tmp_path / "w.safetensors", dialect="tensorflow")
    with pytest.raises(zoo.ZooError, match=r"missing conv1\.weight.*unused blocks"):
        zoo.load("resnet-18", pretrained=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("head.classifier.dense.bias"), "missing head.classifier.dense.bias; none unused"),
        (lambda t: t.update(extra=np.zeros(1)), "none missing; unused extra"),
        (
            lambda t: t.update({"stem.conv.kernel": np.zeros((3, 3, 3, 15))}),
            r"stem.conv.kernel has shape \(3, 3, 3, 15\)",
        ),
        (lambda t: [t.pop(k) for k in list(t)] and t.update(a=np.zeros(2)), "no tensor name is one of its own.*'a'"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, damage, message):
    drawn = values(registry.architecture("resnet-20"))
    damage(drawn)
    files.write(tmp_path / "w.safetensors", drawn)
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load("resnet-20", pretrained=tmp_path / "w.safetensors")


def test_a_users_pytorch_file(lite0_pth, tmp_path):
    """The same tensors as by tag; another network's file is refused, and so is a damaged one."""
    mine, published = (zoo.load("efficientnet-lite0", pretrained=x) for x in (lite0_pth, True))
    for path, variable in zoo.variables(mine).items():
        assert np.array_equal(numpy(variable), numpy(zoo.variables(published)[path])), path
    with pytest.raises(zoo.ZooError, match=r"efficientnet-lite1, layout lukemelas: missing _blocks\.16.*none unused"):
        zoo.load("efficientnet-lite1", pretrained=lite0_pth)
    with pytest.raises(zoo.ZooError, match=r"tensor _conv_stem\.weight has shape"):
        store.fitted(narrow(), store.opened(lite0_pth))
    (tmp_path / "half.pth").write_bytes(lite0_pth.read_bytes()[:9_000_000])
    with pytest.raises(zoo.ZooError, match=r"half\.pth: truncated"):
        zoo.load("efficientnet-lite0", pretrained=tmp_path / "half.pth")


def narrow():
    """Lite0 with a stem of half the channels, so that tensors of the right names have wrong shapes."""
    spec = registry.architecture("efficientnet-lite0")
    first = replace(spec.stages[0][0], mids=(16,))
    return replace(spec, stem=replace(spec.stem, out=16), stages=((first,), *spec.stages[1:]))


@pytest.fixture
def lite0_pth():
    source = manifest.record("efficientnet-lite0")["sources"][0]
    return Path(str(importlib.metadata.distribution(source["package"]).locate_file(source["file"])))


def test_bad_files(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(zoo.ZooError, match=r"w\.safetensors' cannot be read"):
        zoo.load("resnet-20", pretrained=tmp_path / "w.safetensors")
    (tmp_path / "w.h5").touch()
    with pytest.raises(zoo.ZooError, match=r"w\.h5: not a readable HDF5 file"):
        zoo.load("resnet-20", pretrained=tmp_path / "w.h5")
    (tmp_path / "w.npz").touch()
    with pytest.raises(zoo.ZooError, match=r"must end in \.safetensors, \.pth"):
        zoo.load("resnet-20", pretrained=tmp_path / "w.npz")
    with pytest.raises(zoo.ZooError, match=r"saved as \.safetensors or into a folder"):
        zoo.save(zoo.build("resnet-20"), tmp_path / "w.npz")
    (tmp_path / "file").touch()
    with pytest.raises(zoo.ZooError, match="cannot write"):
        zoo.save(zoo.build("resnet-20"), tmp_path / "file" / "w.safetensors")


def test_given_values_are_not_drawn_first(monkeypatch):
    """With pretrained weights no random initialiser runs."""
    spec = registry.architecture("resnet-20")
    drawn = values(spec)

    def fail(*_, **__):
        raise AssertionError("an initialiser ran")

    monkeypatch.setattr(
        keras.initializers.RandomInitializer
        if hasattr(keras.initializers, "RandomInitializer")
        else keras.initializers.VarianceScaling,
        "__call__",
        fail,
    )
    from zoo import graph

    model = graph.build(spec, values=drawn)
    assert all(np.array_equal(numpy(v), drawn[path]) for path, v in zoo.variables(model).items())
    with pytest.raises(AssertionError, match="an initialiser ran"):
        graph.build(spec)


def test_seeds_decide_random_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return numpy(zoo.variables(zoo.build("resnet-20"))["stem.conv.kernel"])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_initial_weights_have_the_declared_spread():
    """He et al.'s normal over fan-out, as the released EfficientNet code draws it."""
    keras.utils.set_random_seed(0)
    kernel = numpy(zoo.variables(zoo.build("resnet-18"))["stage4.block2.conv2.conv.kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)
    assert abs(kernel.mean()) < 1e-4


def answer(model, x):
    return numpy(model(x))


def test_a_report_accounts_for_every_tensor(caplog):
    with caplog.at_level(logging.INFO, "zoo"):
        model = zoo.load("efficientnet-lite0", pretrained=True)
    report = zoo.report(model)
    assert report.loaded == tuple(zoo.variables(model))
    assert (report.adapted, report.new, report.unused) == ((), (), ())
    assert caplog.text.count("247 tensors loaded, none adapted, none new, none unused") == 1
    other = zoo.load("efficientnet-lite0", pretrained=True, num_classes=5, in_channels=1)
    report = zoo.report(other)
    assert report.adapted == ("stem.conv.kernel", "stem.norm.moving_mean")
    assert report.new == report.unused == ("head.classifier.dense.kernel", "head.classifier.dense.bias")
    assert set(zoo.report(zoo.load("resnet-20")).new) == set(zoo.variables(zoo.build("resnet-20")))
    with pytest.raises(zoo.ZooError, match=r"was not loaded by zoo\.load in this process"):
        zoo.report(zoo.build("resnet-20"))


def test_grey_pictures_of_a_real_network(photos):
    """With one channel the real weights still know a cup of coffee, and answer as they do for its grey RGB copy."""
    from PIL import Image

    grey = zoo.load("efficientnet-lite0", pretrained=True, in_channels=1)
    assert grey.input_shape == (None, None, None, 1)
    colour = zoo.load("efficientnet-lite0", pretrained=True)
    picture = Image.open(photos / "coffee.png").convert("L").convert("RGB")
    ours, theirs = (zoo.classify(model, picture)[0] for model in (grey, colour))
    assert [answer.name for answer in ours] == [answer.name for answer in theirs]
    assert ours[0].name == "espresso"
    for a, b in zip(ours, theirs, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
    four = zoo.load("efficientnet-lite0", pretrained=True, in_channels=4)
    with pytest.raises(zoo.ZooError, match="the model takes 4 channels; pictures are prepared for 3 or 1"):
        zoo.preprocess(picture, four)


@pytest.mark.parametrize("skip", [["head.classifier.*"], "head.classifier.*"])
def test_parts_left_out_on_purpose(skip):
    model = zoo.load("efficientnet-lite0", pretrained=True, skip=skip)
    assert zoo.report(model).new == ("head.classifier.dense.kernel", "head.classifier.dense.bias")
    assert zoo.record_of(model)["classes"] is None  # the thousand outputs mean nothing yet


def test_naming_a_tag_asks_for_its_weights():
    assert zoo.report(zoo.load("efficientnet-lite0.pypi_in1k")).loaded
    assert not zoo.report(zoo.load("efficientnet-lite0.pypi_in1k", pretrained=False)).loaded


@pytest.mark.parametrize("hostile", ["a\x1b[31m\nb", "x" * 300_000, "\u202e"])
def test_what_a_stranger_wrote_reaches_the_terminal_tamed(tmp_path, hostile):
    files.write(tmp_path / "w.safetensors", {**values(registry.architecture("resnet-20")), hostile: np.zeros(1, "f4")})
    for name in ("resnet-20", "resnet-32", "vgg-19-cifar"):
        with pytest.raises(zoo.ZooError) as error:
            zoo.load(name, pretrained=tmp_path / "w.safetensors")
        assert str(error.value).isprintable()
        assert len(str(error.value)) <= 2000
    report = zoo.report(zoo.load("resnet-20", pretrained=tmp_path / "w.safetensors", strict=False))
    assert str(report).isprintable()
    assert len(str(report)) < 500


def test_whole_numbers_are_no_weights(tmp_path):
    drawn = {path: array.astype(np.int64) for path, array in values(registry.architecture("resnet-20")).items()}
    files.write(tmp_path / "w.safetensors", drawn)
    with pytest.raises(zoo.ZooError, match=r"stem.conv.kernel is of type int64, not a float"):
        zoo.load("resnet-20", pretrained=tmp_path / "w.safetensors")


def test_not_strictly(tmp_path):
    drawn = values(registry.architecture("resnet-20"))
    gone = drawn.pop("stem.norm.gamma")
    files.write(tmp_path / "w.safetensors", {**drawn, "extra": gone})
    model = zoo.load("resnet-20", pretrained=tmp_path / "w.safetensors", strict=False)
    assert zoo.report(model).new == ("stem.norm.gamma",)
    assert zoo.report(model).unused == ("extra",)


@pytest.mark.parametrize("size", [64, 600])
def test_an_input_far_from_the_weights_is_worth_a_line(caplog, size):
    zoo.load("efficientnet-lite0", pretrained=True, input_shape=size)
    assert f"an input of {size} px is far from the 224 px of its weights" in caplog.text
    caplog.clear()
    zoo.load("efficientnet-lite0", pretrained=True, input_shape=192)
    assert "far from" not in caplog.text


def test_weights_into_a_built_model(tmp_path):
    model = zoo.build("efficientnet-lite0", num_classes=3)
    before = numpy(zoo.variables(model)["head.classifier.dense.kernel"])
    report = zoo.load_weights(model, "pypi_in1k")
    assert report is zoo.report(model)
    assert report.new == ("head.classifier.dense.kernel", "head.classifier.dense.bias")
    assert np.array_equal(numpy(zoo.variables(model)["head.classifier.dense.kernel"]), before)
    whole = zoo.load("efficientnet-lite0", pretrained=True)
    for path, variable in zoo.variables(model).items():
        if path in report.loaded:
            assert np.array_equal(numpy(variable), numpy(zoo.variables(whole)[path])), path
    zoo.save(whole, tmp_path / "w.safetensors")
    other = zoo.build(zoo.spec("efficientnet-lite0", dialect="timm"))
    with pytest.raises(zoo.ZooError, match=r"the model's dialect is 'timm'.*zoo\.load builds the model that they need"):
        zoo.load_weights(other, tmp_path / "w.safetensors")
    with pytest.raises(zoo.ZooError, match="was not built by zoo"):
        zoo.load_weights(keras.Sequential([keras.layers.Dense(3)]), tmp_path / "w.safetensors")


def test_a_model_keeps_its_weights_when_their_file_goes(tmp_path):
    """Arrays are views of the mapped file until the model has copies of its own."""
    zoo.save(zoo.build("resnet-20"), tmp_path / "w.safetensors")
    model = zoo.load(tmp_path / "w.safetensors")
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    expected = answer(model, x)
    with (tmp_path / "w.safetensors").open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff" * 500_000)  # in place, as no writer of ours does
    assert np.array_equal(answer(model, x), expected)


@pytest.mark.parametrize("name", ["efficientnet-b0", "ghostnet-1.0x", "resnet-18", "mobilenet-v2-1.0x"])
def test_the_graph_is_the_same_with_and_without_weights(name, tmp_path):
    """And after `num_classes`, `in_channels` and a reload: only numbers differ."""
    import json

    zoo.save(zoo.load(name), tmp_path / "w.safetensors")
    options = {"num_classes": 5, "in_channels": 1}

    def graph_of(model):
        config = json.loads(model.to_json())
        for layer in config["config"]["layers"]:
            if layer["name"] == "stem.conv":
                layer["config"].pop("bias_initializer")  # where spec and record travel
        return config

    assert graph_of(zoo.load(name, **options)) == graph_of(zoo.load(tmp_path / "w.safetensors", **options))
