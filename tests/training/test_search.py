"""Scorers: a short training measured on minival, a table of others' trainings, a function of one's own."""

import json
import pickle
from dataclasses import replace

import pytest

import zoo
from scaling_rules import compound
from scaling_rules.errors import ZooError
from scaling_rules.search import engines, scoring
from training import command, recipe, search
from zoo import registry

DIGITS = ("epochs=2", "augment={}")


def tiny():
    spec = registry.architecture("resnet-20")
    stages = tuple(stage[:1] for stage in spec.stages)
    return replace(compound.scale(replace(spec, stages=stages), width=0.5, resolution=16), name="tiny")


def proxy(data, **options):
    return search.Proxy(str(data), recipe.load("digits", list(DIGITS)), **options)


def test_a_short_training_is_a_training(digits):
    """Two epochs tell most digits apart; two at a rate of nearly nothing do not."""
    still = search.Proxy(str(digits), recipe.load("digits", [*DIGITS, "learning_rate.peak=1e-7"]))
    assert 50 < proxy(digits)(tiny(), 0) <= 100
    assert still(tiny(), 0) < 30


def test_the_same_seed_the_same_score_in_another_process(few_digits):
    scorer = proxy(few_digits, metric="loss")
    jobs = [(tiny(), 0), (tiny(), 0), (tiny(), 1)]
    values = dict(engines.engine("processes", workers=1)(scorer, jobs))
    assert values[0] == values[1] != values[2]
    assert values[0] < 0
    assert pickle.loads(pickle.dumps(scorer)) == scorer


def test_settings_are_all_that_a_score_depends_on(few_digits):
    one = proxy(few_digits)
    assert one.settings == proxy(few_digits, threads=2).settings
    assert json.loads(json.dumps(one.settings)) == json.loads(json.dumps(one.settings, sort_keys=True))
    different = [proxy(few_digits, few=3), proxy(few_digits, metric="loss"), proxy(few_digits, shrink=0.5)]
    assert all(other.settings != one.settings for other in different)
    assert str(few_digits.parent) not in json.dumps(one.settings)


def test_a_network_grows_from_weights(few_digits, tmp_path, monkeypatch):
    """From weights that tell digits apart, a wider network is far above chance after one step of nearly nothing."""
    made = {}

    def build(*args, **options):
        made["model"] = original(*args, **options)
        return made["model"]

    original = zoo.build
    monkeypatch.setattr(zoo, "build", build)
    reached = search.Proxy(str(few_digits), recipe.load("digits", ["epochs=15", "augment={}"]))(tiny(), 0)
    zoo.save(made["model"], tmp_path / "weights")
    still = recipe.load("digits", ["epochs=1", "augment={}", "learning_rate.peak=1e-7"])
    wide = compound.scale(tiny(), width=1.5)
    assert reached > 60
    assert search.Proxy(str(few_digits), still, start=str(tmp_path / "weights"))(wide, 0) > reached - 15
    assert search.Proxy(str(few_digits), still)(wide, 0) < 40


def test_channel_bench_is_a_table(shared):
    table = search.Table(shared / "channel_bench_macro" / "Results_MobileNet.json")
    best = registry.architecture("channel-bench-mobilenet-4444342")
    found = scoring.score([best], (0, 1, 2), table)[0]
    assert found.mean == pytest.approx(91.887, abs=1e-3)
    assert len(set(found.values)) == 3
    worst = registry.architecture("channel-bench-mobilenet-1111113")
    assert scoring.score([worst], (0, 1, 2), table)[0].mean == pytest.approx(89.167, abs=1e-3)
    for other in (
        registry.architecture("resnet-20"),
        replace(best, input=(64, 64, 3)),
        compound.scale(best, width=0.9),
    ):
        with pytest.raises(ZooError, match=r"is not a network of Results_MobileNet\.json"):
            table(other, 0)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"1111111": {"acc": [1.0]}}', '{"1111111": 3}'])
def test_what_is_no_table(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ZooError, match=r"table\.json is no table of Channel-Bench-Macro"):
        search.by_name(f"table:{tmp_path}/table.json")


def test_a_function_of_ones_own():
    assert search.by_name("engine_jobs:blocks")(registry.architecture("resnet-20"), 5) == 9.05


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("proxi", r"unknown scorer 'proxi'; valid: proxy, table:FILE, or module:function of your own"),
        ("no_such_module:f", r"scorer no_such_module:f: No module named 'no_such_module'"),
        ("engine_jobs:nothing", r"has no attribute 'nothing'"),
        ("engine_jobs:__name__", r"__name__ is no function of \(spec, seed\)"),
    ],
)
def test_bad_scorers(text, why):
    with pytest.raises(ZooError, match=why):
        search.by_name(text)


@pytest.mark.parametrize(
    ("options", "sets", "why"),
    [
        ({"metric": "f1"}, (), r"unknown metric 'f1'; valid: top1, loss"),
        ({"shrink": 0}, (), r"shrink must lie in \(0, 1\], not 0"),
        ({}, ("head_first_epochs=1",), r"no distill, no head_first_epochs"),
    ],
)
def test_bad_proxies(digits, options, sets, why):
    with pytest.raises(ZooError, match=why):
        search.Proxy(str(digits), recipe.load("digits", list(sets)), **options)


def test_training_from_grown_weights_zeroes_the_classifier_alone(tmp_path, monkeypatch):
    """What else is new, the blocks that begin as identities, must be able to learn: their kernels stay drawn."""
    from training import job
    from zoo import found

    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    zoo.save(zoo.build(tiny()), tmp_path / "small")
    found.write(replace(compound.scale(tiny(), 2.0, 1.5), name="grown-tiny"), {})
    told = recipe.load("digits", [])
    model, _ = job.build(job.Job("grown-tiny", "digits", told, f"grow:{tmp_path / 'small'}"), 3, 1)
    values = {path: variable.numpy() for path, variable in zoo.variables(model).items()}
    assert model.input_shape == (None, 32, 32, 3)
    assert not values["head.classifier.dense.kernel"].any()
    assert values["stage1.block2.conv1.conv.kernel"].any()
    assert values["stage1.block2.conv1.norm.moving_variance"].all()
    assert not values["stage1.block2.conv2.norm.gamma"].any()


def test_threads_are_set_before_anything_runs(digits):
    command.start()
    with pytest.raises(ZooError, match="threads=63 comes too late"):
        proxy(digits, threads=63)(tiny(), 0)
