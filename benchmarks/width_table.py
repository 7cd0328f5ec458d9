"""How few queries of Channel-Bench-Macro a search needs: mean regret of what it picks, by method and queries.

python benchmarks/width_table.py --table=../shared/channel_bench_macro/Results_MobileNet.json [--part=1/2]

Strict: a query answers with one of two trainings of a network at random, and the pick is judged by the third; all three
rotations, 50 seeds. Loose: queries and judge share all three trainings, 20 seeds. Regret is in points of accuracy below
the network whose mean is the best within the budget. Appends a line a (protocol, budget, method, seed) to
docs/results/width-table.jsonl and goes on where it was stopped. docs/width.md has what came out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from scaling_rules.coupling import coupling
from scaling_rules.prior import prior
from scaling_rules.search.evolution import evolution
from scaling_rules.search.surrogate import surrogate
from scaling_rules.search.vectors import Problem, Query, Score, Vector, as_vector, random_search
from scaling_rules.width_space import space
from zoo import registry

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "width-table.jsonl"
QUERIES = (20, 50, 100, 200)
BUDGETS = (1.0, 0.5)
RUNS = (0, 1, 2)
BENCH = coupling(space(registry.architecture("channel-bench-mobilenet-4444444")), "bcnet", 4)
EVERY = np.array(list(itertools.product(range(1, 5), repeat=7)))
"""All 16,384 networks, as rows of digits."""

Search = Callable[[Problem, Score, np.random.Generator], Iterator[Query]]


def with_prior(problem: Problem, score: Score, rng: np.random.Generator) -> Iterator[Query]:
    """Evolution from BCNet's prior. A table has no losses of a supernet: the first 20 queries stand for them.

    Each says minus its accuracy for all the widths it has, as a step of a supernet's training says its loss.
    """
    seen: list[tuple[Vector, float]] = []
    best: Vector | None = None
    for row in problem.draw(rng, QUERIES[0]):
        seen.append((as_vector(row), score(as_vector(row))))
        best = max(seen, key=lambda pair: pair[1])[0]
        yield Query(*seen[-1], best)
    losses = np.full((7, 5), np.inf)
    for variable, number in itertools.product(range(7), range(1, 5)):
        own = [-value for vector, value in seen if vector[variable] == number]
        losses[variable, number] = np.mean(own) if own else np.inf
    chances = prior(BENCH, losses, problem.budget)
    for query in evolution(problem, score, rng, chances=chances):
        seen.append((query.vector, query.score))
        yield query._replace(best=max(seen, key=lambda pair: pair[1])[0])


def additive(problem: Problem, score: Score, rng: np.random.Generator) -> Iterator[Query]:
    """The plain rival: Thompson sampling with a number of its own for each width, prior deviation 0.3, noise 0.16."""
    places = np.flatnonzero(problem.fits(EVERY))
    features = np.concatenate([np.ones((len(EVERY), 1)), np.eye(4)[EVERY - 1].reshape(len(EVERY), -1)], 1)[places]
    precision, sums = np.diag([0.1] + [1 / 0.3**2] * 28), np.zeros(29)
    seen: list[int] = []
    offset = 0.0
    while True:
        root = np.linalg.cholesky(precision)
        mean = np.linalg.solve(root.T, np.linalg.solve(root, sums))
        drawn = mean + np.linalg.solve(root.T, rng.standard_normal(29))
        index = int(rng.integers(len(places)) if len(seen) < 10 else (features @ drawn).argmax())
        vector = as_vector(EVERY[places[index]])
        value = score(vector)
        offset = offset if seen else value
        seen.append(index)
        precision += np.outer(features[index], features[index]) / 0.16**2
        sums += features[index] * (value - offset) / 0.16**2
        asked = np.unique(seen)
        best = asked[(features[asked] @ np.linalg.solve(precision, sums)).argmax()]
        yield Query(vector, value, as_vector(EVERY[places[best]]))


METHODS: dict[str, Search] = {
    "random": random_search,
    "evolution": evolution,
    "evolution with prior": with_prior,
    "additive Thompson sampling": additive,
    "surrogate": surrogate,
}


def regrets(table: np.ndarray, share: float, method: str, seed: int, strict: bool) -> list[float]:
    """Mean over the rotations of the regret after each of QUERIES."""
    macs = BENCH.macs(EVERY)
    budget = int(share * macs.max())
    within = np.flatnonzero(macs <= budget)
    best = within[table[within].mean(1).argmax()]

    def place(vector: Vector) -> int:
        return int((np.array(vector) - 1) @ 4 ** np.arange(6, -1, -1))

    found = []
    for judge in RUNS if strict else (None,):
        rng = np.random.default_rng([seed, judge or 0])
        asked = [run for run in RUNS if run != judge]
        own = table[:, judge] if judge is not None else table.mean(1)

        def score(vector: Vector) -> float:
            return float(table[place(vector), asked[rng.integers(len(asked))]])  # noqa: B023

        queries = list(islice(METHODS[method](Problem(7, 1, 4, BENCH.macs, budget), score, rng), QUERIES[-1]))
        found.append([own[best] - own[place(queries[count - 1].best)] for count in QUERIES])
    return np.mean(found, 0).round(4).tolist()


def main() -> None:
    """Run what has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, help="Results_MobileNet.json")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th job, from the i-th on")
    given = parser.parse_args()
    index, parts = map(int, given.part.split("/"))
    raw = json.loads(Path(given.table).read_text(encoding="utf-8"))
    table = np.array([raw["".join(map(str, row))]["acc"] for row in EVERY])
    seeds = {"strict": range(50), "loose": range(20)}
    jobs = [
        (protocol, share, method, seed)
        for protocol, numbers in seeds.items()
        for share in BUDGETS
        for method in METHODS
        for seed in numbers
    ]
    lines = [json.loads(line) for line in RESULTS.open()] if RESULTS.exists() else []
    done = {(line["protocol"], line["budget"], line["method"], line["seed"]) for line in lines}
    for job in jobs[index - 1 :: parts]:
        if job in done:
            continue
        protocol, share, method, seed = job
        started = time.process_time()
        regret = regrets(table, share, method, seed, protocol == "strict")
        row = {"protocol": protocol, "budget": share, "method": method, "seed": seed, "regret": regret}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row | {"cpu_seconds": round(time.process_time() - started, 2)}) + "\n")


if __name__ == "__main__":
    main()
