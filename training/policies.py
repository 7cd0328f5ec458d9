"""AutoAugment and RandAugment as EfficientNet's release has them, in plain TensorFlow operations.

Source: tensorflow/tpu models/official/efficientnet/autoaugment.py, policy_v0 and distort_image_with_randaugment; the
methods, Cubuk et al. 2018 (arXiv 1805.09501) and 2019 (arXiv 1909.13719). Each operation is Pillow's of that name. The
release differs from Pillow in contrast, which it blends with the number of pixels / 256 instead of the mean grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from scaling_rules.errors import unknown

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Operation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""(uint8 picture, level in 0 to 10, sign 1 or -1, seed) -> uint8 picture; float32 scalars."""

HIGHEST = 10.0
FILL = 128
"""The grey level of what comes into the picture."""

IMAGENET = (
    (("equalize", 0.8, 1), ("shear_y", 0.8, 4)),
    (("color", 0.4, 9), ("equalize", 0.6, 3)),
    (("color", 0.4, 1), ("rotate", 0.6, 8)),
    (("solarize", 0.8, 3), ("equalize", 0.4, 7)),
    (("solarize", 0.4, 2), ("solarize", 0.6, 2)),
    (("color", 0.2, 0), ("equalize", 0.8, 8)),
    (("equalize", 0.4, 8), ("solarize_add", 0.8, 3)),
    (("shear_x", 0.2, 9), ("rotate", 0.6, 8)),
    (("color", 0.6, 1), ("equalize", 1.0, 2)),
    (("invert", 0.4, 9), ("rotate", 0.6, 0)),
    (("equalize", 1.0, 9), ("shear_y", 0.6, 3)),
    (("color", 0.4, 7), ("equalize", 0.6, 0)),
    (("posterize", 0.4, 6), ("autocontrast", 0.4, 7)),
    (("solarize", 0.6, 8), ("color", 0.6, 9)),
    (("solarize", 0.2, 4), ("rotate", 0.8, 9)),
    (("rotate", 1.0, 7), ("translate_y", 0.8, 9)),
    (("shear_x", 0.0, 0), ("solarize", 0.8, 4)),
    (("shear_y", 0.8, 0), ("color", 0.6, 4)),
    (("color", 1.0, 0), ("rotate", 0.6, 2)),
    (("equalize", 0.8, 4), ("equalize", 0.0, 8)),
    (("equalize", 1.0, 4), ("autocontrast", 0.6, 2)),
    (("shear_y", 0.4, 7), ("solarize_add", 0.6, 7)),
    (("posterize", 0.8, 2), ("solarize", 0.6, 10)),
    (("solarize", 0.6, 8), ("equalize", 0.6, 1)),
    (("color", 0.8, 6), ("rotate", 0.4, 5)),
)
"""policy_v0: one of these is drawn, then each of its two operations is applied with its probability, at its level."""

RANDOM = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "color", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y", "cutout", "solarize_add",
)  # fmt: skip
"""What RandAugment draws from."""


def auto_augment(name: str) -> Change:
    """A learned policy, for `Dataset.map`: (uint8 picture (h, w, 3), seed int32 (2,)) -> a picture of that size.

    Raises ZooError for another name than 'imagenet'.
    """
    if name != "imagenet":
        raise unknown("augment.auto_augment", name, ("imagenet",))
    operations = _operations(translate=250.0)
    names = sorted({operation for pair in IMAGENET for operation, _, _ in pair})
    kinds = tf.constant([[names.index(operation) for operation, _, _ in pair] for pair in IMAGENET])
    shares = tf.constant([[share for _, share, _ in pair] for pair in IMAGENET])
    levels = tf.constant([[float(level) for _, _, level in pair] for pair in IMAGENET])

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draw, *seeds = tf.unstack(tf.random.split(seed, 3), num=3)
        row = tf.random.stateless_uniform((), draw, 0, len(IMAGENET), tf.int32)
        for place in range(2):
            chance, sign, own = _chances(seeds[place])
            kind = tf.where(chance < shares[row, place], kinds[row, place], len(names))
            image = _switched(kind, [operations[each] for each in names], image, levels[row, place], sign, own)
        return image

    return apply


