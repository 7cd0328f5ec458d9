"""One file over plain https: resumed, retried, bounded in size, renamed into place when whole."""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scaling_rules.errors import ZooError, shown

log = logging.getLogger("zoo")

TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and between two pieces of an answer."""

TRIES = 5
"""Attempts in a row that bring nothing; one that brings bytes starts the count anew."""

MOST = 200
"""Attempts in all, for a host that cuts each answer after a few bytes."""

WAIT = 0.5
"""Seconds before the second attempt; twice as long before each further one, at most 30, and jittered."""

CHUNK = 1 << 16
"""Bytes written at once; what a cut connection brought of the last such piece is lost."""

FINAL = {400, 401, 403, 404, 405, 410, 451}
"""Statuses that the same request gets again."""


class Answer(NamedTuple):
    """What a host said of the file it sent: its size in bytes, or None, and its md5 in hexadecimal, or None."""

    size: int | None
    md5: str | None


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, by the hub client's own rule for such switches."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def mirrored(url: str) -> list[str]:
    """The addresses to try for a url: those that $ZOO_MIRRORS puts in place of its beginning, then itself.

    ZOO_MIRRORS: 'BEGINNING=REPLACEMENT' pairs between blanks, such as 'https://github.com/=https://mirror.local/gh/'.
    Raises ZooError for a pair without '='.
    """
    found = []
    for pair in os.environ.get("ZOO_MIRRORS", "").split():
        beginning, equals, replacement = pair.partition("=")
        if not (beginning and equals and replacement):
            raise ZooError(f"ZOO_MIRRORS: {pair!r} is not BEGINNING=REPLACEMENT.")
        if url.startswith(beginning):
            found.append(replacement + url.removeprefix(beginning))
    return [*found, url]


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error where that is a terminal; yields a function that takes the bytes done so far."""
    if not sys.stderr.isatty():
        log.warning("zoo: downloading %s%s", what, f" ({total / 1e6:.1f} MB)" if total else "")
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def download(url: str, path: Path, *, limit: int, headers: Mapping[str, str] | None = None) -> Answer:
    """Fetch `url` to `path`, which appears only when it is whole; what came of it so far stays in `path`.part.

    A part that an earlier call left, killed or cut off, is continued where the host takes Range. limit: most
    bytes. headers: sent too; a token in them not to another host that the url leads to.

    Raises ZooError, one line naming the url and the reason: a status, no connection, too many bytes, TRIES
    attempts in a row without a byte, a disk that is full (the part is then removed).
    """
    import requests

    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"cannot make the folder {str(path.parent)!r}: {error.strerror}.") from None
    failed, attempts, reason = 0, 0, ""
    with progress(url.rsplit("/", 1)[-1], None) as show:
        while failed < TRIES and attempts < MOST:
            attempts += 1
            before = part.stat().st_size if part.exists() else 0
            try:
                answer = _attempt(url, part, before, limit, headers or {}, show)
            except requests.RequestException as error:
                # What lies under the library's "max retries exceeded": no such host, connection refused
                cause = getattr(error.args[0], "reason", None) if error.args else None
                reason = shown(str(cause).split(": ", 1)[-1] if cause else error, 200) or type(error).__name__
                if isinstance(error, requests.HTTPError) and error.response.status_code in FINAL:
                    break
            except ZooError:
                part.unlink(missing_ok=True)
                raise
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    part.unlink(missing_ok=True)
                raise ZooError(f"cannot write {str(part)!r}: {error.strerror}.") from None
            else:
                part.replace(path)
                return answer
            came = (part.stat().st_size if part.exists() else 0) > before
            failed = 0 if came else failed + 1
            if failed < TRIES:
                time.sleep(min(30.0, WAIT * 2 ** max(failed - 1, 0)) * random.uniform(0.75, 1.25))
    raise ZooError(f"cannot download {url}: {reason}.")


def _session() -> Any:
    """A session that takes the token off where a redirect leads to another host, and puts no ~/.netrc in its place."""
    import requests

    class Session(requests.Session):
        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            if self.should_strip_auth(response.request.url, prepared_request.url):
                prepared_request.headers.pop("Authorization", None)

    return Session()


def _attempt(
    url: str, part: Path, have: int, limit: int, headers: Mapping[str, str], show: Callable[[int], None]
) -> Answer:
    import requests

    asked = {"User-Agent": "zoo", **headers, "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    # `auth`: or requests would put a password of ~/.netrc in place of the token
    with (
        _session() as session,
        session.get(url, headers=asked, stream=True, timeout=TIMEOUT, auth=lambda request: request) as response,
    ):
        if response.status_code == 416:  # the part is as long as the file, or the file has changed
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the host has no bytes after those of the part; started anew")
        response.raise_for_status()
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the host sent another range than asked for; started anew")
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        size = done + int(length) if length and length.isdigit() else None
        if (size or 0) > limit:
            raise ZooError(f"{url} has {size:,} bytes; at most {limit:,} were expected.")
        # NOFOLLOW: a link that somebody put in the cache must not be written through
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if resumed else os.O_TRUNC)
        with os.fdopen(os.open(part, flags, 0o666), "wb") as file:
            for chunk in response.iter_content(CHUNK):
                done += len(chunk)
                if done > limit:
                    raise ZooError(f"{url} sends more than the {limit:,} bytes that were expected.")
                file.write(chunk)
                show(done)
        if size is not None and done != size:
            raise requests.ConnectionError(f"{done:,} of {size:,} bytes came")
        return Answer(done, _md5(response.headers.get("x-goog-hash", "")))


def _md5(header: str) -> str | None:
    """The md5 in Google storage's x-goog-hash header ('crc32c=...,md5=BASE64'), in hexadecimal."""
    for entry in header.split(","):
        kind, _, value = entry.strip().partition("=")
        if kind == "md5":
            with contextlib.suppress(ValueError):
                return base64.b64decode(value).hex()
    return None
