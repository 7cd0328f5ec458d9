"""Spec to Keras: the only walker that makes layers. Stock layers only, so a saved file opens in plain Keras."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import layers

from scaling_rules.errors import ZooError
from scaling_rules.lower import Add, Concat, Conv, Dense, Pool, Primitive, SqueezeExcite, Subsample, lower
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec

CARRIED = "zoo"
"""Key, in the config of the stem's unused bias initialiser, of what a model carries (see `build`)."""

HALF = ("float16", "bfloat16")

SECOND_MOMENTS = {"linear": 1.0, "relu": 0.5, "relu6": 0.5, "swish": 0.36, "hard_swish": 0.36}
"""Mean square of an activation's output for a standard normal input."""

KERAS_NAMES = {"swish": "silu", "hard_swish": "hard_silu"}
"""Activations whose name in Keras is not the spec's."""


def _variance_scaling(scale: float, distribution: str) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale, mode="fan_out", distribution=distribution)


def _draw_ahead(spec: NetworkSpec, values: Mapping[str, np.ndarray]) -> dict[str, Future[np.ndarray]]:
    """The random kernels of all convolutions, drawn by a second thread while the first makes the layers.

    He et al.'s normal over fan-out, as declared; the seed comes from Keras, so `set_random_seed` decides it.
    """
    shapes = {path: t.shape for path, t in tensors(spec).items() if path not in values and len(t.shape) == 4}
    if not shapes:
        return {}
    rng = np.random.default_rng(int(keras.random.randint((), 0, 2**31 - 1)))

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        fan_out = shape[0] * shape[1] * shape[3]
        return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_out))

    pool = ThreadPoolExecutor(1)
    try:
        return {path: pool.submit(draw, shape) for path, shape in shapes.items()}
    finally:
        pool.shutdown(wait=False)


