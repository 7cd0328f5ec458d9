"""Every recipe makes three steps with the network it is for, at 64 pixels, on data with its data set's features."""

import keras
import numpy as np
import pytest

from training import pipeline, recipe, results, run
from training.batch_norm import fused
from training.job import Job, build, set_trainable
from training.loop import _averaged
from training.schedule import ema_decay, learning_rate
from training.strategy import strategy

OWN = {
    "efficientnet": ("efficientnet-b0", "imagenet2012"),
    "efficientnet-lite": ("efficientnet-lite0", "imagenet2012"),
    "ghostnet": ("ghostnet-1.0x", "imagenet2012"),
    "ghostnet-enlarged": ("ghostnet-enlarged-600m", "imagenet2012"),
    "resnet-50": ("resnet-50", "imagenet2012"),
    "resnet-50-modern": ("resnet-50", "imagenet2012"),
    "no-tricks": ("efficientnet-b0", "imagenet2012"),
    "resnet-20-cifar": ("resnet-20", "cifar10"),
    "transfer": ("efficientnet-lite0", "oxford_flowers102"),
    "small": ("efficientnet-lite0", None),
    "digits": ("mobilenet-v2-0.35x", None),
}

SPLITS = {"imagenet2012": {"train": 1_281_167}, "cifar10": {"train": 50_000, "test": 10_000}} | {
    "oxford_flowers102": {"train": 1020, "validation": 1020, "test": 6149}
}


def test_no_recipe_is_left_out():
    assert OWN.keys() == {path.stem for path in recipe.FOLDER.glob("*.yaml")}


@pytest.fixture
def data(request, tmp_path, few_digits, pretend):
    """Where the data set is, as (name or folder, data_dir): of TFDS, random pictures with its features."""
    name = OWN[request.param][1]
    if name is None:
        return str(few_digits), None
    pretend(name, SPLITS[name], 24)
    return name, tmp_path


@pytest.mark.parametrize(("name", "data"), [(name, name) for name in OWN], indirect=["data"])
def test_three_steps(name, data):
    dataset, data_dir = data
    told = recipe.load(name, ["batch=8", "resolution=64"])
    job = Job(OWN[name][0], dataset, told, pretrained=name == "transfer")
    source = results.source_of(job, "train", data_dir)
    steps_per_epoch = source.count / 8
    keras.utils.set_random_seed(0)
    model, _ = build(job, len(source.classes), 1)
    assert model.input_shape == (None, 64, 64, 3)
    set_trainable(model, told, head_only=False)
    batches = pipeline.train_batches(source, told, 64, seed=0)
    trainer = run.trainer_of(job, model, batches, None, steps_per_epoch, strategy(), None)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}
    averages = [keras.ops.convert_to_numpy(average) for average in trainer.averages]
    own = _averaged(model) if averages else []
    losses = []
    with fused(model):
        for step in range(3):
            trainer.run(step + 1, report=lambda seen: losses.append(seen.loss))
            if averages:
                decay = ema_decay(step, told.ema.decay, told.ema.ramp)
                averages = [
                    decay * average + (1 - decay) * np.asarray(variable, np.float32)
                    for average, variable in zip(averages, own, strict=True)
                ]
    assert trainer.step == 3
    assert trainer.learning_rate == pytest.approx(float(learning_rate(told, steps_per_epoch)(3)), rel=1e-5)
    assert np.isfinite(losses).all()
    for found, expected in zip(trainer.averages, averages, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5, err_msg=found.path)
    moved = {v.path for v in model.variables if not np.array_equal(v, before[v.path])}
    # By the momentum, not the weights: the first rates of a warm-up may be less than float32 tells from a weight.
    momentum = {v.name.removesuffix("_momentum"): v for v in trainer.optimizer.variables if "_momentum" in v.name}
    reached = {v.path for v in model.trainable_variables if np.any(momentum[v.path.replace("/", "_")])}
    learns = {v.path for v in model.trainable_variables if v.path.endswith("kernel")}
    # Zero gammas, and a classifier of zeros, hold back what is before them for as long as they are zero.
    late = {path for path in learns if (told.zero_gamma and not path.startswith("head")) or "transfer" in name}
    assert learns - late <= reached
    assert any(path.startswith("head") for path in moved)
    norms = {v.path for v in model.non_trainable_variables if "moving" in v.path}
    assert (norms <= moved) == (told.bn != "frozen")
