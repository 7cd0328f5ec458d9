"""A checkpoint: what is read is what was written, to the bit; half of one, or a changed one, is never taken."""

import errno
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import zoo
from training import checkpoint
from training.checkpoint import KEPT, State

DTYPES = ("float32", "float16", "int64", "int32", "uint8", "uint32", "bool")


def state(step, seed=0):
    rng = np.random.default_rng(seed)
    return State(step, {"a/kernel": rng.normal(size=(3, 4)).astype(np.float32), "step": np.int64(step)}, {"seed": seed})


def assert_same(found, wanted):
    assert found.step == wanted.step
    assert found.told == wanted.told
    assert found.arrays.keys() == wanted.arrays.keys()
    for name, array in wanted.arrays.items():
        assert found.arrays[name].dtype == np.asarray(array).dtype
        assert found.arrays[name].shape == np.asarray(array).shape
        assert found.arrays[name].tobytes() == np.asarray(array, order="C").tobytes()


@settings(max_examples=40, deadline=None)
@given(
    step=st.integers(0, 10**8),
    told=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3),
    found=st.dictionaries(
        st.text(st.characters(categories=["L", "N"], include_characters="/_."), min_size=1, max_size=9),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_what_is_read_is_what_was_written(tmp_path_factory, step, told, found):
    folder = tmp_path_factory.mktemp("checkpoints")
    wanted = State(step, found, told)
    checkpoint.save(folder, wanted)
    assert_same(checkpoint.latest(folder), wanted)


def test_the_last_ones_are_kept(tmp_path):
    assert checkpoint.latest(tmp_path / "none") is None
    for step in (1, 5, 30, 200):
        checkpoint.save(tmp_path, state(step, step))
    assert len(list(tmp_path.iterdir())) == KEPT
    assert_same(checkpoint.latest(tmp_path), state(200, 200))


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text"])
def test_a_damaged_one_is_said_and_the_one_before_taken(tmp_path, caplog, damage):
    checkpoint.save(tmp_path, state(10, 1))
    path = checkpoint.save(tmp_path, state(20, 2))
    stored = bytearray(path.read_bytes())
    if damage == "bit":
        stored[-5] ^= 1
    path.write_bytes({"cut": stored[:-7], "empty": b"", "bit": stored, "text": b"not a checkpoint at all"}[damage])
    assert_same(checkpoint.latest(tmp_path), state(10, 1))
    assert f"{path} is damaged" in caplog.text
    with pytest.raises(zoo.ZooError, match=r"is damaged"):
        checkpoint.read(path)


def test_one_renamed_into_place_is_not_trusted_for_its_name(tmp_path):
    """The step is what the file says, not what it is called."""
    path = checkpoint.save(tmp_path, state(10))
    shutil.copy(path, tmp_path / "step-000000099.safetensors")
    assert checkpoint.latest(tmp_path).step == 10


def test_a_full_disk(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(10, 1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(zoo.ZooError, match=r"cannot write the checkpoint .*step-000000020.*No space left on device"):
        checkpoint.save(tmp_path, state(20, 2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(zoo.ZooError, match=r"cannot write the checkpoint"):
        checkpoint.save(tmp_path / "x", state(1))
