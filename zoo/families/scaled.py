"""The rows of EfficientNet's Tables 3 and 7: other baselines, and B0, scaled in one dimension or by the rule."""

from __future__ import annotations

from dataclasses import replace

from scaling_rules import compound
from scaling_rules.spec import Dialect, NetworkSpec
from zoo.families import Group, Make, efficientnet, mobilenet, resnet

BASELINES: dict[str, tuple[Make, dict[str, Dialect]]] = {
    "mobilenet-v1-1.0x": (mobilenet.MODELS["mobilenet-v1-1.0x"], mobilenet.DIALECTS),
    "mobilenet-v2-1.0x": (mobilenet.MODELS["mobilenet-v2-1.0x"], mobilenet.DIALECTS),
    "resnet-50": (resnet.MODELS["resnet-50"], resnet.DIALECTS),
    "efficientnet-b0": (efficientnet.MODELS["efficientnet-b0"], efficientnet.DIALECTS),
}

DIMENSIONS = {"d4": (4, 1, 1), "w2": (1, 2, 1), "r2": (1, 1, 2)}
"""Factors of depth, width and resolution."""

COMPOUND = {
    # the paper prints coefficients for these two only: depth 1.4, width 1.2, resolution 1.3
    "mobilenet-v1-compound": "mobilenet-v1-1.0x",
    "efficientnet-b0-compound": "efficientnet-b0",
}

NOTE = (
    "Tables 3 and 7 print MACs to one decimal: docs/compound.md puts the count of this network beside them. "
    "Resolution factors are rounded to whole pixels."
)


def _scaled(name: str, baseline: str, depth: float, width: float, resolution: float) -> Make:
    def make(dialect: Dialect) -> NetworkSpec:
        spec = BASELINES[baseline][0](dialect)
        large = compound.scale(spec, depth, width, round(spec.input[0] * resolution))
        source = f"arXiv 1905.11946 Tables 3 and 7, applied to {baseline}: {spec.source}"
        return replace(large, name=name, family=f"{spec.family}-scaled", source=source, note=NOTE)

    return make


def _group(baseline: str) -> Group:
    models = {
        f"{baseline}-{dimension}": _scaled(f"{baseline}-{dimension}", baseline, *factors)
        for dimension, factors in DIMENSIONS.items()
    }
    for name, compound_baseline in COMPOUND.items():
        if compound_baseline == baseline:
            models[name] = _scaled(name, baseline, 1.4, 1.2, 1.3)
    return Group(models, BASELINES[baseline][1])


GROUPS = tuple(_group(baseline) for baseline in BASELINES)
