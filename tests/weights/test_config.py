"""A config from anywhere becomes a valid spec or one line, before anything large is allocated."""

import json
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from weights import config
from weights.config import Config, dump, parse
from zoo import registry

RECORD = {
    "name": "resnet-20",
    "tag": None,
    "license": "Apache-2.0",
    "data_note": None,
    "preprocessing": {
        "resize": 32,
        "crop": 32,
        "interpolation": "bilinear",
        "mean": [1.0, 2.0, 3.0],
        "std": [1.0, 1.0, 1.0],
    },
    "classes": None,
}
BASE = json.loads(dump(Config(registry.architecture("resnet-20"), RECORD)))


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_network_round_trips(name):
    spec = registry.architecture(name)
    again = parse(dump(Config(spec, None, "0" * 64), indent=1))
    assert again == Config(spec, None, "0" * 64)
    assert again.spec.source == spec.source


def changed(**fields):
    data = json.loads(json.dumps(BASE))
    for path, value in fields.items():
        *steps, last = path.split("__")
        inner = data
        for step in steps:
            inner = inner[int(step) if step.isdigit() else step]
        inner[int(last) if last.isdigit() else last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(format="zoo-2"), "format: 'zoo-1' was expected"),
        (changed(spec__name="../../etc/passwd"), "spec.name: '../../etc/passwd' does not match"),
        (changed(spec__classes=10**9), "spec.classes: 1000000000 is greater than the maximum of 100000"),
        (changed(spec__input=[10**6, 32, 3]), r"spec.input\[0\]: 1000000 is greater than the maximum of 4096"),
        (changed(spec__stages__0__0__out=10**7), r"spec.stages\[0\]\[0\].out: 10000000 is greater"),
        (changed(spec__stages__0__0__out=17), "17"),
        (changed(spec__stages__0__0__kind="exec"), "unknown block kind 'exec'"),
        (changed(spec__stages__0__0__code="import os"), "unknown field of block 'code'"),
        (
            changed(spec__stages=[[BASE["spec"]["stages"][0][0]] * 256] * 5),
            "the network has 1,280 blocks; at most 1,024",
        ),
        (changed(spec__dialect__epsilon=0), "spec.dialect.epsilon: 0 is less than"),
        (changed(record__preprocessing__crop=10**5), "record.preprocessing.crop: 100000 is greater"),
        (changed(record__preprocessing__interpolation="area"), "record.preprocessing.interpolation: 'area' is not one"),
        (changed(record__shell="rm"), "record: Additional properties are not allowed .'shell'"),
        (changed(sha256="zz"), "sha256: 'zz' does not match"),
        (changed(record=7), "record: 7 is not of type"),
        ("[]", "config: .* is not of type 'object'"),
        ("{", "not a config: "),
        (json.dumps(BASE).replace('"classes": 10', '"classes": NaN'), "NaN is no JSON"),
        (json.dumps(BASE).replace('"classes": 10', '"classes": 1e999'), "spec.classes: inf is not of type 'integer'"),
        (json.dumps(BASE).replace('"classes": 10', '"classes": ' + "9" * 5000), "not a config: Exceeds the limit"),
        (json.dumps(BASE).replace('"classes": 10', '"classes": 10, "classes": 11'), "a name occurs twice"),
        ("[" * 100_000, "not a config: maximum recursion depth"),
        (" " * (1 << 20) + "{}", "the config has 1,048,578 bytes; at most 1,048,576"),
    ],
)
def test_refused_in_one_line(text, message):
    with pytest.raises(ZooError, match=message) as error:
        parse(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_a_network_too_large_to_hold_allocates_nothing():
    stage = [{"kind": "conv", "out": 65536, "kernel": 3}] * 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(ZooError, match=r"the network has [\d,]+ weights, 38,654,705,664 in one tensor; at most"):
        parse(changed(spec__stages=[stage]))
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def outcome(text):
    try:
        return parse(text).spec.name
    except ZooError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_one_value_is_refused_or_valid(data):
    """Every leaf replaced by any JSON: a config comes out, or one line."""
    mutant = json.loads(json.dumps(BASE))
    inner, steps = mutant, data.draw(st.integers(1, 5))
    for _ in range(steps):
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not isinstance(inner[key], dict | list) or not inner[key]:
            break
        parent, inner = inner, inner[key]
    else:
        inner = parent
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    inner[key] = data.draw(leaf | st.lists(leaf, max_size=3) | st.dictionaries(st.text(max_size=5), leaf, max_size=3))
    assert "\n" not in outcome(json.dumps(mutant))


def test_parts_of_the_schema():
    config.validate(RECORD, "published")
    with pytest.raises(ZooError, match=r"preprocessing: 'std' is a required property"):
        config.validate({key: v for key, v in RECORD["preprocessing"].items() if key != "std"}, "preprocessing")
