"""Which widths of a network must agree, and where its residual branches end, found from its primitives alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from scaling_rules.lower import Add, Conv, Pool, Primitive, SqueezeExcite


def ties(ops: Iterable[Primitive]) -> Callable[[str], str]:
    """A function from a path to the one path that stands for all of the same width.

    Tied are a depthwise convolution, a pooling or squeeze-and-excitation with what it reads, and all that one residual
    path sums. A Ghost module's concatenation is tied to neither half, and a padded shortcut not to its narrower input.
    """
    parent: dict[str, str] = {}

    def root(path: str) -> str:
        while parent.setdefault(path, path) != path:
            path = parent[path]
        return path

    for op in ops:
        if (isinstance(op, Conv) and op.groups > 1) or isinstance(op, Add | Pool | SqueezeExcite):
            for path in op.inputs:
                parent[root(op.path)] = root(path)
    return root


def branch_ends(op: Add, ops: Mapping[str, Primitive]) -> list[str]:
    """Paths of the convolutions that the branch of a sum ends in: a Ghost module ends in two, side by side."""
    found, paths = [], [op.inputs[0]]
    while paths:
        last = ops[paths.pop()]
        if isinstance(last, Conv):
            found.append(last.path)
        else:
            paths += last.inputs
    return found
