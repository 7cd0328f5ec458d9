"""The tables of docs/scaling.md, from docs/results/, benchmarks/enlarging.json and the rule itself."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from performance_tables import table, written

from scaling_rules import compound
from scaling_rules.cost import human, macs
from zoo import registry

HERE = Path(__file__).parent
BASELINES = ("efficientnet-b0", "mobilenet-v1-1.0x", "mobilenet-v2-1.0x", "resnet-50", "ghostnet-1.0x")


def _lines(name: str) -> list[dict[str, Any]]:
    path = HERE / "results" / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _bases() -> str:
    rows = []
    for name in BASELINES:
        spec = registry.architecture(name)
        large = compound.scale(spec, *compound.factors(1)[:2], round(spec.input[0] * compound.GAMMA))
        points = compound.grid(spec, step=0.1)
        rows.append((name, human(macs(spec)), f"{macs(large) / macs(spec):.2f}", len(points)))
    return table("baseline|MACs|at phi = 1, times|points of the grid in steps of 0.1", rows)


def _networks() -> str:
    rows = []
    for path in sorted((HERE / "results" / "scaling").glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        has = data["allocation"]
        gap = "" if data["rule"] == "baseline" else f"{100 * data['gap']:.1f}"
        shapes = (" ".join(map(str, has[key])) for key in ("blocks", "channels"))
        rows.append((data["name"], human(data["macs"]), gap, human(data["params"]), *shapes, has["resolution"]))
    return table("network|MACs|below the budget, %|parameters|<blocks|<channels|px", rows)


def _results() -> str:
    found = _lines("scaling.jsonl")
    rows = []
    for name in sorted({row["name"] for row in found}):
        own = sorted((row for row in found if row["name"] == name), key=lambda row: row["seed"])
        top1 = [row["test"]["top1"] for row in own]
        deviation = f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
        minutes = statistics.fmean(row["cpu_seconds"] for row in own) / 60
        cells = (human(own[0]["macs"]), human(own[0]["params"]), f"{statistics.fmean(top1):.1f}{deviation}")
        rows.append((name, *cells, ", ".join(f"{value:.1f}" for value in top1), f"{minutes:.1f}"))
    return table("network|MACs|parameters|top-1, % (mean ± deviation)|by seed|CPU minutes each", rows)


def _searches() -> str:
    rows = [(row["search"], f"{row['cpu_seconds'] / 60:.0f}") for row in _lines("scaling-searches.jsonl")]
    return table("search|CPU minutes", rows)


def _speed() -> str:
    found = json.loads((HERE.parent / "benchmarks" / "enlarging.json").read_text(encoding="utf-8"))
    rule, pool, ray = found["rule"], found["pool"], found["ray"]
    rows = [
        ("the rule alone, ten steps of GhostNet to 4.4 G: seconds", rule["seconds"], "under 2"),
        ("candidates that it makes and costs in them", rule["candidates"][0], ""),
        ("two processes, times serial", pool["times_serial"], "1.7"),
        ("Ray, milliseconds a task", ray["ms_a_task"], ""),
    ]
    return table("what|measured|target", rows)


def scaling() -> str:
    """docs/scaling.md with each of its tables written anew."""
    tables = {"bases": _bases(), "networks": _networks(), "results": _results(), "searches": _searches()}
    return written("scaling.md", tables | {"speed": _speed()})
