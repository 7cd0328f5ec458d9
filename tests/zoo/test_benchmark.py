"""Rounds are fair and their figures exact; what is absent is skipped, what fails is left out, what is wrong refused."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo import cli, registry
from zoo.benchmark import command, latencies, peers, report, rounds
from zoo.benchmark.rounds import Result
from zoo.benchmark.worker import Job

TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=12)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def result(label, ms, name="efficientnet-b1", source="zoo", size=240, precision="float32", **options):
    job = Job(source, name, "file", size, precision=precision, engine="openvino")
    return Result(label, job, options.pop("batch", 1), options.pop("at", size), ms=ms, **options)


@given(TIMES)
def test_quartiles_are_those_of_numpy(ms):
    assert rounds.quartiles(ms) == pytest.approx(tuple(np.percentile(ms, [25, 75])))
    assert result("a", ms).median == pytest.approx(np.median(ms))


@given(TIMES, st.floats(0.1, 10))
def test_the_ratio_is_taken_round_by_round(ms, factor):
    """A machine that slows down in the middle slows both, and leaves their ratio."""
    times = rounds.speed_up(result("ours", ms), result("theirs", [factor * each for each in ms]))
    assert times == pytest.approx((factor,) * 3)


class Scripted:
    """A worker whose answers are told: 10 ms a picture, a size more, and failures."""

    asked: ClassVar[list] = []

    def __init__(self, job):
        self.job = job
        self.count = 0

    def ask(self, batch, size, seconds):
        self.asked.append((self.job.name, self.job.how, batch, size, seconds))
        self.count += 1
        if self.job.how == "fails" and self.count == 3:
            return {"error": "its process ended with -9"}
        answer = {"ms": 10.0 * batch + size, "calls": 1, "peak_mb": float(self.count)}
        return answer | ({"seconds": {"import": 1.0}, "params": 7} if seconds == 0 else {})

    def end(self):
        self.asked.append("end")


def test_a_race_asks_all_in_every_round(monkeypatch):
    monkeypatch.setattr(rounds, "_Worker", Scripted)
    monkeypatch.setattr(Scripted, "asked", [])
    said = []
    jobs = [(how, Job("zoo", name, how, size)) for name, size in (("a", 32), ("b", 48)) for how in ("x", "fails", "y")]
    found = rounds.race(jobs, [(1, None), (4, 64)], rounds=5, seconds=0.5, say=said.append)
    asked = [one for one in Scripted.asked if one != "end"]
    assert Scripted.asked.count("end") == 6
    everyone = {(name, how) for name in "ab" for how in ("x", "fails", "y")}
    assert {one[:2] for one in asked[:6]} == {one[:2] for one in asked[6:12]} == everyone  # each once
    assert [one[:2] for one in asked[:6]] != [one[:2] for one in asked[6:12]]
    assert [one[4] for one in asked[:12]] == [0.0] * 6 + [0.5] * 6
    ran = [(each.job.name, each.label, each.batch, each.size) for each in found]
    both = [("a", 32), ("b", 48)]
    # It failed in its third call, at batch 1, and runs at batch 4: a batch too large must not cost the others.
    assert ran == [(n, h, 1, size) for n, size in both for h in "xy"] + [
        (n, h, 4, 64) for n, _ in both for h in ("x", "fails", "y")
    ]
    assert said.count("left out: a, fails, batch 1: its process ended with -9") == 1
    for each in found:
        assert each.ms == [10.0 * each.batch + each.size] * 5
        assert each.params == 7
    assert found[0].peak_mb == 6.0


def test_networks_that_are_too_many_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(rounds, "_Worker", Scripted)
    monkeypatch.setattr(rounds, "TOGETHER", 3)
    jobs = [(how, Job("zoo", name, how, 32)) for name in ("a", "b") for how in ("x", "y")]
    found = rounds.race(jobs, [(1, None)], rounds=2, seconds=0, say=print)
    assert [each.group for each in found] == [0, 0, 1, 1]
    assert report.whole(found, 2, 0, None, False)["between"] == []  # not in the same rounds


def test_the_report_compares_at_the_same_precision_and_at_any():
    found = [
        result("zoo openvino float32", [2.0, 4.0, 6.0]),
        result("zoo openvino bfloat16", [1.0, 2.0, 2.0], precision="bfloat16"),
        result("timm eager float32", [8.0, 8.0, 6.0], source="timm"),
        result("timm eager bfloat16", [4.0, 4.0, 4.0], source="timm", precision="bfloat16"),
        result("zoo openvino float32", [20.0, 40.0, 30.0], name="resnet-152", size=224),
    ]
    told = report.whole(found, 3, 0.1, 1, False)
    ratios = {(row["other"], row["scope"]): row for row in told["ratios"] if row["name"] == "efficientnet-b1"}
    assert ratios["timm eager float32", "same precision"]["times"] == 2.0  # of 4, 2, 1
    assert ratios["timm eager float32", "same precision"]["quartiles"] == [1.5, 3.0]
    assert ratios["timm eager float32", "any precision"]["times"] == 4.0  # of 8, 4, 3
    assert ratios["timm eager bfloat16", "same precision"]["times"] == 2.0
    assert ("zoo openvino bfloat16", "any precision") not in ratios
    (pair,) = told["between"]
    assert (pair["first"], pair["other"], pair["times"]) == ("efficientnet-b1", "resnet-152", 10.0)
    assert pair["claimed"] == pytest.approx(5.7, abs=0.05)  # arXiv 1905.11946v5, Table 4
    (line,) = report.between(found)
    assert line.startswith("efficientnet-b1 is 10.00 times as fast as resnet-152 (zoo openvino float32, batch 1, ")
    assert line.endswith("the paper states 5.7 on one core of another machine")
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("ending", report.PLOTS)
def test_the_plot_has_who_has_an_accuracy(ending, tmp_path):
    names = ("efficientnet-b0", "resnet-50", "resnet-20-pool-1-1-1")
    found = [result("zoo openvino float32", [2.0, 3.0], name=name) for name in names]
    said = []
    report.plot(found, tmp_path / f"p{ending}", said.append)
    assert said == [f"{names[2]} has no published accuracy and is not in the plot", f"plot in {tmp_path / 'p'}{ending}"]
    begin = (tmp_path / f"p{ending}").read_bytes()[:5]
    assert begin == {".png": b"\x89PNG\r", ".svg": b"<?xml", ".pdf": b"%PDF-"}[ending]


# -- the command, with real processes


def run(capsys, *argv):
    code = cli.run(["benchmark", *argv])
    return code, capsys.readouterr()


def test_a_small_run(root, capsys, tmp_path):
    """Two engines and a peer; what is saved answers `zoo list`."""
    name = "mobilenet-v1-0.25x"
    options = ["--size", "32,224", "--batch", "1,3", "--rounds", "3", "--seconds", "0", "--engines", "litert,keras"]
    wanted = [*options, "--against", "keras.applications,timm,torchvision", "--save", "--json"]
    code, said = run(capsys, name, *wanted, "--plot", str(tmp_path / "p.svg"))
    assert code == 0
    told = json.loads(said.out)
    variants = ["zoo litert float32", "zoo keras predict", "keras.applications predict"]
    assert [each["variant"] for each in told["results"]] == variants * 4
    assert [(each["batch"], each["size"]) for each in told["results"][::3]] == [(1, 32), (3, 32), (1, 224), (3, 224)]
    for each in told["results"]:
        assert len(each["rounds"]) == 3
        assert 0 < min(each["rounds"]) <= each["ms"] <= max(each["rounds"])
        assert each["peak_mb"] > 20
        assert set(each["seconds"]) == {"import", "build", "first"}
        assert each["params"] in (None, zoo.cost(name).params)
    assert {each["params"] for each in told["results"]} == {None, zoo.cost(name).params}
    assert told["machine"]["versions"]["keras"] == keras.__version__
    assert "zoo benchmark: timm is not installed and is skipped: pip install 'zoo[peers]'" in said.err
    assert "zoo benchmark: torchvision is not installed" in said.err
    assert said.err.count("mobilenet-v1-0.25x has no published accuracy and is not in the plot") == 1
    assert not (tmp_path / "p.svg").exists()

    own = {each["variant"]: each["ms"] for each in told["results"] if (each["batch"], each["size"]) == (1, 224)}
    took = own["zoo litert float32"]
    assert zoo.list_models(max_latency_ms=took, engine="litert") == [name]
    assert zoo.list_models(max_latency_ms=took * 0.999, engine="litert") == []
    assert zoo.list_models("ghostnet*", max_latency_ms=1e9) == []
    assert cli.run(["list", "--max_latency_ms", "1e9", "--engine", "keras"]) == 0
    assert f"{own['zoo keras predict']:.2f}" in capsys.readouterr().out
    assert cli.run(["list", "--max_latency_ms", "1e9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["latency_ms"] == min(
        own["zoo litert float32"], own["zoo keras predict"]
    )


def test_training_steps_and_the_table(root, capsys):
    code, said = run(
        capsys, "resnet-20", "--train", "--batch", "2", "--rounds", "2", "--seconds", "0", "--threads", "1"
    )
    assert code == 0
    lines = said.out.splitlines()
    assert len(lines) == 2
    assert "zoo keras train" in lines[1]
    assert " ours " in lines[1]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["resnet-51"], "unknown model 'resnet-51'"),
        (["resnet-20", "--batch", "1,x"], "--batch must be whole numbers of at least 1 with commas between, not '1,x'"),
        (["resnet-20", "--batch", "0"], "--batch must be whole numbers of at least 1"),
        (["resnet-20", "--batch", ""], "--batch must name at least one number"),
        (["resnet-50", "--size", "16"], "input 16x16 is smaller than the network's total stride 32"),
        (["resnet-20", "--rounds", "0"], "--rounds and --threads must be at least 1"),
        (["resnet-20", "--threads", "0"], "--rounds and --threads must be at least 1"),
        (["resnet-20", "--engines", "tensorrt"], "unknown engine 'tensorrt'"),
        (["resnet-20", "--against", "pycls"], "unknown library to compare with 'pycls'; valid: keras.applications, "),
        (["resnet-20", "--precision", "int4"], "unknown precision on this processor 'int4'; valid: "),
        (["resnet-20", "--plot", "x.bmp"], "unknown ending of a plot '.bmp'; valid: .png, .svg, .pdf"),
        (["resnet-20", "--plot", "nowhere/x.png"], "no folder 'nowhere'"),
        (["resnet-20", "--train", "--save"], "--save keeps the time of answers"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(argv, said, capsys, monkeypatch):
    monkeypatch.setattr(command, "race", None)
    monkeypatch.setattr(command.files, "make", None)
    code, heard = run(capsys, *argv)
    assert code == 2
    assert heard.err.startswith("zoo benchmark: ")
    assert said in heard.err
    assert heard.err.count("\n") == 1


def test_a_network_that_cannot_be_exported(capsys, monkeypatch):
    monkeypatch.setattr(command.files, "make", lambda *_: "no space left on device")
    code, heard = run(capsys, "resnet-20", "--engines", "litert")
    assert code == 2
    assert "resnet-20 cannot be exported: no space left on device" in heard.err


def test_an_engine_that_is_missing_says_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, heard = run(capsys, "resnet-20", "--engines", "onnxruntime")
    assert code == 2
    assert "this needs onnxruntime: pip install 'zoo[export]'" in heard.err


# -- workers and peers


def test_a_worker_that_fails_says_so_and_goes_on(tmp_path):
    worker = rounds._Worker(
        Job("zoo", "resnet-20", "file", 32, engine="litert", files=((32, str(tmp_path / "no.tflite")),))
    )
    for _ in range(2):
        assert "no exported file" in worker.ask(1, 32, 0)["error"]
    worker.process.kill()
    assert worker.ask(1, 32, 0) == {"error": "its process ended with -9"}
    worker.end()


def test_threads_are_processors():
    script = "import os; from zoo.benchmark.worker import limit; limit(1); print(len(os.sched_getaffinity(0)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("name", registry.NAMES)
def test_what_keras_applications_is_said_to_have_it_has(name):
    theirs = peers.called("keras.applications", name)
    if theirs is not None:
        assert callable(getattr(keras.applications, theirs[0]))


@pytest.mark.parametrize(
    ("name", "more"),
    [("efficientnet-b0", 0), ("mobilenet-v1-0.25x", 0), ("mobilenet-v2-0.35x", 0), ("resnet-50", 26560)],
)
def test_a_peer_runs_the_same_network(name, more):
    """keras.applications' ResNets have a bias in each convolution, which batch norm makes void."""
    model = peers.keras_applications(name, 64)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == zoo.cost(name).params + more
    assert model.output_shape == (None, 1000)


