"""Greedy enlarging against compound scaling and single dimensions, at equal MACs, on the emoji pictures.

python benchmarks/scaling.py search --data=../shared/datasets/emoji
python benchmarks/scaling.py train --data=../shared/datasets/emoji [--part=1/2]   (and --part=2/2 beside it)

search: writes both baselines, all enlarged networks and the greedy searches' results into docs/results/scaling. train:
each network five times, a line in docs/results/scaling.jsonl as each ends. Both go on where they were stopped. The
networks "-greedy" are of a first search, at commit 9366813, with two seeds and no second step of resolution (why:
docs/scaling.md); "-greedy-2" goes on from its scores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scaling_rules import compound
from scaling_rules.cost import macs
from scaling_rules.spec import NetworkSpec
from zoo import found, registry

RESULTS = Path(__file__).parent.parent / "docs" / "results"
FOLDER = RESULTS / "scaling"
SEEDS = (0, 1, 2, 3, 4)
TIMES = {"emoji-ghostnet": 6, "emoji-efficientnet": 4}
"""The budget, as a multiple of the baseline's cost."""

SHORT = ("epochs=2", "batch=64", "learning_rate.warmup_epochs=0.3")
LONG = ("epochs=4", "batch=64", "learning_rate.warmup_epochs=0.4")
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "1"}
"""Where a processor has no VNNI, TensorFlow leaves its faster convolutions off by itself."""

RELEASED = {"depth": (3, 2.5, 2.5, 3), "width": (2.25, 2.5, 2.7, 2.1), "resolution": 1.714}
"""Of the first four stages of ghostnet-enlarged-4.4b over ghostnet-1.0x: reference/greedy.md, section 3, b4."""


def baselines() -> dict[str, NetworkSpec]:
    """Four stages of GhostNet 1.0x and of EfficientNet-B0, shortened, for 32 pixels: total stride 16."""
    made = {}
    for name, original, width, conv in (
        ("emoji-ghostnet", "ghostnet-1.0x", 1.0, 200),
        ("emoji-efficientnet", "efficientnet-b0", 0.75, 240),
    ):
        spec = registry.architecture(original)
        stages = tuple(stage[:blocks] for stage, blocks in zip(spec.stages, (1, 2, 2, 2), strict=False))
        head = replace(spec.head, conv=conv, hidden=0, dropout=0.0)
        small = replace(spec, input=(32, 32, 3), classes=9, stages=stages, head=head, drop_path=0.0)
        made[name] = replace(compound.scale(small, width=width), name=name, source=f"a part of {original}", note="")
    return made


def released(baseline: NetworkSpec, budget: int) -> NetworkSpec:
    """The ratios of the release, all raised to the one power at which the network costs the budget."""

    def at(step: int) -> NetworkSpec:
        power = step / 1024
        stages, stem = [], baseline.stem
        for number, (depth, width) in enumerate(zip(RELEASED["depth"], RELEASED["width"], strict=True)):  # type: ignore[arg-type]
            scaled = compound.scale(baseline, depth**power, width**power)
            stages.append(scaled.stages[number])
            stem = scaled.stem if number == 0 else stem
            head = scaled.head
        pixels = round(32 * RELEASED["resolution"] ** power)  # type: ignore[operator]
        return replace(baseline, stem=stem, stages=tuple(stages), head=head, input=(pixels, pixels, 3))

    step = 0
    while macs(at(step + 1)) <= budget:
        step += 1
    return at(step)


def networks() -> Iterator[tuple[str, NetworkSpec, int]]:
    """(method, network, budget) of all that need no search."""
    for name, baseline in baselines().items():
        budget = TIMES[name] * macs(baseline)
        yield "baseline", baseline, budget
        rules = {"compound": (compound.ALPHA, compound.BETA, compound.GAMMA)} | compound.ALONE
        for method, bases in rules.items():
            _, spec = compound.largest(baseline, budget, *bases)
            yield method, replace(spec, name=f"{name}-{method}", source=f"{method} of {name}"), budget
    ghost = baselines()["emoji-ghostnet"]
    budget = TIMES[ghost.name] * macs(ghost)
    yield "released", replace(released(ghost, budget), name=f"{ghost.name}-released", source="released ratios"), budget


def search(data: str) -> None:
    """Write what the rules give, and search."""
    for method, spec, budget in networks():
        found.write(spec, {"rule": method, "budget": budget, "gap": round(1 - macs(spec) / budget, 4)}, FOLDER)
    for name, baseline in baselines().items():
        again = f"{name}-greedy-2"
        if (FOLDER / f"{again}.json").exists():
            continue
        sets = [part for each in SHORT for part in ("--set", each)]
        run(
            [
                *("-m", "zoo.cli", "scale", "greedy", str(FOLDER / f"{name}.json"), "--to", str(FOLDER)),
                *("--budget", str(TIMES[name] * macs(baseline)), "--name", again, "--dataset", data, *sets),
                *(
                    "--metric",
                    "loss",
                    "--seeds",
                    "0,1,2,3",
                    "--steps",
                    "3",
                    "--max_blocks",
                    "8",
                    "--engine",
                    "processes",
                ),
                *("--workers", "2", "--timeout", "900"),
            ],
            RESULTS / "scaling-searches.jsonl",
            {"search": again},
        )


def train(data: str, part: str) -> None:
    """Train what has no line yet."""
    index, parts = map(int, part.split("/"))
    names = sorted(path.stem for path in FOLDER.glob("emoji-*.json"))
    jobs = [(name, seed) for seed in SEEDS for name in names]
    out = RESULTS / "scaling.jsonl"
    for name, seed in jobs[index - 1 :: parts]:
        done = [json.loads(line) for line in out.open()] if out.exists() else []
        if any((row["name"], row["seed"]) == (name, seed) for row in done):
            continue
        spec = registry.architecture(str(FOLDER / f"{name}.json"))
        with tempfile.TemporaryDirectory() as folder:
            sets = [f"--set={each}" for each in (*LONG, f"resolution={spec.input[0]}")]
            flags = [f"--model={FOLDER / name}.json", f"--dataset={data}", "--recipe=small", *sets, f"--seed={seed}"]
            run(
                ["-m", "training.train", *flags, "--threads=1", "--eval_every=4", f"--work_dir={folder}"],
                out,
                {"name": name, "seed": seed, "macs": macs(spec)},
                Path(folder) / "result.json",
            )


def run(
    arguments: list[str],
    out: Path,
    told: dict[str, object],
    result: Path | None = None,
    kept: Sequence[str] = ("params", "steps", "seconds", "minival", "test", "machine", "date"),
) -> None:
    """Run Python with `arguments`, append what it took, and what of its result is to be kept, to `out`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, env=os.environ | ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told["cpu_seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    told["command"] = " ".join(["python", *arguments])
    if result:
        said = json.loads(result.read_text())
        told |= {key: said[key] for key in kept}
    with out.open("a") as file:
        file.write(json.dumps(told) + "\n")


def main() -> None:
    """Search or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "train"))
    parser.add_argument("--data", required=True, help="the folder with train and test")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th job, from the i-th on")
    given = parser.parse_args()
    search(given.data) if given.what == "search" else train(given.data, given.part)


if __name__ == "__main__":
    main()
