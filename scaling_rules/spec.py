"""A network as data: every block with its real channel numbers, frozen, printable, validated.

A spec is complete: cost, tensor shapes, the Keras graph and the converters are all derived from it, by way
of the primitives of `scaling_rules.lower`. A spec that exists is valid: its ties are checked when it is made.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from scaling_rules.errors import ZooError, unknown
from scaling_rules.lower import BODIES, check

ACTIVATIONS = ("linear", "relu", "relu6", "swish", "hard_swish")
GATES = ("sigmoid", "hard_sigmoid", "clip")
PADDINGS = ("same", "symmetric")
SHORTCUTS = ("none", "identity", "projection", "separable", "padded")


def _choice(kind: str, value: object, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise unknown(kind, value, valid)


def _integer(what: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ZooError(f"{what} must be a whole number of at least {least}, not {value!r}.")


def _fraction(what: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 <= value < 1:  # type: ignore[operator]
        raise ZooError(f"{what} must be a number in [0, 1), not {value!r}.")


@dataclass(frozen=True)
class Dialect:
    """What differs between releases of one architecture and changes no channel number.

    `padding`: 'same' pads a strided convolution as TensorFlow does (more at the end), 'symmetric' as PyTorch.
    `epsilon`, `momentum`: of batch norm, momentum in the Keras sense (the share of the old average kept).
    `gate`: of squeeze-and-excitation: 'sigmoid', 'hard_sigmoid' (relu6(x + 3) / 6) or 'clip' (x to [0, 1]).
    """

    name: str
    padding: str
    epsilon: float
    momentum: float
    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        _choice("padding", self.padding, PADDINGS)
        _choice("gate", self.gate, GATES)
        if not 0 < self.epsilon < 1:
            raise ZooError(f"epsilon must lie between 0 and 1, not {self.epsilon!r}.")
        _fraction("momentum", self.momentum)


@dataclass(frozen=True)
class Stem:
    """The first convolution with its batch norm and activation, then a max-pool of stride 2 if `pool` > 0.

    `out` channels; `kernel` and `pool` window in pixels; `pool` 0 is none.
    """

    out: int
    kernel: int = 3
    stride: int = 2
    activation: str = "relu"
    pool: int = 0

    def __post_init__(self) -> None:
        for what, least in (("out", 1), ("kernel", 1), ("stride", 1), ("pool", 0)):
            _integer(f"stem {what}", getattr(self, what), least)
        _choice("activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True)
class Block:
    """One block of a stage, with the width of every convolution in it.

    kind: 'mbconv' (expand, depthwise, squeeze, project), 'ghost' (GhostNet's bottleneck), 'basic' (two
        convolutions), 'bottleneck' (1x1, kxk, 1x1), 'separable' (depthwise, 1x1) or 'conv' (one convolution).
    out: channels of the block's output.
    mids: channels of the inner convolutions, in order. mbconv: (expand, depthwise), or (depthwise,) where
        nothing is expanded; ghost: (expansion,); basic: (first,); bottleneck: (first, second);
        separable: (depthwise,); conv: ().
    kernel: side of the spatial convolutions. stride: of the block.
    stride_at: index of the convolution that strides, for 'basic' and 'bottleneck' (1 is ResNet v1.5).
    shortcut: 'none', 'identity', 'projection' (1x1 convolution), 'separable' (depthwise, then 1x1: GhostNet),
        'padded' (every stride-th pixel, new channels zero: He et al.'s option A).
    activation: inside the block. sum_activation: on the block's output, after the sum if there is one.
    squeeze: channels of the squeeze-and-excitation bottleneck, 0 for none.
    pool: window of a max-pool of stride 2 before the block, 0 for none.
    """

    kind: str
    out: int
    mids: tuple[int, ...] = ()
    kernel: int = 3
    stride: int = 1
    stride_at: int = 0
    shortcut: str = "none"
    activation: str = "relu"
    sum_activation: str = "linear"
    squeeze: int = 0
    pool: int = 0

    def __post_init__(self) -> None:
        _choice("block kind", self.kind, tuple(BODIES))
        object.__setattr__(self, "mids", tuple(self.mids))
        body = BODIES[self.kind]
        if len(self.mids) not in body.mids:
            raise ZooError(f"a {self.kind} block has {' or '.join(map(str, body.mids))} mids, not {self.mids}.")
        for mid in self.mids:
            _integer("mids", mid, 1)
        for what, least in (
            ("out", 1),
            ("kernel", 1),
            ("stride", 1),
            ("stride_at", 0),
            ("squeeze", 0),
            ("pool", 0),
        ):
            _integer(f"block {what}", getattr(self, what), least)
        if self.stride_at >= body.strides:
            raise ZooError(f"a {self.kind} block has stride_at below {body.strides}, not {self.stride_at}.")
        if self.squeeze and not body.squeeze:
            raise ZooError(f"a {self.kind} block has no squeeze-and-excitation; squeeze must be 0, not {self.squeeze}.")
        _choice("shortcut", self.shortcut, SHORTCUTS)
        _choice("activation", self.activation, ACTIVATIONS)
        _choice("activation", self.sum_activation, ACTIVATIONS)


@dataclass(frozen=True)
class Head:
    """What follows the stages: 1x1 convolution, global mean, hidden layer, dropout, then the classifier.

    `conv`: channels of the 1x1 convolution with batch norm, 0 for none. `hidden`: units of a dense layer on
    the pooled map, 0 for none, with batch norm if `hidden_norm`, else with a bias. `dropout`: the share
    dropped before the classifier.
    """

    conv: int = 0
    activation: str = "relu"
    hidden: int = 0
    hidden_norm: bool = False
    hidden_activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _integer("head conv", self.conv, 0)
        _integer("head hidden", self.hidden, 0)
        _choice("activation", self.activation, ACTIVATIONS)
        _choice("activation", self.hidden_activation, ACTIVATIONS)
        _fraction("dropout", self.dropout)
        if type(self.hidden_norm) is not bool:
            raise ZooError(f"hidden_norm must be true or false, not {self.hidden_norm!r}.")


Stage = tuple[Block, ...]


@dataclass(frozen=True)
class NetworkSpec:
    """A whole network.

    input: (height, width, channels) in pixels. classes: outputs of the classifier, 0 for none.
    mean, std: per channel, in units of a [0, 255] pixel; the graph computes (pixel - mean) / std.
    drop_path: stochastic depth of the last block; block i of N drops drop_path * i / N of its samples.
    source: where the configuration comes from. note: where sources disagree and what was followed.

    Raises ZooError for a broken tie (a depthwise width that differs from its input, a sum of unequal widths)
    and for an input smaller than the total stride.
    """

    name: str
    family: str
    input: tuple[int, int, int]
    classes: int
    dialect: Dialect
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    drop_path: float = 0.0
    source: str = field(default="", compare=False)
    note: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("input", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "stages", tuple(tuple(stage) for stage in self.stages))
        if len(self.input) != 3:
            raise ZooError(f"input must be (height, width, channels), not {self.input}.")
        for what, value in zip(("height", "width", "channels"), self.input, strict=True):
            _integer(f"input {what}", value, 1)
        _integer("classes", self.classes, 0)
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.input[2]:
                raise ZooError(f"{what} has {len(values)} values for {self.input[2]} input channels.")
        if min(self.std) <= 0:
            raise ZooError(f"std must be above zero, not {self.std}.")
        if not self.stages or not all(self.stages):
            raise ZooError("a network needs at least one stage, and a stage at least one block.")
        _fraction("drop_path", self.drop_path)
        check(self)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in order."""
        return tuple(block for stage in self.stages for block in stage)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two specs share if they are the same network, whatever its name."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        data = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("name", "family", "source", "note")}
        data["dialect"].pop("name")
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The spec as JSON text with sorted keys; `from_json` gives an equal spec back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> NetworkSpec:
        """The spec of `to_json`'s text. Raises ZooError, naming the field, for anything that is not one."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ZooError(f"not a spec: {error}.") from None
        return spec_from_dict(data)


def spec_from_dict(data: Any) -> NetworkSpec:
    """The spec of a plain dict, as `dataclasses.asdict` or `json.loads(spec.to_json())` give it."""
    _table("spec", data, NetworkSpec)
    if not isinstance(data["stages"], list | tuple) or not all(isinstance(s, list | tuple) for s in data["stages"]):
        raise ZooError("stages must be a list of lists of blocks.")
    parts = {
        "dialect": _make("dialect", data["dialect"], Dialect),
        "stem": _make("stem", data["stem"], Stem),
        "head": _make("head", data["head"], Head),
        "stages": tuple(tuple(_make("block", block, Block) for block in stage) for stage in data["stages"]),
    }
    return _make("spec", {**data, **parts}, NetworkSpec)


def _table(what: str, data: Any, kind: type) -> None:
    if not isinstance(data, dict):
        raise ZooError(f"{what} must be an object with named fields, not {data!r:.80}.")
    known = {f.name for f in dataclasses.fields(kind)}
    needed = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    for name in data:
        if name not in known:
            raise unknown(f"field of {what}", name, sorted(known))
    for name in sorted(needed - set(data)):
        raise ZooError(f"{what} lacks the field {name!r}.")


def _make(what: str, data: Any, kind: type) -> Any:
    _table(what, data, kind)
    try:
        return kind(**data)
    except (TypeError, OverflowError) as error:
        raise ZooError(f"{what}: {error}.") from None
