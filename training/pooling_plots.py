"""What a mixture of supernets did, as pictures: probabilities over epochs, scores, and scores against MACs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scaling_rules.pooling import PoolingSpace, text
from training.mixture import Mixture
from training.trajectory import new_figure, save_figure

LABELLED = 60
"""Configurations whose names fit beside an axis."""


def plot(space: PoolingSpace, result: Mixture, scores: np.ndarray, best: int, stem: Path) -> list[Path]:
    """Write STEM.probabilities.svg, STEM.scores.svg and STEM.macs.svg; nothing where matplotlib is not installed.

    scores: of each configuration, percent, nan where there is none. best: the number of the one that was taken.
    """
    heat = new_figure()
    if heat is None:
        return []
    bars, cloud = new_figure(), new_figure()
    assert bars is not None
    assert cloud is not None
    names = [text(lengths) for lengths in space.lengths]
    places = range(len(names)) if len(names) <= LABELLED else []
    models = result.history.shape[2]
    heat.set_size_inches(2 + 2 * models, 7)
    axes = heat.subplots(1, models, sharey=True, squeeze=False)[0]
    for model, one in enumerate(axes):
        image = one.imshow(result.history[:, :, model].T, aspect="auto", vmin=0, vmax=1, interpolation="nearest")
        one.set(xlabel="epoch", title=f"model {model + 1}")
    axes[0].set_yticks(places, [names[place] for place in places], fontsize=6)
    heat.colorbar(image, ax=list(axes), label="probability")

    one = bars.subplots()
    colors = ["tab:red" if number == best else "tab:gray" for number in range(len(names))]
    one.bar(range(len(names)), scores, color=colors)
    one.set_xticks(places, [names[place] for place in places], rotation=90, fontsize=6)
    low, high = np.nanmin(scores), np.nanmax(scores)
    one.set(ylabel="held-out top-1, %", ylim=(max(0.0, low - 0.1 * (high - low) - 0.5), high + 0.5))

    one = cloud.subplots()
    macs = np.array(space.macs) / 1e6
    one.scatter(macs, scores, color="tab:gray", marker=".")
    for number, color in ((space.own, "tab:blue"), (best, "tab:red")):
        if number is not None and not np.isnan(scores[number]):
            one.scatter(macs[number], scores[number], color=color)
            one.annotate(names[number], (macs[number], scores[number]), xytext=(4, 3), textcoords="offset points")
    one.set(xlabel="MACs, million", ylabel="held-out top-1, %", title="found: red; as it was: blue")
    suffixes = {"probabilities": heat, "scores": bars, "macs": cloud}
    return [save_figure(figure, Path(f"{stem}.{suffix}.svg")) for suffix, figure in suffixes.items()]
