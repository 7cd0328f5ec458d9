"""The optimizers over two devices of TensorFlow and on JAX, each in a process of its own, against NumPy's float64."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from training import optimizer

SHAPES = {"kernel": (3, 2), "gamma": (2,), "bias": (2,)}
DECAYS = {"kernel": 0.2, "gamma": 0.0, "bias": 0.2}
STEPS = 5

MADE = """
import dataclasses, sys
import keras, numpy as np
from training import optimizer, recipe
from training.recipe import LearningRate, Optimizer
from training.schedule import learning_rate

arrays = np.load(sys.argv[1])
FALLING = LearningRate(0.5, "exponential", factor=0.1, every_epochs=1)

def made(**told):
    wanted = Optimizer(weight_decay=0.2, decay_biases=True, **told)
    wanted = dataclasses.replace(recipe.load("digits"), optimizer=wanted, learning_rate=FALLING)
    with keras.name_scope("head.classifier.dense"):
        own = [keras.Variable(arrays[name], name=name) for name in ("kernel", "gamma", "bias")]
    new = optimizer.make(wanted, learning_rate(wanted, 2))
    new.build(own)
    return new, own

def gradients(step, device=0):
    return [arrays[f"{name} {step} {device}"] for name in ("kernel", "gamma", "bias")]

found = {}
"""


def drawn():
    """Weights by name; gradients by name, step and device."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    for step in range(STEPS):
        for device in range(2):
            for name, shape in SHAPES.items():
                arrays[f"{name} {step} {device}"] = rng.normal(size=shape).astype(np.float32)
    return arrays


def in_process(script, folder, backend):
    """What the script left in `found`, by name."""
    np.savez(folder / "in.npz", **drawn())
    text = MADE + textwrap.dedent(script) + "np.savez(sys.argv[2], **found)\n"
    root = str(Path(optimizer.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", text, str(folder / "in.npz"), str(folder / "out.npz")],
        env=os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as out:
        return {name: out[name] for name in out.files}


def rate(step):
    return 0.5 * 0.1 ** (step // 2)


def test_the_norm_that_is_clipped_is_that_of_all_devices(tmp_path):
    """SGD on the sum of what two devices have, also where a loss in float16 is scaled."""
    script = """
    import tensorflow as tf
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for scale in (1.0, 8.0):
        with strategy.scope():
            new, own = made(name="sgd", momentum=0.0, clip_norm=0.5)
            if scale > 1:
                new = keras.optimizers.LossScaleOptimizer(new, initial_scale=scale)
                new.build(own)

        @tf.function
        def step(first, second):
            def replica():
                index = tf.distribute.get_replica_context().replica_id_in_sync_group
                new.apply([scale * tf.where(index == 0, a, b) for a, b in zip(first, second)], own)
            strategy.run(replica)

        for n in range(5):
            step(gradients(n, 0), gradients(n, 1))
        for variable in own:
            found[f"{variable.name} {scale}"] = keras.ops.convert_to_numpy(variable)
    """
    found = in_process(script, tmp_path, "tensorflow")
    arrays = {name: array.astype(np.float64) for name, array in drawn().items()}
    for step in range(STEPS):
        sums = {name: arrays[f"{name} {step} 0"] + arrays[f"{name} {step} 1"] for name in SHAPES}
        norm = np.sqrt(sum((array**2).sum() for array in sums.values()))
        assert norm > 0.5
        for name in SHAPES:
            arrays[name] -= rate(step) * (0.5 / norm * sums[name] + DECAYS[name] * arrays[name])
    for name in SHAPES:
        np.testing.assert_allclose(found[f"{name} 1.0"], arrays[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[f"{name} 8.0"], arrays[name], rtol=1e-5, atol=1e-6)


def rmsprop(weights, gradient, step, state, decay):
    """TensorFlow 1: the mean square starts at 1, epsilon is inside the root, the rate inside the momentum."""
    square, momentum = state.get("square", 1.0), state.get("momentum", 0.0)
    gradient = gradient + decay * weights
    state["square"] = 0.9 * square + 0.1 * gradient**2
    state["momentum"] = 0.8 * momentum + rate(step) * gradient / np.sqrt(state["square"] + 1e-3)
    return weights - state["momentum"]


def adamw(weights, gradient, step, state, decay):
    """Loshchilov & Hutter 2019 (arXiv 1711.05101, algorithm 2), its decay times the rate as in Keras and PyTorch."""
    state["first"] = 0.8 * state.get("first", 0.0) + 0.2 * gradient
    state["second"] = 0.95 * state.get("second", 0.0) + 0.05 * gradient**2
    first, second = state["first"] / (1 - 0.8 ** (step + 1)), state["second"] / (1 - 0.95 ** (step + 1))
    return weights - rate(step) * (first / (np.sqrt(second) + 1e-8) + decay * weights)


def test_rmsprop_and_adamw_on_jax(tmp_path):
    script = """
    import jax
    assert keras.backend.backend() == "jax"
    for told in (dict(name="rmsprop", momentum=0.8, rho=0.9, epsilon=1e-3),
                 dict(name="adamw", momentum=0.8, rho=0.95, epsilon=1e-8, decay="decoupled")):
        new, own = made(**told)
        weights, state = [v.value for v in own], [v.value for v in new.variables]
        step = jax.jit(new.stateless_apply)
        for n in range(5):
            weights, state = step(state, gradients(n), weights)
        found |= {f"{told['name']} {v.name}": np.asarray(w) for v, w in zip(own, weights)}
    """
    found = in_process(script, tmp_path, "jax")
    arrays = drawn()
    for kind in (rmsprop, adamw):
        for name in SHAPES:
            weights, state = arrays[name].astype(np.float64), {}
            for step in range(STEPS):
                weights = kind(weights, arrays[f"{name} {step} 0"].astype(np.float64), step, state, DECAYS[name])
            np.testing.assert_allclose(found[f"{kind.__name__} {name}"], weights, rtol=1e-6, atol=1e-6)
