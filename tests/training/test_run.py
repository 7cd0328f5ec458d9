"""A training through its command or function: what it learns, what it leaves, and that no kill changes it."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from scaling_rules.lower import stage_of
from training import checkpoint, pipeline, progress, recipe
from training.datasets import open_source
from training.job import Job, build, loss_of, set_trainable
from training.run import train
from zoo import publishing
from zoo.sources import opened

TINY = "mobilenet-v2-0.35x"


@pytest.fixture(scope="module")
def learned(digits, tmp_path_factory):
    """(job, folder, result) of a training by the recipe `digits`."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    job = Job(TINY, str(digits), recipe.load("digits", ["ema={decay: 0.95}", "bn=recalibrate"]))
    return job, folder, train(job, folder, command="a test")


def test_digits_are_learned(learned):
    _, folder, result = learned
    assert result["test"]["top1"] > 60  # chance is 10
    assert result["test"]["count"] == 360
    assert result["pictures"]["train"] + result["pictures"]["minival"] == 1437
    assert result["chosen"] == max(result["minival"], key=lambda name: result["minival"][name]["top1"])
    assert result == json.loads((folder / "result.json").read_text())
    assert result["steps"] == round(5 * result["pictures"]["train"] / 64)


def test_the_result_is_that_of_what_was_saved(learned, digits):
    """With Pillow, NumPy and the folder alone."""
    _, folder, result = learned
    model = zoo.load(str(folder / "model"), True)
    paths = sorted((digits / "test").glob("*/*.png"))
    # 16 pixels to 32, bilinear: 2 is a power of two, so Pillow is what was trained with, but for rounding.
    pixels = np.stack([np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in paths])
    right = np.mean(
        model.predict(pixels.astype(np.float32), verbose=0).argmax(1) == [int(p.parent.name) for p in paths]
    )
    assert 100 * right == pytest.approx(result["test"]["top1"], abs=0.6)


def test_what_was_seen_on_the_way(learned):
    _, folder, result = learned
    rows = progress.read(folder)
    measured = [row for row in rows if "minival_top1" in row]
    assert [round(row["epoch"]) for row in measured] == [1, 2, 3, 4, 5]
    assert all("minival_ema_top1" in row for row in measured)
    assert max(row["step"] for row in rows) == result["steps"]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] / 2
    with Image.open(folder / "curves.png") as image:
        assert image.size[0] > 500
    assert recipe.load(folder / "recipe.yaml") == learned[0].recipe


def test_it_can_be_published(learned, tmp_path):
    _, folder, result = learned
    publishing.publish(folder / "model", str(tmp_path / "public"), license="mit")
    record = opened(tmp_path / "public")[0].config.record
    (top1,) = [each for each in record["measured"] if each["metric"] == "top1"]
    assert top1["value"] == result["test"]["top1"]
    assert top1["samples"] == 360
    assert "MACs" in (tmp_path / "public" / "README.md").read_text()


def test_a_finished_one_is_not_trained_again(learned):
    job, folder, result = learned
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train(job, folder) == result
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_job_in_the_same_folder(learned, digits):
    _, folder, _ = learned
    other = Job(TINY, str(digits), recipe.load("digits", ["learning_rate.peak=0.3"]))
    with pytest.raises(
        zoo.ZooError, match=r"holds a run whose recipe.*\S+ is .*; choose another --work_dir, or --nores"
    ):
        train(other, folder)
    assert (folder / "result.json").exists()


COMMAND = (
    f"--model={TINY} --recipe=digits --pretrained= --seed=7 --threads=1 --deterministic --checkpoint_every=2 "
    "--eval_every=0.5 --set epochs=2 --set head_first_epochs=1 --set ema.decay=0.9 --set augment.mixup=0.2 "
    "--set optimizer.name=rmsprop --set optimizer.nesterov=false --set optimizer.rho=0.9 --set optimizer.epsilon=0.001 "
    "--set learning_rate.peak=0.01 --set augment.erase=0.25 --set drop_path=0.1 --set accumulate=2"
).split()


def start(digits, folder, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "training.finetune", f"--dataset={digits}", f"--work_dir={folder}", *COMMAND, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def digest(path):
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in checkpoint.latest(path).arrays.items()}


def test_killed_at_random_moments_it_ends_the_same(few_digits, tmp_path):
    """The whole command: two phases, augmentation, mixing, dropout, average. test_loop.py kills more often."""
    whole = start(few_digits, tmp_path / "whole")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors[-3000:]
    rng = random.Random(1)
    reached = []
    for _ in range(4):
        child = start(few_digits, tmp_path / "parts")
        for line in child.stderr:
            if re.search(r"step \d+/\d+", line):
                break
        time.sleep(rng.random())
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        state = checkpoint.latest(tmp_path / "parts" / "checkpoints")
        reached.append(state.step if state else 0)
    child = start(few_digits, tmp_path / "parts")
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors[-3000:]
    assert reached == sorted(reached)
    assert reached[-1] > 0
    assert digest(tmp_path / "whole" / "checkpoints") == digest(tmp_path / "parts" / "checkpoints")
    one, two = (json.loads((tmp_path / each / "result.json").read_text()) for each in ("whole", "parts"))
    for key in ("minival", "chosen", "test", "steps"):
        assert one[key] == two[key]
    assert [row["step"] for row in progress.read(tmp_path / "whole") if "minival_top1" in row] == [
        row["step"] for row in progress.read(tmp_path / "parts") if "minival_top1" in row
    ]


