"""The two spaces of Channel-Bench-Macro (Su et al. 2022, arXiv 2203.13714): seven widths, a digit 1 to 4 each."""

from __future__ import annotations

from scaling_rules.errors import ZooError
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stage, Stem
from zoo.families import CIFAR, PYTORCH, Group, Pattern, named

MOBILENET = (128, 768, 768, 768, 256, 1536, 1024)
RESNET = (256, 256, 256, 512, 512, 512, 512)
"""Channels of the seven slots at digit 4; a digit d gives d quarters."""


def _widths(space: str, base: tuple[int, ...], digits: tuple[int, ...]) -> tuple[str, list[int]]:
    code = "".join(map(str, digits))
    if not all(1 <= digit <= 4 for digit in digits):
        raise ZooError(f"channel-bench-{space}-DDDDDDD: each digit must be 1, 2, 3 or 4, not {code}.")
    return f"channel-bench-{space}-{code}", [b * d // 4 for b, d in zip(base, digits, strict=True)]


def _spec(name: str, dialect: Dialect, stem: int, stages: tuple[Stage, ...], head: Head) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        family="channel-bench",
        input=(32, 32, 3),
        classes=10,
        dialect=dialect,
        stem=Stem(stem),
        stages=stages,
        head=head,
        source="github xiusu/Channel-Bench-Macro @4ff596e",
        note="The README's table prints 16x16 for the last rows; code and counts have 8x8.",
        **CIFAR,
    )


def mobilenet(digits: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Stem, four inverted residuals without an activation after the sum, a 1x1 convolution."""
    name, (c1, c2, c3, c4, c5, c6, c7) = _widths("mobilenet", MOBILENET, digits)

    def inverted(out: int, hidden: int, stride: int = 1) -> Block:
        shortcut = "identity" if stride == 1 else "none"
        return Block("mbconv", out, (hidden, hidden), stride=stride, shortcut=shortcut)

    stages = ((inverted(c1, c2), inverted(c1, c3)), (inverted(c5, c4, 2), inverted(c5, c6)))
    return _spec(name, dialect, c1, stages, Head(conv=c7))


def resnet(digits: tuple[int, ...], dialect: Dialect) -> NetworkSpec:
    """Stem and five basic blocks; the third has no shortcut at all."""
    name, (c1, c2, c3, c4, c5, c6, c7) = _widths("resnet", RESNET, digits)

    def basic(out: int, hidden: int, stride: int = 1) -> Block:
        shortcut = "identity" if stride == 1 else "none"
        return Block("basic", out, (hidden,), stride=stride, shortcut=shortcut, sum_activation="relu")

    stages = ((basic(c1, c2), basic(c1, c3)), (basic(c5, c4, 2), basic(c5, c6), basic(c5, c7)))
    return _spec(name, dialect, c1, stages, Head())


DIGITS = r"(\d)" * 7
PATTERNS = (
    Pattern(
        "channel-bench-mobilenet-DDDDDDD",
        "channel-bench-mobilenet-4444444",
        rf"channel-bench-mobilenet-{DIGITS}",
        4**7,
        mobilenet,
    ),
    Pattern(
        "channel-bench-resnet-DDDDDDD",
        "channel-bench-resnet-4444444",
        rf"channel-bench-resnet-{DIGITS}",
        4**7,
        resnet,
    ),
)
GROUPS = (Group({}, named(PYTORCH), PATTERNS),)
