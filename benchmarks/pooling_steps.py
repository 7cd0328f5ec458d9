"""A step of a mixture of M supernets against a single one's, and how often a space is compiled. Run alone.

python benchmarks/pooling_steps.py

Writes benchmarks/pooling_steps.json. The steps of ResNet-20's 36 configurations, width 8, 64 pictures of 32 pixels to
train on and 64 to score by, take turns in one process; all draw the same configurations. `plain` is a training step of
the network that is the default, without a score. compiling: seconds of the first step of each space.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from train_steps import batches, cross_entropy, row, training, turns

import zoo
from scaling_rules import compound
from scaling_rules.pooling import PoolingSpace, space
from training.mixture_trainer import MixtureTrainer
from training.pooling_net import PoolingNet
from zoo import registry
from zoo.benchmark.rounds import machine

OUT = Path(__file__).with_suffix(".json")
MODELS = (1, 2, 4, 8)
BATCH, CLASSES, STEPS, ROUNDS = 64, 9, 36, 8
TARGET = 1.3
"""Times a single supernet's step, at most."""


def spaces() -> dict[str, PoolingSpace]:
    """Of 36, 56 and 455 configurations."""
    names = {"resnet-20-pool-4-3-3": 0.5, "resnet-18-pool-3-2-2-2": 0.125, "resnet-50-pool-3-4-6-3": 0.125}
    found = {}
    for name, width in names.items():
        spec = replace(registry.architecture(name), input=(32, 32, 3), classes=CLASSES)
        found[name] = space(compound.scale(spec, width=width))
    return found


def trainer(own: PoolingSpace, models: int) -> MixtureTrainer:
    """A mixture over one batch again and again, whose step counts its traces in `traces`."""
    net = PoolingNet(own, CLASSES)
    for layer in net.model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    data = batches(2 * BATCH, 32, CLASSES)
    made = MixtureTrainer(
        net, models, keras.optimizers.SGD(0.01, 0.9), cross_entropy, lambda step: data, seed=0, epochs=1
    )
    made.start(0)
    return made


def running(made: MixtureTrainer) -> Callable[[], float]:
    """Seconds a step, of as many steps as there are configurations."""

    def run() -> float:
        start = time.perf_counter()
        made.run(made.step + STEPS, report_every=STEPS)
        return (time.perf_counter() - start) / STEPS

    run()
    return run


def compiling(own: PoolingSpace) -> dict[str, Any]:
    """The first step's seconds, and the traces of twenty that draw other configurations and models."""
    made = trainer(own, 4)
    traces = []
    original = made._train_step

    def counted(*args: Any) -> tf.Tensor:
        traces.append(1)
        return original(*args)

    compiled = tf.function(counted, autograph=False)
    made._step = lambda images, labels, *numbers: compiled(images, labels, *map(tf.constant, numbers))
    start = time.perf_counter()
    made.run(1)
    seconds = time.perf_counter() - start
    made.run(20)
    return {"configurations": len(own.lengths), "seconds": round(seconds, 2), "traces": len(traces)}


def main() -> None:
    """Measure, print, write."""
    found = spaces()
    own = found["resnet-20-pool-4-3-3"]
    steps = {f"M={models}": running(trainer(own, models)) for models in MODELS}
    model = zoo.build(own.spec, num_classes=CLASSES, input_shape=32)
    steps["plain"] = training(model, batches(BATCH, 32, CLASSES), STEPS)
    taken = turns(steps, ROUNDS)
    rows = []
    for name in steps:
        if name != "M=1":  # `row` has the peer's seconds over ours; a cost is the other way round
            rows.append(row(f"step of {name}", None, {"M=1": taken["M=1"], name: taken[name]}, "s"))
            print(f"{name}: {rows[-1]['ratio']:.3f} times M=1 ({1e3 * rows[-1]['seconds'][name]:.1f} ms)")
    compiled = {name: compiling(each) for name, each in found.items()}
    print(compiled)
    told = {
        "command": "python benchmarks/pooling_steps.py",
        "date": f"{date.today():%Y-%m-%d}",
        "target": TARGET,
        "rows": rows,
        "compiling": compiled,
        "machine": machine(["tensorflow", "keras"]),
    }
    OUT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
