"""Our networks answer what the reference implementations answer for the same weights and inputs."""

import json

import keras
import numpy as np
import pytest
from regenerate import pixels, tensor

from scaling_rules.shapes import tensors
from weights.convert.tensors import from_layout
from zoo import graph, registry

TOLERANCE = 1e-4
"""Of the largest logit. Summation order alone costs some 1e-6."""


def difference(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize(
    ("oracle", "name", "dialect"),
    [
        ("tf_efficientnet_b0", "efficientnet-b0", "tensorflow"),
        ("tf_efficientnet_lite0", "efficientnet-lite0", "tensorflow"),
        ("ghostnet_100", "ghostnet-1.0x", "timm"),
        ("mobilenetv2_100", "mobilenet-v2-1.0x", "timm"),
        ("resnet50", "resnet-50", "timm"),
    ],
)
def test_timm(shared, oracle, name, dialect):
    reference = json.loads((shared / "oracles" / f"{oracle}.json").read_text())
    answers = np.load(shared / "oracles" / f"{oracle}.npz")
    spec = registry.architecture(name, dialect)
    values = from_layout(spec, "timm", {name: tensor(name, shape) for name, shape in reference["tensors"]})
    model = graph.build(spec, values=values, include_preprocessing=False)
    last = "head.conv.act" if spec.head.conv else f"stage{len(spec.stages)}.block{len(spec.stages[-1])}.sum.act"
    both = keras.Model(model.input, [model.output, model.get_layer(last).output])
    for resolution in reference["resolutions"]:
        logits, maps = (keras.ops.convert_to_numpy(y) for y in both(pixels(resolution)))
        assert difference(logits, answers[f"logits_{resolution}"]) < TOLERANCE
        assert difference(maps.mean((1, 2)), answers[f"features_{resolution}"]) < TOLERANCE


def randomise(model, seed):
    """Weights of a Keras model drawn anew, batch norm's too: fresh ones would hide a swapped mean and variance."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in model.layers:
        for variable in layer.variables:
            if variable.name in ("gamma", "moving_variance"):
                value = rng.uniform(0.8, 1.2, variable.shape)
            elif "kernel" in variable.name:
                shape = variable.shape
                fan_in = np.prod(shape[:2]) if len(shape) == 4 and shape[3] == 1 else np.prod(shape[:-1])
                value = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
            elif variable.name in ("beta", "moving_mean", "bias"):
                value = 0.1 * rng.standard_normal(variable.shape)
            else:
                continue
            variable.assign(value)
            found[f"{layer.name}/{variable.name}"] = value.astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("name", "reference", "layout", "first"),
    [
        *((f"efficientnet-b{n}", f"EfficientNetB{n}", "keras.applications", "stem_conv_pad") for n in range(4)),
        ("mobilenet-v1-1.0x", "MobileNet", "keras.applications.mobilenet", "conv1"),
        ("mobilenet-v2-1.0x", "MobileNetV2", "keras.applications.mobilenet_v2", "Conv1"),
    ],
)
def test_keras_applications(name, reference, layout, first):
    theirs = getattr(keras.applications, reference)(weights=None, classifier_activation=None)
    spec = registry.architecture(name)
    weights = {k: v for k, v in randomise(theirs, seed=len(name)).items() if not k.startswith("normalization")}
    ours = graph.build(spec, values=from_layout(spec, layout, weights), include_preprocessing=False)
    # Behind their in-graph normalisation, which has statistics of its own.
    entry = theirs.get_layer(first)
    bare = keras.Model(entry.input, theirs.output)
    x = pixels(spec.input[0], count=1)
    assert difference(keras.ops.convert_to_numpy(ours(x)), keras.ops.convert_to_numpy(bare(x))) < TOLERANCE


def test_a_wrong_padding_is_seen():
    """The parity tests can fail: symmetric padding under the same weights is far off at an even size."""
    from regenerate import values

    spec = registry.architecture("mobilenet-v2-0.35x")
    other = registry.architecture("mobilenet-v2-0.35x", "timm")
    drawn = values(spec)
    assert tensors(spec) == tensors(other)
    x = pixels(96)
    a, b = (graph.build(s, values=drawn, include_preprocessing=False)(x) for s in (spec, other))
    assert difference(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)) > 100 * TOLERANCE
