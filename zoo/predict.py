"""`zoo predict`: files, folders and globs of pictures to class names."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from scaling_rules.errors import ZooError, shown
from zoo.commands import console
from zoo.images import ImageError, find
from zoo.opening import open_model
from zoo.preprocessing import preprocess

MANY = 32
"""From so many pictures on a progress bar is shown."""


def _batches(
    paths: list[Path], size: int, record: dict[str, Any], failed: list[Path]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Readable pictures in batches of `size`; the others are reported and put into `failed`."""
    good: list[Path] = []
    pixels: list[np.ndarray] = []
    for path in paths:
        try:
            pixels.append(preprocess(path, record))
            good.append(path)
        except ImageError as error:
            print(f"zoo predict: {error}", file=sys.stderr)
            failed.append(path)
        if len(good) == size:
            yield good, np.concatenate(pixels)
            good, pixels = [], []
    if good:
        yield good, np.concatenate(pixels)


def predict(args: argparse.Namespace) -> int:
    """Classify pictures; exit code 1 when some could not be read, 2 when none could."""
    if args.top < 1 or args.batch < 1:
        raise ZooError(f"--top and --batch must be at least 1, not {min(args.top, args.batch)}.")
    paths = find(args.images)
    model = open_model(args.model)
    from zoo.prediction import Prediction, answers, class_names
    from zoo.records import record_of

    record = record_of(model)
    names = class_names(record, model.output.shape[-1])
    failed: list[Path] = []
    rows: list[tuple[Path, list[Prediction]]] = []
    with Progress(console=Console(stderr=True), transient=True, disable=len(paths) < MANY) as progress:
        task = progress.add_task("classifying", total=len(paths))
        for good, pixels in _batches(paths, args.batch, record, failed):
            rows += zip(good, answers(model, pixels, names, args.top), strict=True)
            progress.update(task, completed=len(rows) + len(failed))
    if args.json:
        _print_json(args.model, rows, failed)
    elif rows:
        _print_table(rows)
    if failed:
        print(f"zoo predict: {len(failed)} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 0 if not failed else 1 if rows else 2


def _print_json(model: str, rows: list[tuple[Path, list[Any]]], failed: list[Path]) -> None:
    found = [{"path": str(path), "top": [asdict(answer) for answer in best]} for path, best in rows]
    print(json.dumps({"model": model, "predictions": found, "failed": list(map(str, failed))}, indent=2))


def _print_table(rows: list[tuple[Path, list[Any]]]) -> None:
    table = Table("picture", "%", "class", "index", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    table.columns[1].justify = table.columns[3].justify = "right"
    for path, best in rows:
        for rank, answer in enumerate(best):
            name = shown(path, 1000) if rank == 0 else ""
            table.add_row(
                Text(name),  # neither a file's name nor a stranger's class is markup
                f"{100 * answer.probability:.1f}",
                Text(shown(answer.name)),
                str(answer.index),
                end_section=rank == len(best) - 1,
            )
    console().print(table)
