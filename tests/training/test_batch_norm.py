"""The fused batch norm is Keras' own, forward, backward and in what it leaves behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from training.batch_norm import _Fused, fused
from zoo import graph, registry


def twins():
    spec = registry.architecture("mobilenet-v2-0.35x")
    first = graph.build(spec, size=(64, 64))
    second = graph.build(spec, size=(64, 64))
    second.set_weights(first.get_weights())
    return first, second


def step(model, pixels, labels):
    with tf.GradientTape() as tape:
        logits = model(pixels, training=True)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])


def test_a_step_is_the_same():
    ours, theirs = twins()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3)).astype(np.float32)
    labels = np.arange(6)
    with fused(ours):
        kinds = {type(layer) for layer in ours._flatten_layers()}
        assert _Fused in kinds
        assert layers.BatchNormalization not in kinds
        loss, gradients = step(ours, pixels, labels)
    other_loss, other_gradients = step(theirs, pixels, labels)
    assert float(loss) == pytest.approx(float(other_loss), rel=1e-5)
    largest = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in other_gradients)
    for mine, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4 * largest)
    for mine, other in zip(ours.non_trainable_variables, theirs.non_trainable_variables, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4, err_msg=mine.path)


def test_layers_are_keras_own_again():
    model, _ = twins()
    before = model.get_config()
    with fused(model):
        assert model(np.zeros((1, 64, 64, 3), np.float32), training=False).shape == (1, 1000)
    assert {type(layer) for layer in model._flatten_layers() if "norm" in layer.name} == {layers.BatchNormalization}
    assert model.get_config() == before


def test_a_frozen_layer_stays_as_it_is():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.BatchNormalization(name="a")(inputs))
    model.get_layer("a").trainable = False
    with fused(model):
        pixels = np.random.default_rng(0).normal(3, 2, (4, 8, 8, 3)).astype(np.float32)
        np.testing.assert_allclose(model(pixels, training=True), pixels / np.sqrt(1.001), rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("a").moving_mean, np.zeros(3))


def test_what_does_not_fit_is_left_alone():
    inputs = keras.Input((4, 4, 3))
    x = layers.BatchNormalization(center=False, name="a")(inputs)
    x = layers.BatchNormalization(axis=1, name="b")(x)
    model = keras.Model(inputs, layers.BatchNormalization(name="c")(layers.GlobalAveragePooling2D()(x)))
    with fused(model):
        assert [type(model.get_layer(name)) is _Fused for name in "abc"] == [False, False, True]
        assert model(np.ones((2, 4, 4, 3), np.float32), training=True).shape == (2, 3)  # "c" is not a map's
