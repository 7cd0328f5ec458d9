"""A short training of a spec that has no name, measured on minival: what the proxy scorer does."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import keras

import zoo
from scaling_rules.spec import NetworkSpec
from training import datasets, pipeline
from training.batch_norm import recalibrate
from training.job import Job, evaluation_of, set_trainable
from training.measuring import Measured, counted
from training.results import MINIVAL_BATCH
from training.run import RECALIBRATED, candidates, trainer_of
from training.strategy import backend_loop, strategy
from weights.adapt import adapt
from zoo.growing import grown
from zoo.inspection import spec_of

if TYPE_CHECKING:
    from training.search import Proxy


def trained(proxy: Proxy, spec: NetworkSpec, seed: int) -> Measured:
    """What a network reaches on minival after the proxy's recipe, by the average of its weights if there is one."""
    size = max(1, round(proxy.shrink * spec.input[0]))
    told = dataclasses.replace(proxy.recipe, resolution=size)
    source = datasets.open_source(proxy.dataset, "train", data_dir=proxy.data_dir, seed=seed, few=proxy.few)
    minival = datasets.open_source(proxy.dataset, "minival", data_dir=proxy.data_dir)
    classes, steps_per_epoch = len(source.classes), source.count / told.batch
    keras.utils.clear_session()  # a worker scores many
    keras.utils.set_random_seed(seed)
    model = zoo.build(spec, num_classes=classes, input_shape=size, dropout=told.dropout, drop_path=told.drop_path)
    if proxy.start:
        given, _ = grown(spec, proxy.start, (None, None), None, strict=False)
        values, _ = adapt(given.spec, given.tensors, spec_of(model))
        for path, variable in zoo.variables(model).items():
            if path in values:
                variable.assign(values[path])
    set_trainable(model, told, head_only=False)
    batches, guarded = (pipeline.train_batches(source, told, size, seed=seed, guarded=guard) for guard in (False, True))
    trainer = trainer_of(
        Job(spec.name, proxy.dataset, told, seed=seed), model, batches, guarded, steps_per_epoch, strategy(), None
    )
    with pipeline.told():
        trainer.run(max(1, round(told.epochs * steps_per_epoch)))
        answer = backend_loop().answer_of(model)
        for _ in candidates(trainer):
            if told.bn == "recalibrate":
                recalibrate(model, trainer.stream(0), min(RECALIBRATED, math.ceil(steps_per_epoch)), trainer.forward)
            prepared = pipeline.eval_batches(minival, evaluation_of(told, None, size), MINIVAL_BATCH)
            found = counted(answer, prepared, classes)
    return found
