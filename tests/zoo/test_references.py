"""The published results are well formed, say what the papers say, and contain nothing quoted from memory."""

import collections
import json
import re
from pathlib import Path

import pytest

from zoo import references, registry

HERE = Path(references.__file__).parent

FILE = json.loads((HERE / "references.json").read_text(encoding="utf-8"))
ROWS = FILE["results"]
BIB = (HERE / "references.bib").read_text(encoding="utf-8")

NUMBER = (int, float)
FIELDS = {
    "model": (str, type(None)),
    "label": str,
    "dataset": str,
    "metric": str,
    "value": NUMBER,
    "params_m": (*NUMBER, type(None)),
    "macs_m": (*NUMBER, type(None)),
    "resolution": (int, type(None)),
    "source": str,
    "paper": (str, type(None)),
}
EXTRA = {"std": NUMBER, "note": str}


def values(name, dataset="imagenet1k-val", metric="top1", source=""):
    return [
        row["value"]
        for row in references.results(name)
        if (row["dataset"], row["metric"]) == (dataset, metric) and source in row["source"]
    ]


def test_every_row_has_the_fields_and_nothing_else():
    for row in ROWS:
        assert list(row)[: len(FIELDS)] == list(FIELDS), row
        assert set(row) <= {*FIELDS, *EXTRA}, row
        for field, value in row.items():
            assert isinstance(value, {**FIELDS, **EXTRA}[field]), (field, row)
            assert not isinstance(value, bool), (field, row)
        assert row["label"], row
        assert row["source"], row
        assert re.fullmatch(r"top[15](-[a-z0-9-]+)?|cpu-latency-s-[a-z0-9-]+", row["metric"]), row
        assert row["metric"].startswith("cpu-latency") or 50 < row["value"] < 100, row


def test_models_have_the_names_of_the_zoo():
    for name in {row["model"] for row in ROWS} - {None}:
        assert registry.dialects(name), name


def test_the_file_has_one_result_a_line():
    text = (HERE / "references.json").read_text(encoding="utf-8")
    lines = [line.rstrip(",") for line in text.splitlines() if line.startswith("{") and line != "{"]
    assert [json.loads(line) for line in lines] == ROWS


def test_no_row_is_quoted_from_memory():
    for row in ROWS:
        assert "recalled" not in json.dumps(row).lower(), row
    assert "recalled" not in BIB.lower()


def test_no_row_is_there_twice():
    repeated = [row for row, count in collections.Counter(json.dumps(row) for row in ROWS).items() if count > 1]
    assert repeated == []


