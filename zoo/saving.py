"""A model's weights to a file or a folder that say which network they are of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import keras

from scaling_rules.errors import ZooError, unknown
from scaling_rules.spec import NetworkSpec
from weights import cache, config, files, store
from zoo.inspection import carried, complete_variables, spec_of
from zoo.records import check_record, counted

FIELDS = (
    "license",
    "data_note",
    "preprocessing",
    "classes",
    "measured",
    "claimed",
    "recipe",
    "base",
    "datasets",
    "note",
)
"""What `save` takes of a record; it fills in the rest itself."""


def save(model: keras.Model, path: str | Path, record: dict[str, Any] | None = None) -> None:
    """Write a model's weights, named by spec path, with its network and record: a .safetensors file, or a folder.

    Both load by their path alone, `zoo.load("mine.safetensors")`; a folder (any other path, made if it is not there)
    holds model.safetensors and config.json, and is what `zoo publish` takes. record: what is to be said of these
    weights (FIELDS), over what the model carries of those it started from, which become its `base`: license,
    data_note, preprocessing (resize, crop, interpolation), classes (list of names), measured results, recipe (the
    path of a file, which is copied into the folder). Each file is written atomically.

    Raises ZooError for a model that zoo did not build, another file ending, a record with unknown or wrong fields,
    a recipe that is not there, and a place that cannot be written.
    """
    path = Path(path).expanduser()
    folder = path.suffix.lower() != ".safetensors"
    if folder and (path.suffix.lower() in (*files.SUFFIXES, ".npz", ".keras") or path.is_file()):
        raise ZooError(f"weights are saved as .safetensors or into a folder, not {path.name!r}.")
    spec, own = spec_of(model), complete_variables(model)
    if not isinstance(record, dict | None):
        raise ZooError(f"record must be a dict of {', '.join(FIELDS)}, not {record!r:.80}.")
    recipe = _recipe((record or {}).get("recipe"), folder)
    told = _record(model, spec, (record or {}) | ({"recipe": recipe.name} if recipe else {}))
    arrays = {key: keras.ops.convert_to_numpy(value) for key, value in own.items()}
    try:
        if not folder:
            files.write(path, arrays, config.Config(spec, told))
            return
        if recipe and recipe.resolve() != (path / recipe.name).resolve():
            path.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(recipe, path / recipe.name)
        files.write(path / store.MODEL, arrays)
        stated = config.Config(spec, told, cache.sha256_of(path / store.MODEL))
        with files.atomic(path / store.CONFIG) as temporary:
            temporary.write_text(config.dump(stated, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {str(path)!r}: {error.strerror}.") from None


def _recipe(given: object, folder: bool) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise ZooError(f"recipe must be the path of a file, not {given!r:.80}.")
    path = Path(given).expanduser()
    if not path.is_file():
        raise ZooError(f"no recipe file {str(path)!r}.")
    if not folder:
        raise ZooError(f"a recipe is saved beside weights: give a folder, not a file, with recipe {str(path)!r}.")
    return path


def _record(model: keras.Model, spec: NetworkSpec, own: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a model's weights: what it carries, under what its user says."""
    for field in own:
        if field not in FIELDS:
            raise unknown("field of a record", field, FIELDS)
    started = carried(model).get("record") or {}
    base = f"{started['name']}.{started['tag']}" if started.get("tag") else started.get("origin") or started.get("base")
    told: dict[str, Any] = {"license": None, "data_note": None, "preprocessing": None, "classes": None, "base": base}
    told |= {"claimed": [], "measured": [], "recipe": None, "note": ""}
    told |= {
        field: started[field] for field in ("license", "data_note", "preprocessing", "classes") if field in started
    }
    told |= own
    prepare = told["preprocessing"]
    if prepare is None:
        if own:
            raise ZooError("the record needs preprocessing: {'resize': 256, 'crop': 224, 'interpolation': 'bicubic'}.")
        return None
    if not isinstance(prepare, dict):
        raise ZooError(
            f"preprocessing must be {{'resize': 256, 'crop': 224, 'interpolation': ...}}, not {prepare!r:.80}."
        )
    told["preprocessing"] = {**prepare, "mean": list(spec.mean), "std": list(spec.std)}
    record = {"name": spec.name, "tag": None, **told}
    config.validate(record, "published")
    check_record(spec, record)
    return record | counted(spec, record)
