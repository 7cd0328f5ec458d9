"""What networks took on this machine: from `zoo benchmark --save`, for `zoo.list_models(max_latency_ms=)`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError, unknown
from weights import cache, files
from zoo import engines

FORMAT = "zoo-latencies-1"

KEY = ("name", "engine", "precision", "batch", "size", "threads")
"""What a latency is of; a new one replaces the one with the same. threads: None for all processors."""


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def place() -> Path:
    """Where the file of this machine is: another processor, or another number of them, has another."""
    key = json.dumps([processor(), os.cpu_count(), platform.system()])
    return cache.cache_dir() / "latencies" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def read() -> list[dict[str, Any]]:
    """Latencies of this machine, each with KEY, ms of a call, its quartiles and the date; [] where there are none.

    Raises ZooError naming the file where it cannot be read.
    """
    path = place()
    if not path.exists():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError("another format")
        rows = told["latencies"]
        for row in rows:
            if not isinstance(row["ms"], int | float) or any(key not in row for key in KEY):
                raise ValueError("a latency without its name, engine, batch or ms")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{path} cannot be read ({error}): remove it, and run zoo benchmark --save.") from None
    return rows


def save(rows: Iterable[Mapping[str, Any]]) -> Path:
    """Add latencies to this machine's, and return where. Raises ZooError where the cache cannot be written."""
    path = place()
    with cache.lock(cache.cache_dir(), path.name):
        known = {tuple(row[key] for key in KEY): row for row in [*read(), *map(dict, rows)]}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic(path) as temporary:
                text = {"format": FORMAT, "processor": processor(), "latencies": list(known.values())}
                temporary.write_text(json.dumps(text, indent=1), encoding="utf-8")
        except OSError as error:
            raise ZooError(f"cannot write {path}: {error.strerror}.") from None
    return path


def measured(sizes: Mapping[str, int], engine: str | None, batch: int) -> dict[str, float]:
    """Milliseconds of a call by name, of the fastest precision and number of threads that was measured.

    sizes: the pictures' side of each name wanted; only what was measured at that is of use. engine: None or 'auto' for
    the fastest of all. Raises ZooError for an unknown engine, a wrong batch, and where nothing was measured.
    """
    if engine not in (None, "auto", *engines.NAMES):
        raise unknown("engine", engine, (*engines.NAMES, "auto"))
    if type(batch) is not int or batch < 1:
        raise ZooError(f"batch must be a whole number of at least 1, not {batch!r}.")
    found: dict[str, float] = {}
    rows = read()
    chosen = [row for row in rows if engine in (None, "auto", row["engine"]) and row["batch"] == batch]
    if not chosen:
        there = ", ".join(sorted({f"{row['engine']} batch {row['batch']}" for row in rows})) or "none"
        where = f" in {engine}" if engine else ""
        raise ZooError(
            f"no latency of batch {batch}{where} was measured on this machine, there are: {there}; "
            "zoo benchmark NAMES --save measures."
        )
    for row in chosen:
        if sizes.get(row["name"]) == row["size"]:
            found[row["name"]] = min(row["ms"], found.get(row["name"], row["ms"]))
    return found
