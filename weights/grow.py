"""Weights of a small network for a larger one that contains it, so that both compute the same function.

Wider: a channel is split into copies, and what reads them shares its kernel among them; a copy gets what the channel
got. Deeper: a new block's last batch norms begin with gamma and beta 0, so that its sum is its input. After Net2Net
(Chen, Goodfellow & Shlens, arXiv 1511.05641, section 2), with the ties of residual sums, depthwise convolutions and
Ghost modules kept, squeeze-and-excitation split, and shares that are drawn: equal ones leave copies equal for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from scaling_rules.errors import ZooError
from scaling_rules.lower import (
    Add,
    Concat,
    Conv,
    Dense,
    Primitive,
    SqueezeExcite,
    Subsample,
    block_of,
    lower,
)
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec
from scaling_rules.ties import branch_ends, ties

DEAD = -1
"""In a map: a channel that nothing reads, since the small network has none such."""


class Grown(NamedTuple):
    """values: arrays by path; the large network's other tensors are to be drawn. Paths of what became of them:

    kept: as they are. split: over more channels. identity: zeros that make a new block compute its input.
    broken: why the function is another, a line each; empty where it is the same.
    """

    values: dict[str, np.ndarray]
    kept: tuple[str, ...]
    split: tuple[str, ...]
    identity: tuple[str, ...]
    broken: tuple[str, ...]


def grow(
    small: NetworkSpec,
    given: Mapping[str, np.ndarray],
    large: NetworkSpec,
    *,
    seed: int = 0,
    equal: bool = False,
    strict: bool = True,
) -> Grown:
    """The tensors of `large`, which has the blocks and widths of `small` and more, from those of `small`.

    given: by path, as `scaling_rules.shapes.tensors` names them; a path that is missing is missing in the answer.
    seed: of which channels are copied and how they share. equal: copies share equally, for comparison.
    strict=False: what has no counterpart is left to be drawn, and said in `broken`; the network then needs training.

    Logits are the same but for the rounding of sums in float32; bit for bit where blocks are added and nothing wider.

    Raises ZooError for a `large` with fewer stages or blocks, a narrower one, and in strict mode for whatever makes the
    function another: a higher resolution, an activation, a kernel, squeeze-and-excitation where there was none, a new
    block without a shortcut.
    """
    _check_shape(small, large)
    broken = _differences(small, large)
    if broken and strict:
        raise ZooError(
            f"{large.name} cannot compute what {small.name} does: {'; '.join(broken[:3])}"
            f"{f' and {len(broken) - 3} more' if len(broken) > 3 else ''}. "
            "strict=False maps what it can; the network then needs training."
        )
    ops = {op.path: op for op in lower(large)}
    maps = _Maps(small, ops, np.random.default_rng(seed))
    shares = _Shares(np.random.default_rng(seed + 1), equal)
    values: dict[str, np.ndarray] = {}
    for op in ops.values():
        if op.path in maps.small and _alike(maps.small[op.path], op):
            _fill(op, maps, shares, given, values)
    table = tensors(large)
    for path in [path for path, array in values.items() if array.shape != table[path].shape]:
        del values[path]  # a classifier of other classes
    before = {path: array.shape for path, array in given.items()}
    identity = {path: np.zeros(table[path].shape, np.float32) for path in _last_norms(maps.small, ops)}
    return Grown(
        values | identity,
        tuple(path for path, array in values.items() if array.shape == before[path]),
        tuple(path for path, array in values.items() if array.shape != before[path]),
        tuple(identity),
        tuple(broken),
    )


def _check_shape(small: NetworkSpec, large: NetworkSpec) -> None:
    if len(small.stages) != len(large.stages):
        raise ZooError(
            f"{large.name} has {len(large.stages)} stages, {small.name} {len(small.stages)}: nothing to grow."
        )
    for number, (own, theirs) in enumerate(zip(large.stages, small.stages, strict=True), 1):
        if len(own) < len(theirs):
            raise ZooError(f"stage{number} of {large.name} has {len(own)} blocks, of {small.name} {len(theirs)}.")
    before = {op.path: op for op in lower(small)}
    for op in lower(large):
        if op.path in before and op.cout < before[op.path].cout and op.path != "head.classifier":
            raise ZooError(f"{op.path} of {large.name} has {op.cout} channels, of {small.name} {before[op.path].cout}.")


def _alike(one: Primitive, other: Primitive) -> bool:
    """Whether two primitives of a path compute the same but for widths; what they read may have a new last block."""
    return type(one) is type(other) and _bare(one) == _bare(other)


def _bare(op: Primitive) -> dict[str, object]:
    """What a primitive computes, without its widths, its inputs, and how deep it lies."""
    told = {name: value for name, value in op._asdict().items() if name not in WIDTHS}
    return told | {"depthwise": isinstance(op, Conv) and op.groups > 1}


WIDTHS = ("inputs", "cin", "cout", "squeeze", "groups", "depth")


def _differences(small: NetworkSpec, large: NetworkSpec) -> list[str]:
    """What makes the large network's function another, whatever its weights, a line each."""
    found = []
    if large.input[:2] != small.input[:2]:
        (height, width), (own, side) = small.input[:2], large.input[:2]
        found.append(f"the resolution is {own}x{side}, not {height}x{width}")
    if (small.mean, small.std) != (large.mean, large.std):
        found.append("pictures are normalised otherwise")
    if replace(large.dialect, name="") != replace(small.dialect, name=""):
        found.append(f"the dialect is {large.dialect.name}, not {small.dialect.name}")
    before = {op.path: op for op in lower(small)}
    blocks = {block_of(path) for path in before}
    for op in lower(large):
        if op.path in before:
            if not _alike(before[op.path], op):
                found.append(f"{op.path} is {_said(op)}, not {_said(before[op.path])}")
            elif isinstance(op, Subsample) and op.cout - op.cin < _new_channels(before[op.path]):
                needed = _new_channels(before[op.path])
                found.append(f"{op.path} pads {op.cout - op.cin} channels, fewer than the {needed} that are there")
        elif block_of(op.path) in blocks:
            found.append(f"{op.path} is new in a block that was there")
    present = {op.path for op in lower(large)}
    found += [f"{path} is not in {large.name}" for path in before if path not in present]
    for number, stage in enumerate(large.stages, 1):
        for index, block in enumerate(stage, 1):
            if f"stage{number}.block{index}" not in blocks and block.shortcut != "identity":
                found.append(f"stage{number}.block{index}, a new {block.kind} block, has no identity shortcut")
    return found


