"""Read one picture, wherever it comes from, as 8-bit RGB; find picture files by name, folder or glob."""

from __future__ import annotations

import glob
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from scaling_rules.errors import ZooError

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
"""The file name endings (lower case) that `find` takes for pictures inside a folder."""

MAX_PIXELS = 2**30 // 12
"""Largest width x height read: 89,478,485, or 256 MiB of RGB. It is Pillow's own limit against bombs."""

# Only plain raster formats: left to itself Pillow also opens EPS, for which it starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")


class ImageError(ZooError):
    """A picture that cannot be read: the message is one line naming it and what is wrong."""


def read(source: Any, name: str | None = None) -> np.ndarray:
    """Return the picture `source` as a uint8 array (height, width, 3), RGB.

    `source` is a path (str or Path), a `PIL.Image.Image`, or anything `np.asarray` takes of shape (h, w),
    (h, w, 1), (h, w, 3) or (h, w, 4). Arrays hold uint8; uint16, scaled from [0, 65535] by 1/257; other
    integers in [0, 255]; or floats in [0, 255], rounded. A uint8 RGB array is returned without a copy.

    Of a file: the orientation in its EXIF is applied, transparency lies over white, 16-bit gray is scaled
    to 8 (not clipped), of an animation the first frame is read. 32-bit integers are taken for 16-bit
    values when one exceeds 255, 32-bit floats as a float array is.

    Raises ImageError, naming the picture as `name` (default: its path, or 'image'), for a file that is
    missing, a folder, empty, damaged, truncated, of no known format or of more than MAX_PIXELS pixels, and
    for an array of another shape or type, with NaN, with values outside [0, 255], or that looks like [0, 1].
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or repr(str(path))
        with _decoding(name):
            if path.stat().st_size == 0:
                raise ImageError(f"cannot read {name}: it is empty (0 bytes)")
            with Image.open(path, formats=_FORMATS) as image:
                return _from_pil(image, name)
    name = name or "image"
    if isinstance(source, Image.Image):
        with _decoding(name):
            return _from_pil(source, name)
    return _from_array(source, name)


def find(paths: list[str]) -> list[Path]:
    """Return the picture files that `paths` name, in the order of `paths`.

    A file stands for itself, whatever its ending; a folder for the pictures in it and below (by SUFFIXES,
    sorted, hidden files left out); anything else is a glob ('**' goes into folders) for the files it
    matches, sorted.

    Raises ZooError for a path that does not exist, a folder without pictures, a glob matching no file.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            # Hidden files left out: macOS leaves a '._x.jpg' that is no picture beside each x.jpg.
            files = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file()
            )
            if not files:
                raise ZooError(f"no pictures in folder {text!r}; looked for {' '.join(sorted(SUFFIXES))}")
        elif path.exists():
            files = [path]
        elif glob.has_magic(text):
            matches = glob.glob(text, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
            files = sorted(p for p in map(Path, matches) if p.is_file())
            if not files:
                raise ZooError(f"no file matches {text!r}")
        else:
            raise ZooError(f"no such file or folder: {text!r}")
        found += files
    return found


class _Filters:
    """The warning filters that decoding wants. They are the whole process': the first thread sets them, the last one
    restores them, and those between decode beside each other.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.stack = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self.inside += 1

    def __exit__(self, *reason: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.stack.close()


_filters = _Filters()


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError about `name`, and keep its warnings to ourselves."""
    with _filters:
        try:
            yield
        except ImageError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"cannot read {name}: too many pixels; at most {MAX_PIXELS:,}") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"cannot read {name}: not a picture of a known format") from error
        except MemoryError as error:
            raise ImageError(f"cannot read {name}: not enough memory") from error
        except Exception as error:  # a decoder raises whatever the damage made it trip over
            reason = getattr(error, "strerror", None)  # set when the system, not the decoder, refused
            if not reason:
                detail = " ".join(str(error).split()) or type(error).__name__
                reason = f"damaged, truncated or of an unsupported kind ({detail})"
            raise ImageError(f"cannot read {name}: {reason}") from error


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size  # known from the header: nothing is decoded yet
    if width * height > MAX_PIXELS:
        raise ImageError(f"cannot read {name}: {width} x {height} is too many pixels; at most {MAX_PIXELS:,}")
    if width * height == 0:
        raise ImageError(f"cannot read {name}: it has no pixels ({width} x {height})")
    is_pnm = image.format == "PPM"
    image.load()
    # Broken EXIF around a sound picture: take the picture as it is stored, as viewers do.
    with suppress(SyntaxError, LookupError, TypeError, ValueError, ArithmeticError, OSError, struct.error):
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        # Mode I has no maximum of its own. Pillow scales a deep PNM to 16 bits; elsewhere the values decide.
        if image.mode == "I" and (is_pnm or values.max() > 255) and values.min() >= 0 and values.max() < 2**16:
            values = values.astype(np.uint16)
        return _from_array(values, name)
    if image.has_transparency_data:
        image = _over_white(image)
    return np.array(image.convert("RGB"))


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def _from_array(source: Any, name: str) -> np.ndarray:
    try:
        values = np.asarray(source)
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = type(source).__name__
        raise ImageError(f"cannot read {name}: {kind} is no path, PIL image or array") from error
    shape = values.shape
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or values.size == 0:
        raise ImageError(
            f"cannot read {name}: shape {shape} is no picture; valid: (h, w), (h, w, 1), (h, w, 3), (h, w, 4)"
        )
    values = _eight_bit(values, name)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    elif values.shape[2] == 4:
        values = np.array(_over_white(Image.fromarray(np.ascontiguousarray(values))).convert("RGB"))
    return np.ascontiguousarray(values)


def _eight_bit(values: np.ndarray, name: str) -> np.ndarray:
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind not in "iuf":
        raise ImageError(f"cannot read {name}: dtype {values.dtype} holds no pixels; valid: uint8, uint16, float")
    low, high = values.min(), values.max()  # NaN if any is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"cannot read {name}: it has NaN or infinite pixels")
    if low < 0 or high > 255:
        raise ImageError(f"cannot read {name}: pixels must be in [0, 255]; these reach from {low} to {high}")
    if kind == "f" and 0 < high <= 1:
        raise ImageError(f"cannot read {name}: pixels must be in [0, 255]; this looks like [0, 1] (largest: {high})")
    return np.rint(values).astype(np.uint8)
