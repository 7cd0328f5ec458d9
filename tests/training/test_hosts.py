"""Several processes on JAX compute what one does, and lose nothing when one of them is killed."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from training import checkpoint

STEPS = 30

# A small network with batch norm and dropout; each process takes its half of batches that depend on the step alone.
RUN = textwrap.dedent(
    """
    import pathlib, sys, time
    import jax, keras, numpy as np
    from keras import layers
    from training import jax_loop
    from training.strategy import strategy

    folder, port, hosts, host, pause = pathlib.Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5]), float(sys.argv[5])
    if hosts == 1:
        place = strategy("one")
    elif port == "-":
        place = strategy("hosts")
    else:
        place = strategy("hosts", coordinator=f"localhost:{port}", hosts=hosts, host=host)
    assert (jax.process_count(), jax.process_index()) == (hosts, host)

    def loss(labels, logits):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    def batches(start):
        for step in range(start, 10**6):
            rng = np.random.default_rng(step)
            images, labels = rng.normal(size=(8, 8, 8, 3)).astype(np.float32), rng.integers(0, 4, 8)
            # Rows differ in mean and spread, so that statistics of the half would be others.
            images *= np.arange(1, 9, dtype=np.float32)[:, None, None, None] / 4
            rows = slice(host * 8 // hosts, (host + 1) * 8 // hosts)
            yield images[rows], labels[rows].astype(np.int32)

    keras.utils.set_random_seed(3)
    with place.scope():
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(16, 3, use_bias=False)(inputs)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, layers.Dense(4)(x))
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    trainer = jax_loop.Trainer(model, optimizer, loss, batches, decay=lambda step: 0.9, strategy=place)
    found = jax_loop.latest(folder)
    if found:
        trainer.restore(found)
    print("begin", trainer.step, flush=True)
    def say(each):
        print(each.step, each.loss, flush=True)
        time.sleep(pause)

    trainer.run(30, folder=folder, every=4, report_every=1, report=say)
    """
)


def start(folder, hosts, host, port="-", pause=0.0, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, (folder, port, hosts, host, pause))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


def finish(*processes):
    """What each said of its steps, {step: loss}, the first with no loss."""
    outs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [steps(out.splitlines()) for out, _ in outs]


def steps(lines):
    words = [line.split() for line in lines]
    return {int(step): float(loss) for step, loss in (two for two in words if len(two) == 2 and two[0].isdigit())}


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def last(folder):
    state = checkpoint.latest(folder)
    assert state.step == STEPS
    return state.arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, what was said by each) of a run of two processes that nothing disturbs."""
    folder, port = tmp_path_factory.mktemp("two"), free_port()
    return folder, finish(*(start(folder, 2, host, port) for host in range(2)))


def test_two_processes_compute_what_one_does(whole, tmp_path):
    """Batch norm over the whole batch, dropout, momentum, average."""
    folder, (first, second) = whole
    (alone,) = finish(start(tmp_path, 1, 0))
    assert first == second
    assert list(first) == list(alone) == list(range(1, STEPS + 1))
    assert list(first.values()) == pytest.approx(list(alone.values()), abs=1e-5)
    one, zero, other = last(tmp_path / "rank-0"), last(folder / "rank-0"), last(folder / "rank-1")
    assert one.keys() == zero.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(zero[name], other[name], err_msg=name)
        np.testing.assert_allclose(zero[name], one[name], rtol=0, atol=1e-5, err_msg=name)


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint_of_all(whole, tmp_path):
    """SIGKILL of one; the other says so; both are started again, as Slurm does it, and end as if never stopped."""
    port = free_port()
    survivor, victim = (start(tmp_path, 2, host, port, pause=0.1) for host in range(2))
    try:
        for line in victim.stdout:
            if line.startswith("13 "):
                break
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait(timeout=60) == -signal.SIGKILL
        assert any("ZooError: process 0 of 2 stopped after step 1" in line for line in survivor.stderr)
    finally:
        # JAX would stop the other within 100 s, when the lost one has sent no sign of life.
        for process in (survivor, victim):
            process.kill()
            process.communicate()
    # As if the victim had not got to the end of writing the last one that the other has.
    assert checkpoint.latest(tmp_path / "rank-0").step == 12
    (tmp_path / "rank-1" / "step-000000012.safetensors").unlink()
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": str(free_port()),
    }
    ranks = [{"SLURM_PROCID": str(host), "SLURM_LOCALID": str(host)} for host in range(2)]
    first, second = finish(*(start(tmp_path, 2, host, **slurm, **rank) for host, rank in enumerate(ranks)))
    undisturbed = {step: loss for step, loss in whole[1][0].items() if step > 8}
    assert first == second == undisturbed
    for rank in ("rank-0", "rank-1"):
        found, wanted = last(tmp_path / rank), last(whole[0] / rank)
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


