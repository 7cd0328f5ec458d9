"""A search for downsampling positions by a mixture of supernets, from its first step to the scores of configurations.

Of the training pictures one half trains weights, the other scores; minival and test pictures are not read. A folder
keeps the state of each epoch's end, so the same call goes on where it was stopped, bit-equal.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scaling_rules.errors import ZooError, unknown
from scaling_rules.pooling import PoolingSpace
from training import checkpoint, datasets, optimizer, pipeline, progress, results
from training.job import loss_of, set_trainable
from training.mixture_trainer import MixtureTrainer, check
from training.pooling_net import PoolingNet
from training.recipe import Augment, Recipe
from training.schedule import learning_rate

RULES = ("best", "likely")
"""Which model answers for a configuration at the end: the best one, as the release does for ResNet-20, or the one it is
drawn for most often, as it does for ResNet-18 and ResNet-50."""


@dataclass(frozen=True)
class Settings:
    """What a search depends on beside its space.

    dataset, few: as of `datasets.open_source`. recipe: of the supernets; its resolution is the space's, its batch norms
    have no scale and offset. models, method, temperature, score_decay: as of `MixtureTrainer`. rule: of RULES.
    candidates: so many configurations are scored at the end, those of the highest running scores; 0 for all.

    Raises ZooError for numbers out of range, and a recipe with an average, a teacher, frozen parts, half
    precision or a part of an epoch.
    """

    dataset: str
    recipe: Recipe
    models: int = 4
    method: str = "balanced"
    temperature: float = 100.0
    score_decay: float = 0.9
    rule: str = "best"
    candidates: int = 0
    few: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.models, self.method, self.temperature, self.score_decay)
        if self.rule not in RULES:
            raise unknown("rule", self.rule, RULES)
        if self.candidates < 0:
            raise ZooError(f"candidates must be a number of configurations, or 0 for all, not {self.candidates}.")
        told = self.recipe
        for key in ("ema", "distill", "freeze", "head_first_epochs"):
            if getattr(told, key):
                raise ZooError(f"a supernet trains all of its kernels by the labels: a recipe without {key}, please.")
        if told.epochs < 1 or told.epochs != round(told.epochs):
            raise ZooError(f"a mixture trains whole epochs, at least 1, not {told.epochs:g}.")
        if told.precision != "float32":
            raise ZooError(f"a supernet trains in float32, not in {told.precision}.")

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class Mixture:
    """What a search ends with, float (configurations, models) each.

    running: scores by batches, in [0, 1]. probabilities: at the end; history: at the start of each epoch (epochs, ...).
    top1: percent of the held-out pictures that were classified right at the end, nan where none was asked for.
    """

    running: np.ndarray
    probabilities: np.ndarray
    history: np.ndarray
    top1: np.ndarray

    def scores(self, rule: str) -> np.ndarray:
        """Of each configuration, by the model that the rule says; nan where it was not scored."""
        if rule == "likely":
            return self.top1[np.arange(len(self.top1)), self.probabilities.argmax(1)]
        best = np.nan_to_num(self.top1, nan=-1.0).max(1)
        return np.where(best < 0, np.nan, best)


def search(space: PoolingSpace, settings: Settings, folder: Path, *, data_dir: str | None = None) -> Mixture:
    """Train a mixture and score its configurations; the checkpoints lie in `folder`.

    Raises ZooError for what `datasets.open_source` and the pipeline refuse, fewer pictures than two batches, a loss
    that is not finite, and a folder that holds a search with other settings.
    """
    shape = {"configurations": len(space.lengths), "downsamplings": len(space.lengths[0]) - 1}
    said = {"space": {"network": space.spec.fingerprint(), **shape}, **settings.told()}
    for after in ("rule", "candidates"):  # what is trained can be scored in either way
        del said[after]
    state = checkpoint.latest(folder / "checkpoints")
    if state:
        results.require_same(folder, state.told["search"], said, "remove the folder, or choose another --name")
    source = datasets.open_source(settings.dataset, "train", data_dir=data_dir, seed=settings.seed, few=settings.few)
    taught, held = datasets.halves(source, settings.seed)
    told = settings.recipe
    fewest = min(taught.count, held.count)
    if fewest < told.batch:
        raise ZooError(
            f"half of the training pictures of {source.name} are {fewest}, fewer than a batch of {told.batch}."
        )
    quick, guarded = (_batches(space, settings, taught, held, guard) for guard in (False, True))
    steps_per_epoch = taught.count / told.batch
    epochs = round(told.epochs)
    keras.utils.set_random_seed(settings.seed)
    net = PoolingNet(space, len(source.classes))
    set_trainable(net.model, dataclasses.replace(told, bn="frozen"), head_only=False)
    trainer = MixtureTrainer(
        net,
        settings.models,
        optimizer.make(told, learning_rate(told, steps_per_epoch)),
        loss_of(told),
        quick,
        guarded=guarded,
        seed=settings.seed,
        epochs=epochs,
        method=settings.method,
        last_temperature=settings.temperature,
        score_decay=settings.score_decay,
    )
    if state:
        trainer.restore(state)
    total = round(epochs * steps_per_epoch)
    with pipeline.told(), progress.bar(total, trainer.step, space.spec.name) as show:
        for epoch in range(epochs):
            until = round((epoch + 1) * steps_per_epoch)
            if trainer.step >= until:
                continue
            trainer.start(epoch)
            trainer.run(until, folder=folder / "checkpoints", told={"search": said}, report=show)
        running = np.array(trainer.table)
        likely = trainer.probabilities()
        wanted = _wanted(settings, running, likely)
        progress.say(f"{wanted.sum()} pairs of configuration and model are scored on {held.count} held-out pictures.")
        found = trainer.scores(wanted, _held(space, settings, held))
    return Mixture(running, likely, np.array(trainer.history), found)


def _wanted(settings: Settings, running: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """Which configurations are scored in which model at the end."""
    count, models = running.shape
    wanted = np.ones((count, models), bool)
    if settings.rule == "likely":
        wanted = np.arange(models) == likely.argmax(1)[:, None]
    if settings.candidates:
        wanted[np.argsort(-running.max(1), kind="stable")[settings.candidates :]] = False
    return wanted


def _plain(recipe: Recipe) -> Recipe:
    """As for training, but pictures and labels as they are."""
    return dataclasses.replace(recipe, augment=Augment(), label_smoothing=0.0)


def _batches(
    space: PoolingSpace, settings: Settings, taught: datasets.Source, held: datasets.Source, guarded: bool
) -> Callable[[int], tf.data.Dataset]:
    """Pictures to train on, then as many to score by, as one batch."""
    size, told = space.spec.input[0], settings.recipe
    one = pipeline.train_batches(taught, told, size, seed=settings.seed, guarded=guarded)
    other = pipeline.train_batches(held, _plain(told), size, seed=settings.seed, guarded=guarded)

    def batches(step: int) -> tf.data.Dataset:
        pairs = tf.data.Dataset.zip(one(step), other(step))
        return pairs.map(lambda a, b: tuple(tf.concat(both, 0) for both in zip(a, b, strict=True))).prefetch(2)

    return batches


def _held(space: PoolingSpace, settings: Settings, held: datasets.Source) -> Any:
    """The held-out pictures once, in whole batches, mixed: batch norms are by the batch's statistics."""
    quick, guarded = (
        pipeline.train_batches(held, _plain(settings.recipe), space.spec.input[0], seed=settings.seed, guarded=guard)
        for guard in (False, True)
    )
    count = held.count // settings.recipe.batch
    return (batch for _, batch in zip(range(count), pipeline.steady(quick, guarded), strict=False))
