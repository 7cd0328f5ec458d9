"""Several processes on JAX, here on one machine: what one would compute, and a kill survived by starting again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

import zoo
from training import checkpoint

COMMAND = ["--model=resnet-20", "--recipe=digits", "--seed=3", "--checkpoint_every=2"]
SETS = ("epochs=2", "ema.decay=0.8", "bn=recalibrate", "batch=32", "label_smoothing=0.1", "augment.flip=true")
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
def two(few_digits, tmp_path_factory):
    """The folder of a run by two processes."""
    folder = tmp_path_factory.mktemp("hosts") / "two"
    ended(both(few_digits, folder))
    return folder


def test_two_processes_end_with_the_same(two):
    one, other = (arrays(two / "checkpoints" / f"rank-{rank}") for rank in range(2))
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


def test_two_processes_are_one(two, few_digits, tmp_path):
    """Weights, statistics of batch norms over the whole batch, optimizer and average: within 1e-5."""
    ended([start(few_digits, tmp_path / "one")])
    alone = arrays(tmp_path / "one" / "checkpoints" / "rank-0")
    together = arrays(two / "checkpoints" / "rank-0")
    assert alone.keys() == together.keys()
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], rtol=0, atol=1e-5, err_msg=name)
    results = [json.loads((folder / "result.json").read_text()) for folder in (two, tmp_path / "one")]
    assert [result["machine"]["processes"] for result in results] == [2, 1]
    for name in ("raw", "ema"):
        counts = [result["minival"][name] for result in results]
        assert counts[0]["count"] == counts[1]["count"]
        assert counts[0]["loss"] == pytest.approx(counts[1]["loss"], rel=1e-4)
    model, other = (zoo.load(str(folder / "model"), True) for folder in (two, tmp_path / "one"))
    for own, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-5)


def test_one_of_them_is_killed(two, few_digits, tmp_path):
    children = both(few_digits, tmp_path / "run")
    for line in children[0].stderr:
        if re.search(r"step 1\d/\d+", line):
            break
    os.kill(children[1].pid, signal.SIGKILL)
    _, errors = children[0].communicate(timeout=400)
    children[1].communicate()
    assert children[0].returncode != 0, errors
    assert not (tmp_path / "run" / "result.json").exists()
    assert checkpoint.latest(tmp_path / "run" / "checkpoints" / "rank-0").step >= 2
    ended(both(few_digits, tmp_path / "run"))
    whole, parts = (arrays(folder / "checkpoints" / "rank-1") for folder in (two, tmp_path / "run"))
    for name in whole:
        assert whole[name].tobytes() == parts[name].tobytes(), name
