"""Networks that were found are names of the zoo, as long as their files are what was written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from scaling_rules import compound
from scaling_rules.errors import ZooError
from zoo import cli, found, registry


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def small():
    spec = compound.scale(registry.architecture("resnet-20"), width=0.5)
    return replace(spec, name="half-20", source="ours")


def test_a_found_network_is_a_name(small, home):
    path = found.write(small, {"rule": "by hand", "budget": 11_000_000})
    assert path == home / "found" / "half-20.json"
    for name in ("half-20", str(path)):
        assert zoo.spec(name) == small
        assert zoo.cost(name).macs == json.loads(path.read_text())["macs"]
        assert zoo.load(name, num_classes=3).output_shape == (None, 3)
    assert zoo.load(path).name
    assert zoo.list_models("half") == ["half-20"]
    assert zoo.list_models("half", family=small.family) == ["half-20"]
    assert zoo.info("half-20")["source"] == "ours"


def test_a_spec_alone_is_a_network_of_ones_own(small, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(small.to_json())
    assert zoo.spec(str(path)) == small
    assert zoo.load(path, num_classes=3).output_shape == (None, 3)
    path.write_text(small.to_json().replace('"classes": 10', '"classes": -1'))
    with pytest.raises(ZooError, match=r"mine\.json: classes must be a whole number of at least 0, not -1"):
        zoo.spec(str(path))


def test_another_file_is_another_network(small):
    found.write(small, {})
    assert zoo.cost("half-20").params < 100_000
    found.write(replace(registry.architecture("resnet-20"), name="half-20"), {})
    assert zoo.cost("half-20").params > 200_000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"macs": 1}, r"was changed by hand: it says macs 1, and its spec has \d+"),
        ({"params": "many"}, r"it says params 'many'"),
        ({"fingerprint": "0" * 16}, r"it says fingerprint '0+'"),
        ({"name": "other"}, r"it says name 'other', and its spec has 'half-20'"),
        ({"spec": {}}, r"half-20.json: spec lacks the field"),
        ({"spec": None}, r"spec must be an object"),
    ],
)
def test_a_file_changed_by_hand_is_refused(small, change, why, capsys):
    path = found.write(small, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ZooError, match=why):
        zoo.spec("half-20")
    assert cli.run(["cost", "half-20"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_spec_changed_by_hand_is_refused(small):
    path = found.write(small, {})
    path.write_text(path.read_text().replace('"classes": 10', '"classes": 11'))
    with pytest.raises(ZooError, match="was changed by hand"):
        zoo.load("half-20")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "x"}', "\xff"])
def test_what_is_no_found_file_is_refused_and_not_listed(home, text, caplog):
    (home / "found").mkdir()
    (home / "found" / "half-20.json").write_text(text, encoding="latin-1")
    with pytest.raises(ZooError, match=r"half-20\.json"):
        zoo.spec("half-20")
    assert zoo.list_models("half") == []
    assert "left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet-50", "resnet-50 is a network of the zoo"),
        ("resnet-20-pool-5-3-2", "is a network of the zoo"),
        ("../up", r"a name is lower-case letters, digits, dots and hyphens, not '../up'"),
        ("Half", "lower-case"),
    ],
)
def test_names_that_cannot_be(small, name, why, home):
    with pytest.raises(ZooError, match=why):
        found.write(replace(small, name=name), {})
    assert not (home / "found").exists()


def test_the_zoo_comes_first(small, home):
    found.write(small, {})
    (home / "found" / "half-20.json").rename(home / "found" / "resnet-50.json")
    assert zoo.cost("resnet-50").macs > 4e9


def test_without_home_it_is_in_the_data_folder(monkeypatch):
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert found.folder() == Path("/data/zoo/found")
