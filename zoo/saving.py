"""A model's weights to a file or a folder that say which network they are of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError, unknown
from scaling_rules.spec import NetworkSpec
from weights import cache, config, files, store
from zoo.inspection import carried, spec_of, variables

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
    path = Path(path)
    folder = path.suffix != ".safetensors"
    if folder and (path.suffix in (*files.SUFFIXES, ".npz", ".keras") or path.is_file()):
        raise ZooError(f"weights are saved as .safetensors or into a folder, not {path.name!r}.")
    spec = spec_of(model)
    told = _record(model, spec, dict(record or {}))
    recipe = Path(told["recipe"]) if folder and record and told and told["recipe"] else None
    if recipe and told:
        if not recipe.is_file():
            raise ZooError(f"no recipe file {str(recipe)!r}.")
        told["recipe"] = recipe.name
    if told:
        config.validate(told, "published")
    arrays = {key: keras.ops.convert_to_numpy(value) for key, value in variables(model).items()}
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


def _record(model: keras.Model, spec: NetworkSpec, own: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a model's weights: what it carries, under what its user says."""
    for field in own:
        if field not in FIELDS:
            raise unknown("field of a record", field, FIELDS)
    started = carried(model).get("record") or {}
    tag = started.get("tag")
    base = f"{started['name']}.{tag}" if tag else started.get("base")
    told: dict[str, Any] = {
        "license": None,
        "data_note": None,
        "preprocessing": None,
        "classes": None,
        "base": base,
        "note": "",
    }
    told |= {"claimed": [], "measured": [], "recipe": None}
    told |= {
        field: started[field] for field in ("license", "data_note", "preprocessing", "classes") if field in started
    }
    told |= own
    if told["preprocessing"] is None:
        if own:
            raise ZooError("the record needs preprocessing: {'resize': 256, 'crop': 224, 'interpolation': 'bicubic'}.")
        return None
    told["preprocessing"] = {**told["preprocessing"], "mean": list(spec.mean), "std": list(spec.std)}
    if isinstance(told["classes"], list) and len(told["classes"]) != spec.classes:
        raise ZooError(f"the model has {spec.classes} classes, its record names {len(told['classes'])}.")
    crop = told["preprocessing"].get("crop")
    config.validate(told["preprocessing"], "preprocessing")
    total = cost(replace(spec, input=(crop, crop, spec.input[2])))
    return {"name": spec.name, "tag": None, **told, "params": total.params, "macs": total.macs}
