"""How a network is trained, as data: a YAML file with its sources, checked and frozen.

Files lie in training/recipes; a user's own may lie anywhere. What a file leaves out is off, or the model's own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError, shown, unknown
from training import strict_yaml

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Optimizer:
    """name: 'rmsprop' (as TensorFlow 1 computed it), 'sgd' or 'adamw'. momentum: of adamw, beta 1.

    rho: decay of the mean square (of adamw, beta 2). epsilon: inside rmsprop's root, outside adamw's.
    weight_decay: by `decay`, either 'l2', weight_decay * sum(w ** 2) / 2 in the loss (weight_decay * w in the
    gradient), or 'decoupled', rate * weight_decay * w taken off the weight. It covers kernels; decay_norms and
    decay_biases say whether batch norm's gamma and beta, and biases, decay too. clip_norm: of the global gradient.
    """

    name: str
    momentum: float = 0.9
    nesterov: bool = False
    rho: float | None = None
    epsilon: float | None = None
    weight_decay: float = 0.0
    decay: str = "l2"
    decay_norms: bool = False
    decay_biases: bool = False
    clip_norm: float | None = None


@dataclass(frozen=True)
class LearningRate:
    """peak, warmup_from, final: for `per` images of batch, so scaled by batch / per; as they are where per is null.

    warmup_epochs: linear, step by step, from warmup_from to peak. schedule: 'constant'; 'cosine' or 'linear' to
    `final` at the last epoch; 'exponential', times `factor` at each whole every_epochs; 'steps', times `factor` at
    each of the milestones (epochs). decay_from: where the schedule's clock starts, at the 'start' of the training or
    at the end of the 'warmup'; milestones count from the start always.
    """

    peak: float
    schedule: str
    per: int | None = None
    warmup_epochs: float = 0.0
    warmup_from: float = 0.0
    decay_from: str = "warmup"
    final: float = 0.0
    factor: float | None = None
    every_epochs: float | None = None
    milestones: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ema:
    """Average of weights and moving statistics. ramp: by min(decay, (1 + step) / (10 + step))."""

    decay: float
    ramp: bool = False


@dataclass(frozen=True)
class RandAugment:
    """layers: operations a picture. magnitude: in the units of the release of EfficientNet, 10 being its default."""

    layers: int
    magnitude: float


@dataclass(frozen=True)
class Augment:
    """crop_area, aspect: random-resized crop, share of the picture's area and width over height. pad_crop: pixels of
    padding on each side, then a crop of the old size. flip: left to right. jitter: brightness, contrast, saturation by
    factors in [1 - jitter, 1 + jitter]. auto_augment: a policy's name. layer: of Keras or KerasCV, by its full name
    ('keras_cv.layers.GridMask'). layer_arguments: what it is made with, plain values. erase: share of pictures that
    lose a rectangle. mixup, cutmix: alpha of the beta distribution, 0 for none.
    """

    crop_area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (0.75, 4 / 3)
    pad_crop: int = 0
    flip: bool = False
    jitter: float = 0.0
    auto_augment: str | None = None
    rand_augment: RandAugment | None = None
    layer: str | None = None
    layer_arguments: dict[str, Any] | None = None
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True)
class Evaluate:
    """Pixels of the short side, pixels of the centre crop, filter: what `zoo.preprocessing.geometry` reads."""

    resize: int
    crop: int
    interpolation: str


@dataclass(frozen=True)
class Distill:
    """teacher: a name of the zoo. weight: of its loss, the labels' has the rest."""

    teacher: str
    temperature: float
    weight: float


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. source: where its numbers come from. note: what they leave open, and what is claimed for them.

    batch: images an update, over all devices and, with `accumulate` > 1, over that many parts. dropout, drop_path,
    resolution (pixels), evaluate: null for the model's own. interpolation, antialias: of the training pictures; PIL and
    torchvision antialias, TensorFlow does not by default, and is quicker. zero_gamma: the last batch norm of each
    residual block starts at 0.
    For fine-tuning, bn: batch norms 'train', are 'frozen', or their statistics are estimated anew at the end
    ('recalibrate'). freeze: parts that do not train ('stem', 'stage1'). layer_rates: each part below the head learns
    at this share of the rate of the part above it. head_first_epochs: epochs with the classifier alone, before the
    others.
    """

    source: str
    optimizer: Optimizer
    batch: int
    epochs: int
    learning_rate: LearningRate
    accumulate: int = 1
    label_smoothing: float = 0.0
    dropout: float | None = None
    drop_path: float | None = None
    ema: Ema | None = None
    sync_batch_norm: bool = False
    precision: str = "float32"
    zero_gamma: bool = False
    resolution: int | None = None
    interpolation: str = "bicubic"
    antialias: bool = True
    augment: Augment = Augment()
    evaluate: Evaluate | None = None
    bn: str = "train"
    freeze: tuple[str, ...] = ()
    layer_rates: float = 1.0
    head_first_epochs: int = 0
    distill: Distill | None = None
    note: str = ""


def names() -> list[str]:
    """The recipes that come with the package, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name (`names`) or the path of a .yaml file, with 'optimizer.weight_decay=1e-5' and the like.

    The value of an override is YAML: a number, true, null, [1, 2], {decay: 0.999, ramp: true}.
    Raises ZooError, one line naming the key, for a recipe or a key that does not exist, a value of the wrong type or
    out of range, what fits together badly, and text that is no YAML.
    """
    if str(name_or_path) in names():
        path, where = FOLDER / f"{name_or_path}.yaml", f"recipe {name_or_path}"
    elif Path(name_or_path).suffix in (".yaml", ".yml"):
        path, where = Path(name_or_path), f"recipe {shown(name_or_path)}"
    else:
        raise unknown("recipe", str(name_or_path), names())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, a null in the path
        raise ZooError(f"{where}: {getattr(error, 'strerror', None) or error}.") from None
    data = strict_yaml.read(text, where)
    if not isinstance(data, dict):
        raise ZooError(f"{where}: {'it is empty' if data is None else 'it must hold keys and values'}.")
    for override in overrides:
        _override(data, override)
    _validate(data, where)
    try:
        recipe = _make(Recipe, data)
    except OverflowError as error:
        raise ZooError(f"{where}: {error}.") from None
    for problem in _misfits(recipe):
        raise ZooError(f"{where}: {problem}.")
    return recipe


def dump(recipe: Recipe) -> str:
    """The recipe as YAML that states every key, and from which `load` makes an equal one."""
    return strict_yaml.write(dataclasses.asdict(recipe))


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise ZooError(f"an override is key=value, as in optimizer.weight_decay=1e-5, not {shown(override)!r}.")
    *groups, last = key.strip().split(".")
    for group in groups:
        if data.get(group) is None:
            data[group] = {}
        data = data[group]
        if not isinstance(data, dict):
            raise ZooError(f"override {shown(override)!r}: {group} has no keys of its own.")
    data[last] = strict_yaml.read(value, f"override {shown(override)!r}")


@functools.cache
def _validator() -> Any:
    import jsonschema

    text = (Path(__file__).parent / "recipe_schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _validate(data: dict[str, Any], where: str) -> None:
    error = next(_validator().iter_errors(data), None)
    if error is None:
        return
    key = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        valid = error.schema["properties"]
        extra = next(name for name in error.instance if name not in valid)
        raise ZooError(f"{where}: {unknown(f'key of {key}' if key else 'key', extra, valid)}")
    if error.validator == "enum":
        valid = ["null" if choice is None else choice for choice in error.validator_value]
        raise ZooError(f"{where}: {unknown(key, error.instance, valid)}")
    raise ZooError(f"{where}: {f'{key}: ' if key else ''}{shown(error.message, 300)}.")


def _make(hint: Any, value: Any) -> Any:
    """Checked plain data as what the dataclasses say it is."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _make(hints[name], given) for name, given in value.items()})
    if isinstance(hint, types.UnionType):  # 'X | None'
        return None if value is None else _make(typing.get_args(hint)[0], value)
    if typing.get_origin(hint) is tuple:
        return tuple(_make(typing.get_args(hint)[0], item) for item in value)
    return value if typing.get_origin(hint) is dict else hint(value)


