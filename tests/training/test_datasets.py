"""What trains and what tests is apart, the same everywhere, and what cannot be used is said in one line."""

import hashlib
import io
import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling_rules.errors import ZooError
from training.datasets import halves, open_source


def picture(path, color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (color % 256, color // 256, 7)).save(path)


def fill(folder, counts):
    """`counts` pictures of each class."""
    for name, count in counts.items():
        for number in range(count):
            picture(folder / name / f"{number:03d}.png", number)
    return folder


def numbers(data):
    return [int(number) for *_, number in data.as_numpy_iterator()]


def keys(source):
    """'CLASS/x.png' of all pictures, in order."""
    return ["/".join(source.name_of(n).split("/")[-2:]) for n in numbers(source.examples())]


def hashed(purpose, key):
    return int.from_bytes(hashlib.sha256(f"{purpose}/{key}".encode()).digest()[:6], "big") / 2**48


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("flat"), {"cat": 60, "dog": 90, "Ant": 50})


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    fill(root / "train", {"cat": 60, "dog": 40})
    fill(root / "val", {"cat": 5, "dog": 7})
    return root


def test_a_folder_without_splits_is_split_by_a_hash_of_the_path(flat):
    every = [f"{name}/{number:03d}.png" for name, n in (("Ant", 50), ("cat", 60), ("dog", 90)) for number in range(n)]
    parts = {part: open_source(flat, part) for part in ("train", "minival", "test", "all")}
    tested = [key for key in every if hashed("test", key) < 0.2]
    held = [key for key in every if key not in tested and hashed("minival", key) < 0.1]
    assert keys(parts["all"]) == every
    assert keys(parts["test"]) == tested
    assert keys(parts["minival"]) == held
    assert keys(parts["train"]) == [key for key in every if key not in tested and key not in held]
    assert 0.1 < len(tested) / 200 < 0.3
    assert 0.03 < len(held) / (200 - len(tested)) < 0.2
    for part in parts.values():
        assert part.classes == ("Ant", "cat", "dog")
        assert part.count == len(keys(part))


def test_what_comes_out_is_the_file_and_the_label_of_its_folder(flat):
    source = open_source(flat, "all")
    for data, label, number in source.examples().as_numpy_iterator():
        path = source.name_of(int(number))
        with open(path, "rb") as file:  # noqa: PTH123
            assert data == file.read()
        assert source.classes[label] == path.split("/")[-2]


def test_folders_with_splits(split):
    train, minival = open_source(split, "train"), open_source(split, "minival")
    every = [f"{name}/{n:03d}.png" for name, count in (("cat", 60), ("dog", 40)) for n in range(count)]
    held = [key for key in every if hashed("minival", key) < 0.1]
    assert keys(minival) == held
    assert held
    assert keys(train) == [key for key in every if key not in held]
    for name in ("val", "validation"):
        assert open_source(split, name).count == 12


def test_an_own_minival_is_taken_unless_folds_are_asked_for(tmp_path):
    fill(tmp_path / "train", {"cat": 30, "dog": 30})
    fill(tmp_path / "minival", {"cat": 2, "dog": 3})
    assert open_source(tmp_path, "train").count == 60
    assert open_source(tmp_path, "minival").count == 5
    parts = [open_source(tmp_path, part, fold="1/2") for part in ("train", "minival")]
    assert sorted(keys(parts[0]) + keys(parts[1])) == keys(open_source(tmp_path, "train"))


def test_a_folder_for_testing_alone(tmp_path):
    fill(tmp_path / "val", {"n01440764": 2, "n01443537": 3})
    source = open_source(tmp_path, "validation")
    assert source.classes == ("n01440764", "n01443537")
    assert source.count == 5
    with pytest.raises(ZooError, match=r"unknown split of .* 'train'; valid: validation\."):
        open_source(tmp_path, "train")


@settings(max_examples=6, deadline=None)
@given(parts=st.integers(2, 9))
def test_folds_part_the_training_pictures(flat, parts):
    every = sorted(keys(open_source(flat, "train")) + keys(open_source(flat, "minival")))
    held = []
    for fold in range(1, parts + 1):
        minival = keys(open_source(flat, "minival", fold=f"{fold}/{parts}"))
        assert sorted(minival + keys(open_source(flat, "train", fold=f"{fold}/{parts}"))) == every
        held += minival
    assert sorted(held) == every


def test_few_of_each_class_are_nested_and_depend_on_the_seed(flat):
    whole = set(keys(open_source(flat, "train")))
    chosen = {few: set(keys(open_source(flat, "train", few=few, seed=4))) for few in (1, 5, 20)}
    for few, found in chosen.items():
        assert len(found) == 3 * few
        assert {name: sum(key.startswith(name) for key in found) for name in ("Ant", "cat", "dog")} == dict.fromkeys(
            ("Ant", "cat", "dog"), few
        )
        assert found <= whole
    assert chosen[1] < chosen[5] < chosen[20]
    assert set(keys(open_source(flat, "train", few=5, seed=5))) != chosen[5]
    assert keys(open_source(flat, "test", few=1)) == keys(open_source(flat, "test"))
    assert open_source(flat, "train", few=1000).count == len(whole)


def test_halves_part_each_class_of_the_training_pictures(flat):
    whole = open_source(flat, "train", few=15)
    first, second = halves(whole, seed=1)
    assert sorted(keys(first) + keys(second)) == sorted(keys(whole))
    for name in ("Ant", "cat", "dog"):
        assert [sum(key.startswith(name) for key in keys(half)) for half in (first, second)] == [8, 7]
    assert [keys(half) for half in halves(whole, seed=2)] == [keys(first), keys(second)]
    orders = [numbers(half.examples(0)) for half in (first, halves(whole, seed=2)[0])]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    with pytest.raises(ZooError, match="has a single picture of Ant to train on; two parts need two"):
        halves(open_source(flat, "train", few=1), seed=0)


def test_an_epoch_is_a_permutation_that_seed_and_epoch_fix(flat):
    source = open_source(flat, "train", seed=1)
    first = numbers(source.examples(0))
    tf.random.set_seed(0)
    assert numbers(source.examples(0)) == first
    assert sorted(first) == numbers(source.examples())
    others = [numbers(source.examples(1)), numbers(open_source(flat, "train", seed=2).examples(0))]
    for other in others:
        assert sorted(other) == sorted(first)
        assert np.mean(np.equal(other, first)) < 0.1


def test_epochs_go_on_from_any_place(flat):
    source = open_source(flat, "train", seed=1)
    row = [(int(e), int(n)) for e, *_, n in source.epochs(3).take(2 * source.count + 5)]
    assert [n for _, n in row] == [n for e in (3, 4, 5) for n in numbers(source.examples(e))][: len(row)]
    assert [e for e, _ in row] == [3] * source.count + [4] * source.count + [5] * 5
    later = [(int(e), int(n)) for e, *_, n in source.epochs(3, 50).take(40 + source.count)]
    assert later == row[50 : 90 + source.count]


def test_classes_that_only_train_has_are_told(tmp_path, caplog):
    fill(tmp_path / "train", {"ant": 2, "bee": 2, "cat": 2})
    fill(tmp_path / "test", {"bee": 3})
    with caplog.at_level(logging.WARNING, "zoo"):
        source = open_source(tmp_path, "test")
    assert source.classes == ("ant", "bee", "cat")
    assert {int(label) for _, label, _ in source.examples()} == {1}
    assert "lacks 2 classes of train: ant, cat" in caplog.text


def test_other_files_are_left_out_and_other_pictures_refused(tmp_path):
    fill(tmp_path, {"cat": 1, ".hidden": 1})
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / "._001.png").write_bytes(b"junk")
    (tmp_path / "list.csv").write_text("")
    picture(tmp_path / "cat" / "more" / "A.BMP")
    picture(tmp_path / "cat" / "a.webp")
    source = open_source(tmp_path, "all")
    assert [source.name_of(n).split("/")[-1] for n in range(source.count)] == ["000.png", "a.webp", "A.BMP"]
    picture(tmp_path / "cat" / "b.tiff")
    with pytest.raises(ZooError, match=r"b\.tiff: \.tiff is not read in training; convert it to one of \.bmp .* \.png"):
        open_source(tmp_path, "all")


