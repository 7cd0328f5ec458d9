"""The optimizers against TensorFlow 1's own, Keras' own, and closed forms in NumPy, on two backends of Keras."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from training import optimizer, recipe
from training.recipe import LearningRate, Optimizer
from training.schedule import Schedule, learning_rate

PATHS = ("stem.conv/kernel", "stem.norm/gamma", "stage1.block1.conv/kernel", "head.classifier.dense/kernel",
         "head.classifier.dense/bias")  # fmt: skip
SHAPES = ((3, 2), (2,), (2, 4), (4, 3), (3,))
# Rates that fall to a tenth at each of the first steps: the sources' momentum differs from Keras' only there.
FALLING = LearningRate(0.5, "exponential", factor=0.1, every_epochs=1)


def told(**changes):
    plain = recipe.load("digits")
    rate = changes.pop("learning_rate", FALLING)
    rates = changes.pop("layer_rates", 1.0)
    return dataclasses.replace(plain, optimizer=Optimizer(**changes), learning_rate=rate, layer_rates=rates)


def start():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def variables():
    """With the paths that layers would give them."""
    own = []
    for value, path in zip(start(), PATHS, strict=True):
        layer, name = path.split("/")
        with keras.name_scope(layer):
            own.append(keras.Variable(value, name=name))
    return own


def trained(recipe_, steps=6):
    own = variables()
    made = optimizer.make(recipe_, learning_rate(recipe_, 2))
    made.build(own)
    step = tf.function(lambda given: made.apply(given, own))
    for n in range(steps):
        step([tf.constant(g) for g in gradients(n)])
    assert int(made.iterations) == steps
    return [keras.ops.convert_to_numpy(v) for v in own]


def rates(steps=6):
    return [0.5 * 0.1 ** (n // 2) for n in range(steps)]


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def momentum_of_tensorflow(momentum, nesterov, decay=0.0, kind="l2", masks=(1,) * 5, multiples=(1,) * 5, steps=6):
    """TF1 MomentumOptimizer: a = m a + g; w -= r a, with Nesterov w -= r (g + m a). In float64."""
    weights = [w.astype(np.float64) for w in start()]
    buffers = [np.zeros_like(w) for w in weights]
    for n, rate in enumerate(rates(steps)):
        for i, g in enumerate(gradients(n)):
            own = rate * multiples[i]
            g = g + decay * masks[i] * weights[i] if kind == "l2" else g
            if kind == "decoupled":
                weights[i] = weights[i] - own * decay * masks[i] * weights[i]
            buffers[i] = momentum * buffers[i] + g
            weights[i] = weights[i] - own * (g + momentum * buffers[i] if nesterov else buffers[i])
    return weights


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_that_of_tensorflow_1(momentum, nesterov):
    found = trained(told(name="sgd", momentum=momentum, nesterov=nesterov))
    close(found, momentum_of_tensorflow(momentum, nesterov))
    graph_of = tf.compat.v1.train.MomentumOptimizer
    close(found, of_tensorflow_1(lambda rate: graph_of(rate, momentum, use_nesterov=nesterov)))


def of_tensorflow_1(make, steps=6):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        rate = tf.compat.v1.placeholder(tf.float32, [])
        fed = [tf.compat.v1.placeholder(tf.float32, shape) for shape in SHAPES]
        own = [tf.compat.v1.get_variable(f"v{i}", initializer=w, use_resource=True) for i, w in enumerate(start())]
        step = make(rate).apply_gradients(zip(fed, own, strict=True))
        session.run(tf.compat.v1.global_variables_initializer())
        for n, value in enumerate(rates(steps)):
            session.run(step, {rate: value, **dict(zip(fed, gradients(n), strict=True))})
        return session.run(own)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_is_that_of_tensorflow_1(momentum):
    found = trained(told(name="rmsprop", momentum=momentum, rho=0.9, epsilon=1e-3))
    close(found, of_tensorflow_1(lambda rate: tf.compat.v1.train.RMSPropOptimizer(rate, 0.9, momentum, 1e-3)))


def test_rmsprop_is_not_that_of_keras():
    """Whose mean square starts at 0, so that its first steps are longer."""
    found = trained(told(name="rmsprop", momentum=0.9, rho=0.9, epsilon=1e-3), steps=1)
    own = variables()
    plain = keras.optimizers.RMSprop(0.5, rho=0.9, momentum=0.9, epsilon=1e-3)
    plain.apply([tf.constant(g) for g in gradients(0)], own)
    # |step| = r |g| / sqrt(rho + (1 - rho) g ** 2 + epsilon), and without the first rho
    for ours, theirs, before in zip(found, own, start(), strict=True):
        assert (np.abs(ours - before) < 0.9 * np.abs(keras.ops.convert_to_numpy(theirs) - before)).all()


def test_adamw_is_that_of_keras():
    decay = {"weight_decay": 0.1, "decay": "decoupled", "decay_norms": True, "decay_biases": True}
    found = trained(told(name="adamw", momentum=0.8, rho=0.95, epsilon=1e-6, **decay))
    own = variables()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.1, staircase=True)
    plain = keras.optimizers.AdamW(schedule, weight_decay=0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-6)
    for n in range(6):
        plain.apply([tf.constant(g) for g in gradients(n)], own)
    close(found, [keras.ops.convert_to_numpy(v) for v in own])


@pytest.mark.parametrize(
    ("norms", "biases", "masks"),
    [(False, False, (1, 0, 1, 1, 0)), (True, False, (1, 1, 1, 1, 0)), (False, True, (1, 0, 1, 1, 1))],
)
@pytest.mark.parametrize("kind", ["l2", "decoupled"])
def test_weight_decay_by_tensor(kind, norms, biases, masks):
    found = trained(
        told(name="sgd", nesterov=True, weight_decay=0.2, decay=kind, decay_norms=norms, decay_biases=biases)
    )
    close(found, momentum_of_tensorflow(0.9, True, 0.2, kind, masks))


def test_l2_is_the_gradient_of_the_loss_the_sources_add():
    """weight_decay * tf.nn.l2_loss(w) in the loss, by TensorFlow 1's RMSProp."""
    found = trained(told(name="rmsprop", rho=0.9, epsilon=1e-3, weight_decay=0.2, decay_biases=True))

    def make(rate):
        plain = tf.compat.v1.train.RMSPropOptimizer(rate, 0.9, 0.9, 1e-3)
        apply = plain.apply_gradients

        def decayed(pairs):
            pairs = list(pairs)
            kept = [i != 1 for i in range(len(pairs))]  # all but gamma
            penalty = 0.2 * tf.add_n([tf.nn.l2_loss(v) for (_, v), keep in zip(pairs, kept, strict=True) if keep])
            added = tf.gradients(penalty, [v for _, v in pairs])
            return apply([(g if a is None else g + a, v) for (g, v), a in zip(pairs, added, strict=True)])

        plain.apply_gradients = decayed
        return plain

    close(found, of_tensorflow_1(make))


