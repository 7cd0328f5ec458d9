"""Each block as a short list of primitives: the one place that knows what a block kind computes.

Cost, tensor shapes, the Keras graph, weight converters and width ties walk these lists and nothing else.
A primitive is named by its path ('stage2.block1.expand'); `inputs` are the paths it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from scaling_rules.errors import ZooError

if TYPE_CHECKING:
    from scaling_rules.spec import Block, Head, NetworkSpec, Stem

CHEAP_KERNEL = 3
"""Side of the depthwise convolution that makes a Ghost module's second half (GhostNet, section 3.1: d = 3)."""


class Conv(NamedTuple):
    """Convolution without bias, then batch norm, then activation. Depthwise where `groups` is above 1."""

    path: str
    inputs: tuple[str, ...]
    cin: int
    cout: int
    kernel: int
    stride: int
    groups: int
    act: str


class Pool(NamedTuple):
    """'max' pooling with a window, or the 'mean' over the whole map (window 0)."""

    path: str
    inputs: tuple[str, ...]
    cout: int
    kind: str
    window: int
    stride: int


class SqueezeExcite(NamedTuple):
    """Mean over the map, 1x1 with bias to `squeeze`, activation, 1x1 with bias back, gate, multiply."""

    path: str
    inputs: tuple[str, ...]
    cout: int
    squeeze: int
    act: str
    gate: str


class Subsample(NamedTuple):
    """Every `stride`-th pixel; channels beyond the input's are zero."""

    path: str
    inputs: tuple[str, ...]
    cin: int
    cout: int
    stride: int


class Add(NamedTuple):
    """Sum of the branch (first input) and the shortcut (second), then the activation.

    `depth`: the block's index over the number of blocks, which scales stochastic depth on the branch.
    """

    path: str
    inputs: tuple[str, ...]
    cout: int
    act: str
    depth: float


class Concat(NamedTuple):
    """Channels of all inputs one after the other, cut to the first `cout`."""

    path: str
    inputs: tuple[str, ...]
    cout: int


class Dense(NamedTuple):
    """Fully connected layer on a vector, with batch norm if `norm`, else with a bias; then the activation."""

    path: str
    inputs: tuple[str, ...]
    cin: int
    cout: int
    norm: bool
    act: str


Primitive = Conv | Pool | SqueezeExcite | Subsample | Add | Concat | Dense


