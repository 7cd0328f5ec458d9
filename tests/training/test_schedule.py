"""What depends on the step, against the sources' formulas written out here, and the numbers every recipe gives."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from scaling_rules.errors import ZooError
from training import recipe
from training.recipe import LearningRate
from training.schedule import ema_decay, learning_rate

IMAGENET = 1281167


def exponential(step, per_epoch, batch):
    """tensorflow/tpu models/official/efficientnet utils.py build_learning_rate, main.py's flags."""
    peak = 0.016 * batch / 256
    if step < 5 * per_epoch:
        return peak * step / (5 * per_epoch)
    return peak * 0.97 ** math.floor(step / (2.4 * per_epoch))


def stepwise(table):
    def rate(step, per_epoch, batch):
        """tensorflow/tpu models/official/resnet resnet_main.py learning_rate_schedule: (multiplier, first epoch)."""
        epoch, peak = step / per_epoch, 0.1 * batch / 256
        found = peak * epoch / table[0][1]
        for multiplier, first in table:
            found = peak * multiplier if epoch >= first else found
        return found

    return rate


def cosine(low, high, end, warmup, epochs):
    def rate(step, per_epoch, batch):
        """mindspore-ai/models research/cv/S-GhostNet src/utils.py get_lr, rates for the whole batch."""
        rising = warmup * per_epoch
        if step < rising:
            return low + (high - low) * step / rising
        share = (step - rising) / (epochs * per_epoch - rising)
        return end + (high - end) * (1 + math.cos(math.pi * share)) / 2

    return rate


def pycls(step, per_epoch, batch):
    """Cosine over all 100 epochs, facebookresearch/pycls core/optimizer.py.

    In the warm-up it is 0.1 to 1 times that; ours is the line from 0.1 to 1 times the peak (said in the recipe).
    """
    epoch, peak = step / per_epoch, 0.2 * batch / 128
    if epoch < 5:
        return peak * (0.1 * (1 - epoch / 5) + epoch / 5)
    return peak * 0.5 * (1 + math.cos(math.pi * epoch / 100))


def cifar(step, per_epoch, batch):
    """He et al. 2016, section 4.2: 0.1, divided by 10 at 32,000 and 48,000 of 64,000 updates."""
    return 0.1 if step < 32000 else 0.01 if step < 48000 else 0.001


def our_cosine(peak_per_image, warmup, epochs):
    return lambda step, per_epoch, batch: cosine(0, peak_per_image * batch, 0, warmup, epochs)(step, per_epoch, batch)


# recipe: rate, pictures of the training set, epochs, epochs of warm-up, top of the average's decay (ramped or not)
SOURCES = {
    "efficientnet": (exponential, IMAGENET, 350, 5, (0.9999, True)),
    "efficientnet-lite": (exponential, IMAGENET, 350, 5, (0.9999, True)),
    "ghostnet": (cosine(0.1, 0.4, 1e-6, 20, 500), IMAGENET, 500, 20, None),
    "ghostnet-enlarged": (cosine(1e-4, 0.6, 1e-6, 20, 450), IMAGENET, 450, 20, (0.97, False)),
    "resnet-50": (stepwise([(1, 5), (0.1, 30), (0.01, 60), (0.001, 80)]), IMAGENET, 90, 5, None),
    "resnet-50-modern": (stepwise([(1, 10), (0.1, 60), (0.01, 120), (0.001, 160)]), IMAGENET, 180, 10, None),
    "no-tricks": (pycls, IMAGENET, 100, 5, None),
    "resnet-20-cifar": (cifar, 45000, 182, 0, None),
    "digits": (our_cosine(0.1 / 128, 1, 5), 1437, 5, 1, None),
    "small": (our_cosine(0.2 / 128, 2, 20), 4608, 20, 2, None),
    "transfer": (our_cosine(0.04 / 256, 2, 30), 2040, 30, 2, None),
}

