"""The one error class of the project, and how a message names the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LENGTH = 2000
"""Of a message. Longer ones hold something from a stranger's file, and lose their middle."""


def shown(text: object, most: int = 80) -> str:
    """A text from anywhere as one printable line of at most `most` characters, for a terminal."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text))
    line = " ".join(line.split()) if line != text else line
    return line if len(line) <= most else f"{line[: most // 2 - 2]} ... {line[len(line) + 3 - most // 2 :]}"


class ZooError(ValueError):
    """Bad input: the message is one printable line naming the value given and the valid ones."""

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, MAX_LENGTH))


def nearest(value: str, choices: Iterable[str], count: int = 3) -> str:
    """Return ' Did you mean a, b?' for the choices closest to `value`, or '' when none is close."""
    close = difflib.get_close_matches(value[:80].lower(), list(choices), n=count, cutoff=0.5)
    return f" Did you mean {', '.join(close)}?" if close else ""


def unknown(kind: str, value: object, choices: Iterable[str]) -> ZooError:
    """Return the error for a `value` that is none of `choices`, e.g. kind 'rounding'."""
    valid = list(choices)
    return ZooError(f"unknown {kind} {value!r:.80}; valid: {', '.join(valid)}.{nearest(str(value), valid)}")
