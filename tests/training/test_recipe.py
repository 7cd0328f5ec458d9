"""Recipes as files: what is in them, what is refused and how, and that a written one is read as it was."""

import dataclasses
import string
import typing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from training import recipe
from training.recipe import Augment, Ema, LearningRate, Optimizer, RandAugment, Recipe

SMALLEST = """\
source: none
optimizer: {name: sgd}
batch: 8
epochs: 4
learning_rate: {peak: 0.1, schedule: constant}
"""

# recipe: optimizer, momentum, Nesterov, weight decay, whether norms and biases decay, by the sources in the recipes
OPTIMIZERS = {
    "efficientnet": ("rmsprop", 0.9, False, 1e-5, False, True),
    "efficientnet-lite": ("rmsprop", 0.9, False, 1e-5, False, True),
    "ghostnet": ("sgd", 0.9, False, 4e-5, False, True),
    "ghostnet-enlarged": ("sgd", 0.9, False, 2e-5, False, True),
    "resnet-50": ("sgd", 0.9, True, 1e-4, False, True),
    "resnet-50-modern": ("sgd", 0.9, True, 1e-4, False, True),
    "no-tricks": ("sgd", 0.9, True, 1e-5, True, True),
    "resnet-20-cifar": ("sgd", 0.9, False, 1e-4, True, True),
    "digits": ("sgd", 0.9, True, 1e-4, False, False),
    "small": ("sgd", 0.9, True, 1e-4, False, False),
    "transfer": ("sgd", 0.9, True, 1e-5, False, False),
}


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The one line that a recipe, a file of the folder we are in, is refused with."""
    monkeypatch.chdir(tmp_path)

    def refuse(text, overrides=()):
        Path("mine.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ZooError) as caught:
            recipe.load("mine.yaml", overrides)
        assert str(caught.value).isprintable()
        return str(caught.value).replace("mine.yaml", "mine")

    return refuse


def test_a_smallest_recipe_has_everything_else_off(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALLEST)
    assert recipe.load(path) == Recipe("none", Optimizer("sgd"), 8, 4, LearningRate(0.1, "constant"))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_are_those_of_the_sources(name):
    told = recipe.load(name).optimizer
    found = (told.name, told.momentum, told.nesterov, told.weight_decay, told.decay_norms, told.decay_biases)
    assert found == OPTIMIZERS[name]
    assert told.decay == "l2"
    assert (told.rho, told.epsilon) == ((0.9, 1e-3) if told.name == "rmsprop" else (None, None))


def test_no_recipe_is_without_its_figures():
    assert set(OPTIMIZERS) == set(recipe.names())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_recipe_states_its_source_and_which_result_it_has(name):
    told = recipe.load(name)
    assert told.source
    assert ("of our own yet" in told.note) != told.source.startswith("our own")


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_recipe_is_read_from_what_is_written_of_it(name, tmp_path):
    told = recipe.load(name)
    path = tmp_path / "again.yaml"
    path.write_text(recipe.dump(told), encoding="utf-8")
    assert recipe.load(path) == told


def test_the_schema_has_the_keys_of_the_classes():
    def compare(kind, schema):
        assert set(schema["properties"]) == {field.name for field in dataclasses.fields(kind)}
        assert schema["additionalProperties"] is False
        needed = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
        assert schema.get("required", []) == needed
        for key, hint in typing.get_type_hints(kind).items():
            for part in (hint, *typing.get_args(hint)):
                if dataclasses.is_dataclass(part):
                    compare(part, schema["properties"][key])

    compare(Recipe, recipe._validator().schema)


def test_overrides_are_yaml(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALLEST)
    told = recipe.load(
        path,
        [
            "optimizer.weight_decay=1e-5",
            "ema={decay: 0.99, ramp: true}",
            "augment.rand_augment.layers=2",
            "augment.rand_augment.magnitude=9",
            "augment.layer=keras_cv.layers.GridMask",
            "augment.layer_arguments.ratio_factor=[0, 0.5]",
            "freeze=[stem, stage1]",
            "dropout=null",
        ],
    )
    assert told.optimizer.weight_decay == 1e-5
    assert told.ema == Ema(0.99, True)
    assert told.augment == Augment(
        rand_augment=RandAugment(2, 9.0),
        layer="keras_cv.layers.GridMask",
        layer_arguments={"ratio_factor": [0, 0.5]},
    )
    assert told.freeze == ("stem", "stage1")
    assert isinstance(told.augment.rand_augment.magnitude, float)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "recipe mine: unknown key 'epoch'; valid: source, "),
        ("optimizer.weigth_decay=1", "recipe mine: unknown key of optimizer 'weigth_decay'; valid: name, "),
        ("optimizer.name=adam", "recipe mine: unknown optimizer.name 'adam'; valid: rmsprop, sgd, adamw. Did you mean"),
        ("augment.auto_augment=cifar", "recipe mine: unknown augment.auto_augment 'cifar'; valid: imagenet, null."),
        ("batch=8.5", "recipe mine: batch: 8.5 is not of type 'integer'."),
        ("batch=true", "recipe mine: batch: True is not of type 'integer'."),
        ("batch=0", "recipe mine: batch: 0 is less than the minimum of 1."),
        ("epochs=many", "recipe mine: epochs: 'many' is not of type 'integer'."),
        ("label_smoothing=1", "recipe mine: label_smoothing: 1 is greater than or equal to the maximum of 1."),
        ("learning_rate.peak=null", "recipe mine: learning_rate.peak: None is not of type 'number'."),
        ("learning_rate={schedule: constant}", "recipe mine: learning_rate: 'peak' is a required property."),
        ("augment.layer=GridMask", "recipe mine: augment.layer: 'GridMask' does not match '"),
        ("augment.layer_arguments={1: 2}", "recipe mine: augment.layer_arguments: 1 is not of type 'string'."),
        ("augment.layer_arguments={a: {b: 1}}", "recipe mine: augment.layer_arguments.a: {'b': 1} is not of type "),
        ("augment.layer_arguments={factor: 0.5}", "recipe mine: augment.layer_arguments need augment.layer."),
        ("freeze=[stage0]", "recipe mine: freeze.0: 'stage0' does not match '"),
        ("source=2020-01-01", "recipe mine: source: datetime.date(2020, 1, 1) is not of type 'string'."),
        ("optimizer.rho=0.9", "recipe mine: optimizer.rho must be null for sgd."),
        ("optimizer.name=rmsprop", "recipe mine: optimizer.rho must be given for rmsprop."),
        (
            "optimizer={name: rmsprop, rho: 0.9, epsilon: 1e-3, nesterov: true}",
            "recipe mine: optimizer.nesterov is of sgd, not of rmsprop.",
        ),
        (
            "optimizer={name: adamw, rho: 0.99, epsilon: 1e-8}",
            "recipe mine: optimizer.decay must be decoupled for adamw.",
        ),
        ("learning_rate.factor=0.1", "recipe mine: learning_rate.factor must be null for the schedule 'constant'."),
        (
            "learning_rate.milestones=[1]",
            "recipe mine: learning_rate.milestones must be [] for the schedule 'constant'.",
        ),
        (
            "learning_rate={peak: 1, schedule: exponential, factor: 0.9}",
            "recipe mine: learning_rate.every_epochs must be given for the schedule 'exponential'.",
        ),
        (
            "learning_rate={peak: 1, schedule: steps, factor: 0.1, milestones: [2, 1]}",
            "recipe mine: learning_rate.milestones must grow up to epochs 4, not [2.0, 1.0].",
        ),
        (
            "learning_rate={peak: 1, schedule: steps, factor: 0.1, milestones: [2, 5]}",
            "recipe mine: learning_rate.milestones must grow up to epochs 4, not [2.0, 5.0].",
        ),
        ("learning_rate.final=0.01", "recipe mine: learning_rate.final must be 0 for the schedule 'constant'."),
        (
            "learning_rate={peak: 1, schedule: cosine, final: 2}",
            "recipe mine: learning_rate.final 2.0 is above peak 1.0.",
        ),
        ("learning_rate.warmup_from=0.2", "recipe mine: learning_rate.warmup_from 0.2 is above peak 0.1."),
        ("learning_rate.warmup_from=0.05", "recipe mine: learning_rate.warmup_from must be 0 where warmup_epochs is."),
        ("learning_rate.warmup_epochs=5", "recipe mine: learning_rate.warmup_epochs 5.0 is above epochs 4."),
        ("accumulate=3", "recipe mine: batch 8 is no multiple of accumulate 3."),
        ("augment.crop_area=[0.5, 0.1]", "recipe mine: augment.crop_area must be [low, high], not [0.5, 0.1]."),
        (
            "augment={crop_area: [0.1, 1], pad_crop: 4}",
            "recipe mine: augment.crop_area and augment.pad_crop exclude each other.",
        ),
        (
            "evaluate={resize: 32, crop: 64, interpolation: bicubic}",
            "recipe mine: evaluate.crop 64 is above resize 32.",
        ),
        ("head_first_epochs=4", "recipe mine: head_first_epochs 4 must be below epochs 4."),
        ("epochs", "an override is key=value, as in optimizer.weight_decay=1e-5, not 'epochs'."),
        (".a=1", "an override is key=value, as in optimizer.weight_decay=1e-5, not '.a=1'."),
        ("batch.size=1", "override 'batch.size=1': batch has no keys of its own."),
        ("optimizer.momentum=.nan", "override 'optimizer.momentum=.nan', line 1: .nan is not finite."),
        ("optimizer.weight_decay=1e999", "override 'optimizer.weight_decay=1e999', line 1: 1e999 is not finite."),
        (
            "ema={decay: 0.9, decay: 0.99}",
            "override 'ema={decay: 0.9, decay: 0.99}', line 1: key 'decay' occurs twice.",
        ),
        (f"optimizer.weight_decay=1{'0' * 400}", "recipe mine: int too large to convert to float."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(refused, override, message):
    found = refused(SMALLEST, [override])
    assert found == message if message.endswith(".") else found.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe mine: it is empty."),
        ("- 1", "recipe mine: it must hold keys and values."),
        ("just a text", "recipe mine: it must hold keys and values."),
        (SMALLEST + "batch: 16\n", "recipe mine, line 6: key 'batch' occurs twice."),
        (SMALLEST.replace("sgd}", "sgd, name: sgd}"), "recipe mine, line 2: key 'name' occurs twice."),
        (SMALLEST.replace("batch: 8\n", ""), "recipe mine: 'batch' is a required property."),
        ("a: [1", "recipe mine, line 1: expected ',' or ']', but got '<stream end>'."),
        ("a: !!python/name:os.system x", "recipe mine, line 1: could not determine a constructor for the tag "),
        ("? [1]\n: 2", "recipe mine, line 1: found unhashable key."),
        ("a: &x [*x]", "recipe mine: "),
        ("[" * 5000, "recipe mine: no YAML: "),
        ("a: \x00", "recipe mine: no YAML: "),
        ("a: 2020-13-45", "recipe mine: no YAML: month must be in 1..12"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_in_one_line(refused, text, message):
    found = refused(text)
    assert found == message if message.endswith(".") else found.startswith(message)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ZooError, match=r"absent\.yaml: No such file or directory\."):
        recipe.load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"source: \xe9")
    with pytest.raises(ZooError, match=r"latin\.yaml: 'utf-8' codec can't decode"):
        recipe.load(tmp_path / "latin.yaml")
    with pytest.raises(ZooError, match=r"recipe a .yaml: embedded null byte\."):
        recipe.load("a\0.yaml")
    with pytest.raises(ZooError, match=r"unknown recipe 'efficentnet'; valid: digits, .*Did you mean efficientnet"):
        recipe.load("efficentnet")


SHARE = st.floats(0, 0.99)
NAME = st.text(string.ascii_lowercase, min_size=1, max_size=6)
RECIPES = st.builds(
    Recipe,
    source=st.text(min_size=1),
    optimizer=st.builds(
        Optimizer,
        name=st.just("rmsprop"),
        momentum=SHARE,
        rho=SHARE,
        epsilon=st.floats(1e-12, 1),
        weight_decay=st.floats(0, 1e300),
        decay=st.sampled_from(["l2", "decoupled"]),
        decay_norms=st.booleans(),
        clip_norm=st.none() | st.floats(1e-3, 10),
    ),
    batch=st.integers(1, 10**6),
    epochs=st.integers(10, 1000),
    learning_rate=st.builds(
        LearningRate,
        peak=st.floats(1e-4, 10),
        schedule=st.just("steps"),
        per=st.none() | st.integers(1, 4096),
        warmup_epochs=st.floats(0, 10),
        factor=st.floats(0.01, 0.99),
        milestones=st.lists(st.floats(0.01, 10), min_size=1, max_size=4, unique=True).map(lambda m: tuple(sorted(m))),
    ),
    dropout=st.none() | SHARE,
    ema=st.none() | st.builds(Ema, decay=SHARE, ramp=st.booleans()),
    augment=st.builds(
        Augment,
        crop_area=st.none() | st.floats(0.01, 1).map(lambda low: (low, 1.0)),
        rand_augment=st.none() | st.builds(RandAugment, layers=st.integers(1, 4), magnitude=st.floats(0, 30)),
        layer=st.just("keras.layers.GaussianNoise"),
        layer_arguments=st.none()
        | st.dictionaries(
            NAME,
            st.integers() | SHARE | st.booleans() | st.text() | st.none() | st.lists(SHARE | st.text(), max_size=3),
            max_size=3,
        ),
    ),
    freeze=st.lists(st.sampled_from(["stem", "stage1", "stage12", "head"]), unique=True, max_size=3).map(tuple),
    layer_rates=st.floats(0.01, 1),
    note=st.text(),
)


@given(RECIPES)
@settings(max_examples=150, deadline=None)
def test_a_recipe_that_is_written_is_read_equal(tmp_path_factory, told):
    path = tmp_path_factory.mktemp("recipe") / "again.yaml"
    path.write_text(recipe.dump(told), encoding="utf-8")
    assert recipe.load(path) == told
