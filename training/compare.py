"""Train several networks by one recipe, or measure their weights, and set accuracy against cost.

    python -m training.compare --models=efficientnet-b0,ghostnet-1.0x,resnet-50 --dataset=openmoji --recipe=small
    python -m training.compare --models=efficientnet-lite0,efficientnet-lite1 --dataset=imagenet2012 --evaluate

Writes into --work_dir: results.jsonl, a line for each network and seed as it ends; table.md and compare.svg, top-1
against MACs, parameters and time; and each training's own folder, NETWORK-SEED. The same command goes on where it was
stopped. A network that fails is named, the others are trained, and the exit code is 2.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from scaling_rules.errors import ZooError
from training import command

FLAGS = flags.FlagValues()
flags.DEFINE_list("models", None, "Names of the zoo, NAME.TAG or folders, with commas between.", flag_values=FLAGS)
flags.DEFINE_list("seeds", ["0"], "Each network is trained once by each.", flag_values=FLAGS)
flags.DEFINE_bool("evaluate", False, "Train nothing: measure the weights there are on --dataset.", flag_values=FLAGS)
command.define_training(FLAGS, recipe=None, pretrained="", several=True)


def main(rest: list[str]) -> int:
    """Compare what the flags name."""
    models, seeds = _asked(rest)
    folder = Path(FLAGS.work_dir or f"runs/compare-{Path(FLAGS.dataset).name}").expanduser()
    rows: list[dict[str, Any]] = []
    failed = False
    command.start(FLAGS.threads, FLAGS.deterministic)
    from training import recipe, results

    if not FLAGS.evaluate:
        recipe.load(FLAGS.recipe, FLAGS.set)  # what is wrong there is wrong for all
    for model in models:
        for seed in seeds:
            try:
                row = _evaluated(model) if FLAGS.evaluate else _trained(model, seed, folder)
            except ZooError as error:
                print(f"training.compare: {model}: {' '.join(str(error).split())}", file=sys.stderr)
                failed = True
                break
            rows.append({"model": model} | row)
            results.write(folder / "results.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    if rows:
        text = table(rows)
        results.write(folder / "table.md", text)
        plot(rows, folder / "compare.svg")
        print(text + f"\n{folder}/results.jsonl, table.md, compare.svg")
    return 2 if failed else 0


def _asked(rest: list[str]) -> tuple[list[str], list[int]]:
    """Networks and seeds, refused before anything is trained."""
    if rest:
        raise ZooError(f"unexpected {' '.join(rest)!r}: all is said by flags.")
    if not FLAGS.models or not FLAGS.dataset:
        raise ZooError("give --models and --dataset; --help shows more.")
    if not FLAGS.evaluate and not FLAGS.recipe:
        raise ZooError("give --recipe, or --evaluate to measure the weights there are; --help shows more.")
    for name, values in (("models", FLAGS.models), ("seeds", FLAGS.seeds)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ZooError(f"--{name} names {twice[0]} twice.")
    from zoo import catalog, sources

    for model in FLAGS.models:
        if not sources.is_place(model):
            catalog.spec(catalog.split(model)[0])
    try:
        return list(FLAGS.models), [0] if FLAGS.evaluate else [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        raise ZooError(f"--seeds must be whole numbers with commas between, not {','.join(FLAGS.seeds)!r}.") from None


def _trained(model: str, seed: int, folder: Path) -> dict[str, Any]:
    own = folder / f"{Path(model).name}-{seed}"
    result = command.training(FLAGS, model, seed, None, own, "python -m training.compare")
    kept = {key: result[key] for key in ("macs", "params", "seconds", "command", "date", "machine")}
    return {"seed": seed} | result["test"] | kept


def _evaluated(model: str) -> dict[str, Any]:
    import zoo
    from training.evaluation import evaluate

    start = time.perf_counter()
    found = evaluate(model, FLAGS.dataset, data_dir=FLAGS.data_dir)
    cost = zoo.cost(found.network)
    seconds = round(time.perf_counter() - start, 1)
    said = f"python -m training.compare {shlex.join(sys.argv[1:])}"
    costs = {"macs": cost.macs, "params": cost.params, "seconds": seconds, "command": said}
    return {"split": found.split, "claimed": found.claimed} | found.measured.told() | costs


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each network, the best first: its costs, seeds, and of top1 and seconds mean, least and largest."""
    made = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        row = {"model": model, "macs": own[0]["macs"], "params": own[0]["params"], "seeds": len(own)}
        for key in ("top1", "seconds"):
            values = [each[key] for each in own]
            row[key] = (statistics.fmean(values), min(values), max(values))
        made.append(row)
    return sorted(made, key=lambda row: -row["top1"][0])


def table(rows: list[dict[str, Any]]) -> str:
    """`summary` in Markdown."""
    lines = [
        "| network | top-1, % | least to largest | seeds | MACs, million | parameters, million | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in summary(rows):
        mean, least, largest = row["top1"]
        cells = (f"{mean:.2f}", f"{least:.2f} to {largest:.2f}", row["seeds"], f"{row['macs'] / 1e6:,.1f}")
        lines.append(f"| {row['model']} | " + " | ".join(map(str, cells)))
        lines[-1] += f" | {row['params'] / 1e6:,.2f} | {row['seconds'][0]:,.0f} |"
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Top-1 over MACs, parameters and seconds, with the range over seeds; nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("training.compare: no compare.svg: pip install 'zoo[plots]' draws it.", file=sys.stderr)
        return
    from weights import files

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for row in summary(rows):
        mean, least, largest = row["top1"]
        costs = (row["macs"] / 1e6, row["params"] / 1e6, row["seconds"][0])
        for axes, cost in zip(panels, costs, strict=True):
            axes.errorbar(cost, mean, yerr=[[mean - least], [largest - mean]], marker="o", capsize=3)
            axes.annotate(row["model"], (cost, mean), xytext=(4, 4), textcoords="offset points", fontsize=8)
    for axes, label in zip(panels, ("MACs, million", "parameters, million", "seconds"), strict=True):
        axes.set(xlabel=label, xscale="log")
        axes.margins(x=0.25)
    panels[0].set_ylabel("top-1, %")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="svg")


if __name__ == "__main__":
    command.run(FLAGS, __doc__, main)
