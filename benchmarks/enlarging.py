"""How long the rule, a pool of processes and Ray take: benchmarks/enlarging.json. Run alone.

python benchmarks/enlarging.py

rule: all candidates of ten steps from GhostNet to 4.4 G multiply-adds, made and costed, with no scoring; which one is
kept is drawn at random, five times. pool: twelve CPU-bound scores serially and by two processes, in turns, five times,
the processes' start left out. ray: tasks that do nothing, one worker, against calling them.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

from scaling_rules import greedy
from scaling_rules.cost import macs
from scaling_rules.enlarging import candidates
from scaling_rules.search import engines
from zoo import registry

OUT = Path(__file__).with_suffix(".json")
ROUNDS = 5
LOOPS = 3_000_000


def rule(seed: int) -> dict[str, Any]:
    """Seconds and number of candidates of a random way."""
    chance = random.Random(seed)
    baseline = network = registry.architecture("ghostnet-1.0x")
    start, count = time.perf_counter(), 0
    for target in greedy.targets(macs(baseline), 4_400_000_000, 10):
        found = candidates(network, target, baseline)
        count += len(found)
        network = chance.choice(found).spec
    return {"seconds": time.perf_counter() - start, "candidates": count}


def busy(number: int) -> int:
    """Some tenths of a second of one processor."""
    total = 0
    for value in range(LOOPS):
        total += value * number % 7
    return total


def nothing(number: int) -> int:
    """Its argument."""
    return number


def seconds(engine: engines.Engine, function: Any, count: int) -> float:
    """From the first answer on, so that workers have started, for each of the others."""
    answers = engine(function, [(number,) for number in range(count)])
    next(answers)
    start = time.perf_counter()
    rest = len(list(answers))
    return (time.perf_counter() - start) / rest


def main() -> None:
    """Measure, write, print."""
    rules = [rule(seed) for seed in range(ROUNDS)]
    pool = engines.engine("processes", workers=2)
    turns = [(seconds(engines.serial, busy, 25), seconds(pool, busy, 25)) for _ in range(ROUNDS)]
    ray = engines.engine("ray", workers=1)
    seconds(ray, nothing, 50)
    overhead = [seconds(ray, nothing, 300) for _ in range(ROUNDS)]
    found = {
        "command": "python benchmarks/enlarging.py",
        "date": f"{date.today():%Y-%m-%d}",
        "rule": {
            "seconds": round(statistics.median(one["seconds"] for one in rules), 3),
            "each": [round(one["seconds"], 3) for one in rules],
            "candidates": [one["candidates"] for one in rules],
        },
        "pool": {
            "times_serial": round(statistics.median(one / two for one, two in turns), 3),
            "each": [[round(one, 4), round(two, 4)] for one, two in turns],
        },
        "ray": {
            "ms_a_task": round(1000 * statistics.median(overhead), 3),
            "each": [round(1000 * one, 3) for one in overhead],
        },
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
