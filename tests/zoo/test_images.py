import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from scaling_rules.errors import ZooError
from zoo import images
from zoo.images import ImageError, find, read

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def smooth(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def assert_rgb(pixels: np.ndarray, shape: tuple[int, int]) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*shape, 3)
    assert pixels.flags.c_contiguous


# --- files


@pytest.mark.parametrize("as_type", [str, Path])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "jp2"])
def test_a_lossless_file_gives_its_pixels(tmp_path, suffix, as_type):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(NOISE).save(path, **({"lossless": True} if suffix == "webp" else {}))
    pixels = read(as_type(path))
    assert_rgb(pixels, (40, 60))
    np.testing.assert_array_equal(pixels, NOISE)


@pytest.mark.parametrize("suffix", ["jpg", "avif", "webp"])
def test_a_lossy_file_gives_nearly_its_pixels(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth()).save(path, quality=95)
    assert np.abs(read(path).astype(int) - smooth()).mean() < 3


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(NOISE).save(path, format="PNG")
    np.testing.assert_array_equal(read(path), NOISE)


def test_the_result_can_be_written_to(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    read(tmp_path / "a.png")[:] = 0
    read(Image.fromarray(NOISE))[:] = 0


def test_a_missing_file(tmp_path):
    with pytest.raises(ImageError, match="No such file") as error:
        read(tmp_path / "cat.png")
    one_line(error, "cat.png")


def test_a_folder(tmp_path):
    with pytest.raises(ImageError, match="directory") as error:
        read(tmp_path)
    one_line(error, tmp_path.name, "directory")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="0 bytes") as error:
        read(tmp_path / "a.png")
    one_line(error, "a.png")


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n" * 100,
        b"\x00" * 64,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"%!PS-Adobe-3.0 EPSF-3.0\n" * 20,
        b"GIF89a",
    ],
    ids=["text", "zeros", "png-start", "jpeg-start", "eps", "gif-start"],
)
def test_not_a_picture(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError) as error:
        read(tmp_path / "a.png")
    one_line(error, "a.png", "not a picture")


