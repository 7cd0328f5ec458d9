"""The state of a run in one file: written whole or not at all, checked when it is read, the last good one resumed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scaling_rules.errors import ZooError, shown
from weights import files, store

log = logging.getLogger("zoo")

KEPT = 2
"""Checkpoints that stay: the last, and the one before should the last be damaged."""


class State(NamedTuple):
    """Of a run after `step` steps. arrays: by name, of any dtype. told: what JSON holds (seed, recipe, threads ...)."""

    step: int
    arrays: dict[str, np.ndarray]
    told: dict[str, Any]


def save(folder: Path, state: State) -> Path:
    """Write a state as step-N.safetensors and remove all but the last KEPT; return where it is.

    Raises ZooError where it cannot be written; the checkpoints that are there stay.
    """
    path = folder / f"step-{state.step:09d}.safetensors"
    arrays = {name: np.asarray(array, order="C") for name, array in state.arrays.items()}
    told = json.dumps({"step": state.step, "told": state.told, "sha256": store.digest(arrays)})
    try:
        with files.atomic(path) as temporary:
            save_file(arrays, temporary, {"run": told})
        for old in _found(folder)[:-KEPT]:
            old.unlink()
    except (OSError, SafetensorError) as error:
        raise ZooError(f"cannot write the checkpoint {path}: {shown(error, 200)}") from None
    return path


def latest(folder: Path) -> State | None:
    """The state of the last checkpoint that is whole, None where there is none; a damaged one is warned of."""
    for path in reversed(_found(folder)):
        try:
            return read(path)
        except ZooError as error:
            log.warning("zoo: %s The one before is taken.", error)
    return None


def read(path: Path) -> State:
    """The state in a file. Raises ZooError for one that is missing, cut short or changed."""
    try:
        with safe_open(path, "np") as file:
            told = json.loads((file.metadata() or {})["run"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if store.digest(arrays) != told["sha256"]:
            raise ValueError("its arrays are not those that were written")
        return State(told["step"], arrays, told["told"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"the checkpoint {path} is damaged: {shown(error, 200)}.") from None


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
