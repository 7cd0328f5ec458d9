"""Scores and their cache: what is kept, what a kill leaves, what a bad scorer does."""

import json
import math
import statistics

import pytest

from scaling_rules.errors import ZooError
from scaling_rules.search.scoring import Cache, Score, better, noise, score, settings_of
from zoo import registry

SPECS = [registry.architecture(name) for name in ("resnet-20", "resnet-18", "resnet-34")]


def blocks(spec, seed):
    return len(spec.blocks) + seed / 100


def test_scores_come_in_the_order_of_specs_and_seeds():
    assert [one.values for one in score(SPECS, (3, 1), blocks)] == [(9.03, 9.01), (8.03, 8.01), (16.03, 16.01)]


def test_the_same_network_is_scored_once():
    asked = []

    def scorer(spec, seed):
        asked.append(seed)
        return 1.0

    twice = [SPECS[0], SPECS[0]]
    assert [one.values for one in score(twice, (0, 1), scorer)] == [(1.0, 1.0)] * 2
    assert asked == [0, 1]


def test_the_cache_knows_settings_seed_and_network(tmp_path):
    path = tmp_path / "deep" / "scores.jsonl"
    asked = []

    def made(epochs):
        def scorer(spec, seed):
            asked.append((epochs, spec.name, seed))
            return float(epochs)

        scorer.settings = {"scorer": "made", "epochs": epochs}
        return scorer

    for epochs, seeds in ((1, (0,)), (2, (0,)), (2, (0, 1)), (1, (0,))):
        score(SPECS[:2], seeds, made(epochs), cache=Cache(path))
    assert len(asked) == len(set(asked)) == 6
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["value"] for row in rows] == [1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert rows[0]["name"] == "resnet-20"
    assert rows[0]["fingerprint"] == SPECS[0].fingerprint()
    assert rows[0]["seed"] == 0


def test_a_line_cut_by_a_kill_costs_one_score(tmp_path):
    path = tmp_path / "scores.jsonl"
    score(SPECS, (0,), blocks, cache=Cache(path))
    whole = path.read_text()
    path.write_text(whole[:-20])
    cache = Cache(path)
    assert cache.damaged == 1
    asked = []

    def scorer(spec, seed):
        asked.append(spec.name)
        return blocks(spec, seed)

    scorer.settings = settings_of(blocks)
    score(SPECS, (0,), scorer, cache=cache)
    assert asked == ["resnet-34"]
    assert Cache(path).damaged == 1  # the torn line is still there, on a line of its own
    assert [one.values for one in score(SPECS, (0,), scorer, cache=Cache(path))] == [(9.0,), (8.0,), (16.0,)]
    assert asked == ["resnet-34"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (math.nan, "its score is nan"),
        (math.inf, "its score is inf"),
        (None, "its score is None, no number"),
        ("good", "its score is 'good', no number"),
    ],
)
def test_no_number_is_no_score(tmp_path, value, why):
    (found,) = score(SPECS[:1], (0,), lambda spec, seed: value, cache=Cache(tmp_path / "scores.jsonl"))
    assert found == Score((), why)
    assert found.mean == -math.inf
    assert not (tmp_path / "scores.jsonl").exists()


def test_one_seed_that_fails_leaves_the_others():
    def scorer(spec, seed):
        if seed == 1:
            raise RuntimeError("x" * 1000)
        return 1.0

    (found,) = score(SPECS[:1], (0, 1, 2), scorer)
    assert found.values == (1.0, 1.0)
    assert found.failed.startswith("RuntimeError: xxx")
    assert len(found.failed) < 330


def test_settings_must_be_plain():
    def scorer(spec, seed):
        return 1.0

    assert settings_of(scorer)["scorer"].endswith("test_settings_must_be_plain.<locals>.scorer")
    scorer.settings = {"data": object()}
    with pytest.raises(ZooError, match="the settings of a scorer must be plain JSON"):
        score(SPECS[:1], (0,), scorer)


def test_report_counts_what_is_computed():
    told = []
    cache = Cache()
    score(SPECS, (0,), blocks, cache=cache, report=lambda done, of: told.append((done, of)))
    score(SPECS, (0, 1), blocks, cache=cache, report=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


def test_noise_is_the_pooled_deviation():
    groups = [(1.0, 2.0, 4.0), (5.0, 5.5), (9.0,)]
    residuals = [value - statistics.fmean(group) for group in groups for value in group]
    expected = math.sqrt(sum(each**2 for each in residuals) / (2 + 1))
    assert noise([Score(group) for group in groups]) == pytest.approx(expected)
    assert noise([Score((1.0,)), Score(())]) == 0.0


def test_better_is_by_more_than_the_error_of_the_difference():
    # Two means of 4 values each, deviation 2: their difference has a standard error of sqrt(2).
    high, low = Score((10.0,) * 4), Score((8.5,) * 4)
    assert better(high, low, 2.0)
    assert not better(high, low, 2.2)
    assert not better(low, high, 0.0)
    assert better(low, Score(()), 9.0)
    assert not better(Score(()), low, 0.0)
