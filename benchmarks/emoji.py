"""Trains on the emoji pictures, from random weights and from ImageNet's: docs/results/emoji.jsonl.

python benchmarks/emoji.py --data=../shared/datasets/emoji --runs=runs/emoji [--only=TEXT] [--threads=1]

A job is a configuration and a seed. Its result is appended when it ends; one whose result is there is not run again,
and one that was stopped goes on from its last checkpoint. Settings are those of docs/results/emoji-pilot.jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "emoji.jsonl"
SEEDS = (0, 1, 2)


class Configuration(NamedTuple):
    """few: pictures of each class, None for all. flags: of the command."""

    model: str
    start: str
    few: int | None
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in the results."""
        return f"{self.model} {self.start} {self.few or 'all'}"


def configurations() -> Iterator[Configuration]:
    """All, the cheap ones first."""
    lite = "efficientnet-lite0"
    # Few pictures make few steps, so smaller batches; the rates of both recipes go with the batch.
    batches: dict[int | None, int] = {10: 16, 100: 32, None: 64}
    for few, batch in batches.items():
        yield Configuration(lite, "probe", few, ("--probe", "--set=resolution=64", f"--set={SEEN}"))
        # Ten pictures a class are too few to move statistics by: docs/results/emoji-pilot.jsonl.
        norms = "bn=frozen" if few == 10 else "bn=recalibrate"
        sets = (f"batch={batch}", "epochs=10", "resolution=64", "learning_rate.peak=0.16", AUGMENTED, SEEN, norms)
        yield Configuration(lite, "fine-tuned", few, tuple(f"--set={each}" for each in sets))
        yield Configuration(lite, "scratch", few, ("--recipe=small", "--set=epochs=10", f"--set=batch={batch}"))
    for model in ("ghostnet-1.0x", "resnet-50"):
        yield Configuration(model, "scratch", None, ("--recipe=small", "--set=epochs=10", "--set=batch=64"))


SEEN = "evaluate={resize: 64, crop: 64, interpolation: bicubic}"
AUGMENTED = "augment={pad_crop: 8, flip: true}"


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder with train and test")
    parser.add_argument("--runs", default="runs/emoji", help="where the runs' own files go")
    parser.add_argument("--only", default="", help="jobs whose name has this in it")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    for configuration in configurations():
        for seed in SEEDS:
            done = [json.loads(line) for line in given.results.open()] if given.results.exists() else []
            name = configuration.name
            if given.only not in name or any((row["name"], row["seed"]) == (name, seed) for row in done):
                continue
            module = "training.train" if configuration.start == "scratch" else "training.finetune"
            folder = Path(given.runs) / f"{name.replace(' ', '-')}-{seed}"
            flags = [f"--model={configuration.model}", f"--dataset={given.data}", *configuration.flags]
            flags += [f"--few={configuration.few}"] if configuration.few else []
            flags += [f"--seed={seed}", f"--threads={given.threads}", f"--work_dir={folder}"]
            subprocess.run([sys.executable, "-m", module, *flags], check=True)
            result = json.loads((folder / "result.json").read_text())
            kept = ("command", "date", "steps", "seconds", "pictures", "macs", "params", "minival", "chosen", "test")
            row = {"name": name, "model": configuration.model, "start": configuration.start, "few": configuration.few}
            row |= {"seed": seed, "epochs": result["job"]["recipe"]["epochs"]}
            row |= {key: result[key] for key in (*kept, "machine")}
            given.results.parent.mkdir(exist_ok=True)
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
