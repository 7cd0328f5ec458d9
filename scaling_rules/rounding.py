"""The channel-rounding conventions of the papers."""

from __future__ import annotations


def make_divisible(value: float, divisor: int) -> int:
    """Round `value` channels to the nearest multiple of `divisor`, never below one divisor or 90 % of it.

    This is `round_filters` of tensorflow/tpu's EfficientNet and `_make_divisible` of MobileNetV2 and
    GhostNet: the nearest multiple first, one step up where that would lose more than a tenth.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
