"""What a scaling rule did, for people: tables, the share of MACs of each stage, and score against MACs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from scaling_rules.cost import cost, human
from scaling_rules.greedy import Enlarged
from scaling_rules.search.scoring import Score
from scaling_rules.spec import NetworkSpec
from zoo.commands import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def print_steps(baseline: NetworkSpec, result: Enlarged) -> None:
    """The way from the baseline to the network: a row a step."""
    table = _table("step", "MACs allowed", "move", "MACs", "params", "score", "blocks", "channels", "px")
    table.add_row("0", "", baseline.name, *_cells(baseline, None))
    for number, (step, candidate) in enumerate(zip(result.steps, result.path, strict=False), 1):
        score = next(one.score for one in step.scored if one.candidate.spec == candidate.spec)
        table.add_row(str(number), human(step.target), candidate.name, *_cells(candidate.spec, score))
    console().print(table)


def print_networks(networks: dict[str, NetworkSpec], budget: int | None = None, scores: Sequence[Score] = ()) -> None:
    """A row a network; with a budget, how far below it each is."""
    columns = ["network", *(["gap, %"] if budget else []), "MACs", "params", *(["score"] if scores else [])]
    table = _table(*columns, "blocks", "channels", "px")
    for number, (name, spec) in enumerate(networks.items()):
        gap = [f"{100 - 100 * cost(spec).macs / budget:.1f}"] if budget else []
        macs, params, score, *shape = _cells(spec, scores[number] if scores else None)
        table.add_row(name, *gap, macs, params, *([score] if scores else []), *shape)
    console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("move", "network", "blocks", "channels") else "right")
    return table


def _cells(spec: NetworkSpec, score: Score | None) -> list[str]:
    total = cost(spec)
    several = f" ({len(score.values)})" if score and len(score.values) > 1 else ""
    return [
        human(total.macs),
        human(total.params),
        "" if score is None else f"{score.mean:.4g}{several}" if score.values else score.failed,
        ",".join(str(len(stage)) for stage in spec.stages),
        ",".join(str(stage[-1].out) for stage in spec.stages),
        str(spec.input[0]),
    ]


def plot_search(baseline: NetworkSpec, result: Enlarged, stem: Path) -> list[Path]:
    """Write STEM.shares.svg and STEM.scores.svg; nothing where matplotlib is not installed, and say so."""
    shares = new_figure()
    scores = new_figure() if shares else None
    if shares is None or scores is None:
        return []
    names = [baseline.name, *(f"{number} {one.name}" for number, one in enumerate(result.path, 1))]
    _shares(shares, dict(zip(names, [baseline, *(one.spec for one in result.path)], strict=True)))
    axes = scores.subplots()
    for step in result.steps:
        for one in step.scored:
            if one.score.values:
                style = {"marker": "o", "color": "tab:red"} if one.kept else {"marker": ".", "color": "tab:gray"}
                axes.scatter(one.candidate.macs / 1e6, one.score.mean, **style)  # type: ignore[arg-type]
                axes.annotate(
                    one.candidate.name,
                    (one.candidate.macs / 1e6, one.score.mean),
                    xytext=(3, 2),
                    textcoords="offset points",
                    fontsize=6,
                )
    axes.set(xlabel="MACs, million", ylabel="score", xscale="log", title="all candidates; kept ones red")
    return [save_figure(shares, Path(f"{stem}.shares.svg")), save_figure(scores, Path(f"{stem}.scores.svg"))]


def plot_networks(networks: dict[str, NetworkSpec], path: Path, scores: Sequence[Score] = ()) -> Path | None:
    """Shares of MACs by stage, with the scores if there are any; None where matplotlib is not installed."""
    figure = new_figure()
    if figure is None:
        return None
    labels = list(networks)
    if scores:
        labels = [f"{name} {score.mean:.4g}" for name, score in zip(networks, scores, strict=True)]
    _shares(figure, dict(zip(labels, networks.values(), strict=True)))
    return save_figure(figure, path)


def _shares(figure: Figure, networks: dict[str, NetworkSpec]) -> None:
    """Bars of the share of MACs by stage, as the paper's Figure 2 shows it."""
    axes = figure.subplots()
    left = [0.0] * len(networks)
    costs = [cost(spec) for spec in networks.values()]
    for stage in costs[0].stages:
        widths = [100 * each.stages[stage].macs / each.macs for each in costs]
        axes.barh(list(networks), widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="share of MACs, %", xlim=(0, 100))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8)


def new_figure() -> Figure | None:
    """An empty one; None, said on standard error, where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("zoo: no plot: pip install 'zoo[plots]' draws it.", file=sys.stderr)
        return None
    return Figure(figsize=(8, 4), layout="constrained")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all, in the format of the path's ending; return the path."""
    from weights import files

    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        figure.savefig(
            temporary, format=path.suffix[1:] or "svg", metadata={"Date": None} if path.suffix == ".svg" else None
        )
    return path