class _Walker:
    """Makes the layers of each primitive; `outputs` has the Keras tensor of every path."""

    def __init__(self, spec: NetworkSpec, values: Mapping[str, np.ndarray], carried: dict[str, Any]) -> None:
        self.dialect = spec.dialect
        self.drop_path = spec.drop_path
        self.dropout = spec.head.dropout
        self.values = values
        self.carried = keras.initializers.Constant({CARRIED: carried})
        self.shapes = tensors(spec)
        self.draws = _draw_ahead(spec, values)
        self.outputs: dict[str, Any] = {}
        # Mean square of each output of a fresh network, for the first moving variances (see `conv`).
        self.moments: dict[str, float] = {"input": 1.0}
        self.acts: dict[str, str] = {}
        # A half-precision policy would round the logits and overflow the loss.
        self.head_dtype = "float32" if keras.config.dtype_policy().compute_dtype in HALF else None

    def call(self, layer: layers.Layer, x: Any, **initializers: str) -> Any:
        """Call `layer`, whose variables named in `initializers` (name=attribute) take given or fresh values.

        Keras takes an array for an initialiser, so nothing random is drawn only to be overwritten; the
        declared initialisers are put back afterwards, so that the config is the same with and without weights.
        """
        declared = {}
        for name, attribute in initializers.items():
            path = f"{layer.name}.{name}"
            given = np.asarray(self.values[path]) if path in self.values else None  # read from its file, perhaps
            value = self.fresh(path, getattr(layer, attribute)) if given is None else given
            if value is not None:
                declared[attribute] = getattr(layer, attribute)
                setattr(layer, attribute, keras.initializers.get(value))
        y = layer(x)
        for attribute, initializer in declared.items():
            setattr(layer, attribute, initializer)
        return y

    def fresh(self, path: str, declared: keras.initializers.Initializer) -> np.ndarray | None:
        """What the declared initialiser would give, without an operation of the backend for each variable."""
        shape = self.shapes[path].shape
        if path in self.draws:
            return self.draws.pop(path).result()
        if path.endswith("moving_variance"):
            return np.full(shape, declared.value, np.float32)
        if path.endswith("kernel"):
            return None  # a dense layer's: Keras draws it
        return np.full(shape, path.endswith("gamma"), np.float32)

    def norm(self, path: str, x: Any, variance: float = 1.0) -> Any:
        layer = layers.BatchNormalization(
            momentum=self.dialect.momentum,
            epsilon=self.dialect.epsilon,
            moving_variance_initializer=keras.initializers.Constant(variance),
            name=f"{path}.norm",
        )
        return self.call(
            layer,
            x,
            gamma="gamma_initializer",
            beta="beta_initializer",
            moving_mean="moving_mean_initializer",
            moving_variance="moving_variance_initializer",
        )

    def activate(self, path: str, x: Any, kind: str) -> Any:
        if kind == "linear":
            return x
        return layers.Activation(KERAS_NAMES.get(kind, kind), name=f"{path}.act")(x)

    def pad(self, path: str, x: Any, window: int, stride: int) -> tuple[Any, str]:
        """The input of a strided window and the Keras padding that gives the dialect's."""
        if self.dialect.padding == "same" or stride == 1:
            return x, "same"
        margin = (window - 1) // 2
        return (layers.ZeroPadding2D(margin, name=f"{path}.pad")(x) if margin else x), "valid"

    def conv(self, op: Conv) -> Any:
        x, padding = self.pad(op.path, self.outputs[op.inputs[0]], op.kernel, op.stride)
        initializer = _variance_scaling(2.0, "untruncated_normal")
        if op.groups > 1:
            layer = layers.DepthwiseConv2D(
                op.kernel,
                strides=op.stride,
                padding=padding,
                use_bias=False,
                depthwise_initializer=initializer,
                name=f"{op.path}.conv",
            )
            x = self.call(layer, x, kernel="depthwise_initializer")
        else:
            layer = layers.Conv2D(
                op.cout,
                op.kernel,
                strides=op.stride,
                padding=padding,
                use_bias=False,
                kernel_initializer=initializer,
                # Never called, as there is no bias, but its config stays in the file.
                bias_initializer=self.carried if op.path == "stem" else "zeros",
                name=f"{op.path}.conv",
            )
            x = self.call(layer, x, kernel="kernel_initializer")
        # Moving variances start at what random kernels give instead of at 1. Training replaces them; until then
        # deep sums would overflow float16 at inference: 2 ** 50 times the input's variance in ResNet-152.
        fan_in = op.kernel * op.kernel * op.cin // op.groups
        fan_out = op.kernel * op.kernel * op.cout // op.groups
        variance = 2.0 * fan_in / fan_out * self.moments[op.inputs[0]]
        return self.activate(op.path, self.norm(op.path, x, variance), op.act)

    def pool(self, op: Pool) -> Any:
        x = self.outputs[op.inputs[0]]
        if op.kind == "mean":
            return layers.GlobalAveragePooling2D(name=op.path)(x)
        if op.window > 2 and self.dialect.padding == "symmetric" and self.acts[op.inputs[0]] not in ("relu", "relu6"):
            raise ZooError(f"{op.path}: a padded max-pool needs a ReLU before it, not {self.acts[op.inputs[0]]}.")
        x, padding = self.pad(op.path, x, op.window, op.stride)  # zeros pad a ReLU's output as -inf would
        return layers.MaxPooling2D(op.window, strides=op.stride, padding=padding, name=op.path)(x)

    def squeeze_excite(self, op: SqueezeExcite) -> Any:
        x = self.outputs[op.inputs[0]]
        y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{op.path}.mean")(x)
        for name, width, act in (("reduce", op.squeeze, op.act), ("expand", op.cout, op.gate)):
            layer = layers.Conv2D(
                width,
                1,
                activation=None if act == "clip" else KERAS_NAMES.get(act, act),
                kernel_initializer=_variance_scaling(2.0, "untruncated_normal"),
                name=f"{op.path}.{name}",
            )
            y = self.call(layer, y, kernel="kernel_initializer", bias="bias_initializer")
            if act == "clip":
                y = layers.ReLU(max_value=1.0, name=f"{op.path}.{name}.act")(y)
        return layers.Multiply(name=op.path)([x, y])

    def subsample(self, op: Subsample) -> Any:
        x = self.outputs[op.inputs[0]]
        if op.stride > 1:
            x = layers.MaxPooling2D(1, strides=op.stride, name=op.path)(x)
        if op.cout > op.cin:
            x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, op.cout - op.cin)))
        return x

    def add(self, op: Add) -> Any:
        branch, shortcut = (self.outputs[path] for path in op.inputs)
        rate = self.drop_path * op.depth
        if rate:
            branch = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{op.path}.drop_path")(branch)
        return self.activate(op.path, layers.Add(name=op.path)([branch, shortcut]), op.act)

    def concat(self, op: Concat) -> Any:
        inputs = [self.outputs[path] for path in op.inputs]
        x = layers.Concatenate(name=op.path)(inputs)
        return x if x.shape[-1] == op.cout else x[..., : op.cout]

    def dense(self, op: Dense) -> Any:
        x = self.outputs[op.inputs[0]]
        classifier = op.path == "head.classifier"
        if classifier and self.dropout:
            x = layers.Dropout(self.dropout, name="head.dropout")(x)
        layer = layers.Dense(
            op.cout,
            use_bias=not op.norm,
            kernel_initializer=_variance_scaling(1 / 3, "uniform") if classifier else "he_normal",
            dtype=self.head_dtype if classifier else None,
            name=f"{op.path}.dense",
        )
        x = self.call(layer, x, kernel="kernel_initializer", bias="bias_initializer")
        return self.activate(op.path, self.norm(op.path, x) if op.norm else x, op.act)

    def walk(self, op: Primitive) -> None:
        make = {
            Conv: self.conv,
            Pool: self.pool,
            SqueezeExcite: self.squeeze_excite,
            Subsample: self.subsample,
            Add: self.add,
            Concat: self.concat,
            Dense: self.dense,
        }[type(op)]
        self.outputs[op.path] = make(op)  # type: ignore[operator]
        self.acts[op.path] = getattr(op, "act", "linear")
        self.moments[op.path] = self.moment(op)

    def moment(self, op: Primitive) -> float:
        read = [self.moments[path] for path in op.inputs]
        if isinstance(op, Conv):
            return SECOND_MOMENTS[op.act]
        if isinstance(op, Add):
            return sum(read)
        return max(read) * (0.25 if isinstance(op, SqueezeExcite) else 1.0)  # a gate is 0.5 at the start


