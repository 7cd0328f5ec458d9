import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling_rules.errors import ZooError
from zoo.images import ImageError, read
from zoo.preprocessing import MAX_ASPECT, geometry, preprocess, transform

LITE0 = {
    "resize": 256,
    "crop": 224,
    "interpolation": "bicubic",
    "mean": [127.5, 127.5, 127.5],
    "std": [127.5, 127.5, 127.5],
}
RECORD = {"preprocessing": LITE0}
ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "photos_lite0.json").read_text())["answers"]
RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ORACLE)
def test_the_pixels_are_the_references(photos, name):
    batch = preprocess(photos / name, RECORD)
    assert batch.shape == (1, 224, 224, 3)
    assert batch.dtype == np.float32
    # The oracle is rounded to four decimals. Another rounding of the long side or the offset is off by 0.01.
    assert batch.mean(dtype=np.float64) == pytest.approx(ORACLE[name]["pixel_mean"], abs=6e-5)


def expected_size(side: int, short: int) -> int:
    return int(256 * side / short)  # as torchvision writes it


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["bicubic", "bilinear"]))
@settings(max_examples=60, deadline=None)
def test_the_shape_is_always_the_crop(height, width, interpolation):
    record = {**LITE0, "resize": 40, "crop": 33, "interpolation": interpolation}
    image = np.full((height, width, 3), 77, np.uint8)
    if max(height, width) > MAX_ASPECT * min(height, width):
        with pytest.raises(ImageError, match=f"{width} x {height} is too narrow"):
            transform(image, record)
    else:
        pixels = transform(image, record)
        assert pixels.shape == (33, 33, 3)
        assert pixels.dtype == np.float32
        assert (pixels == 77).all()


@given(st.integers(1, 64), st.integers(0, 64))
@settings(max_examples=40, deadline=None)
def test_the_shape_is_the_crop_whatever_the_record(crop, extra):
    record = {**LITE0, "resize": crop + extra, "crop": crop}
    assert transform(np.zeros((31, 47, 3), np.uint8), record).shape == (crop, crop, 3)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 51), (20, 30_000)])
def test_a_sliver_is_refused(shape):
    with pytest.raises(ImageError, match=r"image 3: .* is too narrow"):
        preprocess([noise(9, 9)] * 3 + [noise(*shape)], RECORD)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_a_tiny_picture_is_enlarged(shape):
    assert preprocess(noise(*shape), RECORD).shape == (1, 224, 224, 3)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(300, 451), (427, 640), (640, 427), (500, 741), (256, 300), (224, 224), (97, 101)])
def test_it_is_pils_resize_and_a_crop(shape, interpolation):
    image = noise(*shape)
    height, width = (expected_size(side, min(shape)) for side in shape)
    top, left = int(round((height - 224) / 2.0)), int(round((width - 224) / 2.0))  # noqa: RUF046 - as torchvision
    resized = Image.fromarray(image).resize((width, height), getattr(Image.Resampling, interpolation.upper()))
    expected = np.asarray(resized)[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(transform(image, {**LITE0, "interpolation": interpolation}), expected)


def test_no_resize_and_no_crop():
    image = noise(40, 40)
    np.testing.assert_array_equal(transform(image, {**LITE0, "resize": 40, "crop": 40}), image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 257}, "crop must not exceed resize"),
        ({"crop": 0}, "crop must be a positive number"),
        ({"resize": 256.0}, "resize must be a positive number"),
        ({"resize": True}, "resize must be a positive number"),
        ({"interpolation": "bicubc"}, "Did you mean bicubic"),
        ({"interpolation": "nearest"}, "valid: bilinear, bicubic"),
    ],
)
def test_a_bad_record(change, message):
    for run in (
        geometry,
        lambda p: transform(noise(9, 9), p),
        lambda p: preprocess(noise(9, 9), {"preprocessing": p}),
    ):
        with pytest.raises(ZooError, match=message):
            run({**LITE0, **change})


@pytest.mark.parametrize("key", ["resize", "crop", "interpolation"])
def test_an_incomplete_record(key):
    with pytest.raises(ZooError, match=f"no '{key}'"):
        geometry({k: v for k, v in LITE0.items() if k != key})


@pytest.mark.parametrize("image", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 0, 3), np.uint8)])
def test_transform_takes_only_8_bit_rgb(image):
    with pytest.raises(ImageError, match="transform takes uint8"):
        transform(image, LITE0)


def test_one_or_several(tmp_path):
    image = noise(60, 50)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    expected = transform(image, LITE0)
    one = [path, str(path), Image.fromarray(image), image, image.astype(np.float32)]
    for source in one:
        np.testing.assert_array_equal(preprocess(source, RECORD), expected[None])
    for several in (one, tuple(one)):
        batch = preprocess(several, RECORD)
        assert batch.shape == (5, 224, 224, 3)
        assert (batch == expected).all()
    np.testing.assert_array_equal(preprocess(np.stack([image, image]), RECORD), np.stack([expected, expected]))
    np.testing.assert_array_equal(preprocess(image[..., :1], RECORD), preprocess(image[..., 0], RECORD))


def test_pictures_of_several_sizes_make_one_batch():
    assert preprocess([noise(30, 50), noise(50, 30), noise(8, 8)], RECORD).shape == (3, 224, 224, 3)


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 5, 5, 3), np.uint8)])
def test_no_pictures(images):
    with pytest.raises(ZooError, match="no pictures"):
        preprocess(images, RECORD)


def test_a_bad_picture_is_named(tmp_path):
    good = noise(9, 9)
    with pytest.raises(ImageError, match="image 3: dtype"):
        preprocess([good, good, good, good > 4], RECORD)
    with pytest.raises(ImageError, match=r"image 1: .*\[0, 1\]"):
        preprocess(np.stack([good / 1.0, good / 255.0]), RECORD)
    with pytest.raises(ImageError, match="read image: shape"):
        preprocess(np.zeros(5, np.uint8), RECORD)
    for missing in (tmp_path / "cat.png", str(tmp_path / "cat.png")):
        with pytest.raises(ImageError, match=r"cat\.png': No such file"):
            preprocess([good, missing], RECORD)
    Image.fromarray(noise(1, 3000)).save(tmp_path / "sliver.png")
    with pytest.raises(ImageError, match=r"sliver\.png': 3000 x 1"):
        preprocess([good, tmp_path / "sliver.png"], RECORD)


def test_normalized_input():
    image = noise(60, 50)
    record = {"preprocessing": {**LITE0, "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}}
    pixels = preprocess(image, record)
    normalized = preprocess(image, {**record, "normalized_input": True})
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, (pixels - [1, 2, 3]) / [4, 5, 6], rtol=1e-6)
    np.testing.assert_array_equal(preprocess(image, {**record, "normalized_input": False}), pixels)


def test_anything_else_is_asked_for_its_record(monkeypatch):
    asked = []
    records = types.ModuleType("zoo.records")
    monkeypatch.setattr(records, "record_of", lambda model: asked.append(model) or RECORD, raising=False)
    monkeypatch.setitem(sys.modules, "zoo.records", records)
    model = object()
    image = noise(30, 30)
    for carrier in (model, "efficientnet-lite0", {"tag": "no preprocessing here"}):
        np.testing.assert_array_equal(preprocess(image, carrier), preprocess(image, RECORD))
    assert asked == [model, "efficientnet-lite0", {"tag": "no preprocessing here"}]


def test_the_picture_given_is_not_changed():
    image = noise(256, 256)
    before = image.copy()
    preprocess(read(image), {**RECORD, "normalized_input": True})
    np.testing.assert_array_equal(image, before)
