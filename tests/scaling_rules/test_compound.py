"""The compound rule against the released networks, the paper's formula and its own budget."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scaling_rules import compound
from scaling_rules.cost import cost
from scaling_rules.errors import ZooError
from scaling_rules.rounding import make_divisible
from scaling_rules.spec import NetworkSpec
from zoo import registry

BASELINES = ("efficientnet-b0", "mobilenet-v1-1.0x", "mobilenet-v2-1.0x", "resnet-50", "ghostnet-1.0x", "resnet-20")


@pytest.mark.parametrize(
    ("value", "divisor", "rounded"),
    # round_filters of the released code: 35.2 -> 32 would lose more than a tenth? no; 17.8 -> 16 would
    [(35.2, 8, 32), (17.8, 8, 24), (3, 8, 8), (44.8, 8, 48), (20.8, 4, 20), (31.2, 4, 32), (1, 4, 4)],
)
def test_make_divisible(value, divisor, rounded):
    assert make_divisible(value, divisor) == rounded


@given(st.floats(0.01, 1e5), st.sampled_from([1, 4, 8, 16]))
def test_make_divisible_keeps_nine_tenths_and_the_order(value, divisor):
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= 0.9 * value
    assert rounded <= max(divisor, value + divisor)
    assert make_divisible(value * 1.01, divisor) >= rounded


@pytest.mark.parametrize("variant", list(compound.OFFICIAL))
def test_official_widths_and_depths(variant):
    """Stage by stage as the released round_filters and round_repeats give them."""
    c = compound.OFFICIAL[variant]
    spec = registry.architecture(f"efficientnet-{variant}")
    for stage, (_, out, layers, _, _) in zip(
        spec.stages,
        [
            (1, 16, 1, 3, 1),
            (6, 24, 2, 3, 2),
            (6, 40, 2, 5, 2),
            (6, 80, 3, 3, 2),
            (6, 112, 3, 5, 1),
            (6, 192, 4, 5, 2),
            (6, 320, 1, 3, 1),
        ],
        strict=True,
    ):
        assert len(stage) == math.ceil(c.depth * layers)
        assert {block.out for block in stage} == {make_divisible(out * c.width, 8)}
    assert spec.head.dropout == c.dropout
    assert spec.input == (c.resolution, c.resolution, 3)


def test_formula_and_table_part_from_b5_on():
    depths = {"b5": 5, "b6": 6, "b7": 7}
    for variant, phi in depths.items():
        depth, width, _ = compound.factors(phi)
        assert (
            round(width, 1) == compound.OFFICIAL[variant].width or abs(width - compound.OFFICIAL[variant].width) < 0.06
        )
        assert depth > 1.1 * compound.OFFICIAL[variant].depth
    assert pytest.approx(1.920, abs=1e-3) == compound.ALPHA * compound.BETA**2 * compound.GAMMA**2


def test_factors_of_one_change_nothing():
    for name in BASELINES:
        spec = registry.architecture(name)
        assert compound.scale(spec) == spec


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BASELINES), st.floats(0.3, 4), st.floats(0.3, 3), st.integers(0, 200))
def test_scaled_specs_are_valid_and_cost_grows(name, depth, width, more):
    spec = registry.architecture(name)
    scaled = compound.scale(spec, depth, width, spec.input[0] + more)
    assert NetworkSpec.from_json(scaled.to_json()) == scaled
    assert [len(stage) for stage in scaled.stages] == [math.ceil(depth * len(stage)) for stage in spec.stages]
    bigger = compound.scale(spec, depth * 1.2, width * 1.2, spec.input[0] + more + 8)
    assert cost(bigger).macs >= cost(scaled).macs
    assert cost(bigger).params >= cost(scaled).params


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(BASELINES), st.floats(0.2, 30))
def test_largest_network_under_a_budget(name, factor):
    spec = registry.architecture(name)
    budget = int(cost(spec).macs * factor)
    try:
        phi, network = compound.largest(spec, budget)
    except ZooError:
        assume(factor >= 1)
        raise
    assert cost(network).macs <= budget
    depth, width, resolution = compound.factors(phi + 1 / 1024)
    above = compound.scale(spec, depth, width, round(spec.input[0] * resolution))
    assert cost(above).macs > budget
    assert (phi >= 0) == (factor >= 1)


def test_two_to_the_phi():
    """Section 3.3: the cost grows about as (alpha * beta^2 * gamma^2) ** phi."""
    spec = registry.architecture("efficientnet-b0")
    depth, width, resolution = compound.factors(3)
    grown = cost(compound.scale(spec, depth, width, round(224 * resolution))).macs / cost(spec).macs
    assert 0.8 < grown / 1.920**3 < 1.35


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "2", None])
def test_bad_factors(value):
    spec = registry.architecture("efficientnet-b0")
    with pytest.raises(ZooError, match="depth must be a positive factor"):
        compound.scale(spec, depth=value)
    with pytest.raises(ZooError, match="width must be a positive factor"):
        compound.scale(spec, width=value)


@pytest.mark.parametrize("macs", [0, -5, 1.5, True, "600M"])
def test_bad_budget(macs):
    with pytest.raises(ZooError, match="macs must be a positive whole number"):
        compound.largest(registry.architecture("efficientnet-b0"), macs)


def test_budget_below_everything():
    with pytest.raises(ZooError, match="below the smallest scaling of efficientnet-b0"):
        compound.largest(registry.architecture("efficientnet-b0"), 10)


def test_resolution_below_the_total_stride():
    with pytest.raises(ZooError, match="input 16x16 is smaller than the network's total stride 32"):
        compound.scale(registry.architecture("resnet-50"), resolution=16)


def test_a_repeated_first_block_keeps_its_ratios():
    """B1's second block of stage 1 reads 16 channels: squeeze 4 of 16, nothing expanded."""
    block = registry.architecture("efficientnet-b1").stages[0][1]
    assert (block.mids, block.squeeze, block.stride, block.shortcut) == ((16,), 4, 1, "identity")
    block = registry.architecture("efficientnet-b3").stages[6][1]
    assert (block.mids, block.squeeze, block.out) == ((2304, 2304), 96, 384)


