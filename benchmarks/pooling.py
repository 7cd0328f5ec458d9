"""Where to downsample a small ResNet on the emoji pictures: all 36 networks alone, mixtures of supernets, their picks.

python benchmarks/pooling.py alone --data=../shared/datasets/emoji [--part=1/2]   (and --part=2/2 beside it)
python benchmarks/pooling.py search --data=../shared/datasets/emoji [--part=1/2]
python benchmarks/pooling.py retrain --data=../shared/datasets/emoji [--part=1/2]

In this order. A job is a network or a variant, and a seed; a line in docs/results/pooling.jsonl as each ends. What was
stopped goes on where it was: jobs by their line, a search by the last epoch in --runs. The network is a ResNet-20 of
width 8 (10.3 million MACs at its default, 12.4 million on average). alone: each of the 36 with two seeds, on
all training pictures. search: M = 1, 2, 4, 8, and M = 4 drawn evenly and without balance, three seeds, on the halves of
the training pictures. retrain: what any search has picked, the default, and the best at no more than its MACs, with
three seeds that chose none of them.

The reckoning, in CPU seconds, measured with one thread beside two other trainings. A network alone takes 39, and 10.8
an epoch of all training pictures: 147 for 10 epochs. A search takes 26, and 10.9 an epoch of a half: 353 for 30; to
score all 36 takes some 97 a model more. alone: 72 x 147, retrain: about 30 x 147, search: 18 x 353 + 3 x 23 models x
97, which is 2.9 + 1.2 + 3.6 = 7.7 hours.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling import RESULTS, run

from scaling_rules import compound
from scaling_rules.pooling import PoolingSpace, space
from zoo import registry

OUT = RESULTS / "pooling.jsonl"
NAME = "emoji-resnet-20"
ALONE, SEARCHES, RETRAINED = (0, 1), (0, 1, 2), (2, 3, 4)
"""Seeds."""

VARIANTS = {f"M={models}": ("--models", str(models)) for models in (1, 2, 4, 8)}
VARIANTS |= {f"M=4, {method}": ("--models", "4", "--method", method) for method in ("uniform", "unbalanced")}

PICTURES = (
    "resolution=32",
    "augment={pad_crop: 4, flip: true}",
    "evaluate={resize: 32, crop: 32, interpolation: bicubic}",
)
LONG = ("epochs=10", "batch=64", "learning_rate.warmup_epochs=1", *PICTURES)
SHORT = ("epochs=30", "batch=32", "learning_rate.warmup_epochs=1", *PICTURES)


def networks() -> PoolingSpace:
    """The 36 of width 8."""
    spec = registry.architecture("resnet-20-pool-4-3-3")
    return space(replace(compound.scale(spec, width=0.5), name=NAME, classes=9))


def rows() -> list[dict[str, Any]]:
    """All lines so far."""
    return [json.loads(line) for line in OUT.open()] if OUT.exists() else []


def train(kind: str, lengths: Iterable[tuple[int, ...]], seeds: tuple[int, ...], data: str, part: str) -> None:
    """Train networks alone with ordinary batch norms, where there is no line yet."""
    own = networks()
    for choice, seed in share([(choice, seed) for seed in seeds for choice in lengths], part):
        if any((row["kind"], row["lengths"], row["seed"]) == (kind, list(choice), seed) for row in rows()):
            continue
        number = own.lengths.index(tuple(choice))
        spec = own.at(number)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{spec.name}.json"
            file.write_text(spec.to_json())
            flags = [f"--model={file}", f"--dataset={data}", "--recipe=small", *(f"--set={each}" for each in LONG)]
            flags += [f"--seed={seed}", "--threads=1", "--eval_every=10", f"--work_dir={folder}/run"]
            told = {"kind": kind, "lengths": choice, "seed": seed, "macs": own.macs[number]}
            run(["-m", "training.train", *flags], OUT, told, Path(folder) / "run" / "result.json")


def search(data: str, runs: Path, part: str) -> None:
    """Run each variant's searches, where there is no line yet."""
    sets = [word for each in SHORT for word in ("--set", each)]
    for variant, seed in share([(variant, seed) for seed in SEARCHES for variant in VARIANTS], part):
        if any((row["kind"], row.get("variant"), row["seed"]) == ("search", variant, seed) for row in rows()):
            continue
        folder = runs / f"{variant.replace(', ', '-')}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{NAME}.json"
        file.write_text(networks().spec.to_json())
        arguments = [str(file), "--dataset", data, *VARIANTS[variant], *sets, "--seed", str(seed), "--threads", "1"]
        run(
            ["-m", "zoo.cli", "search", "pooling", *arguments, "--name", "found", "--to", str(folder)],
            OUT,
            {"kind": "search", "variant": variant, "seed": seed},
            folder / "found.json",
            ("lengths", "scores", "seconds", "versions", "date"),
        )
        shutil.rmtree(folder)


def picks() -> list[tuple[int, ...]]:
    """What is worth three more seeds, in the order of the space."""
    own = networks()
    found = rows()
    alone = {lengths: accuracy(found, lengths) for lengths in own.lengths}
    default = own.own
    assert default is not None
    cheap = [lengths for lengths, macs in zip(own.lengths, own.macs, strict=True) if macs <= own.macs[default]]
    chosen = {own.lengths[default], max(cheap, key=alone.__getitem__)}
    chosen |= {tuple(row["lengths"]) for row in found if row["kind"] == "search"}
    return sorted(chosen)


def accuracy(found: list[dict[str, Any]], lengths: tuple[int, ...]) -> float:
    """Mean minival top-1 of a network alone: what is chosen by it is judged on the test pictures."""
    own = [row for row in found if row["kind"] == "alone" and tuple(row["lengths"]) == lengths]
    return statistics.fmean(row["minival"]["raw"]["top1"] for row in own)


def share(jobs: list[tuple[Any, int]], part: str) -> list[tuple[Any, int]]:
    """Every n-th job, from the i-th on, for a part i/n."""
    index, parts = map(int, part.split("/"))
    return jobs[index - 1 :: parts]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alone", "search", "retrain"))
    parser.add_argument("--data", required=True, help="the folder with train and test")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th job, from the i-th on")
    parser.add_argument("--runs", type=Path, default=Path("runs/pooling"), help="where a search's own files go")
    given = parser.parse_args()
    if given.what == "alone":
        train("alone", networks().lengths, ALONE, given.data, given.part)
    elif given.what == "search":
        search(given.data, given.runs, given.part)
    else:
        train("retrained", picks(), RETRAINED, given.data, given.part)


if __name__ == "__main__":
    main()
