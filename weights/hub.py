"""The Hugging Face hub through its own client: one file of a repository, a published network, and an upload.

Nothing that comes from there is executed or unpickled; names are checked before they become paths.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from scaling_rules.errors import ZooError, shown
from weights.download import TIMEOUT, TRIES, WAIT, download

REF = re.compile(r"hf://(?!.*--)([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


class Ref(NamedTuple):
    """A repository of the hub, 'owner/name', and a branch, tag or commit of it, None for the main branch."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.repo}{f'@{self.revision}' if self.revision else ''}"


class Unreachable(ZooError):
    """The hub did not answer, or not now: what is in the cache may serve."""


class HubFile(NamedTuple):
    """path: where it is now. sha256: what the hub states, None for small files. commit: that it belongs to."""

    path: Path
    sha256: str | None
    commit: str


def parse(text: str) -> Ref:
    """The repository of 'hf://owner/repo' or 'hf://owner/repo@revision'. Raises ZooError for anything else."""
    match = REF.fullmatch(text) if isinstance(text, str) else None
    if not match or ".." in text:
        raise ZooError(f"{text!r:.200} is no hub repository; valid: hf://owner/repo or hf://owner/repo@revision.")
    return Ref(match[1], match[2])


def endpoint() -> str:
    """Address of the hub: $HF_ENDPOINT, else https://huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _passing(error: Exception) -> bool:
    """Whether the same question may get an answer a little later."""
    import httpx2

    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (408, 429) or status >= 500 if status else isinstance(error, httpx2.TransportError)


def _refused(what: str, error: Exception) -> ZooError:
    """What the hub's client raised, as one line of ours."""
    from huggingface_hub import errors

    if isinstance(error, ZooError):
        return error
    if isinstance(error, errors.RepositoryNotFoundError):
        return ZooError(f"{what}: no such repository, or it is private and HF_TOKEN has no access.")
    if isinstance(error, errors.RevisionNotFoundError):
        return ZooError(f"{what}: no such branch, tag or commit.")
    said = shown(getattr(error, "server_message", None) or str(error) or type(error).__name__, 300).rstrip(".")
    return (Unreachable if _passing(error) else ZooError)(f"{what}: {said}.")


def listing(ref: Ref) -> tuple[str, dict[str, Any]]:
    """(commit, file name -> what the hub says of it: size and lfs) of a repository's revision.

    Asked again a few times where the hub fails or cannot be reached, then Unreachable is raised. Raises ZooError for
    what it refuses, and for a listing with an absolute path or one that climbs.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    for attempt in range(TRIES):
        try:
            info = api.model_info(ref.repo, revision=ref.revision, files_metadata=True, timeout=TIMEOUT[1])
            break
        except Exception as error:
            if attempt == TRIES - 1 or not _passing(error):
                raise _refused(str(ref), error) from None
            time.sleep(WAIT * 2**attempt)
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise ZooError(f"{ref}: the hub names no commit, but {commit!r:.80}.")
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name:
            raise ZooError(f"{ref}: its listing has the file {name!r:.200}, which is no plain relative path; refused.")
    return commit, files


def file(ref: Ref, commit: str, files: dict[str, Any], name: str, folder: Path, *, limit: int) -> HubFile:
    """Download one file of a listing (commit, files) to `folder`/`name`, going on where an interrupted one stopped.

    The client says which commit, address, size and hash; `download` fetches the bytes, because the client (2.4.0)
    starts anew after a kill, gives up on a reset or a 500, and verifies no hash. Raises ZooError for what the hub does
    not have or cannot send, and for more than `limit` bytes. Comparing the hash is the caller's.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    if name not in files:
        has = ", ".join(shown(other) for other in sorted(files)[:10])
        raise ZooError(f"{ref}: no file {name!r}; it has: {has or 'none'}.")
    size, lfs = files[name].size, files[name].lfs
    if size is None or size > limit:
        has = "an unknown number of" if size is None else f"{size:,}"
        raise ZooError(f"{ref}: {name} has {has} bytes; at most {limit:,} were expected.")
    url = hf_hub_url(ref.repo, name, revision=commit, endpoint=endpoint())
    download(url, folder / name, limit=size, headers=build_hf_headers())
    return HubFile(folder / name, lfs.sha256 if lfs else None, commit)


def upload(ref: Ref, contents: dict[str, Path | bytes], message: str, *, tag: str | None, private: bool) -> str:
    """Commit files to a repository, made if it is not there, and name the commit `tag`. Returns the commit.

    A branch that `ref` names is made too. Raises ZooError for what the hub refuses, such as a missing token
    (HF_TOKEN, or `hf auth login`) or a tag that there is already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if tag and not (REF.fullmatch(f"hf://{ref.repo}@{tag}") and ".." not in tag):
        raise ZooError(f"{ref}: not published: {tag!r:.80} cannot name a version; letters, digits and . _ - can.")
    api = HfApi(endpoint=endpoint())
    operations = [
        CommitOperationAdd(name, str(data) if isinstance(data, Path) else data) for name, data in contents.items()
    ]
    try:
        api.create_repo(ref.repo, private=private or None, exist_ok=True)
        if tag and tag in {known.name for known in api.list_repo_refs(ref.repo).tags}:
            raise ZooError(f"{ref}: not published: there is a tag {tag!r} already, and a tag's weights never change.")
        if ref.revision:
            api.create_branch(ref.repo, branch=ref.revision, exist_ok=True)
        commit = api.create_commit(ref.repo, operations, commit_message=message, revision=ref.revision).oid
    except Exception as error:  # the client raises its own, httpx2's, OSError and ValueError
        raise _refused(f"{ref}: not published", error) from None
    try:
        if tag:
            api.create_tag(ref.repo, tag=tag, revision=commit)
    except Exception as error:
        raise _refused(f"{ref}: published as commit {commit}, but not tagged {tag!r}", error) from None
    return commit
