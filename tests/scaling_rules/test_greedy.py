"""The greedy search: where it goes for scores that are known, and what noise and failures do to it."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import contains, networks

from scaling_rules import greedy
from scaling_rules.cost import cost
from scaling_rules.enlarging import Limits, candidates
from scaling_rules.errors import ZooError
from scaling_rules.search.scoring import Cache
from zoo import registry

SMALL = registry.architecture("resnet-20")
START = cost(SMALL).macs


def depth(spec, seed):
    """A score that wants blocks, whatever they cost."""
    return float(len(spec.blocks))


@settings(max_examples=15, deadline=None)
@given(networks(), st.floats(1.05, 40.0), st.integers(1, 4), st.integers(1, 2), st.integers(0, 9))
def test_grows_monotonely_up_to_the_budget_and_never_above(baseline, ratio, steps, beam, chance):
    budget = int(cost(baseline).macs * ratio)

    def scorer(spec, seed):
        return random.Random(f"{spec.fingerprint()} {chance}").random()

    if not candidates(baseline, budget):
        with pytest.raises(ZooError, match="nothing larger"):
            greedy.enlarge(baseline, budget, scorer, steps=steps, beam=beam)
        return
    found = greedy.enlarge(baseline, budget, scorer, steps=steps, beam=beam)
    assert cost(found.spec).macs == found.macs <= budget
    before = baseline
    for candidate in found.path:
        contains(candidate.spec, before)
        before = candidate.spec
    assert before == found.spec
    assert found.macs > cost(baseline).macs
    for step in found.steps:
        assert 1 <= sum(one.kept for one in step.scored) <= beam
        assert all(one.candidate.macs <= step.target for one in step.scored)


def test_takes_what_scores_best():
    found = greedy.enlarge(SMALL, 4 * START, depth, steps=3)
    # Every candidate of a step costs the same, and the cheapest blocks, those of stage 1 ... 3, are alike in a ResNet.
    assert all(candidate.move == "deeper" for candidate in found.path)
    for step in found.steps:
        kept = next(one for one in step.scored if one.kept)
        assert kept.score.mean == max(one.score.mean for one in step.scored)


def test_a_beam_finds_what_a_greedy_step_misses():
    """The best first step leads to a worse end than the second best."""

    def scorer(spec, seed):
        blocks, pixels = [len(stage) for stage in spec.stages], spec.input[0]
        first = 2.0 if blocks[0] > 3 and blocks[1] == 3 else 0.0
        return first + (10.0 if pixels > 32 and blocks[0] == 3 else 0.0) + (1.0 if blocks[2] > 3 else 0)

    def second(spec, seed):
        return scorer(spec, seed) if cost(spec).macs > 1.8 * START else (2.0 if len(spec.stages[0]) > 3 else 1.0)

    moves = ["deeper", "resolution"]
    narrow = greedy.enlarge(SMALL, 2 * START, second, steps=2, moves=moves)
    wide = greedy.enlarge(SMALL, 2 * START, second, steps=2, beam=8, moves=moves)
    assert second(wide.spec, 0) > second(narrow.spec, 0)


def test_same_scores_same_network():
    one, two = (greedy.enlarge(SMALL, 3 * START, depth, steps=3, seeds=(0, 1)) for _ in range(2))
    assert greedy.as_json(one) == greedy.as_json(two)


def test_more_seeds_for_the_better_half_only():
    asked = []

    def scorer(spec, seed):
        asked.append((spec.fingerprint(), seed))
        return depth(spec, seed)

    found = greedy.enlarge(SMALL, 2 * START, scorer, steps=1, seeds=(5, 6, 7))
    assert len(found.steps[0].scored) == 8
    assert [sum(seed == each for _, seed in asked) for each in (5, 6, 7)] == [8, 4, 2]
    assert len(set(asked)) == len(asked)
    ranked = sorted(found.steps[0].scored, key=lambda one: -one.score.mean)
    assert [len(one.score.values) for one in ranked] == [3, 3, 2, 2, 1, 1, 1, 1]


def test_within_the_noise_the_cheaper_is_taken():
    """MobileNetV2's first stage has one coarse width, so the wider one leaves 6 % of the step unused."""
    baseline = registry.architecture("mobilenet-v2-1.0x")
    wobble = {0: -1.0, 1: 1.0}

    def clear(spec, seed):
        return 2.0 * (spec.stages[1][0].out > 24) + 1.0 * (spec.stages[0][0].out > 16)

    def close(spec, seed):
        return 0.01 * clear(spec, seed) + wobble[seed]

    settings = {"steps": 1, "seeds": (0, 1), "moves": ["wider"]}
    sure = greedy.enlarge(baseline, 2 * cost(baseline).macs, clear, **settings)
    tied = greedy.enlarge(baseline, 2 * cost(baseline).macs, close, **settings)
    assert tied.steps[0].noise == pytest.approx(math.sqrt(2))
    assert sure.path[0].name == "wider stage2"
    assert tied.path[0].name == "wider stage1"
    assert tied.macs < sure.macs / 1.01


