"""Changes of one picture, against Pillow, closed forms, and what their sources promise of the draws."""

import io
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage
from skimage import data as photographs

import zoo
from training import augment
from training.recipe import Augment, RandAugment

PHOTO = photographs.astronaut()[:300, :400]


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return tf.constant(file.getvalue())


def made(told, size=64, interpolation="bilinear", antialias=True):
    apply = augment.make(told, size, interpolation, antialias)
    return lambda picture, seed=(0, 0): apply(tf.constant(picture), tf.constant(seed, tf.int32)).numpy()


def test_without_anything_it_is_pils_resized_centre_square():
    found = made(Augment())(PHOTO)
    wanted = np.asarray(Image.fromarray(PHOTO[:, 50:350]).resize((64, 64), Image.Resampling.BILINEAR), np.float32)
    assert found.dtype == np.float32
    # PIL rounds between its two passes.
    assert np.abs(found - wanted).max() <= 1


def test_without_antialiasing_it_is_scipys_interpolation():
    found = made(Augment(), antialias=False)(PHOTO)
    centres = (np.arange(64) + 0.5) * 300 / 64 - 0.5
    where = np.meshgrid(centres, centres + 50, indexing="ij")
    for channel in range(3):
        pixels = PHOTO[..., channel].astype(np.float64)
        wanted = ndimage.map_coordinates(pixels, where, order=1, mode="nearest")
        np.testing.assert_allclose(found[..., channel], wanted, atol=1e-2)


def test_the_crop_of_a_jpeg_is_that_of_its_pixels():
    """Decoding the crop alone; at its border the decoder interpolates colours from less."""
    told = made(Augment(crop_area=(0.2, 0.5)))
    encoded = jpeg(PHOTO)
    pixels = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy()
    for seed in range(5):
        difference = np.abs(told(encoded, (seed, 1)) - told(pixels, (seed, 1)))
        assert difference.mean() < 0.3