def _misfits(recipe: Recipe) -> Iterator[str]:
    """What the schema cannot say: keys that need, exclude or bound each other."""
    optimizer, rate, augment = recipe.optimizer, recipe.learning_rate, recipe.augment
    for key in ("rho", "epsilon"):
        if (getattr(optimizer, key) is None) != (optimizer.name == "sgd"):
            must = "null" if optimizer.name == "sgd" else "given"
            yield f"optimizer.{key} must be {must} for {optimizer.name}"
    if optimizer.nesterov and optimizer.name != "sgd":
        yield f"optimizer.nesterov is of sgd, not of {optimizer.name}"
    if optimizer.name == "adamw" and optimizer.decay != "decoupled":
        yield "optimizer.decay must be decoupled for adamw"
    parts = {"factor": ("exponential", "steps"), "every_epochs": ("exponential",), "milestones": ("steps",)}
    for key, schedules in parts.items():
        given = getattr(rate, key) not in (None, ())
        if given != (rate.schedule in schedules):
            neutral = "[]" if key == "milestones" else "null"
            needed = f"must be {neutral}" if given else "must be given"
            yield f"learning_rate.{key} {needed} for the schedule {rate.schedule!r}"
    if rate.final and rate.schedule not in ("cosine", "linear"):
        yield f"learning_rate.final must be 0 for the schedule {rate.schedule!r}"
    for key in ("warmup_from", "final"):
        if getattr(rate, key) > rate.peak:
            yield f"learning_rate.{key} {getattr(rate, key)} is above peak {rate.peak}"
    if rate.warmup_from and not rate.warmup_epochs:
        yield "learning_rate.warmup_from must be 0 where warmup_epochs is"
    if rate.warmup_epochs > recipe.epochs:
        yield f"learning_rate.warmup_epochs {rate.warmup_epochs} is above epochs {recipe.epochs}"
    if list(rate.milestones) != sorted(set(rate.milestones)) or (
        rate.milestones and rate.milestones[-1] > recipe.epochs
    ):
        yield f"learning_rate.milestones must grow up to epochs {recipe.epochs}, not {list(rate.milestones)}"
    if recipe.batch % recipe.accumulate:
        yield f"batch {recipe.batch} is no multiple of accumulate {recipe.accumulate}"
    for key in ("crop_area", "aspect"):
        low, high = getattr(augment, key) or (0, 0)
        if low > high:
            yield f"augment.{key} must be [low, high], not {[low, high]}"
    if augment.layer_arguments is not None and augment.layer is None:
        yield "augment.layer_arguments need augment.layer"
    for one, other in (("crop_area", "pad_crop"), ("auto_augment", "rand_augment")):
        if getattr(augment, one) and getattr(augment, other):
            yield f"augment.{one} and augment.{other} exclude each other"
    if recipe.evaluate and recipe.evaluate.crop > recipe.evaluate.resize:
        yield f"evaluate.crop {recipe.evaluate.crop} is above resize {recipe.evaluate.resize}"
    if recipe.head_first_epochs >= recipe.epochs:
        yield f"head_first_epochs {recipe.head_first_epochs} must be below epochs {recipe.epochs}"
