"""The manifest: every record complete, of its own network, with sources that no other record has."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from scaling_rules.cost import cost
from scaling_rules.errors import ZooError
from scaling_rules.shapes import tensors
from weights import config, manifest
from weights.convert.layouts import modules
from zoo import catalog, registry

TAGS = [(name, tag) for name in manifest.models() for tag in manifest.tags(name)]
SOURCES = [(*pair, source) for pair in TAGS for source in manifest.record(*pair)["sources"]]


def fields(name, tag):
    return {key: value for key, value in manifest.record(name, tag).items() if key not in ("name", "tag")}


@pytest.mark.parametrize("name", manifest.models())
def test_records_are_of_the_schema_and_of_their_networks(name):
    registry.architecture(name)
    for tag in manifest.tags(name):
        record, spec = manifest.record(name, tag), catalog.spec(name, tag)
        config.validate(fields(name, tag), "record")
        crop = record["preprocessing"]["crop"]
        total = cost(replace(spec, input=(crop, crop, 3)))
        assert (record["params"], record["macs"]) == (total.params, total.macs), tag
        assert spec.classes == 1000
        assert crop <= record["preprocessing"]["resize"]
        if record["sources"]:
            assert record["dialect"] in registry.dialects(name)
            symmetric = record["layout"] == "timm" and not tag.startswith("tf_")
            assert spec.dialect.padding == ("symmetric" if symmetric else "same"), tag
            assert modules(spec, record["layout"])  # the layout has a name for each part of the network


@pytest.mark.parametrize("name", manifest.models())
def test_files_have_at_least_the_bytes_of_their_tensors(name):
    """Four bytes a weight, and PyTorch's counter of eight for each batch norm; a pickle or HDF5 adds its own."""
    for tag in manifest.tags(name):
        table = tensors(catalog.spec(name, tag))
        floats = 4 * sum(math.prod(tensor.shape) for tensor in table.values())
        norms = 8 * sum(path.endswith("moving_mean") for path in table)
        for source in manifest.record(name, tag)["sources"]:
            if source["integrity"] == "sha256":
                assert source["bytes"] > floats
            else:
                assert floats <= source["bytes"] <= floats + norms + 64  # Keras' normalisation has seven numbers


def test_no_two_records_share_a_file_or_a_hash():
    for kind in ("hash", "url", "repo"):
        seen = Counter(source[kind] for _, _, source in SOURCES if source.get(kind))
        assert [value for value, count in seen.items() if count > 1] == []
    known = [manifest.record(*pair)["tensors_sha256"] for pair in TAGS]
    assert max(Counter(filter(None, known)).values()) == 1


def test_the_checkpoints_that_must_be_there():
    """What weights.md of the shared facts lists and fits a family here; the md5 are those it read in Keras' code."""
    md5 = {
        0: "902e53a9f72be733fc0bcb005b3ebbac",
        1: "1d254153d4ab51201f1646940f018540",
        2: "b15cce36ff4dcbd00b6dd88e7857a6ad",
        3: "ffd1fdc53d0ce67064dc6a9c7960ede0",
        4: "18c95ad55216b8f92d7e70b3a046e2fc",
        5: "ace28f2a6363774853a83a0b21b9421a",
        6: "165f6e37dce68623721b423839de8be5",
        7: "8c03f828fec3ef71311cd463b6759d99",
    }
    from keras.src.applications.efficientnet import WEIGHTS_HASHES

    for n, expected in md5.items():
        assert manifest.tags(f"efficientnet-b{n}")[0] == "keras_in1k"
        (source,) = manifest.record(f"efficientnet-b{n}")["sources"]
        assert source["hash"] == expected == WEIGHTS_HASHES[f"b{n}"][0]
        assert source["url"].endswith(f"/efficientnetb{n}.h5")
        for variant in ("aa", "ap", "ns_jft", *(("",) if n < 6 else ())):
            assert f"tf_{variant}_in1k".replace("__", "_") in manifest.tags(f"efficientnet-b{n}")
    repos = {source["repo"] for _, _, source in SOURCES if source["kind"] == "hub"}
    named = "ghostnet_100.in1k resnet50.tv_in1k resnet50.tv2_in1k resnet50.a1_in1k tf_efficientnet_lite4.in1k"
    named += (
        " efficientnet_b0.ra_in1k mobilenetv2_140.ra_in1k efficientnet_lite0.ra_in1k tf_efficientnet_l2.ns_jft_in1k"
    )
    assert {f"timm/{name}" for name in named.split()} <= repos
    assert manifest.tags("resnet-50")[0] == "tv_in1k"
    assert manifest.record("ghostnet-1.0x")["sources"][0]["repo"] == "timm/ghostnet_100.in1k"
    assert not any("fb_" in tag for _, tag in TAGS)  # CC-BY-NC


