"""What there is: names, specs, costs, published results. Loads neither NumPy nor Keras."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from scaling_rules import cost as costs
from scaling_rules.errors import ZooError, unknown
from scaling_rules.spec import NetworkSpec
from weights import manifest
from zoo import found, references, registry


def split(name: str) -> tuple[str, str | None]:
    """(model, tag) of 'model' or 'model.tag'. Raises ZooError for an unknown model."""
    if isinstance(name, str) and name not in registry.NAMES and "." in name and not found.path_of(name):
        model, _, tag = name.rpartition(".")
        if manifest.tags(model):
            return model, tag
    registry.dialects(name)
    return name, None


def spec(name: str, tag: str | None = None, *, dialect: str | None = None) -> NetworkSpec:
    """The network of a model name, as its weights of `tag` need it, or in a named dialect.

    A tag (also as 'name.tag') decides dialect and normalisation; without one the model's default tag does,
    if it has weights. `dialect` alone gives the family's own definition in that dialect. Raises ZooError
    for an unknown name, tag or dialect.
    """
    model, own_tag = split(name)
    tag = tag or own_tag
    if dialect is not None:
        if tag is not None:
            raise ZooError(f"{name}: give a tag or a dialect, not both; tag {tag!r} has its own dialect.")
        return registry.architecture(model, dialect)
    if tag is None and not manifest.tags(model):
        return registry.architecture(model)
    record = manifest.record(model, tag)
    preprocessing = record["preprocessing"]
    network = registry.architecture(model, record["dialect"])
    return replace(network, mean=tuple(preprocessing["mean"]), std=tuple(preprocessing["std"]))


def cost(name: str | NetworkSpec) -> costs.Cost:
    """MACs, parameters, buffers and activations of a model name or spec, whole and by stage and block."""
    return costs.cost(name if isinstance(name, NetworkSpec) else spec(name))


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    max_macs: int | float | None = None,
    pretrained: bool | None = None,
    max_latency_ms: float | None = None,
    engine: str | None = None,
    batch: int = 1,
) -> list[str]:
    """Names of the zoo, in order of family and size.

    pattern: a shell pattern, or a part of the name. family: as `info` states it. max_macs: most multiply-adds.
    pretrained: True for models whose weights can be loaded, False for the others. Names that differ in
    numbers only, such as the 36 resnet-20-pool-A-B-C, are listed once, by one of them.

    max_latency_ms: most milliseconds for one call of `batch` pictures in `engine` (None for the fastest), at the
    network's own resolution, as `zoo benchmark --save` measured them on this machine; what was not measured is left
    out. Raises ZooError for values out of range, and where nothing of that engine and batch was measured.
    """
    names = registry.match(pattern)
    if family is not None:
        families = {name: registry.architecture(name).family for name in (*registry.NAMES, *names)}
        if family not in families.values():
            raise unknown("family", family, dict.fromkeys(families.values()))
        names = [name for name in names if families[name] == family]
    if max_macs is not None:
        if isinstance(max_macs, bool) or not isinstance(max_macs, int | float) or not max_macs > 0:
            raise ZooError(f"max_macs must be a positive number of multiply-adds, not {max_macs!r}.")
        names = [name for name in names if cost(name).macs <= max_macs]
    if pretrained is not None:
        names = [name for name in names if bool(loadable_tags(name)) == pretrained]
    if max_latency_ms is None:
        if engine is not None or batch != 1:
            raise ZooError("engine and batch are those of max_latency_ms: give that, too.")
        return names
    if isinstance(max_latency_ms, bool) or not isinstance(max_latency_ms, int | float) or not max_latency_ms > 0:
        raise ZooError(f"max_latency_ms must be a positive number of milliseconds, not {max_latency_ms!r}.")
    took = latencies(names, engine, batch)
    return [name for name in names if took.get(name, math.inf) <= max_latency_ms]


def latencies(names: list[str], engine: str | None = None, batch: int = 1) -> dict[str, float]:
    """Milliseconds by name of what was measured on this machine, as `list_models` takes them."""
    from zoo.benchmark.latencies import measured

    return measured({name: registry.architecture(name).input[0] for name in names}, engine, batch)


def loadable_tags(name: str) -> list[str]:
    """Tags of the model whose weights are published somewhere."""
    return [tag for tag in manifest.tags(name) if manifest.record(name, tag)["sources"]]


def info(name: str) -> dict[str, Any]:
    """All that is known of a model, as plain data: spec, cost, weights, published results.

    Claimed results stand in `published` and in each weight's `claimed`, measured ones in its `measured`.
    """
    model, tag = split(name)
    network = spec(name)
    total = cost(network)
    pattern = registry.pattern(model)
    return {
        "name": network.name,
        "family": network.family,
        "pattern": {"label": pattern.label, "members": pattern.members} if pattern else None,
        "input": list(network.input),
        "classes": network.classes,
        "dialect": network.dialect.name,
        "dialects": list(registry.dialects(model)),
        "macs": total.macs,
        "params": total.params,
        "buffers": total.buffers,
        "activations": total.activations,
        "stages": {stage: part._asdict() for stage, part in total.stages.items()},
        "fingerprint": network.fingerprint(),
        "source": network.source,
        "note": network.note,
        "weights": [manifest.record(model, t) for t in ([tag] if tag else manifest.tags(model))],
        "papers": references.papers(model),
        "published": references.results(model),
    }


def cite(name: str) -> str:
    """BibTeX of the papers behind a model and its published results, each with its table or file."""
    return references.cite(split(name)[0])
