"""Read the weights in an HDF5 file of Keras' older layout, the one of keras.applications' published files.

HDF5 is C code that a damaged or hostile file can crash, hang or make take all memory, so a process of its own opens
the file (`weights.h5_child`: started at the first read, kept, replaced when it dies). It only says where each tensor
lies; the bytes are read here, after every number has been checked. What the process is made to say can thus yield
wrong arrays, never more. It ends when this one ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from scaling_rules.errors import ZooError
from weights import h5_child
from weights.h5_child import HEADER, MAX_DIMS, MAX_NAME, MAX_NAMES, MAX_REPLY

MAX_FILE = 2 * 2**30  # bytes; EfficientNet-L2's 480 million parameters are 1.92e9
_MAX_COPIES = 2  # all arrays together, in file sizes: two names may share a dataset
_DTYPES = ("<f2", "<f4", "<f8", "<i8", ">f2", ">f4", ">f8", ">i8")

_LEAVES = "kernel|depthwise_kernel|pointwise_kernel|bias|gamma|beta|moving_mean|moving_variance|mean|variance|count"
_COUNTED = re.compile(rf"({_LEAVES})_\d+")


class H5File(NamedTuple):
    """What a file holds.

    tensors: by 'layer/weight' ('stem_conv/kernel'), in the file's order, C-contiguous and writable.
    layers: the names of all layers of the graph in its order, also those without weights; a nested model is one.
    """

    tensors: dict[str, np.ndarray]
    layers: tuple[str, ...]


def read(path: str | Path) -> H5File:
    """Return the tensors and layers of an HDF5 file of weights, or of a whole model, in Keras' older layout.

    Arrays are of float16, float32, float64 or int64 as stored, in the machine's byte order. Names are those of
    Keras 3 whichever Keras wrote the file: TensorFlow's ':0' is dropped, 'depthwise_kernel' is 'kernel'. A weight
    of a nested model goes by its own layer. A weight of the model itself is in 'top_level_model_weights/'.

    Raises ZooError, one line naming the file, for all else: Keras 3's .weights.h5, an unreadable or damaged file,
    one that HDF5 crashes on or computes on for longer than its size can take, one over 2 GiB; links, virtual,
    external, chunked, compressed and user-typed datasets; tensors that reach outside the file or fill more than
    twice its size.
    """
    path = Path(path)
    try:
        _require(path.is_file(), "no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _require(size <= MAX_FILE, f"{size} bytes; an HDF5 file may have {MAX_FILE}")
            found = _described(path, size)
            return H5File(_arrays(found, file, size), tuple(_names(found, "layers")))
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from None
    except Exception as error:  # whatever a process taken over by a file may have answered
        raise ZooError(f"{path}: damaged: {' '.join(str(error).split())[:200] or type(error).__name__}") from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ZooError(message)


# -- what the child said -------------------------------------------------------------------------------


def _described(path: Path, size: int) -> dict[str, Any]:
    """The child's answer, of which only the outer form has been checked. Raises ZooError for a refusal."""
    cpu = 0.8 + size / 1e8
    code, reply = _ask({"path": str(path.absolute()), "cpu": cpu}, wall=20 + 10 * cpu)
    if code == -signal.SIGPROF:
        raise ZooError(f"HDF5 was stopped after {cpu:.1f} s of computing on it; the file is damaged")
    if code < 0:
        raise ZooError(f"HDF5 crashed on it ({signal.Signals(-code).name}); the file is damaged")
    _require(code == 0, f"the process that reads HDF5 gave up on it (exit code {code})")
    found = json.loads(reply)
    _require(isinstance(found, dict), "the process that reads HDF5 answered nonsense")
    if "error" in found:
        reason = " ".join(str(found["error"]).split())[:300]
        raise ZooError("".join(c if c.isprintable() else "?" for c in reason))
    return found


def _name(value: Any) -> str:
    _require(isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable(), "a name is damaged")
    return value


def _names(found: dict[str, Any], key: str) -> list[str]:
    values = found[key]
    _require(isinstance(values, list) and len(values) <= MAX_NAMES, f"more than {MAX_NAMES} {key}")
    return [_name(value) for value in values]


