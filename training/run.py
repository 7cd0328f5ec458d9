"""A training from its first step to a folder that `zoo publish` takes, whatever stops it in between.

runs/NAME/recipe.yaml       the recipe with every key
runs/NAME/checkpoints/      the last two states
runs/NAME/log.csv           what was seen on the way; curves.png, tensorboard/
runs/NAME/model/            the network with its record
runs/NAME/result.json       what came out
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from training import optimizer, pipeline, progress, recipe, results
from training.batch_norm import recalibrate
from training.job import Job, build, loss_of, set_trainable, teacher_of
from training.loop import Progress, Trainer
from training.measuring import Measured, counted
from training.recipe import Recipe
from training.schedule import ema_decay, learning_rate
from training.strategy import Strategy, backend_loop, replicas_of
from training.strategy import strategy as make_strategy

RECALIBRATED = 100
"""Batches that `bn: recalibrate` averages over at most: one epoch, if that is less."""


def train(
    job: Job,
    folder: str | Path,
    *,
    data_dir: str | Path | None = None,
    strategy: Strategy | None = None,
    resume: bool = True,
    eval_every: float = 1.0,
    checkpoint_every: int = 1000,
    unreadable: float = 0.01,
    tensorboard: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Train, choose, save and measure; return what result.json says. A folder with a result is not trained again.

    Every `eval_every` epochs the weights, and their average, are measured on minival and a checkpoint is written; one
    more every `checkpoint_every` steps. At the end the better of the two on minival is saved, read again and measured
    once on the data set's test pictures. unreadable: share of the pictures that may be. command: for the record.

    Raises ZooError for what `zoo.load`, `datasets.open_source` and the pipeline refuse, a loss that is not finite, and,
    with resume, a folder that holds another job.
    """
    folder = Path(folder).expanduser()
    loop = backend_loop()
    rank, processes = loop.process()
    told = job.recipe
    strategy = strategy or make_strategy()
    replicas = replicas_of(strategy)
    if not resume:
        results.cleared(folder)
    files_of = folder / "checkpoints"
    state = loop.latest(files_of)
    # Asked of the first process, as the others need not see its disk.
    before: dict[str, Any] | None = loop.gathered(results.earlier(folder, job, state))[0]
    if before is not None:
        return before
    source, minival, test = (results.source_of(job, part, data_dir) for part in ("train", "minival", "test"))
    classes = len(source.classes)
    steps_per_epoch = source.count / told.batch
    total = max(1, round(told.epochs * steps_per_epoch))
    keras.utils.set_random_seed(job.seed)
    with strategy.scope():
        model, preprocessing = build(job, classes, replicas)
    skipped: list[str] = []
    batches, guarded = (
        pipeline.train_batches(
            source,
            told,
            model.input_shape[1],
            seed=job.seed,
            shard=(rank, processes),
            skipped=skipped,
            unreadable=unreadable,
            guarded=guard,
        )
        for guard in (False, True)
    )
    kept: dict[str, Any] = {"job": job.told(), "threads": results.threads(), "seconds": 0.0, "phase": 0}
    if state:
        kept |= {key: state.told[key] for key in ("seconds", "phase")}
        _warn_of_threads(state.told["threads"])
    log = progress.Log(folder, state.step if state else 0, tensorboard) if rank == 0 else None
    if log:
        results.write(folder / "recipe.yaml", recipe.dump(told))
    started = time.perf_counter() - kept["seconds"]
    answer = loop.answer_of(model)

    def minival_of() -> dict[str, Any]:
        # Each process has its share, of which all know what came out.
        prepared = pipeline.eval_batches(minival, preprocessing, results.MINIVAL_BATCH, (rank, processes))
        parts = loop.gathered(counted(answer, prepared, classes).as_json())
        return sum(map(Measured.from_json, parts[1:]), Measured.from_json(parts[0])).told()

    trainer = None
    phases = _phases(told, steps_per_epoch, total)
    with pipeline.told(), progress.bar(total, state.step if state else 0, job.model, quiet=rank > 0) as show:
        for phase, (until, head_only) in enumerate(phases):
            if phase < kept["phase"]:
                continue
            set_trainable(model, told, head_only)
            trainer = trainer_of(job, model, batches, guarded, steps_per_epoch, strategy, trainer)
            resumed = state is not None and state.told["phase"] == phase
            if state and resumed:
                trainer.restore(state)
            kept["phase"] = phase
            for stop in _stops(trainer.step, until, eval_every * steps_per_epoch, resumed):

                def report(seen: Progress) -> None:
                    kept["seconds"] = time.perf_counter() - started
                    if log:
                        log.write({"epoch": seen.step / steps_per_epoch, **dataclasses.asdict(seen)})
                    show(seen)

                trainer.run(stop, folder=files_of, every=checkpoint_every, told=kept, report=report)
                row = {"step": trainer.step, "epoch": trainer.step / steps_per_epoch}
                for name in candidates(trainer):
                    seen = minival_of()
                    prefix = "minival" if name == "raw" else "minival_ema"
                    row |= {f"{prefix}_top1": seen["top1"], f"{prefix}_loss": seen["loss"]}
                if log:
                    log.write(row)
        assert trainer is not None
        found, values = {}, {}
        for name in candidates(trainer):
            if told.bn == "recalibrate":
                count = min(RECALIBRATED, math.ceil(steps_per_epoch))
                recalibrate(model, trainer.stream(0), count, trainer.forward)
            found[name] = minival_of()
            values[name] = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    chosen = max(found, key=lambda name: (found[name]["top1"], name == "ema"))
    result: dict[str, Any] = {}
    if rank == 0:
        if replicas > 1:  # what is saved and measured lies on one device
            model, _ = build(job, classes, 1)
        for variable, value in zip(model.variables, values[chosen], strict=True):
            variable.assign(value)
        sources = (source, minival, test)
        result = results.finished(job, model, folder, preprocessing, sources, found, chosen, command, data_dir)
        result |= {"steps": total, "skipped": skipped, "seconds": round(time.perf_counter() - started, 1)}
        result["machine"] |= {"replicas": replicas, "processes": processes}
        results.write(folder / "result.json", json.dumps(result, indent=1) + "\n")
    return loop.gathered(result)[0]