@pytest.mark.parametrize("pair", TAGS, ids=".".join)
def test_licence_and_data_are_said_apart_from_the_codes(pair):
    record = manifest.record(*pair)
    if not record["sources"]:
        assert record["license"] is None
        return
    assert record["license"] in ("Apache-2.0", "BSD-3-Clause")
    assert "ImageNet" in record["data_note"]
    if "jft" in pair[1]:
        assert "JFT" in record["data_note"]


def test_claims_have_a_source_and_measurements_a_command():
    for pair in TAGS:
        record = manifest.record(*pair)
        assert any(claim["metric"] == "top1" for claim in record["claimed"]), pair
        assert all(claim["source"] for claim in record["claimed"])
        assert all(result["command"] for result in record["measured"])


GOOD = fields("efficientnet-b0", "tf_in1k")


@pytest.mark.parametrize("field", sorted(GOOD))
def test_an_incomplete_record_is_refused(field):
    with pytest.raises(ZooError, match=f"'{field}' is a required property"):
        config.validate({key: value for key, value in GOOD.items() if key != field}, "record")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "MIT"}, "Additional properties are not allowed .'licence' was unexpected"),
        ({"license": None}, "license: None is not of type 'string'"),
        ({"macs": 1.5}, "macs: 1.5 is not of type 'integer'"),
        ({"claimed": [{"dataset": "x", "metric": "top1", "value": 101, "source": "y"}]}, "101 is greater than"),
        ({"claimed": [{"dataset": "x", "metric": "top1", "value": 77}]}, "'source' is a required property"),
        ({"measured": [{"dataset": "x", "metric": "top1", "value": 77}]}, "is a required property"),
        ({"preprocessing": {**GOOD["preprocessing"], "crop": 0}}, "crop: 0 is less than"),
        ({"sources": [{**GOOD["sources"][0], "hash": "0" * 64}]}, r"sources\[0\]"),
        ({"sources": [{**GOOD["sources"][0], "url": "https://x"}]}, r"sources\[0\]"),
        ({"sources": [{**GOOD["sources"][0], "kind": "ftp"}]}, r"sources\[0\].kind: 'ftp' is not one of"),
        ({"sources": [{**GOOD["sources"][0], "integrity": "sha256"}]}, r"sources\[0\]"),
        ({"sources": [{"kind": "https", "url": "http://x", "integrity": "hub", "hash": None, "bytes": 1}]}, "url"),
    ],
)
def test_a_wrong_record_is_refused(change, message):
    config.validate(GOOD, "record")
    with pytest.raises(ZooError, match=message):
        config.validate({**GOOD, **change}, "record")


def test_file_names_that_state_a_hash_agree_with_the_record():
    """The file names of PyTorch's hub end in the first digits of the sha256 (torch.hub.load_state_dict_from_url)."""
    stated = [s for *_, s in SOURCES if s["integrity"] == "sha256-prefix"]
    assert len(stated) > 20
    for source in stated:
        assert source["url"].rsplit("-", 1)[1].split(".")[0] == source["hash"]
    for *_, source in SOURCES:  # and it holds for the files that are here
        if source["kind"] == "pypi":
            assert source["file"].rsplit("-", 1)[1].split(".")[0] == source["hash"][:8]
