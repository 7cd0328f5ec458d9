"""YAML for recipes: plain data only, no key twice, finite numbers, and 1e-5 is one."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from scaling_rules.errors import ZooError, shown

FLOAT = "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} occurs twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is not finite", node.start_mark)
        return value


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor(FLOAT, _Loader.construct_yaml_float)
for _kind in (_Loader, _Dumper):
    # YAML 1.1, which PyYAML speaks, takes 1e-5 for a text: its numbers need a point and a signed exponent. The dumper
    # has to know as well, so that it quotes a text of that form.
    _kind.add_implicit_resolver(
        FLOAT, re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
    )


def read(text: str, where: str) -> Any:
    """The plain data in a YAML text; None if there is none.

    Raises ZooError, one line that begins with `where`, for what is no YAML, a key that occurs twice, .nan and .inf.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ZooError(f"{where}{line}: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ZooError(f"{where}: no YAML: {shown(error, 300)}.") from None


def write(data: Any) -> str:
    """Plain data as YAML text, in ASCII, that `read` gives back (tuples as lists), in the order given."""
    # With allow_unicode PyYAML writes a next-line sign (U+0085) in a form that it reads as a line's end.
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=110)