def test_what_is_frozen_stays(digits):
    job = Job(TINY, str(digits), recipe.load("digits", ["freeze=[stem, stage1, stage2]", "bn=frozen"]))
    model, _ = build(job, 10, 1)
    set_trainable(model, job.recipe, head_only=False)
    learns = {variable.path.split("/")[-2] for variable in model.trainable_variables}
    assert {stage_of(name) for name in learns} == {"stage3", "stage4", "stage5", "stage6", "stage7", "head"}
    assert not any("norm" in name for name in learns)
    set_trainable(model, job.recipe, head_only=True)
    assert {variable.path.split("/")[-2] for variable in model.trainable_variables} == {"head.classifier.dense"}


def test_another_resolution_sees_as_much_of_the_picture():
    told = recipe.load("small", ["resolution=32"])
    model, found = build(Job("resnet-20", "x", told), 10, 1)
    assert model.input_shape == (None, 32, 32, 3)
    assert (found["resize"], found["crop"], found["interpolation"]) == (32, 32, "bicubic")
    told = recipe.load("small", ["resolution=112", "evaluate={resize: 256, crop: 224, interpolation: bilinear}"])
    assert build(Job("resnet-20", "x", told), 10, 1)[1]["resize"] == 128


def test_zero_gamma_makes_residual_blocks_pass_their_input():
    """Every block with a shortcut of the same shape gives back what it gets: relu of it, in a ResNet."""
    job = Job("resnet-50", "x", recipe.load("digits", ["zero_gamma=true"]))
    model, _ = build(job, 10, 1)
    zeros = [path for path, value in zoo.variables(model).items() if path.endswith("gamma") and not np.any(value)]
    assert len(zeros) == 16  # blocks of ResNet-50
    plain, _ = build(Job("resnet-50", "x", recipe.load("digits")), 10, 1)
    assert all(np.all(value == 1) for path, value in zoo.variables(plain).items() if path.endswith("gamma"))


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_distillation_is_hintons(weight):
    """(1 - w) CE(labels, p) + w T^2 CE(teacher at T, p at T), in NumPy."""
    told = recipe.load("digits", [f"distill={{teacher: resnet-50, temperature: 3, weight: {weight}}}"])
    rng = np.random.default_rng(0)
    logits, theirs = rng.normal(size=(2, 5, 10)).astype(np.float32) * 4
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 5)]

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    hard = -(labels * log_softmax(logits)).sum(1).mean()
    soft = -(np.exp(log_softmax(theirs / 3)) * log_softmax(logits / 3)).sum(1).mean()
    found = float(loss_of(told)((labels, theirs), keras.ops.convert_to_tensor(logits)))
    assert found == pytest.approx((1 - weight) * hard + weight * 9 * soft, rel=1e-5)


def test_unreadable_pictures_are_counted_and_bounded(few_digits, tmp_path):
    root = tmp_path / "data"
    for path in few_digits.glob("*/*/*.png"):
        (root / path.parent.relative_to(few_digits)).mkdir(parents=True, exist_ok=True)
        (root / path.relative_to(few_digits)).write_bytes(path.read_bytes())
    source = open_source(root, "train")
    damaged = sorted(source.name_of(number) for number in range(source.count))[7]
    Path(damaged).write_bytes(b"\x89PNG no picture")
    told = recipe.load("digits", ["epochs=1", "batch=32"])
    job = Job(TINY, str(root), told)
    with pytest.raises(zoo.ZooError, match=rf"cannot read 1 of the .* the first is {re.escape(damaged)}"):
        train(job, tmp_path / "strict", unreadable=0.0)
    assert not (tmp_path / "strict" / "result.json").exists()
    result = train(job, tmp_path / "run", unreadable=0.01)
    assert result["skipped"] == [damaged]


def test_a_loss_that_is_no_number_names_its_step(few_digits, tmp_path):
    told = recipe.load("digits", ["learning_rate.peak=1.0e+30", "epochs=2", "learning_rate.warmup_epochs=0"])
    with pytest.raises(zoo.ZooError, match=r"the loss of step \d+ is not a finite number"):
        train(Job(TINY, str(few_digits), told), tmp_path / "run", checkpoint_every=1)
    state = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert state is None or all(np.isfinite(array).all() for array in state.arrays.values())


def test_batches_are_what_the_recipe_says(digits):
    """So that what the tests above use is known: 64 of 10 classes, smoothed by nothing, at 32 pixels."""
    source = open_source(digits, "train")
    images, labels = next(iter(pipeline.train_batches(source, recipe.load("digits"), 32, seed=0)(0)))
    assert images.shape == (64, 32, 32, 3)
    np.testing.assert_allclose(np.sort(labels, axis=1)[:, -1], 1.0)