def test_names_of_the_peers():
    assert peers.called("timm", "ghostnet-0.5x") == ("ghostnet_050", "0.5")
    assert peers.called("timm", "mobilenet-v2-1.4x") == ("mobilenetv2_140", "1.4")
    assert peers.called("keras.applications", "efficientnet-b7") == ("EfficientNetB7", "b7")
    assert peers.called("torchvision", "resnet-152") == ("resnet152", "152")
    assert peers.called("torchvision", "ghostnet-1.0x") is None
    assert peers.called("keras_hub", "resnet-20") is None


# -- latencies


def row(name="resnet-20", ms=2.0, engine="openvino", precision="float32", batch=1, size=32, threads=None):
    return {
        "name": name,
        "engine": engine,
        "precision": precision,
        "batch": batch,
        "size": size,
        "threads": threads,
        "ms": ms,
    }


def test_latencies_of_the_right_engine_batch_and_size(root):
    latencies.save([row(), row(ms=1.5, precision="bfloat16"), row(ms=0.1, size=64), row(ms=9.0, engine="litert")])
    latencies.save([row(ms=3.0), row(name="resnet-50", ms=20.0, size=224), row(ms=7.0, batch=16)])
    sizes = {"resnet-20": 32, "resnet-50": 224}
    assert latencies.measured(sizes, None, 1) == {"resnet-20": 1.5, "resnet-50": 20.0}
    assert latencies.measured(sizes, "litert", 1) == {"resnet-20": 9.0}
    assert latencies.measured(sizes, "auto", 16) == {"resnet-20": 7.0}
    assert len(latencies.read()) == 6  # the first was replaced
    assert zoo.list_models(max_latency_ms=10) == ["resnet-20"]
    assert zoo.list_models("resnet-*", max_latency_ms=20.0) == ["resnet-50", "resnet-20"]
    with pytest.raises(
        zoo.ZooError, match=r"no latency of batch 2 in keras .* there are: litert batch 1, openvino batch 1"
    ):
        zoo.list_models(max_latency_ms=10, engine="keras", batch=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_latency_ms": 1}, r"no latency of batch 1 was measured on this machine, there are: none; zoo benchmark"),
        ({"max_latency_ms": -1}, r"positive number of milliseconds, not -1"),
        ({"max_latency_ms": True}, r"positive number of milliseconds, not True"),
        ({"max_latency_ms": float("nan")}, r"positive number of milliseconds, not nan"),
        ({"max_latency_ms": 1, "engine": "trt"}, r"unknown engine 'trt'; valid: openvino"),
        ({"max_latency_ms": 1, "batch": 0}, r"batch must be a whole number of at least 1, not 0"),
        ({"engine": "keras"}, r"engine and batch are those of max_latency_ms"),
        ({"batch": 2}, r"engine and batch are those of max_latency_ms"),
    ],
)
def test_latencies_that_cannot_be(options, said, root):
    with pytest.raises(zoo.ZooError, match=said):
        zoo.list_models(**options)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "other", "latencies": []}', '{"format": "zoo-latencies-1", "latencies": [{"ms": 1}]}'],
)
def test_a_damaged_file_of_latencies(root, text):
    latencies.save([row()])
    latencies.place().write_text(text)
    with pytest.raises(zoo.ZooError, match=r"cannot be read .*: remove it, and run zoo benchmark --save"):
        zoo.list_models(max_latency_ms=1)
    with pytest.raises(zoo.ZooError, match="cannot be read"):
        latencies.save([row()])
    assert latencies.place().read_text() == text


def test_several_who_save_lose_nothing(root):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: latencies.save([row(batch=number)]), range(1, 25)))
    assert sorted(each["batch"] for each in latencies.read()) == list(range(1, 25))


def test_another_machine_has_another_file(root, monkeypatch):
    latencies.save([row()])
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert latencies.read() == []
