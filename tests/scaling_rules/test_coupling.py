"""Groups of channels: how often each is trained is the closed form of the papers; costs are the networks'."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules import compound
from scaling_rules import coupling as couplings
from scaling_rules.cost import cost
from scaling_rules.coupling import METHODS, coupling
from scaling_rules.errors import ZooError
from scaling_rules.width_space import space
from zoo import registry

MOBILENET = space(registry.architecture("channel-bench-mobilenet-4444444"))


def counts(method, groups, least, variable=0):
    """How often each group is trained over all widths that are drawn, each with its complement if it has one."""
    found = coupling(MOBILENET, method, groups, least)
    uses = found.uses((variable, "whole", 0))
    sides = uses if found.both else uses[:1]
    low, high = found.drawn
    drawn = range(low, high + 1)
    times = sum(sides[:, c].sum(0) for c in drawn)
    if found.total:
        times = times + sum(sides[:, found.total - c].sum(0) for c in drawn)
    edges = found.edges[variable]
    assert all(len(set(times[a:b])) == 1 for a, b in itertools.pairwise(edges))
    return [int(times[a]) for a in edges[:-1]], len(drawn)


def test_counts_are_the_closed_forms():
    """K = 4 and K = 6: bcnet.md, sections 2 to 4 (figures 1 and 3 of the release)."""
    assert counts("ua", 6, 1, 1) == ([6, 5, 4, 3, 2, 1], 6)
    assert counts("bcnet", 6, 1, 1) == ([7] * 6, 6)
    # With m = 3: 5/4, 3/2, 7/4, 7/4, 3/2, 5/4 over four widths.
    assert counts("bcnet", 6, 3, 1) == ([5, 6, 7, 7, 6, 5], 4)
    assert counts("bcnet-exact", 4, 1) == ([6] * 4, 3)
    assert counts("bcnet-mirror", 4, 1) == ([10] * 4, 4)  # 5/2 a pair
    for groups, least in ((4, 1), (6, 3), (20, 5)):
        assert counts("bcnetv2", groups, least, 1) == (
            [2 * (groups - least + 1)] * (groups + least),
            groups - least + 1,
        )


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["bcnet-exact", "bcnetv2"]), st.integers(2, 24), st.data())
def test_each_pair_trains_each_channel_twice(method, groups, data):
    least = data.draw(st.integers(1, groups - 1)) if method == "bcnetv2" else 1
    found = coupling(MOBILENET, method, groups, least)
    low, high = found.drawn
    c = data.draw(st.integers(low, high))
    assert low <= found.total - c <= high
    for variable in range(7):
        uses = found.uses((variable, "whole", 0))
        times = uses[:, c].sum(0) + uses[:, found.total - c].sum(0)
        odd = 2 * c == found.total and uses.shape[-1] % 2
        assert (times == 2).all() or (odd and np.flatnonzero(times != 2).tolist() == [uses.shape[-1] // 2])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["efficientnet-b0", "ghostnet-1.0x", "resnet-50", "mobilenet-v2-1.0x"]),
    st.sampled_from(METHODS),
    st.integers(2, 24),
    st.data(),
)
def test_both_paths_have_the_channels_of_the_network(name, method, groups, data):
    spec = registry.architecture(name)
    least = data.draw(st.integers(1, groups - 1))
    if method == "bcnet-exact" and 2 * least > groups:
        least = 1
    found = coupling(space(spec), method, groups, least)
    choice = data.draw(st.lists(st.integers(least, groups), min_size=len(found.edges), max_size=len(found.edges)))
    alone = found.at(choice)
    assert found.macs(np.array([choice])).tolist() == [cost(alone).macs]
    whole = found.at([groups] * len(choice))
    assert [v.channels for v in space(whole).variables] == [v.channels for v in found.space.variables]
    narrow = space(alone)
    for path, (variable, how, fixed) in found.space.sides.items():
        uses = found.uses((variable, how, fixed))[:, choice[variable]].sum(-1)
        if how == "squeeze":
            stage, block = (int(part[5:]) - 1 for part in path.split(".")[:2])
            assert uses.tolist() == [alone.stages[stage][block].squeeze] * 2
            continue
        wanted = narrow.variables[variable].channels
        assert uses.tolist() == [wanted if how == "whole" else wanted // 2] * 2


def test_the_supernet_of_v2_is_wider_by_m_groups():
    wide = compound.scale(registry.architecture("mobilenet-v2-1.0x"), width=1.5)
    found = coupling(space(wide), "bcnetv2", 20, 6)
    assert found.wide.stem.out == 48 + 15  # 62 in the release, which cuts where this rounds up
    assert found.edges[0][20] == 48


def test_bad_input():
    resnet = registry.architecture("resnet-20")
    for message, given_space, method, groups, least in (
        ("unknown method 'bcnetv3'", MOBILENET, "bcnetv3", 20, 1),
        ("2 groups or more, not 1", MOBILENET, "ua", 1, 1),
        ("must be 1 to 19 of the 20 groups, not 20", MOBILENET, "ua", 20, 20),
        ("must be 1 to 3 of the 4 groups, not 0", MOBILENET, "ua", 4, 0),
        ("resnet-20 has padded shortcuts", space(resnet), "bcnet", 20, 1),
    ):
        with pytest.raises(ZooError, match=message):
            coupling(given_space, method, groups, least)
    none = couplings.WidthSpace(resnet, (), (), {})
    with pytest.raises(ZooError, match="resnet-20 has no width that could be another"):
        coupling(none, "ua", 20, 1)
