"""The papers to cite and the published results of the models, read from their files when asked for."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

PAPERS = (
    ("channel-bench-*", "su2022bcnetv2"),
    ("channel-bench-*", "channelbenchmacro"),
    ("ghostnet-enlarged-*", "liu2021greedy"),
    ("*-bcnet-*", "su2021bcnet"),
    ("resnet-*-pool-*", "roshtkhari2023balanced"),
    ("*-compound", "tan2019efficientnet"),
    ("*-d4", "tan2019efficientnet"),
    ("*-w2", "tan2019efficientnet"),
    ("*-r2", "tan2019efficientnet"),
    ("efficientnet-*", "tan2019efficientnet"),
    ("ghostnet-*", "han2020ghostnet"),
    ("mobilenet-v1-*", "howard2017mobilenets"),
    ("mobilenet-v2-*", "sandler2018mobilenetv2"),
    ("resnet-*", "he2016deep"),
    ("vgg-*", "simonyan2015very"),
)
"""Patterns of names and the paper each is to cite: papers of a method before those of the base networks."""


@lru_cache
def published() -> list[dict[str, Any]]:
    """Return all published results in the order of the file; `model` is None for a network that is not here."""
    text = Path(__file__).with_name("references.json").read_text(encoding="utf-8")
    return json.loads(text)["results"]


@lru_cache
def _entries() -> dict[str, str]:
    text = Path(__file__).with_name("references.bib").read_text(encoding="utf-8")
    return {entry[1]: entry[0] for entry in re.finditer(r"^@\w+\{(\w+),$.*?^\}$", text, re.MULTILINE | re.DOTALL)}


def results(name: str) -> list[dict[str, Any]]:
    """Return the published results of the model `name`, those printed in a paper of `references.bib` first.

    Each has label, dataset, metric, value (percent unless the metric says otherwise), params_m and macs_m
    (millions), resolution, source and paper, None for what the source does not state; some have std and note.
    """
    found = [dict(row) for row in published() if row["model"] == name]
    return sorted(found, key=lambda row: row["paper"] is None)


def papers(name: str) -> list[str]:
    """Return the keys in `references.bib` of the papers to cite for the model `name`."""
    return list(dict.fromkeys(key for pattern, key in PAPERS if fnmatchcase(name, pattern)))


def bibtex(name: str) -> str:
    """Return the BibTeX entries of the papers to cite for the model `name`, or '' when there is none."""
    return "\n\n".join(_entries()[key] for key in papers(name))


def cite(name: str) -> str:
    """Return how to cite the model `name`: BibTeX, then its published results, each with its source."""
    found = results(name)
    entries = bibtex(name) or f"No paper is recorded for {name}."
    if not found:
        return f"{entries}\n\nNo published result of {name} is recorded."
    title = f"Published results of {name}, as their sources state them (accuracies in percent):"
    return "\n".join([entries, "", title, *map(_line, found)])


def _line(row: dict[str, Any]) -> str:
    value = f"{row['value']} +- {row['std']}" if "std" in row else row["value"]
    facts = [row["label"]]
    for key, unit in (("resolution", " px"), ("params_m", "M parameters"), ("macs_m", "M MACs")):
        if row[key] is not None:
            facts.append(f"{row[key]:,}{unit}")
    note = f" ({row['note']})" if "note" in row else ""
    return f"- {row['dataset']} {row['metric']} {value}: {', '.join(facts)}; {row['source']}{note}"