# recipe: (network, stochastic depth, dropout), of the tables in the sources
DROPS = {
    "efficientnet": [("efficientnet-b0", 0.2, 0.2), ("efficientnet-b4", 0.2, 0.4), ("efficientnet-b7", 0.2, 0.5)],
    "efficientnet-lite": [("efficientnet-lite0", 0.2, 0.2), ("efficientnet-lite4", 0.2, 0.3)],
    "ghostnet": [("ghostnet-1.0x", 0.0, 0.2)],
    "ghostnet-enlarged": [("ghostnet-enlarged-4.4b", 0.1, 0.3)],
    "resnet-50": [("resnet-50", 0.0, 0.0)],
    "resnet-50-modern": [("resnet-50", 0.0, 0.0)],
    "no-tricks": [("efficientnet-b0", 0.0, 0.0), ("resnet-50", 0.0, 0.0)],
    "resnet-20-cifar": [("resnet-20", 0.0, 0.0)],
    "digits": [("resnet-20", 0.0, 0.0)],
    "small": [("efficientnet-lite0", 0.2, 0.2), ("resnet-50", 0.0, 0.0)],
    "transfer": [("efficientnet-lite0", 0.2, 0.2), ("efficientnet-b0", 0.2, 0.2)],
}


def test_every_recipe_has_its_figures_here():
    assert set(SOURCES) == set(DROPS) == set(recipe.names())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_rate_is_that_of_the_source(name):
    told = recipe.load(name)
    rate, pictures, epochs, warmup, _ = SOURCES[name]
    per_epoch = pictures / told.batch
    total = round(epochs * per_epoch)
    assert told.epochs == epochs
    schedule = learning_rate(told, per_epoch)
    risen = math.ceil(warmup * per_epoch)
    for step in {0, 1, risen // 2, max(risen - 1, 0), risen, risen + 1, total // 3, total // 2, total - 2, total - 1}:
        found, expected = float(schedule(step)), rate(step, per_epoch, told.batch)
        assert found == pytest.approx(expected, rel=2e-5, abs=1e-7), step


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("efficientnet", 0, 0.0),
        ("efficientnet", 3128, 0.128 * 0.97**2),  # the clock of the decay has run since the start
        ("efficientnet", 218949, 0.128 * 0.97**145),  # 350 / 2.4 = 145.8; the release's number of steps
        ("ghostnet", 0, 0.1),
        ("ghostnet-enlarged", 0, 0.0001),
        ("resnet-50", 6256, 0.4),  # 5 epochs of 1251.1
        ("resnet-50", 112589, 0.0004),
        ("no-tricks", 0, 0.04),
    ],
)
def test_the_rates_printed_in_the_sources(name, step, expected):
    told = recipe.load(name)
    assert float(learning_rate(told, IMAGENET / told.batch)(step)) == pytest.approx(expected, rel=1e-5)


def test_the_rate_of_the_paper_is_that_of_a_batch_of_4096():
    told = recipe.load("efficientnet", ["batch=4096", "learning_rate.schedule=constant", "learning_rate.factor=null",
                                        "learning_rate.every_epochs=null"])  # fmt: skip
    assert float(learning_rate(told, 100)(10**6)) == pytest.approx(0.256)


def test_the_release_rounds_its_warm_up_down():
    """So its rate is above ours by 1 / 3127 at most, and only in the warm-up."""
    told = recipe.load("efficientnet")
    schedule = learning_rate(told, IMAGENET / 2048)
    steps = int(5 * IMAGENET / 2048)
    assert steps == 3127
    for step in range(0, steps, 100):
        assert float(schedule(step)) == pytest.approx(0.128 * step / steps, rel=1 / 3127, abs=1e-9)


