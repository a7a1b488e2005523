"""Group-relative advantages: turn the rewards of one group into one number per rollout.

    grpo([1., 0., 0., 1.])          -> [.87, -.87, -.87, .87]    centred, divided by the group's std (arXiv:2402.03300)
    dr_grpo([1., 0., 0., 1.])       -> [.5, -.5, -.5, .5]        centred only (arXiv:2503.20783)
    rloo([1., 0., 0., 1.])          -> [.67, -.67, -.67, .67]    minus the mean of the others (arXiv:2402.14740)
    reinforce_pp([1., 0., 0., 1.])  -> like dr_grpo; then whitened over the whole batch (arXiv:2501.03262, "-baseline")

A group whose rewards are all equal gets zeros: no gradient, by design. The std is the sample std (n - 1) plus 1e-4, as
TRL has it (the population std would give 1 and -1 above).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Advantage = Callable[[np.ndarray], np.ndarray]


def grpo(rewards_G: np.ndarray) -> np.ndarray:
    centred = dr_grpo(rewards_G)
    return centred / (rewards_G.std(ddof=1) + 1e-4) if len(rewards_G) > 1 else centred


def dr_grpo(rewards_G: np.ndarray) -> np.ndarray:
    return rewards_G - rewards_G.mean()


def rloo(rewards_G: np.ndarray) -> np.ndarray:
    """r_i - mean of the others = n/(n-1) * (r_i - mean)."""
    n = len(rewards_G)
    return dr_grpo(rewards_G) * (n / (n - 1)) if n > 1 else np.zeros(n)


ADVANTAGES: dict[str, Advantage] = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo, "reinforce_pp": dr_grpo}
WHITENED = {"reinforce_pp"}  # divided by the std over the whole batch, after the group baseline


def advantages(name: str, groups: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Advantages of every group of a batch, float64; rewards must be finite."""
    estimate = ADVANTAGES[name]
    result = []
    for rewards in groups:
        values = np.asarray(rewards, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"rewards {list(rewards)} are not finite; a verifier or a reward term is broken")
        equal = len(values) == 0 or (values == values[0]).all()  # exactly zero, not rounding noise over 1e-4
        result.append(np.zeros(len(values)) if equal else estimate(values))
    if name in WHITENED and result:
        flat = np.concatenate(result)
        scale = flat.std() + 1e-8
        result = [values / scale for values in result]
    return result
