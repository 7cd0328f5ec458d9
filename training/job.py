"""What is trained: a network made, frozen and taught as a recipe says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

import zoo
from scaling_rules.errors import ZooError
from scaling_rules.lower import Add, lower, stage_of
from scaling_rules.ties import branch_ends
from training.recipe import Recipe
from zoo.growing import PREFIX
from zoo.inspection import spec_of
from zoo.preprocessing import at_size


@dataclass(frozen=True)
class Job:
    """What a result depends on: a network trained on a data set by a recipe.

    pretrained: as of `zoo.load`. few, fold: as of `datasets.open_source`. seed: of weights, dropout, order and
    augmentation.
    """

    model: str
    dataset: str
    recipe: Recipe
    pretrained: bool | str = False
    seed: int = 0
    few: int | None = None
    fold: str | None = None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def build(job: Job, classes: int, replicas: int) -> tuple[keras.Model, dict[str, Any]]:
    """The network as the recipe wants it, and how to prepare pictures for it."""
    told = job.recipe
    # A network that grows, at the recipe's resolution too, need not compute what the smaller one did: it is trained.
    strict = not str(job.pretrained).startswith(PREFIX)
    record = None
    if job.pretrained and not told.evaluate:
        record = zoo.record_of(zoo.load(job.model, job.pretrained, strict=strict))
    size = told.resolution or (record["preprocessing"]["crop"] if record else zoo.spec(job.model).input[0])
    keras.config.set_dtype_policy(told.precision)
    try:
        model = zoo.load(
            job.model,
            job.pretrained,
            num_classes=classes,
            input_shape=size,
            dropout=told.dropout,
            drop_path=told.drop_path,
            strict=strict,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    if told.zero_gamma and not job.pretrained:
        _zero_gamma(model)
    if job.pretrained:
        # Drawn as the network's own is, a new classifier of few classes begins with a loss far above that of a guess,
        # and its gradients spoil what was learned. BiT's release begins with zeros, too.
        # What else is new, as in a network grown from a smaller one's weights, stays as it was drawn.
        for path in zoo.report(model).new:
            if path.startswith("head.classifier."):
                zoo.variables(model)[path].assign(0 * zoo.variables(model)[path])
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            # On JAX a batch is one array, and its batch norms are over all of it anyhow.
            several = replicas > 1 and keras.backend.backend() == "tensorflow"
            layer.synchronized = told.sync_batch_norm and several
    return model, evaluation_of(told, record, size)


def evaluation_of(told: Recipe, record: dict[str, Any] | None, size: int) -> dict[str, Any]:
    """How pictures are prepared for measuring at `size` pixels; record: that of the weights one starts from."""
    stated = dataclasses.asdict(told.evaluate) if told.evaluate else record["preprocessing"] if record else None
    if stated:  # with another `resolution`, as much of the picture is seen as before
        return at_size(stated, (size, size))
    return {"resize": round(size / 0.875), "crop": size, "interpolation": told.interpolation}


def _zero_gamma(model: keras.Model) -> None:
    """Set the last batch norms of each residual branch to 0 (Goyal et al. 2017, arXiv 1706.02677, section 5.1)."""
    ops = {op.path: op for op in lower(spec_of(model))}
    variables = zoo.variables(model)
    for op in ops.values():
        if isinstance(op, Add):
            for path in branch_ends(op, ops):
                variables[f"{path}.norm.gamma"].assign(0 * variables[f"{path}.norm.gamma"])


def set_trainable(model: keras.Model, told: Recipe, head_only: bool) -> None:
    """Let train what the recipe says (`freeze`, `bn`), or the classifier alone."""
    for layer in model._flatten_layers():
        if not layer.variables or isinstance(layer, keras.Model):
            continue
        learns = layer.name.startswith("head.classifier") if head_only else stage_of(layer.name) not in told.freeze
        still = isinstance(layer, layers.BatchNormalization) and told.bn == "frozen"
        layer.trainable = learns and not still


def teacher_of(job: Job, model: keras.Model) -> keras.Model:
    """The network that the recipe's `distill` names. Raises ZooError where it has other classes than `model`."""
    assert job.recipe.distill
    teacher = zoo.load(job.recipe.distill.teacher, True, input_shape=model.input_shape[1])
    ours, theirs = model.output_shape[-1], teacher.output_shape[-1]
    if ours != theirs:
        raise ZooError(f"distill.teacher {job.recipe.distill.teacher} has {theirs} classes, {job.dataset} has {ours}.")
    teacher.trainable = False
    return teacher


def loss_of(told: Recipe) -> Callable[[Any, Any], Any]:
    """Mean cross-entropy over a batch in nats; with a teacher, Hinton et al.'s (2015, arXiv 1503.02531, section 2)."""
    ops = keras.ops

    def plain(labels: Any, logits: Any) -> Any:
        return ops.mean(ops.categorical_crossentropy(labels, ops.cast(logits, "float32"), from_logits=True))

    def taught(both: tuple[Any, Any], logits: Any) -> Any:
        assert told.distill
        weight, warm = told.distill.weight, told.distill.temperature
        labels, teachers = both
        soft = ops.softmax(ops.cast(teachers, "float32") / warm)
        # Times the square of the temperature, so that the gradients of both parts stay of one size.
        return (1 - weight) * plain(labels, logits) + weight * warm**2 * plain(soft, logits / warm)

    return taught if told.distill else plain
