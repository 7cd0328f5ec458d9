"""The free widths of every family: as many as the papers count, and costs that are their networks'."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError
from scaling_rules.width_space import space
from zoo import registry

# MobileNetV2 and ResNet-50: the figures of BCNetV2's release (bcnet.md, section 1). The others are counted here.
COUNTS = {
    "mobilenet-v2-1.0x": 25,
    "resnet-50": 37,
    "efficientnet-b0": 24,
    "ghostnet-1.0x": 23,
    "mobilenet-v1-1.0x": 14,
    "resnet-20": 12,
    "vgg-19-cifar": 16,
    "channel-bench-mobilenet-4444444": 7,
    "channel-bench-resnet-4444444": 7,
}


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_variables_as_the_papers_count(name):
    spec = registry.architecture(name)
    found = space(spec)
    assert len(found.variables) == COUNTS[name]
    full = [variable.channels for variable in found.variables]
    assert found.at(full) == spec
    assert found.macs(np.array([full]))[0] == cost(spec).macs


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(COUNTS)), st.integers(0, 2**32 - 1))
def test_costs_of_width_vectors_are_their_networks(name, seed):
    found = space(registry.architecture(name))
    full = np.array([variable.channels for variable in found.variables])
    chance = np.random.default_rng(seed)
    shares = np.sort(chance.uniform(0.05, 1.5, len(full))) if "20" in name else chance.uniform(0.05, 1.5, len(full))
    vectors = np.maximum(1, (full * shares * [[1.0], [0.5]]).astype(int))
    assert found.macs(vectors).tolist() == [cost(found.at(vector)).macs for vector in vectors]


@pytest.mark.parametrize("digits", ["1111111", "4444444", "1234123", "4321432"])
@pytest.mark.parametrize("kind", ["mobilenet", "resnet"])
def test_channel_bench_is_the_seven_slots(kind, digits):
    """Its networks are the quarter steps of this space, in the order of its slots."""
    found = space(registry.architecture(f"channel-bench-{kind}-4444444"))
    vector = [variable.channels * int(digit) // 4 for variable, digit in zip(found.variables, digits, strict=True)]
    wanted = registry.architecture(f"channel-bench-{kind}-{digits}")
    assert found.at(vector).fingerprint() == wanted.fingerprint()


def test_bad_vectors():
    found = space(registry.architecture("resnet-20"))
    with pytest.raises(ZooError, match=r"resnet-20 has 12 free widths, not 3"):
        found.at([1, 2, 3])
    with pytest.raises(ZooError, match=r"out must be a whole number of at least 1, not 0"):
        found.at([0] * 12)
