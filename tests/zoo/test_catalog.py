"""Names, filters, specs by tag and dialect, and errors that name the nearest choice."""

import pytest

import zoo
from zoo import registry


def test_names_are_lower_case_and_unique():
    assert len(set(registry.NAMES)) == len(registry.NAMES)
    assert all(name == name.lower() and " " not in name for name in registry.NAMES)
    assert [zoo.spec(name).name for name in registry.NAMES] == list(registry.NAMES)


def test_every_name_of_the_papers_is_listed():
    names = set(zoo.list_models())
    for scaled in ("mobilenet-v1-1.0x", "mobilenet-v2-1.0x", "resnet-50", "efficientnet-b0"):
        assert {f"{scaled}-{dimension}" for dimension in ("d4", "w2", "r2")} <= names
    assert {"mobilenet-v1-compound", "resnet-20-pool-4-3-3", "channel-bench-resnet-4444444"} <= names


@pytest.mark.parametrize("name", registry.NAMES)
@pytest.mark.parametrize("dialect", ["tensorflow", "timm", "pytorch", "torchvision", "he", "paddle", "mindspore"])
def test_dialects_change_conventions_only(name, dialect):
    if dialect not in registry.dialects(name):
        with pytest.raises(zoo.ZooError, match=f"unknown dialect of {name} '{dialect}'; valid: "):
            zoo.spec(name, dialect=dialect)
        return
    spec = zoo.spec(name, dialect=dialect)
    assert spec.dialect.name == dialect
    plain = registry.architecture(name)
    assert [block.out for block in spec.blocks] == [block.out for block in plain.blocks]


def test_default_dialects_are_the_authors_releases():
    for name in registry.NAMES:
        spec = registry.architecture(name)
        tensorflow = spec.family.startswith(("efficientnet", "mobilenet"))
        assert (spec.dialect.padding, spec.dialect.epsilon) == (("same", 1e-3) if tensorflow else ("symmetric", 1e-5))


