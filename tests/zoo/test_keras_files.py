"""Files of keras.applications, written by Keras itself: the answers of both its graphs, and the manifest's route."""

import h5py
import keras
import numpy as np
import pytest
from hub_server import Hub
from keras.src.applications import efficientnet
from keras.src.legacy.saving import legacy_h5_format

import zoo
from weights import manifest, store
from zoo import catalog
from zoo.catalog import spec as spec_of

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS = np.random.default_rng(5).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)


def randomise(model, seed, normalization):
    """New numbers for every weight; the in-graph normalisation takes (mean, variance)."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.variables:
            shape, name = variable.shape, variable.name
            if layer.name.startswith("normalization"):
                variable.assign({"mean": normalization[0], "variance": normalization[1]}.get(name, np.zeros(shape)))
            elif name in ("gamma", "moving_variance"):
                variable.assign(rng.uniform(0.8, 1.2, shape))
            elif "kernel" in name:
                fan_in = np.prod(shape[:2]) if len(shape) == 4 and shape[3] == 1 else np.prod(shape[:-1])
                variable.assign(rng.standard_normal(shape) * np.sqrt(2 / fan_in))
            elif "seed" not in name:
                variable.assign(0.1 * rng.standard_normal(shape))
        if layer.name.startswith("normalization"):
            layer.finalize_state()  # it computes with copies of its variables


def write(model, path):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def agree(ours, theirs, pixels=PIXELS):
    a, b = (keras.ops.convert_to_numpy(model(pixels, training=False)) for model in (ours, theirs))
    assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()


def graph(weights, monkeypatch, path):
    """EfficientNetB0 as `weights=None` or 'imagenet' builds it, the latter with our file for the download."""
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(path))
    return keras.applications.EfficientNetB0(weights=weights, classifier_activation=None)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file as Google published it: std where the layer expects the variance; and Keras' own graph of it."""
    plain = graph(None, monkeypatch, None)
    randomise(plain, 1, (MEAN, STD))
    write(plain, tmp_path / "efficientnetb0.h5")
    theirs = graph("imagenet", monkeypatch, tmp_path / "efficientnetb0.h5")
    assert sum(layer.name.startswith("rescaling") for layer in theirs.layers) == 2
    return tmp_path / "efficientnetb0.h5", theirs


def test_the_published_file_in_the_graph_of_imagenet(published):
    path, theirs = published
    ours = zoo.load("efficientnet-b0", pretrained=path)
    agree(ours, theirs)
    spec = zoo.inspection.spec_of(ours)
    assert spec.mean == pytest.approx(255 * MEAN, rel=1e-6)
    assert spec.std == pytest.approx(255 * STD, rel=1e-6)
    (layer,) = (layer for layer in ours.layers if isinstance(layer, keras.layers.Rescaling))
    assert layer.name == "normalize"


def test_an_own_file_of_the_graph_without_weights(tmp_path, monkeypatch):
    theirs = graph(None, monkeypatch, None)
    randomise(theirs, 2, ([0.4, 0.5, 0.6], [0.05, 0.06, 0.07]))
    write(theirs, tmp_path / "own.h5")
    ours = zoo.load("efficientnet-b0", pretrained=tmp_path / "own.h5")
    agree(ours, theirs)
    assert zoo.inspection.spec_of(ours).std == pytest.approx(255 * np.sqrt([0.05, 0.06, 0.07]), rel=1e-5)


def test_an_own_whole_model_of_the_graph_of_imagenet(published, tmp_path):
    """Trained on from the published weights and saved whole: its second rescaling is in the file's list of layers."""
    _, theirs = published
    randomise(theirs, 3, ([0.4, 0.5, 0.6], [0.05, 0.06, 0.07]))
    theirs.save(tmp_path / "own.h5")
    ours = zoo.load("efficientnet-b0", pretrained=tmp_path / "own.h5")
    agree(ours, theirs)
    assert zoo.inspection.spec_of(ours).std == pytest.approx(255 * np.sqrt([0.05, 0.06, 0.07] * STD), rel=1e-5)