def normalize(spec: NetworkSpec, x: Any) -> Any:
    """(pixel - mean) / std as one constant layer, in float32 whatever the policy."""
    scale = [1 / std for std in spec.std]
    offset = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    if len(set(scale)) == len(set(offset)) == 1:
        return layers.Rescaling(scale[0], offset[0], dtype="float32", name="normalize")(x)
    return layers.Rescaling(scale, offset, dtype="float32", name="normalize")(x)


def functional(inputs: Any, outputs: Any, name: str) -> keras.Model:
    """`keras.Model(inputs, outputs)`, also for the deepest networks: Keras walks back one call a layer."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        return keras.Model(inputs, outputs, name=name)
    finally:
        sys.setrecursionlimit(limit)


def build(
    spec: NetworkSpec,
    *,
    size: tuple[int | None, int | None] = (None, None),
    include_preprocessing: bool = True,
    values: Mapping[str, np.ndarray] | None = None,
    record: dict[str, Any] | None = None,
) -> keras.Model:
    """The spec as a functional Keras model: RGB pixels in [0, 255], float32 or uint8, to float32 logits.

    Input (batch, height, width, channels) of the given `size` (None: any the strides allow); output
    (batch, classes), or (batch, features) where the spec has no classes. `include_preprocessing=False` leaves
    the normalisation layer out: inputs are then normalised already. `values`: initial weights by tensor path,
    arrays in Keras layout; those not given are drawn. The spec and the `record`, a plain dict, travel in the
    model's config (`carried`).
    """
    inputs = keras.Input((*size, spec.input[2]), name="image")
    walker = _Walker(spec, values or {}, {"spec": json.loads(spec.to_json()), "record": record})
    walker.outputs["input"] = normalize(spec, inputs) if include_preprocessing else inputs
    ops = lower(spec)
    for op in ops:
        walker.walk(op)
    outputs = walker.outputs[ops[-1].path]
    if walker.head_dtype and not spec.classes:
        outputs = layers.Activation("linear", dtype="float32", name="head.float32")(outputs)
    return functional(inputs, outputs, spec.name.replace(".", "_"))
