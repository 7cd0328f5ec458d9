"""Several processes on JAX, here on one machine: what one would compute, and a kill survived by starting again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from training import checkpoint, recipe
from training.job import Job, build

COMMAND = ["--model=resnet-20", "--recipe=digits", "--seed=3", "--checkpoint_every=2"]
SETS = (
    "epochs=4", "batch=48", "ema.decay=0.8", "bn=recalibrate", "label_smoothing=0.1", "augment.flip=true",
    # So slow that what sums in another order give does not grow.
    "learning_rate.peak=0.00002", "learning_rate.warmup_epochs=0",
)  # fmt: skip
COMMAND += [f"--set={each}" for each in SETS]


def start(data, folder, rank=None, port=None):
    """A process of `training.train`: the one of that rank of two, or alone."""
    hosts = ["--strategy=hosts", f"--coordinator=localhost:{port}", "--hosts=2", f"--host={rank}"]
    command = [sys.executable, "-m", "training.train", f"--dataset={data}", f"--work_dir={folder}", *COMMAND]
    return subprocess.Popen(
        command + (hosts if rank is not None else []),
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def both(data, folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [start(data, folder, rank, port) for rank in range(2)]


def ended(children):
    for child in children:
        _, errors = child.communicate(timeout=400)
        assert child.returncode == 0, errors[-3000:]


def arrays(folder):
    return checkpoint.latest(folder).arrays


@pytest.fixture(scope="module")
def two(crops, tmp_path_factory):
    """The folder of a run by two processes."""
    folder = tmp_path_factory.mktemp("hosts") / "two"
    ended(both(crops, folder))
    return folder


def test_two_processes_end_with_the_same(two):
    one, other = (arrays(two / "checkpoints" / f"rank-{rank}") for rank in range(2))
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


def test_two_processes_are_one(two, crops, tmp_path):
    """Weights, statistics of batch norms over the whole batch, optimizer and average: within 1e-5."""
    ended([start(crops, tmp_path / "one")])
    alone = arrays(tmp_path / "one" / "checkpoints" / "rank-0")
    together = arrays(two / "checkpoints" / "rank-0")
    assert alone.keys() == together.keys()
    for name, array in alone.items():
        largest = max(1.0, np.abs(array).max())
        # Gradients are differences of large sums: what Keras calls momentum is one, weights are moved by little of it.
        within = 0.02 if name.startswith("optimizer") else 1e-5
        np.testing.assert_allclose(together[name], array, rtol=0, atol=within * largest, err_msg=name)
    results = [json.loads((folder / "result.json").read_text()) for folder in (two, tmp_path / "one")]
    assert [result["machine"]["processes"] for result in results] == [2, 1]
    for name in ("raw", "ema"):
        counts = [result["minival"][name] for result in results]
        assert counts[0]["count"] == counts[1]["count"]
        assert counts[0]["loss"] == pytest.approx(counts[1]["loss"], rel=1e-4)
    keras.utils.set_random_seed(3)
    fresh = build(Job("resnet-20", str(crops), recipe.load("digits")), 4, 1)[0]
    model, other = (zoo.load(str(folder / "model"), True) for folder in (two, tmp_path / "one"))
    for own, theirs, old in zip(model.weights, other.weights, fresh.weights, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-5)
        moved = np.linalg.norm(theirs - old)  # of which 1e-5 may be much
        assert np.linalg.norm(own - theirs) < 0.05 * moved, own.path


def test_one_of_them_is_killed(two, crops, tmp_path):
    children = both(crops, tmp_path / "run")
    for line in children[0].stderr:
        if re.search(r"step [4-9]/\d+", line):
            break
    os.kill(children[1].pid, signal.SIGKILL)
    _, errors = children[0].communicate(timeout=400)
    children[1].communicate()
    assert children[0].returncode != 0, errors
    assert not (tmp_path / "run" / "result.json").exists()
    assert checkpoint.latest(tmp_path / "run" / "checkpoints" / "rank-0").step >= 2
    ended(both(crops, tmp_path / "run"))
    whole, parts = (arrays(folder / "checkpoints" / "rank-1") for folder in (two, tmp_path / "run"))
    for name in whole:
        assert whole[name].tobytes() == parts[name].tobytes(), name
