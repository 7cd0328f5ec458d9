"""`zoo scale compound | greedy | compare`: from a baseline and a budget to a network that is a name of the zoo."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling_rules import compound, enlarging, greedy
from scaling_rules.cost import cost, human, macs, slug
from scaling_rules.errors import ZooError, shown
from scaling_rules.search.engines import Engine, engine
from scaling_rules.search.scoring import Cache, Score, Scorer, score, settings_of
from scaling_rules.spec import NetworkSpec
from training import search, trajectory
from zoo import catalog, found
from zoo.commands import parse_count

GREEDY = "greedy stage-wise enlarging in the spirit of arXiv 2108.00177, candidates and constants of zoo"
COMPOUND = "compound scaling, arXiv 1905.11946"


def scale(args: argparse.Namespace) -> int:
    """Run the rule that the arguments name."""
    started = time.monotonic()
    baseline = catalog.spec(args.model)
    if args.resolution is not None:
        baseline = replace(baseline, input=(args.resolution, args.resolution, baseline.input[2]))
    budget = int(parse_count(args.budget))
    rule: Callable[[argparse.Namespace, NetworkSpec, int, float], int]
    rule = {"compound": _compound, "greedy": _greedy, "compare": _compare}[args.rule]
    return rule(args, baseline, budget, started)


# -- the rules


def _compound(args: argparse.Namespace, baseline: NetworkSpec, budget: int, started: float) -> int:
    name = _name(args, baseline, budget)
    bases = (compound.ALPHA, compound.BETA, compound.GAMMA)
    told: dict[str, Any] = {"rule": COMPOUND}
    if args.grid:
        scorer, run = _scorer(args), _engine(args)
        points = compound.grid_search(
            baseline,
            scorer,
            step=args.grid,
            tolerance=args.tolerance,
            seeds=_whole(args.seeds, "seeds"),
            engine=run,
            cache=_cache(args, name),
            report=_Progress().of_step(1, 1),
        )
        if not points[0].score.values:
            raise ZooError(f"no point of the grid has a score; the first: {points[0].score.failed}.")
        bases = points[0][:3]
        told["grid"] = [
            {"bases": point[:3], "macs": point.macs, "scores": point.score.values, "failed": point.score.failed}
            for point in points
        ]
        told["scorer"] = settings_of(scorer)
    phi, spec = compound.largest(baseline, budget, *bases)
    told |= {"bases": bases, "phi": phi}
    path = _written(args, replace(spec, name=name), told, baseline, budget, started)
    trajectory.print_networks({baseline.name: baseline, name: spec})
    print(f"alpha {bases[0]:g}, beta {bases[1]:g}, gamma {bases[2]:g}, phi {phi:.3f}; {path}")
    return 0


def _greedy(args: argparse.Namespace, baseline: NetworkSpec, budget: int, started: float) -> int:
    name = _name(args, baseline, budget)
    scorer, run = _scorer(args), _engine(args)
    progress = _Progress()
    result = greedy.enlarge(
        baseline,
        budget,
        scorer,
        steps=args.steps,
        beam=args.beam,
        seeds=_whole(args.seeds, "seeds"),
        moves=args.moves.split(","),
        limits=_limits(args, baseline),
        engine=run,
        cache=_cache(args, name),
        report=progress,
    )
    told = {
        "rule": GREEDY,
        "settings": {"steps": args.steps, "beam": args.beam, "seeds": _whole(args.seeds, "seeds")},
        "scorer": settings_of(scorer),
        "search": greedy.as_json(result),
    }
    path = _written(args, replace(result.spec, name=name), told, baseline, budget, started)
    trajectory.print_steps(baseline, result)
    pictures = trajectory.plot_search(baseline, result, path.with_suffix(""))
    print(", ".join(map(str, (path, *pictures))))
    return 0


def _compare(args: argparse.Namespace, baseline: NetworkSpec, budget: int, started: float) -> int:
    networks = {baseline.name: baseline, "compound": compound.largest(baseline, budget)[1]}
    networks |= {name: compound.largest(baseline, budget, *bases)[1] for name, bases in compound.ALONE.items()}
    for name in args.others:
        networks[name] = catalog.spec(name)
    for name, spec in networks.items():
        if macs(spec) > budget:
            raise ZooError(f"{name} costs {human(macs(spec))} MACs, above the budget of {human(budget)}.")
    scores: list[Score] = []
    if args.scorer != "proxy" or args.dataset:
        run = _engine(args)
        cache = _cache(args, f"{baseline.name}-compare-{slug(budget)}")
        report = _Progress().of_step(1, 1)
        seeds = _whole(args.seeds, "seeds")
        scores = score(list(networks.values()), seeds, _scorer(args), engine=run, cache=cache, report=report)
    trajectory.print_networks(networks, budget, scores)
    plotted = trajectory.plot_networks(networks, Path(args.plot), scores) if args.plot else None
    if plotted:
        print(plotted)
    return 0


# -- what they share


def _name(args: argparse.Namespace, baseline: NetworkSpec, budget: int) -> str:
    """The network's name, refused before anything is searched."""
    name = args.name or f"{baseline.name}-{args.rule}-{slug(budget)}"
    found.check_name(name)
    return name


