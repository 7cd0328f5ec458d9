"""Scorers: how good a network would be, by a short training or by a table of what others trained.

A scorer is what `scaling_rules.search.scoring` takes: (spec, seed) -> accuracy in percent, with its `settings`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError, shown, unknown
from scaling_rules.search.scoring import Scorer
from scaling_rules.spec import NetworkSpec
from training.recipe import Recipe
from weights import store
from zoo.sources import is_place, weights_for

METRICS = ("top1", "loss")


@dataclass(frozen=True)
class Proxy:
    """Trains a network by a short recipe and measures it on minival, never on the test pictures.

    dataset, data_dir, few: as of `datasets.open_source`; `few` of each class for a subset. recipe: its `resolution` is
    not looked at: each network is trained at its own, times `shrink`. metric: 'top1' in percent, or 'loss', minus the
    cross-entropy in nats, whose steps are finer. start: weights of a smaller network, a name, folder or file as
    `zoo.load` takes it, which each network grows from (`weights.grow`); '' for random ones. threads: of TensorFlow, 0
    for its own choice; a process in which TensorFlow already runs takes no other number.

    The seed is that of weights, order and augmentation; minival is always the same pictures. It can be sent to other
    processes and machines, which need the data under the same path.
    """

    dataset: str
    recipe: Recipe
    data_dir: str | None = None
    few: int | None = None
    shrink: float = 1.0
    metric: str = "top1"
    start: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        if self.recipe.distill or self.recipe.head_first_epochs:
            raise ZooError("the proxy trains all of a network, without a teacher: no distill, no head_first_epochs.")
        if self.metric not in METRICS:
            raise unknown("metric", self.metric, METRICS)
        if not 0 < self.shrink <= 1:
            raise ZooError(f"shrink must lie in (0, 1], not {self.shrink}.")

    @property
    def settings(self) -> dict[str, Any]:
        """All that a score depends on beside network and seed, but for the versions of libraries."""
        told = dataclasses.asdict(self)
        told["dataset"] = Path(self.dataset).name
        if self.start:
            given = weights_for(self.start, None if is_place(self.start) else True, None, strict=True)
            assert given is not None
            told["start"] = store.digest(given.tensors)
        return {"scorer": "proxy"} | {key: told[key] for key in told if key not in ("data_dir", "threads")}

    def __call__(self, spec: NetworkSpec, seed: int) -> float:
        """Top-1 in percent, or minus the loss. Raises ZooError where the network cannot be trained on the data."""
        from training import command

        command.start(self.threads or None)
        from training.short import trained

        found = trained(self, spec, seed)
        return found.top1 if self.metric == "top1" else -found.loss


class Table:
    """The accuracies of Channel-Bench-Macro (Su et al., arXiv 2203.13714): three trainings of each of 16,384 networks.

    path: its Results_MobileNet.json or Results_ResNet.json. A seed is the number of a training, modulo three.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        try:
            self._results: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            lengths = {len(self._results[code]["acc"]) for code in self._results}
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise ZooError(f"{shown(path)} is no table of Channel-Bench-Macro: {shown(error)}.") from None
        if lengths != {3}:
            raise ZooError(f"{shown(path)} is no table of Channel-Bench-Macro: not three accuracies each.")
        self.settings = {"scorer": "table", "file": self.path.name}

    def __call__(self, spec: NetworkSpec, seed: int) -> float:
        """Top-1 in percent. Raises ZooError for a network that is not in the table."""
        from zoo import registry
        from zoo.families import channel_bench

        space = "resnet" if spec.blocks[0].kind == "basic" else "mobilenet"
        base = channel_bench.RESNET if space == "resnet" else channel_bench.MOBILENET
        blocks = spec.blocks
        last = blocks[4].mids[0] if len(blocks) > 4 else spec.head.conv
        inner = [block.mids[0] if block.mids else 0 for block in blocks[:4]]
        widths = (spec.stem.out, *inner[:3], spec.stages[-1][-1].out, *inner[3:], last)
        code = "".join(str(4 * width // full) for width, full in zip(widths, base, strict=False))
        row = self._results.get(code)
        name = f"channel-bench-{space}-{code}"
        if row is None or registry.architecture(name, spec.dialect.name).fingerprint() != spec.fingerprint():
            raise ZooError(f"{spec.name} is not a network of {self.path.name}.")
        return float(row["acc"][seed % 3])


def by_name(text: str) -> Scorer:
    """'table:FILE', or 'module:function' for a scorer of one's own. Raises ZooError for anything else."""
    kind, _, rest = text.partition(":")
    if kind == "table" and rest:
        return Table(rest)
    if not rest:
        raise ZooError(f"unknown scorer {shown(repr(text))}; valid: proxy, table:FILE, or module:function of your own.")
    if (here := str(Path.cwd())) not in sys.path:  # a script's own folder is there, a command's is not
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(kind), rest)
    except (ImportError, AttributeError, ValueError) as error:
        raise ZooError(f"scorer {shown(text)}: {shown(error)}.") from None
    if not callable(found):
        raise ZooError(f"scorer {shown(text)}: {rest} is no function of (spec, seed).")
    return found
