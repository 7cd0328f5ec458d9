"""What is seen and kept of a run: a line that moves, log.csv, TensorBoard's events, and the curves as a picture."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from training.loop import Progress as Told

COLUMNS = (
    "step", "epoch", "loss", "learning_rate", "pictures_per_second", "minival_top1", "minival_loss",
    "minival_ema_top1", "minival_ema_loss",
)  # fmt: skip


class Log:
    """log.csv, a row whenever something is told. What a resumed run had told after its checkpoint is taken out.

    So is what it had measured at it, as it measures there again.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self.path = folder / "log.csv"
        rows = [row for row in read(folder) if row["step"] < step or (row["step"] == step and "loss" in row)]
        folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self._events: Any = None
        if tensorboard:
            import tensorflow as tf

            self._events = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def write(self, row: dict[str, float]) -> None:
        """Add a row; row: of COLUMNS, 'step' among them."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        if self._events:
            import tensorflow as tf

            with self._events.as_default(step=int(row["step"])):
                for name in row.keys() - {"step"}:
                    tf.summary.scalar(name, row[name])
            self._events.flush()


def read(folder: Path) -> list[dict[str, float]]:
    """The rows of a folder's log.csv, without the cells that are empty; none where there is no file."""
    path = folder / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def say(text: str) -> None:
    """Print a line to standard error."""
    print(f"zoo: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(total: int, start: int, label: str, quiet: bool = False) -> Iterator[Any]:
    """A function that is given each `Told` and shows it, on standard error: moving on a terminal, else a line each.

    quiet: nothing is shown.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda told: None
        return
    if not console.is_terminal:

        def line(told: Told) -> None:
            print(
                f"{label} step {told.step}/{total}  loss {told.loss:.4f}  {told.pictures_per_second:.0f} images/s",
                file=sys.stderr,
                flush=True,
            )

        yield line
        return
    parts = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}  {task.fields[said]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*parts, console=console, redirect_stdout=False) as progress:
        task = progress.add_task(label, total=total, completed=start, said="")

        def move(told: Told) -> None:
            said = f"loss {told.loss:.4f}  {told.pictures_per_second:.0f} images/s"
            progress.update(task, completed=told.step, said=said)

        yield move


def curves(folder: Path) -> Path | None:
    """Draw log.csv as curves.png: loss and accuracy over epochs. None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = read(folder)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = (
        (left, "loss", "training"), (left, "minival_loss", "minival"), (left, "minival_ema_loss", "minival, averaged"),
        (right, "minival_top1", "minival"), (right, "minival_ema_top1", "minival, averaged"),
    )  # fmt: skip
    for axes, key, label in names:
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 50 else None)
    for axes, title in ((left, "loss, nats"), (right, "top-1, %")):
        axes.set(xlabel="epoch", title=title)
        if axes.lines:
            axes.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path
