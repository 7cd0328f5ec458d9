"""The commands: help, flag files, and one line with exit code 2 for what is wrong."""

import json
import re
import subprocess
import sys

import pytest


def run(module, *arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", f"training.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=cwd,
    )


@pytest.mark.parametrize("module", ["train", "finetune", "evaluate", "compare"])
@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_reads_well(module, flag):
    done = run(module, flag)
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"python -m training.{module} " in done.stdout
    flags = re.findall(r"^  --(\[no\])?(\w+): (.*)$", done.stdout, re.MULTILINE)
    assert len(flags) >= 8
    assert all(text.strip() for *_, text in flags)
    assert "absl" not in done.stdout


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", (), r"give --model; --help shows more"),
        ("train", ("--model=resnet-20",), r"give --dataset"),
        ("train", ("--model=resnet-20", "--dataset=cifar10"), r"give --recipe"),
        ("train", ("--model=resnet-20", "--modle=x"), r"Unknown command line flag 'modle'. Did you mean: model"),
        ("train", ("--model=resnet-20", "--dataset=x/y", "--recipe=digits", "more"), r"unexpected 'more'"),
        ("train", ("--model=resnet-20", "--dataset=x/y", "--recipe=digts"), r"'digts'.*digits"),
        ("train", ("--model=resnet-20", "--dataset=x/y", "--recipe=digits"), r"no such folder of pictures: 'x/y'"),
        ("train", ("--model=resnet-20", "--dataset=x/y", "--recipe=digits", "--set=epoch=3"), r"'?epoch'?.*epochs"),
        ("train", ("--model=resnet-21", "--dataset={data}", "--recipe=digits"), r"resnet-21.*resnet-20"),
        ("train", ("--model=resnet-20", "--dataset={data}", "--recipe=digits", "--seed=-1"), r"a seed lies in 0 to"),
        ("train", ("--model=resnet-20", "--dataset={data}", "--recipe=digits", "--fold=3/2"), r"fold.*3/2"),
        ("train", ("--model=resnet-20", "--dataset={data}", "--recipe=digits", "--few=0"), r"few must be.*not 0"),
        ("train", ("--strategy=gpu",), r"strategy.*gpu.*one.*mirrored.*tpu.*hosts"),
        (
            "train",
            ("--model=resnet-20", "--dataset={data}", "--recipe=digits", "--strategy=hosts"),
            r"--strategy=hosts needs KERAS_BACKEND=jax",
        ),
        ("finetune", ("--model=resnet-20", "--dataset={data}"), r"no public weights of resnet-20 are known"),
        ("finetune", ("--model=resnet-20", "--dataset={data}", "--flagfile=no.flags"), r"no\.flags"),
        ("compare", ("--dataset=x",), r"give --models and --dataset"),
        ("compare", ("--models=resnet-20", "--dataset=x"), r"give --recipe, or --evaluate"),
        (
            "compare",
            ("--models=resnet-20,resnet-20", "--dataset=x", "--recipe=digits"),
            r"--models names resnet-20 twice",
        ),
        ("compare", ("--models=resnet-20,resnt", "--dataset=x", "--recipe=digits"), r"resnt"),
        (
            "compare",
            ("--models=resnet-20", "--seeds=a", "--dataset=x", "--recipe=digits"),
            r"--seeds must be whole numbers",
        ),
    ],
)
def test_bad_input(few_digits, tmp_path, module, arguments, message):
    done = run(module, *(each.format(data=few_digits) for each in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"python -m training.{module}: ")
    assert re.search(message, lines[0]), lines[0]
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_flags_from_a_file_and_a_comparison(few_digits, tmp_path):
    """Two networks and two seeds by a flag file; then one that cannot be, which is named."""
    (tmp_path / "digits.flags").write_text(
        f"--dataset={few_digits}\n--recipe=digits\n--set=epochs=1\n--seeds=0,1\n--threads=1\n--work_dir=runs\n"
    )
    models = "--models=resnet-20,mobilenet-v2-0.35x"
    done = run("compare", "--flagfile=digits.flags", models, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "runs" / "results.jsonl").read_text().splitlines()]
    assert [(row["model"], row["seed"]) for row in rows] == [
        (model, seed) for model in ("resnet-20", "mobilenet-v2-0.35x") for seed in (0, 1)
    ]
    text = (tmp_path / "runs" / "table.md").read_text()
    assert text in done.stdout
    means = {
        model: sum(r["top1"] for r in rows if r["model"] == model) / 2 for model in ("resnet-20", "mobilenet-v2-0.35x")
    }
    found = dict(re.findall(r"^\| (\S+) \| ([\d.]+) \|", text, re.MULTILINE))
    assert {model: float(value) for model, value in found.items()} == pytest.approx(means, abs=0.006)
    assert list(found) == sorted(means, key=lambda model: -means[model])
    assert "<svg" in (tmp_path / "runs" / "compare.svg").read_text()
    for row in rows:
        result = json.loads((tmp_path / "runs" / f"{row['model']}-{row['seed']}" / "result.json").read_text())
        assert row["top1"] == result["test"]["top1"]
        assert (row["macs"], row["params"]) == (result["macs"], result["params"])
    before = (tmp_path / "runs" / "results.jsonl").read_text()
    # Again, with one that is not there: nothing is trained twice, and it is said which one failed.
    done = run("compare", "--flagfile=digits.flags", models + ",no/such", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(r"^training\.compare: no/such: .*no/such", done.stderr, re.MULTILINE), done.stderr
    assert (tmp_path / "runs" / "results.jsonl").read_text() == before
