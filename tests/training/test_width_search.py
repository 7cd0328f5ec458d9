"""A supernet trained on digits and asked for scores: held-out pictures, resumed, refused where it must be."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scaling_rules import compound
from scaling_rules.errors import ZooError
from training import recipe, width_search
from training.width_search import Search, Settings
from zoo import registry


def settings(data, **options):
    spec = registry.architecture("channel-bench-resnet-4444444")
    spec = compound.scale(replace(spec, input=(16, 16, 3)), width=1 / 16)
    told = recipe.load("digits", ["epochs=6", "augment={}", *options.pop("sets", ())])
    given = {"method": "bcnetv2", "groups": 4, "least": 2, "calibration": 64} | options
    return Settings(spec, dataset=str(data), recipe=told, **given)


def test_a_trained_supernet_knows_digits_and_is_not_trained_twice(digits, tmp_path):
    search = Search(settings(digits), tmp_path)
    untrained = search.measure((4,) * 7)
    search.train()
    trained = search.measure((4,) * 7)
    assert untrained.top1 < 40
    assert trained.top1 > 70
    losses = search.losses
    assert np.isfinite(losses[:, 2:]).all()
    assert np.isinf(losses[:, :2]).all()
    again = Search(settings(digits), tmp_path)
    again.train(report=lambda seen: pytest.fail("trained again"))
    assert again.measure((4,) * 7) == trained
    np.testing.assert_array_equal(again.losses, losses)


def test_scores_are_kept(few_digits, tmp_path, monkeypatch):
    search = Search(settings(few_digits, metric="loss"), tmp_path)
    found = search.score((2, 3, 4, 4, 3, 2, 2))
    (row,) = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert row["choice"] == [2, 3, 4, 4, 3, 2, 2]
    assert found == row["value"] == -row["loss"]
    monkeypatch.setattr(width_search.Search, "measure", lambda *_: pytest.fail("measured again"))
    assert Search(settings(few_digits, metric="loss"), tmp_path).score((2, 3, 4, 4, 3, 2, 2)) == found


def test_bad_input(few_digits, tmp_path):
    Search(settings(few_digits), tmp_path / "a")
    for message, options, folder in (
        (r"has a search with method 'bcnetv2', not 'ua'", {"method": "ua"}, "a"),
        (r"has a search with seed 0, not 1", {"seed": 1}, "a"),
        (r"training pictures, fewer than the 5000 of a batch", {"sets": ["batch=5000"]}, "b"),
        (r"training pictures, fewer than the 5000 of the calibration", {"calibration": 5000}, "c"),
        (r"unknown metric 'top2'; valid: top1, loss", {"metric": "top2"}, "d"),
        (r"the least width must be 1 to 3 of the 4 groups, not 4", {"least": 4}, "e"),
        (r"without distill, head_first_epochs and accumulate", {"sets": ["accumulate=2"]}, "f"),
    ):
        with pytest.raises(ZooError, match=message):
            Search(settings(few_digits, **options), tmp_path / folder)
