"""`zoo download` and `zoo publish`: weights to a machine without internet, and a network to where others find it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scaling_rules.errors import ZooError
from weights import cache, hub, manifest, store
from zoo import catalog
from zoo.publishing import publish as publish_folder


def _wanted(names: list[str]) -> list[str]:
    """NAME.TAG of what was asked for; a pattern stands for the default tags of all models that have one."""
    found: list[str] = []
    for name in names:
        if any(sign in name for sign in "*?["):
            matching = catalog.list_models(name, pretrained=True)
            if not matching:
                raise ZooError(f"no model with weights matches {name!r}; `zoo list --pretrained` shows all.")
            found += [f"{model}.{catalog.loadable_tags(model)[0]}" for model in matching]
            continue
        model, tag = catalog.split(name)
        if not manifest.tags(model):
            raise ZooError(f"no public weights of {model} are known; `zoo list --pretrained` shows what there is.")
        record = manifest.record(model, tag)
        if not record["sources"]:
            raise ZooError(f"no public weights of {model} exist; `zoo info {model}` says what is known.")
        found.append(f"{model}.{record['tag']}")
    return list(dict.fromkeys(found))


def download(args: argparse.Namespace) -> int:
    """Fetch, verify and convert weights; exit code 1 when some could not be had."""
    refs = [hub.parse(name) for name in args.names if name.startswith("hf:")]
    wanted = _wanted([name for name in args.names if not name.startswith("hf:")])
    root = Path(args.to).expanduser() if args.to else cache.cache_dir()
    if root.exists() and not root.is_dir():
        raise ZooError(f"{str(root)!r} is no folder.")
    failed = 0
    items: list[str | hub.Ref] = [*wanted, *refs]
    for item in items:
        try:
            if isinstance(item, str):
                _fetch(item, root)
            else:
                store.pull(item, root)
            print(item)
        except ZooError as error:
            print(f"zoo download: {error}", file=sys.stderr)
            failed += 1
    if args.to and failed < len(wanted) + len(refs):
        print(f"zoo download: copy {args.to} to the other machine and set ZOO_CACHE to it there", file=sys.stderr)
    return 0 if not failed else 1 if failed < len(wanted) + len(refs) else 2


def _fetch(name: str, root: Path) -> None:
    record = manifest.record(*catalog.split(name))
    store.published(catalog.spec(name), record, root)
    if not store.is_cached(record, root):
        raise ZooError(f"{name} was fetched, but could not be written to {str(root)!r}.")


def publish(args: argparse.Namespace) -> int:
    """Publish a folder and print where it is."""
    print(
        publish_folder(
            args.folder, args.to, license=args.license, recipe=args.recipe, tag=args.tag, private=args.private
        )
    )
    return 0