def test_each_part_learns_at_a_share_of_the_next_ones_rate():
    found = trained(told(name="sgd", weight_decay=0.2, decay="decoupled", layer_rates=0.5))
    close(found, momentum_of_tensorflow(0.9, False, 0.2, "decoupled", (1, 0, 1, 1, 0), (0.25, 0.25, 0.5, 1, 1)))


@pytest.mark.parametrize("most", [0.5, 100.0])
def test_the_norm_of_all_gradients_is_clipped_before_they_decay(most):
    found = trained(told(name="sgd", momentum=0.0, clip_norm=most, weight_decay=0.2), steps=1)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients(0)))
    assert 0.5 < norm < 100
    masks = (1, 0, 1, 1, 0)
    expected = [
        w - 0.5 * (g * min(1.0, most / norm) + 0.2 * m * w)
        for w, g, m in zip(start(), gradients(0), masks, strict=True)
    ]
    close(found, expected)


def test_the_scale_of_a_loss_in_float16_changes_nothing():
    wanted = told(name="sgd", nesterov=True, clip_norm=0.5, weight_decay=0.2)
    own = variables()
    made = keras.optimizers.LossScaleOptimizer(
        optimizer.make(wanted, learning_rate(wanted, 2)), initial_scale=8.0, dynamic_growth_steps=100
    )
    made.build(own)
    for n in range(4):
        made.apply([tf.constant(g * 8) for g in gradients(n)], own)
    close([keras.ops.convert_to_numpy(v) for v in own], trained(wanted, steps=4))