def rand_augment(layers: int, magnitude: float) -> Change:
    """`layers` operations, each drawn from all of RANDOM, at one magnitude, of which 10 is the policies' highest.

    As `auto_augment`'s function. Magnitudes above 10 go further, as the release's 17 for B5 and 28 for B7.
    """
    operations = _operations(translate=100.0)
    level = tf.constant(float(magnitude))

    def apply(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for each in tf.unstack(tf.random.split(seed, layers), num=layers):
            chance, sign, own = _chances(each)
            kind = tf.cast(chance * len(RANDOM), tf.int32)
            image = _switched(kind, [operations[name] for name in RANDOM], image, level, sign, own)
        return image

    return apply


def _chances(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A number in [0, 1), a sign, and a seed for what is drawn besides."""
    own, drawn = tf.unstack(tf.random.split(seed, 2), num=2)
    chance, half = tf.unstack(tf.random.stateless_uniform((2,), drawn), num=2)
    return chance, tf.where(half < 0.5, -1.0, 1.0), own


def _switched(
    kind: tf.Tensor,
    operations: Sequence[Operation],
    image: tf.Tensor,
    level: tf.Tensor,
    sign: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Only the operation of that index is computed; with the index behind the last, none."""
    branches = [lambda run=run: run(image, level, sign, seed) for run in operations]
    done = tf.switch_case(kind, [*branches, lambda: tf.identity(image)])
    return tf.ensure_shape(done, image.shape)


def _operations(translate: float) -> dict[str, Operation]:
    """Each by name, with the release's argument for a level; translate: pixels at level 10."""
    return {
        "autocontrast": lambda image, level, sign, seed: autocontrast(image),
        "equalize": lambda image, level, sign, seed: equalize(image),
        "invert": lambda image, level, sign, seed: 255 - image,
        "rotate": lambda image, level, sign, seed: rotate(image, sign * level / HIGHEST * 30),
        "posterize": lambda image, level, sign, seed: posterize(image, tf.cast(level / HIGHEST * 4, tf.int32)),
        "solarize": lambda image, level, sign, seed: solarize(image, tf.cast(level / HIGHEST * 256, tf.int32)),
        "solarize_add": lambda image, level, sign, seed: solarize_add(image, tf.cast(level / HIGHEST * 110, tf.int32)),
        "color": lambda image, level, sign, seed: color(image, level / HIGHEST * 1.8 + 0.1),
        "contrast": lambda image, level, sign, seed: contrast(image, level / HIGHEST * 1.8 + 0.1),
        "brightness": lambda image, level, sign, seed: brightness(image, level / HIGHEST * 1.8 + 0.1),
        "sharpness": lambda image, level, sign, seed: sharpness(image, level / HIGHEST * 1.8 + 0.1),
        "shear_x": lambda image, level, sign, seed: shear(image, sign * level / HIGHEST * 0.3, 0.0),
        "shear_y": lambda image, level, sign, seed: shear(image, 0.0, sign * level / HIGHEST * 0.3),
        "translate_x": lambda image, level, sign, seed: shift(image, sign * level / HIGHEST * translate, axis=1),
        "translate_y": lambda image, level, sign, seed: shift(image, sign * level / HIGHEST * translate, axis=0),
        "cutout": lambda image, level, sign, seed: cutout(image, tf.cast(level / HIGHEST * 40, tf.int32), seed),
    }


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Each channel stretched from its least and largest value to 0 and 255."""
    least = tf.cast(tf.reduce_min(image, (0, 1)), tf.float32)
    largest = tf.cast(tf.reduce_max(image, (0, 1)), tf.float32)
    scale = tf.where(largest > least, 255.0 / tf.maximum(largest - least, 1.0), 1.0)
    offset = tf.where(largest > least, -least * scale, 0.0)
    return _whole(tf.cast(image, tf.float32) * scale + offset + 1e-4)  # 255 times 1/255 is a little below 1


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Each channel's histogram made flat, by Pillow's rule for the table."""

    def one(channel: tf.Tensor) -> tf.Tensor:
        counts = tf.math.bincount(tf.reshape(channel, [-1]), minlength=256, maxlength=256)
        last = tf.gather(counts, tf.reduce_max(channel))
        step = (tf.reduce_sum(counts) - last) // 255
        table = tf.cumsum(counts, exclusive=True) + step // 2
        table = tf.where(step > 0, tf.minimum(table // tf.maximum(step, 1), 255), tf.range(256))
        return tf.gather(tf.cast(table, tf.uint8), channel)

    return tf.stack([one(tf.cast(channel, tf.int32)) for channel in tf.unstack(image, axis=2)], 2)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """The `bits` highest bits of each value: int32, 0 to 8."""
    low = tf.cast(8 - bits, tf.uint8)
    # Of an uint8, a shift by 8 is not defined.
    kept = tf.bitwise.left_shift(tf.bitwise.right_shift(image, low), low)
    return tf.where(bits > 0, kept, tf.zeros_like(image))


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Values from the threshold on (int32, 0 to 256) inverted."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """int32 added to the values below 128."""
    more = tf.cast(tf.clip_by_value(tf.cast(image, tf.int32) + addition, 0, 255), tf.uint8)
    return tf.where(image < 128, more, image)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0: grey, 1: as it is, above: more colour."""
    return _blended(_grey(image), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0: its mean grey all over."""
    return _blended(tf.floor(tf.reduce_mean(_grey(image)) + 0.5), image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0: black."""
    return _blended(tf.constant(0.0), image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0: smoothed by a kernel of 3 x 3 pixels, 13 times the mean with the middle counted five times; but the border."""
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(tf.cast(image, tf.float32)[None], kernel, [1, 1, 1, 1], "VALID")[0]
    inner = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]]) > 0
    smooth = tf.pad(tf.floor(smooth + 0.5), [[1, 1], [1, 1], [0, 0]])
    return _blended(tf.where(inner, smooth, tf.cast(image, tf.float32)), image, factor)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Counterclockwise about the middle, to the nearest pixel."""
    angle = degrees * math.pi / 180
    cos, sin = tf.cos(angle), tf.sin(angle)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32), num=2)
    x, y = width / 2, height / 2
    return _sampled(image, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))


def shear(image: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Pixel (column, row) is that at (column + x * row, row + y * column), the nearest."""
    return _sampled(image, (1.0, x, 0.0, y, 1.0, 0.0))


def shift(image: tf.Tensor, pixels: tf.Tensor, axis: int) -> tf.Tensor:
    """Pixel p of an axis is that at p + pixels, the nearest."""
    whole = tf.cast(tf.floor(pixels + 0.5), tf.int32)
    around = tf.abs(whole)
    pads = [[around, around] if each == axis else [0, 0] for each in range(3)]
    padded = tf.pad(image, pads, constant_values=tf.constant(FILL, tf.uint8))
    begin = [around + whole if each == axis else 0 for each in range(3)]
    return tf.slice(padded, begin, tf.shape(image))


def cutout(image: tf.Tensor, half: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A square of grey, `half` pixels (int32) to each side of a random pixel, cut at the border."""
    size = tf.shape(image)[:2]
    middle = tf.cast(tf.random.stateless_uniform((2,), seed) * tf.cast(size, tf.float32), tf.int32)
    near = [tf.abs(2 * (tf.range(size[axis]) - middle[axis]) + 1) <= 2 * half for axis in range(2)]
    inside = near[0][:, None, None] & near[1][None, :, None]
    return tf.where(inside, tf.constant(FILL, tf.uint8), image)


def _sampled(image: tf.Tensor, matrix: Sequence[tf.Tensor | float]) -> tf.Tensor:
    """Pillow's affine transform: the pixel with (a x + b y + c, d x + e y + f) in it, x and y in pixels' middles."""
    a, b, c, d, e, f = matrix
    # TensorFlow rounds coordinates of pixels' corners.
    row = tf.stack([a, b, c + (a + b) / 2 - 0.5, d, e, f + (d + e) / 2 - 0.5, 0.0, 0.0])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=row[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(FILL),
        interpolation="NEAREST",
    )
    return moved[0]


def _grey(image: tf.Tensor) -> tf.Tensor:
    """(h, w, 1), float32 but whole, by Pillow's weights in fixed point."""
    weights = tf.constant([19595, 38470, 7471])
    return tf.cast((tf.reduce_sum(tf.cast(image, tf.int32) * weights, 2, keepdims=True) + 32768) // 65536, tf.float32)


def _blended(other: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _whole(other + factor * (tf.cast(image, tf.float32) - other))


def _whole(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.floor(values), 0.0, 255.0), tf.uint8)
