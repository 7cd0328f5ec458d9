"""Training steps against Keras' `fit`, and the input pipeline against bare decoding: benchmarks/train_steps.json.

python benchmarks/train_steps.py [--only=TEXT]

Both sides of a ratio are in one process and take turns; the order changes with each round. Nothing else must run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import skimage
import tensorflow as tf
from PIL import Image

import zoo
from training import pipeline, progress, recipe
from training.datasets import open_source
from training.loop import Trainer
from zoo.benchmark.rounds import machine

RESULTS = Path(__file__).with_name("train_steps.json")
PICTURES = 256
CUT = (500, 375)


def turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each side took in each round; the order is turned about from round to round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            found[name].append(sides[name]())
    return found


def row(what: str, target: float | None, found: dict[str, list[float]], unit: str) -> dict[str, Any]:
    """ratio: of the peer's seconds to ours in each round, the median and quartiles; above 1 we are faster."""
    ours, peer = found
    ratios = [theirs / own for own, theirs in zip(found[ours], found[peer], strict=True)]
    told: dict[str, Any] = {"what": what, "ours": ours, "peer": peer, "unit": unit, "target": target}
    told |= {"seconds": {name: statistics.median(values) for name, values in found.items()}}
    low, _, high = statistics.quantiles(ratios, n=4)
    return told | {"ratio": statistics.median(ratios), "quartiles": [low, high], "rounds": len(ratios)}


def batches(count: int, size: int, classes: int) -> tf.data.Dataset:
    """One batch again and again, so that data cost nothing."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (count, size, size, 3)).astype(np.float32)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]
    return tf.data.Dataset.from_tensors((images, labels)).cache().repeat()


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Mean over the batch."""
    return keras.ops.mean(keras.losses.categorical_crossentropy(labels, logits, from_logits=True))


def fitting(model: keras.Model, data: tf.data.Dataset, steps: int) -> Callable[[], float]:
    """Seconds a step under Keras' `fit`, without its bar; compiled as TensorFlow's graph, not by XLA."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, 0.9), loss, jit_compile=False)

    def run(steps: int = steps) -> float:
        start = time.perf_counter()
        model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0)
        return (time.perf_counter() - start) / steps

    run(3)
    return run


def training(
    model: keras.Model, data: tf.data.Dataset, steps: int, report: Callable[[Any], None] | None = None
) -> Callable[[], float]:
    """Seconds a step of our loop; report: what it tells each twentieth step."""
    trainer = Trainer(model, keras.optimizers.SGD(0.01, 0.9), cross_entropy, lambda step: data)

    def run(steps: int = steps) -> float:
        start = time.perf_counter()
        trainer.run(trainer.step + steps, report=report)
        return (time.perf_counter() - start) / steps

    run(3)
    return run


def steps() -> list[dict[str, Any]]:
    """Forward, backward and update."""
    data = batches(32, 224, 1000)
    theirs = keras.applications.EfficientNetB0(weights=None, classifier_activation=None)
    sides = {"zoo": training(zoo.load("efficientnet-b0", input_shape=224), data, 3)}
    sides["keras.applications, fit"] = fitting(theirs, data, 3)
    found = [row("step of efficientnet-b0, batch 32 of 224", 1.2, turns(sides, 4), "s")]
    data = batches(128, 32, 10)
    sides = {"zoo": training(zoo.load("resnet-20", input_shape=32), data, 20)}
    sides["the same network, fit"] = fitting(zoo.load("resnet-20", input_shape=32), data, 20)
    return [*found, row("step of resnet-20, batch 128 of 32", 1.0, turns(sides, 10), "s")]


def overhead() -> list[dict[str, Any]]:
    """Of the log, the bar and what they make the loop wait for, on the quickest steps there are."""
    data = batches(128, 32, 10)
    with tempfile.TemporaryDirectory() as folder, progress.bar(10**6, 0, "resnet-20") as show:
        log = progress.Log(Path(folder), 0, True)

        def report(seen: Any) -> None:
            log.write({"step": seen.step, "epoch": seen.step / 100, "loss": seen.loss})
            show(seen)

        sides = {"with log, TensorBoard and bar": training(zoo.load("resnet-20", input_shape=32), data, 40, report)}
        sides["with none"] = training(zoo.load("resnet-20", input_shape=32), data, 40)
        return [row("step of resnet-20", 0.97, turns(sides, 10), "s")]


def one_core() -> dict[str, float]:
    """Seconds a step of batch 64 at 64 pixels, on one thread; run in a process whose environment decides on oneDNN."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = batches(64, 64, 9)
    names = ("resnet-50", "ghostnet-1.0x", "efficientnet-lite0")
    return {name: training(zoo.load(name, num_classes=9, input_shape=64), data, 4)() for name in names}


