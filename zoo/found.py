"""Networks that a rule or a search found, as files that are names: 'found/small.json', or 'small' in `folder()`.

A file may also be a spec alone, what `spec.to_json()` gives: a network of one's own.
A file holds the spec, what it costs, and how it was found. One whose parts disagree, since somebody changed it by hand,
is refused: a network is its spec, and its published costs must be that spec's.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError, shown
from scaling_rules.spec import NetworkSpec, spec_from_dict

SHIPPED = Path(__file__).parent.parent / "scaling_rules" / "found"
"""Those that come with the zoo."""

log = logging.getLogger("zoo")

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")


def folder() -> Path:
    """Where a user's own are: found/ in $ZOO_HOME, else in zoo/ of $XDG_DATA_HOME or ~/.local/share."""
    own = os.environ.get("ZOO_HOME")
    home = Path(own) if own else Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "zoo"
    return home.expanduser() / "found"


def path_of(name: str) -> Path | None:
    """The file of a name or of a path that ends in .json; None where there is none."""
    if name.endswith(".json"):
        path = Path(name).expanduser()
        return path if path.is_file() else None
    if not NAME.fullmatch(name):
        return None
    return next((path for place in (folder(), SHIPPED) if (path := place / f"{name}.json").is_file()), None)


def names() -> Iterator[str]:
    """Of the files in `folder()` and of those that ship; one that `read` refuses is left out, and logged."""
    for name in sorted({path.stem for place in (folder(), SHIPPED) for path in place.glob("*.json")}):
        path = path_of(name)
        try:
            if path and read(path):
                yield name
        except ZooError as error:
            log.warning("zoo: left out: %s", error)


def read(path: Path) -> tuple[NetworkSpec, dict[str, Any]]:
    """The network of a file, and all that the file says.

    Raises ZooError for what is no such file, and where the spec is not the one whose costs and fingerprint it states.
    """
    label = shown(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"cannot read {label}: {shown(error)}.") from None
    if isinstance(data, dict) and "stages" in data:
        try:
            return spec_from_dict(data), {}
        except ZooError as error:
            raise ZooError(f"{label}: {error}") from None
    if not isinstance(data, dict) or not {"name", "macs", "params", "fingerprint", "spec"} <= set(data):
        raise ZooError(f"{label} is no network that `zoo scale` wrote: it needs name, macs, params, fingerprint, spec.")
    try:
        spec = spec_from_dict(data["spec"])
    except ZooError as error:
        raise ZooError(f"{label}: {error}") from None
    own = cost(spec)
    actual = {"macs": own.macs, "params": own.params, "fingerprint": spec.fingerprint(), "name": spec.name}
    for key, value in actual.items():
        if data[key] != value:
            raise ZooError(
                f"{label} was changed by hand: it says {key} {shown(repr(data[key]))}, and its spec has {value!r}."
            )
    return spec, data


def write(spec: NetworkSpec, told: dict[str, Any], place: Path | None = None) -> Path:
    """Write a network into a folder, `folder()` by default, and return the file; told: how it was found, plain JSON.

    Raises ZooError for a name that is no plain lower-case one or belongs to the zoo, and where the file cannot be made.
    """
    check_name(spec.name)
    total = cost(spec)
    stages = spec.stages
    data = {
        "name": spec.name,
        "macs": total.macs,
        "params": total.params,
        "fingerprint": spec.fingerprint(),
        "allocation": {
            "blocks": [len(stage) for stage in stages],
            "channels": [stage[-1].out for stage in stages],
            "resolution": spec.input[0],
            "macs": {stage: part.macs for stage, part in total.stages.items()},
        },
        **told,
        "spec": json.loads(spec.to_json()),
    }
    path = (place or folder()) / f"{spec.name}.json"
    from weights import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {shown(path)}: {error.strerror}.") from None
    return path


def provenance(command: str, started: float, libraries: Sequence[str] = ()) -> dict[str, Any]:
    """Part of what `write` is told: when, by which command and versions it was found, and how many seconds that took.

    started: by `time.monotonic`. libraries: beside zoo and Python.
    """
    return {
        "command": command,
        "date": f"{date.today():%Y-%m-%d}",
        "seconds": round(time.monotonic() - started, 1),
        "versions": {
            "zoo": version("zoo"),
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
    }


def check_name(name: str) -> None:
    """Raise ZooError for a name that a found network cannot have."""
    from zoo import registry

    if not NAME.fullmatch(name):
        raise ZooError(f"a name is lower-case letters, digits, dots and hyphens, not {shown(repr(name))}.")
    if registry.is_listed(name):
        raise ZooError(f"{name} is a network of the zoo; choose another --name.")