def test_folders_that_cannot_be_used(tmp_path, split):
    cases = [
        (tmp_path / "absent", "train", "no such folder of pictures"),
        (tmp_path, "train", "has no class folders"),
        (split, "test", "unknown split of .* 'test'; valid: minival, train, validation"),
        (split, "trian", "Did you mean train"),
    ]
    for folder, part, message in cases:
        with pytest.raises(ZooError, match=message):
            open_source(folder, part)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ZooError, match=r"class folder .*dog has no pictures"):
        open_source(tmp_path, "all")
    fill(tmp_path / "other" / "train", {"dog": 3})
    fill(tmp_path / "other" / "test", {"dogs": 3})
    with pytest.raises(ZooError, match=r"dogs: train has no such class\. Did you mean dog\?"):
        open_source(tmp_path / "other", "test")
    with pytest.raises(
        ZooError, match=r"no data set or folder 'cifar11'; valid: imagenet2012, .* Did you mean cifar10"
    ):
        open_source("cifar11", "train")


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/5/2", "-1/5", ""])
def test_bad_folds(flat, fold):
    with pytest.raises(ZooError, match=r"fold must be i/k, as in 2/5"):
        open_source(flat, "train", fold=fold)


def test_other_bad_choices(flat):
    with pytest.raises(ZooError, match=r"few must be .* at least 1, not 0"):
        open_source(flat, "train", few=0)
    with pytest.raises(ZooError, match=r"a seed lies in"):
        open_source(flat, "train", seed=-1)


