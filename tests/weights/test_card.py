"""The model card: the hub's own parser reads it, its numbers are the spec's, and no text of a config breaks it."""

import copy
import dataclasses
import json
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import zoo
from scaling_rules.cost import human
from scaling_rules.errors import ZooError
from weights import card as cards
from weights import config as configs
from zoo import references

SECTIONS = [
    *("Use", "Cost", "Results", "Preprocessing", "Training data and licence", "Recipe", "Note", "Citation"),
    "Integrity",
]
TOP1 = {
    "dataset": "oxford_flowers102",
    "split": "test",
    "metric": "top1",
    "value": 97.1,
    "interval": [96.6, 97.5],
    "samples": 6149,
    "command": "python -m training.evaluate mine | tee log",
    "date": "2026-11-23",
}
CLAIM = {"dataset": "imagenet1k-val", "metric": "top1", "value": 77.3, "resolution": 224, "source": "README, Table 2"}
RECIPE = "# SGD\nbatch: 1024\n"


def published(model="efficientnet-b0", outputs=102, **changes):
    spec = dataclasses.replace(zoo.spec(model), classes=outputs)
    record = {
        "name": model,
        "tag": "flowers",
        "license": "Apache-2.0",
        "data_note": "Trained on Oxford Flowers.",
        "preprocessing": {
            "resize": 256,
            "crop": 224,
            "interpolation": "bicubic",
            "mean": list(spec.mean),
            "std": list(spec.std),
        },
        "classes": [f"flower{'s' * n}" for n in range(outputs)],
        "params": zoo.cost(spec).params,
        "macs": zoo.cost(spec).macs,
        "claimed": [CLAIM],
        "measured": [TOP1],
        "recipe": "recipe.yaml",
        "base": f"{model}.keras_in1k",
        "note": "Only a test.",
        "datasets": ["owner/flowers", "no hub id"],
    } | changes
    spec = dataclasses.asdict(spec)
    return copy.deepcopy({"format": "zoo-1", "spec": spec, "record": record, "sha256": "ab" * 32})


def make(config, repo="owner/name", bibtex="@misc{key}", recipe=RECIPE):
    return cards.card(config, repo=repo, bibtex=bibtex, recipe=recipe)


def front(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text[4:].split("\n---\n")[0])


def tokens(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(ModelCard(text).text)


def tables(text):
    """Rows of each table, a cell as (text, the types of its inline tokens)."""
    found, cell = [], False
    for token in tokens(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            cell = True
        elif cell and token.type == "inline":
            found[-1][-1].append(plain(token))
            cell = False
    return found


def plain(inline):
    assert {token.type for token in inline.children} <= {"text", "text_special", "code_inline"}, inline.content
    return "".join(token.content for token in inline.children)


def test_the_hubs_parser_gives_back_what_was_measured_and_nothing_claimed():
    top5 = TOP1 | {"metric": "top5", "value": 99.4, "command": "another"}
    other = TOP1 | {"dataset": "food101", "value": 5}
    text = make(published(measured=[TOP1, other, top5]))
    parsed = ModelCard(text)
    assert str(parsed) == text
    common = {"task_type": "image-classification", "dataset_split": "test", "metric_type": "accuracy"}
    common["source_url"] = "https://huggingface.co/owner/name"
    flowers = {"dataset_type": "oxford_flowers102", "dataset_name": "oxford_flowers102"}
    flowers["source_name"] = f"{TOP1['command']}; another"
    food = {"dataset_type": "food101", "dataset_name": "food101", "source_name": TOP1["command"]}
    assert parsed.data.eval_results == [
        EvalResult(**common, **flowers, metric_value=97.1, metric_name="top-1 accuracy (%)"),
        EvalResult(**common, **flowers, metric_value=99.4, metric_name="top-5 accuracy (%)"),
        EvalResult(**common, **food, metric_value=5, metric_name="top-1 accuracy (%)"),
    ]
    assert parsed.data.model_name == "efficientnet-b0.flowers"
    index = front(text).pop("model-index")
    assert "77.3" not in json.dumps(index)
    assert {k: v for k, v in front(text).items() if k != "model-index"} == {
        "datasets": ["owner/flowers"],
        "library_name": "zoo",
        "license": "apache-2.0",
        "metrics": ["accuracy"],
        "pipeline_tag": "image-classification",
        "tags": ["keras", "efficientnet", "scaling"],
    }


def test_without_a_repository_there_is_no_source():
    text = make(published(), repo=None)
    assert "source" not in front(text)["model-index"][0]["results"][0]
    assert 'zoo.load("path/to/this/folder")' in text
    assert 'zoo.load("hf://owner/name")' in make(published())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("CC-BY-NC-4.0", {"license": "cc-by-nc-4.0"}),
        ("Apache 2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-or-later", {"license": "other", "license_name": "gpl-3.0-or-later"}),
        ("C", {"license": "other", "license_name": "c"}),
        ("My own: ask me", {"license": "other", "license_name": "my-own-ask-me"}),
    ],
)
def test_licence(given, expected):
    text = make(published(license=given))
    assert {k: v for k, v in front(text).items() if k.startswith("license")} == expected
    assert f"Licence of the weights: {given}." in text