@pytest.fixture(scope="module", params=["efficientnet-b0", "ghostnet-1.0x", "resnet-50"])
def kinds(request):
    """Path and kind of each trainable tensor, by its rank and by what else its layer has."""
    found = []
    for layer in zoo.load(request.param, input_shape=64).layers:
        for variable in layer.trainable_variables:
            kind = "kernel" if len(variable.shape) > 1 else "norm" if layer.non_trainable_variables else "bias"
            found.append((optimizer.tensor_path(variable), kind))
    assert {kind for _, kind in found} == {"kernel", "norm", "bias"}
    return found


@pytest.mark.parametrize("name", recipe.names())
def test_what_decays_by_every_recipe_on_real_networks(kinds, name):
    """It depends on no step, so that this is the mask at each of them."""
    wanted = recipe.load(name)
    flags = {"norm": wanted.optimizer.decay_norms, "bias": wanted.optimizer.decay_biases, "kernel": True}
    found = optimizer.rules(wanted, [path for path, _ in kinds])
    assert found == [(wanted.optimizer.weight_decay * flags[kind], 1.0) for _, kind in kinds]


def test_rates_of_a_real_network_grow_towards_its_head():
    model = zoo.load("efficientnet-lite0", input_shape=64)
    paths = [optimizer.tensor_path(v) for v in model.trainable_variables]
    wanted = dataclasses.replace(recipe.load("transfer"), layer_rates=0.8)
    found = dict(zip(paths, optimizer.rules(wanted, paths), strict=True))
    # stem, 7 stages, head
    for part, below in [("head.", 0), ("stage7.", 1), ("stage1.", 7), ("stem.", 8)]:
        rates_there = {rule.rate for path, rule in found.items() if path.startswith(part)}
        assert len(rates_there) == 1
        assert rates_there.pop() == pytest.approx(0.8**below)


def test_the_rate_of_an_optimizer_is_that_of_its_next_step():
    wanted = told(name="sgd")
    made = optimizer.make(wanted, learning_rate(wanted, 2))
    made.build(variables())
    assert isinstance(made._learning_rate, Schedule)
    for step, rate in enumerate(rates()):
        made.iterations.assign(step)
        assert float(made.learning_rate) == pytest.approx(rate)


ON_JAX = """
import json, sys
import jax
import numpy as np
import test_optimizer as shared
from training import optimizer
from training.schedule import learning_rate

wanted = shared.told(**json.loads(sys.argv[1]), layer_rates=0.5)
own = shared.variables()
made = optimizer.make(wanted, learning_rate(wanted, 2))
made.build(own)
weights, state = [v.value for v in own], [v.value for v in made.variables]
assert all(isinstance(w, jax.Array) for w in weights)
step = jax.jit(made.stateless_apply)
for n in range(6):
    weights, state = step(state, shared.gradients(n), weights)
np.savez(sys.argv[2], *[np.asarray(w) for w in weights])
"""


@pytest.mark.parametrize("kind", ["l2", "decoupled"])
def test_the_same_on_jax(kind, tmp_path):
    choice = {"name": "sgd", "nesterov": True, "weight_decay": 0.2, "decay": kind}
    paths = [str(Path(optimizer.__file__).parents[1]), str(Path(__file__).parent)]
    subprocess.run(
        [sys.executable, "-c", ON_JAX, json.dumps(choice), str(tmp_path / "out.npz")],
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
        timeout=120,
    )
    with np.load(tmp_path / "out.npz") as out:
        found = [out[name] for name in out.files]
    expected = momentum_of_tensorflow(0.9, True, 0.2, kind, (1, 0, 1, 1, 0), (0.25, 0.25, 0.5, 1, 1))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