def onednn() -> list[dict[str, Any]]:
    """TensorFlow's kernels against oneDNN's, each round in processes of its own."""
    sides: dict[str, list[dict[str, float]]] = {"1": [], "0": []}
    for number in range(4):
        for value in list(sides)[:: 1 if number % 2 else -1]:
            command = [sys.executable, __file__, "--only=one_core"]
            environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": value}
            told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            sides[value].append(json.loads(told.splitlines()[-1]))
    names = {"with oneDNN": "1", "without": "0"}
    return [
        row(
            f"step of {model}, batch 64 of 64, one thread",
            None,
            {name: [one[model] for one in sides[value]] for name, value in names.items()},
            "s",
        )
        for model in sides["1"][0]
    ]


def pictures(folder: Path) -> None:
    """JPEGs of 500 x 375, about as large as ImageNet's are on average, cut from photographs: 80 KB each."""
    rng = np.random.default_rng(0)
    photos = Path(skimage.__file__).parent / "data"
    images = [Image.open(photos / name).convert("RGB") for name in ("astronaut.png", "ihc.png", "coffee.png")]
    for number in range(PICTURES):
        image = images[number % 3]
        left, top = (int(rng.integers(0, whole - cut + 1)) for whole, cut in zip(image.size, CUT, strict=True))
        place = folder / "train" / str(number % 3)
        place.mkdir(parents=True, exist_ok=True)
        image.crop((left, top, left + CUT[0], top + CUT[1])).save(place / f"{number}.jpg", quality=95)


def reading() -> list[dict[str, Any]]:
    """Pictures a second: ours, as a training sees them, and tf.data's decoding alone."""
    found = []
    with tempfile.TemporaryDirectory() as root:
        pictures(Path(root))
        paths = sorted(map(str, Path(root).glob("*/*/*.jpg")))

        def bare() -> float:
            data = tf.data.Dataset.from_tensor_slices(paths).repeat(4)
            data = data.map(
                lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3), num_parallel_calls=tf.data.AUTOTUNE
            )
            start = time.perf_counter()
            next(iter(data.skip(4 * PICTURES - 1)))
            return (time.perf_counter() - start) / (4 * PICTURES)

        plain = {"crop_area": [0.08, 1.0], "aspect": [0.75, 4 / 3], "flip": True}
        for what, target, antialias, augment in (
            ("JPEG, RandomResizedCrop 224, flip", 0.9, False, plain),
            ("the same, antialiased", None, True, plain),
            ("with RandAugment", 0.5, False, plain | {"rand_augment": {"layers": 2, "magnitude": 10}}),
            ("with AutoAugment", None, False, plain | {"auto_augment": "imagenet"}),
        ):
            sets = ["batch=32", "interpolation=bilinear", f"antialias={json.dumps(antialias)}"]
            told = recipe.load("small", [*sets, f"augment={json.dumps(augment)}"])
            source = open_source(Path(root), "train")
            made = pipeline.train_batches(source, told, 224, seed=0, guarded=False)

            def ours(made: Callable[[int], tf.data.Dataset] = made) -> float:
                count = 4 * PICTURES // 32
                data = iter(made(0))
                next(data)  # tracing the graph takes seconds, once a training
                start = time.perf_counter()
                for _ in range(count):
                    next(data)
                return (time.perf_counter() - start) / (32 * count)

            one = row(what, target, turns({"zoo": ours, "tf.data's decoding alone": bare}, 8), "s a picture")
            rate = 1 / one["seconds"]["zoo"]
            found.append(one | {"pictures_per_second": rate, "per_core": rate / len(os.sched_getaffinity(0))})
    return found


def main() -> None:
    """Measure, print and write; `--only=one_core` is a part of `onednn` and writes nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="steps, overhead, reading or onednn")
    given = parser.parse_args()
    if given.only == "one_core":
        print(json.dumps(one_core()))
        return
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {"steps": steps, "overhead": overhead, "reading": reading}
    parts["onednn"] = onednn
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name, part in parts.items():
        if given.only in name:
            old[name] = part()
            for one in old[name]:
                print(f"{one['what']}: {one['ratio']:.3f} ({one['quartiles'][0]:.3f} to {one['quartiles'][1]:.3f})")
    old["machine"] = machine(["tensorflow", "keras"])
    RESULTS.write_text(json.dumps(old, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
