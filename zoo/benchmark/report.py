"""What is said of the results of a benchmark: JSON, a table, the ratio of two networks, a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from scaling_rules.errors import ZooError, unknown
from zoo import metadata, references
from zoo.benchmark.rounds import Result, machine, speed_up

PLOTS = (".png", ".svg", ".pdf")

LIBRARIES = (
    *("tensorflow", "keras", "openvino", "onnxruntime", "ai-edge-litert"),
    *("torch", "torchvision", "timm", "keras-hub"),
)
"""Whose versions are stated."""


def _best(results: Sequence[Result], like: Result, precision: str | None = None) -> Result | None:
    """The fastest of zoo's own for the same network, batch and size, computing in `precision` (None: any)."""
    own = [
        each
        for each in results
        if each.job.source == "zoo"
        and (each.job.name, each.batch, each.size) == (like.job.name, like.batch, like.size)
        and precision in (None, each.job.precision)
    ]
    return min(own, key=lambda each: each.median, default=None)


def whole(results: Sequence[Result], rounds: int, seconds: float, threads: int | None, train: bool) -> dict[str, Any]:
    """All of a run as JSON: machine, results, and ratios to the fastest of ours, at the same precision and at any."""
    ratios = []
    for each in results:
        for scope, precision in (("same precision", each.job.precision), ("any precision", None)):
            ours = _best(results, each, precision)
            if ours is not None and ours is not each:
                middle, low, high = speed_up(ours, each)
                ratios.append(
                    {
                        "name": each.job.name,
                        "batch": each.batch,
                        "size": each.size,
                        "ours": ours.label,
                        "other": each.label,
                        "scope": scope,
                        "times": middle,
                        "quartiles": [low, high],
                    }
                )
    return {
        "format": "zoo-benchmark-1",
        "machine": machine(LIBRARIES),
        "what": "a training step" if train else "an answer",
        "rounds": rounds,
        "seconds": seconds,
        "threads": threads,
        "results": [each.summary() for each in results],
        "ratios": ratios,
        "between": [*_pairs(results)],
    }


def table(results: Sequence[Result]) -> Table:
    """A row a result, with how many times as fast the fastest of ours is at the same precision."""
    shown = Table(box=None, pad_edge=False)
    for column in ("network", "batch", "px", "who", "ms", "quartiles", "pictures/s", "ours is x as fast", "peak MB"):
        shown.add_column(column, justify="left" if column in ("network", "who") else "right", no_wrap=True)
    shown.add_column("import + build + first, s", justify="right", no_wrap=True)
    last = None
    for each in results:
        ours = _best(results, each, each.job.precision)
        ratio = "" if ours is None else "ours" if ours is each else f"{speed_up(ours, each)[0]:.2f}"
        key = each.job.name, each.batch, each.size
        spent = [f"{each.seconds.get(phase, 0):.2f}" for phase in ("import", "build", "first")]
        shown.add_row(
            *(("", "", "") if key == last else (each.job.name, str(each.batch), str(each.size))),
            each.label,
            f"{each.median:.2f}",
            "{:.2f} to {:.2f}".format(*each.quartiles),
            f"{1000 * each.batch / each.median:,.0f}",
            ratio,
            f"{each.peak_mb:,.0f}",
            " + ".join(spent),
        )
        last = key
    return shown


def claimed(name: str, metric: str) -> float | None:
    """What the paper behind a network states, or else the first source that does."""
    rows = [row for row in references.results(name) if (row["dataset"], row["metric"]) == ("imagenet1k-val", metric)]
    return rows[0]["value"] if rows else None


PAPER = "cpu-latency-s-batch1-xeon-e5-2690-1core"
"""Metric of EfficientNet's Table 4: seconds for one picture on one core of a Xeon E5-2690."""


def _pairs(results: Sequence[Result]) -> list[dict[str, Any]]:
    """How many times as fast the first network is as each other one, where they ran in the same rounds.

    claimed: the same of the paper's own times, where it has both.
    """
    found = []
    names = list(dict.fromkeys(each.job.name for each in results))
    for first in (each for each in results if each.job.name == names[0]):
        for other in results:
            same = (other.label, other.batch) == (first.label, first.batch) and other.job.name != names[0]
            native = (first.size, other.size) == (first.job.size, other.job.size)
            if not same or other.group != first.group or not (native or first.size == other.size):
                continue
            middle, low, high = speed_up(first, other)
            took = [claimed(each.job.name, PAPER) for each in (first, other)]
            stated = took[1] / took[0] if took[0] and took[1] and first.batch == 1 else None
            found.append(
                {
                    "first": names[0],
                    "other": other.job.name,
                    "variant": first.label,
                    "batch": first.batch,
                    "sizes": [first.size, other.size],
                    "times": middle,
                    "quartiles": [low, high],
                    "claimed": stated,
                }
            )
    return found


def between(results: Sequence[Result]) -> list[str]:
    """Sentences on the first network against the others."""
    lines = []
    for pair in _pairs(results):
        said = f"{pair['first']} is {pair['times']:.2f} times as fast as {pair['other']} ({pair['variant']}, batch "
        said += "{}, quartiles {:.2f} to {:.2f})".format(pair["batch"], *pair["quartiles"])
        if pair["claimed"]:
            said += f"; the paper states {pair['claimed']:.1f} on one core of another machine"
        lines.append(said)
    return lines


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What ours took, as `latencies.save` wants it."""
    day = machine(())["date"]
    return [
        {
            "name": each.job.name,
            "engine": each.job.engine or "keras",
            "precision": each.job.precision,
            "batch": each.batch,
            "size": each.size,
            "threads": each.job.threads,
            "ms": each.median,
            "quartiles": list(each.quartiles),
            "date": day,
        }
        for each in results
        if each.job.source == "zoo"
    ]


def check_plot(path: str) -> None:
    """Raise ZooError for a plot that could not be written after the rounds, before them."""
    if Path(path).suffix.lower() not in PLOTS:
        raise unknown("ending of a plot", Path(path).suffix, PLOTS)
    if not Path(path).absolute().parent.is_dir():
        raise ZooError(f"no folder {str(Path(path).parent)!r} to write {Path(path).name!r} into.")
    metadata.needs("matplotlib", "plots")


def plot(results: Sequence[Result], path: Path, say: Callable[[str], None]) -> None:
    """Claimed top-1 against milliseconds a picture, a line for who ran the networks, at each batch."""
    from matplotlib.figure import Figure

    top1 = {name: claimed(name, "top1") for name in dict.fromkeys(each.job.name for each in results)}
    for name, accuracy in top1.items():
        if accuracy is None:
            say(f"{name} has no published accuracy and is not in the plot")
    lines: dict[tuple[str, int], list[tuple[float, float, str]]] = {}
    for each in results:
        accuracy = top1[each.job.name]
        if accuracy is not None:
            lines.setdefault((each.label, each.batch), []).append((each.median / each.batch, accuracy, each.job.name))
    if not lines:
        say(f"no plot is written: there is nothing to put into {path}")
        return
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (label, batch), points in lines.items():
        points.sort()
        axes.plot(*zip(*[point[:2] for point in points], strict=True), marker="o", label=f"{label}, batch {batch}")
    for took, accuracy, name in next(iter(lines.values())):
        axes.annotate(name, (took, accuracy), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xscale="log", xlabel="milliseconds a picture, here", ylabel="ImageNet top-1 in percent, as published")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    say(f"plot in {path}")
