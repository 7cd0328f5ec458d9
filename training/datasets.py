"""What data there is: the parts of a data set as sources of encoded pictures, in an order that a seed fixes.

By name from TensorFlow Datasets, or a folder of pictures. Nothing is decoded here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from bisect import bisect, insort
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from scaling_rules.errors import ZooError, nearest, shown, unknown
from training import folders
from weights import cache

log = logging.getLogger("zoo")

NAMES = (
    "imagenet2012 cifar10 cifar100 oxford_flowers102 food101 oxford_iiit_pet cars196 openmoji".split()  # noqa: SIM905
)
"""The data sets that recipes and tables know; any other of TFDS with an image and a label is taken too."""

TRAINING = {"oxford_flowers102": ("train", "validation")}
"""What one trains on, where it is not 'train': 2,040 pictures of Flowers, as in EfficientNet's Table 6."""

SHUFFLED_BYTES = 2**29
"""Of encoded pictures that are shuffled among each other when they come as a stream. The files come shuffled too."""

Read = Callable[[tf.Tensor | None, tf.Tensor | int], tf.data.Dataset]


@dataclass(frozen=True)
class Source:
    """One part of a data set: `count` pictures, their labels and where they lie.

    name: the data set. split: the part. classes: names, in the order of the labels. stored(epoch, start): the pictures
    of an epoch, or in order for None, from place `start` on, as (what is stored, label int64, number int64). A number
    belongs to a picture for ever; name_of(number) is what a person calls it. are_files: what is stored is a path and
    not the bytes of a picture.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    count: int
    stored: Read
    name_of: Callable[[int], str]
    are_files: bool

    def examples(self, epoch: int | None = None) -> tf.data.Dataset:
        """All pictures once, as (bytes of the encoded picture, label int64, number int64).

        In order for None, else shuffled by the source's seed and `epoch`: the same each time.
        """
        data = self.stored(None, 0) if epoch is None else self.epochs(epoch).take(self.count)
        data = data if epoch is None else data.map(lambda epoch, *example: example)
        return data.map(lambda x, *rest: (tf.io.read_file(x), *rest)) if self.are_files else data

    def epochs(self, epoch: int, start: int = 0) -> tf.data.Dataset:
        """Epoch after epoch without end, from place `start` of one of them: (epoch, what is stored, label, number)."""

        @tf.autograph.experimental.do_not_convert
        def one(now: tf.Tensor) -> tf.data.Dataset:
            # Or the order would depend on tf.random.set_seed as well.
            tf.compat.v1.get_default_graph().seed = None
            data = self.stored(now, tf.where(now == epoch, tf.constant(start, tf.int64), 0))
            return data.map(lambda *example: (now, *example))

        return tf.data.Dataset.range(epoch, np.iinfo(np.int64).max).flat_map(one)


def open_source(
    name_or_folder: str | Path,
    split: str,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    few: int | None = None,
    fold: str | None = None,
) -> Source:
    """A part of a data set: 'train', 'minival', or what it has for testing ('validation', 'test').

    By a name of TFDS (`NAMES`), prepared under data_dir (TFDS' own default) when it is not there yet, or a folder, as
    `folders.read` says. What is chosen while training is chosen on minival, which no training and no test picture is
    in. It is the data set's own, else a tenth of its training pictures, at most 10,000, by a hash that does not change.
    fold: 'i/k', i from 1: minival is the i-th of k parts of the training pictures instead. few: so many training
    pictures of each class, chosen by `seed`, which also fixes the order of each epoch.

    Raises ZooError, one line with what is valid: a data set or part that does not exist or cannot be prepared, a folder
    that `folders.read` refuses, pictures of several labels, a malformed fold, nothing left.
    """
    part = _fold(fold)
    if few is not None and few < 1:
        raise ZooError(f"few must be a number of pictures a class, at least 1, not {few}.")
    if not 0 <= seed < 2**31:
        raise ZooError(f"a seed lies in 0 to {2**31 - 1}, not {seed}.")
    name, path = str(name_or_folder), Path(name_or_folder).expanduser()
    by_name = _is_name(name_or_folder)
    source = _tfds(name, split, data_dir, seed, part) if by_name else _folder(path, split, seed, part)
    if not source.count:
        raise ZooError(f"{source.name} has no pictures in {split}{f' of fold {fold}' if fold else ''}.")
    return _few(source, few, seed) if few and split == "train" else source


def evaluation_split(name_or_folder: str | Path, data_dir: str | Path | None = None) -> str:
    """The part that results are stated on: 'validation' where there is one that nothing trains on, else 'test'.

    Of a folder that is classes alone it is 'test' too. Raises ZooError as `open_source`, and where there is neither.
    """
    name = str(name_or_folder)
    if _is_name(name_or_folder):
        parts = set(prepared(name, data_dir).info.splits) - {*TRAINING.get(name, ())}
    else:
        parts = set(folders.parts_of(Path(name_or_folder).expanduser())) or {"test"}
    for split in ("validation", "test"):
        if split in parts:
            return split
    raise ZooError(f"{name} has neither validation nor test, it has: {', '.join(sorted(parts))}.")


def _is_name(name_or_folder: str | Path) -> bool:
    path = Path(name_or_folder).expanduser()
    return str(name_or_folder) in NAMES or not (path.is_dir() or len(path.parts) > 1 or path.is_absolute())


def _fold(fold: str | None) -> tuple[int, int] | None:
    if fold is None:
        return None
    match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", fold)
    if not match or int(match[2]) < 2 or not 1 <= int(match[1]) <= int(match[2]):
        raise ZooError(f"fold must be i/k, as in 2/5, with i from 1 to k and k at least 2, not {shown(fold)!r}.")
    return int(match[1]), int(match[2])


def halves(source: Source, seed: int) -> tuple[Source, Source]:
    """The pictures of a source in two parts, of each class half in either, by a hash that does not change.

    Of an odd number the first part has one more. seed: of the order of each epoch. Pictures that are not files are kept
    in memory. Raises ZooError for a class of a single picture.
    """
    ranked = _ranked(source, "halves")
    for name, found in zip(source.classes, ranked, strict=True):
        if len(found) == 1:
            raise ZooError(f"{source.name} has a single picture of {name} to train on; two parts need two.")
    first = [found[: (len(found) + 1) // 2] for found in ranked]
    second = [found[(len(found) + 1) // 2 :] for found in ranked]
    return _chosen(source, first, seed), _chosen(source, second, seed)


def _few(source: Source, few: int, seed: int) -> Source:
    """Of each class the pictures whose hash with the seed is lowest; kept in memory, if they are not files."""
    return _chosen(source, _ranked(source, str(seed), few), seed)


Ranked = list[tuple[bytes, int, Any]]
"""Pictures of a class, as (hash, number, what is stored), the lowest hash first."""


def _ranked(source: Source, purpose: str, most: int | None = None) -> list[Ranked]:
    """The pictures of each class by their hash with `purpose`; the first `most` of them."""
    best: list[Ranked] = [[] for _ in source.classes]
    for stored, label, number in source.stored(None, 0).as_numpy_iterator():
        rank = hashlib.sha256(f"{purpose}/{number}".encode()).digest()
        own = best[_checked(source, int(label), int(number))]
        insort(own, (rank, int(number), stored))
        if most is not None:
            del own[most:]
    return best


def _chosen(source: Source, ranked: list[Ranked], seed: int) -> Source:
    chosen = sorted((number, label, stored) for label, found in enumerate(ranked) for _, number, stored in found)
    numbers, labels, pictures = zip(*chosen, strict=True)
    read = _indexed(list(pictures), np.array(labels), np.array(numbers), seed)
    return dataclasses.replace(source, count=len(chosen), stored=read)


def _checked(source: Source, label: int, number: int) -> int:
    if not 0 <= label < len(source.classes):
        raise ZooError(
            f"{source.name} {source.split}: {source.name_of(number)} has label {label}; "
            f"there are {len(source.classes)} classes, from 0."
        )
    return label


def _indexed(pictures: list[Any], labels: np.ndarray, numbers: np.ndarray, seed: int) -> Read:
    """Pictures (paths or bytes) that can be reached in any order: an epoch is a permutation."""
    kept = tf.constant(pictures), tf.constant(labels, tf.int64), tf.constant(numbers, tf.int64)

    def read(epoch: tf.Tensor | None, start: tf.Tensor | int) -> tf.data.Dataset:
        places = tf.range(len(pictures), dtype=tf.int64)
        if epoch is not None:
            key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
            places = tf.random.experimental.stateless_shuffle(places, key, alg="philox")
        return tf.data.Dataset.from_tensor_slices(tuple(tf.gather(values, places[start:]) for values in kept))

    return read


def _folder(root: Path, split: str, seed: int, fold: tuple[int, int] | None) -> Source:
    index = folders.read(root, split, fold)
    numbers = np.arange(len(index.paths))
    return Source(
        name=str(root),
        split=split,
        classes=index.classes,
        count=len(index.paths),
        stored=_indexed(list(index.paths), index.labels, numbers, seed),
        name_of=lambda number: index.paths[number],
        are_files=True,
    )


def _tfds(name: str, split: str, data_dir: str | Path | None, seed: int, fold: tuple[int, int] | None) -> Source:
    builder = prepared(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    if "image" not in features or "label" not in features or not hasattr(features["label"], "names"):
        raise ZooError(f"{name} has no image with one label; it has: {', '.join(features)}.")
    selection = _selection(builder, name, split, fold)
    # Where each file's records begin in the numbers of all splits.
    files = [
        (file, count) for s in splits for file, count in zip(splits[s].filenames, splits[s].shard_lengths, strict=True)
    ]
    names = [file for file, _ in files]
    begins = np.concatenate([[0], np.cumsum([count for _, count in files])[:-1]]).astype(np.int64)
    info = splits[selection]
    size = sum(splits[s].num_bytes for s in splits) / max(1, sum(splits[s].num_examples for s in splits))
    buffer = max(1, min(info.num_examples, int(SHUFFLED_BYTES / max(size, 1))))
    begin_of = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(names, begins), -1)

    def numbered(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        file, place = tf.unstack(tf.strings.split(example["tfds_id"], "__")[-2:], num=2)
        number = begin_of.lookup(file) + tf.strings.to_number(place, tf.int64)
        return example["image"], tf.cast(example["label"], tf.int64), number

    def read(epoch: tf.Tensor | None, start: tf.Tensor | int) -> tf.data.Dataset:
        key = None if epoch is None else tf.cast(epoch, tf.int64) + (seed << 31)
        data = _records(builder, selection, key).map(numbered)
        if key is not None:
            data = data.shuffle(buffer, seed=key, reshuffle_each_iteration=False)
        return data.skip(start)

    def name_of(number: int) -> str:
        file = bisect(begins, number) - 1
        return f"record {number - begins[file]} of {names[file]}"

    return Source(name, split, tuple(features["label"].names), info.num_examples, read, name_of, are_files=False)


def _selection(builder: Any, name: str, split: str, fold: tuple[int, int] | None) -> str:
    """A part of a data set in TFDS' language, such as 'train[10%:]'."""
    splits = builder.info.splits
    training = [s for s in TRAINING.get(name, ("train",)) if s in splits]
    own = "minival" in splits
    valid = [*(["train", "minival"] if training else []), *sorted(set(splits) - {*training, "minival"})]
    if split not in valid:
        raise unknown(f"split of {name}", split, valid)
    if split not in ("train", "minival") or (own and fold is None):
        return split
    if own:
        raise ZooError(f"{name} has a minival of its own, which keeps what is alike together: no folds of it.")
    if builder.info.disable_shuffling:
        raise ZooError(f"{name} is stored in order and has no minival: a share of it would be its first classes.")
    chosen = []
    for part in training:
        # TFDS orders records by a hash of their names when it writes them, so a slice is a share by a stable hash.
        count = splits[part].num_examples
        low, high = (0, min(count // 10, 10_000))
        if fold is not None:
            low, high = count * (fold[0] - 1) // fold[1], count * fold[0] // fold[1]
        slices = [(low, high)] if split == "minival" else [(0, low), (high, count)]
        chosen += [f"{part}[{a}:{b}]" for a, b in slices if a < b]
    return "+".join(chosen)


def _records(builder: Any, selection: str, key: tf.Tensor | None) -> tf.data.Dataset:
    """The records of TFDS, pictures still encoded: in order, or the files shuffled by `key`."""
    import tensorflow_datasets as tfds

    options = tfds.ReadConfig(
        add_tfds_id=True,
        shuffle_seed=key,
        shuffle_reshuffle_each_iteration=False,
        try_autocache=False,
        skip_prefetch=True,
        interleave_cycle_length=1 if key is None else 16,
        num_parallel_calls_for_interleave_files=1 if key is None else 2,
        num_parallel_calls_for_decode=2,
    )
    decoders = tfds.decode.PartialDecoding(
        {"image": True, "label": True}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return builder.as_dataset(split=selection, shuffle_files=key is not None, decoders=decoders, read_config=options)


def prepared(name: str, data_dir: str | Path | None) -> Any:
    """The data set, prepared. Two processes do not prepare it at once."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ZooError("data sets by name need TensorFlow Datasets: pip install 'zoo[data]'.") from None
    if name == "openmoji":
        from training import openmoji

        openmoji.require()
    try:
        builder = tfds.builder(name, data_dir=None if data_dir is None else str(data_dir))
    except tfds.core.DatasetNotFoundError:
        known = f"{', '.join(NAMES)}, others of tensorflow_datasets, or a folder of pictures"
        raise ZooError(f"no data set or folder {shown(name)!r}; valid: {known}.{nearest(name, NAMES)}") from None
    with cache.lock(cache.cache_dir(), f"dataset-{builder.name}"):
        try:
            builder.download_and_prepare()
        except Exception as error:
            reason = shown(error, 300) or type(error).__name__
            raise ZooError(f"{name} is not in {builder.data_dir} and cannot be prepared: {reason}") from error
    return builder