def _new_channels(op: Primitive) -> int:
    return op.cout - op.cin if isinstance(op, Subsample) else 0


def _said(op: Primitive) -> str:
    parts = [f"{name} {getattr(op, name)}" for name in ("kernel", "stride", "act", "gate") if name in op._fields]
    return f"{type(op).__name__} of {', '.join(parts)}" if parts else type(op).__name__


def _last_norms(small: Mapping[str, Primitive], ops: Mapping[str, Primitive]) -> list[str]:
    """Gamma and beta of the last batch norms of each new block's branch."""
    new = [op for op in ops.values() if isinstance(op, Add) and op.path not in small]
    ends = [path for op in new for path in branch_ends(op, ops)]
    return [f"{path}.norm.{name}" for path in ends for name in ("gamma", "beta")]


# -- which channel of the large network is a copy of which of the small one


@dataclass
class _Maps:
    """Maps by path: for each channel of the large network's output the small one's that it copies, or DEAD."""

    network: NetworkSpec
    ops: Mapping[str, Primitive]
    chance: np.random.Generator
    small: dict[str, Primitive] = field(init=False)
    _root: Callable[[str], str] = field(init=False)
    _of: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.small = {op.path: op for op in lower(self.network)}
        self._root = ties(self.ops.values())
        self._of = {self._root("input"): np.arange(self.network.input[2])}
        # Halves first: a Ghost module's output follows its primary convolution, and with it the whole trunk.
        for op in self.ops.values():
            if isinstance(op, Concat) and isinstance(self.small.get(op.path), Concat):
                self._halve(op)
        for op in self.ops.values():
            if op.path in self.small and self._root(op.path) not in self._of:
                self._of[self._root(op.path)] = self._drawn(op)

    def _halve(self, op: Concat) -> None:
        whole, primary = self._root(op.path), self._root(op.inputs[0])
        own = self.small[op.inputs[0]].cout
        if whole in self._of:
            half = self._of[whole][: self.ops[op.inputs[0]].cout]
        elif primary in self._of:
            half = self._of[primary]
        else:
            half = self.copies(own, self.ops[op.inputs[0]].cout)
        both = np.concatenate([half, own + half])[: op.cout]
        both[both >= self.small[op.path].cout] = DEAD  # the small network's module cut this channel off
        self._of[primary] = half
        self._of[whole] = both

    def _drawn(self, op: Primitive) -> np.ndarray:
        """The map of a group that no Ghost module is in, by its first member."""
        own, wide = self.small[op.path].cout, op.cout
        for other in self.ops.values():  # a padded shortcut: its input's channels first, then those that are zero
            if isinstance(other, Subsample) and self._root(self._sum_of(other)) == self._root(op.path):
                first = self._of[self._root(other.inputs[0])]
                fresh = own - self.small[self.small[other.path].inputs[0]].cout
                rest = wide - len(first)
                more = self.copies(fresh, rest) + own - fresh if fresh else np.full(rest, DEAD)
                return np.concatenate([first, more])
        return self.copies(own, wide)

    def _sum_of(self, op: Subsample) -> str:
        return next(each.path for each in self.ops.values() if isinstance(each, Add) and op.path in each.inputs)

    def copies(self, own: int, wide: int) -> np.ndarray:
        """Each channel itself, then copies of drawn ones, as equally often as can be."""
        more = wide - own
        rounds = [self.chance.permutation(own) for _ in range(-(-more // own))]
        return np.concatenate([np.arange(own), *rounds])[:wide].astype(np.int64)

    def __getitem__(self, path: str) -> np.ndarray:
        return self._of[self._root(path)]


@dataclass
class _Shares:
    chance: np.random.Generator
    equal: bool

    def of(self, copies: np.ndarray, outputs: int) -> np.ndarray:
        """(channels, outputs): what each copy's part of the kernel is; the copies of a channel sum to 1."""
        alive = copies != DEAD
        drawn = np.ones((len(copies), outputs)) if self.equal else self.chance.uniform(0.5, 1.5, (len(copies), outputs))
        drawn[~alive] = 0
        sums = np.zeros((copies.max() + 1, outputs))
        np.add.at(sums, copies[alive], drawn[alive])
        drawn[alive] /= sums[copies[alive]]
        return drawn


def _fill(
    op: Primitive, maps: _Maps, shares: _Shares, given: Mapping[str, np.ndarray], values: dict[str, np.ndarray]
) -> None:
    """Add the tensors of a primitive that the small network has, too."""

    def vector(path: str, copies: np.ndarray) -> None:
        if path in given:
            values[path] = np.asarray(given[path])[np.maximum(copies, 0)]

    def kernel(path: str, reads: np.ndarray, gives: np.ndarray) -> None:
        if path in given:
            split = np.asarray(given[path], np.float64)[..., np.maximum(reads, 0), :][..., np.maximum(gives, 0)]
            values[path] = (split * shares.of(reads, len(gives))).astype(np.float32)

    if isinstance(op, Conv):
        path, gives = f"{op.path}.conv.kernel", maps[op.path]
        if op.groups == 1:
            kernel(path, maps[op.inputs[0]], gives)
        elif path in given:
            values[path] = np.asarray(given[path])[:, :, np.maximum(gives, 0)]
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            vector(f"{op.path}.norm.{name}", gives)
    elif isinstance(op, SqueezeExcite):
        theirs = maps.small[op.path]
        assert isinstance(theirs, SqueezeExcite)
        inner, outer = maps.copies(theirs.squeeze, op.squeeze), maps[op.path]
        kernel(f"{op.path}.reduce.kernel", outer, inner)
        vector(f"{op.path}.reduce.bias", inner)
        kernel(f"{op.path}.expand.kernel", inner, outer)
        vector(f"{op.path}.expand.bias", outer)
    elif isinstance(op, Dense):
        gives = maps[op.path] if op.path != "head.classifier" else np.arange(maps.small[op.path].cout)
        kernel(f"{op.path}.dense.kernel", maps[op.inputs[0]], gives)
        vector(f"{op.path}.dense.bias", gives)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            vector(f"{op.path}.norm.{name}", gives)
