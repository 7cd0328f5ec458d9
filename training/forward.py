"""The forward pass of a network as plain TensorFlow over its primitives: what supernets change pictures and maps in.

A Keras model has one path through its layers. A supernet has as many as it has widths or pooling positions, over the
same tensors; here the caller sees every map between two primitives, and says how batch norms normalise. Maps are
float32 (batch, height, width, channels), or (batch, channels) after the last pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import keras
import tensorflow as tf

from scaling_rules.errors import ZooError
from scaling_rules.lower import Add, Concat, Conv, Dense, Pool, Primitive, SqueezeExcite, Subsample
from scaling_rules.spec import Dialect

Norm = Callable[[str, tf.Tensor], tf.Tensor]
"""(path of the primitive, its convolution's output) -> the same, normalised, scaled and shifted."""

ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "linear": lambda x: x,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "swish": tf.nn.silu,
    "hard_swish": keras.activations.hard_silu,
    "sigmoid": tf.nn.sigmoid,
    "hard_sigmoid": keras.activations.hard_sigmoid,
    "clip": lambda x: tf.clip_by_value(x, 0.0, 1.0),
}


def require_tensorflow(what: str) -> None:
    """Raise ZooError, naming `what`, where Keras has another backend."""
    if keras.backend.backend() != "tensorflow":
        raise ZooError(f"{what} run on TensorFlow, not on KERAS_BACKEND={keras.backend.backend()}.")


def same(_path: str, x: tf.Tensor) -> tf.Tensor:
    """No change."""
    return x


def convolution(op: Conv, dialect: Dialect, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The convolution of a primitive, without what follows it."""
    padding = _padding(dialect, op.kernel, op.stride)
    if op.groups > 1:
        return tf.nn.depthwise_conv2d(x, kernel, [1, op.stride, op.stride, 1], padding)
    return tf.nn.conv2d(x, kernel, op.stride, padding)


def forward(
    ops: Iterable[Primitive],
    dialect: Dialect,
    tensors: Mapping[str, tf.Tensor],
    x: tf.Tensor,
    norm: Norm,
    *,
    read: Callable[[str, tf.Tensor], tf.Tensor] = same,
    made: Callable[[str, tf.Tensor], tf.Tensor] = same,
    conv: Callable[[Conv, Dialect, tf.Tensor, tf.Tensor], tf.Tensor] = convolution,
) -> tf.Tensor:
    """Logits, float32 (batch, classes), of normalised pictures x.

    tensors: by path as in `scaling_rules.shapes.tensors`; they may have fewer channels than the primitives say, if all
    agree. read(path, map): what primitive `path` reads in place of its input, once for each of its inputs. made(path,
    map): what is kept of an output, after its activation; squeeze-and-excitation also has one between its layers, at
    path + '.reduce'. conv: what computes convolutions. Dropout and stochastic depth are left out.
    """
    outputs = {"input": x}
    for op in ops:
        given = [read(op.path, outputs[path]) for path in op.inputs]
        if isinstance(op, SqueezeExcite):
            y = _squeeze_excite(op, tensors, given[0], made)
        elif isinstance(op, Conv):
            y = ACTIVATIONS[op.act](norm(op.path, conv(op, dialect, tensors[f"{op.path}.conv.kernel"], given[0])))
        elif isinstance(op, Dense):
            y = given[0] @ tensors[f"{op.path}.dense.kernel"]
            y = norm(op.path, y) if op.norm else y + tensors[f"{op.path}.dense.bias"]
            y = ACTIVATIONS[op.act](y)
        elif isinstance(op, Pool):
            y = pooling(op, dialect, given[0])
        elif isinstance(op, Add):
            y = ACTIVATIONS[op.act](given[0] + given[1])
        elif isinstance(op, Concat):
            y = tf.concat(given, -1)[..., : op.cout]
        else:
            y = _subsample(op, given[0])
        outputs[op.path] = made(op.path, y)
    return outputs[op.path]


def _padding(dialect: Dialect, window: int, stride: int) -> str | list[list[int]]:
    if dialect.padding == "same" or stride == 1:
        return "SAME"
    margin = [(window - 1) // 2] * 2
    return [[0, 0], margin, margin, [0, 0]] if window > 2 else "VALID"


def pooling(op: Pool, dialect: Dialect, x: tf.Tensor) -> tf.Tensor:
    """What a pooling primitive gives; a max-pool takes maps without negative values."""
    if op.kind == "mean":
        return tf.reduce_mean(x, (1, 2))
    padding = _padding(dialect, op.window, op.stride)
    if isinstance(padding, list):
        x, padding = tf.pad(x, padding), "VALID"  # zeros pad a ReLU's output as -inf would
    return tf.nn.max_pool2d(x, op.window, op.stride, padding)


def _squeeze_excite(
    op: SqueezeExcite, tensors: Mapping[str, tf.Tensor], x: tf.Tensor, made: Callable[[str, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    y = tf.reduce_mean(x, (1, 2), keepdims=True)
    for name, act in (("reduce", op.act), ("expand", op.gate)):
        y = tf.nn.conv2d(y, tensors[f"{op.path}.{name}.kernel"], 1, "VALID") + tensors[f"{op.path}.{name}.bias"]
        y = ACTIVATIONS[act](y)
        if name == "reduce":
            y = made(f"{op.path}.reduce", y)
    return x * y


def _subsample(op: Subsample, x: tf.Tensor) -> tf.Tensor:
    x = x[:, :: op.stride, :: op.stride]
    return tf.pad(x, ((0, 0), (0, 0), (0, 0), (0, op.cout - op.cin))) if op.cout > op.cin else x


def moving(dialect: Dialect, tensors: Mapping[str, tf.Tensor]) -> Norm:
    """Batch norms by their moving statistics."""

    def norm(path: str, x: tf.Tensor) -> tf.Tensor:
        gamma, beta, mean, variance = (
            tensors[f"{path}.norm.{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma * tf.math.rsqrt(variance + dialect.epsilon)
        return x * scale + (beta - mean * scale)

    return norm


def batch(dialect: Dialect, tensors: Mapping[str, tf.Tensor], parts: int = 1) -> Norm:
    """Batch norms by the batch's own statistics, of each of `parts` equal parts of it by itself."""

    def norm(path: str, x: tf.Tensor) -> tf.Tensor:
        def one(x: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.FusedBatchNormV3(
                x=x if x.shape.rank == 4 else x[:, None, None],
                scale=tensors[f"{path}.norm.gamma"],
                offset=tensors[f"{path}.norm.beta"],
                mean=tf.zeros([0]),
                variance=tf.zeros([0]),
                epsilon=dialect.epsilon,
                data_format="NHWC",
                is_training=True,
            ).y

        y = one(x) if parts == 1 else tf.concat([one(part) for part in tf.split(x, parts)], 0)
        return y if x.shape.rank == 4 else y[:, 0, 0]

    return norm


def collecting(dialect: Dialect, tensors: Mapping[str, tf.Tensor], found: dict[str, tf.Tensor]) -> Norm:
    """Batch norms by the batch's own statistics, which are put into `found` by tensor path, as `moving` reads them."""

    def norm(path: str, x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
        found.update({f"{path}.norm.moving_mean": mean, f"{path}.norm.moving_variance": variance})
        beta, gamma = (tensors[f"{path}.norm.{name}"] for name in ("beta", "gamma"))
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, dialect.epsilon)

    return norm
