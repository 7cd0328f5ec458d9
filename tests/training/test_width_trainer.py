"""Steps of a supernet: paths are fair pairs, gradients those of their losses, one trace, and a resume is bit-equal."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from scaling_rules import compound
from scaling_rules.coupling import METHODS, coupling
from scaling_rules.width_space import space
from training import optimizer, recipe
from training.schedule import learning_rate
from training.supernet import LEFT, RIGHT, Supernet
from training.width_trainer import WidthTrainer
from zoo import registry


def trainer(method, **options):
    spec = registry.architecture("channel-bench-mobilenet-4444444")
    spec = compound.scale(replace(spec, input=(16, 16, 3), classes=3), width=1 / 16)
    keras.utils.set_random_seed(1)
    net = Supernet(coupling(space(spec), method, 4, 2 if method == "bcnetv2" else 1), 3, 16)
    rng = np.random.default_rng(2)
    images = tf.constant(rng.uniform(0, 255, (8, 16, 16, 3)), tf.float32)
    labels = tf.one_hot(rng.integers(0, 3, 8), 3)
    told = recipe.load("small", ["learning_rate.warmup_epochs=0", "batch=8"])

    def loss(labels, logits):
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))

    def batches(step):
        return iter([(images, labels)] * (50 - step))

    made = optimizer.make(told, learning_rate(told, 10))
    return WidthTrainer(net, method, made, loss, batches, seed=5, **options), images, labels


@pytest.mark.parametrize("method", METHODS)
def test_paths(method):
    """Pairs add up; every width that may be drawn is, evenly; sides are as the method has them."""
    made, *_ = trainer(method)
    paths = [tuple(part.numpy() for part in made.paths(tf.constant(step, tf.int64))) for step in range(400)]
    found = made.coupling
    if method == "autoslim":
        assert all((choices[0] == 4).all() and (choices[1] == 1).all() for choices, _ in paths)
        paths = [(choices[2:], sides[2:]) for choices, sides in paths]
    elif found.both:
        assert all((choices[0] == choices[1]).all() and sides.tolist() == [[LEFT], [RIGHT]] for choices, sides in paths)
    else:
        assert all(sides.tolist() == [[LEFT]] for _, sides in paths)
    drawn = np.concatenate([choices[0] for choices, _ in paths])
    low, high = found.drawn
    assert drawn.min() == low
    assert drawn.max() == high
    counts = np.stack([(drawn == c).sum(0) for c in range(low, high + 1)])
    assert counts.min() > 0.7 * len(drawn) / (high - low + 1)
    if found.total:
        assert (drawn[::2] + drawn[1::2] == found.total).all()


@pytest.mark.parametrize("options", [{"method": "bcnetv2"}, {"method": "bcnetv2", "halves": True}, {"method": "ua"}])
def test_gradients_are_those_of_the_mean_loss(options):
    made, images, labels = trainer(**options)
    step = tf.constant(3, tf.int64)
    loss, gradients = made._gradients(images, labels, step)
    choices, sides = made.paths(step)
    own = [variable.value for variable in made.model.trainable_variables]
    with tf.GradientTape() as tape:
        losses = [made.loss(labels, made.net.logits(images, c, s)) for c, s in zip(choices, sides, strict=True)]
        wanted = tf.reduce_mean(losses)
    assert loss.numpy() == pytest.approx(wanted.numpy(), rel=1e-5)
    for a, b in zip(gradients, tape.gradient(wanted, own), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_autoslim_teaches_by_its_widest_path():
    made, images, labels = trainer("autoslim")
    step = tf.constant(3, tf.int64)
    loss, _ = made._gradients(images, labels, step)
    choices, sides = made.paths(step)
    logits = [made.net.logits(images, c, s) for c, s in zip(choices, sides, strict=True)]
    soft = tf.nn.softmax(logits[0])
    wanted = (made.loss(labels, logits[0]) + sum(made.loss(soft, each) for each in logits[1:])) / 4
    assert loss.numpy() == pytest.approx(wanted.numpy(), rel=1e-5)


@pytest.mark.parametrize("method", ["bcnetv2", "autoslim"])
def test_one_trace_a_falling_loss_and_the_lowest_are_kept(method):
    made, *_ = trainer(method)
    compiled = []
    original = made._train_step

    def counted(*args):
        compiled.append(1)
        return original(*args)

    made._train_step = counted
    function = tf.function(made._train_step, autograph=False)
    made._step = lambda images, labels, *numbers: function(images, labels, *map(tf.constant, numbers))
    losses = []
    made.run(40, report=lambda seen: losses.append(seen.loss), report_every=2)
    assert len(compiled) == 1
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    kept = np.isfinite(made.lowest.numpy())
    if method == "autoslim":
        assert not kept.any()
    else:
        assert kept.sum((1, 2)).tolist() == [40] * 7  # a loss a step, for each variable
        assert not kept[:, :2].any()


def test_a_resumed_run_is_the_same(tmp_path):
    whole, *_ = trainer("bcnetv2")
    whole.run(9, folder=tmp_path / "whole")
    first, *_ = trainer("bcnetv2")
    first.run(4, folder=tmp_path / "part")
    second, *_ = trainer("bcnetv2")
    second.restore(first.state({}))
    second.run(9)
    ours, theirs = (each.state({}).arrays for each in (second, whole))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
