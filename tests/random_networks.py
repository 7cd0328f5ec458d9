"""Networks of all families for property tests, and what it means that one contains another."""

from dataclasses import replace

from hypothesis import strategies as st

from scaling_rules import compound
from zoo import registry

BASELINES = (
    "efficientnet-b0",
    "ghostnet-1.0x",
    "ghostnet-enlarged-600m",
    "mobilenet-v1-1.0x",
    "mobilenet-v2-1.0x",
    "resnet-20",
    "resnet-34",
    "resnet-50",
)


@st.composite
def networks(draw):
    """A network of a family, made narrower or wider, deeper and of another size."""
    spec = registry.architecture(draw(st.sampled_from(BASELINES)))
    width, depth = draw(st.floats(0.4, 1.5)), draw(st.sampled_from([1.0, 1.0, 1.3]))
    stride = 32 if spec.input[0] >= 64 else 4
    pixels = stride * draw(st.integers(1, 8)) + draw(st.integers(0, stride - 1))
    return replace(compound.scale(spec, depth, width, pixels), classes=draw(st.sampled_from([0, 10, 1000])))


def contains(large, small):
    assert large.input >= small.input
    assert large.stem.out >= small.stem.out
    assert large.head.conv >= small.head.conv
    for own, theirs in zip(large.stages, small.stages, strict=True):
        assert len(own) >= len(theirs)
        for a, b in zip(own, theirs, strict=False):
            assert a.out >= b.out
            assert all(x >= y for x, y in zip(a.mids, b.mids, strict=True))
            assert a.squeeze >= b.squeeze
            assert replace(a, out=b.out, mids=b.mids, squeeze=b.squeeze) == b