# -- TensorFlow Datasets: records that it writes itself


def gray(number):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(file, "png")
    return file.getvalue()


class ZooTiny(tfds.core.GeneratorBasedBuilder):
    """Pictures whose colour is their number, and whose label is that modulo 4."""

    VERSION = tfds.core.Version("1.0.0")
    COUNTS = (("train", 0, 300), ("test", 300, 340))

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["a", "b", "c", "d"]),
            "other": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(first, last) for name, first, last in self.COUNTS}

    def _generate_examples(self, first, last):
        for number in range(first, last):
            yield str(number), {"image": io.BytesIO(gray(number)), "label": number % 4, "other": "x"}


class ZooMulti(ZooTiny):
    """The same with several labels a picture."""

    def _info(self):
        features = {"image": tfds.features.Image(), "labels": tfds.features.Sequence(tfds.features.ClassLabel())}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, first, last):
        for number in range(first, first + 2):
            yield str(number), {"image": io.BytesIO(gray(number)), "labels": []}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Records in five files a split."""
    folder = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(num_shards=5)
    ZooTiny(data_dir=folder).download_and_prepare(download_config=config)
    return folder


def drawn(source, epoch=None):
    """The numbers that the pictures show."""
    pixels = [tf.io.decode_png(data).numpy()[0, 0] for data, *_ in source.examples(epoch)]
    return [int(p[0]) + 256 * int(p[1]) for p in pixels]


def test_records_are_apart_and_all_there(tiny):
    parts = {part: open_source("zoo_tiny", part, data_dir=tiny) for part in ("train", "minival", "test")}
    shown = {part: drawn(source) for part, source in parts.items()}
    assert sorted(shown["train"] + shown["minival"]) == list(range(300))
    assert len(shown["minival"]) == parts["minival"].count == 30
    assert parts["train"].count == 270
    assert sorted(shown["test"]) == list(range(300, 340))
    for source in parts.values():
        labels = [int(label) for _, label, _ in source.examples()]
        assert labels == [number % 4 for number in drawn(source)]
        assert source.classes == ("a", "b", "c", "d")


def test_a_record_has_its_number_for_ever(tiny):
    number_of = {}
    folds = [(part, 2, f"{i}/3") for i in (1, 2, 3) for part in ("train", "minival")]
    for part, epoch, fold in [("train", None, None), ("minival", None, None), ("test", 1, None), *folds]:
        source = open_source("zoo_tiny", part, data_dir=tiny, fold=fold)
        for picture, number in zip(drawn(source, epoch), numbers(source.examples(epoch)), strict=True):
            assert number_of.setdefault(picture, number) == number
    assert sorted(number_of.values()) == list(range(340))
    name = open_source("zoo_tiny", "test", data_dir=tiny).name_of(339)
    assert name in {f"record {n} of zoo_tiny-{s}.tfrecord-00004-of-00005" for n in range(61) for s in ("train", "test")}


def test_an_epoch_of_records(tiny):
    source = open_source("zoo_tiny", "train", data_dir=tiny, seed=1)
    first = drawn(source, 0)
    tf.random.set_seed(0)
    assert drawn(source, 0) == first
    assert sorted(first) == sorted(drawn(source))
    for other in (drawn(source, 1), drawn(open_source("zoo_tiny", "train", data_dir=tiny, seed=2), 0)):
        assert sorted(other) == sorted(first)
        assert np.mean(np.equal(other, first)) < 0.1
    row = [int(n) for *_, n in source.epochs(0).take(400)]
    assert [int(n) for *_, n in source.epochs(0, 200).take(200)] == row[200:]


def test_folds_of_records_part_them(tiny):
    held = [drawn(open_source("zoo_tiny", "minival", data_dir=tiny, fold=f"{i}/7")) for i in range(1, 8)]
    assert sorted(number for minival in held for number in minival) == list(range(300))
    for i, minival in enumerate(held, 1):
        train = drawn(open_source("zoo_tiny", "train", data_dir=tiny, fold=f"{i}/7"))
        assert sorted(train + minival) == list(range(300))


def test_few_records(tiny):
    source = open_source("zoo_tiny", "train", data_dir=tiny, few=3, seed=2)
    shown = drawn(source)
    assert np.bincount(np.array(shown) % 4).tolist() == [3, 3, 3, 3]
    assert [int(label) for _, label, _ in source.examples()] == [number % 4 for number in shown]
    assert sorted(drawn(source, 5)) == sorted(shown)
    more = drawn(open_source("zoo_tiny", "train", data_dir=tiny, few=9, seed=2))
    assert set(shown) < set(more)
    assert set(more) <= set(drawn(open_source("zoo_tiny", "train", data_dir=tiny)))


def test_records_that_cannot_be_used(tiny, tmp_path):
    with pytest.raises(ZooError, match=r"unknown split of zoo_tiny 'validation'; valid: train, minival, test\."):
        open_source("zoo_tiny", "validation", data_dir=tiny)
    with pytest.raises(ZooError, match=r"zoo_multi has no image with one label; it has: image, labels\."):
        open_source("zoo_multi", "train", data_dir=tmp_path)
    with pytest.raises(ZooError, match=r"cars196 is not in .* and cannot be prepared: "):
        open_source("cars196", "train", data_dir="/dev/null/no")


# -- the features of data sets that cannot be downloaded here

MOCKED = {
    "oxford_flowers102": ({"train": 1020, "validation": 1020, "test": 6149}, 102),
    "cifar100": ({"train": 50_000, "test": 10_000}, 100),
    "food101": ({"train": 75_750, "validation": 25_250}, 101),
    "imagenet2012": ({"train": 1_281_167, "validation": 50_000, "test": 100_000}, 1000),
}


@pytest.fixture
def mocked(request, pretend):
    """The name of one of them, with 12 random pictures."""
    pretend(request.param, MOCKED[request.param][0], 12)
    return request.param


@pytest.mark.parametrize("mocked", MOCKED, indirect=True)
def test_the_features_of_real_data_sets(mocked):
    counts, classes = MOCKED[mocked]
    training = counts["train"] + (counts["validation"] if mocked == "oxford_flowers102" else 0)
    held = min(training // 10, 10_000)
    train, minival = (open_source(mocked, part) for part in ("train", "minival"))
    assert train.count == training - held
    assert minival.count == held
    assert len(train.classes) == classes
    for epoch in (None, 0):
        for data, label, _ in train.examples(epoch).take(12):
            assert tf.io.decode_image(data).shape[2] == 3
            assert 0 <= int(label) < classes
    tested = {"food101": "validation", "imagenet2012": "validation"}.get(mocked, "test")
    assert open_source(mocked, tested).count == counts[tested]
    if mocked == "oxford_flowers102":
        assert training == 2040  # EfficientNet's Table 6
        with pytest.raises(ZooError, match=r"valid: train, minival, test\."):
            open_source(mocked, "validation")