def test_base_model_is_named_only_if_it_is_on_the_hub():
    assert "base_model" not in front(make(published()))
    assert "base_model" not in front(make(published(base=None)))
    for base in ("timm/resnet18.a1_in1k", "hf://timm/resnet18.a1_in1k"):
        assert front(make(published(base=base)))["base_model"] == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize("name", ["efficientnet-b0", "ghostnet-enlarged-600m", "resnet-50", "resnet-20-pool-7-1-2"])
def test_tables_hold_the_costs_of_the_spec(name):
    config = published(name)
    spec = configs.parse(json.dumps(config)).spec
    cost = zoo.cost(spec)
    total, stages, measured, claimed = tables(make(config))
    assert total[1] == [f"{n:,}" for n in (cost.macs, cost.params, cost.activations)]
    rows = {row[0]: dict(zip(stages[0], row, strict=True)) for row in stages[1:]}
    assert list(rows) == list(cost.stages)
    for stage, part in cost.stages.items():
        assert int(rows[stage]["MACs"].replace(",", "")) == part.macs
        assert int(rows[stage]["parameters"].replace(",", "")) == part.params
    assert sum(float(row["share"].strip("%")) for row in rows.values()) == pytest.approx(100, abs=0.5)
    assert measured[1] == [
        *("oxford_flowers102", "test", "top-1 accuracy (%)", "97.1", "96.6 to 97.5", "6149", "2026-11-23"),
        TOP1["command"],
    ]
    assert claimed[1] == ["imagenet1k-val", "top-1 accuracy (%)", "77.3", "224", "README, Table 2"]


def test_stages_are_those_of_the_efficientnet_papers_table_1():
    _, stages, *_ = tables(make(published(outputs=1000, classes="imagenet-1k")))
    assert [row[1:5] for row in stages[1:]] == [
        ["-", "32", "2", "112 x 112"],
        ["1", "16", "2", "112 x 112"],
        ["2", "24", "4", "56 x 56"],
        ["2", "40", "8", "28 x 28"],
        ["3", "80", "16", "14 x 14"],
        ["3", "112", "16", "14 x 14"],
        ["4", "192", "32", "7 x 7"],
        ["1", "320", "32", "7 x 7"],
        ["-", "1,000", "-", "1 x 1"],
    ]


