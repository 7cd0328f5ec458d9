"""The fused batch norm computes what Keras' own does; re-estimated statistics are the plain average."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from training.batch_norm import _Fused, fused, recalibrate
from training.loop import Trainer


def network(dtype="float32", momentum=0.9):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, use_bias=False, dtype=dtype)(inputs)
    x = layers.BatchNormalization(momentum=momentum, epsilon=1e-3, dtype=dtype, name="first")(x)
    x = layers.Dropout(0.5, dtype=dtype)(layers.ReLU(dtype=dtype)(x))
    x = layers.DepthwiseConv2D(3, use_bias=False, dtype=dtype)(x)
    x = layers.BatchNormalization(momentum=momentum, dtype=dtype, name="second")(x)
    x = layers.Flatten(dtype=dtype)(x)
    model = keras.Model(inputs, layers.BatchNormalization(dtype=dtype, name="flat")(x))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "float" in str(variable.dtype):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    return model


def images(seed=0, count=8):
    return np.random.default_rng(seed).normal(2, 3, size=(count, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_statistics_are_keras_own(dtype, training):
    found = {}
    for name in ("own", "fused"):
        model = network(dtype)

        def step(model=model):
            with tf.GradientTape() as tape:
                outputs = tf.cast(model(images(), training=training), tf.float32)
                loss = tf.reduce_mean(
                    outputs * tf.constant(np.random.default_rng(5).normal(size=outputs.shape), tf.float32)
                )
            return outputs, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

        if name == "fused":
            with fused(model):
                outputs, gradients = tf.function(step)()
        else:
            outputs, gradients = tf.function(step)()
        found[name] = [outputs, *gradients, *(v for v in model.non_trainable_variables if "float" in str(v.dtype))]
    exact = dtype == "float32" or not training
    for own, ours in zip(found["own"], found["fused"], strict=True):
        size = np.abs(np.asarray(own)).max()
        np.testing.assert_allclose(ours, own, rtol=0, atol=(1e-5 if exact else 0.03) * max(size, 1e-3))


def test_layers_are_keras_own_again():
    model = network()
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    inside = []

    def fails():
        with fused(model):
            inside.extend(type(layer) for layer in norms)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [_Fused] * 3
    assert {type(layer) for layer in norms} == {layers.BatchNormalization}
    assert not any(isinstance(layer, _Fused) for layer in model.layers)


def test_what_is_not_exactly_keras_own_is_left_alone():
    class Special(layers.BatchNormalization):
        pass

    inputs = keras.Input((4, 4, 2))
    kinds = (Special(), layers.BatchNormalization(scale=False), layers.BatchNormalization(axis=1))
    model = keras.Model(inputs, [kind(inputs) for kind in kinds])
    with fused(model):
        assert not any(isinstance(layer, _Fused) for layer in model.layers)


def test_a_model_trained_inside_is_saved_as_a_plain_one(tmp_path):
    model = network()
    with fused(model):
        model(images(), training=True)
    model.save(tmp_path / "m.keras")
    opened = keras.models.load_model(tmp_path / "m.keras")
    assert [type(layer) for layer in opened.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(opened(images()), model(images()), rtol=1e-5, atol=1e-5)


def trainer_of(model):
    return Trainer(model, keras.optimizers.SGD(0.1), lambda labels, outputs: tf.reduce_mean(outputs), lambda step: [])


def test_recalibrated_statistics_are_the_average_over_batches():
    """Of the first layer in closed form: what its convolution gives, whatever the statistics were."""
    model = network(momentum=0.99)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.5
    batches = [(images(seed),) for seed in range(4)]
    recalibrate(model, batches, 3, trainer_of(model).forward)
    kernel = keras.ops.convert_to_numpy(model.layers[1].kernel)
    maps = [np.asarray(tf.nn.conv2d(pixels, kernel, 1, "VALID"), np.float64) for (pixels,) in batches[:3]]
    first = model.get_layer("first")
    np.testing.assert_allclose(first.moving_mean, np.mean([x.mean((0, 1, 2)) for x in maps], 0), rtol=1e-4)
    np.testing.assert_allclose(first.moving_variance, np.mean([x.var((0, 1, 2)) for x in maps], 0), rtol=1e-4)
    # And nothing else has changed.
    assert first.momentum == 0.99
    assert {layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)} == {0.5}
    other = network()
    for own, old in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(own, old)


def test_recalibrated_with_few_data():
    model = network()
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    with pytest.raises(zoo.ZooError, match=r"the data ended after 1 of 3 batches"):
        recalibrate(model, [(images(),)], 3, trainer_of(model).forward)
    assert all(layer.momentum == 0.9 for layer in model.layers if layer.name in ("first", "second"))
    assert len(before) == len(model.variables)
