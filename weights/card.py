"""The model card of a published network, the README.md of its repository, from its config.json."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from scaling_rules.cost import cost, human
from scaling_rules.errors import ZooError
from scaling_rules.lower import lower, stage_of
from scaling_rules.shapes import shapes
from scaling_rules.spec import NetworkSpec
from weights.config import parse

LICENSES = """afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl
postgresql unknown unlicense wtfpl zlib"""
"""The hub's identifiers (huggingface/hub-docs, docs/hub/repositories-licenses.md), but for those of language models."""

TASK = "image-classification"
METRICS = {"top1": "top-1 accuracy (%)", "top5": "top-5 accuracy (%)"}
"""Metric of a record -> its name; the hub's type of both is 'accuracy'."""

NEEDED = {
    "license": "no licence; give one with --license, for instance --license Apache-2.0",
    "measured": "no measured result; measure one with python -m training.evaluate",
    "recipe": "no recipe; give the file that trained the weights with --recipe",
}


def missing(record: dict[str, Any]) -> list[str]:
    """What a record lacks to be published, each with how to give it; [] where nothing is missing."""
    return [advice for field, advice in NEEDED.items() if not _line(record.get(field) or "")]


def card(config: dict[str, Any], *, repo: str | None, bibtex: str, recipe: str) -> str:
    """The model card of a published network, as huggingface_hub writes and reads it.

    config: of the published config.json. repo: 'owner/name' on the hub, None where it has none. bibtex: the papers to
    cite. recipe: the text of the recipe's file. Raises ZooError for what `missing` finds in the record, for what is
    no config, and for a repo that the hub's client refuses.
    """
    from huggingface_hub import ModelCard

    spec, record, sha256 = parse(json.dumps(config, ensure_ascii=False))
    record = record or {}
    name = ".".join(filter(None, (_line(record.get("name")) or spec.name, _line(record.get("tag")))))
    lacks = missing({**record, "recipe": _line(recipe) and record.get("recipe")})
    if lacks:
        raise ZooError(f"cannot publish {name}: {'; '.join(lacks)}.")
    if repo is not None and not _hub_id(repo):
        raise ZooError(f"repo must be 'owner/name' as on huggingface.co, not {repo!r:.200}.")
    text = [f"---\n{_metadata(spec, record, name, repo)}\n---", f"# {_text(name)}"]
    text += _network(spec, record["classes"], f"hf://{repo}" if repo else "path/to/this/folder") + _history(record)
    text += ["## Recipe", f"The weights were trained by {_code(record['recipe'])}:", _fence(recipe, "yaml")]
    text += ["## Note", f"Note: {_text(record['note'])}"] if _line(record.get("note")) else []
    text += ["## Citation", _fence(bibtex, "bibtex") if _line(bibtex) else "No paper is recorded for this network."]
    text += ["## Integrity", f"SHA-256 of model.safetensors: {_code(sha256) or 'not recorded.'}"]
    return str(ModelCard("\n\n".join(text) + "\n"))