def test_every_number_is_the_configs_or_the_specs():
    config = published("ghostnet-enlarged-600m")
    spec = configs.parse(json.dumps(config)).spec
    cost = zoo.cost(spec)
    known = json.dumps({k: config[k] for k in ("record", "sha256")}) + make(config).split("\n---\n")[0]
    known += f" {spec.input} {spec.classes} {human(cost.macs)} {human(cost.params)} {cost} {RECIPE}"
    known += " ".join(f"{part.macs / cost.macs:.1%}" for part in cost.stages.values())
    known += " 255 SHA-256 Apache-2.0 top-1"  # in the text of every card
    known += " ".join(f"{len(stage)} {stage[-1].out}" for stage in spec.stages) + f" {spec.stem.out} "
    known += "2 4 8 16 32 120 60 30 15 8 1 0"  # strides and sizes of maps at 240 x 240 pixels
    numbers = set(re.findall(r"\d+(?:\.\d+)?", known))
    body = re.sub(r"(?<=\d),(?=\d{3})", "", ModelCard(make(config)).text)
    assert set(re.findall(r"\d+(?:\.\d+)?", body)) <= numbers


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ({}, "The short side becomes 256 pixels (bicubic), then the central 224 x 224 are kept"),
        ({"mode": "crop"}, "The short side becomes 256 pixels"),
        ({"mode": "squash"}, "The picture is squashed to 256 x 256 pixels"),
    ],
)
def test_preprocessing(preprocessing, expected):
    config = published()
    config["record"]["preprocessing"] |= preprocessing
    assert expected in make(config)
    assert "The model computes (pixel - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)." in make(config)
    config["record"]["normalized_input"] = True
    assert "It also computes" in make(config)


def test_what_is_empty_says_so():
    bare = published(claimed=[], data_note=None, base=None, datasets=[], note="", classes=None)
    del bare["sha256"]
    text = make(bare, bibtex="")
    assert "not measured here.\n\nnone\n" in text
    assert "No paper is recorded" in text
    assert "## Note" not in text
    assert "(without names)" in text
    assert "1,000 classes (`imagenet-1k`)" in make(published(outputs=1000, classes="imagenet-1k"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"license": None}, ["no licence"]),
        ({"license": " \u2028"}, ["no licence"]),
        ({"measured": []}, ["no measured result"]),
        ({"recipe": None}, ["no recipe"]),
        ({"license": None, "measured": [], "recipe": None}, ["no licence", "no measured result", "no recipe"]),
        ({}, []),
    ],
)
def test_missing(changes, named):
    config = published() | {"record": published()["record"] | changes}
    found = cards.missing(config["record"])
    assert [text.split(";")[0] for text in found] == named
    if named:
        with pytest.raises(ZooError, match=rf"^cannot publish efficientnet-b0\.flowers: {'.*'.join(named)}; .*\.$"):
            make(config)


def test_refusals():
    for field in ("license", "measured", "recipe"):
        config = published()
        del config["record"][field]
        if field == "license":
            with pytest.raises(ZooError, match="license"):
                make(config)
        else:
            with pytest.raises(ZooError, match="cannot publish"):
                make(config)
    with pytest.raises(ZooError, match="no recipe"):
        make(published(), recipe=" \n")
    with pytest.raises(ZooError, match="no licence"):
        make(published() | {"record": None})
    with pytest.raises(ZooError, match="value"):
        make(published(measured=[TOP1 | {"value": "97.1"}]))
    with pytest.raises(ZooError, match="NaN"):
        make(published(measured=[TOP1 | {"value": float("nan")}]))
    for repo in ("name", "", "a/b/c", "owner/na--me", 'owner/"', "owner/name\n"):
        with pytest.raises(ZooError, match="repo must be"):
            make(published(), repo=repo)


def test_the_metrics_are_those_of_the_schema():
    for kind in ("measured", "claimed"):
        row = configs._validator("record").schema["$defs"][kind]["items"]
        assert row["properties"]["metric"]["enum"] == list(cards.METRICS)


def test_importing_it_is_cheap():
    code = "import weights.card, sys; print({'huggingface_hub', 'numpy', 'keras', 'yaml'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_bibtex_of_the_references_is_whole():
    bibtex = references.bibtex("ghostnet-enlarged-600m")
    fence = [token for token in tokens(make(published(), bibtex=bibtex)) if token.info == "bibtex"]
    assert [token.content for token in fence] == [bibtex + "\n"]


PIECES = ["|", "\\", "`", "```", "~~~", "---", "\n", "\r\n", "\n---\n", "\n# x\n", "\n| a | b |\n", "*", "_", "[x](y)"]
PIECES += [
    "![x](y)",
    "<b>",
    "<!--",
    "&amp;",
    "$$x$$",
    "\\(",
    "http://x.y/",
    ": ",
    "- ",
    "!!python/object:os.x",
    "%",
    "{0}",
]
PIECES += [
    "'",
    '"',
    "\t",
    "\0",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\U0001f600",
    "é",
    "null",
    "1",
    "a",
    " ",
]
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1, max_size=12).map("".join).filter(bool)


