"""YAML of recipes: what is written is read, and numbers without a point are numbers."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from training import strict_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1.0e-5", 1e-5), ("2E3", 2000.0), ("+.5e1", 5.0), ("3", 3), ("'1e5'", "1e5"), ("e5", "e5"),
     ("1e", "1e"), ("", None), ("~", None), ("[1, true]", [1, True])],
)  # fmt: skip
def test_numbers_of_yaml(text, value):
    found = strict_yaml.read(text, "here")
    assert found == value
    assert type(found) is type(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LIKE_NUMBERS = st.text("0123456789.eE+-_", min_size=1, max_size=8)


@given(PLAIN | LIKE_NUMBERS)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(data):
    assert strict_yaml.read(strict_yaml.write(data), "here") == data


@given(LIKE_NUMBERS)
@settings(max_examples=200, deadline=None)
def test_texts_are_read_as_by_plain_yaml_but_for_exponents(text):
    plain = yaml.safe_load(f"[{text!r}]")
    assert strict_yaml.read(f"[{text!r}]", "here") == plain == [text]
