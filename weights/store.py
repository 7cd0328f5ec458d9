"""Weights as they are used: from the user's cache, converted once; from a user's own file or folder; from the hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors as tensors_of
from scaling_rules.spec import NetworkSpec
from weights import cache, config, files, hub, manifest
from weights.adapt import with_channels
from weights.convert.tensors import as_stored, detect, from_layout, match, normalized, require
from weights.download import offline
from weights.fetch import source_file
from weights.manifest import Record

log = logging.getLogger("zoo")

MODEL, CONFIG = "model.safetensors", "config.json"
"""The two files of a published network that are needed to load it."""


class Weights(NamedTuple):
    """spec: of the network these tensors are of. tensors: by its paths. record: how to prepare its pictures, or None.

    unused: names that the file had besides, where it was not read strictly.
    """

    spec: NetworkSpec
    tensors: dict[str, np.ndarray]
    record: dict[str, Any] | None
    unused: tuple[str, ...] = ()


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 of names, shapes, types and bytes, in the order of the names: the same for any file that holds them."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()


def _cached(path: Path, spec: NetworkSpec, record: Record) -> Weights | None:
    if not path.is_file():
        return None
    try:
        cache.check_seal(path)
        file = files.read(path)
        if file.config is None or replace(file.config.spec, mean=spec.mean, std=spec.std) != spec:
            raise ZooError("it is of another network")
        return Weights(file.config.spec, from_layout(spec, "", file.tensors), record)
    except (ZooError, OSError) as error:
        log.warning("zoo: cache file %s is corrupted and is made again (%s)", path, str(error).rstrip("."))
    return None


def _path(record: Record, root: Path) -> Path:
    identity = json.dumps([record["layout"], record["dialect"], record["sources"]], sort_keys=True)
    key = record["tensors_sha256"] or hashlib.sha256(identity.encode()).hexdigest()
    return root / "weights" / f"{record['name']}.{record['tag']}-{key[:8]}.safetensors"


def is_cached(record: Record, root: Path) -> bool:
    """Whether the weights of a record are in the cache; `published` checks that they are intact."""
    return _path(record, root).is_file()


def published(spec: NetworkSpec, record: Record, root: Path | None = None) -> Weights:
    """The weights of a record: from the cache (`root`, or `cache_dir`) if they are there intact, else from a source.

    A source file is verified, converted and written to the cache, by one process at a time; where the cache cannot be
    written a warning says so and the tensors are returned all the same. The tensors' hash must be the record's; where
    the publisher states none, it is noted beside the file on the first download, and must be the same ever after.
    Raises ZooError when no source can be had, or one holds other bytes or tensors.
    """
    root = cache.cache_dir() if root is None else root
    path = _path(record, root)
    cache.refuse_links(path, root)
    weights = _cached(path, spec, record)
    if weights is not None:
        return weights
    with cache.lock(root, path.stem):
        weights = _cached(path, spec, record) if path.is_file() else None  # another process may have made it
        return weights or _convert(path, spec, record, root)


def _convert(path: Path, spec: NetworkSpec, record: Record, root: Path) -> Weights:
    name = f"{record['name']}.{record['tag']}"
    downloads = root / "downloads" / path.stem
    cache.refuse_links(downloads, root)
    try:
        with source_file(record, downloads) as fetched:
            file = files.read(fetched.path)
            tensors = from_layout(spec, record["layout"], file.tensors)
            stated = normalized(spec, file.tensors, file.layers)
    except ZooError as error:
        if offline():
            raise ZooError(
                f"{name} is not in the cache {str(root)!r}, and {error} Where there is internet, run "
                f"`zoo download {name} --to DIR`; copy DIR here and set ZOO_CACHE to it."
            ) from None
        raise ZooError(f"{name}: {error}") from None
    if not np.allclose(stated.mean + stated.std, spec.mean + spec.std, rtol=1e-4):
        log.warning(
            "zoo: %s: its file normalises by mean %s, std %s, not as its record says", name, stated.mean, stated.std
        )
    else:
        stated = spec
    tensors_sha256 = digest(tensors)
    first = record["tensors_sha256"] or cache.facts(path).get("tensors_sha256") or tensors_sha256
    if tensors_sha256 != first:
        noted = (
            ""
            if record["tensors_sha256"]
            else f"; to accept what is published now, remove {str(cache.seal_of(path))!r}"
        )
        raise ZooError(
            f"{name}: the converted tensors are not those of {'its record' if not noted else 'the first download'} "
            f"(sha256 {tensors_sha256}, not {first}); nothing was cached{noted}."
        )
    facts = {"tensors_sha256": tensors_sha256, "origin": fetched.origin, "origin_sha256": fetched.sha256}
    try:
        files.write(path, tensors, config.Config(stated, None))
        cache.seal(path, facts)
    except OSError as error:
        log.warning(
            "zoo: cannot write the cache %s (%s): the weights are converted again each time",
            path.parent,
            error.strerror,
        )
    return Weights(stated, tensors, record)


# -- a user's own, and what others published


def opened(path: str | Path, *, sealed: bool = False) -> files.File:
    """What is in a weights file, or in a folder that `zoo.save` or `zoo publish` wrote, whose sha256 is compared.

    sealed: the folder is the cache's, which has compared it. Raises ZooError naming the path for what is missing,
    damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_dir():
        return files.read(path)
    for name in (CONFIG, MODEL):
        if not (path / name).is_file():
            raise ZooError(f"{str(path)!r} is no published network: it has no {name}.")
    try:
        stated = _config(path / CONFIG)
        if stated.sha256 and not sealed and cache.sha256_of(path / MODEL) != stated.sha256:
            raise ZooError(f"{MODEL} is not the file whose sha256 {CONFIG} states; save it anew.")
    except (ZooError, OSError) as error:
        raise ZooError(f"{path}: {error}") from None
    return files.read(path / MODEL)._replace(config=stated)


