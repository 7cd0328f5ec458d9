"""Grown weights compute the parent's function: every kind of block, wider, deeper, any batch-norm statistics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo
from scaling_rules import compound
from scaling_rules.cost import cost
from scaling_rules.enlarging import Limits, candidates
from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors
from scaling_rules.spec import NetworkSpec
from weights.grow import grow
from zoo import registry

FAMILIES = {  # one of each kind of block, with the stages and blocks that make its ties
    "mbconv": ("efficientnet-b0", (1, 2, 2, 1)),
    "mbconv without squeeze": ("mobilenet-v2-1.0x", (1, 2, 2, 1)),
    "ghost": ("ghostnet-1.0x", (1, 2, 2, 2)),
    "ghost with squeeze": ("ghostnet-enlarged-600m", (1, 2, 2, 2)),
    "basic": ("resnet-18", (2, 2, 1)),
    "basic, padded shortcut": ("resnet-20", (2, 2, 2)),
    "bottleneck": ("resnet-50", (2, 2, 1)),
    "separable": ("mobilenet-v1-1.0x", (1, 2, 2)),
}


def parent(kind: str) -> NetworkSpec:
    name, depths = FAMILIES[kind]
    spec = registry.architecture(name)
    stages = tuple(stage[:count] for stage, count in zip(spec.stages, depths, strict=False))
    small = compound.scale(replace(spec, stages=stages, input=(32, 32, 3), classes=7), width=0.4)
    return replace(small, name=f"small {kind}")


def random_weights(spec: NetworkSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Kernels of a size that keeps logits alive, batch norms of every mean and variance."""
    chance = np.random.default_rng(seed)
    made = {}
    for path, tensor in tensors(spec).items():
        name = path.rpartition(".")[2]
        if name in ("gamma", "moving_variance"):
            made[path] = chance.uniform(0.5, 1.5, tensor.shape)
        elif name == "kernel":
            fan_in = np.prod(tensor.shape[:-1]) if tensor.shape[-1] > 1 else tensor.shape[0] * tensor.shape[1]
            made[path] = chance.normal(0, np.sqrt(2 / fan_in), tensor.shape)
        else:
            made[path] = chance.normal(0, 0.5, tensor.shape)
    return {path: array.astype(np.float32) for path, array in made.items()}


def logits(spec: NetworkSpec, values: dict[str, np.ndarray]) -> np.ndarray:
    model = zoo.build(spec, input_shape=32)
    for path, variable in zoo.variables(model).items():
        if path in values:
            variable.assign(values[path])
        elif path.endswith("kernel"):  # what is new must not matter
            variable.assign(np.random.default_rng(9).normal(0, 1, variable.shape))
    pictures = np.random.default_rng(1).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    return np.asarray(model(pictures, training=False))


def difference(small: NetworkSpec, large: NetworkSpec, **options) -> float:
    """Of logits, relative to the largest."""
    weights = random_weights(small)
    before = logits(small, weights)
    after = logits(large, grow(small, weights, large, **options).values)
    return float(np.abs(after - before).max() / np.abs(before).max())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("equal", [False, True])
def test_wider_keeps_the_function(kind, equal):
    small = parent(kind)
    assert 0 < difference(small, compound.scale(small, width=1.6), equal=equal) < 1e-5


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "separable"])
def test_deeper_keeps_the_function_bit_for_bit(kind):
    small = parent(kind)
    large = compound.scale(small, depth=2.0)
    assert len(large.blocks) == 2 * len(small.blocks)
    assert difference(small, large) == 0


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind not in ("separable", "basic, padded shortcut")])
def test_every_move_of_the_greedy_search_keeps_the_function(kind):
    small = parent(kind)
    limits = Limits(blocks=tuple(len(stage) + 1 for stage in small.stages))
    for one in candidates(small, 2 * cost(small).macs, moves=["deeper", "wider", "uniform"], limits=limits):
        large = replace(one.spec, input=small.input)
        assert difference(small, large) < 1e-5, one.name


def test_a_padded_shortcut_needs_its_places():
    """A first stage that grows alone takes the places of the channels that the padding adds."""
    small = parent("basic, padded shortcut")
    (wider,) = (one.spec for one in candidates(small, 2 * cost(small).macs, moves=["wider"]) if one.stage == 1)
    with pytest.raises(ZooError, match=r"stage2.block1.shortcut pads \d+ channels, fewer than the \d+ that are there"):
        grow(small, random_weights(small), wider)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([kind for kind in FAMILIES if kind != "separable"]),
    st.floats(1.0, 2.5),
    st.floats(1.0, 2.0),
    st.integers(0, 9),
)
def test_grown_twice(kind, width, depth, seed):
    small = parent(kind)
    middle = compound.scale(small, 1.0, width)
    large = compound.scale(middle, depth, 1.3)
    weights = random_weights(small, seed)
    first = grow(small, weights, middle, seed=seed)
    whole = random_weights(middle) | first.values
    second = grow(middle, whole, large, seed=seed)
    before, after = logits(small, weights), logits(large, second.values)
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()