# Each on one device and on two, in one process, against NumPy.
CHECKS = textwrap.dedent(
    """
    import os, pathlib, sys, warnings
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    import jax, keras, numpy as np
    sys.path.insert(0, sys.argv[1])
    from test_loop import data, linear
    from training import checkpoint
    from training.jax_loop import Trainer, latest, multihost_utils
    from training.strategy import strategy
    from zoo import ZooError

    def squares(labels, outputs):
        return keras.ops.mean((labels - outputs) ** 2)

    def said(call, *given, **named):
        try:
            call(*given, **named)
        except ZooError as error:
            return str(error)

    folder = pathlib.Path(sys.argv[2])
    decay = lambda step: min(0.9, (1 + step) / (10 + step))
    for place in (strategy("one"), keras.distribution.DataParallel()):
        devices = place.num_model_replicas

        # SGD on least squares, in one part and in two, with and without a scaled loss; its average; a teacher
        for accumulate, scaled, taught in ((1, False, False), (2, False, True), (1, True, False)):
            kernel = np.array([1.0, -1.0, 0.5, 2.0])
            with place.scope():
                model, optimizer = linear(kernel), keras.optimizers.SGD(0.1)
                if scaled:
                    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
            told = dict(loss=squares)
            if taught:
                told = dict(
                    loss=lambda labels, outputs: squares(labels[0] + labels[1], outputs),
                    teach=lambda images: images[:, 0, 0] * 3,
                )
            trainer, seen = Trainer(
                model, optimizer, batches=data, decay=decay, accumulate=accumulate, strategy=place, **told
            ), []
            trainer.run(7, report=seen.append, report_every=3)
            average, losses = kernel.copy(), []
            for step in range(7):
                pixels, labels = next(data(step))
                flat = pixels.reshape(4, 4).astype(np.float64)
                error = flat @ kernel - labels[:, 0] - 3 * flat[:, 0] * taught
                losses.append((error**2).mean())
                kernel = kernel - 0.1 * 2 * flat.T @ error / 4
                average = decay(step) * average + (1 - decay(step)) * kernel
            own = lambda: np.asarray(model.get_layer("d").kernel)[:, 0]
            np.testing.assert_allclose(own(), kernel, rtol=1e-5)
            with trainer.averaged():
                np.testing.assert_allclose(own(), average, rtol=1e-5)
            np.testing.assert_allclose(own(), kernel, rtol=1e-5)
            assert [each.step for each in seen] == [3, 6, 7]
            np.testing.assert_allclose(
                [each.loss for each in seen], [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]], rtol=1e-5
            )
            assert abs(seen[0].learning_rate - 0.1) < 1e-7

        # moving means: of the whole batch in one part, of every second row in two; and their average
        for accumulate in (1, 2 // devices):
            with place.scope():
                inputs = keras.Input((2, 2, 1))
                x = keras.layers.BatchNormalization(momentum=0.5, name="n")(inputs)
                model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
                optimizer = keras.optimizers.SGD(0.0)
            trainer = Trainer(
                model, optimizer, squares, data, decay=lambda step: 0.75, accumulate=accumulate, strategy=place
            )
            trainer.run(2)
            moving = average = 0.0
            for step in range(2):
                for part in range(accumulate):
                    moving = 0.5 * moving + 0.5 * next(data(step))[0][part::accumulate].mean()
                average = 0.75 * average + 0.25 * moving
            with trainer.averaged():
                np.testing.assert_allclose(np.asarray(model.get_layer("n").moving_mean), [average], rtol=1e-4)
            np.testing.assert_allclose(np.asarray(model.get_layer("n").moving_mean), [moving], rtol=1e-4)

        # a loss that is no number
        def spoilt(start):
            for step, (pixels, labels) in enumerate(data(start), start):
                yield pixels * (np.nan if step in (5, 6) else 1), labels

        def trainer(batches=data, optimizer=None, **given):
            with place.scope():
                model, optimizer = linear([1, 1, 1, 1]), optimizer or keras.optimizers.SGD(0.1)
            return Trainer(model, optimizer, squares, batches, strategy=place, **given)

        where = folder / str(devices)
        assert "the loss of step 5 is not a finite number" in said(trainer(spoilt).run, 20, folder=where, every=4)
        found = latest(where)
        assert found.step == 4 and all(np.isfinite(array).all() for array in found.arrays.values())
        assert "optimizer" in said(trainer(optimizer=keras.optimizers.SGD(0.1, momentum=0.9)).restore, found)
        assert "the data ended at step 0 of 3" in said(trainer(lambda step: []).run, 3)
        assert f"4 rows of a batch for each process must be a multiple of its {devices} devices times 3 parts" in said(
            trainer(accumulate=3).run, 1
        )

    # What another process says it has: one has none, one is a checkpoint behind, one is damaged.
    other = lambda step: setattr(multihost_utils, "process_allgather", lambda own: np.array([own, step]))
    assert latest(folder / "none") is None
    other(-1)
    assert "process 1 has no checkpoint in" in said(latest, where)
    assert latest(folder / "none") is None
    trainer().run(9, folder=where, every=3)
    other(6)
    assert latest(where).step == 6
    assert [path.stem for path in (where / "rank-0").iterdir()] == ["step-000000006"]
    other(3)
    assert "has no whole checkpoint of step 3" in said(latest, where)
    print("as wanted")
    """
)


def test_one_process_against_numpy(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, Path(__file__).parent, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
    )
    assert done.stdout.strip() == "as wanted", done.stderr[-3000:]
