"""The process that reads HDF5: one for all files, replaced when it dies, never outliving its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest
from mutations import old_h5

from scaling_rules.errors import ZooError
from weights import h5_file
from weights.h5_file import read


@pytest.fixture
def good(tmp_path) -> Path:
    return old_h5(tmp_path / "good.h5")


def refused(path: Path) -> str:
    with pytest.raises(ZooError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


# -- what it may answer --------------------------------------------------------------------------------

SOUND = ["conv", "conv/kernel", "<f4", [2, 3], 0]


@pytest.mark.parametrize(
    "answer",
    [
        *(
            {"layers": [], "tensors": [[*SOUND[:n], bad, *SOUND[n + 1 :]]]}
            for n, bads in enumerate(
                [
                    [1, "", "a\n", "a" * 501, None, []],
                    [1, "", "\ud800"],
                    ["<i4", "O", 3, [], "<f4,<f4", None],
                    ["ab", [-1], [2.0], [True], [2**48], [2**30, 2**30], [1] * 9, None, [None], {"2": 3}, [50_000]],
                    [-1, 2**63, 1.0, None, "0", 100_000],
                ]
            )
            for bad in bads
        ),
        {"layers": [], "tensors": []},
        {"layers": [], "tensors": [SOUND[:4]]},
        {"layers": [], "tensors": [[*SOUND, 1]]},
        {"layers": [], "tensors": "abc"},
        {"layers": [], "tensors": ["abcde"] * 20_001},
        {"layers": ["a", 1], "tensors": [SOUND]},
        {"layers": "conv", "tensors": [SOUND]},
        {"tensors": [SOUND]},
        {"error": "two\nlines \x1b[31m" + "x" * 10_000},
        {"error": ["nested"]},
        [],
        None,
    ],
)
def test_a_child_that_was_taken_over(good, monkeypatch, answer):
    monkeypatch.setattr(h5_file, "_ask", lambda *_, **__: (0, json.dumps(answer).encode()))
    assert refused(good).isprintable()


@pytest.mark.parametrize("reply", [b"", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"layers": []'])
def test_a_reply_that_is_no_json(good, monkeypatch, reply):
    monkeypatch.setattr(h5_file, "_ask", lambda *_, **__: (0, reply))
    refused(good)


# -- its life ------------------------------------------------------------------------------------------


def run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def pid() -> int:
    assert h5_file._child is not None
    return h5_file._child.pid


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()  # dead, but its new parent does not care
    except ProcessLookupError:
        return False
    except OSError:  # no /proc
        return True


def gone(number: int) -> bool:
    end = time.monotonic() + 10
    while alive(number) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(number)


def test_one_child_for_all_files(tmp_path, good):
    read(good)
    first = pid()
    (tmp_path / "bad.h5").write_bytes(good.read_bytes()[:5000])
    for n in range(100):
        refused(tmp_path / "bad.h5") if n % 3 else read(good)
    assert pid() == first
    threads = [threading.Thread(target=read, args=[good]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pid() == first


def test_it_imports_no_keras():
    script = (
        "import sys; from weights import h5_child; import io, os; sys.stdin = io.TextIOWrapper(io.BytesIO(b''));"
        "h5_child.serve(); print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = run(script)
    assert "h5py" in loaded
    assert not any(f"'{name}'" in loaded for name in ("keras", "tensorflow", "zoo", "scaling_rules", "safetensors"))


@pytest.mark.parametrize(
    ("code", "reason"), [(-signal.SIGSEGV, "crashed on it (SIGSEGV)"), (-signal.SIGPROF, "was stopped"), (1, "code 1")]
)
def test_how_it_ended(good, monkeypatch, code, reason):
    monkeypatch.setattr(h5_file, "_ask", lambda *_, **__: (code, b""))
    assert reason in refused(good)


def test_the_child_dies(good):
    read(good)
    first = pid()
    os.kill(first, signal.SIGKILL)  # between two files: not the next one's fault
    time.sleep(0.2)
    read(good)
    second = pid()
    assert second != first
    os.kill(second, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, [second, signal.SIGKILL])
    killer.start()
    assert "died or was silent" in refused(good)  # while it works
    killer.join()
    read(good)
    assert pid() != second
    assert gone(second)


def test_silence(good):
    read(good)
    first = pid()
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(ZooError, match="silent"):
        h5_file._ask({"path": str(good), "cpu": 1}, wall=0.3)
    assert gone(first)
    read(good)


def test_endless_work(tmp_path, good):
    """What takes minutes is stopped in about a second, by a signal that ends the fork; the child goes on."""
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["layer_names"] = [b"a"] * 20_000
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"b/" * 200 + b"w"]
        group["b"] = group  # a cycle: 200 steps for each of 20,000 names
        group["w"] = [1.0]
    read(good)
    first, start = pid(), time.monotonic()
    assert "was stopped after 0.8 s of computing" in refused(tmp_path / "x.h5")
    assert time.monotonic() - start < 5
    assert len(read(good).tensors) == 11
    assert pid() == first


def test_interrupted(good, monkeypatch):
    """After Ctrl-C in the midst of a file, the next file does not get the answer to the last."""
    read(good)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(h5_file, "_exactly", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(good)
    assert h5_file._child is None
    read(good)


PARENT = """
import os, sys
from weights import h5_file
h5_file.read(sys.argv[1])
print(h5_file._child.pid, flush=True)
"""


def test_it_ends_with_its_parent(good):
    assert gone(int(run(PARENT, str(good))))
    assert gone(int(run(PARENT + "os._exit(0)", str(good))))
    fork = PARENT + (
        "if not os.fork():\n"
        "    h5_file.read(sys.argv[1]); print(h5_file._child.pid, flush=True); sys.exit()\n"
        "os.wait(); h5_file.read(sys.argv[1]); print(h5_file._child.pid)\n"
    )
    first, second, third = map(int, run(fork, str(good)).split())
    assert first == third != second
    assert gone(first)
    assert gone(second)
    orphan = PARENT + "if not os.fork():\n    os.close(1); os.close(2); import time; time.sleep(8); sys.exit()\n"
    start = time.monotonic()
    assert gone(int(run(orphan, str(good))))  # though a fork of the parent still lives
    assert time.monotonic() - start < 8


def test_neither_folder_nor_environment_matter(tmp_path, good):
    for name in ("h5py", "numpy", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the working folder')")
    change = f"from weights import h5_file; import os; os.chdir({str(tmp_path)!r}); os.environ['HDF5_DRIVER'] = 'core'"
    run(change + PARENT, good.name)
