"""Built models: what goes in and out, what is trained, and that a saved file needs nothing of ours."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from regenerate import pixels, values

import zoo
from scaling_rules.shapes import tensors
from scaling_rules.spec import Block, Head, Stem
from zoo import graph, registry

SMALL = (
    # one of each block kind, shortcut, head and dialect
    "efficientnet-b0",
    "efficientnet-lite0",
    "ghostnet-0.5x",
    "ghostnet-enlarged-600m",
    "resnet-18",
    "resnet-20",
    "resnet-50",
    "mobilenet-v1-0.25x",
    "mobilenet-v2-0.35x",
    "vgg-19-cifar",
    "resnet-20-pool-7-1-2",
    "resnet-18-pool-4-1-1-3",
    "resnet-50-pool-8-3-3-2",
    "mobilenet-v2-bcnet-50m",
    "channel-bench-mobilenet-1234123",
    "channel-bench-resnet-1234123",
)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def side(name):
    """A picture side that is quick for the network and not a multiple of its stride."""
    return 33 if registry.architecture(name).input[0] == 32 else 65


def picture(name, count=2):
    return np.random.default_rng(7).integers(0, 256, (count, side(name), side(name), 3), np.uint8)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    import tensorflow as tf

    # Random inner widths too: no weight may be cut off from the loss.
    model = zoo.build(name, num_classes=5)
    x = tf.constant(picture(name, 4), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(
                np.array([0, 1, 2, 3]), model(x, training=True), from_logits=True
            )
        )
    gradients = tape.gradient(loss, [v.value for v in model.trainable_weights])
    for variable, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient.numpy()).all(), variable.path
        assert np.abs(gradient.numpy()).max() > 0, variable.path


@pytest.mark.parametrize("names", [SMALL[::2], SMALL[1::2]], ids=["even", "odd"])
def test_saved_files_open_in_plain_keras_after_a_training_step(names, tmp_path):
    """Another process that cannot import zoo reloads .keras and .weights.h5 and answers the same."""
    for name in names:
        model = zoo.build(name, num_classes=5)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        x = picture(name)
        model.train_on_batch(x, np.array([1, 3]))
        folder = tmp_path / name
        folder.mkdir()
        model.save(folder / "m.keras")
        model.save_weights(folder / "m.weights.h5")
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", numpy(model(x)))
        (folder / "m.json").write_text(model.to_json())
    script = """
        import os, sys
        class Absent:
            def find_spec(self, name, *rest):
                if name.split(".")[0] in ("zoo", "scaling_rules", "weights", "training"):
                    raise ImportError(name)
        sys.meta_path.insert(0, Absent())
        import keras, numpy as np
        for name in sorted(os.listdir()):
            x, y = np.load(f"{name}/x.npy"), np.load(f"{name}/y.npy")
            model = keras.models.load_model(f"{name}/m.keras")
            assert np.array_equal(keras.ops.convert_to_numpy(model(x)), y), (name, ".keras")
            assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
            other = keras.models.model_from_json(open(f"{name}/m.json").read())
            other.load_weights(f"{name}/m.weights.h5")
            assert np.array_equal(keras.ops.convert_to_numpy(other(x)), y), (name, ".weights.h5")
            print(name)
        """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split() == sorted(names), done.stderr


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", SMALL)
def test_half_precision_gives_finite_float32_logits(name, policy):
    """Fresh weights, as nothing has yet kept their activations in float16's range; in training mode as well."""
    full = zoo.build(name)
    drawn = {path: numpy(variable) for path, variable in zoo.variables(full).items()}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = graph.build(registry.architecture(name), values=drawn)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("stem.conv").compute_dtype == policy.removeprefix("mixed_")
    assert model.get_layer("normalize").compute_dtype == "float32"
    x = picture(name)
    y, exact = model(x), numpy(full(x))
    assert y.dtype == "float32"
    assert np.abs(numpy(y) - exact).max() < 0.25 * np.abs(exact).max()
    assert np.isfinite(numpy(model(x, training=True))).all()


