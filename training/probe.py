"""A classifier fitted to a network's features of pictures as they are: minutes instead of hours, and a first answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from scaling_rules.errors import ZooError
from training import checkpoint, pipeline, recipe, results
from training.job import Job, build
from training.measuring import measure
from training.strategy import backend_loop

STRENGTHS = tuple(10.0**power for power in range(-6, 1))
"""Of the penalty, strength / 2 * the sum of squared weights on features of unit variance; minival chooses."""


def probe(
    job: Job, folder: str | Path, *, data_dir: str | Path | None = None, command: str | None = None
) -> dict[str, Any]:
    """Fit logistic regression to pooled features; save, measure and tell as `run.train` does, with its files.

    Of the recipe only the resolution and how pictures are evaluated are used: nothing is augmented. The strength of the
    penalty is chosen on minival. Raises ZooError as `run.train` does, and for a network without pretrained weights.
    """
    if not job.pretrained:
        raise ZooError(f"a probe needs features that were learned: give pretrained weights of {job.model}.")
    folder = Path(folder).expanduser()
    if (before := results.earlier(folder, job, checkpoint.latest(folder / "checkpoints"))) is not None:
        return before
    start = time.perf_counter()
    sources = [results.source_of(job, part, data_dir) for part in ("train", "minival", "test")]
    train, minival, _ = sources
    model, preprocessing = build(job, len(train.classes), 1)
    body = zoo.load(job.model, job.pretrained, num_classes=0, input_shape=model.input_shape[1])
    answer = backend_loop().answer_of(body)
    with pipeline.told():
        (x, y), (x_minival, y_minival) = (
            _features(answer, pipeline.eval_batches(source, preprocessing, results.MINIVAL_BATCH))
            for source in (train, minival)
        )
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, x_minival = (x - mean) / scale, (x_minival - mean) / scale
    fits = {strength: fit(x, y, len(train.classes), strength) for strength in STRENGTHS}
    found = {
        strength: measure(lambda logits: logits, [(x_minival @ kernel + bias, y_minival)], len(train.classes)).told()
        for strength, (kernel, bias) in fits.items()
    }
    best = max(found, key=lambda strength: found[strength]["top1"])
    kernel, bias = fits[best]
    values = zoo.variables(model)
    values["head.classifier.dense.kernel"].assign(kernel / scale[:, None])
    values["head.classifier.dense.bias"].assign(bias - (mean / scale) @ kernel)
    results.write(folder / "recipe.yaml", recipe.dump(job.recipe))
    result = results.finished(
        job,
        model,
        folder,
        preprocessing,
        sources,
        {"raw": found[best]},
        "raw",
        command,
        data_dir,
    )
    result |= {"strength": best, "steps": 0, "seconds": round(time.perf_counter() - start, 1)}
    results.write(folder / "result.json", json.dumps(result, indent=1) + "\n")
    return result


def _features(answer: Any, batches: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = [(np.asarray(answer(images), np.float64), labels.numpy()) for images, labels, _ in batches]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def fit(x: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias (classes,) of multinomial logistic regression, by L-BFGS.

    x: float64 (n, features); labels: int (n,). The mean cross-entropy plus strength / 2 * sum(kernel ** 2) is least.
    """
    from scipy.optimize import minimize

    count, width = x.shape
    wanted = np.eye(classes)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        logits = x @ kernel + bias
        logits -= logits.max(1, keepdims=True)
        odds = np.exp(logits)
        sums = odds.sum(1, keepdims=True)
        value = float((np.log(sums[:, 0]) - (logits * wanted).sum(1)).mean() + strength / 2 * (kernel**2).sum())
        error = (odds / sums - wanted) / count
        gradient = np.concatenate([(x.T @ error + strength * kernel).ravel(), error.sum(0)])
        return value, gradient

    flat = minimize(loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return flat[: width * classes].reshape(width, classes), flat[width * classes :]
