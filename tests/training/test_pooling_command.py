"""`zoo search pooling`: what it writes resolves, what it is told wrong is one line."""

import dataclasses
import json

import numpy as np
import pytest

import zoo
from scaling_rules import compound
from scaling_rules.pooling import space
from training import pooling_command
from zoo import cli, found, registry

RECIPE = ["--set", "epochs=2", "--set", "batch=16", "--set", "learning_rate.warmup_epochs=0", "--few", "6"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path / "found"


@pytest.fixture
def small(home):
    """A ResNet of six layers as a file: ten configurations."""
    spec = registry.architecture("resnet-20-pool-4-3-3")
    stages = tuple(stage[:n] for stage, n in zip(spec.stages, (1, 2, 2), strict=True))
    spec = compound.scale(dataclasses.replace(spec, name="six", stages=stages, input=(8, 8, 3)), width=0.25)
    return str(found.write(spec, {}))


def test_what_is_found_is_a_name(digits, small, home, capsys):
    arguments = ["search", "pooling", small, "--models", "2", "--dataset", str(digits), *RECIPE]
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    network, data = found.read(home / "six-pooling.json")
    whole = space(zoo.spec("six"))
    assert [tuple(row["lengths"]) for row in data["scores"]] == list(whole.lengths)
    assert [row["macs"] for row in data["scores"]] == list(whole.macs)
    scores = [row["score"] for row in data["scores"]]
    best = scores.index(max(scores))
    assert tuple(data["lengths"]) == whole.lengths[best]
    assert network.fingerprint() == whole.at(best).fingerprint() == zoo.spec("six-pooling").fingerprint()
    assert all(row["score"] == max(row["top1"]) for row in data["scores"])
    assert np.sum([row["probabilities"] for row in data["scores"]], 1) == pytest.approx(np.ones(10), abs=1e-5)
    assert data["settings"]["models"] == 2
    assert data["command"].startswith("zoo search pooling ")
    assert "six step" in said.err
    assert f"six-pooling is [{','.join(map(str, data['lengths']))}] of six." in said.out
    rows = [line for line in said.out.splitlines() if line.startswith("[")]
    assert len(rows) == 10
    assert rows[0].endswith("found")
    for picture in ("probabilities", "scores", "macs"):
        assert "<svg" in (home / f"six-pooling.{picture}.svg").read_text()
    capsys.readouterr()
    assert cli.run([*arguments, "--models", "3"]) == 2
    assert "holds a run whose models is 2, not 3" in capsys.readouterr().err.splitlines()[-1]


def test_a_name_of_the_zoo_is_what_its_pattern_varies():
    spec = pooling_command.baseline("resnet-20")
    assert spec == registry.architecture("resnet-20-pool-4-3-3")
    assert pooling_command.baseline("resnet-34") == registry.architecture("resnet-34")
    found = space(dataclasses.replace(spec, input=(64, 64, 3)))
    assert pooling_command._listed(found.at(28))
    assert not pooling_command._listed(space(compound.scale(spec, width=0.5)).at(28))
    assert not pooling_command._listed(space(registry.architecture("resnet-34")).at(0))


def test_published_accuracies_are_cited(capsys):
    assert cli.run(["info", "resnet-20-pool-7-1-2", "--json"]) == 0
    published = json.loads(capsys.readouterr().out)["published"]
    assert [row["value"] for row in published if row["metric"] == "top1"] == [92.01]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["resnet-20", "--models", "0"], "a mixture has at least 1 model, not 0"),
        (["resnet-20", "--downsamplings", "10"], "so 1 to 9 downsamplings, not 10"),
        (["resnet-20", "--resolution", "3"], "input 3x3 is smaller than the network's total stride 4"),
        (["resnet-20", "--budget", "1M"], "costs at most 1.00M MACs; the cheapest is [1,1,8]"),
        (["resnet-20", "--name", "resnet-20-pool-5-3-2"], "resnet-20-pool-5-3-2 is a network of the zoo"),
        (["resnet-21"], "unknown model 'resnet-21'. Did you mean"),
        (["ghostnet-1.0x"], "has a ghost block"),
        (["resnet-20", "--method", "even"], "unknown method 'even'; valid: balanced, unbalanced, uniform"),
        (["resnet-20", "--stem", "mnist"], "unknown stem 'mnist'"),
        (["resnet-20", "--set", "epoch=3"], "epoch"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, why, home, capsys):
    assert cli.run(["search", "pooling", *arguments, "--dataset", "nowhere"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert why in said[-1]
    assert said[-1].startswith("zoo search: ")
    assert not home.exists()
