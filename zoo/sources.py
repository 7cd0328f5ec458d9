"""Which weights a name and `pretrained` ask for: a tag's, a file's, a folder's or a hub's. Loads no Keras."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from pathlib import Path

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import files, hub, manifest, store
from zoo import catalog, registry


def is_place(given: object, names: Container[str] = ()) -> bool:
    """Whether `given` says where weights are, rather than which of `names`: a path or a hub repository."""
    if isinstance(given, os.PathLike):
        return True
    if not isinstance(given, str) or given in names:
        return False
    looks_so = "/" in given or "\\" in given or Path(given).suffix.lower() in (*files.SUFFIXES, ".keras", ".npz")
    return looks_so or Path(given).exists()


def opened(place: str | os.PathLike[str]) -> tuple[files.File, str]:
    """What is at a path or in a hub repository, and how to call it."""
    text = os.fspath(place)
    if not text.startswith("hf:"):
        path = Path(text).expanduser()
        return store.opened(path), str(path)
    ref = hub.parse(text)
    folder, commit = store.pull(ref)
    file = store.opened(folder, sealed=True)
    if file.config and file.config.record:  # what is saved from it says where it started
        record = file.config.record | {"origin": str(ref._replace(revision=commit))}
        file = file._replace(config=file.config._replace(record=record))
    return file, text


def at_place(spec: NetworkSpec | None, place: str | os.PathLike[str], strict: bool) -> store.Weights:
    """The weights at a place for a network; where a bare file fits another dialect, the error names that."""
    file, label = opened(place)
    try:
        return store.fitted(spec, file, strict=strict)
    except ZooError as error:
        reason = f"{label}: {error}"
    if spec and file.config is None and spec.name in registry.NAMES:
        for dialect in registry.dialects(spec.name):
            with contextlib.suppress(ZooError):
                store.fitted(registry.architecture(spec.name, dialect), file)
                reason += f" It fits dialect={dialect!r}."
                break
    raise ZooError(reason)


def weights_for(
    name: str | os.PathLike[str], pretrained: bool | str | os.PathLike[str] | None, dialect: str | None, strict: bool
) -> store.Weights | None:
    """What a name and `pretrained` ask for; None for no weights."""
    if not isinstance(pretrained, bool | str | os.PathLike | None):
        raise ZooError(f"pretrained must be True, False, a tag, a path or hf://owner/repo, not {pretrained!r:.80}.")
    if isinstance(name, os.PathLike) and os.fspath(name).endswith(".json"):
        name = os.fspath(name)
    try:
        model_name, tag = catalog.split(name)  # type: ignore[arg-type]  # it refuses what is no string
    except ZooError:
        if not is_place(name):
            raise
        if isinstance(pretrained, str | os.PathLike):
            raise ZooError(
                f"{os.fspath(name)!r} says itself which weights it holds; leave out pretrained={pretrained!r:.80}."
            ) from None
        return at_place(None, name, strict)
    if pretrained is None and tag:
        pretrained = True
    if not pretrained:
        return None
    if pretrained is True:
        return by_tag(model_name, tag, dialect)
    if not is_place(pretrained, manifest.tags(model_name)):
        return by_tag(model_name, str(pretrained), dialect)
    return at_place(catalog.spec(model_name, tag, dialect=dialect), pretrained, strict)


def by_tag(name: str, tag: str | None, dialect: str | None = None) -> store.Weights:
    """The published weights of a model's tag, None for the default one; ZooError that says what there is."""
    own = f"load your own with zoo.load({name!r}, pretrained='weights.safetensors') (or .pth)"
    if not manifest.tags(name):
        raise ZooError(f"no public weights of {name} are known; {own}.")
    record = manifest.record(name, tag)
    if not record["sources"]:
        claims = "; ".join(f"{c['metric']} {c['value']} on {c['dataset']} ({c['source']})" for c in record["claimed"])
        raise ZooError(
            f"no public weights of {name} exist; claimed: {claims}. "
            f"Recipe to train them: training/recipes/{record['recipe']}; {own}."
        )
    if dialect not in (None, record["dialect"]):
        raise ZooError(f"{name}: the weights {record['tag']!r} are of dialect {record['dialect']!r}, not {dialect!r}.")
    return store.published(catalog.spec(name, record["tag"]), record)
