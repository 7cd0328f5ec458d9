"""A picture as training sees it: cropped, flipped, changed, at the network's size; in plain TensorFlow operations.

Everything random follows from a seed, an int32 tensor of shape (2,), so nothing is stored between pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from scaling_rules.errors import ZooError, shown
from training import policies, recipe
from training.data import decode_bytes

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(picture, seed) -> picture."""

ERASED = (0.02, 1 / 3)
"""Area of what random erasing erases, as a share of the picture; its aspect is 0.3 to 1 / 0.3 (Zhong et al. 2017,
arXiv 1708.04896, section 5.2: s_l = 0.02, r_1 = 0.3; s_h there is 0.4, of torchvision and timm it is 0.33)."""

ATTEMPTS = 10
"""To find a crop of the area and aspect wanted that lies inside the picture; then it is the whole."""


def make(augment: recipe.Augment, size: int, interpolation: str, antialias: bool = True) -> Change:
    """The recipe's changes of one picture, for `Dataset.map`.

    The function takes an encoded picture (scalar string) or a uint8 picture (h, w, 3), and a seed, and returns float32
    (size, size, 3) in [0, 255]. Order: crop, resize, flip, policy, jitter, layer, erase.

    Raises ZooError for a policy or a layer that does not exist or does not work on a picture.
    """
    changes: list[Change] = []
    if augment.flip:
        changes.append(tf.image.stateless_random_flip_left_right)
    if augment.auto_augment:
        changes.append(_rounded(policies.auto_augment(augment.auto_augment)))
    if augment.rand_augment:
        told = augment.rand_augment
        changes.append(_rounded(policies.rand_augment(told.layers, told.magnitude)))
    if augment.jitter:
        changes.append(_jitter(augment.jitter))
    if augment.layer:
        changes.append(_layer(augment.layer, augment.layer_arguments or {}, size))
    if augment.erase:
        changes.append(_erase(augment.erase))

    def resized(image: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.image.resize(image, (size, size), interpolation, antialias=antialias), 0.0, 255.0)

    def apply(picture: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds = tf.random.split(seed, len(changes) + 1)
        if augment.crop_area:
            image = _random_crop(picture, seeds[0], augment.crop_area, augment.aspect, resized)
        else:
            image = _whole(picture, seeds[0], size, augment.pad_crop, resized)
        for index, change in enumerate(changes):
            image = change(image, seeds[index + 1])
        return tf.ensure_shape(image, (size, size, 3))

    return apply


def _decoded(picture: tf.Tensor) -> tf.Tensor:
    return decode_bytes(picture) if picture.dtype == tf.string else tf.ensure_shape(picture, (None, None, 3))


def _random_crop(
    picture: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
    resized: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """A crop of random area and aspect, resized: as tensorflow/tpu's efficientnet/preprocessing.py, after Szegedy et
    al. 2015. Of a JPEG only the crop is decoded.
    """

    def window(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=aspect,
            area_range=area,
            max_attempts=ATTEMPTS,
        )
        return begin, extent

    def sliced(image: tf.Tensor) -> tf.Tensor:
        begin, extent = window(tf.shape(image))
        return tf.ensure_shape(tf.slice(image, begin, tf.concat([extent[:2], [3]], 0)), (None, None, 3))

    def jpeg() -> tf.Tensor:
        begin, extent = window(tf.image.extract_jpeg_shape(picture))
        box = tf.stack([begin[0], begin[1], extent[0], extent[1]])
        return tf.image.decode_and_crop_jpeg(picture, box, channels=3, dct_method="INTEGER_ACCURATE")

    if picture.dtype == tf.string:
        image = tf.cond(tf.io.is_jpeg(picture), jpeg, lambda: sliced(decode_bytes(picture)))
    else:
        image = sliced(picture)
    return resized(image)


def _whole(
    picture: tf.Tensor, seed: tf.Tensor, size: int, pad: int, resized: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """The centre square at `size`; with `pad`, black pixels on each side of it and a crop of the old size."""
    image = _decoded(picture)
    side = tf.reduce_min(tf.shape(image)[:2])
    begin = (tf.shape(image)[:2] - side) // 2
    image = tf.slice(image, tf.concat([begin, [0]], 0), tf.stack([side, side, 3]))
    image = tf.ensure_shape(resized(image), (size, size, 3))
    if not pad:
        return image
    image = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
    return tf.image.stateless_random_crop(image, (size, size, 3), seed)


def _rounded(change: Change) -> Change:
    """A change of whole grey levels."""

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.cast(change(tf.cast(tf.round(image), tf.uint8), seed), tf.float32)

    return apply


def _jitter(strength: float) -> Change:
    """Brightness, contrast and saturation, each by a factor in [1 - strength, 1 + strength], in this order."""

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        brightness, contrast, saturation = tf.unstack(
            tf.random.stateless_uniform((3,), seed, 1 - strength, 1 + strength), num=3
        )
        image = tf.clip_by_value(image * brightness, 0.0, 255.0)
        mean = tf.reduce_mean(_grey(image))
        image = tf.clip_by_value(mean + contrast * (image - mean), 0.0, 255.0)
        grey = _grey(image)
        return tf.clip_by_value(grey + saturation * (image - grey), 0.0, 255.0)

    return apply


def _grey(image: tf.Tensor) -> tf.Tensor:
    """(h, w, 1), by the weights of ITU-R BT.601, as PIL."""
    return tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), 1)


def _erase(share: float) -> Change:
    """Noise, standard normal about the middle grey, in one rectangle of a `share` of the pictures."""

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds = tf.random.split(seed, 3)
        size = image.shape[0]
        chance, area, aspect, top, left = tf.unstack(tf.random.stateless_uniform((5,), seeds[0]), num=5)
        area = (ERASED[0] + area * (ERASED[1] - ERASED[0])) * size**2
        aspect = tf.exp((2 * aspect - 1) * tf.math.log(1 / 0.3))
        height, width = (tf.minimum(tf.round(tf.sqrt(x)), size - 1.0) for x in (area * aspect, area / aspect))
        top, left = tf.floor(top * (size - height + 1)), tf.floor(left * (size - width + 1))
        rows, columns = tf.range(float(size))[:, None, None], tf.range(float(size))[None, :, None]
        inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        noise = tf.clip_by_value(127.5 + 64 * tf.random.stateless_normal(tf.shape(image), seeds[1]), 0.0, 255.0)
        return tf.where(inside & (chance < share), noise, image)

    return apply


def _layer(name: str, arguments: dict[str, Any], size: int) -> Change:
    """A layer of Keras or KerasCV by its full name. It draws from its own state: not the same again when resumed."""
    module, _, attribute = name.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), attribute)(**arguments)
    except ModuleNotFoundError as error:
        extra = ": pip install 'zoo[keras-cv]'" if (error.name or "").startswith("keras_cv") else ""
        raise ZooError(f"augment.layer {name}: there is no module {error.name!r}{extra}.") from None
    except AttributeError:
        raise ZooError(f"augment.layer {name}: {module} has no {attribute!r}.") from None
    except Exception as error:
        raise ZooError(f"augment.layer {name} cannot be made with {arguments}: {shown(error, 200)}") from None
    if not isinstance(made, keras.layers.Layer):
        raise ZooError(f"augment.layer {name} is no layer.")

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.cast(made(image[None], training=True)[0], tf.float32)

    try:
        with tf.device("CPU"):
            tried = tf.data.Dataset.from_tensors(tf.zeros((size, size, 3))).map(lambda image: apply(image, image))
            shape = next(iter(tried)).shape
    except Exception as error:
        raise ZooError(f"augment.layer {name} does not work on one picture: {shown(error, 200)}") from None
    if shape != (size, size, 3):
        raise ZooError(f"augment.layer {name} makes {tuple(shape)} of a picture of {(size, size, 3)}.")
    return apply
