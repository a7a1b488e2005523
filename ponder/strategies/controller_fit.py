"""A controller fitted on stored samples, and what it gains over the best fixed way of spending as much.

    controller = fit(problems, budget=400)    # problems: stored samples as plain arrays; budget: mean tokens a problem
    controller.save("controller.json")
    result = evaluate(replay(problems), budget=400)     # cross-fitted; against the best fixed arm and the oracle

Every arm is replayed on the stored samples; ridge regression on features of the probes predicts what it gains and what
it costs. One price of a token, found on the training problems, makes the mean cost the budget. Nothing here trains a
network, and fitting takes seconds. The controller itself, and playing by it, is controller.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.strategies.controller import (
    FEATURES,
    Arm,
    Controller,
    ControllerSamples,
    Floats,
    chosen,
    expand,
    features,
)


def arms_for(num_probes: int, max_samples: int, *, scorer: bool) -> tuple[Arm, ...]:
    """To stop now comes first, then twice as many samples and so on, up to `max_samples`."""
    sizes = [num_probes]
    while sizes[-1] * 2 <= max_samples:
        sizes.append(sizes[-1] * 2)
    hows = ["vote", "confident", *(["weighted", "best_of"] if scorer else [])]
    arms = [Arm(n, how) for n in sizes for how in hows]
    return (*arms, *(Arm(n, "adaptive") for n in sizes[1:]))


@dataclass(frozen=True)
class Replayed:
    """Every arm replayed on random orders of every problem: P problems, R orders, A arms, F features."""

    arms: tuple[Arm, ...]
    features_PRF: Floats
    correct_PRA: Floats
    cost_PRA: Floats  # of an arm by itself
    probe_cost_PR: Floats  # of scoring the probes: a controller that uses scores pays it whatever it picks

    @property
    def paid_PRA(self) -> Floats:
        """The cost of an arm that the controller picked."""
        without_scorer = np.array([not arm.needs_scorer for arm in self.arms])
        return self.cost_PRA + self.probe_cost_PR[..., None] * without_scorer

    def take(self, problems: NDArray[np.int64]) -> Replayed:
        """The problems at these indices, in this order."""
        return Replayed(
            self.arms, self.features_PRF[problems], self.correct_PRA[problems], self.cost_PRA[problems],
            self.probe_cost_PR[problems],
        )  # fmt: skip


def replay(
    problems: Sequence[ControllerSamples],
    *,
    num_probes: int = 4,
    arms: Sequence[Arm] | None = None,
    orders: int = 16,
    seed: int = 0,
) -> Replayed:
    """Play all arms, each on the same orders of a problem's samples (common random numbers)."""
    if not problems:
        raise ValueError("no problem to replay; draw samples first (ponder eval)")
    max_samples = min(len(problem.classes) for problem in problems)
    if max_samples < 2 * num_probes:
        raise ValueError(f"{max_samples} samples a problem leave nothing to pick from; draw at least {2 * num_probes}")
    has_scores = all(problem.scores is not None for problem in problems)
    arms = tuple(arms or arms_for(num_probes, max_samples, scorer=has_scores))
    shape = (len(problems), orders)
    x_PRF, correct, cost = (np.zeros((*shape, size)) for size in (len(FEATURES), len(arms), len(arms)))
    probe_cost = np.zeros(shape)
    for p, problem in enumerate(problems):
        rng = np.random.default_rng([seed, p])
        for r in range(orders):
            samples = problem.take(rng.permutation(len(problem.classes)))
            x_PRF[p, r] = features(samples.take(np.arange(num_probes)))
            tokens = np.cumsum(samples.tokens)
            probe_cost[p, r] = tokens[num_probes - 1] * problem.score_cost
            for a, arm in enumerate(arms):
                index, n = chosen(arm, samples)
                correct[p, r, a] = samples.correct[index] and samples.classes[index] >= 0
                cost[p, r, a] = tokens[n - 1] * (1 + (problem.score_cost if arm.needs_scorer else 0.0))
    return Replayed(arms, x_PRF, correct, cost, probe_cost)


