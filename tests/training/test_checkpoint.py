"""A checkpoint is there whole or not at all, and a damaged one costs the steps since the one before."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from training import checkpoint
from training.checkpoint import State

ARRAYS = {
    "kernel": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "iterations": np.int64(7),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "empty": np.zeros((0, 3), np.float16),
    "scale": np.float32(0.1),
}


def state(step=3):
    return State(step, ARRAYS, {"seed": 5, "recipe": "epochs: 3\n"})


def same(found, wanted):
    assert (found.step, found.told) == (wanted.step, wanted.told)
    assert found.arrays.keys() == wanted.arrays.keys()
    for name, array in wanted.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=isinstance(array, np.ndarray))
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape


def test_what_is_saved_is_resumed(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    same(checkpoint.read(checkpoint.save(tmp_path, state())), state())
    for step in (20, 100, 9):
        checkpoint.save(tmp_path, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:09d}.safetensors" for n in (20, 100)]
    same(checkpoint.latest(tmp_path), state(100))


@given(st.data())
def test_a_damaged_one_is_passed_over(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder, state(1))
    path = checkpoint.save(folder, state(2))
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    found = checkpoint.latest(folder)
    same(found, state(found.step))
    # A changed bit of the header may be in what was told, which is not hashed, or in a space.
    assert found.step == 1 or len(path.read_bytes()) == len(whole)


def test_a_full_disk_costs_nothing(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(1))
    before = (tmp_path / "step-000000001.safetensors").read_bytes()

    def full(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        zoo.ZooError, match=r"cannot write the checkpoint .*step-000000002.*: .*No space left on device"
    ):
        checkpoint.save(tmp_path, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.safetensors"]
    assert (tmp_path / "step-000000001.safetensors").read_bytes() == before


def test_a_process_killed_while_writing(tmp_path):
    """Whenever it is killed, what is there afterwards is whole."""
    script = textwrap.dedent(
        """
        import pathlib, sys, numpy as np
        from training.checkpoint import State, save
        for step in range(1, 10**6):
            save(pathlib.Path(sys.argv[1]), State(step, {"w": np.full(300_000, step, np.float32)}, {}))
            print(step, flush=True)
        """
    )
    for number in range(6):
        folder = tmp_path / str(number)
        child = subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(2 + number):
            done = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        found = checkpoint.latest(folder)
        assert found.step >= done
        assert (found.arrays["w"] == found.step).all()


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "step-000000004.safetensors"
    path.write_bytes(b"PK")
    with pytest.raises(zoo.ZooError, match=r"the checkpoint .*step-000000004.safetensors is damaged: "):
        checkpoint.read(path)
    assert checkpoint.latest(tmp_path) is None
    with pytest.raises(zoo.ZooError, match="is damaged"):
        checkpoint.read(tmp_path / "step-000000005.safetensors")