def test_the_manifests_route(published, tmp_path, monkeypatch):
    """Downloaded from where the record says (by a mirror), refused for its md5; without it, Keras' own answers."""
    path, theirs = published
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("weights.download.WAIT", 0.001)
    with Hub() as hub:
        url = hub.serve("/keras-applications/efficientnetb0.h5", path.read_bytes())
        mirror = f"https://storage.googleapis.com/={url.removesuffix('keras-applications/efficientnetb0.h5')}"
        monkeypatch.setenv("ZOO_MIRRORS", mirror)
        with pytest.raises(zoo.ZooError, match=r"has md5 .*, its record says 902e53a9f72be733fc0bcb005b3ebbac"):
            zoo.load("efficientnet-b0", pretrained=True)
        record = manifest.record("efficientnet-b0")
        record["sources"] = [record["sources"][0] | {"integrity": "hub", "hash": None}]
        weights = store.published(catalog.spec("efficientnet-b0"), record)
        again = store.published(catalog.spec("efficientnet-b0"), record)
    assert weights.spec == again.spec == spec_of("efficientnet-b0")
    assert all(np.array_equal(again.tensors[key], array) for key, array in weights.tensors.items())
    agree(zoo.graph.build(again.spec, values=again.tensors), theirs)


def test_a_file_that_normalises_otherwise_is_followed(tmp_path, monkeypatch, caplog):
    """The record's numbers are a claim; the file's are what its accuracy was made with. The cache keeps them."""
    theirs = graph(None, monkeypatch, None)
    randomise(theirs, 4, (MEAN, [0.05, 0.06, 0.07]))
    write(theirs, tmp_path / "efficientnetb0.h5")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with Hub() as hub:
        url = hub.serve("/efficientnetb0.h5", (tmp_path / "efficientnetb0.h5").read_bytes())
        record = manifest.record("efficientnet-b0")
        source = record["sources"][0] | {"integrity": "hub", "hash": None, "url": url}
        for _ in range(2):
            weights = store.published(catalog.spec("efficientnet-b0"), record | {"sources": [source]})
            agree(zoo.graph.build(weights.spec, values=weights.tensors), theirs)
    assert caplog.text.count("not as its record says") == 1


@pytest.mark.parametrize(
    ("name", "tag", "size", "make"),
    [
        ("mobilenet-v1-0.25x", "keras_in1k_128", 128, ("MobileNet", 0.25)),
        ("mobilenet-v2-0.35x", "keras_in1k_96", 96, ("MobileNetV2", 0.35)),
    ],
)
def test_mobilenets_by_tag(name, tag, size, make, tmp_path, monkeypatch):
    maker, alpha = make
    theirs = getattr(keras.applications, maker)((size, size, 3), alpha, weights=None, classifier_activation=None)
    randomise(theirs, 6, None)
    write(theirs, tmp_path / "net.h5")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    place = manifest.record(name, tag)["sources"][0]["url"].removeprefix("https://storage.googleapis.com/")
    with Hub() as hub:
        served = hub.serve("/" + place, (tmp_path / "net.h5").read_bytes())
        monkeypatch.setenv("ZOO_MIRRORS", f"https://storage.googleapis.com/={served.removesuffix(place)}")
        ours = zoo.load(name, pretrained=tag)
    x = PIXELS[:, :size, :size]
    a = keras.ops.convert_to_numpy(ours(x))
    b = keras.ops.convert_to_numpy(theirs(x / 127.5 - 1, training=False)).reshape(1, -1)
    assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()
    assert zoo.record_of(ours)["preprocessing"]["crop"] == size


def test_normalisation_that_is_none(tmp_path, monkeypatch):
    theirs = graph(None, monkeypatch, None)
    randomise(theirs, 7, (MEAN, [0.05, -0.06, 0.07]))
    write(theirs, tmp_path / "own.h5")
    with pytest.raises(zoo.ZooError, match="normalization/variance must be above zero"):
        zoo.load("efficientnet-b0", pretrained=tmp_path / "own.h5")
