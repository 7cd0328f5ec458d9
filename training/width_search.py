"""Refining the widths of a network: a supernet trained, asked for scores, and searched under a budget.

FOLDER/supernet/       checkpoints of the supernet; its training goes on where it was stopped, bit for bit
FOLDER/scores.jsonl    every score that was asked for; a search that is started again asks for none of them twice
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scaling_rules.coupling import Coupling, coupling
from scaling_rules.errors import ZooError, shown
from scaling_rules.search.scoring import Cache
from scaling_rules.search.vectors import Vector
from scaling_rules.spec import NetworkSpec
from scaling_rules.width_space import space
from training import checkpoint, datasets, optimizer, pipeline
from training.job import evaluation_of, loss_of
from training.loop import Progress
from training.recipe import Recipe
from training.results import MINIVAL_BATCH
from training.schedule import ema_decay, learning_rate
from training.supernet import Measured, Supernet
from training.width_trainer import WidthTrainer

METRICS = ("top1", "loss")


@dataclass(frozen=True)
class Settings:
    """All that the scores of a supernet depend on.

    spec: the network whose widths are cut into `groups`, `least` of them at least. method: of
    `scaling_rules.coupling.METHODS`. dataset, few: as of `training.datasets.open_source`; the supernet is trained on
    its training pictures by `recipe` and scored on minival, which are held out of them. halves, distill: as of
    `WidthTrainer`. calibration: training pictures whose statistics the batch norms of a scored network take. metric:
    'top1' in percent, or 'loss', minus the cross-entropy in nats.
    """

    spec: NetworkSpec
    method: str
    dataset: str
    recipe: Recipe
    groups: int = 20
    least: int = 1
    halves: bool = False
    distill: bool = True
    few: int | None = None
    seed: int = 0
    calibration: int = 256
    metric: str = "top1"

    def told(self) -> dict[str, Any]:
        """As JSON, the network by its fingerprint."""
        told = dataclasses.asdict(dataclasses.replace(self, spec=None))  # type: ignore[arg-type]
        told |= {"spec": self.spec.fingerprint(), "dataset": Path(self.dataset).name}
        return json.loads(json.dumps(told))


class Search:
    """A supernet on its way, and the scores that it gives.

    Raises ZooError for what `coupling` refuses, a recipe with a teacher, a frozen start or accumulated gradients, fewer
    training pictures than a batch or than `calibration`, an unknown metric, and a folder of other settings.
    """

    def __init__(self, settings: Settings, folder: Path, data_dir: str | None = None) -> None:
        told = settings.recipe
        if told.distill or told.head_first_epochs or told.accumulate > 1:
            raise ZooError("a supernet is trained without distill, head_first_epochs and accumulate of the recipe.")
        if settings.metric not in METRICS:
            raise ZooError(f"unknown metric {settings.metric!r}; valid: {', '.join(METRICS)}.")
        self.settings, self.folder = settings, folder
        self.coupling: Coupling = coupling(space(settings.spec), settings.method, settings.groups, settings.least)
        self._same_settings()
        size = settings.spec.input[0]
        source = datasets.open_source(
            settings.dataset, "train", data_dir=data_dir, seed=settings.seed, few=settings.few
        )
        minival = datasets.open_source(settings.dataset, "minival", data_dir=data_dir)
        for what, needed in (("a batch", told.batch), ("the calibration", settings.calibration)):
            if source.count < needed:
                raise ZooError(
                    f"{source.name} has {source.count} training pictures, fewer than the {needed} of {what}."
                )
        keras.utils.set_random_seed(settings.seed)
        self.net = Supernet(self.coupling, len(source.classes), size)
        steps_per_epoch = source.count / told.batch
        self.steps = max(1, round(told.epochs * steps_per_epoch))
        batches, guarded = (
            pipeline.train_batches(
                source, dataclasses.replace(told, resolution=size), size, seed=settings.seed, guarded=g
            )
            for g in (False, True)
        )
        ema = told.ema
        self.trainer = WidthTrainer(
            self.net,
            settings.method,
            optimizer.make(told, learning_rate(told, steps_per_epoch)),
            loss_of(told),
            batches,
            seed=settings.seed,
            halves=settings.halves,
            distill=settings.distill,
            decay=(lambda step: ema_decay(step, ema.decay, ema.ramp)) if ema else None,
            guarded=guarded,
        )
        preprocessing = evaluation_of(dataclasses.replace(told, resolution=size), None, size)
        self._evaluation = lambda: pipeline.eval_batches(minival, preprocessing, MINIVAL_BATCH)
        self._pictures: tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]] | None = None
        self.cache = Cache(folder / "scores.jsonl")

    def _same_settings(self) -> None:
        path = self.folder / "settings.json"
        own = self.settings.told()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(own, indent=1) + "\n")
            return
        theirs = json.loads(path.read_text())
        for key, value in own.items():
            if theirs.get(key) != value and key != "metric":
                raise ZooError(
                    f"{shown(self.folder)} has a search with {key} {shown(repr(theirs.get(key)))}, not "
                    f"{shown(repr(value))}; give another folder."
                )

    def train(self, *, report: Callable[[Progress], None] | None = None, every: int = 500) -> None:
        """Train the supernet to the recipe's end, from its last checkpoint; the average of its weights is kept."""
        folder = self.folder / "supernet"
        state = checkpoint.latest(folder)
        if state:
            self.trainer.restore(state)
        with pipeline.told():
            self.trainer.run(self.steps, folder=folder, every=every, report=report)
        for variable, average in zip(self.net.model.variables, self.trainer.averages, strict=False):
            variable.assign(average)

    @property
    def losses(self) -> np.ndarray:
        """Mean of the lowest losses of each number of groups, float64 (variables, groups + 1), infinite if none."""
        lowest = keras.ops.convert_to_numpy(self.trainer.lowest).astype(np.float64)
        seen = np.isfinite(lowest)
        sums = np.where(seen, lowest, 0).sum(-1)
        return np.where(seen.any(-1), sums / np.maximum(1, seen.sum(-1)), math.inf)

    def measure(self, choice: Vector) -> Measured:
        """What the network of a choice reaches on minival with the supernet's weights."""
        if self._pictures is None:
            with pipeline.told():
                # As training sees them, in its order: in the folder's they would be of one class.
                count = math.ceil(self.settings.calibration / self.settings.recipe.batch)
                seen = [images for images, _ in itertools.islice(self.trainer.stream(0), count)]
                self._pictures = (
                    tf.concat(seen, 0)[: self.settings.calibration],
                    [(images, labels) for images, labels, _ in self._evaluation()],
                )
        return self.net.measure(choice, *self._pictures)

    def score(self, choice: Vector) -> float:
        """By the metric of the settings, the higher the better; kept in the folder."""
        spec = self.coupling.at(choice)
        key = Cache.key(spec, self.settings.told(), self.settings.seed)
        known = self.cache.get(key)
        if known is None:
            found = self.measure(choice)
            known = found.top1 if self.settings.metric == "top1" else -found.loss
            self.cache.put(key, known, {"choice": list(choice), "top1": found.top1, "loss": found.loss})
        return known
