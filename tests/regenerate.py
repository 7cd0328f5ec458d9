"""The weights and inputs that ../shared/oracles/README.md says how to make again; no weights are stored."""

import math
import zlib

import numpy as np


def tensor(name, shape):
    """The reference's tensor `name` of `shape`, by the first rule that fits."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        values = rng.uniform(0.8, 1.2, shape)
    elif len(shape) >= 2:
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        values = rng.uniform(0.8, 1.2, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)


def pixels(resolution, count=2):
    """Normalised input (count, resolution, resolution, 3), float32."""
    rng = np.random.Generator(np.random.PCG64(resolution))
    return rng.standard_normal((count, resolution, resolution, 3)).astype(np.float32)


def values(spec):
    """Random weights of a spec by path, as the oracles' are drawn, in Keras layout."""
    from scaling_rules.shapes import tensors

    drawn = {}
    for path, (shape, _) in tensors(spec).items():
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(path.encode())))
        if path.endswith(("gamma", "moving_variance")):
            array = rng.uniform(0.8, 1.2, shape)
        elif path.endswith("kernel"):
            fan_in = math.prod(shape[:2]) if len(shape) == 4 and shape[3] == 1 else math.prod(shape[:-1])
            array = rng.standard_normal(shape) * math.sqrt(2 / fan_in)
        else:
            array = 0.1 * rng.standard_normal(shape)
        drawn[path] = array.astype(np.float32)
    return drawn


def calm(spec):
    """Random weights under which rounding does not grow from layer to layer, so that agreement can be asked for."""
    return {path: array * (0.3 if path.endswith("gamma") else 1) for path, array in values(spec).items()}


def pixels_of(side, count=2, channels=3):
    """Random pixels in [0, 255], float32 (count, side, side, channels)."""
    return np.random.default_rng(1).integers(0, 256, (count, side, side, channels)).astype(np.float32)
