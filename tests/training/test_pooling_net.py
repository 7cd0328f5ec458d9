"""Configurations of a supernet against the networks they stand for, built alone with the same tensors."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from scaling_rules import compound
from scaling_rules.lower import lower
from scaling_rules.pooling import space
from scaling_rules.shapes import tensors
from training import forward
from training.pooling_net import PoolingNet
from zoo import registry
from zoo.graph import normalize


def net(name, size, width):
    spec = replace(registry.architecture(name), input=(size, size, 3))
    keras.utils.set_random_seed(3)
    made = PoolingNet(space(compound.scale(spec, width=width)), 5)
    rng = np.random.default_rng(4)
    for path, variable in made.variables.items():
        if "norm" in path or "bias" in path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return made


def alone(made, number, images):
    """What the configuration's network computes, as tests/training/test_forward.py compares it with Keras."""
    spec = made.space.at(number)
    # The stages are cut elsewhere, so paths differ; the order is the network's.
    pairs = zip(tensors(replace(spec, classes=5)), tensors(made.spec), strict=True)
    values = {own: tf.convert_to_tensor(made.variables[ours]) for own, ours in pairs}
    norm = forward.batch(spec.dialect, values)
    return forward.forward(lower(spec), spec.dialect, values, normalize(spec, images), norm)


@pytest.mark.parametrize(
    ("name", "size", "width", "numbers"),
    [
        ("resnet-20-pool-4-3-3", 16, 0.5, range(36)),
        ("resnet-20-pool-4-3-3", 18, 0.5, (0, 13, 35)),  # maps of an odd size: a pool drops a row,
        ("resnet-18-pool-3-2-2-2", 18, 0.125, (0, 19, 41, 46, 55)),  # a stride keeps it
        ("resnet-50-pool-3-4-6-3", 64, 0.125, (0, 204, 360, 454)),
        ("resnet-34", 64, 0.125, (0, 454)),
        ("resnet-56", 16, 0.5, (7, 300)),  # padded shortcuts where channels change
    ],
)
def test_a_configuration_is_its_network(name, size, width, numbers):
    made = net(name, size, width)
    images = tf.constant(np.random.default_rng(5).uniform(0, 255, (8, size, size, 3)), tf.float32)
    answer = tf.function(made.logits, autograph=False)
    for number in numbers:
        wanted = alone(made, number, images).numpy()
        assert np.abs(answer(images, tf.constant(number)) - wanted).max() < 1e-5 * np.abs(wanted).max(), number
    assert answer.experimental_get_tracing_count() == 1


def test_gradients_are_those_of_the_keras_network():
    """Through the branches that choose, for the kernels of a strided block and of its shortcut too."""
    made = net("resnet-18-pool-3-2-2-2", 16, 0.125)
    images = tf.constant(np.random.default_rng(6).uniform(0, 255, (4, 16, 16, 3)), tf.float32)
    model = zoo.build(made.space.at(19), num_classes=5, input_shape=16, dropout=0.0, drop_path=0.0)
    pairs = list(zip(tensors(zoo.inspection.spec_of(model)), tensors(made.spec), strict=True))
    for own, ours in pairs:
        zoo.variables(model)[own].assign(made.variables[ours])
    kernels = [(zoo.variables(model)[own], made.variables[ours]) for own, ours in pairs if own.endswith("kernel")]

    @tf.function(autograph=False)
    def slopes():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.sin(made.logits(images, tf.constant(19))))
        return tape.gradient(total, [variable.value for _, variable in kernels])

    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(model(images, training=True)))
    wanted = tape.gradient(total, [variable.value for variable, _ in kernels])
    for one, other in zip(slopes(), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
