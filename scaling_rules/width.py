"""Widths of every convolution, as one list in and out of a spec (BCNet, arXiv 2105.10533)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scaling_rules.errors import ZooError
from scaling_rules.spec import Block, NetworkSpec


def with_widths(spec: NetworkSpec, widths: Sequence[int]) -> NetworkSpec:
    """`spec` with the output channels of its convolutions replaced by `widths`, in network order.

    The order is the stem, each block's inner convolutions, its last one, its projection shortcut if it has
    one, and the head's convolution. Raises ZooError for a wrong count and for widths that break a tie: a
    depthwise convolution that differs from its input, a sum of unequal widths.
    """
    rest: Iterator[int] = iter(widths)
    projections = sum(block.shortcut == "projection" for block in spec.blocks)
    count = 1 + sum(len(block.mids) + 1 for block in spec.blocks) + projections + (spec.head.conv > 0)
    if len(widths) != count:
        raise ZooError(f"{spec.name} has {count} convolution widths, not {len(widths)}.")

    def narrow(block: Block, at: str) -> Block:
        mids = tuple(next(rest) for _ in block.mids)
        out = next(rest)
        if block.shortcut == "projection" and (projection := next(rest)) != out:
            raise ZooError(f"{at}: the sum of {out} channels and a shortcut of {projection}.")
        return replace(block, mids=mids, out=out)

    stem = replace(spec.stem, out=next(rest))
    stages = tuple(
        tuple(narrow(block, f"stage{s}.block{b}") for b, block in enumerate(stage, 1))
        for s, stage in enumerate(spec.stages, 1)
    )
    head = replace(spec.head, conv=next(rest)) if spec.head.conv else spec.head
    return replace(spec, stem=stem, stages=stages, head=head)
