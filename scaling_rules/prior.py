"""BCNet's prior: how likely each width is to be good at a budget, from the losses of a supernet's training.

Su et al., arXiv 2105.10533, section 3.3: evolution starts from networks drawn by independent chances of each width,
which are to have low losses and the budget's cost on the mean. Clean where the released code slips: cells that were
never seen are the worst, not the best; the expected cost is that of the network; the budget is the budget.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from scaling_rules.coupling import Coupling
from scaling_rules.errors import ZooError

SPREAD = 0.5
"""Weight of the entropy of the chances against the losses, in their standard deviations. Ours: both releases stop a
gradient descent early instead, as without it each variable would get one width."""


def prior(coupling: Coupling, losses: np.ndarray, budget: int, *, spread: float = SPREAD) -> np.ndarray:
    """Chances of each c from `coupling.least` to `coupling.groups`, float64 (variables, groups - least + 1).

    losses: float (variables, groups + 1), by number of groups, infinite where it was never trained. Minimises the mean
    loss minus `spread` times the mean entropy, where the expected multiply-adds are at most `budget`, by a penalty that
    is raised until they are, within a thousandth. Raises ZooError where even the narrowest network costs more.
    """
    space, numbers = coupling.space, slice(coupling.least, coupling.groups + 1)
    widths = coupling.edges[:, numbers]
    least = int(coupling.macs(np.full((1, len(widths)), coupling.least))[0])
    if least > budget:
        raise ZooError(f"the narrowest network costs {least:,} MACs, more than the budget {budget:,}.")
    costs = _standard(losses[:, numbers])
    count = len(costs)

    def objective(flat: np.ndarray, weight: float) -> tuple[float, np.ndarray]:
        chances = softmax(flat.reshape(costs.shape), axis=1)
        logs = np.log(chances + 1e-300)
        macs, slopes = space.expected_macs(widths, chances)
        over = max(0.0, macs / budget - 1)
        value = ((costs + spread * logs) * chances).sum() / count + weight * over**2
        by_chance = (costs + spread * (logs + 1)) / count + 2 * weight * over * slopes / budget
        by_logit = chances * (by_chance - (by_chance * chances).sum(1, keepdims=True))
        return value, by_logit.ravel()

    logits = np.zeros(costs.size)
    for weight in 10.0 ** np.arange(0, 9):
        logits = minimize(objective, logits, args=(weight,), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
        chances = softmax(logits.reshape(costs.shape), axis=1)
        if space.expected_macs(widths, chances)[0] <= 1.001 * budget:
            break
    return chances


def _standard(losses: np.ndarray) -> np.ndarray:
    """Losses in standard deviations of all that were seen, the worst of a variable in place of what was not."""
    seen = np.isfinite(losses)
    if not seen.any():
        raise ZooError("no width has a loss: the supernet was not trained.")
    worst = losses[seen].max()
    highest = np.where(seen, losses, -np.inf).max(1, keepdims=True)
    filled = np.where(seen, losses, np.where(np.isfinite(highest), highest, worst))
    return (filled - losses[seen].mean()) / (losses[seen].std() or 1.0)
