"""Names to specs: every network of the zoo, listed without building anything."""

from __future__ import annotations

import fnmatch
import functools
import re

from scaling_rules.errors import ZooError, nearest, unknown
from scaling_rules.spec import Dialect, NetworkSpec
from zoo import found
from zoo.families import (
    Group,
    Pattern,
    bcnet,
    channel_bench,
    efficientnet,
    efficientnet_lite,
    ghostnet,
    mobilenet,
    pooling,
    resnet,
    scaled,
    vgg,
)

FAMILIES = (
    efficientnet,
    efficientnet_lite,
    ghostnet,
    mobilenet,
    resnet,
    vgg,
    scaled,
    bcnet,
    pooling,
    channel_bench,
)

_GROUPS: dict[str, Group] = {}
PATTERNS: dict[str, Pattern] = {}
"""Pattern by the one member that is listed for it."""

for _module in FAMILIES:
    for _group in _module.GROUPS:
        for _name in (*_group.models, *(_pattern.default for _pattern in _group.patterns)):
            if _name in _GROUPS:
                raise ZooError(f"two families define {_name}.")
            _GROUPS[_name] = _group
        PATTERNS |= {_pattern.default: _pattern for _pattern in _group.patterns}

NAMES = tuple(_GROUPS)
"""Every listed name, in the order of the families; a pattern stands here once, by its default member."""


def _find(name: str) -> tuple[Group, Pattern | None, tuple[int, ...]]:
    if not isinstance(name, str):
        raise ZooError(f"a model name is a string such as 'efficientnet-b0', not {name!r:.80}.")
    group = _GROUPS.get(name)
    if group is not None and name in group.models:
        return group, None, ()
    for default, known in PATTERNS.items():
        matched = re.fullmatch(known.regex, name, re.ASCII)
        if matched:
            return _GROUPS[default], known, tuple(map(int, matched.groups()))
    path = found.path_of(name)
    if path:
        spec, _ = found.read(path)
        return Group({name: lambda dialect: spec}, {spec.dialect.name: spec.dialect}), None, ()
    for known in PATTERNS.values():
        if name == known.label:
            raise ZooError(f"{name} is a pattern; put numbers for the letters, as in {known.default}.")
    hint = nearest(name, NAMES)
    raise ZooError(f"unknown model {name!r:.80}.{hint or ' `zoo list` shows all names.'}")


def dialects(name: str) -> dict[str, Dialect]:
    """The dialects a model is known in, the default first. Raises ZooError for an unknown name."""
    return _find(name)[0].dialects


def pattern(name: str) -> Pattern | None:
    """The pattern a name belongs to, None for a name of its own. Raises ZooError for an unknown name."""
    return _find(name)[1]


def architecture(name: str, dialect: str | None = None) -> NetworkSpec:
    """The spec of a name as its family defines it, in the default or the named dialect, or as its found file says.

    Raises ZooError for an unknown name (with the nearest ones), an unknown dialect, and a file that `found.read` does.
    """
    make = _architecture if is_listed(name) else _architecture.__wrapped__  # a file may change
    return make(name, dialect)


def is_listed(name: str) -> bool:
    """Whether a family defines the name, by itself or by a pattern."""
    return isinstance(name, str) and (name in _GROUPS or _of_pattern(name))


def _of_pattern(name: str) -> bool:
    return any(re.fullmatch(known.regex, name, re.ASCII) for known in PATTERNS.values())


@functools.lru_cache(maxsize=256)
def _architecture(name: str, dialect: str | None = None) -> NetworkSpec:
    group, member_of, numbers = _find(name)
    if dialect is not None and dialect not in group.dialects:
        raise unknown(f"dialect of {name}", dialect, group.dialects)
    chosen = group.dialects[dialect] if dialect else next(iter(group.dialects.values()))
    return member_of.make(numbers, chosen) if member_of else group.models[name](chosen)


def match(glob: str = "*") -> list[str]:
    """Names that a shell pattern (`*`, `?`, `[a-c]`) or a part of the name matches: the zoo's in order, then found."""
    if not any(sign in glob for sign in "*?["):
        glob = f"*{glob}*"
    return [name for name in (*NAMES, *found.names()) if fnmatch.fnmatchcase(name, glob.lower())]
