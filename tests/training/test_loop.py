"""The loop: the step of a closed form, the average of its source, and nothing lost when a process is killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from training import checkpoint
from training.loop import Trainer


def linear(kernel):
    inputs = keras.Input((2, 2, 1))
    outputs = layers.Dense(1, use_bias=False, name="d")(layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.get_layer("d").kernel.assign(np.asarray(kernel, np.float32)[:, None])
    return model


def squares(labels, outputs):
    return tf.reduce_mean((labels - outputs) ** 2)


def data(start):
    for step in range(start, 10**6):
        rng = np.random.default_rng(step)
        yield rng.normal(size=(4, 2, 2, 1)).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)


def test_steps_and_average_are_those_of_numpy():
    """SGD on least squares; the average of TensorFlow's ExponentialMovingAverage with num_updates."""
    kernel = np.array([1.0, -1.0, 0.5, 2.0])
    model = linear(kernel)
    seen = []
    trainer = Trainer(
        model, keras.optimizers.SGD(0.1), squares, data, decay=lambda step: min(0.9, (1 + step) / (10 + step))
    )
    trainer.run(7, report=seen.append, report_every=3)
    average, losses = kernel.copy(), []
    for step in range(7):
        pixels, labels = next(data(step))
        flat = pixels.reshape(4, 4).astype(np.float64)
        error = flat @ kernel - labels[:, 0]
        losses.append((error**2).mean())
        kernel = kernel - 0.1 * 2 * flat.T @ error / 4
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * kernel
    np.testing.assert_allclose(model.get_layer("d").kernel[:, 0], kernel, rtol=1e-5)
    with trainer.averaged() as other:
        np.testing.assert_allclose(other.get_layer("d").kernel[:, 0], average, rtol=1e-5)
    np.testing.assert_allclose(model.get_layer("d").kernel[:, 0], kernel, rtol=1e-5)
    assert [each.step for each in seen] == [3, 6, 7]
    assert [each.loss for each in seen] == pytest.approx(
        [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]], rel=1e-5
    )
    assert seen[0].learning_rate == pytest.approx(0.1)
    assert all(each.pictures_per_second > 0 for each in seen)


def test_the_average_covers_moving_statistics():
    inputs = keras.Input((2, 2, 1))
    x = layers.BatchNormalization(momentum=0.5, name="n")(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    trainer = Trainer(model, keras.optimizers.SGD(0.0), squares, data, decay=lambda step: 0.75)
    trainer.run(2)
    moving, average = 0.0, 0.0
    for step in range(2):
        moving = 0.5 * moving + 0.5 * next(data(step))[0].mean()
        average = 0.75 * average + 0.25 * moving
    with trainer.averaged() as other:
        assert float(other.get_layer("n").moving_mean[0]) == pytest.approx(average, rel=1e-4)
    assert float(model.get_layer("n").moving_mean[0]) == pytest.approx(moving, rel=1e-4)


def test_a_loss_that_is_no_number_is_known_by_its_step(tmp_path):
    def spoilt(start):
        for step, (pixels, labels) in enumerate(data(start), start):
            yield pixels * (np.nan if step in (5, 6) else 1), labels

    trainer = Trainer(linear([1, 1, 1, 1]), keras.optimizers.SGD(0.1), squares, spoilt)
    with pytest.raises(zoo.ZooError, match=r"the loss of step 5 is not a finite number"):
        trainer.run(20, folder=tmp_path, every=4)
    assert checkpoint.latest(tmp_path).step == 4
    assert all(np.isfinite(array).all() for array in checkpoint.latest(tmp_path).arrays.values())


def test_data_that_ends():
    trainer = Trainer(linear([1, 1, 1, 1]), keras.optimizers.SGD(0.1), squares, lambda step: [])
    with pytest.raises(zoo.ZooError, match=r"the data ended at step 0 of 3"):
        trainer.run(3)


def test_a_checkpoint_of_another_run():
    state = Trainer(linear([1, 1, 1, 1]), keras.optimizers.SGD(0.1), squares, data).state({})
    other = Trainer(linear([1, 1, 1, 1]), keras.optimizers.SGD(0.1, momentum=0.9), squares, data)
    with pytest.raises(zoo.ZooError, match=r"the checkpoint of step 0 is of another run: optimizer/.* differs"):
        other.restore(state)


def test_two_devices_are_one():
    """MirroredStrategy on two logical processors, in a process of its own, against plain SGD on the whole batch."""
    script = textwrap.dedent(
        """
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import numpy as np, tensorflow as tf, keras, sys
        sys.path.insert(0, sys.argv[1])
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        from test_loop import linear, squares
        from training.loop import Trainer

        rng = np.random.default_rng(0)
        pixels = rng.normal(size=(24, 2, 2, 1)).astype(np.float32)
        labels = rng.normal(size=(24, 1)).astype(np.float32)

        def batches(step):
            return tf.data.Dataset.from_tensor_slices((pixels, labels)).skip(4 * step).batch(4, drop_remainder=True)

        found = []
        for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), None):
            with (strategy or tf.distribute.get_strategy()).scope():
                model = linear([1, -1, 0.5, 2])
                optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            trainer = Trainer(model, optimizer, squares, batches, decay=lambda step: 0.5, strategy=strategy)
            trainer.run(5, report=lambda progress: found.append(progress.loss))
            with trainer.averaged():
                found.append(np.asarray(model.get_layer("d").kernel)[:, 0])
            found.append(np.asarray(model.get_layer("d").kernel)[:, 0])
        for two, one in zip(found[:3], found[3:], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-5)
        print("same")
        """
    )
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script, here], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "same", done.stderr[-2000:]


KILLED = textwrap.dedent(
    """
    import os, pathlib, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras, numpy as np, tensorflow as tf
    keras.utils.set_random_seed(3)
    tf.config.experimental.enable_op_determinism()
    from keras import layers
    from training import checkpoint
    from training.loop import Trainer

    def loss(labels, logits):
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    def batches(start):
        for step in range(start, 10**6):
            rng = np.random.default_rng(step)
            yield rng.normal(size=(8, 8, 8, 3)).astype(np.float32), rng.integers(0, 4, 8)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(4)(x))
    trainer = Trainer(model, keras.optimizers.RMSprop(0.01, momentum=0.9), loss, batches, decay=lambda step: 0.9)
    folder = pathlib.Path(sys.argv[1])
    found = checkpoint.latest(folder)
    if found:
        trainer.restore(found)
    print("begin", trainer.step, flush=True)
    say = lambda each: print(each.step, flush=True)
    trainer.run(int(sys.argv[2]), folder=folder, every=5, report_every=1, report=say)
    """
)


def test_killed_ten_times_it_ends_as_if_never_stopped(tmp_path):
    steps = 400
    command = [sys.executable, "-c", KILLED]
    whole = tmp_path / "whole"
    subprocess.run([*command, whole, str(steps)], check=True, capture_output=True, timeout=300)
    parts, rng, kills = tmp_path / "parts", random.Random(0), 0
    while kills < 10:
        child = subprocess.Popen(
            [*command, parts, str(steps)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        first = int(child.stdout.readline().split()[1])
        assert first < steps, "it ended before it was killed ten times"
        for _ in range(rng.randrange(5, 35)):
            child.stdout.readline()
        time.sleep(rng.random() * 0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        kills += 1
    subprocess.run([*command, parts, str(steps)], check=True, capture_output=True, timeout=300)

    def digest(folder):
        state = checkpoint.latest(folder)
        assert state.step == steps
        return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in state.arrays.items()}

    assert digest(whole) == digest(parts)