def _phases(told: Recipe, steps_per_epoch: float, total: int) -> list[tuple[int, bool]]:
    """(last step, whether the classifier alone learns) of each part of a training."""
    head = min(total - 1, round(told.head_first_epochs * steps_per_epoch))
    return [*([(head, True)] if head else []), (total, False)]


def _stops(start: int, until: int, every: float, resumed: bool) -> Iterator[int]:
    """Steps after `start` to measure at: the multiples of `every`, and the last; `start` too where a run is resumed.

    For it may have been killed between its checkpoint and what it would have measured there.
    """
    multiple = max(1, math.floor(start / every))
    while (stop := round(multiple * every)) < until:
        if stop > start or (stop == start and resumed):
            yield stop
        multiple += 1
    if until > start or resumed:
        yield until


def trainer_of(
    job: Job,
    model: keras.Model,
    batches: Callable[[int], Any],
    guarded: Callable[[int], Any] | None,
    steps_per_epoch: float,
    strategy: Strategy,
    before: Trainer | None,
) -> Trainer:
    """A trainer of what is trainable now; it goes on at the step, and with the average, of the one before."""
    told, ema = job.recipe, job.recipe.ema
    with strategy.scope():
        chosen = optimizer.make(told, learning_rate(told, steps_per_epoch))
        if told.precision == "mixed_float16":
            chosen = keras.optimizers.LossScaleOptimizer(chosen)
        teacher = teacher_of(job, model) if told.distill else None
    loop = backend_loop()
    trainer: Trainer = loop.Trainer(
        model,
        chosen,
        loss_of(told),
        batches,
        decay=(lambda step: ema_decay(step, ema.decay, ema.ramp)) if ema else None,
        accumulate=told.accumulate,
        teach=loop.teacher_of(teacher) if teacher else None,
        strategy=strategy,
        guarded=guarded,
    )
    if before:
        trainer.step = before.step
        chosen.iterations.assign(before.step)
        for average, old in zip(trainer.averages, before.averages, strict=True):
            average.assign(old)
    return trainer


def candidates(trainer: Trainer) -> Iterator[str]:
    """'raw' while the model has its weights, 'ema' while it has their average; it has its own again afterwards."""
    own = [(v, keras.ops.convert_to_numpy(v)) for v in trainer.model.variables]
    yield "raw"
    for variable, value in own:
        variable.assign(value)
    if trainer.averages:
        with trainer.averaged():
            yield "ema"


def _warn_of_threads(theirs: int) -> None:
    if theirs != results.threads():
        progress.say(
            f"the run began with {theirs} threads and goes on with {results.threads()}: sums are rounded in another "
            f"order, so it will not end bit-equal; --threads={theirs} would."
        )
