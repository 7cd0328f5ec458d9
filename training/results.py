"""What a run leaves: the network with its record, measured once on the test pictures, and result.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import zoo
from scaling_rules.errors import ZooError, shown
from training import checkpoint, datasets, evaluation, progress
from training.job import Job
from weights import files
from zoo.inspection import spec_of

MINIVAL_BATCH = 64


def earlier(folder: Path, job: Job, state: checkpoint.State | None) -> dict[str, Any] | None:
    """The result of a folder, if this job ended there. Raises ZooError where another job's files, or state, are."""
    result: dict[str, Any] | None = None
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    theirs = result["job"] if result else state.told["job"] if state else None
    if theirs is not None:
        require_same(folder, theirs, job.told(), "choose another --work_dir, or --noresume to begin anew")
    return result


def require_same(folder: Path, theirs: dict[str, Any], ours: dict[str, Any], remedy: str) -> None:
    """Raise ZooError, which ends in the remedy, where what a folder's run was told differs from ours."""
    for key, own in _flat(ours).items():
        if (old := _flat(theirs).get(key)) != own:
            raise ZooError(f"{shown(folder)} holds a run whose {key} is {old!r}, not {own!r}; {remedy}.")


def _flat(told: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in told.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def cleared(folder: Path) -> None:
    """Remove what an earlier run left in a folder."""
    for path in (*folder.glob("checkpoints/**/step-*.safetensors"), folder / "result.json", folder / "log.csv"):
        path.unlink(missing_ok=True)


def source_of(job: Job, part: str, data_dir: str | Path | None) -> datasets.Source:
    """The 'train', 'minival' or 'test' pictures of a job."""
    if part == "test":
        part = datasets.evaluation_split(job.dataset, data_dir)
        return datasets.open_source(job.dataset, part, data_dir=data_dir)
    return datasets.open_source(job.dataset, part, data_dir=data_dir, seed=job.seed, few=job.few, fold=job.fold)


def finished(
    job: Job,
    model: keras.Model,
    folder: Path,
    preprocessing: dict[str, Any],
    sources: Sequence[datasets.Source],
    minival: dict[str, dict[str, Any]],
    chosen: str,
    command: str | None,
    data_dir: str | Path | None,
) -> dict[str, Any]:
    """Save the model into folder/model, read it again, measure it on the test pictures, draw the curves.

    sources: train, minival, test. minival: what each candidate reached there, `chosen` the one that the model now is.
    Returns what result.json says but for the time and the steps.
    """
    command = command or f"{job.model} on {job.dataset}, in Python"
    _save(job, model, folder, preprocessing, sources[0].classes)
    split = sources[2].split
    tested = evaluation.evaluate(str(folder / "model"), job.dataset, split=split, data_dir=data_dir)
    evaluation.write(tested, command)
    progress.curves(folder)
    cost = zoo.cost(spec_of(model))
    return {
        "job": job.told(),
        "command": command,
        "date": f"{date.today():%Y-%m-%d}",
        "pictures": {source.split: source.count for source in sources},
        "macs": cost.macs,
        "params": cost.params,
        "minival": minival,
        "chosen": chosen,
        "test": {"split": split, **tested.told()["measured"]},
        "machine": _machine(),
    }


def _save(job: Job, model: keras.Model, folder: Path, preprocessing: dict[str, Any], classes: tuple[str, ...]) -> None:
    name = Path(job.dataset).name
    record = {
        "preprocessing": {key: preprocessing[key] for key in ("resize", "crop", "interpolation")},
        "classes": list(classes),
        "recipe": str(folder / "recipe.yaml"),
        "measured": [],
        "claimed": [],
        "data_note": f"Trained on {name}, at {model.input_shape[1]} pixels, seed {job.seed}.",
        "datasets": [name],
    }
    zoo.save(model, folder / "model", record)


def threads() -> int:
    """Of an operation of TensorFlow."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


def _machine() -> dict[str, Any]:
    devices = [device.name for device in tf.config.list_logical_devices() if device.device_type != "CPU"]
    return {
        "devices": devices or [f"{threads()} threads of {platform.processor() or platform.machine()}"],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def write(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    try:
        with files.atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror}.") from None
