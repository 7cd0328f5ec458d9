"""The record that travels with a model: found in the model itself, or by name in the manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import manifest
from zoo.catalog import split

FIELDS = ("name", "tag", "license", "data_note", "preprocessing", "classes", "base", "origin")
"""What of a manifest's record goes into a model; where its file came from stays behind.

base: what the weights were trained from. origin: the hub repository and commit they were loaded from.
"""


def record_of(model: Any) -> dict[str, Any]:
    """The record of a Keras model (a reloaded one too), an engine, a model name, a name.tag, or a record itself.

    A plain dict with at least `preprocessing` (resize, crop, interpolation, mean, std) and `classes` (the
    name of a class list, a list of names, or None). Raises ZooError for a model that carries none.
    """
    if isinstance(model, dict):
        if "preprocessing" not in model:
            raise ZooError(f"a record needs 'preprocessing'; this one has {', '.join(map(str, model)) or 'nothing'}.")
        return model
    if isinstance(model, str):
        name, tag = split(model)
        if not manifest.tags(name):
            raise ZooError(
                f"{name} has no published weights, so no record says how to prepare pictures for it: "
                "pass a record, for instance zoo.record_of('efficientnet-lite0')."
            )
        return travelling(manifest.record(name, tag))
    from zoo.engines import Engine

    if isinstance(model, Engine):
        record = model.record
    else:
        from zoo.inspection import carried  # a name or an engine must not cost the import of Keras

        record = carried(model).get("record")
    if record is None:
        raise ZooError(
            f"model {getattr(model, 'name', model)!r:.80} carries no record of how to prepare its pictures: pass one, "
            "for instance zoo.preprocess(images, zoo.record_of('efficientnet-lite0')), or load it with weights."
        )
    return record


def travelling(record: manifest.Record) -> dict[str, Any]:
    """The part of a manifest's record that goes into a model."""
    return {field: record[field] for field in FIELDS if field in record}


def check_record(spec: NetworkSpec, record: dict[str, Any]) -> None:
    """Raise ZooError for a record that cannot be of this network: its crop, its number of classes."""
    from zoo.preprocessing import geometry

    geometry(record["preprocessing"])
    classes = 1000 if record["classes"] == "imagenet-1k" else len(record["classes"] or ()) or spec.classes
    if classes != spec.classes:
        raise ZooError(f"the model has {spec.classes} classes, its record names {classes}.")


def counted(spec: NetworkSpec, record: dict[str, Any]) -> dict[str, int]:
    """Parameters and MACs of the network at the record's crop."""
    crop = record["preprocessing"]["crop"]
    total = cost(replace(spec, input=(crop, crop, spec.input[2])))
    return {"params": total.params, "macs": total.macs}