def test_bibtex_braces_balance_and_keys_are_unique():
    depth = 0
    for character in BIB:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    keys = re.findall(r"^@\w+\{([^,]+),", BIB, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert sorted(keys) == sorted(references._entries())


def test_every_paper_is_in_the_bibliography():
    cited = {row["paper"] for row in ROWS} - {None} | {key for _, key in references.PAPERS}
    assert cited == set(references._entries())


@pytest.mark.parametrize(
    ("name", "dataset", "metric", "source", "expected"),
    [
        ("efficientnet-b0", "imagenet1k-val", "top1", "1905.11946v5 Table 2", [77.1]),
        ("efficientnet-b0", "imagenet1k-val", "top5", "1905.11946v5 Table 2", [93.3]),
        ("efficientnet-b0", "imagenet1k-val", "top1", "2105.10533", [76.88]),
        ("efficientnet-b7", "imagenet1k-val", "top1", "1905.11946v5 Table 2", [84.3]),
        ("efficientnet-b7", "flowers102", "top1-transfer", "1905.11946v5 Table 5", [98.8]),
        ("efficientnet-b0-compound", "imagenet1k-val", "top1", "Table 7", [81.1]),
        ("efficientnet-lite4", "imagenet1k-val", "top1", "lite/README.md", [81.5, 80.2]),
        ("mobilenet-v1-compound", "imagenet1k-val", "top1", "Table 3", [75.6]),
        ("mobilenet-v2-1.0x-d4", "imagenet1k-val", "top1", "Table 3", [76.8]),
        ("ghostnet-1.0x", "imagenet1k-val", "top1", "1911.11907", [73.9]),
        ("ghostnet-enlarged-600m", "imagenet1k-val", "top1", "", [80.9, 79.844]),
        ("ghostnet-enlarged-4.4b", "imagenet1k-val", "top1", "", [84.3, 83.024]),
        ("resnet-50", "imagenet1k-val", "top1", "1905.11946v5 Table 2", [76.0]),
        ("resnet-20-pool-7-1-2", "cifar10", "top1", "", [92.01]),
        ("resnet-20-pool-5-2-3", "cifar10", "top1-in-mixture-m4", "", [84.83]),
        ("resnet-50-pool-8-3-3-2", "food101", "top1", "", [84.35]),
        ("channel-bench-mobilenet-4444342", "cifar10", "top1", "", [91.887]),
        ("channel-bench-resnet-4444444", "cifar10", "top1", "", [93.617]),
    ],
)
def test_values_of_the_papers(name, dataset, metric, source, expected):
    assert values(name, dataset, metric, source) == expected


def test_all_transfer_results_of_efficientnet_are_mapped():
    rows = [row for row in ROWS if row["metric"] == "top1-transfer" and row["label"].startswith("EfficientNet")]
    assert len(rows) == 16
    assert len({row["dataset"] for row in rows}) == 8
    assert all(row["model"] == row["label"].lower() for row in rows)


def test_all_36_pooling_configurations_of_resnet_20_are_there():
    rows = [row for row in ROWS if (row["model"] or "").startswith("resnet-20-pool-")]
    lengths = {row["model"]: tuple(map(int, row["model"].split("-")[3:])) for row in rows}
    assert len(set(lengths.values())) == 36
    assert all(sum(stages) == 10 for stages in lengths.values())
    metrics = ["top1", *(f"top1-in-mixture-m{count}" for count in (1, 2, 4, 8))]
    for name in lengths:
        assert [row["metric"] for row in rows if row["model"] == name] == metrics
    assert all(row["std"] > 0 for row in rows)
    assert sum(row["label"].endswith(f"(configuration {n})") for n in range(1, 37) for row in rows) == len(rows)


@pytest.mark.parametrize(
    "label",
    [
        "ResNet-50 (keras.applications)",
        "ResNet-50V2 (keras.applications)",
        "MobileNetV2 compound",
        "ResNet-50 compound",
        "timm/mobilenetv2_110d.ra_in1k",
        "Ghost-ResNet-50 (s=2)",
        "EfficientNet-B0 refined by BCNet",
        "ResNet-50 [6,4,5,1] (best of M=1)",
    ],
)
def test_other_architectures_are_not_mapped(label):
    assert {row["model"] for row in ROWS if row["label"] == label} == {None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet-b3", ["tan2019efficientnet"]),
        ("efficientnet-lite0", ["tan2019efficientnet"]),
        ("efficientnet-b0-compound", ["tan2019efficientnet"]),
        ("efficientnet-b0-r2", ["tan2019efficientnet"]),
        ("ghostnet-1.3x", ["han2020ghostnet"]),
        ("ghostnet-enlarged-4.4b", ["liu2021greedy", "han2020ghostnet"]),
        ("resnet-50", ["he2016deep"]),
        ("resnet-110", ["he2016deep"]),
        ("resnet-50-d4", ["tan2019efficientnet", "he2016deep"]),
        ("resnet-20-pool-7-1-2", ["roshtkhari2023balanced", "he2016deep"]),
        ("resnet-50-bcnet-2g", ["su2021bcnet", "he2016deep"]),
        ("mobilenet-v1-0.25x", ["howard2017mobilenets"]),
        ("mobilenet-v1-compound", ["tan2019efficientnet", "howard2017mobilenets"]),
        ("mobilenet-v2-1.0x-w2", ["tan2019efficientnet", "sandler2018mobilenetv2"]),
        ("mobilenet-v2-bcnet-150m", ["su2021bcnet", "sandler2018mobilenetv2"]),
        ("mobilenet-v2-cifar", ["sandler2018mobilenetv2"]),
        ("mobilenet-v2-cifar-bcnet-44m", ["su2021bcnet", "sandler2018mobilenetv2"]),
        ("vgg-19-cifar", ["simonyan2015very"]),
        ("vgg-19-cifar-bcnet-77m", ["su2021bcnet", "simonyan2015very"]),
        ("channel-bench-mobilenet-4444444", ["su2022bcnetv2", "channelbenchmacro"]),
        ("channel-bench-resnet-1111111", ["su2022bcnetv2", "channelbenchmacro"]),
        ("my-own-network", []),
    ],
)
def test_papers_of_each_kind_of_name(name, expected):
    assert references.papers(name) == expected


