"""What a person types and sees: tables, JSON, exit codes, one line for bad input."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import catalog, cli, registry


def run(*argv):
    return cli.run([str(arg) for arg in argv])


def test_list(capsys):
    assert run("list", "ghostnet-?.?x") == 0
    table = capsys.readouterr().out
    assert "ghostnet-1.0x" in table
    assert "5.18M" in table
    assert "141M" in table
    assert run("list") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in registry.NAMES)
    assert "one of 16,384: channel-bench-resnet-DDDDDDD" in table
    assert "pypi_in1k 75.1 claimed, 2 more" in table
    assert run("list", "--pretrained") == 0
    lines = capsys.readouterr().out.splitlines()
    tags = {f"{name}.{tag}" for name in registry.NAMES for tag in catalog.loadable_tags(name)}
    assert {line.split()[0] for line in lines[1:]} == tags
    assert next(line for line in lines if line.startswith("resnet-50.tv_in1k")).split()[1:] == (
        ["224", "25.6M", "4.09G", "76.1", "BSD-3-Clause"]
    )


def test_list_json_and_filters(capsys):
    assert run("list", "--json", "--max_macs", "0.4G", "--pretrained") == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["macs"] <= 0.4e9 and row["weights"] for row in rows)
    (lite,) = (row for row in rows if row["name"] == "efficientnet-lite0")
    assert lite["weights"]["pypi_in1k"]["claimed"][0]["value"] == 75.1
    assert lite["weights"]["pypi_in1k"]["macs"] == lite["macs"]
    assert run("list", "--json", "--family", "resnet") == 0
    assert len(json.loads(capsys.readouterr().out)) == 5


@pytest.mark.parametrize("name", ["efficientnet-lite0", "ghostnet-enlarged-4.4b", "resnet-20-pool-7-1-2", "resnet-50"])
def test_info(capsys, name):
    assert run("info", name) == 0
    text = capsys.readouterr().out
    assert f"{zoo.cost(name).macs:,}" in text
    assert run("info", name, "--json") == 0
    assert json.loads(capsys.readouterr().out) == zoo.info(name)


def test_cost(capsys):
    assert run("cost", "efficientnet-b0") == 0
    assert "385,814,752" in capsys.readouterr().out
    assert run("cost", "efficientnet-b0", "--json", "--blocks") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["macs"] == sum(part["macs"] for part in data["blocks"].values()) == 385_814_752
    assert run("cost", "resnet-50", "--json", "--dialect", "he") == 0
    assert json.loads(capsys.readouterr().out)["macs"] == 3_857_973_248


def test_cite(capsys):
    assert run("cite", "efficientnet-b7") == 0
    assert "arXiv 1905.11946v5 Table 2" in capsys.readouterr().out
    assert run("cite", "efficientnet-b7", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bibtex"].startswith("@inproceedings{tan2019efficientnet")


def test_predict(capsys, photos):
    assert run("predict", photos / "chelsea.png", photos / "coffee.png", "--top", 2) == 0
    out = capsys.readouterr().out
    assert "tiger cat" in out
    assert "espresso" in out
    assert "95.1" in out


def test_predict_folders_globs_and_json(capsys, photos, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(photos / "coffee.png", tmp_path / "a" / "b" / "1.png")
    shutil.copy(photos / "rocket.jpg", tmp_path / "a" / "2.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    assert run("predict", tmp_path / "a", tmp_path / "a" / "*.jpg", "--json", "--batch", 2, "--top", 1) == 0
    data = json.loads(capsys.readouterr().out)
    assert [p["top"][0]["index"] for p in data["predictions"]] == [657, 967, 657]
    assert data["failed"] == []


def test_one_bad_picture_is_reported_and_the_rest_classified(capsys, photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert run("predict", photos / "coffee.png", tmp_path / "bad.png", photos / "rocket.jpg", "--top", 1) == 1
    out, err = capsys.readouterr()
    assert "espresso" in out
    assert "missile" in out
    assert "bad.png': not a picture of a known format" in err
    assert "1 of 3 pictures could not be read" in err
    assert run("predict", tmp_path / "bad.png", "--json") == 2
    assert json.loads(capsys.readouterr().out)["failed"] == [str(tmp_path / "bad.png")]


def test_a_saved_model_classifies(capsys, photos, tmp_path):
    zoo.load("efficientnet-lite0", pretrained=True).save(tmp_path / "m.keras")
    assert run("predict", photos / "coffee.png", "--model", tmp_path / "m.keras", "--top", 1) == 0
    assert "espresso" in capsys.readouterr().out
    zoo.build("resnet-20").save(tmp_path / "plain.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK")
    for name, message in (("plain", "carries no record"), ("broken", "cannot be loaded"), ("none", "no saved model")):
        assert run("predict", photos / "coffee.png", "--model", tmp_path / f"{name}.keras") == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["info", "efficientnet-b9"], "zoo info: unknown model 'efficientnet-b9'. Did you mean efficientnet-b8"),
        (
            ["cost", "resnet-50", "--dialect", "hee"],
            "zoo cost: unknown dialect of resnet-50 'hee'; valid: torchvision, timm, he.",
        ),
        (["cite", "x"], "zoo cite: unknown model 'x'"),
        (["list", "xyz"], "zoo list: no model matches 'xyz'"),
        (["list", "--max_macs", "50X"], "zoo list: '50X' is not a count; valid: 600M"),
        (["list", "--max_macs", "0"], "zoo list: max_macs must be a positive number"),
        (["list", "--family", "resnets"], "zoo list: unknown family 'resnets'"),
        (["predict", "no.png"], "zoo predict: no such file or folder: 'no.png'"),
        (["predict", "no*.png"], "zoo predict: no file matches 'no*.png'"),
        (["predict", ".", "--top", "0"], "zoo predict: --top and --batch must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_an_empty_folder_and_unknown_models_cost_no_start_of_keras(capsys, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)  # importing it now fails
    assert run("predict", tmp_path) == 2
    assert "no pictures in folder" in capsys.readouterr().err
    assert run("predict", photos / "coffee.png", "--model", "efficientnet-lit0") == 2
    assert "Did you mean efficientnet-lite0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["fly"], ["info"], ["predict"], ["predict", "x.png", "--top", "many"], ["list", "--fast"]]
)
def test_usage_errors_are_one_line(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--help" in err


def test_help_version_and_nothing(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"zoo {zoo.__version__}\n"
    assert run() == 2
    assert "predict" in capsys.readouterr().out


def test_the_installed_command_prints_answers_only(photos, tmp_path):
    """A fresh process, as at the prompt: nothing but the table, TensorFlow's greeting kept back."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zoo.cli", "predict", photos / "coffee.png", "--top", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        env={key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert done.returncode == 0, done.stderr
    assert "espresso" in done.stdout
    assert done.stderr == ""


def test_many_pictures_show_progress(tmp_path, photos):
    small = np.asarray(Image.open(photos / "coffee.png").resize((64, 64)))
    for n in range(33):
        Image.fromarray(small).save(tmp_path / f"{n}.png")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zoo.cli", "predict", tmp_path, "--top", "1", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
    )
    assert len(json.loads(done.stdout)["predictions"]) == 33
    assert "classifying" in done.stderr