def test_a_search_that_was_stopped_pays_for_nothing_twice(tmp_path):
    asked = []

    def scorer(spec, seed):
        if len(asked) == 11:
            raise KeyboardInterrupt
        asked.append((spec.fingerprint(), seed))
        return random.Random(f"{asked[-1]}").random()

    settings = {"steps": 3, "seeds": (0, 1)}
    with pytest.raises(KeyboardInterrupt):
        greedy.enlarge(SMALL, 3 * START, scorer, cache=Cache(tmp_path / "scores.jsonl"), **settings)
    first = list(asked)

    def rest(spec, seed):
        asked.append((spec.fingerprint(), seed))
        return random.Random(f"{asked[-1]}").random()

    rest.settings = {"scorer": scorer.__module__ + "." + scorer.__qualname__}
    resumed = greedy.enlarge(SMALL, 3 * START, rest, cache=Cache(tmp_path / "scores.jsonl"), **settings)
    assert len(set(asked)) == len(asked) > len(first) == 11
    assert greedy.as_json(resumed) == greedy.as_json(greedy.enlarge(SMALL, 3 * START, rest, **settings))


def test_what_fails_is_left_out():
    def scorer(spec, seed):
        if spec.input[0] > 32:
            raise ValueError("no pictures\nof that size")
        return math.nan if len(spec.stages[2]) > 3 else depth(spec, seed)

    found = greedy.enlarge(SMALL, 2 * START, scorer, steps=1)
    failed = {one.candidate.name: one.score.failed for one in found.steps[0].scored if one.score.failed}
    assert failed["resolution"] == "ValueError: no pictures of that size"
    assert failed["deeper stage3"] == "its score is nan"
    assert found.path[0].name in ("deeper stage1", "deeper stage2")
    with pytest.raises(ZooError, match=r"no candidate of step 1 has a score; the first: its score is nan"):
        greedy.enlarge(SMALL, 2 * START, lambda spec, seed: math.nan, steps=2)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"budget": 1000}, r"a budget of 1.00K is not above the 40.6M MACs of resnet-20"),
        ({"budget": 2.5}, r"budget must be a whole number of at least 1, not 2.5"),
        ({"steps": 0}, r"steps must be a whole number of at least 1, not 0"),
        ({"beam": True}, r"beam must be a whole number of at least 1, not True"),
        ({"seeds": ()}, r"seeds must be different whole numbers, at least one, not \[\]"),
        ({"seeds": (1, 1)}, r"seeds must be different whole numbers, at least one, not \[1, 1\]"),
        ({"moves": ["wide"]}, r"unknown move 'wide'; valid: deeper, wider, resolution, uniform"),
        (
            {"limits": Limits((3, 4, 3), (16, 32, 64), 32)},
            r"cannot be enlarged to 122M MACs within these limits; the nearest that was reached is \d+",
        ),
        ({"limits": Limits((3, 3, 3), (16, 32, 64), 32), "moves": ["deeper"]}, r"nothing larger"),
    ],
)
def test_bad_input(settings, why):
    with pytest.raises(ZooError, match=why):
        greedy.enlarge(SMALL, **{"budget": 3 * START, "scorer": depth, "steps": 2} | settings)
