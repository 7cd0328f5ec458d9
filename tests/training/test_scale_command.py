"""`zoo scale`: what it writes resolves, what it is told wrong is one line."""

import pytest

import zoo
from zoo import cli, found


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path / "found"


def test_compound(home, capsys):
    assert cli.run(["scale", "compound", "ghostnet-1.0x", "--budget", "600M"]) == 0
    said = capsys.readouterr().out
    assert "alpha 1.2, beta 1.1, gamma 1.15" in said
    _, data = found.read(home / "ghostnet-1.0x-compound-600m.json")
    assert 0.98 * 600e6 < data["macs"] <= 600e6
    assert data["gap"] == pytest.approx(1 - data["macs"] / 600e6, abs=1e-6)
    assert data["command"] == "zoo scale compound ghostnet-1.0x --budget 600M"
    assert data["baseline"]["name"] == "ghostnet-1.0x"
    assert sum(data["allocation"]["macs"].values()) == data["macs"]
    assert zoo.cost("ghostnet-1.0x-compound-600m").macs == data["macs"]


def test_compound_by_a_grid_search(home, capsys):
    arguments = ["--budget", "160M", "--grid", "0.2", "--tolerance", "0.3", "--scorer", "engine_jobs:blocks"]
    assert cli.run(["scale", "compound", "resnet-20", *arguments, "--name", "deep-20"]) == 0
    _, data = found.read(home / "deep-20.json")
    best = max(data["grid"], key=lambda point: sum(point["scores"]))
    assert data["bases"] == best["bases"]
    assert data["scorer"] == {"scorer": "engine_jobs.blocks"}


def test_greedy(home, capsys):
    arguments = ["scale", "greedy", "resnet-20", "--budget", "120M", "--scorer", "engine_jobs:blocks", "--steps", "2"]
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    spec, data = found.read(home / "resnet-20-greedy-120m.json")
    assert [step["target"] for step in data["search"]["steps"]][-1] == 120_000_000
    assert spec.name == "resnet-20-greedy-120m"
    assert "2108.00177" in spec.source
    rows = [line.split() for line in said.out.splitlines() if line.strip().startswith(("0 ", "1 ", "2 "))]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert "step 2 of 2, score" in said.err
    assert "left" in said.err
    for picture in ("shares", "scores"):
        assert (home / f"resnet-20-greedy-120m.{picture}.svg").read_text().count("stage") >= 1
    scores = (home / "resnet-20-greedy-120m.scores.jsonl").read_text()
    assert cli.run(arguments) == 0  # nothing is paid for twice
    assert (home / "resnet-20-greedy-120m.scores.jsonl").read_text() == scores


def test_a_found_network_is_a_baseline_and_can_be_compared(home, capsys):
    assert cli.run(["scale", "compound", "resnet-20", "--budget", "80M", "--name", "first"]) == 0
    assert cli.run(["scale", "compound", str(home / "first.json"), "--budget", "160M", "--name", "second"]) == 0
    capsys.readouterr()
    plot = home / "plot.svg"
    arguments = [
        "compare",
        "first",
        "second",
        "--budget",
        "160M",
        "--scorer",
        "engine_jobs:blocks",
        "--plot",
        str(plot),
    ]
    assert cli.run(["scale", *arguments]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:7]]
    assert names == ["first", "compound", "depth", "width", "resolution", "second"]
    assert "resolution" in plot.read_text()


def test_greedy_on_real_pictures(crops, home, capsys):
    """The proxy, in processes; the score is a top-1, so in percent."""
    arguments = ["--budget", "15M", "--resolution", "16", "--dataset", str(crops), "--steps", "1", "--moves", "wider"]
    sets = [
        "--set",
        "epochs=1",
        "--set",
        "learning_rate.warmup_epochs=0",
        "--set",
        "batch=16",
        "--seeds",
        "0",
        "--engine",
        "processes",
        "--workers",
        "2",
    ]
    assert cli.run(["scale", "greedy", "resnet-20", *arguments, *sets]) == 0
    _, data = found.read(home / "resnet-20-greedy-15m.json")
    scores = [score for one in data["search"]["steps"][0]["candidates"] for score in one["scores"]]
    assert len(scores) == 3
    assert all(0 <= score <= 100 for score in scores)
    assert data["scorer"]["scorer"] == "proxy"
    assert data["scorer"]["recipe"]["epochs"] == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["compound", "resnet-21", "--budget", "1G"], "unknown model 'resnet-21'. Did you mean"),
        (["compound", "resnet-20", "--budget", "lots"], "'lots' is not a count"),
        (["compound", "resnet-20", "--budget", "1G", "--name", "resnet-50"], "resnet-50 is a network of the zoo"),
        (["greedy", "resnet-20", "--budget", "1M"], "the proxy scorer trains on --dataset"),
        (["greedy", "resnet-20", "--budget", "1M", "--scorer", "engine_jobs:blocks"], "is not above the 40.6M MACs"),
        (["greedy", "resnet-20", "--budget", "1G", "--scorer", "magic"], "unknown scorer 'magic'"),
        (["greedy", "resnet-20", "--budget", "1G", "--dataset", "x", "--recipe", "smal"], "'smal'"),
        (
            ["greedy", "resnet-20", "--budget", "1G", "--scorer", "engine_jobs:blocks", "--engine", "slurm"],
            "unknown engine 'slurm'; valid: serial, processes, ray",
        ),
        (
            ["greedy", "resnet-20", "--budget", "1G", "--scorer", "engine_jobs:blocks", "--seeds", "a"],
            "--seeds takes whole numbers with commas between, not 'a'",
        ),
        (
            ["greedy", "resnet-20", "--budget", "1G", "--scorer", "engine_jobs:blocks", "--max_blocks", "3,3"],
            "limits of blocks are for 2 stages, the network has 3",
        ),
        (
            ["greedy", "resnet-20", "--budget", "1G", "--scorer", "engine_jobs:difficult"],
            "no candidate of step 1 has a score; the first: TypeError",
        ),
        (["compare", "resnet-20", "resnet-50", "--budget", "1G"], "resnet-50 costs 4.09G MACs, above the budget of"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, why, home, capsys):
    assert cli.run(["scale", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert why in said[-1]
    assert said[-1].startswith("zoo scale: ")
    assert not list(home.glob("*.json"))
