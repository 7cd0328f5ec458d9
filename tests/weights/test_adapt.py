"""Other classes and channels: exact where mathematics says so, and a report that accounts for every tensor."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from regenerate import values

from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors
from weights.adapt import STEM, adapt, stem, with_channels
from zoo import graph, registry


def answer(spec, given_values, pixels):
    model = graph.build(spec, values=given_values)
    return keras.ops.convert_to_numpy(model(pixels.astype(np.float32)))


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


GREY = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1))
RGB = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3))


def variants(name, channels, dialect=None):
    source = registry.architecture(name, dialect)
    drawn = values(source)
    target = with_channels(source, channels)
    return source, drawn, target, adapt(source, drawn, target)[0]


def test_one_channel_answers_as_the_grey_picture_in_rgb():
    """Exact where all channels are normalised alike: the sum is linear."""
    source, drawn, target, adapted = variants("mobilenet-v1-0.25x", 1)
    assert difference(answer(target, adapted, GREY), answer(source, drawn, GREY.repeat(3, -1))) < 1e-5


def test_one_channel_under_three_means_is_exact_but_for_the_border():
    source, drawn, target, adapted = variants("resnet-18", 1)
    assert len(set(source.mean)) == 3

    def stem_map(spec, given_values, pixels):
        model = graph.build(spec, values=given_values)
        inner = keras.Model(model.input, model.get_layer("stem.norm").output)
        return keras.ops.convert_to_numpy(inner(pixels.astype(np.float32)))

    ours, theirs = stem_map(target, adapted, GREY), stem_map(source, drawn, GREY.repeat(3, -1))
    assert difference(ours[:, 2:-2, 2:-2], theirs[:, 2:-2, 2:-2]) < 1e-5
    assert difference(ours, theirs) > 1e-4  # the padding's zeros are another grey in each channel
    # and what that does to the answer is small
    assert difference(answer(target, adapted, GREY), answer(source, drawn, GREY.repeat(3, -1))) < 0.05


@pytest.mark.parametrize("channels", [6, 9])
def test_rgb_given_several_times_answers_as_once(channels):
    source, drawn, target, adapted = variants("resnet-18", channels)
    repeated = np.concatenate([RGB] * (channels // 3), -1)
    assert difference(answer(target, adapted, repeated), answer(source, drawn, RGB)) < 1e-5


@settings(max_examples=40, deadline=None)
@given(have=st.integers(1, 6), want=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_constant_picture_keeps_its_response(have, want, seed):
    """By linearity: where every channel has the same normalised value, the stem's response does not change."""
    spec = with_channels(registry.architecture("mobilenet-v1-0.25x"), have)
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((3, 3, have, 8)).astype(np.float32)
    got = stem(spec, {STEM[0]: kernel, STEM[1]: np.zeros(8, np.float32)}, want)
    assert got[STEM[0]].shape == (3, 3, want, 8)
    if want % have == 0 or want == 1:
        np.testing.assert_allclose(got[STEM[0]].sum((0, 1, 2)), kernel.sum((0, 1, 2)), rtol=1e-4, atol=1e-4)


def test_timms_rule_for_four_channels():
    """timm.models._manipulate.adapt_input_conv: repeat, cut, times 3 over the number of channels."""
    kernel = np.arange(27.0, dtype=np.float32).reshape(3, 3, 3, 1)
    got = stem(registry.architecture("resnet-18"), {STEM[0]: kernel, STEM[1]: np.zeros(1)}, 4)[STEM[0]]
    np.testing.assert_allclose(got, np.concatenate([kernel, kernel[:, :, :1]], 2) * 0.75)


def test_mean_and_std_go_with_the_channels():
    spec = registry.architecture("resnet-18")
    assert with_channels(spec, 3) is spec
    four = with_channels(spec, 4)
    assert (four.mean, four.std) == ((*spec.mean, spec.mean[0]), (*spec.std, spec.std[0]))
    one = with_channels(spec, 1)
    assert one.mean == (pytest.approx(np.mean(spec.mean)),)
    assert one.std == (pytest.approx(np.mean(spec.std)),)
    assert with_channels(four, 3).mean == spec.mean


@settings(max_examples=30, deadline=None)
@given(
    classes=st.sampled_from([0, 10, 7]),
    channels=st.sampled_from([1, 3, 5]),
    lost=st.sets(st.sampled_from(sorted(tensors(registry.architecture("resnet-20")))), max_size=4),
    extra=st.sets(st.sampled_from(["a", "b.c"]), max_size=2),
)
def test_every_tensor_is_in_the_report_once(classes, channels, lost, extra):
    source = registry.architecture("resnet-20")
    drawn = {path: array for path, array in values(source).items() if path not in lost}
    target = with_channels(replace(source, classes=classes), channels)
    adapted, report = adapt(source, drawn, target, unused=extra)
    table = tensors(target)
    assert sorted([*report.loaded, *report.adapted, *report.new]) == sorted(table)
    assert set(report.unused) == (drawn.keys() - adapted.keys()) | extra
    assert adapted.keys() == {*report.loaded, *report.adapted}
    assert all(adapted[path].shape == table[path].shape for path in adapted)
    assert all(adapted[path] is drawn[path] for path in report.loaded)
    assert ("head.classifier.dense.kernel" in report.new) == (
        classes == 7 or (classes == 10 and "head.classifier.dense.kernel" in lost)
    )


def test_skip_names_what_is_drawn_anew():
    spec = registry.architecture("resnet-20")
    drawn = values(spec)
    adapted, report = adapt(spec, drawn, spec, skip=["head.classifier.*", "stage3.block3.conv2.norm.gamma"])
    assert set(report.new) == {
        "head.classifier.dense.kernel",
        "head.classifier.dense.bias",
        "stage3.block3.conv2.norm.gamma",
    }
    assert set(report.unused) == set(report.new)
    assert str(report) == (
        f"{len(adapted)} tensors loaded, none adapted, 3 new (stage3.block3.conv2.norm.gamma, "
        "head.classifier.dense.kernel, head.classifier.dense.bias), 3 unused (stage3.block3.conv2.norm.gamma, "
        "head.classifier.dense.kernel, head.classifier.dense.bias)"
    )
    with pytest.raises(ZooError, match=r"skip: no tensor of resnet-20 matches 'head.clasifier.dense.kernel'. Did you"):
        adapt(spec, drawn, spec, skip=["head.clasifier.dense.kernel"])
