"""Contestants timed in turns: each round asks all of them, in a new order, so that what the machine does hits all."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from zoo import processor
from zoo.benchmark import latencies
from zoo.benchmark.worker import Job

TOGETHER = 20
"""Contestants that are alive at once; those of several networks share their rounds only if they are no more."""


@dataclass
class Result:
    """What a contestant took for one batch and size.

    group: those of the same ran in the same rounds. ms: of a call, by round. seconds: of import, build and first call.
    """

    label: str
    job: Job
    batch: int
    size: int
    group: int = 0
    ms: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    params: int | None = None

    @property
    def median(self) -> float:
        """Milliseconds of a call in the middle round."""
        return statistics.median(self.ms)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Milliseconds that a quarter and three quarters of the rounds stayed below."""
        return quartiles(self.ms)

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.job.name,
            "variant": self.label,
            "batch": self.batch,
            "size": self.size,
            "ms": self.median,
            "quartiles": list(self.quartiles),
            "rounds": self.ms,
            "peak_mb": self.peak_mb,
            "seconds": self.seconds,
            "params": self.params,
        }


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of one value, itself."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def speed_up(ours: Result, theirs: Result) -> tuple[float, float, float]:
    """How many times faster `ours` is than `theirs`, round by round: median, first and third quartile."""
    ratios = [b / a for a, b in zip(ours.ms, theirs.ms, strict=True)]
    return (statistics.median(ratios), *quartiles(ratios))


class _Worker:
    def __init__(self, job: Job) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zoo.benchmark.worker", job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, batch: int, size: int, seconds: float) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps({"batch": batch, "size": size, "seconds": seconds}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}"}

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def race(
    contestants: Sequence[tuple[str, Job]],
    settings: Sequence[tuple[int, int | None]],
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Result]:
    """Time all contestants (label, job) at all settings (batch, size; None for each network's own size).

    rounds: of each setting. seconds: that a contestant is called for at least in a round. say: is told what happens,
    and who is left out because it failed.
    """
    results: list[Result] = []
    names = sorted({job.name for _, job in contestants}, key=[job.name for _, job in contestants].index)
    if len(contestants) <= TOGETHER:
        groups = [list(contestants)]
    else:
        groups = [[each for each in contestants if each[1].name == name] for name in names]
    for number, group in enumerate(groups):
        results += _race(group, number, settings, rounds, seconds, say)
    return results


def _race(
    group: Sequence[tuple[str, Job]],
    number: int,
    settings: Sequence[tuple[int, int | None]],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Result]:
    shuffle = random.Random(0).shuffle
    workers = [(label, job, _Worker(job)) for label, job in group]
    found: dict[tuple[int, int], Result] = {}
    try:
        for setting, (batch, stated) in enumerate(settings):
            alive = list(range(len(workers)))
            for turn in range(-1, rounds):  # the first to warm up
                shuffle(alive)
                for index in list(alive):
                    label, job, worker = workers[index]
                    size = stated or job.size
                    if turn < 0:
                        say(f"{job.name}, {label}, batch {batch}, {size} px")
                    answer = worker.ask(batch, size, seconds if turn >= 0 else 0.0)
                    if "error" in answer:
                        say(f"left out: {job.name}, {label}, batch {batch}: {answer['error']}")
                        alive.remove(index)
                        found.pop((setting, index), None)
                        continue
                    result = found.setdefault((setting, index), Result(label, job, batch, size, number))
                    if turn < 0:
                        result.seconds, result.params = answer["seconds"], answer["params"]
                    else:
                        result.ms.append(answer["ms"])
                        result.peak_mb = max(result.peak_mb, answer["peak_mb"])
    finally:
        for _, _, worker in workers:
            worker.end()
    return [found[key] for key in sorted(found)]


def machine(libraries: Iterable[str]) -> dict[str, Any]:
    """What the figures were taken on: processor, its number of cores, memory in GB, versions of what is installed."""
    try:
        memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))[1]) / 1e6  # type: ignore[index]
    except OSError:
        memory = 0.0
    versions = {}
    for library in libraries:
        try:
            versions[library] = packages.version(library)
        except packages.PackageNotFoundError:
            continue
    return {
        "processor": latencies.processor(),
        "features": sorted(
            processor.features() & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
        ),
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions,
        "date": date.today().isoformat(),
    }