class _Graph:
    """Primitives in order, and the width of each path; its methods return the path they add."""

    def __init__(self, gate: str) -> None:
        self.gate = gate
        self.ops: list[Primitive] = []
        self.width: dict[str, int] = {}

    def add(self, op: Primitive) -> str:
        self.ops.append(op)
        self.width[op.path] = op.cout
        return op.path

    def conv(self, path: str, x: str, out: int, kernel: int = 1, stride: int = 1, act: str = "linear") -> str:
        return self.add(Conv(path, (x,), self.width[x], out, kernel, stride, 1, act))

    def depthwise(self, path: str, x: str, out: int, kernel: int, stride: int, act: str = "linear") -> str:
        if out != self.width[x]:
            raise ZooError(f"{path}: a depthwise convolution keeps its input's width {self.width[x]}, not {out}.")
        return self.add(Conv(path, (x,), out, out, kernel, stride, out, act))

    def squeeze(self, path: str, x: str, squeeze: int, act: str) -> str:
        if not squeeze:
            return x
        return self.add(SqueezeExcite(path, (x,), self.width[x], squeeze, act, self.gate))

    def ghost(self, path: str, x: str, out: int, act: str) -> str:
        primary = self.conv(f"{path}.primary", x, -(-out // 2), act=act)
        cheap = self.depthwise(f"{path}.cheap", primary, self.width[primary], CHEAP_KERNEL, 1, act)
        return self.add(Concat(path, (primary, cheap), out))


def _mbconv(g: _Graph, at: str, x: str, b: Block) -> str:
    if len(b.mids) == 2:
        x = g.conv(f"{at}.expand", x, b.mids[0], act=b.activation)
    x = g.depthwise(f"{at}.depthwise", x, b.mids[-1], b.kernel, b.stride, b.activation)
    x = g.squeeze(f"{at}.squeeze", x, b.squeeze, b.activation)
    return g.conv(f"{at}.project", x, b.out)


def _ghost(g: _Graph, at: str, x: str, b: Block) -> str:
    x = g.ghost(f"{at}.expand", x, b.mids[0], b.activation)
    if b.stride > 1:
        x = g.depthwise(f"{at}.depthwise", x, b.mids[0], b.kernel, b.stride)
    x = g.squeeze(f"{at}.squeeze", x, b.squeeze, b.activation)
    return g.ghost(f"{at}.project", x, b.out, "linear")


def _basic(g: _Graph, at: str, x: str, b: Block) -> str:
    strides = [b.stride if i == b.stride_at else 1 for i in range(2)]
    x = g.conv(f"{at}.conv1", x, b.mids[0], b.kernel, strides[0], b.activation)
    return g.conv(f"{at}.conv2", x, b.out, b.kernel, strides[1])


def _bottleneck(g: _Graph, at: str, x: str, b: Block) -> str:
    strides = [b.stride if i == b.stride_at else 1 for i in range(3)]
    x = g.conv(f"{at}.conv1", x, b.mids[0], 1, strides[0], b.activation)
    x = g.conv(f"{at}.conv2", x, b.mids[1], b.kernel, strides[1], b.activation)
    return g.conv(f"{at}.conv3", x, b.out, 1, strides[2])


def _separable(g: _Graph, at: str, x: str, b: Block) -> str:
    x = g.depthwise(f"{at}.depthwise", x, b.mids[0], b.kernel, b.stride, b.activation)
    return g.conv(f"{at}.project", x, b.out, act=b.activation)


def _conv(g: _Graph, at: str, x: str, b: Block) -> str:
    return g.conv(f"{at}.conv", x, b.out, b.kernel, b.stride, b.activation)


class Body(NamedTuple):
    """What a block kind computes before its shortcut is added, and which fields of a Block it uses.

    mids: the numbers of inner widths allowed; paths: of the primitives that have the inner widths (of a block with
    fewer, the last of them), and the block's own; strides: convolutions that may carry the stride;
    squeeze: whether it has squeeze-and-excitation.
    """

    lower: Callable[[_Graph, str, str, Block], str]
    mids: tuple[int, ...]
    paths: tuple[str, ...]
    strides: int = 1
    squeeze: bool = False


BODIES = {
    "mbconv": Body(_mbconv, (1, 2), ("expand", "depthwise", "project"), squeeze=True),
    "ghost": Body(_ghost, (1,), ("expand", "project"), squeeze=True),
    "basic": Body(_basic, (1,), ("conv1", "conv2"), strides=2),
    "bottleneck": Body(_bottleneck, (2,), ("conv1", "conv2", "conv3"), strides=3),
    "separable": Body(_separable, (1,), ("depthwise", "project")),
    "conv": Body(_conv, (0,), ("conv",)),
}


def _shortcut(g: _Graph, at: str, x: str, b: Block) -> str:
    if b.shortcut == "projection":
        return g.conv(at, x, b.out, 1, b.stride)
    if b.shortcut == "separable":
        x = g.depthwise(f"{at}.depthwise", x, g.width[x], b.kernel, b.stride)
        return g.conv(f"{at}.project", x, b.out)
    if b.shortcut == "padded" and g.width[x] <= b.out:
        return g.add(Subsample(at, (x,), g.width[x], b.out, b.stride))
    if b.shortcut == "identity" and b.stride > 1:
        raise ZooError(f"{at}: an identity shortcut cannot stride by {b.stride}.")
    return x


def _block(g: _Graph, at: str, x: str, b: Block, depth: float) -> str:
    if b.pool:
        x = g.add(Pool(f"{at}.pool", (x,), g.width[x], "max", b.pool, 2))
    y = BODIES[b.kind].lower(g, at, x, b)
    if b.shortcut == "none":
        last = g.ops[-1]
        if b.sum_activation != "linear":
            if not isinstance(last, Conv):
                raise ZooError(f"{at}: a {b.kind} block without a shortcut takes no sum_activation.")
            g.ops[-1] = last._replace(act=b.sum_activation)
        return y
    shortcut = _shortcut(g, f"{at}.shortcut", x, b)
    if g.width[shortcut] != g.width[y]:
        raise ZooError(f"{at}: the sum of {g.width[y]} channels and a shortcut of {g.width[shortcut]}.")
    return g.add(Add(f"{at}.sum", (y, shortcut), b.out, b.sum_activation, depth))


def _stem(g: _Graph, x: str, stem: Stem) -> str:
    x = g.conv("stem", x, stem.out, stem.kernel, stem.stride, stem.activation)
    return g.add(Pool("stem.pool", (x,), stem.out, "max", stem.pool, 2)) if stem.pool else x


def _head(g: _Graph, x: str, head: Head, classes: int) -> str:
    if head.conv:
        x = g.conv("head.conv", x, head.conv, act=head.activation)
    x = g.add(Pool("head.pool", (x,), g.width[x], "mean", 0, 1))
    if head.hidden:
        x = g.add(Dense("head.hidden", (x,), g.width[x], head.hidden, head.hidden_norm, head.hidden_activation))
    return g.add(Dense("head.classifier", (x,), g.width[x], classes, False, "linear")) if classes else x


def lower(spec: NetworkSpec) -> tuple[Primitive, ...]:
    """The network as primitives, in an order in which each reads only earlier ones ('input' is the picture).

    Raises ZooError naming the block whose widths do not fit together.
    """
    g = _Graph(spec.dialect.gate)
    g.width["input"] = spec.input[2]
    x = _stem(g, "input", spec.stem)
    total, index = len(spec.blocks), 0
    for s, stage in enumerate(spec.stages, 1):
        for b, block in enumerate(stage, 1):
            x = _block(g, f"stage{s}.block{b}", x, block, index / total)
            index += 1
    _head(g, x, spec.head, spec.classes)
    return tuple(g.ops)


def lower_part(part: Stem | Block | Head, fan_in: int, gate: str, classes: int) -> tuple[Primitive, ...]:
    """The primitives of one part alone, whose 'input' has `fan_in` channels; a block's are named 'block'.

    classes: of the classifier, which is in the head. Raises ZooError as `lower` does.
    """
    from scaling_rules.spec import Block, Stem  # which imports this module

    g = _Graph(gate)
    g.width["input"] = fan_in
    if isinstance(part, Block):
        _block(g, "block", "input", part, 0.0)
    elif isinstance(part, Stem):
        _stem(g, "input", part)
    else:
        _head(g, "input", part, classes)
    return tuple(g.ops)


def check(spec: NetworkSpec) -> None:
    """Raise ZooError for widths that do not fit together and for an input smaller than the total stride."""
    lower(spec)
    total = total_stride(spec.stem, spec.blocks)
    if min(spec.input[:2]) < total:
        height, width = spec.input[:2]
        raise ZooError(f"input {height}x{width} is smaller than the network's total stride {total}.")


def total_stride(stem: Stem, blocks: Iterable[Block]) -> int:
    """Pixels of the input for one of the last map."""
    total = 1
    parts: tuple[Stem | Block, ...] = (stem, *blocks)
    for part in parts:
        total *= part.stride * (2 if part.pool else 1)
    return total


def stage_of(path: str) -> str:
    """'stem', 'stage3', ... or 'head': the part of the network a path lies in."""
    return path.split(".", 1)[0]


def block_of(path: str) -> str:
    """'stem', 'stage3.block2', ... or 'head': the block a path lies in."""
    parts = path.split(".")
    return ".".join(parts[:2]) if parts[0].startswith("stage") else parts[0]
