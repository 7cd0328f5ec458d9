"""The cache's folder and its files: sealed by hash, one writer at a time, never followed out by a link."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError
from weights import files


def cache_dir() -> Path:
    """Folder of downloaded and converted weights: $ZOO_CACHE, else zoo/ in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("ZOO_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zoo"


def refuse_links(path: Path, root: Path) -> None:
    """Raise ZooError where `path` leaves the cache by a symbolic link that somebody put below its root."""
    for step in (path, *path.parents):
        if step == root:
            return
        if step.is_symlink():
            raise ZooError(f"{str(step)!r} is a symbolic link inside the cache; refused: remove it.")


@contextlib.contextmanager
def lock(root: Path, name: str) -> Iterator[None]:
    """Of several processes that want `name` at once, one at a time; nothing where the cache cannot be written."""
    from filelock import FileLock

    path = root / "locks" / f"{name}.lock"
    refuse_links(path, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        held.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        held.release()


def seal_of(path: Path) -> Path:
    """Where `seal` writes of a file."""
    return path.with_name(f"{path.name}.json")


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path, more: dict[str, Any]) -> None:
    """Write down what a file is, beside it: its size, time and sha256, and what `more` there is to know."""
    stat = path.stat()  # before the hash: a change in between must be seen
    noted = {**more, "sha256": sha256_of(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with files.atomic(seal_of(path)) as temporary:
        temporary.write_text(json.dumps(noted, indent=1), encoding="utf-8")


def facts(path: Path) -> dict[str, Any]:
    """What `seal` wrote of a file, {} for nothing that can be read."""
    try:
        found = json.loads(seal_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_seal(path: Path) -> None:
    """Raise ZooError unless a file is the one that was sealed.

    With the size and the time of then it is taken for the same; else its sha256 is compared, and the new time noted.
    """
    noted, stat = facts(path), path.stat()
    if not noted:
        raise ZooError("nothing says what it should be")
    if (stat.st_size, stat.st_mtime_ns) == (noted.get("size"), noted.get("mtime_ns")):
        return
    if sha256_of(path) != noted.get("sha256"):
        raise ZooError("its sha256 is not the one noted when it was written")
    with contextlib.suppress(OSError):
        seal(path, noted)
