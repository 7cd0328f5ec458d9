"""Paths of a supernet against the networks they stand for, built alone with the same tensors."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from scaling_rules import compound
from scaling_rules.coupling import coupling
from scaling_rules.width_space import space
from training.supernet import LEFT, RIGHT, Supernet
from zoo import registry


def small(name, size=32):
    """Stages of one block, or two, at a quarter of the width: every kind of tie of the family."""
    spec = registry.architecture(name)
    stages = tuple(stage[:2] for stage in spec.stages[:3])
    spec = replace(spec, stages=stages, input=(size, size, 3), classes=5)
    return compound.scale(spec, width=0.5)


def supernet(name, method, groups=4, least=1):
    keras.utils.set_random_seed(3)
    net = Supernet(coupling(space(small(name)), method, groups, least), 5, 32)
    rng = np.random.default_rng(4)
    for path, variable in net.variables.items():
        if "norm" in path or "bias" in path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return net


@pytest.mark.parametrize("side", [LEFT, RIGHT])
@pytest.mark.parametrize(
    "name", ["efficientnet-b0", "ghostnet-1.0x", "mobilenet-v2-1.0x", "resnet-50", "channel-bench-resnet-4444444"]
)
def test_a_path_is_the_network_of_its_widths(name, side):
    """By masks, and by tensors cut at run time; on its batch's statistics, and on those of a calibration."""
    net = supernet(name, "bcnetv2", 5, 2)
    rng = np.random.default_rng(5)
    choice = rng.integers(2, 6, len(net.coupling.edges))
    images = tf.constant(rng.uniform(0, 255, (6, 32, 32, 3)), tf.float32)
    alone = zoo.build(net.coupling.at(choice), num_classes=5, input_shape=32, dropout=0.0, drop_path=0.0)
    narrow = net.narrow(tf.constant(choice, tf.int32), tf.constant(side))
    for path, variable in zoo.variables(alone).items():
        variable.assign(narrow[path])
    wanted = alone(images, training=True)
    masked = net.logits(images, tf.constant([choice], tf.int32), tf.constant([side]))
    scale = np.abs(wanted).max()
    assert np.abs(masked - wanted).max() < 1e-5 * scale
    statistics = net._calibrated(tf.constant(choice, tf.int32), tf.constant(side), images)
    for path, variable in zoo.variables(alone).items():
        if "moving" in path:
            variable.assign(statistics[path])
    assert np.abs(alone(images, training=False) - wanted).max() < 1e-5 * scale


def test_half_of_a_batch_takes_each_path():
    net = supernet("mobilenet-v2-1.0x", "bcnet")
    rng = np.random.default_rng(6)
    images = tf.constant(rng.uniform(0, 255, (8, 32, 32, 3)), tf.float32)
    choices = tf.constant(rng.integers(1, 5, (2, len(net.coupling.edges))), tf.int32)
    sides = tf.constant([LEFT, RIGHT])
    both = net.logits(images, choices, sides)
    for part in (0, 1):
        own = slice(4 * part, 4 * part + 4)
        alone = net.logits(images[own], choices[part : part + 1], sides[part : part + 1])
        np.testing.assert_allclose(both[own], alone, rtol=1e-4, atol=1e-5)


def test_what_is_measured_is_the_mean_of_both_paths_and_is_compiled_once():
    net = supernet("resnet-50", "bcnet")
    rng = np.random.default_rng(7)
    images = tf.constant(rng.uniform(0, 255, (24, 32, 32, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 5, 24))
    batches = [(images[:16], labels[:16]), (images[16:], labels[16:])]
    choices = rng.integers(1, 5, (3, len(net.coupling.edges)))
    for choice in choices:
        found = net.measure(choice, images[:10], batches)
        losses, rights = [], []
        for side in (LEFT, RIGHT):
            alone = zoo.build(net.coupling.at(choice), num_classes=5, input_shape=32, dropout=0.0, drop_path=0.0)
            groups = tf.constant(choice, tf.int32)
            values = net.narrow(groups, tf.constant(side)) | net._calibrated(groups, tf.constant(side), images[:10])
            for path, variable in zoo.variables(alone).items():
                variable.assign(values[path])
            logits = alone(images, training=False).numpy()
            rights.append((logits.argmax(-1) == labels.numpy()).mean())
            losses.append(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True).numpy().mean())
        assert found.top1 == pytest.approx(100 * np.mean(rights))
        assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert net._calibrate.experimental_get_tracing_count() == net._evaluate.experimental_get_tracing_count() == 1
