"""The batches: the same from any step on, over any number of processes, and with damaged pictures."""

import dataclasses
import itertools
import logging

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling_rules.errors import ZooError
from training import recipe as recipes
from training.datasets import open_source
from training.pipeline import eval_batches, steady, told, train_batches
from training.recipe import Augment
from zoo.images import read
from zoo.preprocessing import transform

RECIPE = dataclasses.replace(
    recipes.load("small"), batch=12, label_smoothing=0.0, augment=Augment(), interpolation="bilinear"
)
SIZE = 8
CHANCE = dataclasses.replace(RECIPE, augment=Augment(crop_area=(0.2, 1.0), flip=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """50 pictures of one colour each, (n, class, 9), in 'all'."""
    root = tmp_path_factory.mktemp("pictures")
    for n in range(50):
        name = root / "abc"[n % 3] / f"{n:02d}.png"
        name.parent.mkdir(exist_ok=True)
        Image.new("RGB", (10, 10), (n, n % 3, 9)).save(name)
    return root


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("noise")
    for n in range(40):
        name = root / "ab"[n % 2] / f"{n:02d}.jpg"
        name.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(name)
    return root


def pulled(data, count):
    return [(images.numpy(), labels.numpy()) for images, labels in data.take(count)]


def shown(batches):
    """The n of each picture, batch by batch."""
    return [np.rint(images[:, 0, 0, 0]).astype(int).tolist() for images, _ in batches]


def equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_epochs_follow_each_other_in_full_batches(folder):
    source = open_source(folder, "all", seed=3)
    batches = pulled(train_batches(source, RECIPE, SIZE, seed=1)(0), 13)
    row = [n for batch in shown(batches) for n in batch]
    for epoch in range(3):
        assert sorted(row[epoch * 50 : epoch * 50 + 50]) == list(range(50))
        names = [int(source.name_of(int(n))[-6:-4]) for *_, n in source.examples(epoch)]
        assert row[epoch * 50 : epoch * 50 + 50] == names
    for images, labels in batches:
        assert images.shape == (12, SIZE, SIZE, 3)
        assert images.dtype == labels.dtype == np.float32
        np.testing.assert_array_equal(labels, np.eye(3)[np.rint(images[:, 0, 0, 1]).astype(int)])


@settings(max_examples=3, deadline=None)
@given(step=st.integers(0, 300))
def test_any_step_is_reached_directly(noise, step):
    batches = train_batches(open_source(noise, "all", seed=3), CHANCE, SIZE, seed=1)
    equal(pulled(batches(step), 5)[3:], pulled(batches(step + 3), 2))


def test_the_same_each_time_whatever_the_global_seed(noise):
    source = open_source(noise, "all", seed=3)
    first = pulled(train_batches(source, CHANCE, SIZE, seed=1)(0), 4)
    tf.random.set_seed(5)
    equal(first, pulled(train_batches(source, CHANCE, SIZE, seed=1)(0), 4))
    other = pulled(train_batches(source, CHANCE, SIZE, seed=2)(0), 4)
    assert not np.array_equal(first[0][0], other[0][0])
    np.testing.assert_array_equal(first[0][1], other[0][1])  # the order is the source's


def test_a_picture_is_augmented_anew_each_epoch(noise):
    source = dataclasses.replace(
        open_source(noise, "all"),
        count=1,
        stored=lambda epoch, start: open_source(noise, "all").stored(None, 0).take(1).skip(tf.cast(start, tf.int64)),
    )
    images = pulled(train_batches(source, CHANCE, SIZE, seed=1)(0), 1)[0][0]
    assert len({image.tobytes() for image in images}) > 6


@pytest.mark.parametrize("processes", [2, 3])
def test_the_processes_together_have_the_batch_of_one(noise, processes):
    source = open_source(noise, "all", seed=3)
    whole = pulled(train_batches(source, CHANCE, SIZE, seed=1)(2), 5)
    parts = [pulled(train_batches(source, CHANCE, SIZE, seed=1, shard=(i, processes))(2), 5) for i in range(processes)]
    equal(whole, [tuple(np.concatenate(both) for both in zip(*rows, strict=True)) for rows in zip(*parts, strict=True)])


def test_labels_are_smoothed_as_szegedy_states(folder):
    """Szegedy et al. 2016, section 7: (1 - e) * one-hot + e / K."""
    recipe = dataclasses.replace(RECIPE, label_smoothing=0.3)
    images, labels = pulled(train_batches(open_source(folder, "all"), recipe, SIZE, seed=1)(0), 1)[0]
    np.testing.assert_allclose(labels, 0.7 * np.eye(3)[np.rint(images[:, 0, 0, 1]).astype(int)] + 0.1, rtol=1e-6)


def test_mixup_mixes_pictures_as_it_mixes_labels(folder):
    """Two pictures of one colour: the share of each is seen in the label, and in the mean of the colours."""
    recipe = dataclasses.replace(RECIPE, augment=Augment(mixup=0.8))
    source = open_source(folder, "all")
    batches = pulled(train_batches(source, recipe, SIZE, seed=1)(0), 6)
    plain = pulled(train_batches(source, RECIPE, SIZE, seed=1)(0), 6)
    for (images, labels), (bare, _) in zip(batches, plain, strict=True):
        np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(labels @ [0, 1, 2], images[:, 0, 0, 1], atol=1e-4)
        np.testing.assert_allclose(images.sum(0), bare.sum(0), rtol=1e-4)
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(batches, plain, strict=True))
    equal(batches[3:], pulled(train_batches(source, recipe, SIZE, seed=1)(3), 3))


# -- what cannot be read


def test_processes_share_what_is_measured(noise):
    source, told = open_source(noise, "train"), {"resize": 8, "crop": 8, "interpolation": "bilinear"}
    parts = [[int(n) for *_, some in eval_batches(source, told, 3, (rank, 3)) for n in some] for rank in range(3)]
    whole = [int(n) for *_, some in eval_batches(source, told, 5) for n in some]
    assert parts == [whole[rank::3] for rank in range(3)]
    assert len(whole) == source.count


@pytest.fixture
def damaged(folder, tmp_path):
    """The 50 pictures with a damaged one and an empty one."""
    for path in folder.glob("*/*.png"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "a" / "03.png").write_bytes((folder / "a" / "03.png").read_bytes()[:50])
    (tmp_path / "b" / "07.png").write_bytes(b"")
    return tmp_path


BAD = ("03.png", "07.png")


def test_unreadable_pictures_are_replaced_by_the_next_of_the_batch(folder, damaged, caplog):
    skipped = []
    source = open_source(damaged, "all", seed=3)
    make = train_batches(source, CHANCE, SIZE, seed=1, unreadable=0.04, skipped=skipped)
    with caplog.at_level(logging.WARNING, "zoo"):
        batches = pulled(make(0), 9)
    expected = shown(pulled(train_batches(open_source(folder, "all", seed=3), CHANCE, SIZE, seed=1)(0), 9))
    for batch in expected:
        good = [n for n in batch if n not in (3, 7)]
        for row, n in enumerate(batch):
            if n in (3, 7):
                later = [m for m in batch[row:] if m in good]
                batch[row] = (later or good)[0]
    assert shown(batches) == expected
    for images, labels in batches:
        np.testing.assert_array_equal(labels.argmax(1), np.rint(images[:, 0, 0, 1]))
    assert sorted(skipped) == [str(damaged / "a" / "03.png"), str(damaged / "b" / "07.png")]
    assert caplog.text.count("cannot read") == 2
    equal(batches[5:], pulled(make(5), 4))


def test_without_the_guard_the_batches_are_the_same(noise, damaged):
    source = open_source(noise, "all", seed=3)
    make = train_batches(source, CHANCE, SIZE, seed=1, guarded=False)
    equal(pulled(make(2), 5), pulled(train_batches(source, CHANCE, SIZE, seed=1)(2), 5))
    source = open_source(damaged, "all", seed=3)
    quick, guarded = (
        train_batches(source, CHANCE, SIZE, seed=1, unreadable=0.04, guarded=guard) for guard in (False, True)
    )
    asked = []

    def noted(step):
        asked.append(step)
        return guarded(step)

    batches = [(images.numpy(), labels.numpy()) for images, labels in itertools.islice(steady(quick, noted, 2), 7)]
    equal(batches, pulled(guarded(2), 7))
    names = [source.name_of(int(n))[-6:] for epoch in range(3) for *_, n in source.examples(epoch)]
    assert asked == [next(place // 12 for place, name in enumerate(names) if place >= 24 and name in BAD)]


def test_a_file_that_vanishes_is_unreadable_too(damaged):
    source = open_source(damaged, "all")
    (damaged / "c" / "05.png").unlink()
    skipped = []
    pulled(train_batches(source, RECIPE, SIZE, seed=1, unreadable=0.06, skipped=skipped)(0), 6)
    assert len(skipped) == 3


def test_too_many_unreadable_pictures(damaged):
    source = open_source(damaged, "all", seed=3)
    order = [source.name_of(int(n)) for *_, n in source.examples(0)]
    first = min((str(damaged / "a" / "03.png"), str(damaged / "b" / "07.png")), key=order.index)
    message = rf"cannot read 2 of the 50 pictures .* share of 0\.03 that may be skipped; the first is {first}\.$"
    with pytest.raises(ZooError, match=message), told():
        pulled(train_batches(source, RECIPE, SIZE, seed=1, unreadable=0.03)(0), 9)
    with pytest.raises(ZooError, match=rf"cannot read 1 of the 50 .* the first is {first}\.$"), told():
        pulled(train_batches(source, RECIPE, SIZE, seed=1)(0), 9)


def test_a_batch_without_a_good_picture(damaged):
    for path in damaged.glob("*/*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(ZooError, match=r"no picture of a batch can be read, such as .*\.png"), told():
        pulled(train_batches(open_source(damaged, "all"), RECIPE, SIZE, seed=1, unreadable=1.0)(0), 1)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range(folder, label):
    source = open_source(folder, "all")

    def stored(epoch, start):
        return source.stored(epoch, start).map(
            lambda x, y, n: (x, tf.where(n == 8, tf.constant(label, tf.int64), y), n)
        )

    bad = dataclasses.replace(source, stored=stored)
    message = rf"a/24\.png has label {label}; .* has 3 classes, from 0\.$"
    with pytest.raises(ZooError, match=message), told():
        pulled(train_batches(bad, RECIPE, SIZE, seed=1)(0), 5)
    with pytest.raises(ZooError, match=message), told():
        list(eval_batches(bad, {"resize": 8, "crop": 8, "interpolation": "bilinear"}, 7))


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError), told():
        tf.io.decode_jpeg(b"junk")


# -- evaluation


def test_evaluation_sees_each_picture_once_with_pils_pixels(noise):
    preprocessing = {"resize": 18, "crop": 16, "interpolation": "bicubic"}
    source = open_source(noise, "all")
    batches = list(eval_batches(source, preprocessing, 12))
    assert [len(labels) for _, labels, _ in batches] == [12, 12, 12, 4]
    numbers = np.concatenate([n for *_, n in batches])
    assert [int(n) for n in numbers] == [int(n) for *_, n in source.examples()]
    for images, labels, found in batches:
        for image, label, number in zip(images, labels, found, strict=True):
            path = source.name_of(int(number))
            assert source.classes[int(label)] == path.split("/")[-2]
            assert np.abs(image - transform(read(path), preprocessing)).max() <= 1


def test_evaluation_leaves_nothing_out(damaged):
    data = eval_batches(open_source(damaged, "all"), {"resize": 8, "crop": 8, "interpolation": "bilinear"}, 7)
    with pytest.raises(ZooError, match=r"cannot read 1 of the 50 pictures .* the first is .*a/03\.png\.$"), told():
        list(data)


def test_bad_shards(folder):
    source = open_source(folder, "all")
    with pytest.raises(ZooError, match=r"a batch of 12 cannot be split over 5 processes"):
        train_batches(source, RECIPE, SIZE, seed=1, shard=(0, 5))
    with pytest.raises(ZooError, match=r"shard must be \(i, n\) with 0 <= i < n, not \(2, 2\)"):
        train_batches(source, RECIPE, SIZE, seed=1, shard=(2, 2))


def test_the_emoji_of_the_developers(shared):
    """Real pictures: each file once an epoch, decoded as PIL does."""
    source = open_source(shared / "datasets" / "emoji", "test")
    assert source.count == 1122
    assert len(source.classes) == 9
    counts = np.bincount([int(label) for _, label, _ in source.examples()])
    assert counts.max() == 234  # prototypes.md
    images, _, numbers = next(iter(eval_batches(source, {"resize": 64, "crop": 64, "interpolation": "bilinear"}, 8)))
    for image, number in zip(images, numbers, strict=True):
        np.testing.assert_array_equal(image, read(source.name_of(int(number))))
