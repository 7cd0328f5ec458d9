"""Which supernet ranks widths best, all trained for as many passes: a small Channel-Bench-Macro on the emoji pictures.

python benchmarks/width_fair.py alone --data=../shared/datasets/emoji [--part=1/2]      (and --part=2/2 beside it)
python benchmarks/width_fair.py supernets --data=../shared/datasets/emoji [--part=1/2]

The space: the ResNet of Channel-Bench-Macro a sixteenth as wide, 9 classes, 32 pixels: 0.35 to 5.6 million MACs, seven
widths of four groups. alone: 120 width vectors, each trained twice by itself, a line in docs/results/width-alone.jsonl
as each ends. supernets: each method with three seeds, for 48 epochs' worth of passes over the training pictures (a
step of BCNet is two passes, one of AutoSlim four), asked for all vectors; a line in docs/results/width-supernets.jsonl.
Both go on where they were stopped. docs/width.md has what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling_rules import compound
from scaling_rules.coupling import METHODS, Coupling, coupling
from scaling_rules.width_space import space
from zoo import found, registry

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # where a processor has no VNNI, TensorFlow leaves it off

RESULTS = Path(__file__).parent.parent / "docs" / "results"
VECTORS, GROUPS = 120, 4
ALONE_SEEDS, SEEDS = (0, 1), (0, 1, 2)
ALONE = ("epochs=12", "batch=64", "learning_rate.warmup_epochs=1", "resolution=32")
PASSES = 48
VARIANTS = {
    **{method: (method, True, {"ua": 1, "autoslim": 4}.get(method, 2)) for method in METHODS},
    "autoslim without distillation": ("autoslim", False, 4),
}
"""(method, whether it distills, passes a step)."""


def widths() -> Coupling:
    """The space, cut into groups as the benchmark has them."""
    spec = compound.scale(registry.architecture("channel-bench-resnet-4444444"), width=1 / 16)
    return coupling(space(replace(spec, classes=9, name="emoji-macro")), "bcnet", GROUPS)


def vectors() -> np.ndarray:
    """Drawn evenly without repeats; always the same."""
    every = np.stack(np.meshgrid(*[range(1, GROUPS + 1)] * 7, indexing="ij"), -1).reshape(-1, 7)
    return every[np.random.default_rng(0).choice(len(every), VECTORS, replace=False)]


def missing(out: Path, jobs: list[tuple[Any, int]], key: str, part: str) -> Iterator[tuple[Any, int]]:
    """The jobs of this part that have no line yet."""
    index, parts = map(int, part.split("/"))
    for what, seed in jobs[index - 1 :: parts]:
        rows = [json.loads(line) for line in out.open()] if out.exists() else []
        if not any(row[key] == what and row["seed"] == seed for row in rows):
            yield what, seed


def append(out: Path, row: dict[str, Any], cpu: float) -> None:
    """A line, with the CPU time since `cpu`."""
    with out.open("a") as file:
        file.write(json.dumps(row | {"cpu_seconds": round(time.process_time() - cpu, 1)}) + "\n")


def alone(data: str, part: str) -> None:
    """Train what has no line yet."""
    import keras

    from training import command, recipe
    from training.job import Job
    from training.run import train

    command.start(1)
    own, out = widths(), RESULTS / "width-alone.jsonl"
    told = recipe.load("small", ALONE)
    jobs = [(vector.tolist(), seed) for seed in ALONE_SEEDS for vector in vectors()]
    for vector, seed in missing(out, jobs, "vector", part):
        cpu = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            name = f"emoji-macro-{''.join(map(str, vector))}"
            found.write(replace(own.at(vector), name=name, source="a width vector of emoji-macro"), {}, folder)
            job = Job(str(Path(folder, f"{name}.json")), data, told, seed=seed)
            result = train(job, Path(folder, "run"), eval_every=told.epochs)
        keras.utils.clear_session()
        row = {"vector": vector, "seed": seed, "macs": int(own.macs(np.array([vector]))[0])}
        append(
            out, row | {key: result[key] for key in ("params", "minival", "test", "seconds", "machine", "date")}, cpu
        )


def supernets(data: str, part: str) -> None:
    """Train and ask what has no line yet."""
    import keras

    from training import command, recipe
    from training.width_search import Search, Settings

    command.start(1)
    own, out = widths(), RESULTS / "width-supernets.jsonl"
    for variant, seed in missing(out, [(name, seed) for seed in SEEDS for name in VARIANTS], "variant", part):
        cpu, started = time.process_time(), time.perf_counter()
        method, distill, passes = VARIANTS[variant]
        epochs = PASSES / passes
        told = recipe.load("small", [f"epochs={epochs:g}", "batch=64", f"learning_rate.warmup_epochs={epochs / 12:g}"])
        settings = Settings(own.space.spec, method, data, told, groups=GROUPS, least=1, distill=distill, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            search = Search(settings, Path(folder))
            search.train()
            scores = [search.measure(tuple(vector)) for vector in vectors()]
        keras.utils.clear_session()
        row = {"variant": variant, "seed": seed, "passes": PASSES, "seconds": round(time.perf_counter() - started, 1)}
        append(out, row | {"top1": [s.top1 for s in scores], "loss": [round(s.loss, 5) for s in scores]}, cpu)


def main() -> None:
    """Train alone, or train supernets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alone", "supernets"))
    parser.add_argument("--data", required=True, help="the folder with train and test")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th job, from the i-th on")
    given = parser.parse_args()
    (alone if given.what == "alone" else supernets)(given.data, given.part)


if __name__ == "__main__":
    main()
