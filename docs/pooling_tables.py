"""The tables of docs/pooling.md, from the spaces, the published results, docs/results/ and benchmarks/."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from performance_tables import table, written
from scipy.stats import kendalltau

from scaling_rules.cost import human
from scaling_rules.pooling import space, text
from zoo import references, registry

HERE = Path(__file__).parent
NAMES = {
    "resnet-20-pool-4-3-3": "ResNet-20",
    "resnet-18-pool-3-2-2-2": "ResNet-18",
    "resnet-50-pool-3-4-6-3": "ResNet-50",
}
MODELS = (1, 2, 4, 8)


def _spaces() -> str:
    rows = []
    for name, label in NAMES.items():
        spec = registry.architecture(name)
        found = space(spec)
        own = found.own
        assert own is not None
        size = f"{spec.input[0]} px"
        costs = (human(found.macs[own]), human(min(found.macs)), human(max(found.macs)))
        rows.append((label, size, len(found.lengths), text(found.lengths[own]), *costs))
    return table("network|pictures|configurations|<default|its MACs|least|most", rows)


def _tau(scores: Sequence[float], truth: Sequence[float]) -> str:
    return f"{kendalltau(scores, truth).statistic:.2f}"


def _rank(values: Sequence[float], number: int) -> int:
    """1 for the highest."""
    return 1 + sum(value > values[number] for value in values)


def _published() -> str:
    own = space(registry.architecture("resnet-20-pool-4-3-3"))
    found: dict[str, list[float]] = {}
    for number in range(len(own.lengths)):
        for row in references.results(own.at(number).name):
            if row["source"].endswith("resnet20_baselines_mixture.csv"):
                found.setdefault(row["metric"], []).append(row["value"])
    alone = found["top1"]
    rows = []
    for models in MODELS:
        scores = found[f"top1-in-mixture-m{models}"]
        best = int(np.argmax(scores))
        picked = f"{alone[best]:.2f} ({_rank(alone, best)})"
        rows.append((f"M={models}", _tau(scores, alone), text(own.lengths[best]), picked))
    return table("mixture|Kendall tau|<its best|alone, % (rank of 36)", rows)


def _lines() -> list[dict[str, Any]]:
    path = HERE / "results" / "pooling.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _tested(found: list[dict[str, Any]], kind: str) -> dict[tuple[int, ...], list[float]]:
    """Test top-1 in percent by seed, of each configuration."""
    tested: dict[tuple[int, ...], list[float]] = {}
    for row in sorted((row for row in found if row["kind"] == kind), key=lambda row: row["seed"]):
        tested.setdefault(tuple(row["lengths"]), []).append(row["test"]["top1"])
    return tested


def _scores(row: dict[str, Any], rule: str) -> dict[tuple[int, ...], float]:
    """Of each configuration at the end of a search, by either rule."""
    found = {}
    for one in row["scores"]:
        likely = int(np.argmax(one["probabilities"]))
        found[tuple(one["lengths"])] = max(one["top1"]) if rule == "best" else one["top1"][likely]
    return found


def _spread(values: Sequence[float], digits: int = 1) -> str:
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def _mixtures() -> str:
    found = _lines()
    alone = {lengths: statistics.fmean(values) for lengths, values in _tested(found, "alone").items()}
    retrained = _tested(found, "retrained")
    rows = []
    searches = [row for row in found if row["kind"] == "search"]
    for variant in dict.fromkeys(row["variant"] for row in searches):
        own = sorted((row for row in searches if row["variant"] == variant), key=lambda row: row["seed"])
        taus = {}
        for rule in ("best", "likely"):
            each = [_scores(row, rule) for row in own]
            taus[rule] = _spread(
                [float(kendalltau([one[key] for key in alone], list(alone.values())).statistic) for one in each], 2
            )
        picks = [tuple(row["lengths"]) for row in own]
        order = list(alone)
        ranks = ", ".join(str(_rank(list(alone.values()), order.index(pick))) for pick in picks)
        again = [statistics.fmean(retrained[pick]) for pick in picks if pick in retrained]
        minutes = statistics.fmean(row["cpu_seconds"] for row in own) / 60
        cells = (", ".join(map(text, picks)), ranks, _spread(again) if len(again) == len(picks) else "")
        rows.append((variant, taus["best"], taus["likely"], *cells, f"{minutes:.0f}"))
    head = "mixture|tau, best|tau, likely|<picks by seed|ranks|picks retrained, top-1 %|CPU minutes each"
    return table(head, rows)


def _networks() -> str:
    found = _lines()
    macs = {tuple(row["lengths"]): row["macs"] for row in found if "macs" in row}
    alone, again = _tested(found, "alone"), _tested(found, "retrained")
    means = {lengths: statistics.fmean(values) for lengths, values in alone.items()}
    rows = []
    for lengths in sorted(again, key=lambda lengths: -statistics.fmean(again[lengths])):
        first = f"{_spread(alone[lengths])} ({_rank(list(means.values()), list(means).index(lengths))})"
        rows.append((text(lengths), human(macs[lengths]), first, _spread(again[lengths])))
    head = "configuration|MACs|two seeds, top-1 % (rank of 36)|three further seeds, top-1 %"
    return table(head, rows)


def _steps() -> str:
    path = HERE.parent / "benchmarks" / "pooling_steps.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for row in found["rows"]:
        low, high = row["quartiles"]
        target = f"at most {found['target']}" if row["peer"].startswith("M=") else ""
        rows.append((row["what"], f"{row['ratio']:.2f} ({low:.2f} to {high:.2f}) times M=1", target))
    for name, one in found["compiling"].items():
        told = f"{one['traces']} trace, {one['seconds']:.1f} s for {one['configurations']} configurations"
        rows.append((f"compiling {NAMES[name]}'s space", told, "1 trace"))
    return table("what|<measured|<target", rows)


def pooling() -> str:
    """docs/pooling.md with each of its tables written anew."""
    tables = {"spaces": _spaces(), "published": _published(), "mixtures": _mixtures()}
    return written("pooling.md", tables | {"networks": _networks(), "steps": _steps()})
