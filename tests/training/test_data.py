import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from scaling_rules.errors import ZooError
from training.data import decode, eval_transform
from zoo.images import read
from zoo.preprocessing import transform

RECORDS = {
    "lite0": {"resize": 256, "crop": 224, "interpolation": "bicubic"},
    "b5": {"resize": 489, "crop": 456, "interpolation": "bicubic"},
    "bilinear": {"resize": 256, "crop": 224, "interpolation": "bilinear"},
}
ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "photos_lite0.json").read_text())["answers"]
RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", ORACLE)
def test_decode_gives_pils_pixels(photos, name):
    pixels = decode(str(photos / name))
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, read(photos / name))


@pytest.mark.parametrize("name", ORACLE)
@pytest.mark.parametrize("record", RECORDS)
def test_the_pixels_are_nearly_pils(photos, name, record):
    image = read(photos / name)
    pixels = eval_transform(RECORDS[record])(tf.constant(image)).numpy()
    difference = np.abs(pixels - transform(image, RECORDS[record]))
    assert difference.mean() < 0.01
    assert np.quantile(difference, 0.999) <= 1
    assert difference.max() <= 2
    if record == "lite0":
        assert pixels.mean(dtype=np.float64) == pytest.approx(ORACLE[name]["pixel_mean"], abs=0.01)


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize(
    "shape", [(300, 451), (427, 640), (640, 427), (256, 299), (256, 256), (97, 101), (1, 1), (2, 60)]
)
def test_noise_of_any_shape_is_nearly_pils(shape, record):
    image = noise(*shape)
    difference = np.abs(eval_transform(RECORDS[record])(image).numpy() - transform(image, RECORDS[record]))
    assert difference.mean() < 0.01
    assert difference.max() <= 2


def test_float_pixels_are_taken_too():
    image = noise(60, 50)
    apply = eval_transform(RECORDS["lite0"])
    np.testing.assert_array_equal(apply(image.astype(np.float32)), apply(image))


def test_in_a_pipeline_with_sizes_not_known_in_advance(tmp_path):
    images = [noise(60, 50), noise(50, 60), noise(300, 301)]
    paths = [str(tmp_path / f"{index}.png") for index in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    data = tf.data.Dataset.from_tensor_slices(paths).map(decode).map(eval_transform(RECORDS["lite0"])).batch(3)
    assert data.element_spec == tf.TensorSpec((None, 224, 224, 3), tf.float32)
    batch = next(iter(data)).numpy()
    expected = np.stack([transform(image, RECORDS["lite0"]) for image in images])
    assert np.abs(batch - expected).max() <= 1
    assert (batch == np.rint(batch)).all()
    assert batch.min() >= 0
    assert batch.max() <= 255


@pytest.mark.parametrize("options", [{"quality": 60}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
def test_jpegs_of_every_kind_decode_as_in_pil(tmp_path, options):
    y, x = np.mgrid[:77, :91]
    image = np.stack([x * 2, y * 3, (x * y) % 256], -1).astype(np.uint8)
    path = str(tmp_path / "a.jpg")
    for picture in (Image.fromarray(image), Image.fromarray(image[..., 0])):
        picture.save(path, **options)
        np.testing.assert_array_equal(decode(path), read(path))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp"])
def test_other_formats_decode_as_in_pil(tmp_path, suffix):
    path = str(tmp_path / f"a.{suffix}")
    Image.fromarray(noise(40, 60)).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(decode(path), read(path))


def test_a_cmyk_jpeg_is_nearly_as_in_pil(tmp_path):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(noise(40, 60)).convert("CMYK").save(path, quality=95)
    assert np.abs(decode(path).numpy().astype(int) - read(path)).max() <= 1


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(str(tmp_path / "a.gif")), np.asarray(frames[0]))


def test_bad_files(tmp_path):
    with pytest.raises(tf.errors.NotFoundError, match=r"cat\.png"):
        decode(str(tmp_path / "cat.png"))
    for content in (b"", b"text", b"\xff\xd8\xff\xe0junk"):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(str(tmp_path / "a.jpg"))


def test_a_bad_record():
    with pytest.raises(ZooError, match="crop must not exceed resize"):
        eval_transform({**RECORDS["lite0"], "crop": 300})
    with pytest.raises(ZooError, match="bicubic"):
        eval_transform({**RECORDS["lite0"], "interpolation": "bicubc"})
