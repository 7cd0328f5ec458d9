"""Scores of specs: an estimate of a network's accuracy, the higher the better, and its noise over seeds.

A scorer is any function (spec, seed) -> float. What its values depend on beside these is said by its attribute
`settings`, plain JSON, if it has one; scores are kept on disk by the spec's fingerprint, the settings and the seed, so
a search that was killed pays for nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scaling_rules.errors import ZooError, shown
from scaling_rules.search.engines import Engine, Failed, serial
from scaling_rules.spec import NetworkSpec

Scorer = Callable[[NetworkSpec, int], float]


class Score(NamedTuple):
    """Values by seed, in the order of the seeds. failed: why there is none for the others, '' if there are all."""

    values: tuple[float, ...]
    failed: str = ""

    @property
    def mean(self) -> float:
        """Of the values; minus infinity if there is none."""
        return statistics.fmean(self.values) if self.values else -math.inf


def settings_of(scorer: Scorer) -> dict[str, Any]:
    """What is kept with its scores: its `settings`, or a function's own name."""
    told = getattr(scorer, "settings", None)
    if told is None:
        name = getattr(scorer, "__qualname__", type(scorer).__qualname__)
        told = {"scorer": f"{getattr(scorer, '__module__', '?')}.{name}"}
    try:
        return json.loads(json.dumps(told, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise ZooError(f"the settings of a scorer must be plain JSON: {error}.") from None


class Cache:
    """Scores in a file of JSON lines, one a score, written as they come. None as path keeps them in memory.

    A line that a kill cut short is left out, and said in `damaged`.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path).expanduser() if path else None
        self.damaged = 0
        self._known: dict[str, float] = {}
        if self.path and self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self._known[row["key"]] = float(row["value"])
                except (ValueError, KeyError, TypeError):
                    self.damaged += 1

    @staticmethod
    def key(spec: NetworkSpec, settings: Mapping[str, Any], seed: int) -> str:
        """The same for the same network, settings and seed."""
        text = json.dumps([spec.fingerprint(), settings, seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, key: str) -> float | None:
        """The score kept under `key`."""
        return self._known.get(key)

    def put(self, key: str, value: float, told: Mapping[str, Any]) -> None:
        """Keep a score; told: what a reader of the file would want to know of it."""
        self._known[key] = value
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A line that was cut short must not swallow this one.
            with self.path.open("ab+") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                start = b"" if file.read(1) in (b"", b"\n") else b"\n"
                file.write(start + json.dumps({"key": key, "value": value, **told}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())


def score(
    specs: Sequence[NetworkSpec],
    seeds: Sequence[int],
    scorer: Scorer,
    *,
    engine: Engine = serial,
    cache: Cache | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Each spec's score over `seeds`. Networks that are the same are scored once; what `cache` knows is not again.

    A scorer that raises, gives no finite number, takes too long or dies leaves its seed out and says so in
    `Score.failed`. report(done, all): after each score that had to be computed.
    """
    cache = cache or Cache()
    settings = settings_of(scorer)
    keys = [[Cache.key(spec, settings, seed) for seed in seeds] for spec in specs]
    missing = {
        key: (spec, seed)
        for spec, own in zip(specs, keys, strict=True)
        for seed, key in zip(seeds, own, strict=True)
        if cache.get(key) is None
    }
    jobs = list(missing.items())
    failed: dict[str, str] = {}
    for done, (number, value) in enumerate(engine(scorer, [job for _, job in jobs]), 1):
        key, (spec, seed) = jobs[number]
        why = _invalid(value)
        if why:
            failed[key] = why
        else:
            cache.put(key, float(value), {"name": spec.name, "fingerprint": spec.fingerprint(), "seed": seed})
        if report:
            report(done, len(jobs))
    return [
        Score(
            tuple(value for key in own if (value := cache.get(key)) is not None),
            next((failed[key] for key in own if key in failed), ""),
        )
        for own in keys
    ]


def _invalid(value: Any) -> str:
    if isinstance(value, Failed):
        return value.why
    try:
        return "" if math.isfinite(float(value)) else f"its score is {float(value)}"
    except (TypeError, ValueError):
        return f"its score is {shown(repr(value))}, no number"


def noise(scores: Sequence[Score]) -> float:
    """Standard deviation of one value over seeds, pooled over all scores of two values and more; 0 where none has."""
    squares = [(statistics.variance(one.values), len(one.values) - 1) for one in scores if len(one.values) > 1]
    freedom = sum(count for _, count in squares)
    return math.sqrt(sum(variance * count for variance, count in squares) / freedom) if freedom else 0.0


def better(one: Score, other: Score, deviation: float, sigmas: float = 1.0) -> bool:
    """Whether `one` has the higher mean by more than `sigmas` standard errors of the difference."""
    if not one.values or not other.values:
        return len(one.values) > len(other.values)
    error = deviation * math.sqrt(1 / len(one.values) + 1 / len(other.values))
    return one.mean - other.mean > sigmas * error