def test_pycls_multiplies_the_warm_up_by_the_cosine():
    """The difference that the recipe's note states: 0.6 % at most."""
    schedule = learning_rate(recipe.load("no-tricks"), 1000)
    theirs = [
        0.4 * 0.5 * (1 + math.cos(math.pi * s / 1e5)) * (0.1 * (1 - s / 5000) + s / 5000) for s in range(0, 5000, 50)
    ]
    ours = [float(schedule(s)) for s in range(0, 5000, 50)]
    apart = np.abs(np.divide(ours, theirs) - 1)
    assert 0.005 < apart.max() < 0.0065


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_decay_of_the_average_is_that_of_the_source(name):
    told, (_, pictures, epochs, warmup, average) = recipe.load(name), SOURCES[name]
    if average is None:
        assert told.ema is None
        return
    top, ramped = average
    per_epoch = pictures / told.batch
    for step in (0, 90, round(warmup * per_epoch), round(epochs * per_epoch / 2), round(epochs * per_epoch)):
        expected = min(top, (1 + step) / (10 + step)) if ramped else top
        assert ema_decay(step, told.ema.decay, told.ema.ramp) == pytest.approx(expected, rel=1e-12)


def test_the_ramp_is_that_of_tensorflow():
    """tf.train.ExponentialMovingAverage with num_updates, on a variable that is 0 and then 1: what is left is decay."""
    for step in (0, 5, 90, 10**6):
        variable = tf.Variable(0.0)
        average = tf.train.ExponentialMovingAverage(0.9999, num_updates=step)
        average.apply([variable])
        before = float(average.average(variable))
        variable.assign(1.0)
        average.apply([variable])
        found = 1 - (float(average.average(variable)) - before)
        assert ema_decay(step, 0.9999, True) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "network", "drop_path", "dropout"), [(name, *row) for name, rows in sorted(DROPS.items()) for row in rows]
)
def test_drop_rates_are_those_of_the_source(name, network, drop_path, dropout):
    """The recipe's, else the model's own."""
    told, spec = recipe.load(name), zoo.spec(network)
    found = spec.drop_path if told.drop_path is None else told.drop_path
    assert found == pytest.approx(drop_path)
    assert (spec.head.dropout if told.dropout is None else told.dropout) == pytest.approx(dropout)


MADE = st.builds(
    LearningRate,
    peak=st.floats(1e-4, 1),
    schedule=st.sampled_from(["constant", "cosine", "linear"]),
    per=st.sampled_from([None, 32, 256]),
    warmup_epochs=st.floats(0, 10),
    warmup_from=st.floats(0, 1e-4),
    decay_from=st.sampled_from(["start", "warmup"]),
)


@given(MADE, st.floats(0.3, 2000))
@settings(max_examples=60, deadline=None)
def test_a_rate_rises_to_its_peak_and_then_never_rises(told, per_epoch):
    plain = recipe.load("digits")
    schedule = learning_rate(dataclasses.replace(plain, learning_rate=told, epochs=10), per_epoch)
    peak = told.peak * (plain.batch / told.per if told.per else 1)
    steps = np.unique(np.linspace(0, 10 * per_epoch, 40).astype(int))
    rates = np.asarray(schedule(steps))
    assert rates.dtype == np.float32
    assert (rates >= 0).all()
    assert (rates <= peak * (1 + 1e-5)).all()
    rising = steps < told.warmup_epochs * per_epoch
    assert (np.diff(rates[rising]) >= -1e-6 * peak).all()
    assert (np.diff(rates[~rising]) <= 1e-6 * peak).all()


def test_linear_goes_to_its_end_and_stays():
    told = dataclasses.replace(
        recipe.load("digits"),
        epochs=10,
        learning_rate=LearningRate(1.0, "linear", warmup_epochs=2, warmup_from=0.5, final=0.2),
    )
    found = [float(learning_rate(told, 10)(step)) for step in (0, 10, 20, 60, 100, 1000)]
    assert found == pytest.approx([0.5, 0.75, 1.0, 0.6, 0.2, 0.2], rel=1e-6)


@pytest.mark.parametrize("steps", [0, -1.0, math.nan, math.inf])
def test_an_epoch_has_steps(steps):
    with pytest.raises(ZooError, match=r"steps_per_epoch must be above 0, not (0|-1\.0|nan|inf)\."):
        learning_rate(recipe.load("digits"), steps)
