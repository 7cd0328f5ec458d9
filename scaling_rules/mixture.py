"""Which of M models a configuration belongs to: Balanced Mixture of SuperNets (arXiv 2306.11982), by its released code.

A table w (configurations, models) has a running score of each configuration in each model. Model m is drawn for
configuration p with probability softmax(T * w[p])[m], which a rising temperature T hardens. Balancing gives every model
the same total probability, or one would take all: columns and rows are scaled in turns (Sinkhorn & Knopp 1967). Rows
stay distributions, so all that is left of it is one number a model, taken off the logits.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 1e-9
"""Kullback-Leibler divergence, in nats, of the models' totals from equal ones at which balancing ends. The release ends
at 1e-4, where the totals may still differ by some percent; this costs some milliseconds more."""

ROUNDS = 100_000
"""Of balancing at most. 455 configurations and 8 models at a temperature of 300 take about 120."""


def temperature(epoch: int, epochs: int, last: float) -> float:
    """From 1 in epoch 0, linearly, to `last` in epoch `epochs`, which is the first one that is not trained."""
    return 1.0 + (last - 1.0) * epoch / epochs


def probabilities(logits: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Of each model for each configuration, float64 (configurations, models); logits: T * w; bias: (models,)."""
    shifted = logits - bias
    shares = np.exp(shifted - shifted.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def balance(logits: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """The bias, float64 (models,), under which all models have the same total of `probabilities`.

    logits: (configurations, models), finite. It ends where the divergence is below `threshold`, in nats.
    """
    models = logits.shape[1]
    bias = np.zeros(models)
    for _ in range(ROUNDS):
        # Times the number of models: 1 where the totals are equal. A total of 0 would stay 0.
        share = models * np.maximum(probabilities(logits, bias).mean(0), np.finfo(np.float64).tiny)
        if (share * np.log(share)).mean() <= threshold:
            break
        bias += np.log(share)
    return bias
