"""Speed of listing, costing, building, loading and one forward pass, as ratios taken in one run.

    make benchmark

Each pair is interleaved over ROUNDS rounds; printed are medians, the quartiles of the round-by-round ratios, and
the target. The results are written to benchmarks/foundation.json, from which docs/benchmarks.md is made.
Run it alone: the machine's noise enters every figure.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROUNDS = 9
RESULTS = Path(__file__).with_name("foundation.json")


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call, with the garbage of earlier ones out of the way."""
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def row(
    what: str, target: str, ours: list[float], theirs: list[float] | None = None, unit: str = "s"
) -> dict[str, Any]:
    """One line of the table: medians, and the quartiles of the ratio where there is a peer."""
    found: dict[str, Any] = {"what": what, "target": target, "unit": unit, "ours": statistics.median(ours)}
    if theirs is not None:
        low, middle, high = statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4)
        found |= {"peer": statistics.median(theirs), "ratio": middle, "quartiles": [low, high]}
    return found


def listing() -> dict[str, Any]:
    """`import zoo; zoo.list_models()` in a new process, less the start of Python itself."""
    script = "import time; t = time.perf_counter(); import zoo; zoo.list_models(); print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(ROUNDS)]
    return row("import zoo; zoo.list_models()", "at most 0.3 s", times)


def costing() -> dict[str, Any]:
    """Cost of B7 from its spec."""
    import zoo

    spec = zoo.spec("efficientnet-b7")
    times = [seconds(lambda: zoo.cost(spec)) * 1000 for _ in range(ROUNDS)]
    return row("zoo.cost of efficientnet-b7", "under 5 ms", times, unit="ms")


def building() -> list[dict[str, Any]]:
    """B7 built with random weights and with weights that follow, against keras.applications at random."""
    import keras
    import numpy as np

    import zoo
    from scaling_rules.shapes import tensors
    from zoo import graph

    spec = zoo.spec("efficientnet-b7")
    values = {path: np.zeros(tensor.shape, np.float32) for path, tensor in tensors(spec).items()}
    zoo.build("efficientnet-b0")
    keras.applications.EfficientNetB0(weights=None)
    drawn, given, peer = [], [], []
    for _ in range(ROUNDS):
        drawn.append(seconds(lambda: graph.build(spec)))
        peer.append(seconds(lambda: keras.applications.EfficientNetB7(weights=None)))
        given.append(seconds(lambda: graph.build(spec, values=values)))
    return [
        row("build efficientnet-b7, random weights / keras.applications", "at most 0.85", drawn, peer),
        row("build efficientnet-b7, weights given / keras.applications at random", "at most 0.65", given, peer),
    ]


def loading() -> dict[str, Any]:
    """Lite0 with weights from the cache (verified by hash) against building it at random."""
    import zoo

    zoo.load("efficientnet-lite0", pretrained=True)
    zoo.load("efficientnet-lite0")
    loaded, built = [], []
    for _ in range(ROUNDS):
        loaded.append(seconds(lambda: zoo.load("efficientnet-lite0", pretrained=True)))
        built.append(seconds(lambda: zoo.load("efficientnet-lite0")))
    return row("load efficientnet-lite0 from the cache / build it", "at most 1.2", loaded, built)


def forward() -> dict[str, Any]:
    """B0 at batch 16, 224 pixels, as a compiled function, against keras.applications."""
    import keras
    import tensorflow as tf

    import zoo

    x = tf.random.uniform((16, 224, 224, 3), maxval=255.0)
    functions = []
    for model in (zoo.build("efficientnet-b0"), keras.applications.EfficientNetB0(weights=None)):
        function = tf.function(lambda x, model=model: model(x, training=False))
        for _ in range(3):
            function(x)
        functions.append(function)
    times: list[list[float]] = [[], []]
    for _ in range(2 * ROUNDS):
        for found, function in zip(times, functions, strict=True):
            found.append(seconds(lambda function=function: function(x).numpy()))
    return row("forward efficientnet-b0, batch 16 / keras.applications", "no slower: at most 1.0", *times)


def report(rows: list[dict[str, Any]], path: Path) -> None:
    """Print the rows as a table and write them, with the machine they were taken on, as JSON."""
    import keras
    import tensorflow as tf
    from rich.console import Console
    from rich.table import Table

    data = {
        "command": "make benchmark",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
        "rounds": ROUNDS,
        "rows": rows,
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
    table = Table("what", "ours", "peer", "ratio (quartiles)", "target", box=None)
    for found in rows:
        ratio = (
            f"{found['ratio']:.2f} ({found['quartiles'][0]:.2f} to {found['quartiles'][1]:.2f})"
            if "ratio" in found
            else ""
        )
        peer = f"{found['peer']:.3f} {found['unit']}" if "peer" in found else ""
        table.add_row(found["what"], f"{found['ours']:.3f} {found['unit']}", peer, ratio, found["target"])
    Console(width=140).print(table)


def main() -> None:
    """Run all, print the table, write the JSON."""
    report([listing(), costing(), *building(), loading(), forward()], RESULTS)


if __name__ == "__main__":
    main()
