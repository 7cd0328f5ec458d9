"""Loading efficientnet-b7's weights into a built model, against Keras' own files, as ratios taken in one run.

    make benchmark

Each pair is interleaved over ROUNDS rounds in one process; printed are medians, the quartiles of the round-by-round
ratios, and the target. Peak memory is that of a process of its own. The results are written to
benchmarks/load_weights.json, from which docs/benchmarks.md is made. Run it alone, on Linux: the machine's noise enters
every figure, and memory is read from /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from foundation import ROUNDS, report, row, seconds

NAME = "efficientnet-b7"
RESULTS = Path(__file__).with_name("load_weights.json")


def loading(folder: Path) -> list[dict[str, Any]]:
    """The same weights into the same model: Keras' load_weights, and ours with and without the hash of the file."""
    import zoo
    from weights import cache

    model = zoo.build(NAME)
    ours, theirs = folder / "b7.safetensors", folder / "b7.weights.h5"
    zoo.save(model, ours)
    model.save_weights(theirs)
    plain: list[float] = []
    hashed: list[float] = []
    keras_h5: list[float] = []

    def with_hash() -> None:
        cache.sha256_of(ours)
        zoo.load_weights(model, ours)

    for _ in range(ROUNDS):
        plain.append(seconds(lambda: zoo.load_weights(model, ours)))
        keras_h5.append(seconds(lambda: model.load_weights(theirs)))
        hashed.append(seconds(with_hash))
    return [
        row(f"{NAME}: zoo.load_weights / Keras load_weights of .weights.h5", "at most 0.167", plain, keras_h5),
        row(f"{NAME}: the same with the sha256 of the file", "stated", hashed, keras_h5),
    ]


CHILD = """
import gc, resource
import zoo
model = zoo.build({name!r})
gc.collect()
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 1024
open("/proc/self/clear_refs", "w").write("5")  # the peak starts here
zoo.load_weights(model, {path!r})
print(before, next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def memory(folder: Path) -> dict[str, Any]:
    """Peak resident memory while loading, over what the built model took before, in sizes of the file."""
    path = folder / "b7.safetensors"
    found = subprocess.run(
        [sys.executable, "-c", CHILD.format(name=NAME, path=str(path))], capture_output=True, text=True, check=True
    )
    before, peak = map(int, found.stdout.split())
    size = path.stat().st_size / 1024
    return {
        "what": f"{NAME}: peak memory while loading, over the built model's",
        "target": "at most 1.2 files",
        "unit": "MB",
        "ours": (peak - before) / 1024,
        "peer": size / 1024,
        "ratio": (peak - before) / size,
        "quartiles": [(peak - before) / size] * 2,
    }


def main() -> None:
    """Run all, print the table, write the JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        rows = [*loading(Path(folder)), memory(Path(folder))]
    report(rows, RESULTS)


if __name__ == "__main__":
    main()
