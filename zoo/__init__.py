"""A Keras 3 model zoo whose networks come out of scaling rules.

    model = zoo.load("efficientnet-lite0", pretrained=True)
    zoo.classify(model, "cat.jpg")

Importing this, and listing, loads neither NumPy, Keras nor TensorFlow: each name below is imported when used.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling_rules.errors import ZooError as ZooError
    from zoo.catalog import cite as cite
    from zoo.catalog import cost as cost
    from zoo.catalog import info as info
    from zoo.catalog import list_models as list_models
    from zoo.catalog import spec as spec
    from zoo.exporting import export as export
    from zoo.inspection import features as features
    from zoo.inspection import variables as variables
    from zoo.loading import build as build
    from zoo.loading import load as load
    from zoo.loading import load_weights as load_weights
    from zoo.loading import report as report
    from zoo.prediction import classify as classify
    from zoo.preprocessing import preprocess as preprocess
    from zoo.publishing import publish as publish
    from zoo.records import record_of as record_of
    from zoo.saving import save as save

__version__ = "0.1.0"

_API = {
    "ZooError": "scaling_rules.errors",
    "build": "zoo.loading",
    "cite": "zoo.catalog",
    "classify": "zoo.prediction",
    "cost": "zoo.catalog",
    "export": "zoo.exporting",
    "features": "zoo.inspection",
    "info": "zoo.catalog",
    "list_models": "zoo.catalog",
    "load": "zoo.loading",
    "preprocess": "zoo.preprocessing",
    "publish": "zoo.publishing",
    "record_of": "zoo.records",
    "save": "zoo.saving",
    "load_weights": "zoo.loading",
    "report": "zoo.loading",
    "spec": "zoo.catalog",
    "variables": "zoo.inspection",
}

__all__ = sorted(_API)


def _refuse_shadows() -> None:
    """Our other packages have common names: say so where a user's own module of that name hides one."""
    home = Path(__file__).parent.parent
    for name in ("scaling_rules", "weights", "training"):
        found = importlib.util.find_spec(name)
        if found is None:
            raise ImportError(f"zoo needs its package {name!r}, which is not installed beside it in {home}.")
        origin = Path(found.origin) if found.origin else None
        if origin is None or origin.parent.parent != home:
            where = origin or next(iter(found.submodule_search_locations or ()), "a namespace package")
            raise ImportError(
                f"zoo needs its own package {name!r}, but Python finds {where} first: rename that, "
                "or start Python from another folder."
            )


_refuse_shadows()


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_API[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
