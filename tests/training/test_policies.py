"""Each operation is Pillow's of that name; the policies are the release's, drawn as often as it draws them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

import zoo
from training import policies

GREY = (policies.FILL,) * 3


@pytest.fixture(scope="module")
def pictures(photos):
    """A photograph, noise, one that is flat, and one of two values in one channel."""
    rng = np.random.default_rng(0)
    photo = np.asarray(Image.open(photos / "astronaut.png").convert("RGB").resize((61, 47)))
    flat = np.full((20, 31, 3), 77, np.uint8)
    two = flat.copy()
    two[3:9, 5:9, 1] = 200
    return [photo, rng.integers(0, 256, (33, 40, 3), np.uint8), flat, two]


def pil(image):
    return Image.fromarray(image)


EXACT = {
    "autocontrast": (policies.autocontrast, lambda image: ImageOps.autocontrast(pil(image))),
    "equalize": (policies.equalize, lambda image: ImageOps.equalize(pil(image))),
    **{
        f"posterize {bits}": (
            lambda image, bits=bits: policies.posterize(image, tf.constant(bits)),
            lambda image, bits=bits: ImageOps.posterize(pil(image), bits),
        )
        for bits in range(1, 9)
    },
    **{
        f"solarize {threshold}": (
            lambda image, threshold=threshold: policies.solarize(image, tf.constant(threshold)),
            lambda image, threshold=threshold: ImageOps.solarize(pil(image), threshold),
        )
        for threshold in (0, 1, 77, 128, 256)
    },
    "shift right": (
        lambda image: policies.shift(image, tf.constant(4.0), 1),
        lambda image: pil(image).transform(pil(image).size, Image.Transform.AFFINE, (1, 0, 4, 0, 1, 0), fillcolor=GREY),
    ),
    "shift down": (
        lambda image: policies.shift(image, tf.constant(-7.0), 0),
        lambda image: pil(image).transform(
            pil(image).size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -7), fillcolor=GREY
        ),
    ),
    "shift away": (
        lambda image: policies.shift(image, tf.constant(250.0), 1),
        lambda image: Image.new("RGB", pil(image).size, GREY),
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_operations_that_are_pillows_to_the_bit(pictures, name):
    ours, theirs = EXACT[name]
    for image in pictures:
        np.testing.assert_array_equal(ours(tf.constant(image)), theirs(image))


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 1.4, 1.9, 3.0])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (policies.color, lambda image, factor: ImageEnhance.Color(pil(image)).enhance(factor)),
        (policies.brightness, lambda image, factor: ImageEnhance.Brightness(pil(image)).enhance(factor)),
        (policies.sharpness, lambda image, factor: ImageEnhance.Sharpness(pil(image)).enhance(factor)),
        (policies.contrast, lambda image, factor: ImageEnhance.Contrast(pil(image)).enhance(factor)),
    ],
)
def test_blends_are_pillows_but_for_rounding(pictures, ours, theirs, factor):
    for image in pictures:
        found = np.asarray(ours(tf.constant(image), tf.constant(factor)), np.int32)
        difference = np.abs(found - np.asarray(theirs(image, factor), np.int32))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("degrees", [-30.0, -12.0, 0.0, 3.0, 29.0])
def test_rotation_is_pillows(pictures, degrees):
    """Pillow turns by sines rounded to 15 digits; pixels whose middle falls on a border may differ."""
    for image in pictures:
        theirs = pil(image).rotate(degrees, fillcolor=GREY)
        found = np.asarray(policies.rotate(tf.constant(image), tf.constant(degrees)))
        assert (found != np.asarray(theirs)).any(2).mean() < 0.01


@pytest.mark.parametrize(("x", "y"), [(0.09, 0.0), (-0.21, 0.0), (0.0, 0.27), (0.0, -0.13), (0.0, 0.0)])
def test_shears_are_pillows(pictures, x, y):
    for image in pictures:
        matrix = (1, x, 0, y, 1, 0)
        theirs = pil(image).transform(pil(image).size, Image.Transform.AFFINE, matrix, fillcolor=GREY)
        found = np.asarray(policies.shear(tf.constant(image), tf.constant(x), tf.constant(y)))
        # Pillow rounds a coordinate that is half a pixel up, and TensorFlow to even.
        assert (found != np.asarray(theirs)).any(2).mean() < 0.04


@given(st.integers(0, 110), st.integers(0, 255))
def test_solarize_add(addition, value):
    found = policies.solarize_add(tf.constant([[[value] * 3]], tf.uint8), tf.constant(addition))
    assert int(found[0, 0, 0]) == (min(255, value + addition) if value < 128 else value)


def test_cutout_is_a_square_cut_at_the_border():
    image = tf.zeros((30, 40, 3), tf.uint8)
    sizes = set()
    for seed in range(60):
        found = np.asarray(policies.cutout(image, tf.constant(5), tf.constant([seed, 0])))[:, :, 0]
        rows, columns = np.nonzero(found)
        assert set(np.unique(found)) == {0, policies.FILL}
        assert (found[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == policies.FILL).all()
        assert np.ptp(rows) <= 9
        assert np.ptp(columns) <= 9
        sizes.add((np.ptp(rows) + 1, np.ptp(columns) + 1))
    assert (10, 10) in sizes
    assert len(sizes) > 3


def test_levels_have_the_releases_arguments(monkeypatch):
    """Level 5 of 10: half of its _MAX_LEVEL arguments, policy_v0's translate_const 250, RandAugment's 100."""
    seen = {}
    for name in ("rotate", "posterize", "solarize", "solarize_add", "color", "contrast", "brightness", "sharpness"):
        monkeypatch.setattr(policies, name, lambda image, value, name=name: seen.update({name: float(value)}))
    monkeypatch.setattr(policies, "shear", lambda image, x, y: seen.update(shear=(float(x), float(y))))
    monkeypatch.setattr(policies, "shift", lambda image, pixels, axis: seen.update({f"shift {axis}": float(pixels)}))
    monkeypatch.setattr(policies, "cutout", lambda image, half, seed: seen.update(cutout=int(half)))
    for translate in (250.0, 100.0):
        seen.clear()
        for operation in policies._operations(translate).values():
            operation(tf.zeros((1, 1, 3), tf.uint8), tf.constant(5.0), tf.constant(-1.0), tf.constant([0, 0]))
        assert seen.pop("shear") == pytest.approx((0.0, -0.15))
        assert seen == pytest.approx(
            {
                "rotate": -15, "posterize": 2, "solarize": 128, "solarize_add": 55, "color": 1.0, "contrast": 1.0,
                "brightness": 1.0, "sharpness": 1.0, "shift 0": -translate / 2, "shift 1": -translate / 2, "cutout": 20,
            }
        )  # fmt: skip


def test_the_policy_is_the_one_of_the_paper():
    """Cubuk et al. 2018, arXiv 1805.09501v3, table 9, has 25 sub-policies of two; policy_v0 is the release's list."""
    assert len(policies.IMAGENET) == 25
    flat = [one for pair in policies.IMAGENET for one in pair]
    assert all(0 <= share <= 1 and 0 <= level <= 10 for _, share, level in flat)
    assert {name for name, _, _ in flat} <= set(policies._operations(250.0))


