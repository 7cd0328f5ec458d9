"""Specs are complete, frozen and valid, and their text gives the same spec back."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from scaling_rules.lower import lower
from scaling_rules.shapes import endpoints, shapes, tensors
from scaling_rules.spec import Block, Dialect, Head, NetworkSpec, Stem
from zoo import registry

DIALECT = Dialect("test", "same", 1e-3, 0.99)


def network(*blocks, size=32, stem=16, **fields):
    return NetworkSpec("test", "test", (size, size, 3), 10, DIALECT, Stem(stem), (tuple(blocks),), Head(), **fields)


@pytest.mark.parametrize("name", registry.NAMES)
def test_json_gives_an_equal_spec_with_the_same_fingerprint(name):
    spec = registry.architecture(name)
    again = NetworkSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert again.fingerprint() == spec.fingerprint()


def test_fingerprints_tell_networks_apart_and_not_their_names():
    prints = {registry.architecture(name).fingerprint() for name in registry.NAMES}
    # width 0.5 and 1.0 of one family differ, two names of one network do not
    assert len(prints) == len(registry.NAMES)
    spec = registry.architecture("ghostnet-1.0x")
    renamed = dataclasses.replace(spec, name="mine", source="me", note="")
    assert renamed.fingerprint() == spec.fingerprint()
    assert dataclasses.replace(spec, classes=10).fingerprint() != spec.fingerprint()


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.architecture("resnet-18").classes = 5


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block("mbconv", 16, (96, 90)), "stage1.block1.depthwise.*keeps its input's width 96, not 90"),
        (Block("mbconv", 24, (16,), shortcut="identity"), "stage1.block1: the sum of 24 channels and a shortcut of 16"),
        (Block("basic", 24, (24,), stride=2, shortcut="identity"), "identity shortcut cannot stride by 2"),
        (Block("basic", 8, (8,), stride=2, shortcut="padded"), "sum of 8 channels and a shortcut of 16"),
        (Block("separable", 24, (24,)), "keeps its input's width 16, not 24"),
        (Block("ghost", 24, (24,), sum_activation="relu"), "ghost block without a shortcut takes no sum_activation"),
    ],
)
def test_a_broken_tie_is_named(block, message):
    with pytest.raises(ZooError, match=message):
        network(block)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(Block("basic", 16, (16,), stride=2), size=3), "input 3x3 is smaller.*total stride 4"),
        (lambda: network(Block("basc", 16)), "unknown block kind 'basc'.*Did you mean basic"),
        (lambda: network(Block("basic", 16)), "a basic block has 1 mids"),
        (lambda: network(Block("basic", 16.0, (16,))), "block out must be a whole number"),
        (lambda: network(Block("basic", True, (16,))), "block out must be a whole number"),
        (lambda: network(Block("basic", 16, (0,))), "mids must be a whole number of at least 1"),
        (lambda: network(Block("basic", 16, (16,), squeeze=4)), "no squeeze-and-excitation"),
        (lambda: network(Block("basic", 16, (16,), stride_at=2)), "stride_at below 2"),
        (lambda: network(Block("basic", 16, (16,), activation="gelu")), "unknown activation 'gelu'"),
        (lambda: network(Block("basic", 16, (16,), shortcut="skip")), "unknown shortcut 'skip'"),
        (lambda: network(), "at least one block"),
        (lambda: network(Block("conv", 8), drop_path=1.0), "drop_path must be a number in"),
        (lambda: network(Block("conv", 8), std=(1.0, 0.0, 1.0)), "std must be above zero"),
        (lambda: network(Block("conv", 8), mean=(1.0,)), "mean has 1 values for 3"),
        (lambda: Dialect("x", "valid", 1e-3, 0.9), "unknown padding 'valid'"),
        (lambda: Dialect("x", "same", 0.0, 0.9), "epsilon"),
        (lambda: Head(dropout=-0.1), "dropout"),
    ],
)
def test_bad_fields_are_one_line_that_names_them(make, message):
    with pytest.raises(ZooError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("stem"), "spec lacks the field 'stem'"),
        (lambda d: d.update(colour=1), "unknown field of spec 'colour'"),
        (lambda d: d["stages"][0][0].update(outs=3), "unknown field of block 'outs'.*Did you mean out"),
        (lambda d: d.update(stages={}), "stages must be a list"),
        (lambda d: d.update(stages=[]), "at least one"),
        (lambda d: d["stages"].__setitem__(0, [7]), "block must be an object"),
        (lambda d: d["stages"][0][0].update(mids=5), "block: "),
        (lambda d: d.update(input=[1, 2]), "input must be"),
    ],
)
def test_a_damaged_text_is_one_line_that_names_the_field(change, message):
    data = json.loads(registry.architecture("resnet-20").to_json())
    change(data)
    with pytest.raises(ZooError, match=message):
        NetworkSpec.from_json(json.dumps(data))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
@settings(max_examples=200, deadline=None)
def test_any_other_json_is_our_error(data):
    with pytest.raises(ZooError):
        NetworkSpec.from_json(json.dumps(data))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_fields_are_a_spec_or_our_error(data):
    """One field anywhere in a spec replaced by anything: a valid spec or a ZooError, never another exception."""
    tree = json.loads(registry.architecture("ghostnet-0.5x").to_json())
    node, key = tree, None
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            break
        key = data.draw(st.sampled_from(list(keys)))
        if isinstance(node[key], dict | list) and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(
            st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats() | st.text(max_size=3) | st.just([])
        )
        break
    try:
        spec = NetworkSpec.from_json(json.dumps(tree))
    except ZooError:
        return
    assert NetworkSpec.from_json(spec.to_json()).fingerprint() == spec.fingerprint()


@pytest.mark.parametrize("name", registry.NAMES)
def test_primitives_read_only_earlier_ones_and_paths_are_unique(name):
    spec = registry.architecture(name)
    seen = {"input"}
    for op in lower(spec):
        assert set(op.inputs) <= seen
        assert op.path not in seen
        seen.add(op.path)
    assert len(tensors(spec)) == len(set(tensors(spec)))


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("efficientnet-b0", {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}),
        ("resnet-50", {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}),
        ("ghostnet-1.0x", {2: 16, 4: 24, 8: 40, 16: 112, 32: 160}),
        ("mobilenet-v1-1.0x", {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024}),
        ("resnet-20-pool-7-1-2", {2: 64, 4: 64}),
    ],
)
def test_endpoints_are_the_last_blocks_of_each_stride(name, strides):
    spec = registry.architecture(name)
    widths, sizes, ends = {op.path: op.cout for op in lower(spec)}, shapes(spec), endpoints(spec)
    assert {stride: widths[path] for stride, path in ends.items()} == strides
    for stride, path in ends.items():
        assert sizes[path] == tuple(-(-side // stride) for side in spec.input[:2])
