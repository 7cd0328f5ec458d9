"""The plain forward pass against the Keras graph of the same tensors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from scaling_rules.lower import lower
from training import forward

NAMES = ("efficientnet-b0", "ghostnet-1.0x", "mobilenet-v1-1.0x", "resnet-18", "resnet-20")
"""Every primitive, padding, gate and activation but those of channel-bench."""


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "resnet-20-pool-5-3-2", "channel-bench-resnet-2143214"])
def test_equals_keras(name, training):
    keras.utils.set_random_seed(1)
    size = 64 if "resnet-20" not in name else 32
    model = zoo.build(name, num_classes=7, input_shape=size, include_preprocessing=False, dropout=0.0, drop_path=0.0)
    rng = np.random.default_rng(2)
    for path, variable in zoo.variables(model).items():
        if "norm" in path or "bias" in path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    spec = zoo.inspection.spec_of(model)
    tensors = {path: tf.convert_to_tensor(variable) for path, variable in zoo.variables(model).items()}
    pictures = rng.standard_normal((6, size, size, 3)).astype("float32")
    norm = (forward.batch if training else forward.moving)(spec.dialect, tensors)
    ours = forward.forward(lower(spec), spec.dialect, tensors, pictures, norm)
    theirs = model(pictures, training=training)
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_statistics_of_parts_and_collected():
    spec = zoo.spec("resnet-20")
    rng = np.random.default_rng(3)
    tensors = {"x.norm.gamma": rng.uniform(1, 2, 4).astype("f"), "x.norm.beta": rng.uniform(1, 2, 4).astype("f")}
    maps = tf.constant(rng.standard_normal((6, 2, 2, 4)), tf.float32)
    whole = forward.batch(spec.dialect, tensors)
    halves = forward.batch(spec.dialect, tensors, parts=2)("x", maps)
    found = {}
    first = forward.collecting(spec.dialect, tensors, found)("x", maps[:3])
    np.testing.assert_allclose(halves[:3], whole("x", maps[:3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(halves[3:], whole("x", maps[3:]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first, halves[:3], rtol=1e-5, atol=1e-5)
    again = forward.moving(spec.dialect, tensors | found)("x", maps)
    np.testing.assert_allclose(again[:3], first, rtol=1e-5, atol=1e-5)
    assert np.abs(again[3:] - halves[3:]).max() > 1e-2