def _folder(args: argparse.Namespace) -> Path:
    return Path(args.to).expanduser() if args.to else found.folder()


def _cache(args: argparse.Namespace, name: str) -> Cache:
    cache = Cache(args.scores or _folder(args) / f"{name}.scores.jsonl")
    if cache.damaged:
        print(f"zoo scale: {cache.path}: {cache.damaged} damaged lines left out", file=sys.stderr)
    return cache


def _scorer(args: argparse.Namespace) -> Scorer:
    if args.scorer != "proxy":
        return search.by_name(args.scorer)
    if not args.dataset:
        raise ZooError("the proxy scorer trains on --dataset: openmoji, a data set of TFDS, or a folder of pictures.")
    from training import recipe

    return search.Proxy(
        args.dataset if not Path(args.dataset).exists() else str(Path(args.dataset).resolve()),
        recipe.load(args.recipe, args.set),
        data_dir=args.data_dir,
        few=args.few,
        shrink=args.shrink,
        metric=args.metric,
        start=args.start,
        threads=1 if args.engine != "serial" else 0,
    )


def _engine(args: argparse.Namespace) -> Engine:
    return engine(args.engine, workers=args.workers, timeout=args.timeout, address=args.address)


def _limits(args: argparse.Namespace, baseline: NetworkSpec) -> enlarging.Limits:
    def of_stages(text: str | None, what: str) -> tuple[int, ...] | None:
        if not text:
            return None
        values = _whole(text, what)
        return tuple(values * len(baseline.stages) if len(values) == 1 else values)

    return enlarging.Limits(
        of_stages(args.max_blocks, "max_blocks"), of_stages(args.max_channels, "max_channels"), args.max_resolution
    )


def _whole(text: str, what: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ZooError(f"--{what} takes whole numbers with commas between, not {shown(repr(text))}.") from None


def _written(
    args: argparse.Namespace,
    spec: NetworkSpec,
    told: dict[str, Any],
    baseline: NetworkSpec,
    budget: int,
    started: float,
) -> Path:
    """Write the found file: the network, and all it takes to find it again."""
    spec = replace(spec, source=f"{told['rule']}, applied to {baseline.name}", note="")
    return found.write(
        spec,
        told
        | {
            "baseline": {"name": baseline.name, "macs": macs(baseline), "params": cost(baseline).params},
            "budget": budget,
            "gap": round(1 - macs(spec) / budget, 6),
            **found.provenance(args.said, started, ("keras", "tensorflow") if "scorer" in told else ()),
        },
        Path(args.to).expanduser() if args.to else None,
    )


class _Progress:
    """Says on standard error how far a search is, and how long it will take if all scores take as long as so far."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.scores = 0

    def __call__(self, step: int, of: int, done: int, wanted: int) -> None:
        self.scores += 1
        each = (time.monotonic() - self.start) / self.scores
        left = each * (wanted - done + (of - step) * wanted)
        print(
            f"zoo scale: step {step} of {of}, score {done} of {wanted}; about {_clock(left)} left",
            file=sys.stderr,
            flush=True,
        )

    def of_step(self, step: int, of: int) -> Callable[[int, int], None]:
        """As `score` reports."""
        return lambda done, wanted: self(step, of, done, wanted)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
