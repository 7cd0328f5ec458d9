"""The tables of docs/performance.md, from benchmarks/runtime.json and precision.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).parent


def _read(name: str) -> dict[str, Any]:
    return json.loads((HERE.parent / "benchmarks" / name).read_text(encoding="utf-8"))


def table(head: str, rows: Iterable[Sequence[Any]]) -> str:
    """A table whose first line is `head`; columns after the first are numbers, but for those that begin with '<'."""
    columns = head.split("|")
    marks = ["---" if column.startswith("<") or not index else "---:" for index, column in enumerate(columns)]
    lines = [[column.removeprefix("<") for column in columns], marks, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _spread(row: dict[str, Any]) -> str:
    low, high = row["quartiles"]
    return f"{row['times']:.2f} ({low:.2f} to {high:.2f})"


COLUMNS = {
    "keras": "keras.applications `predict` (GhostNet: ours)",
    "keras, float32": "the same, ours at float32",
    "timm float32": "timm eager, float32",
    "timm bfloat16": "timm eager, bfloat16",
    "compile float32": "timm torch.compile, float32",
    "compile bfloat16": "timm torch.compile, bfloat16",
    "hand float32": "best file by hand, float32",
    "hand bfloat16": "best file by hand, bfloat16",
}


def _targets(found: dict[str, Any]) -> str:
    rows = []
    for name in ("efficientnet-b0", "ghostnet-1.0x", "resnet-50"):
        by = {(row["column"], row["batch"]): row for row in found[name]["targets"]}
        for column, label in COLUMNS.items():
            both = [by[column, batch] for batch in (16, 1) if (column, batch) in by]
            if not both:
                continue
            targets = [row["target"] for row in both]
            short = [row["times"] < row["target"] for row in both if row["target"] is not None]
            stated = " / ".join(f"{target:g}" for target in targets) if targets[0] is not None else ""
            verdict = " / ".join("short" if each else "met" for each in short)
            rows.append((name, label, *map(_spread, both), stated, verdict))
    return table("network|<ours is x as fast as|batch 16|batch 1|target|<", rows)


def _who(found: dict[str, Any]) -> str:
    rows = []
    for name in ("efficientnet-b0", "ghostnet-1.0x", "resnet-50"):
        results = found[name]["results"]
        for row in results:
            if row["batch"] == 16:
                one = next(each for each in results if (each["variant"], each["batch"]) == (row["variant"], 1))
                spent = " + ".join(f"{row['seconds'].get(phase, 0):.1f}" for phase in ("import", "build", "first"))
                rows.append(
                    (name, row["variant"], f"{row['ms']:.1f}", f"{one['ms']:.2f}", f"{row['peak_mb']:.0f}", spent)
                )
    return table("network|<who|ms, batch 16|ms, batch 1|peak MB, batch 16|import + build + first call, s", rows)


def _headline(found: dict[str, Any]) -> str:
    part = found["headline"]
    ms = {(row["name"], row["variant"]): row["ms"] for row in part["results"]}
    rows = [
        (
            pair["variant"],
            *(f"{ms[name, pair['variant']]:.1f}" for name in (pair["first"], pair["other"])),
            _spread(pair),
        )
        for pair in part["between"]
    ]
    return table("who|B1, 240 px, ms|ResNet-152, 224 px, ms|B1 is x as fast", rows)


def _training(found: dict[str, Any]) -> str:
    rows = [
        (row["name"], row["variant"], f"{row['ms']:.0f}", f"{16000 / row['ms']:.1f}", f"{row['peak_mb']:.0f}")
        for row in found["training"]["results"]
    ]
    return table("network|<who|ms a step of 16|pictures/s|peak MB", rows)


def _scale(part: dict[str, Any], what: str, key: str) -> str:
    labels = list(dict.fromkeys(row["variant"] for row in part["results"]))
    by = {(row["variant"], row[key], row["name"]): row for row in part["results"]}
    rows = []
    for value, name in dict.fromkeys((row[key], row["name"]) for row in part["results"]):
        first = name if key == "params" else value
        each = [by[label, value, name] for label in labels]
        rows.append((first, *(f"{row['ms']:.1f} ms, {row['peak_mb']:.0f} MB" for row in each)))
    return table("|".join([what, *(label.removeprefix("zoo ") for label in labels)]), rows)


def _one_picture(found: dict[str, Any]) -> str:
    seconds = found["one picture"]["seconds"]
    plain = seconds["plain Keras"]
    rows = []
    for name, own in seconds.items():
        low, middle, high = quantiles([b / a for a, b in zip(own, plain, strict=True)], n=4, method="inclusive")
        rows.append((name, f"{median(own):.2f}", f"{middle:.1f} ({low:.1f} to {high:.1f})"))
    return table("engine|s, start of Python included|x as fast", rows)


def _folder(found: dict[str, Any]) -> str:
    rows = [
        (f"{row['pictures']:,}", row["engine"], f"{row['seconds']:.1f}", f"{row['pictures'] / row['seconds']:.0f}",
         f"{row['peak_mb']:.0f}")
        for row in found["folder"]["rows"]
    ]  # fmt: skip
    return table("pictures|<engine|s|pictures/s|peak MB", rows)


def _precision() -> str:
    rows = []
    for row in _read("precision.json")["rows"]:
        times = [f"{row[f'times_{batch}'][0]:.2f}" for batch in (1, 16)]
        accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['standard_error']:.1f}"
        same = f"{100 * row['same_first']:.1f}"
        rows.append((row["engine"], row["weights"], row["other layers"], accuracy, same, *times))
    head = "engine|<weights|<computed in|accuracy, %|same first class, %|x as fast, batch 1|x, batch 16"
    return table(head, rows)


def _ablation() -> str:
    rows = [
        (
            row["depthwise"],
            row["overflow fix"],
            *(f"{100 * row[key]:.2f}" for key in ("error", "same_first", "accuracy")),
        )
        for row in _read("precision.json")["ablation"]
    ]
    return table("depthwise in|<overflow fix|mean error, % of the largest logit|same first class, %|accuracy, %", rows)


def _forms() -> str:
    found = _read("graph_forms.json")["rows"]
    by = {(row["form"], row["engine"]): row for row in found}
    engines = list(dict.fromkeys(row["engine"] for row in found))
    rows = [
        (form, *(_spread(by[form, engine]) for engine in engines))
        for form in dict.fromkeys(row["form"] for row in found)
    ]
    return table("|".join(["EfficientNet-B0", *engines]), rows)


def _profile() -> str:
    rows = _read("profile.json")["rows"]
    body = [
        (row["name"], {"f32": "float32", "bf16": "bfloat16"}[row["precision"]], row["batch"],
         *(f"{100 * share:.0f} %" for share in row["shares"].values()))
        for row in rows
    ]  # fmt: skip
    return table("|".join(["network", "<precision", "batch", *rows[0]["shares"]]), body)


def performance() -> str:
    """docs/performance.md with each of its tables written anew."""
    found = _read("runtime.json")
    where = found["resnet-50"]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    has = ", ".join(where["features"])
    tables = {
        "machine": f"{where['processor']}, {where['cores']} logical processors ({has}), {where['memory_gb']} GB; "
        f"{where['system']}; {versions}; {where['date']}.",
        "targets": _targets(found),
        "who": _who(found),
        "headline": _headline(found),
        "training": _training(found),
        "batches": _scale(found["batches"], "batch", "batch"),
        "resolutions": _scale(found["resolutions"], "px", "size"),
        "widths": _scale(found["widths"], "network", "params"),
        "one picture": _one_picture(found),
        "folder": _folder(found),
        "precision": _precision(),
        "ablation": _ablation(),
        "forms": _forms(),
        "profile": _profile(),
    }
    return written("performance.md", tables)


def written(page: str, tables: dict[str, str]) -> str:
    """The text of a page with its tables between their marks; the words around them are written by hand."""
    text = (HERE / page).read_text(encoding="utf-8")
    for name, rows in tables.items():
        begin, end = f"<!-- {name}: written by docs/generate.py -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{rows}\n\n{end}{rest.partition(end)[2]}"
    return text
