"""What bfloat16 and int8 cost in accuracy and gain in time, on real pictures.

    python benchmarks/precision.py     needs ../shared/datasets/emoji (or $ZOO_SHARED); some 5 minutes

EfficientNet-Lite0 with its ImageNet weights; a classifier of 9 classes is fitted to its features of the training
pictures by ridge regression, whose strength is chosen on a fifth of these; ranges of int8 are taken from training
pictures only. Then every engine and precision answers all test pictures once. Written to benchmarks/precision.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import zoo
from zoo import engines, quantizing
from zoo.benchmark import report
from zoo.benchmark.rounds import machine, race, speed_up
from zoo.benchmark.worker import Job
from zoo.inspection import spec_of

RESULTS = Path(__file__).with_name("precision.json")
SHARED = Path(os.environ.get("ZOO_SHARED") or Path(__file__).parents[2] / "shared")
NAME = "efficientnet-lite0"


def pictures(split: str, names: list[str]) -> tuple[list[Path], np.ndarray]:
    """Paths and labels of a split, in order of class and name."""
    found = [
        (path, label) for label, name in enumerate(names) for path in sorted((split_folder(split) / name).iterdir())
    ]
    return [path for path, _ in found], np.array([label for _, label in found])


def split_folder(split: str) -> Path:
    """Of the emoji."""
    return SHARED / "datasets" / "emoji" / split


def ridge(features: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the least squares from features to one-hot labels, in closed form."""
    mean = features.mean(0)
    centred = features - mean
    wanted = np.eye(classes)[labels]
    gram = centred.T @ centred + strength * len(features) * np.eye(features.shape[1])
    kernel = np.linalg.solve(gram, centred.T @ (wanted - wanted.mean(0)))
    return kernel, wanted.mean(0) - mean @ kernel


def fitted(names: list[str]) -> keras.Model:
    """Lite0 with a classifier of the emoji's classes."""
    body = zoo.load(NAME, pretrained=True, num_classes=0, engine="openvino", precision="float32")
    paths, labels = pictures("train", names)
    features = np.concatenate(
        [body(zoo.preprocess(paths[start : start + 32], body.record)) for start in range(0, len(paths), 32)]
    ).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(paths))
    held, rest = order[: len(paths) // 5], order[len(paths) // 5 :]

    def right(strength: float) -> float:
        kernel, bias = ridge(features[rest], labels[rest], len(names), strength)
        return float(((features[held] @ kernel + bias).argmax(1) == labels[held]).mean())

    strength = max((10.0**power for power in range(-6, 2)), key=right)
    kernel, bias = ridge(features, labels, len(names), strength)
    model = zoo.load(NAME, pretrained=True, num_classes=len(names))
    values = zoo.variables(model)
    values["head.classifier.dense.kernel"].assign(10 * kernel)
    values["head.classifier.dense.bias"].assign(10 * bias)
    return model


def main() -> None:
    """Fit, export, answer, time, write."""
    if not split_folder("train").is_dir():
        raise SystemExit(f"no emoji in {SHARED}: set ZOO_SHARED.")
    names = sorted(path.name for path in split_folder("train").iterdir())
    model = fitted(names)
    with tempfile.TemporaryDirectory() as root:
        zoo.save(model, Path(root) / "emoji", {"classes": names, "license": "none"})
        model = zoo.load(Path(root) / "emoji")
        paths, labels = pictures("test", names)
        ablated = ablation(model, paths, labels)
        rows: list[dict[str, Any]] = []
        firsts: list[np.ndarray] = []
        jobs: list[tuple[str, Job]] = []
        for suffix in (".xml", ".tflite"):
            for stored in ("float32", "int8"):
                options = {"precision": "int8", "calibration": split_folder("train")} if stored == "int8" else {}
                file = zoo.export(model, Path(root) / f"{stored}{suffix}", **options)
                engine = zoo.load(file, precision="float32").name
                for precision in dict.fromkeys(["float32", engines.computes_in(engine, None)]):
                    row, first = answered(zoo.load(file, precision=precision), paths, labels)
                    label = f"{engine} {stored} {precision}"
                    rows.append({"label": label, "engine": engine, "weights": stored, "other layers": precision} | row)
                    firsts.append(first)
                    jobs.append((label, Job("zoo", NAME, "file", 224, precision, engine, ((224, str(file)),))))
        results = race(jobs, [(1, None), (16, None)], rounds=9, seconds=0.3, say=_say)
    for row, first in zip(rows, firsts, strict=True):
        row["same_first"] = float((first == firsts[0]).mean())
        for batch in (1, 16):
            own, plain = (
                next(one for one in results if (one.label, one.batch) == (each["label"], batch))
                for each in (row, rows[0])
            )
            row[f"ms_{batch}"], row[f"times_{batch}"] = own.median, list(speed_up(own, plain))
    found = {
        "machine": machine(report.LIBRARIES),
        "model": NAME,
        "classes": len(names),
        "pictures": len(labels),
        "rows": rows,
        "ablation": ablated,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


def ablation(model: keras.Model, paths: list[Path], labels: np.ndarray) -> list[dict[str, Any]]:
    """OpenVINO's int8 with depthwise convolutions in int8 or not, with NNCF's overflow fix or not."""
    import nncf
    import openvino

    spec, record = spec_of(model), zoo.record_of(model)
    samples = quantizing.pictures(split_folder("train"), spec, record).samples(None)
    pixels = [zoo.preprocess(paths[start : start + 32], record) for start in range(0, len(paths), 32)]
    exact = np.concatenate([model.predict_on_batch(batch) for batch in pixels])
    rows = []
    for depthwise in ("int8", "float"):
        for fix in ("on", "off"):
            quantized = nncf.quantize(
                openvino.convert_model(model, input=[-1, *spec.input]),
                nncf.Dataset(samples),
                subset_size=len(samples),
                ignored_scope=nncf.IgnoredScope(types=["GroupConvolution"]) if depthwise == "float" else None,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE if fix == "on" else nncf.OverflowFix.DISABLE
                ),
            )
            run = openvino.Core().compile_model(quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            logits = np.concatenate([run(batch)[0] for batch in pixels])
            rows.append(
                {
                    "depthwise": depthwise,
                    "overflow fix": fix,
                    "error": float(np.abs(logits - exact).mean() / np.abs(exact).max()),
                    "accuracy": float((logits.argmax(1) == labels).mean()),
                    "same_first": float((logits.argmax(1) == exact.argmax(1)).mean()),
                }
            )
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def answered(made: engines.Engine, paths: list[Path], labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Accuracy on the test pictures with its standard error, and what each was taken for."""
    logits = [made(zoo.preprocess(paths[start : start + 32], made.record)) for start in range(0, len(paths), 32)]
    first = np.concatenate(logits).argmax(1)
    share = float((first == labels).mean())
    return {"accuracy": share, "standard_error": (share * (1 - share) / len(labels)) ** 0.5}, first


if __name__ == "__main__":
    main()
