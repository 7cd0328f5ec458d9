"""Accuracy: of logits against labels, with its interval, whatever made the logits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling_rules.errors import ZooError

Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""


@dataclass
class Measured:
    """What came out over `count` pictures that have a label: how many were right at first and among the first five.

    loss: mean cross-entropy in nats, nan for pictures of several labels. top1, top5: percent. right and pictures: by
    class, int64 (classes,).
    """

    classes: int
    count: int = 0
    right1: int = 0
    right5: int = 0
    entropy: float = 0.0
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    pictures: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.entropy / self.count

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.right1 / self.count

    @property
    def top5(self) -> float:
        """Percent."""
        return 100 * self.right5 / self.count

    def __add__(self, other: Measured) -> Measured:
        """Both together."""
        pairs = [(getattr(self, each.name), getattr(other, each.name)) for each in dataclasses.fields(self)]
        return Measured(self.classes, *(one + two for one, two in pairs[1:]))

    def as_json(self) -> dict[str, Any]:
        """All of it, for `from_json`."""
        return dataclasses.asdict(self) | {"right": self.right.tolist(), "pictures": self.pictures.tolist()}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Measured:
        """What `as_json` gave."""
        return cls(**told | {key: np.array(told[key], np.int64) for key in ("right", "pictures")})

    def told(self) -> dict[str, Any]:
        """As JSON: accuracies in percent with their intervals; top-5 where there are more than five classes."""
        found: dict[str, Any] = {"count": self.count, "loss": self.loss, "top1": self.top1}
        found["top1_interval"] = list(interval(self.right1, self.count))
        if self.classes > 5:
            found |= {"top5": self.top5, "top5_interval": list(interval(self.right5, self.count))}
        return found


def interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share in percent, by Wilson's score (1927): it holds at 0 % and 100 %, too."""
    share, square = right / count, Z * Z / count
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def measure(answer: Callable[[Any], Any], batches: Iterable[Any], classes: int) -> Measured:
    """Give every picture to `answer` (images -> logits (n, classes)) and count.

    batches: (images, labels, ...) with labels int64 (n,), or bool (n, classes) where several are right (ReaL); pictures
    without any are left out. Of equal logits a wrong class comes first, so that a model which says the same for all
    is never right. Raises ZooError where there is nothing to count, and for logits that are not finite.
    """
    found = counted(answer, batches, classes)
    if not found.count:
        raise ZooError("there is no picture with a label to measure on.")
    return found


def counted(answer: Callable[[Any], Any], batches: Iterable[Any], classes: int) -> Measured:
    """`measure` of what may be nothing: the share of one process."""
    found = Measured(classes, right=np.zeros(classes, np.int64), pictures=np.zeros(classes, np.int64))
    for images, labels, *_ in batches:
        logits, labels = np.asarray(answer(images), np.float64), np.asarray(labels)
        several = labels.ndim == 2
        if several:
            kept = labels.any(1)
            logits, labels = logits[kept], labels[kept]
        if not np.isfinite(logits).all():
            raise ZooError(f"logits of picture {found.count} and after are not finite numbers.")
        if not len(labels):
            continue
        true = labels if several else np.eye(classes, dtype=bool)[labels]
        best = np.where(true, logits, -np.inf).max(1)
        above = ((logits >= best[:, None]) & ~true).sum(1)
        found.count += len(labels)
        found.right1 += int((above == 0).sum())
        found.right5 += int((above < 5).sum())
        if several:
            found.entropy = math.nan
        else:
            largest = logits.max(1)
            found.entropy += float((largest + np.log(np.exp(logits - largest[:, None]).sum(1)) - best).sum())
            found.pictures += np.bincount(labels, minlength=classes)
            found.right += np.bincount(labels[above == 0], minlength=classes)
    return found