def test_half_precision_features_are_float32_too():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.build("resnet-20", num_classes=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert model(picture("resnet-20")).dtype == "float32"


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-lite0"])
def test_pixels_are_normalised_in_the_graph(name):
    spec = registry.architecture(name)
    drawn = values(spec)
    whole, bare = graph.build(spec, values=drawn), graph.build(spec, values=drawn, include_preprocessing=False)
    x = picture(name)
    normalised = (x - np.array(spec.mean)) / np.array(spec.std)
    expected = numpy(bare(normalised.astype(np.float32)))
    for pixels_ in (x, x.astype(np.float32), x.astype(np.float64), x.astype(np.int32)):
        np.testing.assert_allclose(numpy(whole(pixels_)), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(whole.predict(x, verbose=0), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1"])
def test_the_graph_is_the_same_with_and_without_weights(name):
    plain, loaded = zoo.load(name), zoo.load(name, pretrained=True)
    built = zoo.build(zoo.spec(name, "pypi_in1k"))
    configs = [model.get_config() for model in (plain, loaded, built)]
    for config in configs:
        stem = next(layer for layer in config["layers"] if layer["config"]["name"] == "stem.conv")
        del stem["config"]["bias_initializer"]  # where the record lies, or none
    assert configs[0] == configs[1] == configs[2]


def test_drop_rates_grow_over_all_blocks():
    """0.2 * i / N for block i of N, where there is a sum; golden for B0, and B5 by the same formula."""

    def rates(name, **options):
        model = zoo.build(name, **options)
        return {x.name: x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)}

    b0 = rates("efficientnet-b0")
    expected = {
        "stage2.block2": 0.025, "stage3.block2": 0.05, "stage4.block2": 0.075, "stage4.block3": 0.0875,
        "stage5.block2": 0.1125, "stage5.block3": 0.125, "stage6.block2": 0.15, "stage6.block3": 0.1625,
        "stage6.block4": 0.175,
    }  # fmt: skip
    assert b0.pop("head.dropout") == 0.2
    assert {path.removesuffix(".sum.drop_path"): pytest.approx(rate) for path, rate in b0.items()} == expected
    b5 = rates("efficientnet-b5")
    assert b5.pop("head.dropout") == 0.4
    blocks = [len(stage) for stage in registry.architecture("efficientnet-b5").stages]
    assert sum(blocks) == 39
    for path, rate in b5.items():
        stage, block = (int(part.removeprefix("stage").removeprefix("block")) for part in path.split(".")[:2])
        assert rate == pytest.approx(0.2 * (sum(blocks[: stage - 1]) + block - 1) / 39)
    assert rates("efficientnet-b0", drop_path=0.0, dropout=0.0) == {}
    assert rates("ghostnet-0.5x", drop_path=0.4, dropout=0.3)["stage6.block5.sum.drop_path"] == pytest.approx(
        0.4 * 15 / 16
    )


def test_drop_path_drops_whole_pictures():
    model = zoo.build("resnet-20", drop_path=0.9)
    layer = model.get_layer("stage3.block3.sum.drop_path")
    out = numpy(layer(np.ones((64, 4, 4, 3), np.float32), training=True)).reshape(64, -1)
    assert set(np.round(np.unique(out), 3)) <= {0.0, np.round(np.float32(1 / (1 - layer.rate)), 3)}
    assert (out == out[:, :1]).all()
    assert 0 < (out[:, 0] > 0).sum() < 64


@pytest.mark.parametrize("name", ["resnet-50", "ghostnet-1.0x", "mobilenet-v1-0.25x"])
def test_features_are_the_maps_at_each_stride(name):
    model = zoo.build(name)
    maps = zoo.features(model)(np.zeros((1, 64, 96, 3), np.uint8))
    assert {key: value.shape[1:3] for key, value in maps.items()} == {
        f"stride{s}": (64 // s, 96 // s) for s in (2, 4, 8, 16, 32)
    }
    assert list(zoo.features(model, [8]).output) == ["stride8"]
    with pytest.raises(zoo.ZooError, match="unknown stride 64; valid: 2, 4, 8, 16, 32"):
        zoo.features(model, [64])


def test_features_and_paths_survive_a_reload(tmp_path):
    model = zoo.build("ghostnet-0.5x", num_classes=3)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert list(zoo.variables(again)) == list(zoo.variables(model))
    x = picture("ghostnet-0.5x")
    np.testing.assert_array_equal(numpy(zoo.features(again)(x)["stride16"]), numpy(zoo.features(model)(x)["stride16"]))


def test_a_model_around_one_of_ours_is_understood():
    inner = zoo.build("mobilenet-v1-0.25x", num_classes=0)
    outer = keras.Sequential([inner, keras.layers.Dense(3)])
    assert list(zoo.variables(outer)) == list(tensors(zoo.spec("mobilenet-v1-0.25x")))[:-2]
    foreign = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(zoo.ZooError, match="was not built by zoo"):
        zoo.variables(foreign)


def test_ghost_modules_of_an_odd_width_are_cut():
    """ceil(n / 2) primary maps, as many cheap ones, and the last of them dropped (GhostNet's released code)."""
    spec = registry.architecture("ghostnet-0.5x")
    block = Block("ghost", 13, (21,), kernel=3, stride=2, shortcut="separable", squeeze=4)
    spec = type(spec)("odd", "test", (16, 16, 3), 2, spec.dialect, Stem(5), ((block,),), Head())
    drawn = values(spec)
    model = graph.build(spec, values=drawn, include_preprocessing=False)
    module = keras.Model(model.input, [model.get_layer("stage1.block1.expand").output, model.output])
    assert module(pixels(16))[0].shape[-1] == 22  # before the cut; the depthwise after it has 21
    assert tensors(spec)["stage1.block1.depthwise.conv.kernel"].shape == (3, 3, 21, 1)


def test_padded_shortcuts_add_zeros_after_the_old_channels():
    model = zoo.build("resnet-20")
    layers = {layer.name: layer for layer in model.layers}
    cut = keras.Model(
        model.input,
        [
            layers["stage1.block3.sum.act"].output,
            layers["stage2.block1.conv2.norm"].output,
            layers["stage2.block1.sum"].output,
        ],
    )
    before, branch, total = (numpy(y) for y in cut(picture("resnet-20")))
    np.testing.assert_allclose(total[..., :16], branch[..., :16] + before[:, ::2, ::2], atol=1e-5)
    np.testing.assert_array_equal(total[..., 16:], branch[..., 16:])


def test_jax_gives_the_same_logits(tmp_path):
    """No operation of the graph is TensorFlow's: the same weights on the other backend, in another process."""
    spec = registry.architecture("ghostnet-0.5x")
    model = graph.build(spec, values=values(spec))
    zoo.save(model, tmp_path / "w.safetensors")
    x = picture("ghostnet-0.5x")
    np.save(tmp_path / "x.npy", x)
    script = """
        import numpy as np, zoo, keras
        assert keras.backend.backend() == "jax"
        model = zoo.load("ghostnet-0.5x", pretrained="./w.safetensors")
        np.save("y.npy", keras.ops.convert_to_numpy(model(np.load("x.npy"))))
        """
    import os

    subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        check=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    )
    expected = numpy(model(x))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-4 * np.abs(expected).max())