def test_a_path_no_file_can_have():
    with pytest.raises(ImageError):
        read("a\0b.png")
    with pytest.raises(ImageError) as error:
        read("two\nlines.png")
    one_line(error, "two\\nlines.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "ppm", "webp", "jp2", "avif"])
def test_a_truncated_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(NOISE).save(path)
    content = path.read_bytes()
    for part in (0.03, 0.2, 0.5, 0.8):
        path.write_bytes(content[: max(1, int(len(content) * part))])
        with pytest.raises(ImageError) as error:
            read(path)
        one_line(error, path.name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp"])
def test_damaged_bytes_give_pixels_or_an_image_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth()).save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = content.copy()
        damaged[rng.integers(0, min(len(damaged), 400), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            pixels = read(path)
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3


def test_an_error_keeps_no_file_open_and_no_lock(tmp_path):
    # An open file would be a ResourceWarning, which is an error here.
    (tmp_path / "a.png").write_bytes(png_header(10, 10) + chunk(b"IDAT", b"junk"))
    for _ in range(3):
        with pytest.raises(ImageError, match="damaged, truncated"):
            read(tmp_path / "a.png")


# --- too many pixels


def test_a_header_that_claims_too_many_pixels(tmp_path):
    # Nothing follows the header: reading on would give another error.
    (tmp_path / "a.png").write_bytes(png_header(20_000, 20_000) + chunk(b"IDAT", b""))
    with pytest.raises(ImageError, match="too many pixels") as error:
        read(tmp_path / "a.png")
    one_line(error, "a.png", "89,478,485")


def test_a_real_one_bit_picture_of_too_many_pixels(tmp_path):
    row = b"\0" * (1 + 20_000 // 8)
    content = png_header(20_000, 20_000, 1, 0) + chunk(b"IDAT", zlib.compress(row * 20_000)) + chunk(b"IEND", b"")
    assert len(content) < 100_000
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="too many pixels"):
        read(tmp_path / "a.png")


def test_too_many_pixels_where_pillow_only_warns(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(10_000, 10_000) + chunk(b"IDAT", b""))
    with pytest.raises(ImageError, match="too many pixels"):
        read(tmp_path / "a.png")


def test_the_limit_holds_where_pillows_is_switched_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(png_header(20_000, 20_000) + chunk(b"IDAT", b""))
    with pytest.raises(ImageError, match="20000 x 20000 is too many pixels"):
        read(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ImageError, match="too many pixels"):
        read(image)


def test_the_limit_is_pillows_own():
    assert images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


# --- modes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    # What is stored, as a function of what is meant: PNG and lossless WebP show it exactly.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](smooth())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    pixels = read(path)
    assert_rgb(pixels, (40, 60))
    np.testing.assert_allclose(pixels.astype(int), smooth(), atol=6 if suffix == "jpg" else 0)


def test_broken_exif_is_ignored(tmp_path):
    for exif in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12"):
        Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif)
        assert_rgb(read(tmp_path / "a.jpg"), (40, 60))


def test_a_pil_image_given_is_left_as_it_was():
    image = Image.fromarray(NOISE)
    image.getexif()[0x0112] = 6
    assert_rgb(read(image), (60, 40))
    assert image.size == (60, 40)
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray_is_scaled(tmp_path, suffix):
    deep = np.linspace(0, 65535, 2400).round().astype(np.uint16).reshape(40, 60)
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    pixels = read(tmp_path / f"a.{suffix}")
    assert_rgb(pixels, (40, 60))
    np.testing.assert_array_equal(pixels, np.rint(deep / 257).astype(np.uint8)[..., None].repeat(3, 2))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert len(np.unique(pixels)) == 256


def test_16_bit_big_endian_tiff_is_scaled(tmp_path):
    deep = RNG.integers(0, 65536, (40, 60), np.uint16)
    image = Image.frombytes("I;16B", (60, 40), deep.astype(">u2").tobytes())
    image.save(tmp_path / "a.tiff")
    for source in (image, tmp_path / "a.tiff"):
        np.testing.assert_array_equal(read(source)[..., 0], np.rint(deep / 257))


def test_16_bit_pgm_is_scaled_however_dark(tmp_path):
    deep = np.array([[0, 100], [128, 129]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 65535\n" + deep.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.pgm")[..., 0], [[0, 0], [0, 1]])


def test_16_bit_rgb_png(tmp_path):
    deep = RNG.integers(0, 65536, (4, 6, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    content = png_header(6, 4, 16, 2) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    # Pillow keeps the high byte: within one level of the rounded value.
    assert np.abs(read(tmp_path / "a.png") - deep / 257).max() <= 1


def test_32_bit_integers():
    eight = np.array([[0, 7], [200, 255]], np.int32)
    np.testing.assert_array_equal(read(Image.fromarray(eight))[..., 0], eight)
    np.testing.assert_array_equal(read(Image.fromarray(eight * 257))[..., 0], eight)
    for values in (eight - 1, eight * 258, eight - 300):
        with pytest.raises(ImageError, match=r"\[0, 255\]"):
            read(Image.fromarray(values.astype(np.int32)))


def test_32_bit_floats(tmp_path):
    values = np.array([[0, 7.4], [7.6, 255]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(read(tmp_path / "a.tiff")[..., 0], [[0, 7], [8, 255]])
    Image.fromarray(values / 255).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match=r"looks like \[0, 1\]") as error:
        read(tmp_path / "a.tiff")
    one_line(error, "a.tiff")


def test_gray_and_one_bit(tmp_path):
    gray = Image.fromarray(NOISE[..., 0])
    gray.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), NOISE[..., :1].repeat(3, 2))
    bits = gray.convert("1")
    bits.save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels[..., 1], np.asarray(bits) * 255)
    assert_rgb(pixels, (40, 60))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_lies_over_white(tmp_path, mode):
    image = Image.new(mode, (3, 1), 0 if mode == "LA" else (0, 0, 0))
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0, :, 0], [255, 127, 0])
    np.testing.assert_array_equal(read(image), read(tmp_path / "a.png"))


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])], ids=["one", "table"])
def test_a_palette_with_transparency(tmp_path, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 0, 0, 0, 0, 0, 0])
    image.save(tmp_path / "a.png", transparency=transparency)
    pixels = read(tmp_path / "a.png")[0]
    np.testing.assert_array_equal(pixels[0], [10, 20, 30])
    np.testing.assert_array_equal(pixels[1], [255, 255, 255])
    np.testing.assert_array_equal(pixels[2], [127] * 3 if isinstance(transparency, bytes) else [0] * 3)