def test_ghostnets_dialects_differ_as_its_releases_do():
    ours, original = zoo.spec("ghostnet-1.3x"), zoo.spec("ghostnet-1.3x", dialect="tensorflow")
    assert (ours.dialect.gate, original.dialect.gate) == ("hard_sigmoid", "clip")
    assert (ours.head.hidden_norm, original.head.hidden_norm) == (False, True)
    squeezes = [(block.mids[0], block.squeeze) for block in original.blocks if block.squeeze]
    assert all(squeeze == mid // 4 for mid, squeeze in squeezes)
    assert all(block.squeeze % 4 == 0 for block in ours.blocks)


@pytest.mark.parametrize(
    "name", ["mobilenet-v2-1.0x", "efficientnet-lite3", "efficientnet-b0", "ghostnet-1.0x", "resnet-50"]
)
def test_timms_dialect_normalises_as_timm_does(name):
    """The stored oracles of timm's own weights state ImageNet's mean and standard deviation for each of them."""
    spec = zoo.spec(name, dialect="timm")
    assert spec.mean == pytest.approx([255 * x for x in (0.485, 0.456, 0.406)])
    assert spec.std == pytest.approx([255 * x for x in (0.229, 0.224, 0.225)])
    for plain in (zoo.spec("mobilenet-v1-1.0x", dialect="timm"), zoo.spec("mobilenet-v2-1.0x", dialect="tensorflow")):
        assert plain.mean == (127.5,) * 3


def test_a_tag_decides_dialect_and_normalisation():
    for tagged in (zoo.spec("efficientnet-lite0", "pypi_in1k"), zoo.spec("efficientnet-lite0.pypi_in1k")):
        assert tagged == zoo.spec("efficientnet-lite0")
        assert tagged.mean == (127.5,) * 3
    assert zoo.spec("efficientnet-lite0", dialect="tensorflow").mean == (127.0,) * 3
    assert zoo.spec("efficientnet-b0.ra_in1k").dialect.padding == "symmetric"
    assert (
        zoo.spec("efficientnet-b0").dialect.padding == zoo.spec("efficientnet-b0.tf_ap_in1k").dialect.padding == "same"
    )
    assert zoo.spec("efficientnet-b0.tf_ap_in1k").mean == zoo.spec("efficientnet-b0.tf_ap_in1k").std == (127.5,) * 3
    with pytest.raises(zoo.ZooError, match="a tag or a dialect, not both"):
        zoo.spec("efficientnet-lite0", "pypi_in1k", dialect="timm")
    with pytest.raises(
        zoo.ZooError, match="unknown tag of efficientnet-lite0 'in21k'; valid: pypi_in1k, tf_in1k, ra_in1k"
    ):
        zoo.spec("efficientnet-lite0", "in21k")


def test_filters():
    assert zoo.list_models("resnet-1?") == ["resnet-18"]
    assert zoo.list_models("LITE") == [f"efficientnet-lite{n}" for n in range(5)]
    assert zoo.list_models(family="ghostnet") == ["ghostnet-0.5x", "ghostnet-1.0x", "ghostnet-1.3x"]
    loadable = zoo.list_models(pretrained=True)
    assert {"efficientnet-b7", "efficientnet-lite4", "ghostnet-1.0x", "resnet-152", "mobilenet-v2-1.4x"} <= set(
        loadable
    )
    assert {"ghostnet-enlarged-600m", "ghostnet-0.5x", "resnet-20"} <= set(zoo.list_models(pretrained=False))
    assert len(loadable) + len(zoo.list_models(pretrained=False)) == len(registry.NAMES)
    small = zoo.list_models(max_macs=141_150_512)
    assert "ghostnet-1.0x" in small
    assert "ghostnet-1.0x" not in zoo.list_models(max_macs=141_150_511)
    assert zoo.list_models("nothing") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.spec("efficentnet-b0"), "unknown model 'efficentnet-b0'. Did you mean efficientnet-b0"),
        (lambda: zoo.spec("EfficientNet-B0"), "Did you mean efficientnet-b0"),
        (lambda: zoo.spec("zzz"), "`zoo list` shows all names"),
        (lambda: zoo.spec(50), "a model name is a string"),
        (lambda: zoo.spec("resnet-20-pool-4-3-4"), "add up to 10, not 4-3-4"),
        (lambda: zoo.spec("resnet-20-pool-10-0-0"), "each be at least 1"),
        (lambda: zoo.spec("resnet-20-pool-A-B-C"), "is a pattern; put numbers for the letters"),
        (lambda: zoo.spec("channel-bench-resnet-1234567"), "each digit must be 1, 2, 3 or 4, not 1234567"),
        (lambda: zoo.spec("resnet-20-pool-４-3-3"), "unknown model"),
        (lambda: zoo.list_models(family="ghost"), "unknown family 'ghost'.*Did you mean ghostnet"),
        (lambda: zoo.list_models(max_macs=-1), "max_macs must be a positive number"),
        (lambda: zoo.list_models(max_macs="600M"), "max_macs must be a positive number"),
    ],
)
def test_bad_names_and_filters(call, message):
    with pytest.raises(zoo.ZooError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_info_is_plain_data_with_claims_apart_from_measurements():
    import json

    info = zoo.info("ghostnet-enlarged-600m")
    assert json.loads(json.dumps(info)) == info
    (weights,) = info["weights"]
    assert {claim["value"] for claim in weights["claimed"]} == {80.9, 79.844}
    assert weights["measured"] == []
    assert "1.1 to 1.3 points below the abstract" in info["note"]
    pooled = zoo.info("resnet-20-pool-7-1-2")
    assert pooled["published"][0]["value"] == 92.01
    assert pooled["pattern"] == {"label": "resnet-20-pool-A-B-C", "members": 36}


def test_cite_has_bibtex_and_tables():
    text = zoo.cite("efficientnet-b0")
    assert "@inproceedings{tan2019efficientnet" in text
    assert "arXiv 1905.11946v5 Table 2" in text
    with pytest.raises(zoo.ZooError, match="unknown model"):
        zoo.cite("efficientnet-b9")
