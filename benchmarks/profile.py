"""Where the time of a pass goes in OpenVINO, by kind of node, from its own counters.

python benchmarks/profile.py     half a minute; written to benchmarks/profile.json
"""

from __future__ import annotations

import collections
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import openvino

import zoo
from zoo.benchmark.report import LIBRARIES
from zoo.benchmark.rounds import machine

RESULTS = Path(__file__).with_name("profile.json")
KINDS = {
    "Convolution": "convolutions",
    "GroupConvolution": "depthwise convolutions",
    "Concat": "concatenations",
}


def shares(file: Path, precision: str, batch: int, passes: int = 20) -> dict[str, float]:
    """Share of each kind of node in the time of a pass, over `passes` after five that warm up."""
    core = openvino.Core()
    network = core.read_model(file)
    network.reshape([batch, 224, 224, 3])
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": True, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(network, "CPU", hints).create_infer_request()
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3)).astype(np.float32)
    spent: collections.Counter[str] = collections.Counter()
    for index in range(5 + passes):
        request.infer([pixels])
        for node in request.profiling_info if index >= 5 else []:
            spent[KINDS.get(node.node_type, "the rest")] += node.real_time.total_seconds()
    return {kind: spent[kind] / spent.total() for kind in (*KINDS.values(), "the rest")}


def main() -> None:
    """Two networks, two precisions, two batches."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("efficientnet-b0", "ghostnet-1.0x"):
            file = Path(zoo.export(zoo.load(name), Path(folder) / f"{name}.xml"))
            for precision in ("f32", "bf16"):
                for batch in (16, 1):
                    found = shares(file, precision, batch)
                    rows.append({"name": name, "precision": precision, "batch": batch, "shares": found})
    RESULTS.write_text(json.dumps({"machine": machine(LIBRARIES), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