def test_a_palette_without_transparency(tmp_path):
    image = Image.fromarray(smooth()).quantize(64)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "key"), [("L", 9), ("RGB", (9, 9, 9))])
def test_a_transparent_color(tmp_path, mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), 3 if mode == "L" else (3, 3, 3))
    image.save(tmp_path / "a.png", transparency=key)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0, :, 2], [255, 3])


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk(tmp_path, suffix):
    Image.fromarray(smooth()).convert("CMYK").save(
        tmp_path / f"a.{suffix}", **({"quality": 95} if suffix == "jpg" else {})
    )
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.mode == "CMYK"
    pixels = read(tmp_path / f"a.{suffix}")
    assert_rgb(pixels, (40, 60))
    assert np.abs(pixels.astype(int) - smooth()).mean() < 3


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_other_color_modes(mode):
    pixels = read(Image.fromarray(smooth()).convert(mode))
    assert np.abs(pixels.astype(int) - smooth()).mean() < 3


def test_a_mode_pillow_cannot_convert():
    with pytest.raises(ImageError, match=r"image 7: .* unsupported kind") as error:
        read(Image.new("La", (3, 3)), "image 7")
    one_line(error)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "lime", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(read(path), np.asarray(frames[0]))


def test_jpeg_is_decoded_at_full_size():
    # Draft mode would let libjpeg halve it: other pixels than the reference's.
    buffer = io.BytesIO()
    Image.fromarray(smooth(400, 600)).save(buffer, "JPEG")
    with Image.open(buffer) as image, Image.open(buffer) as plain:
        np.testing.assert_array_equal(read(image), np.asarray(plain.convert("RGB")))


def test_a_pil_image_that_breaks_while_loading_or_has_no_pixels():
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "PNG")
    with (
        Image.open(io.BytesIO(buffer.getvalue()[:3000])) as image,
        pytest.raises(ImageError, match="image: damaged"),
    ):
        read(image)
    with pytest.raises(ImageError, match="no pixels"):
        read(Image.new("RGB", (0, 5)))


def test_no_warning_leaks_and_the_filters_are_restored(tmp_path):
    info = PngImagePlugin.PngInfo()
    image = Image.fromarray(np.arange(4, dtype=np.uint8)[None]).convert("P")
    image.putpalette(list(range(12)))
    image.save(tmp_path / "a.png", transparency=bytes(4), pnginfo=info)  # Pillow warns when it becomes RGB
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        read(tmp_path / "a.png")
    assert not seen
    assert warnings.filters == before


