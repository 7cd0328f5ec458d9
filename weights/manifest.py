"""The records of published weights, `manifest.json`: one record a tag, by model name, the default tag first."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from scaling_rules.errors import unknown

Record = dict[str, Any]
"""A record's fields:

dialect: which of the model's dialects the weights were trained in.
layout: how the file names its tensors (weights.convert.layouts). sources: where it is, tried in order; none where
    no weights are published. sha256, bytes: of the file. tensors_sha256: of the converted tensors (weights.store).
license, data_note: of the weights, apart from this code's licence, and what they were trained on.
preprocessing: resize (short side), crop (pixels), interpolation, mean and std (of pixels in [0, 255]).
classes: name of the class list. params, macs: of the network at that crop.
claimed: results a source states (dataset, metric, value, source). measured: results a command here printed.
recipe: file in training/recipes that trains such weights, or null. note: anything else a user must know.
"""


@functools.cache
def _manifest() -> dict[str, dict[str, Record]]:
    return json.loads((Path(__file__).parent / "manifest.json").read_text(encoding="utf-8"))["records"]


def models() -> tuple[str, ...]:
    """Names of the models that have a record."""
    return tuple(_manifest())


def tags(name: str) -> tuple[str, ...]:
    """Tags of the model `name`, the default first; () for a model without records."""
    return tuple(_manifest().get(name, ()))


def record(name: str, tag: str | None = None) -> Record:
    """The record of a tag, or of the default one. Raises ZooError, naming the tags there are, for another."""
    known = _manifest().get(name, {})
    if tag is None and known:
        tag = next(iter(known))
    if tag not in known:
        raise unknown(f"tag of {name}", tag, known or ("none: no weights are known for it",))
    return {"name": name, "tag": tag, **known[tag]}