def fit(
    problems: Sequence[ControllerSamples] | Replayed,
    *,
    budget: float,
    num_probes: int = 4,
    ridge: float = 10.0,
    **facts: Any,
) -> Controller:
    """budget: mean tokens a problem. More than the most expensive arm buys nothing, and no arm costs less than stopping
    now."""
    if not budget > 0:
        raise ValueError(f"budget={budget} must be above 0: mean tokens a problem")
    replayed = problems if isinstance(problems, Replayed) else replay(problems, num_probes=num_probes)
    flat = replayed.features_PRF.reshape(-1, len(FEATURES))
    centre = np.asarray(flat.mean(axis=0), dtype=np.float64)
    scale = np.asarray(flat.std(axis=0), dtype=np.float64)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = expand((flat - centre) / scale)
    correct = replayed.correct_PRA.reshape(len(x), -1)
    gram = x.T @ x + ridge * np.diag([1e-9] + [1.0] * (x.shape[1] - 1))
    gain: Floats = np.linalg.solve(gram, x.T @ (correct - correct[:, :1])).T.astype(np.float64)
    paid = replayed.paid_PRA.reshape(len(x), -1)
    cost: Floats = np.linalg.solve(gram, x.T @ paid).T.astype(np.float64)
    uses_scorer = any(arm.needs_scorer for arm in replayed.arms)
    price = price_for(x @ gain.T, x @ cost.T, paid, budget)
    return Controller(
        replayed.arms, replayed.arms[0].n, uses_scorer, centre, scale, gain, cost, price, {"budget": budget, **facts}
    )


def price_for(gains_NA: Floats, costs_NA: Floats, spent_NA: Floats, budget: float) -> float:
    """The lowest price at which the picked arms spend no more than the budget, by bisection; spending falls with it."""

    def spending(price: float) -> float:
        return float(np.take_along_axis(spent_NA, (gains_NA - price * costs_NA).argmax(axis=1)[:, None], 1).mean())

    low, high = 0.0, 1.0
    if spending(low) <= budget:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if spending(middle) <= budget else (middle, high)
    return high


@dataclass(frozen=True)
class Evaluation:
    """Correctness of each problem at equal mean cost, averaged over orders: (P,) each."""

    controller: Floats
    fixed: Floats  # the best fixed arm, or the mixture of two that costs as much
    oracle: Floats  # the best arm of each problem, known beforehand; looking at the samples themselves may do better
    cost: float  # mean tokens of all three
    fixed_arms: tuple[Arm, ...]
    picks: dict[str, float]  # arm -> share of the problems


def evaluate(replayed: Replayed, *, budget: float, folds: int = 5, ridge: float = 10.0) -> Evaluation:
    """Cross-fitted over problems: the controller and the fixed arm of a problem were fitted without it."""
    count = len(replayed.features_PRF)
    if count < 2 * folds:
        raise ValueError(f"{count} problems are too few to hold any out; use at least {2 * folds}")
    fold_of = np.random.default_rng(0).permutation(count) % folds
    correct, cost = replayed.correct_PRA.mean(axis=1), np.zeros(count)  # (P, A)
    ours, fixed, picked = np.zeros(count), np.zeros(count), np.zeros(len(replayed.arms))
    used: dict[Arm, None] = {}
    for fold in range(folds):
        train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        controller = fit(replayed.take(train), budget=budget, ridge=ridge)
        arms = controller.pick(replayed.features_PRF[test].reshape(-1, len(FEATURES))).reshape(len(test), -1)
        picked += np.bincount(arms.ravel(), minlength=len(replayed.arms))
        ours[test] = np.take_along_axis(replayed.correct_PRA[test], arms[..., None], 2)[..., 0].mean(axis=1)
        cost[test] = np.take_along_axis(replayed.paid_PRA[test], arms[..., None], 2)[..., 0].mean(axis=1)
    for fold in range(folds):
        train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        mean_costs = replayed.cost_PRA[train].mean(axis=(0, 1))
        mixture = best_fixed(correct[train].mean(axis=0), mean_costs, float(cost.mean()))
        fixed[test] = correct[test] @ mixture
        used |= dict.fromkeys(arm for arm, share in zip(replayed.arms, mixture, strict=True) if share > 0)
    mean_cost = replayed.cost_PRA.mean(axis=1)
    price = price_for(correct, mean_cost, mean_cost, float(cost.mean()))
    best = (correct - price * mean_cost).argmax(axis=1)
    shares = picked / picked.sum()
    return Evaluation(
        ours, fixed, correct[np.arange(count), best], float(cost.mean()), tuple(used),
        {f"{arm.how} of {arm.n}": float(s) for arm, s in zip(replayed.arms, shares, strict=True) if s > 0},
    )  # fmt: skip


def best_fixed(correct_A: Floats, cost_A: Floats, budget: float) -> Floats:
    """The shares of the one or two arms that are most often correct at this cost: what a random choice between two
    fixed strategies can reach, so that "equal cost" is exact."""
    shares, best = np.zeros(len(correct_A)), -1.0
    for low in range(len(correct_A)):
        for high in range(len(correct_A)):
            if cost_A[low] > budget and not low == high == int(cost_A.argmin()):
                continue
            is_mixed = cost_A[high] > budget and high != low
            share = (budget - cost_A[low]) / (cost_A[high] - cost_A[low]) if is_mixed else float(high == low)
            value = correct_A[low] * (1 - share) + correct_A[high] * share
            if value > best:
                best, shares = value, np.zeros(len(correct_A))
                shares[low] += 1 - share
                shares[high] += share
    return shares