def _metadata(spec: NetworkSpec, record: dict[str, Any], name: str, repo: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in record["measured"]:
        groups.setdefault((_line(row["dataset"]), _line(row["split"])), []).append(row)
    results = []
    for (dataset, split), rows in groups.items():
        # The hub keeps one source for all metrics of a data set and split, and none without an address.
        more: dict[str, Any] = {"dataset_split": split}
        if repo:
            more["source_name"] = "; ".join(dict.fromkeys(_line(row["command"]) for row in rows))
            more["source_url"] = f"https://huggingface.co/{repo}"
        for row in rows:
            label = METRICS[row["metric"]]
            results.append(EvalResult(TASK, dataset, dataset, "accuracy", row["value"], metric_name=label, **more))
    licence = re.sub(r"[^a-z0-9.+]+", "-", _line(record["license"]).lower()).strip("-")
    known, base = licence in LICENSES.split(), _line(record.get("base")).removeprefix("hf://")
    return ModelCardData(
        license=licence if known else "other",
        license_name=None if known else licence or "unnamed",
        library_name="zoo",
        pipeline_tag=TASK,
        tags=["keras", _line(spec.family), "scaling"],
        datasets=[name for name in map(_line, record.get("datasets", [])) if _hub_id(name, "")] or None,
        metrics=["accuracy"],
        base_model=base if _hub_id(base) else None,
        model_name=name,
        eval_results=results,
    ).to_yaml()


def _network(spec: NetworkSpec, classes: Any, where: str) -> list[str]:
    total, (height, width, _) = cost(spec), spec.input
    names = f"`{classes}`" if isinstance(classes, str) else "named in config.json" if classes else "without names"
    return [
        f"An image classifier of the family {_code(spec.family)}: {human(total.macs)} multiply-adds (MACs) for a "
        f"picture of {height} x {width} pixels, {human(total.params)} parameters, {spec.classes:,} classes ({names}).",
        "## Use",
        f'```python\nimport zoo\n\nmodel = zoo.load("{where}")\n'
        'zoo.classify(model, "cat.jpg")  # the most probable classes\n'
        'zoo.preprocess("cat.jpg", model)  # the batch that the model takes\n```',
        "## Cost",
        _table("MACs> parameters> activations>", [[f"{n:,}" for n in (total.macs, total.params, total.activations)]]),
        "Activations are the output elements of all convolutions. By stage, with the size of its output:",
        _table("stage blocks> channels> stride> size> MACs> share> parameters>", _stages(spec)),
    ]


def _stages(spec: NetworkSpec) -> list[list[str]]:
    total, sizes = cost(spec), shapes(spec)
    last = {stage_of(op.path): sizes[op.path] for op in lower(spec)}
    stride = spec.stem.stride * (2 if spec.stem.pool else 1)
    facts = {"stem": ["", f"{spec.stem.out:,}", f"{stride}"]}
    for index, stage in enumerate(spec.stages, 1):
        stride *= math.prod(block.stride * (2 if block.pool else 1) for block in stage)
        facts[f"stage{index}"] = [f"{len(stage)}", f"{stage[-1].out:,}", f"{stride}"]
    facts["head"] = ["", f"{spec.classes or spec.head.hidden or spec.head.conv:,}", ""]
    for name, part in total.stages.items():
        costs = [f"{part.macs:,}", f"{part.macs / total.macs:.1%}", f"{part.params:,}"]
        facts[name] += [f"{last[name][0]} x {last[name][1]}", *costs]
    return [[name, *facts[name]] for name in total.stages]


def _history(record: dict[str, Any]) -> list[str]:
    entry = record["preprocessing"]
    size, crop, how = entry["resize"], entry["crop"], entry["interpolation"]
    fit = f"picture is squashed to {size} x {size}" if entry.get("mode") == "squash" else f"short side becomes {size}"
    mean, std = (f"({', '.join(map(str, entry[key]))})" for key in ("mean", "std"))
    data = [f"Data: {_text(record['data_note']) or 'no note was given.'}"]
    data += [f"Data sets: {', '.join(map(_code, record['datasets']))}."] if record.get("datasets") else []
    data += [f"Training started from {_code(record['base'])}."] if _line(record.get("base")) else []
    return [
        "## Results",
        "Measured: printed, with its interval, by the command, run on these weights; samples are the pictures counted.",
        _results("dataset split metric value> interval samples> date command", record["measured"]),
        "Claimed: stated by the source, perhaps for other weights of this network; not measured here.",
        _results("dataset metric value> resolution> source", record.get("claimed", [])),
        "## Preprocessing",
        f"The {fit} pixels ({how}), then the central {crop} x {crop} are kept, RGB in [0, 255], by `zoo.preprocess`. "
        f"{'It also' if record.get('normalized_input') else 'The model'} computes (pixel - {mean}) / {std}.",
        "## Training data and licence",
        " ".join(data),
        f"Licence of the weights: {_text(record['license'])}. The code that runs them, zoo, is Apache-2.0.",
    ]


def _results(columns: str, rows: list[dict[str, Any]]) -> str:
    show: dict[str, Any] = {"dataset": _code, "command": _code, "metric": METRICS.get}
    show["interval"] = lambda ends: " to ".join(map(str, ends or []))
    names = [name.strip(">") for name in columns.split()]
    return _table(columns, [[show.get(name, _text)(row.get(name)) for name in names] for row in rows])


def _table(columns: str, rows: list[list[str]]) -> str:
    """A Markdown table, 'none' without rows. A column named with > is aligned to the right."""
    names = columns.split()
    lines = [[name.strip(">") for name in names], ["--:" if name.endswith(">") else "---" for name in names]]
    lines += [[cell.replace("|", r"\|") or "-" for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else "none"


def _hub_id(name: str, needs: str = "/") -> bool:
    """Whether the hub's client takes `name` for a repository; 'name' without an owner too if it `needs` none."""
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return needs in name


def _line(value: Any) -> str:
    """A value as one line of printable text; '' for None."""
    return " ".join("".join(c if c.isprintable() else " " for c in str("" if value is None else value)).split())


def _text(value: Any) -> str:
    """One line that neither Markdown, HTML nor the hub's formulas change, inside a paragraph or a table."""
    return re.sub(r"[\\`*\[\]<>|~&$#]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"&#{ord(found[0])};", _line(value))


def _code(value: Any) -> str:
    text = _line(value)
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`" if text else ""


def _fence(text: str, language: str) -> str:
    block = "\n".join("".join(c if c == "\t" or c.isprintable() else " " for c in line) for line in text.splitlines())
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", block)), default=0))
    return f"{ticks}{language}\n{block.rstrip()}\n{ticks}"
