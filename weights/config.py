"""What describes a network beside its tensors: spec and record as JSON, in config.json or inside a weights file.

It may come from anywhere, so it is checked against `schema.json` and against limits before anything is made of it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from scaling_rules.errors import ZooError, shown
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec, spec_from_dict

FORMAT = "zoo-1"

MAX_BYTES = 1 << 20
"""Of a config's text. The largest network here takes 40 kB."""

MAX_BLOCKS = 1024
MAX_PARAMS = 2_000_000_000
MAX_TENSOR = 1 << 28
"""Elements of one tensor: 1 GiB in float32."""


class Config(NamedTuple):
    """spec: the network. record: as `zoo.records` describes it, or None. sha256: of the tensors' file, or None."""

    spec: NetworkSpec
    record: dict[str, Any] | None
    sha256: str | None = None


@functools.cache
def _validator(part: str) -> Any:
    import jsonschema

    schema = json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{part}", "$defs": schema["$defs"]})


def validate(data: Any, part: str) -> None:
    """Check plain data against a part of schema.json: 'record', 'config', 'published', 'preprocessing', ...

    Raises ZooError, one line naming the first field that is wrong and its value.
    """
    error = next(_validator(part).iter_errors(data), None)
    if error is None:
        return
    while error.context:  # of several alternatives, the one that came furthest
        error = max(error.context, key=lambda deeper: len(deeper.absolute_path))
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    raise ZooError(f"{where or part}: {shown(error.message, 300)}")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def parse(text: bytes | str) -> Config:
    """The config in a JSON text. Nothing large is allocated: sizes are checked first.

    Raises ZooError, one line, for a text longer than MAX_BYTES, for what is no JSON or not of the schema, for
    a network of more than MAX_BLOCKS blocks or MAX_PARAMS weights, and for a spec that is not valid.
    """
    if len(text) > MAX_BYTES:
        raise ZooError(f"the config has {len(text):,} bytes; at most {MAX_BYTES:,}.")
    try:
        data = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
        validate(data, "config")
        if (blocks := sum(map(len, data["spec"]["stages"]))) > MAX_BLOCKS:
            raise ZooError(f"the network has {blocks:,} blocks; at most {MAX_BLOCKS:,}.")
        spec = spec_from_dict(data["spec"])
    except ZooError as error:
        raise ZooError(shown(error, 300)) from None
    except (ValueError, RecursionError) as error:
        raise ZooError(f"not a config: {shown(error, 300)}.") from None
    sizes = [math.prod(tensor.shape) for tensor in tensors(spec).values()]
    if max(sizes) > MAX_TENSOR or sum(sizes) > MAX_PARAMS:
        raise ZooError(
            f"the network has {sum(sizes):,} weights, {max(sizes):,} in one tensor; at most {MAX_PARAMS:,} and "
            f"{MAX_TENSOR:,}."
        )
    return Config(spec, data["record"], data.get("sha256"))


def dump(config: Config, indent: int | None = None) -> str:
    """The config as JSON text that `parse` gives back. Raises ZooError for a record that is not of the schema."""
    spec = json.loads(json.dumps(dataclasses.asdict(config.spec)))
    data: dict[str, Any] = {"format": FORMAT, "spec": spec, "record": config.record}
    if config.sha256:
        data["sha256"] = config.sha256
    validate(data, "config")
    return json.dumps(data, indent=indent, ensure_ascii=False)
