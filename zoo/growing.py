"""`pretrained="grow:SMALL"`: a network starts at the function of a smaller one that it contains."""

from __future__ import annotations

import logging
from dataclasses import replace

from scaling_rules.errors import ZooError
from scaling_rules.spec import NetworkSpec
from weights import store
from weights.grow import grow
from zoo.sources import is_place, weights_for

log = logging.getLogger("zoo")

PREFIX = "grow:"


def grown(
    own: NetworkSpec, small: str, size: tuple[int | None, int | None], dialect: str | None, strict: bool
) -> tuple[store.Weights, frozenset[str]]:
    """Weights of the network `own` from those of `small`, and the paths of the tensors that were split to fit.

    small: a model name, name.tag, a folder, file or hf://owner/repo that says itself of which network it is. The
    network takes its dialect and normalisation. size: the sides that the model is built for, None for the network's
    own. Raises ZooError as `weights.grow.grow` does, in strict mode for whatever would make the function another.
    """
    if not small:
        raise ZooError("pretrained='grow:NAME' needs the name, or the place, of the smaller network's weights.")
    given = weights_for(small, None if is_place(small) else True, dialect, strict)
    assert given is not None
    sides = [own_side if side is None else side for own_side, side in zip(own.input, size, strict=False)]
    theirs = given.spec
    large = replace(
        own, input=(sides[0], sides[1], theirs.input[2]), dialect=theirs.dialect, mean=theirs.mean, std=theirs.std
    )
    if theirs.classes:
        large = replace(large, classes=theirs.classes)
    found = grow(theirs, given.tensors, large, strict=strict)
    for line in found.broken:
        log.warning("zoo: %s from %s: %s", own.name, small, line)
    if found.broken:
        log.warning("zoo: %s does not compute what %s does: it needs training", own.name, small)
    record = given.record
    if record is not None:
        base = " ".join(str(record[key]) for key in ("name", "tag") if record.get(key))
        record = {key: value for key, value in record.items() if key not in ("tag", "origin")}
        record |= {"name": own.name, "base": f"grown from {base or small}"}
    return store.Weights(large, found.values, record), frozenset(found.split)
