"""Spaces of downsampling positions: the papers' counts and ids, the same tensors everywhere, exact costs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError
from scaling_rules.pooling import placed, positions, space, undivided, with_stem
from scaling_rules.shapes import shapes, tensors
from zoo import registry

TWENTY = registry.architecture("resnet-20-pool-4-3-3")
EIGHTEEN = registry.architecture("resnet-18-pool-3-2-2-2")
FIFTY = registry.architecture("resnet-50-pool-3-4-6-3")


@pytest.mark.parametrize(
    ("spec", "count", "ids"),
    [  # reference/balanced_mixture.md, sections 1 and 4
        (TWENTY, 36, {0: (1, 1, 8), 23: (4, 3, 3), 27: (5, 2, 3), 33: (7, 1, 2), 35: (8, 1, 1)}),
        (EIGHTEEN, 56, {41: (3, 2, 2, 2), 46: (4, 1, 1, 3)}),
        (FIFTY, 455, {204: (3, 4, 6, 3), 360: (6, 4, 5, 1), 274: (4, 5, 6, 1), 433: (9, 4, 2, 1), 412: (8, 3, 3, 2)}),
        (with_stem(FIFTY, "cifar"), 560, {309: (4, 4, 6, 3), 204: (3, 1, 9, 4)}),
    ],
)
def test_the_authors_spaces(spec, count, ids):
    found = space(spec)
    assert len(found.lengths) == count
    assert {number: found.lengths[number] for number in ids} == ids
    assert found.own == next(number for number, lengths in ids.items() if lengths == positions(spec))
    assert replace(placed(spec, positions(spec)), name=spec.name) == spec


@pytest.mark.parametrize("name", ["resnet-20-pool-4-3-3", "resnet-18-pool-3-2-2-2", "resnet-50-pool-3-4-6-3"])
def test_configurations_are_the_names_of_the_zoo(name):
    found = space(registry.architecture(name))
    for number in (0, len(found.lengths) // 3, -1):
        own = found.at(number)
        assert own == registry.architecture(own.name)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_resnet(data):
    """As many layers on each map as its name says, tensors that never change, the cost that is stated."""
    name = data.draw(st.sampled_from(["resnet-20", "resnet-34", "resnet-32", "resnet-20-pool-4-3-3"]))
    spec = registry.architecture(name)
    found = space(spec, data.draw(st.integers(1, 2)))
    number = data.draw(st.integers(0, len(found.lengths) - 1))
    network, lengths = found.at(number), found.lengths[number]
    assert positions(network) == lengths
    assert network.name.endswith(f"-pool-{'-'.join(map(str, lengths))}")
    assert [each.shape for each in tensors(network).values()] == [
        each.shape for each in tensors(undivided(spec)).values()
    ]
    maps = shapes(network)
    sides = [maps[path][0] for path in maps if path == "stem" or path.endswith(".sum")]
    counted = sides if spec.stem.stride == 1 else sides[1:]
    assert [counted.count(side) for side in sorted(set(counted), reverse=True)] == list(lengths)
    assert found.macs[number] == cost(network).macs


def test_a_budget_keeps_what_costs_less():
    whole = space(TWENTY)
    found = space(TWENTY, budget=40_000_000)
    assert set(found.lengths) == {
        own for own, macs in zip(whole.lengths, whole.macs, strict=True) if macs <= 40_000_000
    }
    assert max(found.macs) <= 40_000_000
    assert found.own is None
    with pytest.raises(ZooError, match=r"costs at most 1.00M MACs; the cheapest is \[1,1,8\] with"):
        space(TWENTY, budget=1_000_000)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: space(TWENTY, 10), "has 10 layers .* so 1 to 9 downsamplings, not 10"),
        (lambda: space(TWENTY, 0), "1 to 9 downsamplings, not 0"),
        (lambda: space(replace(TWENTY, input=(8, 8, 3)), 4), "input 8x8 is smaller than the network's total stride 16"),
        (lambda: space(registry.architecture("ghostnet-1.0x")), "has a ghost block; .* basic and bottleneck blocks"),
        (lambda: with_stem(TWENTY, "mnist"), "unknown stem 'mnist'; valid: cifar, imagenet"),
        (
            lambda: space(replace(FIFTY, stages=FIFTY.stages[1:])),
            "does not downsample by strides of 2 alone, or by max-pools alone, after a layer",
        ),
    ],
)
def test_bad_input(call, why):
    with pytest.raises(ZooError, match=why):
        call()
