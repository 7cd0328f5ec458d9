"""Batches: decoded, augmented, mixed, on this process's share of each; from any step on, with no state but the step.

Epochs follow each other without a gap: a batch that an epoch cannot fill goes on into the next one, so all batches are
full and an epoch has count / batch steps, which need not be whole. The picture at place p of this endless row is in
batch p // batch. What happens to it depends on the seed, its epoch and its number alone.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from scaling_rules.errors import ZooError
from training import augment, mixing
from training.data import decode_bytes, eval_transform
from training.datasets import Source
from training.recipe import Recipe

log = logging.getLogger("zoo")

Tell = Callable[[np.ndarray, np.ndarray, np.ndarray], np.int64]
"""(numbers, labels, whether each could be read) of a batch with something wrong -> 0, or ZooError."""

Attempt = Callable[[Callable[[tf.Tensor], tf.Tensor], tf.Tensor, tuple[int, int, int]], tuple[tf.Tensor, tf.Tensor]]
"""(prepare, what is stored of a picture, shape) -> (the picture, whether it could be read)."""


def train_batches(
    source: Source,
    recipe: Recipe,
    size: int,
    *,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    unreadable: float = 0.01,
    skipped: list[str] | None = None,
    deterministic: bool = True,
    guarded: bool = True,
) -> Callable[[int], tf.data.Dataset]:
    """batches(step): from that step on, without end, (images, labels), the same whenever it is asked for.

    images: float32 (batch / n, size, size, 3) in [0, 255]; labels: float32 (batch / n, classes), one-hot, then smoothed
    by the recipe, then mixed. A step takes recipe.batch pictures over all n processes.
    shard (i, n): process i has rows i * batch / n to (i + 1) * batch / n of the batch that a single process would make,
    bit for bit; but mixup and cutmix mix within the rows of a process.

    A picture that cannot be read or decoded is replaced by the next good one of its process's batch. Its name is logged
    and appended to `skipped`. `unreadable`: the share of the source's pictures that may be so.
    deterministic=False: pictures may come in another order, when that is faster. guarded=False: the same batches for
    half the work, but one with such a picture raises tf.errors.OpError: `steady` joins the two.

    Raises ZooError for a batch that n does not divide. The data set raises the errors that `told` makes a ZooError of:
    too many unreadable pictures, naming the first; a batch without a readable one; a label out of range.
    """
    batch = recipe.batch
    index, processes = shard
    if not 0 <= index < processes:
        raise ZooError(f"shard must be (i, n) with 0 <= i < n, not {shard}.")
    if batch % processes:
        raise ZooError(f"a batch of {batch} cannot be split over {processes} processes; it must be a multiple.")
    rows = batch // processes
    prepare = augment.make(recipe.augment, size, recipe.interpolation, recipe.antialias)
    tell = _teller(source, unreadable, [] if skipped is None else skipped)
    attempt = _attempt if guarded else _trust
    augment_seed, mix_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(2) >> 1)

    def read(epoch: tf.Tensor, stored: tf.Tensor, label: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        of_epoch = tf.stack([augment_seed, tf.cast(epoch, tf.int32)])
        key = tf.random.experimental.stateless_fold_in(of_epoch, tf.cast(number, tf.int32), alg="philox")
        image, good = attempt(lambda stored: prepare(_bytes(source, stored), key), stored, (size, size, 3))
        return image, label, number, good

    def finish(step: tf.Tensor, row: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels, numbers, good = row
        images, labels = _mended(images, labels, numbers, good, len(source.classes), tell)
        hot = tf.one_hot(labels, len(source.classes))
        hot = (1.0 - recipe.label_smoothing) * hot + recipe.label_smoothing / len(source.classes)
        return mixing.mix(images, hot, tf.stack([mix_seed, tf.cast(step, tf.int32)]), recipe.augment)

    def batches(step: int) -> tf.data.Dataset:
        data = source.epochs(*divmod(step * batch, source.count))
        if processes > 1:
            data = data.enumerate().filter(lambda place, _: place % batch // rows == index).map(lambda _, one: one)
        data = data.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        data = data.batch(rows, drop_remainder=True)
        data = tf.data.Dataset.zip(tf.data.Dataset.counter(step), data).map(finish)
        options = tf.data.Options()
        options.deterministic = deterministic
        # Each process has its own rows already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return data.with_options(options).prefetch(2)

    return batches


def eval_batches(
    source: Source, preprocessing: dict[str, Any], batch: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """All pictures in order: (images float32 (n, crop, crop, 3) in [0, 255], labels int64 (n,), numbers int64 (n,)).

    n is `batch`, in the last one what is left. shard (i, k): only every k-th picture, from the i-th on.
    preprocessing: a weight record's, as `data.eval_transform` takes it.

    Raises ZooError when it is invalid. Iterating raises, for `told`, what cannot be read or has no valid label: an
    accuracy over part of the pictures would be another number.
    """
    transform = eval_transform(preprocessing)
    shape = (preprocessing["crop"], preprocessing["crop"], 3)
    tell = _teller(source, 0.0, [])
    index, processes = shard

    def made(step: int, attempt: Attempt) -> tf.data.Dataset:
        def read(stored: tf.Tensor, label: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image, good = attempt(lambda stored: transform(decode_bytes(_bytes(source, stored))), stored, shape)
            return image, label, number, good

        def finish(images: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor, good: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return *_mended(images, labels, numbers, good, len(source.classes), tell), numbers

        data = source.stored(None, 0).shard(processes, index).skip(step * batch)
        return data.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).map(finish).prefetch(2)

    return steady(lambda step: made(step, _trust), lambda step: made(step, _attempt))


def steady(
    quick: Callable[[int], Iterable[Any]], guarded: Callable[[int], Iterable[Any]], start: int = 0
) -> Iterator[Any]:
    """The batches quick(start); where one cannot be had, guarded(its step) and all after it.

    A guard around each picture takes 2 ms of a core, more than decoding one of ImageNet's; most data sets have none
    that needs it.
    """
    step = start
    try:
        for batch in quick(step):
            yield batch
            step += 1
    except tf.errors.OpError:
        yield from guarded(step)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Inside this block an error of the data sets above is a ZooError of one line, as it was before tf.data had it."""
    try:
        yield
    except tf.errors.OpError as error:
        message = re.search(r"ZooError: (.*)", str(error.message))
        if not message:
            raise
        raise ZooError(message[1]) from None


