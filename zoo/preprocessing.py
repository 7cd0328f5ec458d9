"""From pictures to the batch a model takes: resize and centre crop, as the record of its weights says."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from scaling_rules.errors import ZooError, unknown
from zoo.images import ImageError, read

MAX_ASPECT = 50
"""Longest side over shortest of a picture that is resized; beyond, the resized one would be absurdly long."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def geometry(preprocessing: dict[str, Any]) -> tuple[int, int, str]:
    """Return (resize, crop, interpolation) of a record's preprocessing: pixels, pixels, filter name.

    Raises ZooError for a missing entry, a size that is no positive integer, a crop larger than the resized
    short side, or an interpolation other than bilinear and bicubic.
    """
    for key in ("resize", "crop", "interpolation"):
        if key not in preprocessing:
            raise ZooError(f"preprocessing has no {key!r}; it has: {', '.join(preprocessing) or 'nothing'}")
    resize, crop, interpolation = (preprocessing[key] for key in ("resize", "crop", "interpolation"))
    for key, size in (("resize", resize), ("crop", crop)):
        if type(size) is not int or size < 1:
            raise ZooError(f"preprocessing {key} must be a positive number of pixels, not {size!r}")
    if crop > resize:
        raise ZooError(f"preprocessing crops {crop} from a short side of {resize}; crop must not exceed resize")
    if interpolation not in _FILTERS:
        raise unknown("interpolation", interpolation, _FILTERS)
    return resize, crop, interpolation


def at_size(preprocessing: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The preprocessing for a square input of another (height, width): the same share of the picture.

    Other inputs leave it as it is: what is cropped is square.
    """
    side = size[0]
    if size[0] != size[1] or side == preprocessing["crop"]:
        return preprocessing
    return preprocessing | {"crop": side, "resize": round(preprocessing["resize"] * side / preprocessing["crop"])}


def channels(preprocessing: dict[str, Any]) -> int:
    """Return how many channels the network takes, 3 or 1; ZooError for others, which no picture file has."""
    count = len(preprocessing.get("mean", (0, 0, 0)))
    if count not in (1, 3):
        raise ZooError(f"the model takes {count} channels; pictures are prepared for 3 or 1, give it your own arrays")
    return count


def transform(image: np.ndarray, preprocessing: dict[str, Any], name: str = "image") -> np.ndarray:
    """Return `image`, uint8 (h, w, 3), resized and centre-cropped: float32 (crop, crop, 3 or 1) in [0, 255].

    The short side becomes `resize` pixels and the long one floor(long * resize / short); the filter is
    PIL's, antialiased, which rounds to whole grey levels. The crop starts at (side - crop) / 2, a half
    rounded to the even number. These are torchvision's rules, which the published accuracies were measured
    with. With `mode` 'squash' both sides become `resize` pixels, whatever the picture's shape. A network of one
    input channel (by the length of `mean`) gets PIL's luma, ITU-R 601.

    Raises ImageError, calling the picture `name`, when it is no uint8 (h, w, 3) or more than MAX_ASPECT
    times as long as wide; ZooError when `preprocessing` is invalid (see `geometry`), or for another number of
    channels.
    """
    resize, crop, interpolation = geometry(preprocessing)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(f"{name}: transform takes uint8 (h, w, 3), not {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    if long > MAX_ASPECT * short:
        raise ImageError(f"{name}: {width} x {height} is too narrow to resize; sides at most {MAX_ASPECT}:1")
    # floor, as ints: torchvision's int(); rounding instead misses the reference pixels of 3 photographs in 6.
    size = (width * resize // short, height * resize // short)
    if preprocessing.get("mode") == "squash":
        size = (resize, resize)
    left, top = (round((side - crop) / 2) for side in size)
    resized = Image.fromarray(image).resize(size, _FILTERS[interpolation])
    cropped = resized.crop((left, top, left + crop, top + crop))
    if channels(preprocessing) == 1:
        return np.asarray(cropped.convert("L"), dtype=np.float32)[:, :, None]
    return np.asarray(cropped, dtype=np.float32)


def preprocess(images: Any, model: Any) -> np.ndarray:
    """Return `images` as the batch `model` takes: float32 (n, crop, crop, 3), RGB in [0, 255]; grey for one channel.

    `images` is one picture or several. One: a path, a PIL image, or an array (h, w[, channels]) as
    `zoo.images.read` takes. Several: a list or tuple of these, or an array (n, h, w, channels).
    `model` is the record of a weight, or a model, model name or name.tag that has one.

    For a record with `normalized_input` (a network built without its normalisation layer) the batch is
    (pixels - mean) / std instead, by the record's preprocessing.

    Raises ImageError for a bad picture, naming its path or, counted from 0, 'image 3'; ZooError when there
    are no pictures, the model carries no record, or its preprocessing is invalid.
    """
    if isinstance(model, dict) and "preprocessing" in model:
        record = model
    else:
        from zoo.records import record_of  # a record alone must not cost the import of the registry

        record = record_of(model)
    preprocessing = record["preprocessing"]
    crop = geometry(preprocessing)[1]

    if isinstance(images, list | tuple) or getattr(images, "ndim", None) == 4:
        sources, names = list(images), [f"image {index}" for index in range(len(images))]
    else:
        sources, names = [images], ["image"]
    if not sources:
        raise ZooError("no pictures to preprocess")

    batch = np.empty((len(sources), crop, crop, channels(preprocessing)), np.float32)
    for index, (source, name) in enumerate(zip(sources, names, strict=True)):
        if isinstance(source, str | os.PathLike):
            name = repr(os.fspath(source))
        batch[index] = transform(read(source, name), preprocessing, name)
    if record.get("normalized_input"):
        batch -= np.asarray(preprocessing["mean"], np.float32)
        batch /= np.asarray(preprocessing["std"], np.float32)
    return batch
