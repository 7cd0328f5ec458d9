"""Costs equal what was counted outside this project, to the last unit where that is stated."""

import json
import re
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.cost import cost, human
from zoo import registry

COUNTS = json.loads((Path(__file__).parents[1] / "golden" / "counts.json").read_text())["models"]


def agrees(value, stated):
    """Whether a count rounds to what is stated: a whole number, or text such as '385.8M'."""
    if stated is None or isinstance(stated, int):
        return stated in (None, value)
    number, unit = re.fullmatch(r"([\d.]+)([MG])", stated).groups()
    digits = len(number.partition(".")[2])
    scaled = Decimal(value) / (10**6 if unit == "M" else 10**9)
    return abs(scaled - Decimal(number)) <= Decimal(5).scaleb(-digits - 1)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_stated_outside(name):
    total = cost(registry.architecture(name))
    assert agrees(total.params, COUNTS[name]["params"]), (total.params, COUNTS[name])
    assert agrees(total.macs, COUNTS[name]["macs"]), (total.macs, COUNTS[name])


def test_activations_as_pycls_counts_them():
    # facebookresearch/pycls dev/model_complexity.json counts output elements of convolutions: R-50 11.1M
    assert cost(registry.architecture("resnet-50")).activations == 11_113_984


def test_the_paper_of_resnet_strides_in_the_first_convolution():
    # arXiv 1512.03385 Table 1 prints 3.8e9 multiply-adds; v1.5 costs 4.09e9
    spec = registry.architecture("resnet-50", "he")
    assert round(cost(spec).macs / 1e9, 1) in (3.8, 3.9)
    assert cost(spec).params == cost(registry.architecture("resnet-50")).params


@pytest.mark.parametrize("name", registry.NAMES)
def test_parts_add_up(name):
    total = cost(registry.architecture(name))
    for parts in (total.stages, total.blocks):
        for field in ("macs", "params", "buffers", "activations"):
            assert sum(getattr(part, field) for part in parts.values()) == getattr(total, field)


def test_all_of_channel_bench_mobilenet(shared):
    data = json.loads((shared / "channel_bench_macro" / "Results_MobileNet.json").read_text())
    assert len(data) == 4**7
    for code, entry in data.items():
        total = cost(registry._architecture.__wrapped__(f"channel-bench-mobilenet-{code}"))
        assert (total.params, total.macs) == (entry["params"], entry["flops"]), code


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 7))
def test_closed_form_of_channel_bench_resnet(digits):
    """channel_bench_macro.md section 3, written out for the ResNet space."""
    base = (256, 256, 256, 512, 512, 512, 512)
    c1, c2, c3, c4, c5, c6, c7 = (b * d // 4 for b, d in zip(base, digits, strict=True))
    large, small = 16 * 16, 8 * 8
    convolutions = [(3, c1, large)]
    convolutions += [(c1, c2, large), (c2, c1, large), (c1, c3, large), (c3, c1, large)]
    convolutions += [
        (c1, c4, small),
        (c4, c5, small),
        (c5, c6, small),
        (c6, c5, small),
        (c5, c7, small),
        (c7, c5, small),
    ]
    macs = sum(9 * i * o * pixels for i, o, pixels in convolutions) + 10 * c5
    params = sum(9 * i * o + 2 * o for i, o, _ in convolutions) + 10 * c5 + 10
    total = cost(registry.architecture("channel-bench-resnet-" + "".join(map(str, digits))))
    assert (total.params, total.macs) == (params, macs)


def test_every_pooling_name_exists_and_costs():
    """All 36, 56 and 455 compositions, with all downsamplings set: the last map is at the full total stride."""
    for prefix, total, parts, default in (("20", 10, 3, "4-3-3"), ("18", 9, 4, "3-2-2-2"), ("50", 16, 4, "3-4-6-3")):
        codes = [c for c in product(range(1, total), repeat=parts) if sum(c) == total]
        names = [f"resnet-{prefix}-pool-{'-'.join(map(str, code))}" for code in codes]
        pattern = registry.PATTERNS[f"resnet-{prefix}-pool-{default}"]
        assert len(names) == pattern.members
        params = {cost(registry.architecture(name)).params for name in names}
        assert len(params) == 1  # positions move no channels
        for name in names:
            spec = registry.architecture(name)
            downsamplings = sum((block.stride > 1) + (block.pool > 1) for block in spec.blocks)
            assert downsamplings == parts - 1, name


def test_default_pooling_is_the_ordinary_network():
    pooled, plain = registry.architecture("resnet-50-pool-3-4-6-3"), registry.architecture("resnet-50")
    assert cost(pooled).stages["stage3"] == cost(plain).stages["stage3"]
    assert pooled.stages == plain.stages


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00K"), (385814752, "386M"), (4089184256, "4.09G"), (999_999_999, "1.00G")],
)
def test_human(value, text):
    assert human(value) == text