def _arrays(found: dict[str, Any], file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """The tensors from the places that the child named. Raises ZooError and what NumPy and the file raise."""
    entries = found["tensors"]
    _require(isinstance(entries, list) and len(entries) <= MAX_NAMES, f"more than {MAX_NAMES} weights")
    _require(len(entries) > 0, "holds no weights")
    named = _renamed([(_name(layer), _name(weight)) for layer, weight, *_ in entries])
    arrays: dict[str, np.ndarray] = {}
    total = 0
    for name, (_, _, dtype, shape, offset) in zip(named, entries, strict=True):
        _require(name not in arrays, f"two weights are named {name!r}")
        _require(isinstance(shape, list) and len(shape) <= MAX_DIMS and dtype in _DTYPES, f"{name!r} is damaged")
        whole = all(type(number) is int and 0 <= number < 2**48 for number in (offset, *shape))
        nbytes = math.prod(shape) * int(dtype[2:]) if whole else 0
        inside = whole and offset + nbytes <= size
        _require(inside, f"{name!r} reaches outside the file (shape {shape}, at byte {offset} of {size})")
        total += nbytes
        _require(total <= _MAX_COPIES * size, f"{total} bytes of tensors so far in a file of {size}")
        array = np.empty(shape, dtype)
        if nbytes:
            file.seek(offset)
            got = file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
            _require(got == nbytes, f"{name!r} is cut off: the file changed while it was read")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return arrays


def _renamed(pairs: list[tuple[str, str]]) -> list[str]:
    """'layer/weight' for each (layer, its weight's path in the file).

    The layer is that of the group in the file: TensorFlow numbered the path anew where a name was taken
    ('stem_bn_1/gamma:0' in group 'stem_bn'), and Sequential put itself in front. Only in a nested model, told by
    weights of several layers in one group or by a path that leads through the group, it is the path's.
    """
    parents: dict[str, set[str]] = {}
    leaves: dict[str, set[str]] = {}
    split = []
    for layer, weight in pairs:
        *above, last = weight.split("/")
        last = re.sub(r":\d+$", "", last)
        counted = _COUNTED.fullmatch(last)
        leaf = counted[1] if counted else last
        parent = above[-1] if above else layer
        owner = parent if layer in above[:-1] else layer
        parents.setdefault(layer, set()).add(parent)
        split.append((layer, parent, owner, leaf))
    owned = []
    for layer, parent, owner, leaf in split:
        owner = parent if len(parents[layer]) > 1 else owner
        leaves.setdefault(owner, set()).add(leaf)
        owned.append((owner, leaf))
    # A SeparableConv has both kernels, and keeps their names.
    return [
        f"{owner}/kernel"
        if leaf == "depthwise_kernel" and not leaves[owner] & {"kernel", "pointwise_kernel"}
        else f"{owner}/{leaf}"
        for owner, leaf in owned
    ]


# -- the child -----------------------------------------------------------------------------------------

_lock = threading.Lock()
_child: subprocess.Popen[bytes] | None = None


def _start() -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HDF5_")}
    # No filter plugins; and no thread pool of linear algebra, whose buffers would count as memory.
    environment |= {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        # By its path and with our own module path: neither the working folder nor PYTHON* variables matter.
        [sys.executable, "-I", h5_child.__file__, *(str(Path(entry).absolute()) for entry in sys.path if entry)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=environment,
        start_new_session=True,  # Ctrl-C is for us; and a group to kill
    )


def _stop() -> None:
    """End the child and what it forked, and reap it. Nothing happens where there is none."""
    global _child
    child, _child = _child, None
    if child is None:
        return
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    _kill(child)
    child.wait()


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:  # not reaped, so the number is still its own
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)


def _after_fork() -> None:
    """In a fork of ours the child is the parent's: let go of it, or it would outlive its owner."""
    global _child, _lock
    child, _child, _lock = _child, None, threading.Lock()
    if child is not None:
        child.returncode = 0  # not ours to wait for
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_stop)


def _ask(request: dict[str, Any], wall: float) -> tuple[int, bytes]:
    """Exit code and JSON of the fork that read the file. Raises ZooError when no answer comes in `wall` seconds."""
    global _child
    with _lock:
        if _child is None or _child.poll() is not None:
            _stop()
            _child = _start()
        child = _child
        assert child.stdin is not None
        assert child.stdout is not None
        timer = threading.Timer(wall, _kill, [child])
        timer.daemon = True
        timer.start()
        done = False
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            code, length = HEADER.unpack(_exactly(child.stdout, HEADER.size))
            reply = _exactly(child.stdout, min(length, MAX_REPLY))
            done = True
        except (OSError, EOFError):
            raise ZooError("the process that reads HDF5 died or was silent for too long over it") from None
        finally:
            timer.cancel()
            timer.join()
            if not done:  # also after Ctrl-C: the answer still to come would pass for that of the next file
                _stop()
    return code, reply


def _exactly(stream: Any, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = stream.read(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
