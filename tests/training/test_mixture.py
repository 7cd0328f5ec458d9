"""The mixture: what a step does to scores and to one model alone, one trace, separation, a resume that is bit-equal."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from scaling_rules import compound
from scaling_rules.errors import ZooError
from scaling_rules.pooling import space
from training import mixture, optimizer, recipe
from training.mixture_trainer import MixtureTrainer
from training.schedule import learning_rate
from zoo import registry

RECIPE = recipe.load("small", ["batch=16", "epochs=3", "learning_rate.warmup_epochs=0", "augment.pad_crop=1"])
TWENTY = registry.architecture("resnet-20-pool-4-3-3")
SMALL = compound.scale(
    dataclasses.replace(TWENTY, input=(8, 8, 3), stages=tuple(stage[:2] for stage in TWENTY.stages)), width=0.25
)


def cross_entropy(labels, logits):
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))


def opposites(models, method="balanced", epochs=40):
    """Two groups of three configurations; what a model learns at one group makes it wrong at the other."""
    keras.utils.set_random_seed(0)
    images = tf.constant(np.random.default_rng(1).choice([-1.0, 1.0], (32, 1, 1, 1)), tf.float32)
    labels = tf.one_hot(tf.cast(images[:, 0, 0, 0] > 0, tf.int32), 2)
    inputs = keras.Input((1, 1, 1))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(keras.layers.Flatten()(inputs)))

    def logits(images, number):
        sign = tf.where(number < 3, 1.0, -1.0)
        return sign * images[:, 0, 0] @ tf.convert_to_tensor(model.trainable_variables[0].value)

    net = SimpleNamespace(model=model, space=SimpleNamespace(lengths=tuple(range(6))), logits=logits)
    made = MixtureTrainer(
        net,
        models,
        keras.optimizers.SGD(0.5),
        cross_entropy,
        lambda step: iter([(images, labels)] * 1000),
        seed=2,
        epochs=epochs,
        method=method,
        last_temperature=50.0,
    )
    for epoch in range(epochs):
        made.start(epoch)
        made.run(20 * (epoch + 1))
    held = [(images, labels)]
    return made, made.scores(np.ones((6, models), bool), held)


def test_two_groups_that_need_different_models_are_separated():
    made, scores = opposites(2)
    likely = made.probabilities()
    home = likely.argmax(1)
    assert (home[:3] == home[0]).all()
    assert (home[3:] == 1 - home[0]).all()
    assert likely.max(1).min() > 0.95
    assert scores[np.arange(6), home].tolist() == [100.0] * 6
    assert scores[np.arange(6), 1 - home].tolist() == [0.0] * 6
    _, alone = opposites(1)
    assert alone.sum() == 300.0  # either group or the other


def test_without_balance_a_model_may_have_more():
    made, _ = opposites(2, "unbalanced", epochs=3)
    assert made.bias.numpy().tolist() == [0.0, 0.0]
    made, _ = opposites(2, "uniform", epochs=3)
    np.testing.assert_allclose(made.probabilities(), 0.5)
    made, _ = opposites(3, epochs=3)
    np.testing.assert_allclose(made.history.numpy().mean(1), 1 / 3, atol=1e-4)


def trainer(models=3, score_decay=0.9):
    """Six blocks of a ResNet-20, of width 4, on random pictures, the second half of each batch to score by."""
    keras.utils.set_random_seed(1)
    net = mixture.PoolingNet(space(SMALL), 3)
    mixture.set_trainable(net.model, dataclasses.replace(RECIPE, bn="frozen"), head_only=False)
    rng = np.random.default_rng(2)
    images = tf.constant(rng.uniform(0, 255, (16, 8, 8, 3)), tf.float32)
    labels = tf.one_hot(rng.integers(0, 3, 16), 3)
    made = optimizer.make(RECIPE, learning_rate(RECIPE, 10))
    batches = [(images, labels)] * 50
    return MixtureTrainer(
        net, models, made, cross_entropy, lambda step: iter(batches), seed=5, epochs=2, score_decay=score_decay
    )


def test_a_step_trains_one_model_and_moves_one_score():
    """The model that was drawn, from its own weights and momentum, by the configuration that was drawn; one trace."""
    made = trainer()
    made.start(0)
    traced = tf.function(made._train_step, autograph=False)
    made._step = lambda images, labels, *numbers: traced(images, labels, *map(tf.constant, numbers))
    own = len(made.model.trainable_variables)
    seen = set()
    for step in range(12):
        configuration, model = (int(each) for each in made.drawn(tf.constant(step, tf.int64)))
        seen.add((configuration, model))
        before = [variable.numpy() for variable in made.copies]
        table = made.table.numpy()
        # What the step should do: Nesterov momentum with l2 on kernels, at the rate of the step.
        images, labels = next(made.stream(step))
        made._taken(tf.constant(model))
        values = [variable.value for variable in made.model.trainable_variables]
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels[:8], made.net.logits(images[:8], tf.constant(configuration)))
        gradients = tape.gradient(loss, values)
        rate = made.learning_rate
        made.run(step + 1)
        for index, gradient in enumerate(gradients):
            weight, slot = before[index][model], before[own + index][model]
            decay = 0.0 if weight.ndim == 1 else RECIPE.optimizer.weight_decay
            gradient = gradient + decay * weight
            momentum = 0.9 * slot + gradient
            np.testing.assert_allclose(made.copies[own + index].numpy()[model], momentum, rtol=1e-3, atol=1e-6)
            wanted = weight - rate * (gradient + 0.9 * momentum)
            np.testing.assert_allclose(made.copies[index].numpy()[model], wanted, rtol=1e-3, atol=1e-6)
        for old, variable in zip(before, made.copies, strict=True):
            others = np.arange(3) != model
            np.testing.assert_array_equal(variable.numpy()[others], old[others])
        made._taken(tf.constant(model))
        right = float(made._counted(tf.constant(configuration), images[8:], labels[8:])) / 8
        table[configuration, model] = 0.9 * table[configuration, model] + 0.1 * right
        np.testing.assert_allclose(made.table.numpy(), table, rtol=1e-6)
    assert len({configuration for configuration, _ in seen}) > 5
    assert {model for _, model in seen} == {0, 1, 2}
    assert traced.experimental_get_tracing_count() == 1


def test_models_start_apart_and_batch_norms_stay():
    made = trainer()
    kernels = made.copies[0].numpy()
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    fan_out = np.prod(kernels.shape[1:3]) * kernels.shape[-1]
    assert kernels.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.2)
    again = trainer()
    np.testing.assert_array_equal(kernels, again.copies[0].numpy())
    assert not any("norm" in variable.path for variable in made.model.trainable_variables)


def settings(digits, **options):
    told = dataclasses.replace(RECIPE, resolution=8)
    return mixture.Settings(str(digits), told, **({"models": 2, "few": 8, "temperature": 20.0} | options))


class Killed(Exception):
    """Instead of a signal."""


def test_a_resumed_search_is_the_same(digits, tmp_path, monkeypatch):
    told, found = settings(digits), space(SMALL)
    whole = mixture.search(found, told, tmp_path / "whole")
    assert whole.history.shape == (3, 15, 2)
    np.testing.assert_allclose(whole.history.sum(2), 1, atol=1e-5)
    assert np.isfinite(whole.top1).all()
    start = MixtureTrainer.start

    def stops(self, epoch):
        if epoch == 2:
            raise Killed
        start(self, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(MixtureTrainer, "start", stops)
        with pytest.raises(Killed):
            mixture.search(found, told, tmp_path / "part")
    again = mixture.search(found, told, tmp_path / "part")
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(whole, field.name))
    other = mixture.search(found, settings(digits, rule="likely"), tmp_path / "part")
    np.testing.assert_array_equal(other.scores("likely"), whole.scores("likely"))
    assert np.isnan(other.top1).sum() == 15
    with pytest.raises(ZooError, match=r"holds a run whose models is 2, not 3; remove the folder"):
        mixture.search(found, settings(digits, models=3), tmp_path / "part")
    cheaper = space(SMALL, budget=min(found.macs))
    with pytest.raises(ZooError, match=r"whose space.configurations is 15, not 1;"):
        mixture.search(cheaper, told, tmp_path / "part")


def test_halves_smaller_than_a_batch(digits, tmp_path):
    with pytest.raises(ZooError, match=r"half of the training pictures of .* are 10, fewer than a batch of 16"):
        mixture.search(space(SMALL), settings(digits, few=2), tmp_path)


def test_rules_of_the_end():
    nan = np.nan
    found = mixture.Mixture(
        running=np.array([[0.5, 0.9], [0.2, 0.3], [0.6, 0.6]]),
        probabilities=np.array([[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]]),
        history=np.zeros((1, 3, 2)),
        top1=np.array([[40.0, 60.0], [50.0, 30.0], [nan, nan]]),
    )
    np.testing.assert_array_equal(found.scores("best"), [60, 50, nan])
    np.testing.assert_array_equal(found.scores("likely"), [40, 30, nan])
    one = mixture.Settings("x", RECIPE, candidates=2)
    wanted = mixture._wanted(one, found.running, found.probabilities)
    assert wanted.tolist() == [[True, True], [False, False], [True, True]]
    wanted = mixture._wanted(dataclasses.replace(one, rule="likely"), found.running, found.probabilities)
    assert wanted.tolist() == [[True, False], [False, False], [True, False]]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"models": 0}, "at least 1 model, not 0"),
        ({"method": "even"}, "unknown method 'even'; valid: balanced, unbalanced, uniform"),
        ({"temperature": 0.5}, "the last temperature must be at least 1, the first one's, not 0.5"),
        ({"score_decay": 1.0}, r"the decay of scores must lie in \[0, 1\), not 1.0"),
        ({"rule": "first"}, "unknown rule 'first'; valid: best, likely"),
        ({"candidates": -1}, "candidates must be a number of configurations, or 0 for all, not -1"),
        ({"recipe": recipe.load("efficientnet")}, "a recipe without ema"),
        ({"recipe": dataclasses.replace(RECIPE, epochs=1.5)}, "a mixture trains whole epochs, at least 1, not 1.5"),
    ],
)
def test_bad_settings(options, why):
    with pytest.raises(ZooError, match=why):
        mixture.Settings(**({"dataset": "x", "recipe": RECIPE} | options))
