"""Whether a batch fits into memory: said before Linux, which promises more than it has, kills the process."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

from scaling_rules.errors import ZooError
from scaling_rules.lower import Conv, lower
from scaling_rules.shapes import shapes
from scaling_rules.spec import NetworkSpec

SHARE = 0.9
"""Of the free memory that a batch may take."""

_EXHAUSTED = ("failed to allocate", "bad_alloc", "out of memory", "oom when allocating", "xnnpack delegate failed")


@functools.lru_cache(maxsize=64)
def per_picture(spec: NetworkSpec, size: tuple[int, int, int], precision: str = "float32") -> int:
    """Bytes that one picture of a batch takes at least, in any engine: its pixels, and the largest map at `precision`.

    Engines drop a map as soon as nothing needs it. benchmarks/runtime.json has what was measured ("batches"): for
    EfficientNet-B0 1.2 times this in OpenVINO, and 3.5 times in Keras.
    """
    ops = lower(replace(spec, input=size))
    sizes = shapes(replace(spec, input=size), ops)
    largest = max(op.cout * sizes[op.path][0] * sizes[op.path][1] for op in ops if isinstance(op, Conv))
    return 4 * size[0] * size[1] * size[2] + (4 if precision == "float32" else 2) * largest


def available() -> int | None:
    """Bytes of memory that are free for this process, None where the system does not say (it is not Linux)."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"))
    if not found:
        return None
    free = int(found[1]) * 1024
    limit, used = _text("/sys/fs/cgroup/memory.max").strip(), _text("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():  # a container's own limit; cached files in it make room when asked
        cached = re.search(r"inactive_file (\d+)", _text("/sys/fs/cgroup/memory.stat"))
        free = min(free, max(int(limit) - int(used) + (int(cached[1]) if cached else 0), 0))
    return free


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def require(pictures: int, each: int) -> None:
    """Raise ZooError, naming the batch that fits, where so many pictures of `each` bytes do not."""
    free = available()
    if free is not None and pictures * each > SHARE * free:
        raise too_many(pictures, each)


def too_many(pictures: int, each: int) -> ZooError:
    """What is said of a batch that does not fit."""
    free = available()
    need = f"a batch of {pictures:,} needs at least {pictures * each / 1e9:.1f} GB"
    if free is None:
        return ZooError(f"{need}, which is not free; use smaller ones.")
    fits = int(SHARE * free // each)
    if fits >= pictures:  # the need is a lower bound, and the engine found it too much
        fits = pictures // 2
    return ZooError(f"{need}, and {free / 1e9:.1f} GB is free: " + (f"{fits:,} fit." if fits else "not one fits."))


def is_exhausted(error: BaseException) -> bool:
    """Whether an engine's exception means that memory is out."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _EXHAUSTED)
