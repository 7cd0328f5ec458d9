"""Candidates of greedy enlarging: exact, as large as they may be, and each with its parent inside."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import BASELINES, contains, networks

from scaling_rules import compound
from scaling_rules.cost import cost
from scaling_rules.enlarging import MOST, MOVES, Limits, candidates
from scaling_rules.errors import ZooError
from scaling_rules.shapes import shapes
from zoo import registry


def increments(spec, number):
    """Every network with one width of stage `number` (from 0) the next multiple larger, or one block more."""
    stage = spec.stages[number]

    def made(blocks, stem=spec.stem, head=spec.head):
        following = spec.stages[number + 1 :]
        if following and len(following[0][0].mids) == 1 and following[0][0].kind in ("mbconv", "separable"):
            first = replace(following[0][0], mids=(blocks[-1].out,))
            following = ((first, *following[0][1:]), *following[1:])
        stages = (*spec.stages[:number], tuple(blocks), *following)
        try:
            return [replace(spec, stem=stem, head=head, stages=stages)]
        except ZooError:
            return []

    def up(width, block):
        step = 4 if block.kind == "ghost" else 8
        return width - width % step + step

    for index, block in enumerate(stage):
        if block.kind in ("mbconv", "separable"):
            choices = [(up(block.mids[0], block),) * 2] if len(block.mids) == 2 else []
        else:
            choices = [(*block.mids[:i], up(mid, block), *block.mids[i + 1 :]) for i, mid in enumerate(block.mids)]
        for mids in choices:
            yield from made((*stage[:index], replace(block, mids=mids), *stage[index + 1 :]))
    # A first stage of the stem's map size has the stem with it.
    along = number == 0 and stage[0].stride == 1 and not stage[0].pool and not spec.stem.pool
    stem = up(spec.stem.out, stage[0]) if along else spec.stem.out
    fan_in = spec.stages[number - 1][-1].out if number else stem
    wide = []
    for block in stage:
        depthwise = block.kind in ("mbconv", "separable") and len(block.mids) == 1
        wide.append(replace(block, out=up(block.out, block), mids=(fan_in,) if depthwise else block.mids))
        fan_in = wide[-1].out
    yield from made(wide, replace(spec.stem, out=stem))
    if number == len(spec.stages) - 1 and spec.head.conv:
        yield from made(stage, head=replace(spec.head, conv=up(spec.head.conv, stage[0])))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.floats(1.05, 40.0))
def test_exact_never_above_and_nothing_more_fits(parent, ratio):
    target = int(cost(parent).macs * ratio)
    found = candidates(parent, target)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert cost(parent).macs < cost(one.spec).macs == one.macs <= target
        contains(one.spec, parent)
        for number in [one.stage - 1] if one.stage else range(len(parent.stages)):
            for larger in increments(one.spec, number):
                assert cost(larger).macs > target, one.name
            last = one.spec.stages[number][-1]
            if one.move == "deeper":
                before = one.spec.stages[number][-2].out
                deeper = (*one.spec.stages[number], compound.repeat(last, before))
                stages = (*one.spec.stages[:number], deeper, *one.spec.stages[number + 1 :])
                capped = len(deeper) > MOST + len(parent.stages[number])
                assert capped or cost(replace(one.spec, stages=stages)).macs > target


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.floats(1.3, 4.0))
def test_a_move_changes_what_it_says(parent, ratio):
    for one in candidates(parent, int(cost(parent).macs * ratio)):
        for number, (own, theirs) in enumerate(zip(one.spec.stages, parent.stages, strict=True), 1):
            if number == one.stage:
                assert (len(own) > len(theirs)) == (one.move == "deeper")
                assert (own[-1].out > theirs[-1].out) or one.move == "deeper" or own != theirs
            elif one.stage:
                assert [b.out for b in own] == [b.out for b in theirs]
                assert own[1:] == theirs[1:]
        if one.move == "resolution":
            before, after = shapes(parent), shapes(one.spec)
            maps = [path for path, size in before.items() if size != (1, 1) and path != "input"]
            coarsest = min(before[path] for path in maps)
            assert all(after[path] > before[path] for path in maps if before[path] > coarsest)
            assert all(after[path] >= before[path] for path in maps)
            assert [len(stage) for stage in one.spec.stages] == [len(stage) for stage in parent.stages]
        if one.move == "deeper":
            assert one.spec.input == parent.input


# Stages with no width but that of their output: a multiple of 8 more, in all of up to 65 blocks, is over a percent.
COARSE = {
    "efficientnet-b0": {"wider stage1"},
    "mobilenet-v1-1.0x": {"deeper stage4", "wider stage2"},
    "mobilenet-v2-1.0x": {"deeper stage1", "wider stage1"},
    "resnet-20": {"wider stage1"},
}


@pytest.mark.parametrize("name", BASELINES)
def test_four_times_the_cost_is_reached_within_one_percent(name):
    parent = registry.architecture(name)
    target = 4 * cost(parent).macs
    found = {one.name: one for one in candidates(parent, target)}
    assert len(found) == 2 * len(parent.stages) + 2
    assert {name for name, one in found.items() if one.macs < 0.99 * target} == COARSE.get(name, set())


def test_resolution_goes_on_from_half_a_stride():
    """Total stride 32: 240 pixels to 256 leave the last map at 8x8 and enlarge all others."""
    parent = replace(registry.architecture("efficientnet-b0"), input=(240, 240, 3))
    (found,) = candidates(parent, int(1.2 * cost(parent).macs), moves=["resolution"])
    assert found.spec.input == (256, 256, 3)


def test_uniform_is_the_compound_rule_and_what_is_left():
    parent = registry.architecture("efficientnet-b0")
    target = 4 * cost(parent).macs
    (found,) = candidates(parent, target, moves=["uniform"])
    contains(found.spec, compound.largest(parent, int(0.98 * target))[1])


def test_uniform_takes_up_what_the_others_left_behind():
    baseline = registry.architecture("resnet-20")
    (deeper,) = (one for one in candidates(baseline, 2 * cost(baseline).macs, moves=["deeper"]) if one.stage == 3)
    (found,) = candidates(deeper.spec, 4 * cost(baseline).macs, baseline, ["uniform"])
    assert [len(stage) for stage in found.spec.stages[:2]] > [3, 3]
    assert len(found.spec.stages[2]) == len(deeper.spec.stages[2])


def test_limits_hold():
    parent = registry.architecture("resnet-20")
    limits = Limits(blocks=(3, 4, 3), channels=(16, 48, 72), resolution=32)
    found = candidates(parent, 3 * cost(parent).macs, limits=limits)
    for one in found:
        assert all(len(stage) <= most for stage, most in zip(one.spec.stages, limits.blocks, strict=True))
        for stage, most in zip(one.spec.stages, limits.channels, strict=True):
            assert all(width <= most for block in stage for width in (block.out, *block.mids))
        assert one.spec.input[0] <= 32
    assert {one.name for one in found} >= {"deeper stage2", "wider stage3"}
    assert "deeper stage1" not in {one.name for one in found}


def test_bad_input():
    parent = registry.architecture("resnet-20")
    with pytest.raises(ZooError, match=r"unknown move 'depper'; valid: deeper, wider, resolution, uniform"):
        candidates(parent, 10**9, moves=["depper"])
    with pytest.raises(ZooError, match=r"a target of 5 multiply-adds is below the \d+ that resnet-20 costs"):
        candidates(parent, 5)
    with pytest.raises(ZooError, match=r"limits of blocks are for 2 stages, the network has 3"):
        candidates(parent, 10**9, limits=Limits(blocks=(1, 2)))
    assert set(MOVES) == {"deeper", "wider", "resolution", "uniform"}
