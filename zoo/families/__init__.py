"""One small file a family: the baseline table as in its paper, the variants by rule. No Keras here.

Each file ends in `GROUPS`: names with the function that makes their spec, and the dialects they are known in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypedDict

from scaling_rules.spec import Dialect, NetworkSpec


class Pixels(TypedDict):
    """Mean and standard deviation per channel, in units of a [0, 255] pixel: arguments of a NetworkSpec."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET: Pixels = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
"""Mean and standard deviation of ImageNet's pixels in [0, 255]: (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)."""

INCEPTION: Pixels = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
"""Pixels scaled to [-1, 1]."""

CIFAR: Pixels = {
    "mean": (125.3069178, 122.9503941, 113.8653831),
    "std": (62.9932193, 62.0887077, 66.7048994),
}
"""Of CIFAR-10's pixels: (.49139968, .48215827, .44653124), (.24703233, .24348505, .26158768) times 255."""

TENSORFLOW = Dialect("tensorflow", padding="same", epsilon=1e-3, momentum=0.99)
PYTORCH = Dialect("pytorch", padding="symmetric", epsilon=1e-5, momentum=0.9)

Make = Callable[[Dialect], NetworkSpec]


class Pattern(NamedTuple):
    """Names that resolve by pattern and are listed once.

    label: as printed, 'resnet-20-pool-A-B-C'. default: the member that is listed. regex: with one group a
    number. members: how many names fit. make: the numbers and a dialect to a spec; raises ZooError.
    """

    label: str
    default: str
    regex: str
    members: int
    make: Callable[[tuple[int, ...], Dialect], NetworkSpec]


class Group(NamedTuple):
    """Models that share dialects.

    models: name -> function from a dialect to the spec. dialects: by name, the default first.
    patterns: further names, too many to list.
    """

    models: dict[str, Make]
    dialects: dict[str, Dialect]
    patterns: tuple[Pattern, ...] = ()


def named(*dialects: Dialect) -> dict[str, Dialect]:
    """The dialects by their names."""
    return {dialect.name: dialect for dialect in dialects}


def pixels(dialect: Dialect, authors: Pixels) -> Pixels:
    """The normalisation of a family whose authors' differs from ImageNet's, which timm's own weights take."""
    return IMAGENET if dialect.name == "timm" else authors


def timm(dialect: Dialect = PYTORCH) -> Dialect:
    """A PyTorch dialect under timm's name."""
    return replace(dialect, name="timm")
