"""Pictures inside tf.data: decoding, and the evaluation transform with the pixels of `zoo.preprocess`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zoo.preprocessing import geometry

_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}  # keyscubic is PIL's bicubic, a = -0.5


def decode(path: tf.Tensor | str) -> tf.Tensor:
    """Return the file at `path` as `decode_bytes` does; tf.errors.NotFoundError for a missing one."""
    return decode_bytes(tf.io.read_file(path))


def decode_bytes(data: tf.Tensor | bytes) -> tf.Tensor:
    """Return an encoded picture (JPEG, PNG, GIF, BMP, WebP) as a uint8 tensor (h, w, 3), RGB.

    A JPEG gives PIL's pixels exactly (CMYK: within one level). Unlike `zoo.images.read`, EXIF orientation
    and transparency are ignored; of an animation the first frame is read.

    Raises tf.errors.InvalidArgumentError for a damaged one.
    """
    image = tf.cond(
        tf.io.is_jpeg(data),
        # TensorFlow's default DCT is a faster one, off by a grey level on average and by 16 at worst.
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def eval_transform(preprocessing: dict[str, Any]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function, for `tf.data.Dataset.map`, that does what `zoo.preprocessing.transform` does.

    It takes a uint8 or float tensor (h, w, 3) in [0, 255], of a size not known in advance, and returns
    float32 (crop, crop, 3) in [0, 255], whole grey levels. Geometry is PIL's; pixels differ from PIL's by
    one level, here and there, in photographs. There is no limit on the aspect: only the crop is computed.

    Raises ZooError when `preprocessing` is invalid.
    """
    resize, crop, interpolation = geometry(preprocessing)

    def apply(image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        resized = size * resize // tf.reduce_min(size)
        scale = tf.cast(resized, tf.float32) / tf.cast(size, tf.float32)
        offset = tf.round(tf.cast(resized - crop, tf.float32) / 2)  # a half to even, as Python's round

        def resample(image: tf.Tensor, size: Any, scale: Any, offset: Any) -> tf.Tensor:
            # The op behind tf.image.resize, called directly to compute no more than the crop.
            image = tf.raw_ops.ScaleAndTranslate(
                images=image,
                size=size,
                scale=scale,
                translation=-offset,
                kernel_type=_KERNELS[interpolation],
                antialias=True,
            )
            return tf.clip_by_value(tf.floor(image + 0.5), 0, 255)

        # PIL resizes along the width, rounds and clips to 8 bits, and then along the height. In one step
        # one pixel in five differs, and next to sharp edges by more than ten levels.
        image = resample(image[None], [size[0], crop], [1.0, scale[1]], offset * [0.0, 1.0])
        image = resample(image, [crop, crop], [scale[0], 1.0], offset * [1.0, 0.0])
        return tf.ensure_shape(image[0], (crop, crop, 3))

    return apply
