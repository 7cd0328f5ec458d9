"""Networks with the widths that the BCNet authors' search found and released (Su et al. 2021, arXiv 2105.10533)."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling_rules.spec import Dialect, NetworkSpec
from scaling_rules.width import with_widths
from zoo.families import Group, Make, mobilenet, resnet, vgg

BASELINES = {name: group for module in (mobilenet, resnet, vgg) for group in module.GROUPS for name in group.models}

BUDGETS = {
    "resnet-50": ("resnet-50", ("3g", "2g", "1g", "575m")),
    "mobilenet-v2-1.0x": ("mobilenet-v2", ("217m", "150m", "105m", "50m")),
    "mobilenet-v2-cifar": ("mobilenet-v2-cifar", ("200m", "144m", "44m", "28m")),
    "vgg-19-cifar": ("vgg-19-cifar", ("197m", "185m", "139m", "77m")),
}
"""Baseline -> (prefix of the names, budgets). Kept here so that listing reads no data file."""


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "bcnet.json").read_text())


def _refined(name: str, baseline: str) -> Make:
    def make(dialect: Dialect) -> NetworkSpec:
        data = _data()
        entry = data["networks"][name]
        base = BASELINES[baseline].models[baseline](dialect)
        spec = with_widths(base, entry["widths"])
        note = f"The authors label this budget {entry['budget']!r}."
        return replace(spec, name=name, family=f"{base.family}-bcnet", source=data["source"], note=note)

    return make


def _group(baseline: str) -> Group:
    prefix, budgets = BUDGETS[baseline]
    names = [f"{prefix}-bcnet-{budget}" for budget in budgets]
    return Group({name: _refined(name, baseline) for name in names}, BASELINES[baseline].dialects)


GROUPS = tuple(_group(baseline) for baseline in BUDGETS)