def _config(path: Path) -> config.Config:
    if path.stat().st_size > config.MAX_BYTES:
        raise ZooError(f"{path.name} has more than {config.MAX_BYTES:,} bytes.")
    return config.parse(path.read_bytes())


def fitted(spec: NetworkSpec | None, file: files.File, *, strict: bool = True) -> Weights:
    """The weights in a file that was opened, for the network `spec`, or for the one that the file says it is of.

    The file's tensors have our names or those of a layout known for the family, and decide the number of classes and
    of input channels. A file that carries its network also decides dialect and normalisation; for another, `spec`
    does. `strict=False` takes what fits. Raises ZooError for tensors that do not fit the network, for another network
    than `spec`, and where neither the file nor the caller says which it is.
    """
    layout = ""
    if file.config is not None:
        network = file.config.spec if spec is None else _same(spec, file.config.spec)
    elif spec is not None:
        layout = detect(spec, file.tensors)
        network = normalized(as_stored(spec, layout, file.tensors), file.tensors, file.layers)
    else:
        raise ZooError("it does not say which network it is of; load it by name: zoo.load(NAME, pretrained=PATH).")
    found = match(network, layout, file.tensors)
    if strict:
        require(network, layout, found)
    return Weights(network, found.tensors, file.config.record if file.config else None, tuple(found.unused))


def _same(spec: NetworkSpec, carried: NetworkSpec) -> NetworkSpec:
    """`spec` as the carried one was trained: its classes, channels, dialect and normalisation."""
    fitting = with_channels(replace(spec, classes=carried.classes), carried.input[2])
    if tensors_of(fitting) != tensors_of(carried):
        raise ZooError(f"it holds {carried.name}, not {spec.name}.")
    return replace(fitting, dialect=carried.dialect, mean=carried.mean, std=carried.std)


