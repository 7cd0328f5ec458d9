"""A saved network to a hub repository or a folder, with its card: what others need to load, judge and cite it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError
from weights import cache, card, config, hub, store
from weights.download import offline
from zoo import references, registry
from zoo.records import check_record, counted

RECIPE, LICENSE = "recipe.yaml", "LICENSE"
MAX_RECIPE = 1 << 20
"""Bytes."""


def publish(
    folder: str | Path,
    to: str | Path,
    *,
    license: str | None = None,
    recipe: str | Path | None = None,
    tag: str | None = None,
    private: bool = False,
) -> str:
    """Publish what `zoo.save(model, folder, record)` wrote, and return where it is, as `zoo.load` takes it.

    to: 'hf://owner/repo' or 'hf://owner/repo@branch', or a folder that does not exist yet. Written are
    model.safetensors, config.json, the recipe and README.md, the model card. license, recipe: over the record's.
    tag: a name for this version on the hub. private: of a repository that is made.

    Raises ZooError, with nothing written, for a folder that is not whole, weights without licence, measured result
    or recipe, a target that there is already, and what the hub refuses.
    """
    folder, place = Path(folder).expanduser(), os.fspath(to)
    ref = hub.parse(place) if place.startswith("hf:") else None
    if ref and offline():
        raise ZooError(f"HF_HUB_OFFLINE is set; {ref} is not published to.")
    if tag and not ref:
        raise ZooError(f"--tag {tag!r} names a version on a hub; {place!r} is a folder.")
    if private and not ref:
        raise ZooError(f"--private is for a hub; {place!r} is a folder.")
    if not ref and Path(place).expanduser().exists():
        raise ZooError(f"{place!r} exists; give a new folder.")
    if not folder.is_dir():
        raise ZooError(f"no folder {str(folder)!r}; publish takes what zoo.save(model, FOLDER, record) wrote.")
    stated, text = _checked(folder, license, recipe)
    name = stated.spec.name
    try:
        bibtex = references.bibtex(name) if registry.dialects(name) else ""
    except ZooError:  # a network of the user's own
        bibtex = ""
    written = config.dump(stated, indent=1) + "\n"
    own_licence = folder / LICENSE
    assert stated.record is not None
    if not own_licence.is_file() and stated.record["license"].lower() not in card.LICENSES.split():
        raise ZooError(
            f"cannot publish {folder}: the licence {stated.record['license']!r} is none that the hub knows "
            f"(such as apache-2.0, mit, cc-by-4.0); put its text into {str(own_licence)!r}."
        )
    contents: dict[str, Path | bytes] = {
        store.MODEL: folder / store.MODEL,
        store.CONFIG: written.encode(),
        RECIPE: text.encode(),
        "README.md": card.card(
            json.loads(written), repo=ref.repo if ref else None, bibtex=bibtex, recipe=text
        ).encode(),
    }
    if own_licence.is_file():
        contents[LICENSE] = own_licence
    if ref:
        commit = hub.upload(ref, contents, f"Publish {name}", tag=tag, private=private)
        return f"hf://{ref.repo}@{tag or commit}"
    _write(Path(place).expanduser(), contents)
    return place


def _checked(folder: Path, license: str | None, recipe: str | Path | None) -> tuple[config.Config, str]:
    """The config to publish and the recipe's text, once nothing is missing and all fits."""
    file = store.opened(folder)
    assert file.config is not None  # a folder has one
    told = file.config
    try:
        store.fitted(None, file)
        if told.record is None:
            raise ZooError("no record of how to prepare pictures; give one with zoo.save(model, folder, record).")
        check_record(told.spec, told.record)
    except ZooError as error:
        raise ZooError(f"cannot publish {folder}: {error}") from None
    record: dict[str, Any] = told.record | counted(told.spec, told.record)
    record |= {"license": license} if license else {}
    source = Path(recipe) if recipe else folder / Path(record.get("recipe") or "").name
    text = ""
    if recipe or record.get("recipe"):
        if not source.is_file():
            raise ZooError(f"no recipe file {str(source)!r}.")
        if source.stat().st_size > MAX_RECIPE:
            raise ZooError(f"recipe {str(source)!r} has more than {MAX_RECIPE:,} bytes.")
        text = source.read_text(encoding="utf-8", errors="replace")
        record["recipe"] = RECIPE
    lacks = card.missing(record)
    if lacks:
        raise ZooError(f"cannot publish {folder}: {'; '.join(lacks)}.")
    return config.Config(told.spec, record, cache.sha256_of(folder / store.MODEL)), text


def _write(target: Path, contents: dict[str, Path | bytes]) -> None:
    """Write a folder whole or not at all."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        for name, data in contents.items():
            if isinstance(data, Path):
                shutil.copyfile(data, part / name)
            else:
                (part / name).write_bytes(data)
            with (part / name).open("rb") as file:
                os.fsync(file.fileno())
        part.rename(target)
    except OSError as error:
        raise ZooError(f"cannot write {str(target)!r}: {error.strerror}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
