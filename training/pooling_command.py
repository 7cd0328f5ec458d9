"""`zoo search pooling`: from a ResNet and pictures to where it should downsample."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_rules import pooling as positions
from scaling_rules.cost import human, slug
from scaling_rules.pooling import PoolingSpace, text
from scaling_rules.spec import NetworkSpec
from training import command, recipe
from zoo import catalog, found, registry
from zoo.commands import console, parse_count

if TYPE_CHECKING:
    from training.mixture import Mixture

RULE = "Balanced Mixture of SuperNets, arXiv 2306.11982"
SHOWN = 10
"""Configurations in the printed table."""


def pooling(args: argparse.Namespace) -> int:
    """Search, write the network with all scores, draw them, print the best."""
    started = time.monotonic()
    spec = baseline(args.model)
    if args.stem:
        spec = positions.with_stem(spec, args.stem)
    if args.resolution is not None:
        spec = replace(spec, input=(args.resolution, args.resolution, spec.input[2]))
    budget = int(parse_count(args.budget)) if args.budget else None
    space = positions.space(spec, args.downsamplings, budget)
    name = args.name or "-".join([positions.bare(spec), "pooling", *([slug(budget)] if budget else [])])
    found.check_name(name)
    told = recipe.load(args.recipe, args.set)
    command.start(args.threads)
    from training import mixture, pooling_plots

    settings = mixture.Settings(
        args.dataset,
        told,
        models=args.models,
        method=args.method,
        temperature=args.temperature,
        score_decay=args.score_decay,
        rule=args.rule,
        candidates=args.candidates,
        few=args.few,
        seed=args.seed,
    )
    folder = Path(args.to).expanduser() if args.to else found.folder()
    result = mixture.search(space, settings, folder / f"{name}.search", data_dir=args.data_dir)
    scores = result.scores(settings.rule)
    best = int(np.nanargmax(scores))
    network = space.at(best)
    path = found.write(
        replace(network, name=name, source=f"{RULE}, applied to {spec.name}", note=""),
        {
            "rule": RULE,
            "settings": settings.told(),
            "lengths": space.lengths[best],
            "configuration": network.name,
            "budget": budget,
            "scores": _rows(space, result, scores),
            **found.provenance(args.said, started, ("keras", "tensorflow")),
        },
        folder,
    )
    _print(space, scores, best)
    print(", ".join(map(str, (path, *pooling_plots.plot(space, result, scores, best, path.with_suffix(""))))))
    said = network.name if _listed(network) else f"{text(space.lengths[best])} of {positions.bare(spec)}"
    print(f"{name} is {said}.")
    return 0


def baseline(name: str) -> NetworkSpec:
    """The spec of a name; of 'resnet-20' the one that the names resnet-20-pool-A-B-C vary, which has projections.

    Raises ZooError for an unknown name.
    """
    return catalog.spec(next((own for own in registry.PATTERNS if own.startswith(f"{name}-pool-")), name))


def _listed(network: NetworkSpec) -> bool:
    """Whether the zoo has this network, up to the size of its pictures, under its name."""
    if not registry.is_listed(network.name):
        return False
    theirs = registry.architecture(network.name)
    return replace(theirs, input=network.input).fingerprint() == network.fingerprint()


def _rows(space: PoolingSpace, result: Mixture, scores: np.ndarray) -> list[dict[str, Any]]:
    """Of each configuration, as the found file has it; None for what was not scored."""
    return [
        {
            "lengths": lengths,
            "macs": space.macs[number],
            "score": None if np.isnan(scores[number]) else round(float(scores[number]), 4),
            "top1": [None if np.isnan(one) else round(float(one), 4) for one in result.top1[number]],
            "running": np.round(result.running[number], 6).tolist(),
            "probabilities": np.round(result.probabilities[number], 6).tolist(),
        }
        for number, lengths in enumerate(space.lengths)
    ]


def _print(space: PoolingSpace, scores: np.ndarray, best: int) -> None:
    """The best configurations, and the network as it was."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("layers at each resolution", "MACs", "held-out top-1, %", ""):
        table.add_column(column, justify="right" if column[:1] in "Mh" else "left")
    order = [int(number) for number in np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")]
    own = space.own
    shown = order[:SHOWN] if own is None or own in order[:SHOWN] else [*order[:SHOWN], own]
    for number in shown:
        said = "found" if number == best else "as it was" if number == own else ""
        score = "" if np.isnan(scores[number]) else f"{scores[number]:.2f}"
        table.add_row(text(space.lengths[number]), human(space.macs[number]), score, said)
    console().print(table)