def pull(ref: hub.Ref, root: Path | None = None) -> tuple[Path, str]:
    """The folder, in the cache, of a network that a hub repository holds at a branch, tag or commit, and the commit.

    The config is fetched and checked first; only a file of about the size of its network's tensors is then fetched,
    whose sha256 must be the config's and the hub's. Where the hub cannot be reached, the commit that the name stood
    for last is used; one that is named by its commit is not asked for again. Raises ZooError for what is not there, or
    is no network of zoo's.
    """
    root = cache.cache_dir() if root is None else root
    try:
        return _pull(ref, root)
    except OSError as error:
        raise ZooError(f"{ref}: cannot use the cache {str(root)!r}: {error.strerror or error}.") from None


def _pull(ref: hub.Ref, root: Path) -> tuple[Path, str]:
    base = root / "hub" / ref.repo.replace("/", "--")
    noted = base / "revisions" / f"{quote(ref.revision or 'main', safe='')}.txt"
    cache.refuse_links(noted, root)
    files_there: dict[str, Any] | None = None
    if ref.revision and hub.COMMIT.fullmatch(ref.revision) and (base / ref.revision / CONFIG).is_file():
        commit = ref.revision
    else:
        try:
            if offline():
                raise hub.Unreachable(f"HF_HUB_OFFLINE is set, and {ref} is not in the cache {str(root)!r}.")
            commit, files_there = hub.listing(ref)
        except hub.Unreachable as error:
            known = noted.read_text().strip() if noted.is_file() else ""
            if not hub.COMMIT.fullmatch(known):
                raise
            if not offline():
                log.warning("zoo: %s; using the commit of last time, %s", str(error).rstrip("."), known[:8])
            commit = known
    folder = base / commit
    for name in (MODEL, CONFIG):
        cache.refuse_links(folder / name, root)
    with cache.lock(root, f"{base.name}-{commit}"):
        if not (folder / CONFIG).is_file():
            if files_there is None:
                commit, files_there = hub.listing(ref._replace(revision=commit))
            _fetch_network(ref, commit, files_there, folder, root)
        try:
            cache.check_seal(folder / MODEL)
        except (ZooError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ZooError(
                f"{ref}: its copy in the cache was damaged and is removed ({error}); load it again."
            ) from None
    if not noted.is_file() or noted.read_text() != commit:
        with contextlib.suppress(OSError), files.atomic(noted) as temporary:  # a cache that is read only will do
            temporary.write_text(commit)
    return folder, commit


def _fetch_network(ref: hub.Ref, commit: str, there: dict[str, Any], folder: Path, root: Path) -> None:
    part = folder.with_name(f"{commit}.part")
    for name in (CONFIG, MODEL):
        cache.refuse_links(part / name, root)
    got = hub.file(ref, commit, there, CONFIG, part, limit=config.MAX_BYTES)
    try:
        stated = _config(got.path)
    except ZooError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise ZooError(f"{ref} is no network that zoo published: {_ours(ref.repo) or error}") from None
    need = sum(4 * math.prod(tensor.shape) for tensor in tensors_of(stated.spec).values())
    got = hub.file(ref, commit, there, MODEL, part, limit=need + files.MAX_HEADER)
    found = cache.sha256_of(got.path)
    for says, expected in (("the hub", got.sha256), (CONFIG, stated.sha256)):
        if expected and found != expected:
            shutil.rmtree(part, ignore_errors=True)
            raise ZooError(f"{ref}: {MODEL} has sha256 {found}, {says} says {expected}.")
    from_layout(stated.spec, "", files.read(got.path).tensors)
    cache.seal(got.path, {"origin": str(ref), "commit": commit})
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted removal left
    part.replace(folder)


def _ours(repo: str) -> str:
    """How to load a repository whose weights the manifest knows by another name, '' for others."""
    for name in manifest.models():
        for tag in manifest.tags(name):
            if any(source.get("repo") == repo for source in manifest.record(name, tag)["sources"]):
                return f"its weights are a tag here, zoo.load({name!r}, pretrained={tag!r})."
    return ""
