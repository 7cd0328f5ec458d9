"""Draws docs/scale.svg from benchmarks/runtime.json: time and memory against batch, resolution and width.

python benchmarks/scale.py     needs matplotlib
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

from zoo import catalog

HERE = Path(__file__).parent


def lines(part: dict[str, Any], x: str) -> dict[str, list[tuple[float, float, float]]]:
    """By who ran it: (batch or size, ms, peak MB) in order."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row in part["results"]:
        found.setdefault(row["variant"].removeprefix("zoo "), []).append((row[x], row["ms"], row["peak_mb"]))
    return {label: sorted(points) for label, points in found.items()}


def families(part: dict[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """By family, at float32: (multiply-adds in millions, ms, peak MB)."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row in part["results"]:
        if row["variant"].endswith("float32"):
            family = row["name"].rsplit("-", 1)[0]
            found.setdefault(family, []).append((catalog.cost(row["name"]).macs / 1e6, row["ms"], row["peak_mb"]))
    return {label: sorted(points) for label, points in found.items()}


def draw(found: dict[str, Any], path: Path) -> None:
    """Two rows, time and memory; three columns."""
    from matplotlib.figure import Figure

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "zoo", "font.size": 8}
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    grid = figure.subplots(2, 3)
    columns = [
        ("pictures a call (EfficientNet-B0, 224 px)", lines(found["batches"], "batch")),
        ("side in px (EfficientNet-B0, one picture)", lines(found["resolutions"], "size")),
        ("million MACs (width, or all of the compound rule; OpenVINO, float32)", families(found["widths"])),
    ]
    for column, (title, curves) in enumerate(columns):
        for line, (unit, index) in enumerate((("ms a call", 1), ("peak MB of the process", 2))):
            axes = grid[line, column]
            for label, points in curves.items():
                axes.plot([point[0] for point in points], [point[index] for point in points], marker=".", label=label)
            axes.set(xscale="log", yscale="log", xlabel=title, ylabel=unit)
            axes.grid(alpha=0.3, which="both")
        grid[0, column].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads((HERE / "runtime.json").read_text(encoding="utf-8")), HERE.parent / "docs" / "scale.svg")