EVERYTHING = (
    "# a|b\\|c `d` ``e`` _f_ *g* <b>h</b> [i](j) $$k$$ \\(l\\) ~~m~~ &amp;\n---\n\n# n\n\n| o |\n\n````\n<!-- \u202e #"
)


def squashed(text):
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@settings(max_examples=100, deadline=None)
@example([EVERYTHING] * 18, EVERYTHING, EVERYTHING)
@given(st.lists(HOSTILE, min_size=18, max_size=18), HOSTILE, HOSTILE)
def test_no_text_breaks_the_card(texts, bibtex, recipe):
    # what the schema lets through: no control signs in names, line breaks in notes
    name, tag, licence, _, _, base, file, family, label, *rest = (
        re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", t) for t in texts
    )
    note, data = (re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", text) for text in texts[3:5])
    row = TOP1 | dict(zip(("dataset", "split", "command"), rest[:3], strict=True))
    other = TOP1 | dict(zip(("dataset", "split", "command"), rest[3:6], strict=True))
    claim = CLAIM | dict(zip(("dataset", "source"), rest[6:8], strict=True))
    changes = {"name": name, "tag": tag, "license": licence + "x", "note": note, "data_note": data, "base": base}
    changes |= {"recipe": file + "x", "measured": [row, other], "claimed": [claim], "datasets": [rest[8]]}
    config = published("resnet-20-pool-7-1-2", 2, classes=[label, "b"], **changes)
    config["spec"]["family"] = family
    text = make(config, bibtex=bibtex, recipe="x" + recipe)

    assert ModelCard(text.encode().decode()).content == text
    meta = front(text)
    assert {*meta} <= {
        *("base_model", "datasets", "library_name", "license", "license_name", "metrics", "model-index"),
        *("pipeline_tag", "tags"),
    }
    assert meta["license"] in [*cards.LICENSES.split(), "other"]
    results = ModelCard(text).data.eval_results
    assert [(r.dataset_name, r.dataset_split, r.metric_value) for r in results] == [
        (squashed(r["dataset"]), squashed(r["split"]), r["value"]) for r in (row, other)
    ]

    found = tokens(text)
    headings = [found[i + 1] for i, token in enumerate(found) if token.type == "heading_open"]
    titles = [plain(heading) for heading in headings]
    # Without a name the spec's stands; a title's own escapes are undone by the parser.
    assert titles[0] == ".".join(filter(None, (squashed(name) or config["spec"]["name"], squashed(tag))))
    assert titles[1:] == [title for title in SECTIONS if title != "Note" or squashed(note)]
    assert {token.type for token in found} <= {
        *("heading_open", "heading_close", "inline", "paragraph_open", "paragraph_close", "fence"),
        *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")),
    }
    # The hub sets formulas before it parses Markdown.
    bare = [t.content for t in found if t.type == "inline" and not any(c.type == "code_inline" for c in t.children)]
    assert not any("$" in content or "\\" in content for content in bare)
    paragraphs = [plain(token) for token in found if token.type == "inline"]
    assert (
        f"Licence of the weights: {squashed(licence + 'x')}. The code that runs them, zoo, is Apache-2.0." in paragraphs
    )
    _, _, measured, claimed = tables(text)
    for line, stated in zip(measured[1:], (row, other), strict=True):
        assert [line[0], line[1], line[7]] == [squashed(stated[k]) or "-" for k in ("dataset", "split", "command")]
    assert [claimed[1][0], claimed[1][4]] == [squashed(claim[k]) or "-" for k in ("dataset", "source")]
    assert {len(line) for line in measured} == {8}
    assert {len(line) for line in claimed} == {5}
    fences = [token for token in found if token.type == "fence"]
    assert [token.info for token in fences] == ["python", "yaml", *(["bibtex"] if squashed(bibtex) else [])]
    assert squashed(fences[1].content) == squashed("x" + recipe)
