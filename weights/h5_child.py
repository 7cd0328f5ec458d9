"""The process in which HDF5's C code meets a stranger's file; started by `weights.h5_file`, alone by its path.

It answers where the tensors of a file lie, never with their data, and can lose its life without loss: it imports
h5py once, then forks for each file, so that a crash, a hang or a spoilt heap ends with the file that caused it.
The fork may not write a file, dump core, or use more memory and processor time than its limits.

    stdin   {"path": ..., "cpu": seconds} a line; the end of it ends the process
    stdout  HEADER (exit code of the fork, length), then as many bytes of JSON for each line:
            {"layers": [name], "tensors": [[layer, weight, dtype, shape, offset in the file]]} or {"error": reason}

Imported, not run, it only gives its constants. It needs h5py and NumPy, and neither Keras nor this project.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import resource
import signal
import struct
import sys
from typing import Any

HEADER = struct.Struct("<iI")
MAX_REPLY = 4 * 2**20  # bytes
MAX_NAMES = 20_000  # layers, and weights; the largest network here has some 3,000
MAX_NAME = 500  # characters
MAX_DIMS = 8
FREE_MEMORY = 512 * 2**20
"""Bytes a file may take beside what Python, NumPy and HDF5 take themselves: a file's data are not read here."""

TOP = "top_level_model_weights"
"""The group of the weights that belong to a model and to none of its layers."""


class Refused(Exception):
    """The reason, in a few words, why a file is not read."""


def names(group: Any, attribute: str) -> list[str]:
    """The strings of an attribute, or of its numbered parts where they were too many for one. Raises Refused."""
    import numpy
    from h5py import h5a, h5t

    found: list[str] = []
    part, count = attribute, 0
    if not h5a.exists(group, part.encode()):
        part = f"{attribute}0"
    while h5a.exists(group, part.encode()):
        handle = h5a.open(group, part.encode())
        kind, shape = handle.get_type(), handle.shape
        if shape is None or len(shape) != 1 or len(found) + shape[0] > MAX_NAMES:
            raise Refused(f"attribute {part!r} has shape {shape}, not one of at most {MAX_NAMES} names")
        if shape[0]:  # an empty list was written as one of numbers
            if kind.get_class() != h5t.STRING or (not kind.is_variable_str() and kind.get_size() > 4 * MAX_NAME):
                raise Refused(f"attribute {part!r} is no list of names of at most {MAX_NAME} characters")
            values = numpy.empty(shape, handle.dtype)
            handle.read(values)
            found += [named(item, part) for item in values.tolist()]
        if part == attribute:
            break
        count += 1
        part = f"{attribute}{count}"
    return found


def named(item: Any, attribute: str) -> str:
    """A string of an attribute, decoded. Raises Refused for one that is no name."""
    name = item.decode() if isinstance(item, bytes) else item
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
        raise Refused(f"attribute {attribute!r} holds {str(name)[:80]!r}, which is no name")
    return name


def opened(group: Any, name: str, kind: type) -> Any:
    """The group or dataset at a path, each step of which must be an object of this very file. Raises Refused."""
    from h5py import h5g, h5l, h5o

    node = group
    for step in name.encode().split(b"/"):
        if not isinstance(node, h5g.GroupID) or not node.links.exists(step):
            raise Refused(f"{name!r} is missing")
        if node.links.get_info(step).type != h5l.TYPE_HARD:  # known without following it
            raise Refused(f"{name!r} is a soft, external or user-defined link")
        node = h5o.open(node, step)
    if not isinstance(node, kind):
        raise Refused(f"{name!r} is no {kind.__name__.removesuffix('ID').lower()}")
    return node


def standard_types() -> dict[str, Any]:
    """The types that are read, by NumPy's code."""
    from h5py import h5t

    little = {"<f2": h5t.IEEE_F16LE, "<f4": h5t.IEEE_F32LE, "<f8": h5t.IEEE_F64LE, "<i8": h5t.STD_I64LE}
    big = {">f2": h5t.IEEE_F16BE, ">f4": h5t.IEEE_F32BE, ">f8": h5t.IEEE_F64BE, ">i8": h5t.STD_I64BE}
    return little | big


