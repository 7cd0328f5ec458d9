"""Which channels of a supernet a width uses: groups, the left and the right path, complements.

Each width is cut into K groups, and c of them, m at least, make a network narrower. A supernet holds all of them in one
set of tensors. With the leftmost c groups alone (AutoSlim's way, called unilaterally augmented or UA) the first group
is trained for every c and the last for one. BCNet (Su et al., arXiv 2105.10533, section 3) trains the leftmost c and
the rightmost c, which is even in expectation, and with each width vector its complement. BCNetV2 (arXiv 2203.13714)
keeps that even for c of at least m: the supernet has K + m groups and the complement of c is K + m - c, so each pair
trains each group exactly twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from scaling_rules.errors import ZooError, shown, unknown
from scaling_rules.lower import Subsample, lower
from scaling_rules.spec import NetworkSpec
from scaling_rules.width_space import Side, WidthSpace, part

if TYPE_CHECKING:
    import numpy as np

METHODS = ("ua", "autoslim", "bcnet", "bcnet-exact", "bcnet-mirror", "bcnetv2")
"""Supernets. 'bcnet' draws each width vector alone; 'bcnet-exact' with its complement K - c, which leaves no K to draw;
'bcnet-mirror' with K + 1 - c, never empty, but not even within a pair. 'autoslim' cuts channels as 'ua' does."""


@dataclass(frozen=True)
class Coupling:
    """A width space cut into groups, and how a supernet of one method shares them.

    A choice is a vector of whole numbers c, least <= c <= groups, one a variable. extra: groups that the supernet has
    beyond `groups`. total: what a choice and its complement add up to, 0 for no complements. both: whether the
    rightmost channels are a path too.
    """

    space: WidthSpace
    groups: int
    least: int
    extra: int = 0
    total: int = 0
    both: bool = True

    @property
    def drawn(self) -> tuple[int, int]:
        """The lowest and the highest c that training draws, so that the complement can be had too."""
        if not self.total:
            return self.least, self.groups
        return max(self.least, self.total - self.groups), min(self.groups, self.total - self.least)

    @cached_property
    def edges(self) -> np.ndarray:
        """Channels of c groups of each variable, int64 (variables, groups + extra + 1), from 0 groups on."""
        import numpy as np

        return np.array([_edges(v.channels, v.paired, self.groups, self.extra) for v in self.space.variables])

    def channels(self, choices: np.ndarray) -> np.ndarray:
        """Channels of each variable for int choices (n, variables)."""
        import numpy as np

        choices = np.asarray(choices, np.int64)
        return self.edges[np.arange(choices.shape[-1]), choices]

    def macs(self, choices: np.ndarray) -> np.ndarray:
        """Exact multiply-adds of each network, int64 (n,), for int choices (n, variables)."""
        return self.space.macs(self.channels(choices))

    def at(self, choice: Sequence[int]) -> NetworkSpec:
        """The network of one choice, to be trained alone."""
        import numpy as np

        return self.space.at(self.channels(np.array([choice]))[0])

    @property
    def wide(self) -> NetworkSpec:
        """The network whose tensors the supernet has."""
        return self.at([self.groups + self.extra] * len(self.space.variables))

    def uses(self, side: Side) -> np.ndarray:
        """The channels that c groups use, bool (2, groups + extra + 1, channels of the supernet), left and right."""
        import numpy as np

        variable, how, fixed = side
        own = self.space.variables[variable]
        counts = part(self.edges[variable], own.channels, how, fixed)
        counts[0] = 0
        if not (own.paired and how == "whole"):
            return _first_and_last(counts)
        half = _first_and_last(counts // 2)
        return np.concatenate([half, half], -1)


def coupling(space: WidthSpace, method: str, groups: int = 20, least: int = 1) -> Coupling:
    """How a supernet of `method` shares the groups of a space.

    Raises ZooError for an unknown method, for `groups` below 2, `least` outside 1 to `groups` - 1, a space without
    widths, and a network with padded shortcuts, which join channels by their number: in a right path these are others.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if groups < 2:
        raise ZooError(f"a width needs 2 groups or more, not {groups}.")
    if not 1 <= least < groups:
        raise ZooError(f"the least width must be 1 to {groups - 1} of the {groups} groups, not {least}.")
    name = shown(space.spec.name)
    if not space.variables:
        raise ZooError(f"{name} has no width that could be another.")
    if any(isinstance(op, Subsample) for op in lower(space.spec)):
        raise ZooError(f"{name} has padded shortcuts, which no supernet of widths can share.")
    if method in ("ua", "autoslim"):
        return Coupling(space, groups, least, both=False)
    if method == "bcnetv2":
        return Coupling(space, groups, least, extra=least, total=groups + least)
    return Coupling(space, groups, least, total={"bcnet": 0, "bcnet-exact": groups, "bcnet-mirror": groups + 1}[method])


def _edges(channels: int, paired: bool, groups: int, extra: int) -> list[int]:
    """Channels of 0, 1, ... groups + extra groups; pairs of them where `paired`.

    Counted from both ends alike, so that the first c groups and the last c have as many channels, and c groups and
    the others' make the whole (but for the middle channel of an odd number).
    """
    unit = 2 if paired else 1
    units = -(-channels // unit)
    least = [0, *(max(1, -(-units * c // groups)) for c in range(1, groups + 1))]
    total, last = units + least[extra], groups + extra
    first = least[: last // 2 + 1]
    if last % 2 == 0:
        first[-1] = -(-total // 2)
    return [unit * edge for edge in first + [total - first[last - c] for c in range(last // 2 + 1, last + 1)]]


def _first_and_last(counts: np.ndarray) -> np.ndarray:
    """The first and the last counts[c] of counts[-1] channels, bool (2, len(counts), counts[-1])."""
    import numpy as np

    left = np.arange(counts[-1]) < counts[:, None]
    return np.stack([left, left[:, ::-1]])