def test_operations_are_drawn_as_often_as_said(monkeypatch):
    """Each of 16 in RandAugment, each sub-policy's by its probability in AutoAugment; within 5 standard deviations."""
    names = list(policies._operations(1.0))

    def marked(translate):
        # Each sets one more in its own place of the picture.
        hots = {
            name: tf.cast(tf.one_hot(index, len(names), dtype=tf.int32), tf.uint8) for index, name in enumerate(names)
        }
        return {
            name: lambda image, level, sign, seed, hot=hot: image + hot[None, :, None] for name, hot in hots.items()
        }

    monkeypatch.setattr(policies, "_operations", marked)
    draws = 4000
    blank = tf.zeros((1, len(names), 3), tf.uint8)
    seeds = tf.stack([tf.zeros(draws, tf.int32), tf.range(draws)], 1)

    def shares(change):
        drawn = tf.function(lambda: tf.map_fn(lambda seed: change(blank, seed), seeds, fn_output_signature=tf.uint8))()
        return np.asarray(drawn, np.float64)[:, 0, :, 0].mean(0)

    found = dict(zip(names, shares(policies.rand_augment(2, 9.0)), strict=True))
    for name in policies.RANDOM:
        assert found[name] == pytest.approx(2 / 16, abs=5 * (2 / 16 / draws) ** 0.5)
    expected = dict.fromkeys(names, 0.0)
    for pair in policies.IMAGENET:
        for name, share, _ in pair:
            expected[name] += share / 25
    found = dict(zip(names, shares(policies.auto_augment("imagenet")), strict=True))
    for name in names:
        assert found[name] == pytest.approx(expected[name], abs=5 * (expected[name] / draws) ** 0.5)


def test_another_policy():
    with pytest.raises(zoo.ZooError, match=r"auto_augment.*'cifar'.*imagenet"):
        policies.auto_augment("cifar")
