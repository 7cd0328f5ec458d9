"""What widths a network can have: one variable for all convolutions that must agree, found from its primitives.

BCNet (Su et al., arXiv 2105.10533) and BCNetV2 (arXiv 2203.13714) cut each variable's channels into K groups and keep
c of them, m at least. Tied are a depthwise convolution and what it reads, and all that one residual path sums; a Ghost
module's halves and squeeze-and-excitation follow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from scaling_rules.errors import ZooError
from scaling_rules.lower import BODIES, Concat, Conv, Dense, Primitive, SqueezeExcite, lower
from scaling_rules.shapes import shapes
from scaling_rules.spec import Block, NetworkSpec
from scaling_rules.ties import ties

if TYPE_CHECKING:
    import numpy as np

Side = tuple[int, str, int]
"""(variable, how a width follows from it, fixed): 'whole', 'half' rounded up, 'squeeze' as part of `fixed`."""

Place = tuple[int, int, int]
"""(stage, block, number of the inner width), from 0: -1 the block's output. Stage -1 is the stem, -2 the head."""


class Variable(NamedTuple):
    """Convolutions of one width: the first one's path, its channels at full width, and where a spec states it.

    paired: whether a Ghost module makes them, whose second half has a channel for each of the first.
    """

    path: str
    channels: int
    places: tuple[Place, ...]
    paired: bool


