"""Group-relative advantages: turn the rewards of one group into one number per rollout.

    grpo([1., 0., 0., 1.])          -> [.87, -.87, -.87, .87]    centred, divided by the group's std (arXiv:2402.03300)
    dr_grpo([1., 0., 0., 1.])       -> [.5, -.5, -.5, .5]        centred only (arXiv:2503.20783)
    rloo([1., 0., 0., 1.])          -> [.67, -.67, -.67, .67]    minus the mean of the others (arXiv:2402.14740)
    reinforce_pp([1., 0., 0., 1.])  -> like dr_grpo; then whitened over the whole batch (arXiv:2501.03262, "-baseline")

A group whose rewards are all equal gets zeros: no gradient, by design. Learned rewards are never all equal, and a
division by their spread would blow a thousandth up to 1: with `min_spread` a group whose standard deviation does not
exceed it counts as equal, so nothing is ever divided by less. The std is the sample std (n - 1) plus 1e-4, as
TRL has it (the population std would give 1 and -1 above).

An estimator is a function over all groups of a batch, so that it may look beyond its own, and at more than rewards.
It gives each rollout a number, or an array with a number a token of its completion; `per_group` makes one of a function
over the rewards of a group. Your own goes by module:attr: `advantage = "mymodule:mine"` in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ponder.config import lookup
from ponder.rewarding import rewarding
from ponder.types import Group

Values = Sequence[float | np.ndarray] | np.ndarray  # of a group: a number a rollout, or one a token of it, (T,)
Advantage = Callable[[Sequence[Group]], Sequence[Values]]


def grpo(rewards_G: np.ndarray) -> np.ndarray:
    """rewards (G,) -> advantages (G,), divided by the sample std + 1e-4; a group of one gets 0."""
    centred = dr_grpo(rewards_G)
    return centred / (rewards_G.std(ddof=1) + 1e-4) if len(rewards_G) > 1 else centred


def dr_grpo(rewards_G: np.ndarray) -> np.ndarray:
    """rewards (G,) -> advantages (G,), centred and not divided."""
    return rewards_G - rewards_G.mean()


def rloo(rewards_G: np.ndarray) -> np.ndarray:
    """r_i - mean of the others = n/(n-1) * (r_i - mean)."""
    n = len(rewards_G)
    return dr_grpo(rewards_G) * (n / (n - 1)) if n > 1 else np.zeros(n)


def per_group(estimate: Callable[[np.ndarray], np.ndarray]) -> Advantage:
    """An advantage from a function of the rewards (G,) of one group; groups that count as equal get zeros."""

    def over_all(groups: Sequence[Group]) -> list[np.ndarray]:
        # exactly zero where all count as equal, not rounding noise over 1e-4
        return [
            estimate(np.asarray(group.rewards, dtype=np.float64)) if group.is_mixed else np.zeros(len(group.rewards))
            for group in groups
        ]

    return over_all


def whitened(estimate: Callable[[np.ndarray], np.ndarray]) -> Advantage:
    """Divided by the std over the whole batch, after the group baseline."""

    def over_all(groups: Sequence[Group]) -> list[np.ndarray]:
        values = [np.asarray(value) for value in per_group(estimate)(groups)]
        scale = np.concatenate(values).std() + 1e-8
        return [value / scale for value in values]

    return over_all


ADVANTAGES: dict[str, Advantage] = {
    "grpo": per_group(grpo),
    "dr_grpo": per_group(dr_grpo),
    "rloo": per_group(rloo),
    "reinforce_pp": whitened(dr_grpo),
}


def advantages(name: str, groups: Sequence[Group]) -> list[list[np.ndarray]]:
    """The advantage of every rollout of every group, float64: () for all of its tokens, or (T,), one each."""
    estimate: Advantage = lookup(ADVANTAGES, name, what="advantage")
    for group in groups:
        if not np.isfinite(group.rewards).all():
            raise ValueError(f"rewards {group.rewards} are not finite; a verifier or a reward term is broken")
    if not groups:
        return []
    with rewarding(f"the advantage {name!r}"):
        result = [[np.asarray(value, dtype=np.float64) for value in values] for values in estimate(groups)]
    if not len(result) == len(groups) or not all(map(_fits, groups, result)):
        raise ValueError(
            f"advantage {name!r} must give one finite number a rollout, or one a token of it, for every group"
        )
    return result


def _fits(group: Group, values: Sequence[np.ndarray]) -> bool:
    return len(values) == len(group.rollouts) and all(
        value.shape in ((), (len(rollout.completion.token_ids),)) and np.isfinite(value).all()
        for value, rollout in zip(values, group.rollouts, strict=True)
    )