def test_threads_leave_the_warning_filters_alone(tmp_path):
    Image.fromarray(smooth(200, 300)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read(tmp_path / "a.png") for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# --- arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays(dtype, channels):
    values = NOISE[..., 0] if channels is None else np.full((40, 60, 4), 255, np.uint8)
    if channels:
        values[..., :3] = NOISE
        values = values[..., :channels]
    pixels = read(values.astype(dtype))
    assert_rgb(pixels, (40, 60))
    np.testing.assert_array_equal(pixels, NOISE if channels in (3, 4) else NOISE[..., :1].repeat(3, 2))


def test_a_list_and_a_view_are_arrays_too():
    np.testing.assert_array_equal(read(NOISE.tolist()), NOISE)
    assert_rgb(read(NOISE[::2, ::-3]), (20, 20))
    assert_rgb(read(np.asfortranarray(NOISE)), (40, 60))


def test_array_transparency_lies_over_white():
    np.testing.assert_array_equal(read([[[0, 0, 0, 0], [0, 0, 0, 255]]]), [[[255] * 3, [0] * 3]])


def test_floats_are_rounded():
    np.testing.assert_array_equal(read(np.array([[0.4, 0.6, 254.6]]))[0, :, 0], [0, 1, 255])


def test_uint16_is_scaled_and_rounded():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for array in (values, values.astype(">u2")):
        np.testing.assert_array_equal(read(array)[..., 0], np.rint(values / 257.0))


def test_black_is_not_ambiguous_but_zero_to_one_is():
    assert not read(np.zeros((4, 4, 3), np.float32)).any()
    assert read(np.ones((4, 4, 3), np.uint8)).max() == 1  # integers of any size are what they are
    for high in (1.0, 0.99, 1e-6):
        with pytest.raises(ZooError, match=r"must be in \[0, 255\]; this looks like \[0, 1\]") as error:
            read(np.linspace(0, high, 12).reshape(2, 2, 3), "image 3")
        one_line(error, "image 3")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(value):
    values = NOISE.astype(np.float32)
    values[3, 4, 1] = value
    with pytest.raises(ImageError, match="NaN or infinite") as error:
        read(values)
    one_line(error, "image")


@pytest.mark.parametrize("values", [NOISE - 1.0, NOISE + 1.0, NOISE / 127.5 - 1, NOISE.astype(int) * 2])
def test_out_of_range(values):
    with pytest.raises(ImageError, match=r"must be in \[0, 255\]; these reach from"):
        read(values)


@pytest.mark.parametrize("shape", [(), (5,), (5, 5, 2), (5, 5, 5), (3, 40, 60), (2, 5, 5, 3), (0, 5, 3), (5, 0)])
def test_wrong_shapes(shape):
    with pytest.raises(ImageError, match="is no picture; valid:") as error:
        read(np.zeros(shape, np.uint8))
    one_line(error, str(shape))


@pytest.mark.parametrize("dtype", [bool, complex, object, "U1", "S1", "datetime64[s]"])
def test_wrong_dtypes(dtype):
    with pytest.raises(ImageError, match="dtype"):
        read(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("source", [None, {}, 3, b"bytes", [[1, 2], [3]], object(), [[["a"]]]])
def test_not_an_array_at_all(source):
    with pytest.raises(ImageError) as error:
        read(source)
    one_line(error, "image")


# --- find


def test_find(tmp_path, monkeypatch):
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        "sub/c.webp",
        "sub/.hidden.png",
        "sub/deep/d.tif",
        "z/odd.dat",
        "x[1].png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    assert [str(p) for p in find(["."])] == ["a.JPG", "b.png", "sub/c.webp", "sub/deep/d.tif", "x[1].png"]
    assert find(["sub"]) == [Path("sub/c.webp"), Path("sub/deep/d.tif")]
    assert find(["z/odd.dat", "b.png"]) == [Path("z/odd.dat"), Path("b.png")]
    assert find(["x[1].png"]) == [Path("x[1].png")]
    assert find(["*.png"]) == [Path("b.png"), Path("x[1].png")]
    assert find(["**/*.t*"]) == [Path("notes.txt"), Path("sub/deep/d.tif")]
    assert find(["sub/*"]) == [Path("sub/c.webp")]
    assert find([str(tmp_path / "sub" / "d*" / "*")]) == [tmp_path / "sub/deep/d.tif"]
    assert find([]) == []


@pytest.mark.parametrize("path", ["nothing.png", "empty", "*.gif", "e*", "texts"])
def test_find_names_what_it_cannot_find(tmp_path, monkeypatch, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError) as error:
        find(["a.png", path])
    one_line(error, repr(path))
