"""The tables of docs/training.md, from docs/results/ and the published results."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from performance_tables import table, written

from zoo import references

HERE = Path(__file__).parent
STARTS = {
    "probe": "linear probe of ImageNet weights",
    "fine-tuned": "ImageNet weights, fine-tuned",
    "scratch": "random",
}
KINDS = ("best public", "vs best public", "best reported", "vs best reported")
"""Columns of the paper's Table 5, as the sources of its results name them."""


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "results" / name).read_text(encoding="utf-8").splitlines()]


def _emoji() -> str:
    found = _lines("emoji.jsonl")
    rows = []
    for name in dict.fromkeys(row["name"] for row in found):
        own = sorted((row for row in found if row["name"] == name), key=lambda row: row["seed"])
        top1 = [row["test"]["top1"] for row in own]
        spread = f"{statistics.fmean(top1):.1f}" + (f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else "")
        first = own[0]
        seeds = ", ".join(f"{value:.1f}" for value in top1)
        cells = (first["model"], STARTS[first["start"]], first["few"] or "all", first["pictures"]["train"])
        epochs = "-" if first["start"] == "probe" else first["epochs"]
        minutes = statistics.fmean(row["seconds"] for row in own) / 60
        rows.append((*cells, epochs, spread, seeds, f"{minutes:.1f}"))
    head = "network|<start|a class|pictures|epochs|top-1, % (mean ± deviation)|by seed|minutes"
    return table(head, rows)


def _pilot() -> str:
    rows = [
        (row["few"], row["bn"], row["peak"], row["epochs"], f"{row['minival_top1']:.1f}")
        for row in sorted(_lines("emoji-pilot.jsonl"), key=lambda row: (row["few"], row["bn"], row["peak"]))
    ]
    return table("a class|<bn|peak rate|epochs|minival top-1, %", rows)


def _paper() -> str:
    found: dict[str, dict[str, str]] = {}
    for row in references.published():
        kind = next((kind for kind in KINDS if row["source"].endswith(f"Table 5 ({kind})")), None)
        if row["metric"] == "top1-transfer" and kind:
            size = f", {row['params_m']}M" if row["params_m"] else ""
            found.setdefault(row["dataset"], {})[kind] = f"{row['label']} {row['value']}{size}"
    rows = [(dataset, *(f"<{cells.get(kind, '')}"[1:] for kind in KINDS)) for dataset, cells in found.items()]
    return table("data set|<best public|<EfficientNet|<best reported|<EfficientNet", rows)


def _speed() -> str:
    found = json.loads((HERE.parent / "benchmarks" / "train_steps.json").read_text(encoding="utf-8"))
    rows = []
    for row in (row for part in ("steps", "overhead", "reading", "onednn") for row in found[part]):
        ratio = f"{row['ratio']:.2f} ({row['quartiles'][0]:.2f} to {row['quartiles'][1]:.2f})"
        target = "" if row["target"] is None else f"{row['target']:g}"
        times = (
            f"{1e3 * row['seconds'][side]:,.{0 if row['seconds'][side] > 0.1 else 2}f}"
            for side in (row["ours"], row["peer"])
        )
        rows.append((f"{row['what']}; {row['ours']}", row["peer"], *times, ratio, target))
    return table("what|<beside|ms|ms beside|ratio (quartiles)|target", rows)


def training() -> str:
    """docs/training.md with each of its tables written anew."""
    return written("training.md", {"emoji": _emoji(), "pilot": _pilot(), "paper": _paper(), "speed": _speed()})
