"""Where a ResNet downsamples: every choice of layers that begin a coarser map, the channels as they were.

The spaces of Balanced Mixture of SuperNets (arXiv 2306.11982), by a rule for any ResNet. A configuration is written as
the paper writes it, as how many layers run at each resolution: [4, 3, 3] is the ordinary ResNet-20.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from scaling_rules.cost import human, macs
from scaling_rules.errors import ZooError, unknown
from scaling_rules.lower import BODIES
from scaling_rules.spec import Block, NetworkSpec

STEMS = {"cifar": (3, 1, 0), "imagenet": (7, 2, 3)}
"""Kernel, stride and max-pool of a stem, by the pictures it was made for: of 32 pixels, of 224."""

KINDS = ("basic", "bottleneck")
"""Blocks that this rule can move a stride in and out of."""


@dataclass(frozen=True)
class PoolingSpace:
    """The configurations of a ResNet.

    spec: the network whose positions vary. lengths: of each configuration, in lexicographic order, layers by resolution
    from the finest on. The authors' ids are places in this order, for ResNet-20 from 1 and for the others from 0.
    """

    spec: NetworkSpec
    lengths: tuple[tuple[int, ...], ...]

    def at(self, number: int) -> NetworkSpec:
        """The network of configuration `number`, under its name."""
        return placed(self.spec, self.lengths[number])

    @functools.cached_property
    def macs(self) -> tuple[int, ...]:
        """Multiply-adds of each configuration for one picture."""
        return tuple(macs(placed(self.spec, lengths)) for lengths in self.lengths)

    @property
    def own(self) -> int | None:
        """The number of the configuration that `spec` has itself; None where a budget leaves it out."""
        own = positions(self.spec)
        return self.lengths.index(own) if own in self.lengths else None


def space(spec: NetworkSpec, downsamplings: int | None = None, budget: int | None = None) -> PoolingSpace:
    """All configurations of a ResNet, or those of at most `budget` multiply-adds.

    downsamplings: how many; the network's own number by default. Raises ZooError for another kind of network, for fewer
    than one and more than layers follow the first, an input smaller than the total stride, and where no configuration
    fits the budget.
    """
    layers = sum(positions(spec))
    count = len(positions(spec)) - 1 if downsamplings is None else downsamplings
    if not 1 <= count < layers:
        raise ZooError(
            f"{spec.name} has {layers} layers that may differ in resolution, so 1 to {layers - 1} downsamplings, "
            f"not {count}."
        )
    cuts = combinations(range(1, layers), count)
    every = PoolingSpace(spec, tuple(tuple(b - a for a, b in pairwise((0, *cut, layers))) for cut in cuts))
    if budget is None:
        every.at(0)  # which refuses an input that is too small
        return every
    kept = tuple(own for own, cost in zip(every.lengths, every.macs, strict=True) if cost <= budget)
    if not kept:
        least = min(range(len(every.lengths)), key=every.macs.__getitem__)
        raise ZooError(
            f"no configuration of {spec.name} costs at most {human(budget)} MACs; the cheapest is "
            f"{text(every.lengths[least])} with {human(every.macs[least])}."
        )
    return PoolingSpace(spec, kept)


def placed(spec: NetworkSpec, lengths: Sequence[int]) -> NetworkSpec:
    """The network with its downsampling moved to where `lengths` says, under its name; a stage is one resolution.

    A block downsamples as those of `spec` do: by a max-pool before it, or by its stride. Where it keeps the number of
    channels, its shortcut is every second pixel, so all configurations have the same tensors.
    """
    begin = starts(spec, lengths)
    blocks = [_block(spec, index, index in begin) for index in range(len(spec.blocks))]
    edges = [0, *(index for index in begin if index), len(blocks)]
    stages = tuple(tuple(blocks[a:b]) for a, b in pairwise(edges))
    return replace(spec, name=name(spec, lengths), stages=stages)


def with_stem(spec: NetworkSpec, stem: str) -> NetworkSpec:
    """The network with another stem, of STEMS. Raises ZooError for an unknown one."""
    if stem not in STEMS:
        raise unknown("stem", stem, STEMS)
    kernel, stride, pool = STEMS[stem]
    return replace(spec, stem=replace(spec.stem, kernel=kernel, stride=stride, pool=pool))


def undivided(spec: NetworkSpec) -> NetworkSpec:
    """The network without its blocks' downsampling, all of them in one stage, and 'padded' shortcuts for identities.

    A padded shortcut of stride 1 and equal channels is an identity that has a primitive of its own: a supernet's place
    to subsample.
    """
    blocks = [_block(spec, index, False) for index in range(len(spec.blocks))]
    blocks = [replace(block, shortcut="padded") if block.shortcut == "identity" else block for block in blocks]
    return replace(spec, name=f"{bare(spec)}-undivided", stages=(tuple(blocks),))


def positions(spec: NetworkSpec) -> tuple[int, ...]:
    """Layers at each resolution of a network as it is: (4, 3, 3). Raises ZooError where it is no ResNet.

    The stem is the first layer where it neither strides nor pools; else the blocks alone are counted, and the first of
    them never downsamples.
    """
    first = _first(spec)
    blocks = spec.blocks
    bad = next((block for block in blocks if block.kind not in KINDS or block.shortcut == "none"), None)
    if bad:
        raise ZooError(f"{spec.name} has a {bad.kind} block; downsampling moves between {' and '.join(KINDS)} blocks.")
    if any(block.stride > (1 if pools(spec) else 2) for block in blocks) or (not first and _downsamples(blocks[0])):
        raise ZooError(f"{spec.name} does not downsample by strides of 2 alone, or by max-pools alone, after a layer.")
    edges = (0, *(index + first for index, block in enumerate(blocks) if _downsamples(block)), len(blocks) + first)
    return tuple(b - a for a, b in pairwise(edges))


def starts(spec: NetworkSpec, lengths: Sequence[int]) -> list[int]:
    """The blocks, counted from 0, that begin a coarser map in a configuration."""
    return [sum(lengths[:n]) - _first(spec) for n in range(1, len(lengths))]


def pools(spec: NetworkSpec) -> bool:
    """Whether the network downsamples by max-pools before its blocks, and not by their strides."""
    return any(block.pool for block in spec.blocks)


def strided(block: Block) -> str:
    """The name of the convolution that strides in a block: 'conv2'."""
    return BODIES[block.kind].paths[block.stride_at]


def name(spec: NetworkSpec, lengths: Sequence[int]) -> str:
    """'resnet-20-pool-5-3-2'."""
    return f"{bare(spec)}-pool-{'-'.join(map(str, lengths))}"


def text(lengths: Sequence[int]) -> str:
    """'[5,3,2]'."""
    return f"[{','.join(map(str, lengths))}]"


def bare(spec: NetworkSpec) -> str:
    """'resnet-20' of resnet-20-pool-4-3-3."""
    return re.sub(r"-pool(-\d+)+$", "", spec.name)


def _first(spec: NetworkSpec) -> int:
    """Layers before the first block that count: 1 for a stem that keeps the picture's size."""
    return int(spec.stem.stride == 1 and not spec.stem.pool)


def _downsamples(block: Block) -> bool:
    return block.stride > 1 or block.pool > 0


def _block(spec: NetworkSpec, index: int, downsamples: bool) -> Block:
    """A block of the network with or without downsampling, whether it has it there or not."""
    block = spec.blocks[index]
    fan_in = spec.blocks[index - 1].out if index else spec.stem.out
    if pools(spec):
        window = max(block.pool for block in spec.blocks)
        return replace(block, pool=window if downsamples else 0)
    if fan_in == block.out:
        return replace(block, stride=2 if downsamples else 1, shortcut="padded" if downsamples else "identity")
    return replace(block, stride=2 if downsamples else 1)