def _bytes(source: Source, stored: tf.Tensor) -> tf.Tensor:
    return tf.io.read_file(stored) if source.are_files else stored


def _attempt(
    prepare: Callable[[tf.Tensor], tf.Tensor], stored: tf.Tensor, shape: tuple[int, int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """(prepare(stored), True), or (zeros, False) where that fails.

    Graphs have no try, but a data set can leave out what failed: here one of a single picture. Around the whole
    pipeline it would hide the errors of all that comes before.
    """
    done = tf.data.Dataset.from_tensors(stored).map(lambda stored: (prepare(stored), True)).ignore_errors()
    failed = tf.data.Dataset.from_tensors((tf.zeros((1, 1, 3)), False))
    image, good = done.concatenate(failed).take(1).get_single_element()
    return tf.ensure_shape(tf.cond(good, lambda: image, lambda: tf.zeros(shape)), shape), good


def _trust(
    prepare: Callable[[tf.Tensor], tf.Tensor], stored: tf.Tensor, shape: tuple[int, int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """(prepare(stored), True), and the error where that fails."""
    return tf.ensure_shape(prepare(stored), shape), tf.constant(True)


def _mended(
    images: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor, good: tf.Tensor, classes: int, tell: Tell
) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch with each unreadable picture replaced by the next good one, the first after the last."""

    def mended() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.control_dependencies([tf.numpy_function(tell, [numbers, labels, good], tf.int64)]):
            places = tf.range(tf.size(good))
            readable = tf.boolean_mask(places, good)
            taken = tf.gather(readable, tf.searchsorted(readable, places) % tf.size(readable))
            return tf.gather(images, taken), tf.gather(labels, taken)

    fine = tf.reduce_all(good & (labels >= 0) & (labels < classes))
    return tf.cond(fine, lambda: (images, labels), mended)


def _teller(source: Source, share: float, skipped: list[str]) -> Tell:
    lock = threading.Lock()

    def tell(numbers: np.ndarray, labels: np.ndarray, good: np.ndarray) -> np.int64:
        for number, label in zip(numbers, labels, strict=True):
            if not 0 <= label < len(source.classes):
                raise ZooError(
                    f"{source.name_of(int(number))} has label {label}; {source.name} has "
                    f"{len(source.classes)} classes, from 0."
                )
        with lock:
            for number in numbers[~good]:
                name = source.name_of(int(number))
                if name not in skipped:
                    skipped.append(name)
                    log.warning("zoo: cannot read %s; another picture takes its place.", name)
            if len(skipped) > share * source.count:
                raise ZooError(
                    f"cannot read {len(skipped)} of the {source.count} pictures of {source.name} {source.split}, more "
                    f"than the share of {share:g} that may be skipped; the first is {skipped[0]}."
                )
        if not good.any():
            raise ZooError(f"no picture of a batch can be read, such as {source.name_of(int(numbers[0]))}.")
        return np.int64(0)

    return tell
