"""Group-relative advantages: turn the rewards of one group into one number per rollout.

    grpo([1., 0., 0., 1.])          -> [.87, -.87, -.87, .87]    centred, divided by the group's std (arXiv:2402.03300)
    dr_grpo([1., 0., 0., 1.])       -> [.5, -.5, -.5, .5]        centred only (arXiv:2503.20783)
    rloo([1., 0., 0., 1.])          -> [.67, -.67, -.67, .67]    minus the mean of the others (arXiv:2402.14740)
    reinforce_pp([1., 0., 0., 1.])  -> like dr_grpo; then whitened over the whole batch (arXiv:2501.03262, "-baseline")

A group whose rewards are all equal gets zeros: no gradient, by design. The std is the sample std (n - 1) plus 1e-4, as
TRL has it (the population std would give 1 and -1 above).

An estimator is a function over the rewards of all groups of a batch, so that it may look beyond its own; `per_group`
makes one of a function over a group. Your own goes by module:attr: `advantage = "mymodule:mine"` in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ponder.config import lookup

Advantage = Callable[[list[np.ndarray]], Sequence[np.ndarray]]  # rewards (G,) of each group -> one number a rollout


def grpo(rewards_G: np.ndarray) -> np.ndarray:
    centred = dr_grpo(rewards_G)
    return centred / (rewards_G.std(ddof=1) + 1e-4) if len(rewards_G) > 1 else centred


def dr_grpo(rewards_G: np.ndarray) -> np.ndarray:
    return rewards_G - rewards_G.mean()


def rloo(rewards_G: np.ndarray) -> np.ndarray:
    """r_i - mean of the others = n/(n-1) * (r_i - mean)."""
    n = len(rewards_G)
    return dr_grpo(rewards_G) * (n / (n - 1)) if n > 1 else np.zeros(n)


def per_group(estimate: Callable[[np.ndarray], np.ndarray]) -> Advantage:
    def over_all(groups: list[np.ndarray]) -> list[np.ndarray]:
        # exactly zero where all are equal, not rounding noise over 1e-4
        return [np.zeros(len(r)) if len(r) == 0 or (r == r[0]).all() else estimate(r) for r in groups]

    return over_all


def whitened(estimate: Advantage) -> Advantage:
    """Divided by the std over the whole batch, after the group baseline."""

    def over_all(groups: list[np.ndarray]) -> list[np.ndarray]:
        values = estimate(groups)
        scale = np.concatenate(values).std() + 1e-8
        return [value / scale for value in values]

    return over_all


ADVANTAGES: dict[str, Advantage] = {
    "grpo": per_group(grpo),
    "dr_grpo": per_group(dr_grpo),
    "rloo": per_group(rloo),
    "reinforce_pp": whitened(per_group(dr_grpo)),
}


def advantages(name: str, groups: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Advantages of every group of a batch, float64, one number a rollout; rewards must be finite."""
    estimate: Advantage = lookup(ADVANTAGES, name, what="advantage")
    rewards = [np.asarray(group, dtype=np.float64) for group in groups]
    for values in rewards:
        if not np.isfinite(values).all():
            raise ValueError(f"rewards {values.tolist()} are not finite; a verifier or a reward term is broken")
    result = [np.asarray(values, dtype=np.float64) for values in estimate(rewards)] if rewards else []
    if [v.shape for v in result] != [r.shape for r in rewards] or not all(np.isfinite(v).all() for v in result):
        raise ValueError(f"advantage {name!r} must give one finite number a rollout, for every group")
    return result
