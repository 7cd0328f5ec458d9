"""`pretrained="grow:NAME"` with real weights: Lite0 enlarged answers as Lite0 does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import zoo
from scaling_rules import compound
from scaling_rules.cost import macs
from scaling_rules.errors import ZooError
from zoo import found

PHOTOS = json.loads((Path(__file__).parents[1] / "golden" / "photos_lite0.json").read_text())["answers"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))


def enlarged(name, *bases):
    small = zoo.spec("efficientnet-lite0")
    large = compound.largest(small, 2 * macs(small), *bases)[1]
    found.write(replace(large, name=name), {"rule": "compound"})
    return large


@pytest.fixture(scope="module")
def answers(photos):
    small = zoo.load("efficientnet-lite0", pretrained=True)
    pictures = np.concatenate([zoo.preprocess(photos / name, small) for name in PHOTOS])
    return pictures, np.asarray(small(pictures))


def test_twice_the_macs_keeps_the_logits_of_the_photographs(answers):
    pictures, before = answers
    assert len(pictures) == 6
    assert macs(enlarged("lite0-2x", 1.2, 1.1, 1.0)) > 1.7 * macs(zoo.spec("efficientnet-lite0"))
    large = zoo.load("lite0-2x", pretrained="grow:efficientnet-lite0")
    assert np.abs(np.asarray(large(pictures)) - before).max() < 1e-5 * np.abs(before).max()
    report = zoo.report(large)
    assert "head.classifier.dense.bias" in report.loaded
    assert "stage3.block1.project.conv.kernel" in report.adapted
    assert any(path.startswith("stage1.block2.") for path in report.new)
    record = zoo.record_of(large)
    assert record["name"] == "lite0-2x"
    assert record["base"] == "grown from efficientnet-lite0 pypi_in1k"
    assert "tag" not in record


def test_deepening_alone_is_bit_for_bit(answers):
    pictures, before = answers
    enlarged("lite0-deep", *compound.ALONE["depth"])
    large = zoo.load("lite0-deep", pretrained="grow:efficientnet-lite0")
    np.testing.assert_array_equal(np.asarray(large(pictures)), before)


def test_other_classes_and_channels_go_with_it():
    enlarged("lite0-2x", 1.2, 1.1, 1.0)
    model = zoo.load("lite0-2x", pretrained="grow:efficientnet-lite0", num_classes=10, in_channels=1)
    report = zoo.report(model)
    assert model.output_shape == (None, 10)
    assert "stem.conv.kernel" in report.adapted
    assert "head.classifier.dense.kernel" in report.new


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"pretrained": "grow:"}, r"needs the name, or the place, of the smaller"),
        ({"pretrained": "grow:efficientnet-lite9"}, r"unknown model 'efficientnet-lite9'"),
        ({"pretrained": "grow:resnet-20"}, r"no public weights of resnet-20 are known"),
        (
            {"pretrained": "grow:efficientnet-lite0", "input_shape": 256},
            r"the resolution is 256x256, not 224x224\. strict=False maps what it can",
        ),
    ],
)
def test_bad_input(options, why):
    enlarged("lite0-2x", 1.2, 1.1, 1.0)
    with pytest.raises(ZooError, match=why):
        zoo.load("lite0-2x", **options)


def test_not_strict_goes_on_and_says_so(caplog):
    enlarged("lite0-2x", 1.2, 1.1, 1.0)
    zoo.load("lite0-2x", pretrained="grow:efficientnet-lite0", input_shape=256, strict=False)
    assert "lite0-2x does not compute what efficientnet-lite0 does: it needs training" in caplog.text