class _Term(NamedTuple):
    """Multiply-adds of a primitive: a factor times the widths that are free."""

    factor: int
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class WidthSpace:
    """The width vectors of a network: channels of each variable, in network order.

    sides: how the channels of each primitive's output follow from a variable, by path; those of a layer inside
    squeeze-and-excitation at the path + '.reduce'. A path that is not there keeps its channels.
    """

    spec: NetworkSpec
    variables: tuple[Variable, ...]
    terms: tuple[_Term, ...]
    sides: Mapping[str, Side]

    def macs(self, widths: np.ndarray) -> np.ndarray:
        """Multiply-adds of each row of `widths`, int (vectors, variables) of channels: those of its spec, exactly."""
        import numpy as np

        widths = np.asarray(widths, np.int64)
        total = np.zeros(len(widths), np.int64)
        sides: dict[Side, np.ndarray] = {}
        for term in self.terms:
            product = np.full(len(widths), term.factor, np.int64)
            for side in term.sides:
                if side not in sides:
                    sides[side] = self._side_of(widths[:, side[0]], side)
                product *= sides[side]
            total += product
        return total

    def expected_macs(self, widths: np.ndarray, chances: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean multiply-adds of networks whose widths are drawn independently, and its derivatives by `chances`.

        widths: int (variables, n) of channels to choose from; chances: float64 (variables, n), whose rows add up to 1.
        """
        import numpy as np

        total, slopes = 0.0, np.zeros_like(chances)
        for term in self.terms:
            # Of one variable's sides together, as they are not independent.
            own = dict.fromkeys(variable for variable, _, _ in term.sides)
            factors = {
                v: np.prod([self._side_of(widths[v], side) for side in term.sides if side[0] == v], axis=0) for v in own
            }
            means = {v: float(chances[v] @ factor) for v, factor in factors.items()}
            total += term.factor * math.prod(means.values())
            for v, factor in factors.items():
                slopes[v] += term.factor * factor * math.prod(mean for other, mean in means.items() if other != v)
        return total, slopes

    def _side_of(self, widths: np.ndarray, side: Side) -> np.ndarray:
        variable, how, fixed = side
        return part(widths, self.variables[variable].channels, how, fixed)

    def at(self, widths: Sequence[int]) -> NetworkSpec:
        """The network of these channels. Raises ZooError for another number of them, and for one below 1."""
        if len(widths) != len(self.variables):
            raise ZooError(f"{self.spec.name} has {len(self.variables)} free widths, not {len(widths)}.")
        stated: dict[Place, int] = {}
        for variable, width in zip(self.variables, widths, strict=True):
            stated |= dict.fromkeys(variable.places, int(width))

        def block(number: int, index: int, old: Block) -> Block:
            mids = tuple(stated[number, index, inner] for inner in range(len(old.mids)))
            source = max(1, old.mids[-1]) if old.mids else 1
            squeeze = max(1, old.squeeze * mids[-1] // source) if old.squeeze else 0
            return replace(old, mids=mids, out=stated[number, index, -1], squeeze=squeeze)

        stem = replace(self.spec.stem, out=stated[-1, 0, -1])
        stages = tuple(
            tuple(block(number, index, old) for index, old in enumerate(stage))
            for number, stage in enumerate(self.spec.stages)
        )
        head = replace(self.spec.head, conv=stated.get((-2, 0, -1), 0))
        return replace(self.spec, stem=stem, stages=stages, head=head)


def part(width: np.ndarray, channels: int, how: str, fixed: int) -> np.ndarray:
    """Channels that follow from a variable's `width`, int, as a `Side` says; channels: the variable's at full width."""
    import numpy as np

    if how == "half":
        return -(-width // 2)
    if how == "squeeze":
        return np.maximum(1, fixed * width // channels)
    return width


def space(spec: NetworkSpec) -> WidthSpace:
    """The free widths of a network. Hidden layers after pooling, and the classifier, keep theirs."""
    ops = {op.path: op for op in lower(spec)}
    root = ties(ops.values())
    places: dict[str, list[Place]] = {}
    for path, place in _places(spec):
        places.setdefault(root(path), []).append(place)
    order = list(dict.fromkeys(root(path) for path in ops))
    index = {each: number for number, each in enumerate(group for group in order if group in places)}
    first = {root(path): path for path in reversed(ops)}
    halves = {root(op.inputs[0]): root(op.path) for op in ops.values() if isinstance(op, Concat)}
    variables = tuple(
        Variable(first[group], ops[first[group]].cout, tuple(places[group]), group in halves.values())
        for group in index
    )
    sides: dict[str, Side] = {}
    for path, op in ops.items():
        group = root(path)
        if group in index:
            sides[path] = (index[group], "whole", 0)
        elif group in halves:
            sides[path] = (index[halves[group]], "half", 0)
        if isinstance(op, SqueezeExcite):
            sides[f"{path}.reduce"] = (index[group], "squeeze", op.squeeze)
    return WidthSpace(spec, variables, tuple(_terms(spec, ops, sides)), sides)


def _places(spec: NetworkSpec) -> list[tuple[str, Place]]:
    """A primitive's path for each width that a spec states."""
    found: list[tuple[str, Place]] = [("stem", (-1, 0, -1))]
    for number, stage in enumerate(spec.stages):
        for index, block in enumerate(stage):
            at = f"stage{number + 1}.block{index + 1}"
            *inner, last = BODIES[block.kind].paths[-len(block.mids) - 1 :]
            found += [(f"{at}.{name}", (number, index, n)) for n, name in enumerate(inner)]
            found.append((f"{at}.{last}", (number, index, -1)))
    return [*found, ("head.conv", (-2, 0, -1))] if spec.head.conv else found


def _terms(spec: NetworkSpec, ops: Mapping[str, Primitive], sides: Mapping[str, Side]) -> Iterator[_Term]:
    sizes = shapes(spec, tuple(ops.values()))
    for op in ops.values():
        if isinstance(op, SqueezeExcite):
            yield _Term(2, (sides[op.path], sides[f"{op.path}.reduce"]))
        elif isinstance(op, Conv | Dense):
            factor = sizes[op.path][0] * sizes[op.path][1] * op.kernel**2 if isinstance(op, Conv) else 1
            read = [] if isinstance(op, Conv) and op.groups > 1 else [(op.inputs[0], op.cin)]
            free = []
            for path, width in [*read, (op.path, op.cout)]:
                if path in sides:
                    free.append(sides[path])
                else:
                    factor *= width
            yield _Term(factor, tuple(free))
