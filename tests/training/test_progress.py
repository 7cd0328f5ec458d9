"""What is seen and kept of a run."""

import csv

import pytest
import tensorflow as tf
from PIL import Image

from training import progress
from training.loop import Progress


def row(step, **more):
    return {"step": step, "epoch": step / 10, "loss": 2.0 / step, **more}


def test_the_log_is_a_table_and_what_came_after_the_checkpoint_goes(tmp_path):
    log = progress.Log(tmp_path, 0, False)
    for step in (10, 20, 30):
        log.write(row(step))
    log.write({"step": 30, "epoch": 3.0, "minival_top1": 55.5})
    again = progress.Log(tmp_path, 20, False)
    again.write(row(25))
    assert [each["step"] for each in progress.read(tmp_path)] == [10, 20, 25]
    assert progress.read(tmp_path)[0] == pytest.approx({"step": 10, "epoch": 1, "loss": 0.2})
    with (tmp_path / "log.csv").open() as file:
        assert next(csv.reader(file)) == list(progress.COLUMNS)


def test_no_log_yet(tmp_path):
    assert progress.read(tmp_path / "none") == []
    assert progress.Log(tmp_path / "none", 5, False).path.exists()


def test_tensorboard_has_the_same_numbers(tmp_path):
    log = progress.Log(tmp_path, 0, True)
    log.write(row(10, learning_rate=0.25))
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
    assert found == {"epoch": (10, 1.0), "loss": (10, pytest.approx(0.2)), "learning_rate": (10, 0.25)}


def test_lines_where_there_is_no_terminal(capsys):
    with progress.bar(100, 0, "resnet-20") as show:
        show(Progress(20, 1.23456, 0.1, 345.6))
    assert capsys.readouterr().err == "resnet-20 step 20/100  loss 1.2346  346 images/s\n"
    with progress.bar(100, 0, "resnet-20", quiet=True) as show:
        show(Progress(20, 1.0, 0.1, 1.0))
    assert capsys.readouterr().err == ""


def test_curves_are_a_picture(tmp_path):
    log = progress.Log(tmp_path, 0, False)
    for step in range(10, 100, 10):
        log.write(row(step))
        log.write({"step": step, "epoch": step / 10, "minival_top1": step / 2, "minival_loss": 1.0})
    path = progress.curves(tmp_path)
    image = Image.open(path)
    assert path.name == "curves.png"
    assert image.size == (1080, 420)
    assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # more than empty axes
