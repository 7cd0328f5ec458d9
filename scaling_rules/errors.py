"""The one error class of the project, and how a message names the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZooError(ValueError):
    """Bad input: the message is one line naming the value given and the valid ones."""


def nearest(value: str, choices: Iterable[str], count: int = 3) -> str:
    """Return ' Did you mean a, b?' for the choices closest to `value`, or '' when none is close."""
    close = difflib.get_close_matches(value.lower(), list(choices), n=count, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""


def unknown(kind: str, value: object, choices: Iterable[str]) -> ZooError:
    """Return the error for a `value` that is none of `choices`, e.g. kind 'rounding'."""
    valid = list(choices)
    return ZooError(f"unknown {kind} {value!r}; valid: {', '.join(valid)}.{nearest(str(value), valid)}")
