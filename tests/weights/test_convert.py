"""Layouts of other projects: names as theirs, exact round trips, and strictness."""

import json

import numpy as np
import pytest
from regenerate import values

from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors
from weights.convert.layouts import LAYOUTS, modules
from weights.convert.tensors import detect, from_layout, to_layout
from zoo import registry

PAIRS = [
    ("efficientnet-b0", "timm"),
    ("efficientnet-b0", "lukemelas"),
    ("efficientnet-b0", "keras.applications"),
    ("efficientnet-lite1", "timm"),
    ("ghostnet-1.3x", "timm"),
    ("resnet-34", "timm"),
    ("resnet-50", "timm"),
    ("mobilenet-v1-0.25x", "timm"),
    ("mobilenet-v2-0.35x", "timm"),
    ("mobilenet-v1-0.25x", "keras.applications.mobilenet"),
    ("mobilenet-v2-0.35x", "keras.applications.mobilenet_v2"),
    ("mobilenet-v2-1.4x", "keras.applications.mobilenet_v2"),
    ("mobilenet-v2-1.1x-d1.2", "timm"),
]


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_round_trip_is_exact(name, layout):
    spec = registry.architecture(name)
    ours = values(spec)
    theirs = to_layout(spec, layout, ours)
    again = from_layout(spec, layout, theirs)
    assert list(again) == list(tensors(spec))
    assert all(np.array_equal(again[path], ours[path]) for path in ours)
    assert detect(spec, theirs) == layout


@pytest.mark.parametrize(
    ("oracle", "name"),
    [
        ("tf_efficientnet_b0", "efficientnet-b0"),
        ("tf_efficientnet_lite0", "efficientnet-lite0"),
        ("ghostnet_100", "ghostnet-1.0x"),
        ("mobilenetv2_100", "mobilenet-v2-1.0x"),
        ("resnet50", "resnet-50"),
    ],
)
def test_names_and_shapes_are_timms(shared, oracle, name):
    reference = json.loads((shared / "oracles" / f"{oracle}.json").read_text())
    spec = registry.architecture(name, "timm")
    theirs = to_layout(spec, "timm", values(spec))
    expected = {n: tuple(shape) for n, shape in reference["tensors"] if not n.endswith("num_batches_tracked")}
    assert {n: array.shape for n, array in theirs.items()} == expected


def test_every_convolution_has_a_module_of_its_own():
    for name, layout in PAIRS:
        named = modules(registry.architecture(name), layout)
        assert len(set(named.values())) == len(named)


def damaged(change):
    spec = registry.architecture("mobilenet-v1-0.25x")
    theirs = to_layout(spec, "timm", values(spec))
    change(theirs)
    return spec, theirs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bn1.weight"), "missing bn1.weight; none unused"),
        (lambda t: t.update(teacher=np.zeros(3)), "none missing; unused teacher"),
        (lambda t: t.update({"bn1.weight": np.zeros(9)}), r"tensor bn1.weight has shape \(9,\).*stem.norm.gamma"),
        (lambda t: t.update({"classifier.weight": np.zeros((10, 256))}), "tensor classifier.weight has shape"),
        (lambda t: t.update({"conv_stem.weight": np.zeros((8, 1, 3, 3))}), "tensor conv_stem.weight has shape"),
        (lambda t: [t.pop(n) for n in [n for n in t if "blocks" in n]], "and 127 more"),
    ],
)
def test_strict(change, message):
    spec, theirs = damaged(change)
    with pytest.raises(ZooError, match=message):
        from_layout(spec, "timm", theirs)


def test_batch_counters_are_passed_over():
    spec, theirs = damaged(lambda t: t.update({"bn1.num_batches_tracked": np.array(7)}))
    assert from_layout(spec, "timm", theirs)


def test_unknown_layouts_and_families():
    with pytest.raises(ZooError, match=r"unknown layout .tim.; valid: timm, lukemelas.*Did you mean timm"):
        modules(registry.architecture("resnet-50"), "tim")
    assert "timm" in LAYOUTS
    with pytest.raises(ZooError, match="the layout lukemelas has no names for resnet-50"):
        modules(registry.architecture("resnet-50"), "lukemelas")
    with pytest.raises(ZooError, match="the layout timm has no names for vgg-19-cifar"):
        modules(registry.architecture("vgg-19-cifar"), "timm")
