"""`zoo predict`: files, folders and globs of pictures to class names, printed as they are found."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from scaling_rules.errors import ZooError, shown
from zoo.engines import usable_cores
from zoo.images import ImageError, find
from zoo.opening import open_model
from zoo.prediction import Prediction, answers, class_names, outputs
from zoo.preprocessing import preprocess
from zoo.records import record_of

MANY = 32
"""From so many pictures on a progress bar is shown, where the answers go to a file or a pipe."""

MAX_WIDTH = 60
"""Of the column of paths; a longer path pushes its own row."""


def _prepared(paths: Sequence[Path], record: dict[str, Any], ahead: int) -> Iterator[tuple[Path, np.ndarray | None]]:
    """Each picture in order as a batch of one, None for one that is reported as unreadable.

    Decoded by as many threads as there are processors, `ahead` pictures before they are asked for: memory does not
    grow with their number.
    """
    left = iter(paths)
    waiting: deque[tuple[Path, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            while True:
                for path in islice(left, ahead - len(waiting)):
                    waiting.append((path, pool.submit(preprocess, path, record)))
                if not waiting:
                    return
                path, future = waiting.popleft()
                try:
                    yield path, future.result()
                except ImageError as error:
                    print(f"zoo predict: {error}", file=sys.stderr)
                    yield path, None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(
    paths: Sequence[Path], size: int, record: dict[str, Any], failed: list[Path]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Readable pictures in batches of `size`; the others go into `failed`."""
    good: list[Path] = []
    pixels: list[np.ndarray] = []
    for path, one in _prepared(paths, record, max(2 * size, 4 * usable_cores())):
        if one is None:
            failed.append(path)
            continue
        good.append(path)
        pixels.append(one)
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
    model = open_model(args.model, args.engine, precision=args.precision, threads=args.threads)
    record = record_of(model)
    names = class_names(record, outputs(model))
    show = _Json(args.model) if args.json else _Rows(paths, names)
    failed: list[Path] = []
    done = 0
    bar = len(paths) >= MANY and not sys.stdout.isatty()
    console = Console(stderr=True)
    # Left to itself rich draws what is printed to standard output above its bar, on standard error.
    with Progress(console=console, transient=True, disable=not bar, redirect_stdout=False) as progress:
        task = progress.add_task("classifying", total=len(paths))
        for good, pixels in _batches(paths, args.batch, record, failed):
            for path, best in zip(good, answers(model, pixels, names, args.top), strict=True):
                show.add(path, best)
            done += len(good)
            progress.update(task, completed=done + len(failed))
    show.end(failed)
    if failed:
        print(f"zoo predict: {len(failed)} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 0 if not failed else 1 if done else 2


class _Rows:
    """A line an answer. Not rich's table: that needs all rows at once, and a third of the time of an engine."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self.path = max(len("picture"), *(min(len(shown(path, 1000)), MAX_WIDTH) for path in paths))
        self.name = max(len("class"), *(min(len(shown(name)), 40) for name in names))
        self.started = False

    def add(self, path: Path, best: Sequence[Prediction]) -> None:
        if not self.started:
            print(f"{'picture':<{self.path}}      %  {'class':<{self.name}}  index")
        self.started = True
        label = shown(path, 1000)
        for answer in best:
            name = shown(answer.name)  # a stranger's class may hold what a terminal obeys
            print(f"{label:<{self.path}}  {100 * answer.probability:5.1f}  {name:<{self.name}}  {answer.index:>5}")
            label = ""

    def end(self, failed: Sequence[Path]) -> None:
        pass


class _Json:
    """One document, whose predictions are written as they come."""

    def __init__(self, model: str) -> None:
        self.model, self.started = model, False

    def _start(self) -> None:
        if not self.started:
            print(f'{{"model": {json.dumps(self.model)}, "predictions": [', end="")
        self.started = True

    def add(self, path: Path, best: Sequence[Prediction]) -> None:
        separator = "," if self.started else ""
        self._start()
        found = {"path": str(path), "top": [asdict(answer) for answer in best]}
        print(f"{separator}\n {json.dumps(found)}", end="")

    def end(self, failed: Sequence[Path]) -> None:
        self._start()
        print(f'\n], "failed": {json.dumps(list(map(str, failed)))}}}')