@pytest.mark.parametrize("out", [6, 7, 8, 9])
def test_an_odd_ghost_module(out):
    """Its last primary channel has no partner; in an even wider one the partner appears, and nothing may read it."""
    small = parent("ghost")
    odd = replace(small.stages[0][0], out=7, mids=(9,))
    first = replace(small.stages[0][0], out=out, mids=(12,))
    rest = small.stages[1:]
    spec = replace(small, stages=((replace(odd, shortcut="none"),), *rest))
    large = replace(small, stages=((replace(first, shortcut="none"),), *rest))
    if out < 7:
        with pytest.raises(ZooError, match=r"stage1.block1.project.* has \d channels, of small ghost \d"):
            grow(spec, random_weights(spec), large)
    else:
        assert difference(spec, large) < 1e-5


def test_ignored_ties_would_be_seen():
    """The check has teeth: one channel copied from elsewhere moves the logits."""
    small = parent("mbconv")
    large = compound.scale(small, width=1.6)
    weights = random_weights(small)
    values = grow(small, weights, large).values
    path = "stage2.block1.depthwise.conv.kernel"
    values[path] = np.roll(values[path], 1, axis=2)
    before, after = logits(small, weights), logits(large, values)
    assert np.abs(after - before).max() > 1e-2 * np.abs(before).max()


def test_unequal_shares_leave_no_twins():
    small = parent("basic")
    large = compound.scale(small, width=2.0)
    path = "stage1.block1.conv1.conv.kernel"
    equal, unequal = (grow(small, random_weights(small), large, equal=each).values[path] for each in (True, False))

    def twins(kernel):
        flat = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)
        return sum(np.array_equal(a, b) for index, a in enumerate(flat) for b in flat[:index])

    assert twins(equal) > 0
    assert twins(unequal) == 0


def test_the_report_names_every_tensor():
    small = parent("ghost with squeeze")
    large = compound.scale(small, 1.5, 1.3)
    grown = grow(small, random_weights(small), large)
    table = tensors(large)
    assert set(grown.kept) | set(grown.split) | set(grown.identity) == set(grown.values)
    assert grown.broken == ()
    assert {path: array.shape for path, array in grown.values.items()} == {
        path: table[path].shape for path in grown.values
    }
    there = tensors(small)
    assert not any(path in there for path in set(table) - set(grown.values))
    assert "stem.conv.kernel" in grown.split
    assert "head.classifier.dense.bias" in grown.kept


def test_another_seed_other_copies_same_function():
    small = parent("bottleneck")
    large = compound.scale(small, width=1.7)
    weights = random_weights(small)
    one, two = (grow(small, weights, large, seed=seed).values for seed in (0, 1))
    assert any(not np.array_equal(one[path], two[path]) for path in one)
    assert difference(small, large, seed=1) < 1e-5


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("separable", {"depth": 2.0}, r"stage1.block2, a new separable block, has no identity shortcut"),
        ("mbconv", {"resolution": 48}, r"the resolution is 48x48, not 32x32"),
        ("basic", {"width": 0.5}, r"stem of .* has 16 channels, of small basic 24"),
    ],
)
def test_what_breaks_the_function_is_refused_by_name(kind, change, why):
    small = parent(kind)
    with pytest.raises(ZooError, match=why):
        grow(small, random_weights(small), compound.scale(small, **change))


def test_fewer_blocks_or_stages_are_refused():
    small = parent("basic")
    with pytest.raises(ZooError, match=r"stage1 of small basic has 1 blocks, of small basic 2"):
        grow(small, random_weights(small), replace(small, stages=((small.stages[0][0],), *small.stages[1:])))
    with pytest.raises(ZooError, match=r"has 2 stages, small basic 3: nothing to grow"):
        grow(small, random_weights(small), replace(small, stages=small.stages[:2]))


def test_other_structure_maps_what_it_can():
    small, large = registry.architecture("ghostnet-1.0x"), registry.architecture("ghostnet-enlarged-600m")
    large = replace(large, input=small.input)
    weights = random_weights(small)
    with pytest.raises(ZooError, match=r"cannot compute what ghostnet-1.0x does: .*stem is Conv.*strict"):
        grow(small, weights, large)
    grown = grow(small, weights, large, strict=False)
    assert any("squeeze is new in a block that was there" in line for line in grown.broken)
    assert "stage2.block1.expand.primary.conv.kernel" in grown.split
    shapes = tensors(large)
    assert all(array.shape == shapes[path].shape for path, array in grown.values.items())