def test_scaling_keeps_name_free_fields():
    spec = replace(registry.architecture("ghostnet-1.0x"), classes=7)
    assert compound.scale(spec, 1.2, 1.1, 256).classes == 7


def test_the_grid_is_what_doubles_the_cost():
    """Against a plain enumeration: all points in steps of .1, by formula and by real multiply-adds."""
    spec = registry.architecture("mobilenet-v2-1.0x")
    start = cost(spec).macs
    expected = set()
    for a, b, g in itertools.product(range(10, 24), repeat=3):
        alpha, beta, gamma = a / 10, b / 10, g / 10
        if 1.8 <= alpha * beta**2 * gamma**2 <= 2.2:
            large = compound.scale(spec, alpha, beta, round(224 * gamma))
            if 1.8 <= cost(large).macs / start <= 2.2:
                expected.add((alpha, beta, gamma))
    assert set(compound.grid(spec, step=0.1, tolerance=0.1)) == expected
    assert len(expected) >= 5


def test_the_papers_bases_double_b0_by_the_formula_and_not_by_the_released_rounding():
    """Section 4's 1.2, 1.1, 1.15: 1.92 by the formula. Rounded up as released, depth 1.2 adds a block to six stages."""
    spec = registry.architecture("efficientnet-b0")
    assert pytest.approx(1.920, abs=1e-3) == 1.2 * 1.1**2 * 1.15**2
    large = compound.scale(spec, 1.2, 1.1, round(224 * 1.15))
    assert cost(large).macs / cost(spec).macs == pytest.approx(2.573, abs=1e-3)
    assert (1.2, 1.1, 1.15) not in compound.grid(spec)


def test_the_grid_search_finds_what_scores_best_and_scores_it_once():
    spec = registry.architecture("ghostnet-1.0x")
    asked = []

    def scorer(network, seed):
        asked.append((network.fingerprint(), seed))
        if network.input[0] == 269:
            raise ValueError("no")
        return -abs(network.input[0] - 246) - 0.01 * len(network.blocks)

    found = compound.grid_search(spec, scorer, step=0.1, seeds=(0, 1))
    assert {point[:3] for point in found} == set(compound.grid(spec, 0.1))
    assert found[0].gamma == 1.1
    means = [point.score.mean for point in found]
    assert means == sorted(means, reverse=True)
    assert all(point.macs == cost(point.spec).macs for point in found)
    assert {point.score.failed for point in found if point.gamma == 1.2} == {"ValueError: no"}
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("dimension", compound.ALONE)
def test_one_dimension_alone_at_equal_cost(dimension):
    spec = registry.architecture("efficientnet-b0")
    budget = 4 * cost(spec).macs
    _, large = compound.largest(spec, budget, *compound.ALONE[dimension])
    assert 0.95 * budget < cost(large).macs <= budget
    changed = {
        "depth": [len(stage) for stage in large.stages] != [len(stage) for stage in spec.stages],
        "width": large.stem.out != spec.stem.out,
        "resolution": large.input != spec.input,
    }
    assert [what for what, has in changed.items() if has] == [dimension]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"step": 0}, "step must lie between 0 and 1, not 0"),
        ({"tolerance": 1.5}, "tolerance must lie between 0 and 1, not 1.5"),
        ({"step": 0.9, "tolerance": 0.01}, "no point of a grid of step 0.9 doubles the cost of efficientnet-b0"),
    ],
)
def test_bad_grids(options, why):
    with pytest.raises(ZooError, match=why):
        compound.grid(registry.architecture("efficientnet-b0"), **options)