def test_bibtex_is_the_text_of_the_file():
    text = references.bibtex("ghostnet-enlarged-600m")
    first, second = text.split("\n\n")
    assert first.startswith("@article{liu2021greedy,")
    assert second.startswith("@inproceedings{han2020ghostnet,")
    assert first + "\n" in BIB
    assert second + "\n" in BIB


def test_results_of_papers_come_first():
    from_paper = [row["paper"] is not None for row in references.results("efficientnet-b0")]
    assert from_paper == sorted(from_paper, reverse=True)
    assert references.results("efficientnet-b0")[0]["source"] == "arXiv 1905.11946v5 Table 2"


def test_a_caller_cannot_change_the_results():
    references.results("resnet-50")[0]["value"] = 0
    assert references.results("resnet-50")[0]["value"] == 76.0


def test_cite_names_the_source_of_every_result():
    text = references.cite("efficientnet-b0")
    assert text.startswith("@inproceedings{tan2019efficientnet,")
    facts = "EfficientNet-B0, 224 px, 5.3M parameters, 390M MACs"
    assert f"- imagenet1k-val top1 77.1: {facts}; arXiv 1905.11946v5 Table 2" in text.splitlines()
    results = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(results) == len(references.results("efficientnet-b0"))
    assert "92.01 +- 0.18: ResNet-20 [7,1,2]" in references.cite("resnet-20-pool-7-1-2")


def test_cite_says_when_there_is_no_result_and_no_paper():
    text = references.cite("mobilenet-v2-bcnet-150m")
    assert "@inproceedings{su2021bcnet," in text
    assert text.endswith("No published result of mobilenet-v2-bcnet-150m is recorded.")
    assert references.cite("my-own-network").startswith("No paper is recorded for my-own-network.")


def test_the_file_agrees_with_the_reference_notes(shared):
    import yaml

    entries = yaml.safe_load((shared / "reference/published_results.yaml").read_text(encoding="utf-8"))

    def key(row, label):
        return (
            *(row[label], row["dataset"], row["metric"].replace("_", "-"), row["source"]),
            *(row["value"], row["params_m"], row["macs_m"], row["resolution"]),
        )

    here = collections.Counter(key(row, "label") for row in ROWS)
    recalled = [e for e in entries if e["confidence"] == "recalled" or "recalled" in e["source"]]
    read = [e for e in entries if e not in recalled]
    assert collections.Counter(key(e, "model") for e in read) <= here
    assert {(e["model"], e["source"]) for e in recalled}.isdisjoint((r["label"], r["source"]) for r in ROWS)
    assert {e["model"] for e in recalled}.isdisjoint({row["label"] for row in ROWS} - {e["model"] for e in read})
    assert any(note.startswith(f"{len(recalled)} further results") for note in FILE["note"])