def test_crops_have_the_area_and_aspect_asked_for():
    """Found from pixels that say where they are: red grows with the row, green with the column."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.uint8)
    where = np.stack([rows, columns, 0 * rows], -1)
    told = made(Augment(crop_area=(0.25, 0.5), aspect=(0.5, 2.0)), size=32, interpolation="bilinear")
    areas, aspects, tops = [], [], []
    for seed in range(300):
        crop = told(where, (seed, 7))
        height = (crop[-1, 0, 0] - crop[0, 0, 0]) * 32 / 31
        width = (crop[0, -1, 1] - crop[0, 0, 1]) * 32 / 31
        areas.append(height * width / 256**2)
        aspects.append(width / height)
        tops.append(crop[0, 0, 0] / max(256 - height, 1))
    assert 0.23 < min(areas) < 0.27
    assert 0.47 < max(areas) < 0.52
    assert 0.48 < min(aspects) < 0.6
    assert 1.7 < max(aspects) < 2.1
    # Uniform in area: mean 0.375, of 300 draws within 4 standard errors of 0.25 / sqrt(12 * 300).
    assert np.mean(areas) == pytest.approx(0.375, abs=4 * 0.25 / np.sqrt(12 * 300) + 0.01)
    assert np.mean(tops) == pytest.approx(0.5, abs=0.08)


def test_padding_shifts_by_whole_pixels():
    image = photographs.astronaut()[100:164, 100:164]
    padded = np.pad(image, [(8, 8), (8, 8), (0, 0)])
    windows = {padded[y : y + 64, x : x + 64].tobytes(): (y, x) for y in range(17) for x in range(17)}
    told = made(Augment(pad_crop=8))
    found = [windows[told(image, (seed, 0)).astype(np.uint8).tobytes()] for seed in range(150)]
    rows, columns = zip(*found, strict=True)
    assert set(rows) == set(columns) == set(range(17))


def test_half_of_the_pictures_are_mirrored():
    told = made(Augment(flip=True))
    plain = made(Augment())(PHOTO)
    mirrored = 0
    for seed in range(200):
        found = told(PHOTO, (seed, 3))
        same, other = np.array_equal(found, plain), np.array_equal(found, plain[:, ::-1])
        assert same or other
        mirrored += other
    assert 100 - 4 * np.sqrt(50) < mirrored < 100 + 4 * np.sqrt(50)


def test_jitter_is_the_closed_form():
    image = photographs.astronaut()[100:164, 100:164]
    found = made(Augment(jitter=0.4))(image, (5, 5))
    seed = tf.random.split(tf.constant([5, 5]), 2)[1]
    brightness, contrast, saturation = tf.random.stateless_uniform((3,), seed, 0.6, 1.4).numpy()
    weights = np.array([0.299, 0.587, 0.114])
    wanted = np.clip(image * brightness, 0, 255)
    mean = (wanted @ weights).mean()
    wanted = np.clip(mean + contrast * (wanted - mean), 0, 255)
    grey = (wanted @ weights)[..., None]
    wanted = np.clip(grey + saturation * (wanted - grey), 0, 255)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_erasing_is_one_rectangle_of_a_share_of_the_pictures():
    plain = made(Augment())(PHOTO)
    told = made(Augment(erase=0.5))
    areas = []
    for seed in range(200):
        changed = (told(PHOTO, (seed, 9)) != plain).any(-1)
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.mean() > 0.97  # noise may hit a pixel's own value
            areas.append(box.size / changed.size)
    assert 100 - 4 * np.sqrt(50) < len(areas) < 100 + 4 * np.sqrt(50)
    assert 0.01 < min(areas) < 0.06
    assert 0.28 < max(areas) <= 0.35


@pytest.mark.parametrize(
    "told",
    [
        Augment(crop_area=(0.08, 1.0), flip=True, auto_augment="imagenet", jitter=0.4, erase=0.5),
        Augment(crop_area=(0.08, 1.0), flip=True, rand_augment=RandAugment(2, 9)),
        Augment(pad_crop=4, flip=True),
    ],
)
def test_the_seed_says_it_all(told):
    first, again = made(told), made(told)
    encoded = jpeg(PHOTO)
    tf.random.set_seed(1)
    one = [first(encoded, (seed, 2)) for seed in range(4)]
    tf.random.set_seed(2)
    two = [again(encoded, (seed, 2)) for seed in range(4)]
    np.testing.assert_array_equal(one, two)
    assert len({each.tobytes() for each in one}) > 1
    assert all(each.min() >= 0 and each.max() <= 255 and each.shape == (64, 64, 3) for each in one)


def test_a_layer_of_keras():
    found = made(Augment(layer="keras.layers.Rescaling", layer_arguments={"scale": 0.5, "offset": 3}))(PHOTO)
    np.testing.assert_allclose(found, made(Augment())(PHOTO) * 0.5 + 3, rtol=1e-6)


def test_a_layer_of_kerascv():
    """GridMask leaves a pixel as it is or makes it 0."""
    told = Augment(
        layer="keras_cv.layers.GridMask", layer_arguments={"ratio_factor": [0.5, 0.5], "fill_mode": "constant"}
    )
    plain = made(Augment())(PHOTO + 1)
    found = made(told)(PHOTO + 1)
    masked = (found == 0).all(-1)
    assert 0.1 < masked.mean() < 0.9
    np.testing.assert_allclose(found[~masked], plain[~masked], atol=0.6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("keras.layers.GridMusk", {}, r"augment\.layer keras\.layers\.GridMusk: keras\.layers has no 'GridMusk'"),
        ("keras.layers.Flatten", {}, r"augment\.layer keras\.layers\.Flatten makes \(12288,\) of a picture"),
        ("keras.layers.RandomRotation", {"factr": 1}, r"RandomRotation cannot be made with \{'factr': 1\}"),
        ("keras.ops.add", {}, r"augment\.layer keras\.ops\.add cannot be made"),
        ("keras_cv.layers.CutMix", {}, r"augment\.layer keras_cv\.layers\.CutMix does not work on one picture"),
        ("nowhere.Layer", {}, r"augment\.layer nowhere\.Layer: there is no module 'nowhere'\.$"),
    ],
)
def test_layers_that_do_not_work(name, arguments, message):
    with pytest.raises(zoo.ZooError, match=message) as raised:
        augment.make(Augment(layer=name, layer_arguments=arguments), 64, "bilinear")
    assert "\n" not in str(raised.value)


def test_kerascv_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    monkeypatch.setitem(sys.modules, "keras_cv.layers", None)
    with pytest.raises(zoo.ZooError, match=r"pip install 'zoo\[keras-cv\]'"):
        augment.make(Augment(layer="keras_cv.layers.GridMask"), 64, "bilinear")


def test_what_is_no_layer(monkeypatch):
    module = types.ModuleType("thing")
    module.Thing = lambda: 3
    monkeypatch.setitem(sys.modules, "thing", module)
    with pytest.raises(zoo.ZooError, match=r"augment\.layer thing\.Thing is no layer"):
        augment.make(Augment(layer="thing.Thing"), 64, "bilinear")