def placed(dataset: Any, name: str, types: dict[str, Any]) -> tuple[str, list[int], int]:
    """(dtype, shape, offset) of a dataset whose bytes lie in the file in one piece, as Keras writes all. Or Refused."""
    from h5py import h5d

    kind, creation = dataset.get_type(), dataset.get_create_plist()
    if kind.committed():
        raise Refused(f"{name!r} has a user-defined type")
    # Equal in every bit: the bytes are taken as they are, without HDF5's conversions.
    dtype = next((code for code, standard in types.items() if kind.equal(standard)), None)
    if dtype is None:
        raise Refused(f"{name!r} is not of float16, float32, float64 or int64")
    layout = creation.get_layout()
    if layout != h5d.CONTIGUOUS or creation.get_nfilters() or creation.get_external_count():
        layouts = {h5d.COMPACT: "compact", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}
        what = layouts.get(layout, "filtered or in another file")
        raise Refused(f"{name!r} is {what}; Keras writes datasets in one piece")
    shape = dataset.shape  # now: that of a virtual dataset may be looked for in other files
    if shape is None or len(shape) > MAX_DIMS:
        raise Refused(f"{name!r} has shape {shape}")
    declared, stored, offset = math.prod(shape) * int(dtype[2:]), dataset.get_storage_size(), dataset.get_offset()
    if declared != stored or (declared and offset is None):
        raise Refused(f"{name!r} declares {declared} bytes, the file stores {stored if offset is not None else 0}")
    return dtype, list(shape), offset or 0


def described(path: str) -> dict[str, Any]:
    """The layers of a file and where their weights lie. Raises Refused, and whatever h5py does."""
    import h5py
    from h5py import h5a
    from h5py.h5d import DatasetID
    from h5py.h5g import GroupID

    # A driver by name: the file's own, and those that read several files, are not used.
    file = h5py.File(os.fsencode(path), "r", driver="sec2", locking=False)
    root = h5py.h5g.open(file.id, b"/")
    if not (h5a.exists(root, b"layer_names") or h5a.exists(root, b"layer_names0")):
        if root.links.exists(b"model_weights"):
            root = opened(root, "model_weights", GroupID)
        elif any(root.links.exists(name) for name in (b"layers", b"vars", b"_layer_checkpoint_dependencies")):
            raise Refused(
                "Keras 3's .weights.h5, which does not name its layers; valid: the HDF5 file of a whole model, "
                "or of weights as Keras 2 saves them"
            )
        else:
            raise Refused("not from Keras: neither 'layer_names' nor 'model_weights'")
    layers = names(root, "layer_names")
    types = standard_types()
    tensors: list[list[Any]] = []
    for layer in [*layers, *([TOP] if root.links.exists(TOP.encode()) else [])]:
        group = opened(root, layer, GroupID)
        for weight in names(group, "weight_names"):
            if len(tensors) == MAX_NAMES:
                raise Refused(f"more than {MAX_NAMES} weights")
            dataset = opened(group, weight, DatasetID)
            tensors.append([layer, weight, *placed(dataset, f"{layer}/{weight}", types)])
    return {"layers": layers, "tensors": tensors}  # the file is never closed: the fork ends


def limited(kind: int, value: int) -> None:
    """Lower a limit for good, as far as the system knows it: macOS refuses one of address space."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, value))


def address_space() -> int:
    """The smallest limit, doubled from 1 GiB, that leaves this process FREE_MEMORY; portable, unlike /proc."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = 2**30
    while limit < 2**36:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
            mmap.mmap(-1, FREE_MEMORY).close()
            break
        except (ValueError, OSError, MemoryError):
            limit *= 2
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, before)
    return limit


def answer(request: dict[str, Any], memory: int, pipe: int) -> None:
    """What a fork does: limit itself, describe the file, write the JSON into the pipe."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the default kills, in the midst of C code too
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    limited(resource.RLIMIT_CORE, 0)
    limited(resource.RLIMIT_FSIZE, 0)
    limited(resource.RLIMIT_AS, memory)
    signal.setitimer(signal.ITIMER_PROF, request["cpu"])  # processor time: a busy machine fails no good file
    try:
        found = described(request["path"])
    except Refused as reason:
        found = {"error": str(reason)}
    except MemoryError:
        found = {"error": "HDF5 wants too much memory for it"}
    except Exception as error:  # in a damaged file any step may fail in any way
        found = {"error": f"not a readable HDF5 file: {error}"}
    reply = json.dumps(found).encode()
    if len(reply) > MAX_REPLY:
        reply = json.dumps({"error": "its names are too long and too many"}).encode()
    with os.fdopen(pipe, "wb") as stream:
        stream.write(reply)


def serve() -> None:
    """Answer each line of stdin until it ends."""
    import h5py  # noqa: F401 - once, for all forks

    memory = address_space()
    for line in sys.stdin.buffer:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                os.close(0)
                os.close(1)
                answer(json.loads(line), memory, writer)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            reply = stream.read(MAX_REPLY + 1)
        if len(reply) > MAX_REPLY:
            os.kill(pid, signal.SIGKILL)
            reply = b""
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.buffer.write(HEADER.pack(code, len(reply)) + reply)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]  # the parent's, so that both import the same h5py
    serve()
