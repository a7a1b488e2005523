"""A controller: look at a few cheap probes of a problem, then choose how to spend, "stop now" included.

    controller = fit(problems, budget=400)    # problems: stored samples as plain arrays; budget: mean tokens a problem
    controller.save("controller.json")
    result = evaluate(replay(problems), budget=400)     # cross-fitted; against the best fixed arm and the oracle

An arm is a number of samples and a way of choosing among them. All arms begin with the same `num_probes` samples, so
looking at those costs nothing that is not used. For every arm, ridge regression on features of the probes predicts what
it gains over stopping and what it costs. The arm with the largest gain - price * cost is picked; one price, found on
the training problems, makes the mean cost the budget. Nothing here trains a network, and fitting takes seconds.

(arXiv:2408.03314 picks by a problem's difficulty; here difficulty is never known, only probed.) Costs are in tokens of
the policy: a scorer's are converted, e.g. its tokens times the cost of one over the cost of one of the policy's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.runs import write_atomic
from ponder.strategies.base import Work, mean_logprobs, strategy
from ponder.strategies.sampling import answer_classes, by_vote, vote_weights
from ponder.strategies.select import (
    WAVE,
    best_of,
    confidence,
    counts_of,
    leader_is_safe,
    stops_at,
    vote,
    weighted_vote,
)
from ponder.types import Completion

FORMAT = 1
Floats = NDArray[np.float64]
FEATURES = ("top share", "entropy", "blank share", "mean score", "best score", "log length", "logprob", "cut share")


@dataclass(frozen=True)
class ControllerSamples:
    """Samples of one problem: every array has one number a sample."""

    classes: NDArray[np.int64]  # equal numbers = the same answer, -1 = no answer
    correct: NDArray[np.bool_]
    tokens: Floats  # what drawing each cost
    mean_logprobs: Floats
    was_cut: NDArray[np.bool_]
    scores: Floats | None = None  # of one scorer
    score_cost: float = 0.0  # of scoring one token of the policy, in the policy's tokens

    def __post_init__(self) -> None:
        sizes = {len(a) for a in (self.classes, self.correct, self.tokens, self.mean_logprobs, self.was_cut)}
        if len(sizes | ({len(self.scores)} if self.scores is not None else set())) != 1:
            raise ValueError("every array of a problem must have one number a sample")

    def take(self, order: NDArray[np.int64]) -> ControllerSamples:
        return ControllerSamples(
            self.classes[order], self.correct[order], self.tokens[order], self.mean_logprobs[order],
            self.was_cut[order], None if self.scores is None else self.scores[order], self.score_cost,
        )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    n: int  # samples in all, at most
    how: str  # the answer is chosen: vote, adaptive, confident, weighted, best_of

    @property
    def needs_scorer(self) -> bool:
        return self.how in ("weighted", "best_of")


def arms_for(num_probes: int, max_samples: int, *, scorer: bool) -> tuple[Arm, ...]:
    """To stop now comes first, then twice as many samples and so on, up to `max_samples`."""
    sizes = [num_probes]
    while sizes[-1] * 2 <= max_samples:
        sizes.append(sizes[-1] * 2)
    hows = ["vote", "confident", *(["weighted", "best_of"] if scorer else [])]
    arms = [Arm(n, how) for n in sizes for how in hows]
    return (*arms, *(Arm(n, "adaptive") for n in sizes[1:]))


def features(probes: ControllerSamples) -> Floats:
    """The features of the probes, see FEATURES."""
    answered = probes.classes[probes.classes >= 0]
    counts = np.unique(answered, return_counts=True)[1] if len(answered) else np.zeros(1)
    shares = counts[counts > 0] / max(1, counts.sum())
    scores = np.zeros(1) if probes.scores is None else np.nan_to_num(probes.scores)
    logprobs = probes.mean_logprobs[np.isfinite(probes.mean_logprobs)]
    return np.array(
        [
            counts.max() / len(probes.classes),
            float(-(shares * np.log(shares)).sum()) if len(shares) else np.log(len(probes.classes)),
            float((probes.classes < 0).mean()),
            scores.mean(),
            scores.max(),
            np.log(max(1.0, probes.tokens.mean())),
            logprobs.mean() if len(logprobs) else 0.0,
            probes.was_cut.mean(),
        ]
    )


def chosen(arm: Arm, samples: ControllerSamples) -> tuple[int, int]:
    """(index of the chosen sample, samples drawn) of an arm over samples in order."""
    n = min(arm.n, len(samples.classes))
    if arm.how == "adaptive":
        n = int(stops_at(samples.classes[:n]))
    classes = samples.classes[:n]
    if arm.how in ("vote", "adaptive"):
        return vote(classes), n
    if arm.how == "confident":
        return weighted_vote(classes, confidence(samples.mean_logprobs[:n], keep=0.5)), n
    scores = samples.scores if samples.scores is not None else samples.mean_logprobs
    if arm.how == "best_of":
        return best_of(scores[:n], classes), n
    return weighted_vote(classes, vote_weights(scores[:n], has_scorer=samples.scores is not None)), n


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


@dataclass(frozen=True)
class Controller:
    """Two linear models an arm, over features of the probes, and a price."""

    arms: tuple[Arm, ...]
    num_probes: int
    uses_scorer: bool
    centre: Floats  # (F,) of the features
    scale: Floats  # (F,)
    gain: Floats  # (A, X) over the expanded features: correctness, less that of stopping now
    cost: Floats  # (A, X) tokens
    price: float  # of a token, in correctness
    facts: dict[str, Any]  # what it was fitted on

    def predict(self, features_NF: Floats) -> tuple[Floats, Floats]:
        """(N, F) -> gains (N, A) and costs (N, A)."""
        x = expand((features_NF - self.centre) / self.scale)
        return x @ self.gain.T, x @ self.cost.T

    def pick(self, features_NF: Floats) -> NDArray[np.int64]:
        """(N, F) -> the arm of each, (N,)."""
        gains, costs = self.predict(features_NF)
        return (gains - self.price * costs).argmax(axis=1)

    def save(self, path: str | Path) -> None:
        saved = {
            "format": FORMAT, "features": list(FEATURES), "arms": [asdict(arm) for arm in self.arms],
            "num_probes": self.num_probes, "uses_scorer": self.uses_scorer, "price": self.price, "facts": self.facts,
            **{name: getattr(self, name).tolist() for name in ("centre", "scale", "gain", "cost")},
        }  # fmt: skip
        write_atomic(Path(path), json.dumps(saved, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Controller:
        try:
            saved = json.loads(Path(path).read_bytes())
            if saved["format"] != FORMAT or saved["features"] != list(FEATURES):
                raise ValueError(f"{path} is a controller of another version; fit it again (ponder controller)")
            arms = tuple(Arm(int(arm["n"]), str(arm["how"])) for arm in saved["arms"])
            models = {name: np.array(saved[name], dtype=float) for name in ("centre", "scale", "gain", "cost")}
            if models["gain"].shape != (len(arms), num_expanded()) or models["cost"].shape != models["gain"].shape:
                raise ValueError(f"{path} has models of {models['gain'].shape} for {len(arms)} arms; fit it again")
            return cls(
                arms, int(saved["num_probes"]), bool(saved["uses_scorer"]), **models, price=float(saved["price"]),
                facts=dict(saved["facts"]),
            )  # fmt: skip
        except FileNotFoundError:
            raise ValueError(f"no controller in {path}; `ponder controller BANK --out {path}` makes one") from None
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no controller ({error}); `ponder controller` makes one") from None


def expand(x_NF: Floats) -> Floats:
    """1, the features, and their products two by two."""
    x = np.clip(x_NF, -4, 4)  # far outside the training data a square predicts nonsense
    left, right = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((len(x), 1)), x, x[:, left] * x[:, right]], axis=1)


def num_expanded() -> int:
    return 1 + len(FEATURES) + len(FEATURES) * (len(FEATURES) + 1) // 2


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


def as_arrays(completions: Sequence[Completion], work: Work, scores: Floats | None) -> ControllerSamples:
    """Live samples as the arrays that a controller was fitted on; whether they are correct is not known."""
    return ControllerSamples(
        answer_classes(work, completions),
        np.zeros(len(completions), dtype=bool),
        np.array([completion.num_tokens for completion in completions], dtype=float),
        mean_logprobs(completions),
        np.array([completion.was_cut for completion in completions], dtype=bool),
        scores,
    )


@strategy
async def controlled(work: Work, *, n: int | None = None, rule: Controller | str | Path | None = None) -> Completion:
    """Draw the probes, let the controller pick an arm, play it. rule: a Controller or its file. n: samples, at most."""
    if rule is None:
        raise ValueError("mode controller needs a fitted rule; `ponder controller BANK --out FILE` makes one")
    controller = rule if isinstance(rule, Controller) else Controller.load(rule)
    if controller.uses_scorer and work.scorer is None:
        name = controller.facts.get("scorer") or "?"
        raise ValueError(f"this controller was fitted with the scorer {name}; give that one")
    choose = by_vote(work)
    drawn = await work.draw(controller.num_probes if n is None else min(n, controller.num_probes), choose)
    scores = await work.score(drawn) if controller.uses_scorer else None
    arm = controller.arms[int(controller.pick(features(as_arrays(drawn, work, scores))[None])[0])]
    max_samples = arm.n if n is None else min(n, arm.n)
    while len(drawn) < max_samples:
        left = max_samples - len(drawn)
        if arm.how == "adaptive" and leader_is_safe(counts_of(answer_classes(work, drawn)), left=left):
            break
        new = await work.draw(min(WAVE, left) if arm.how == "adaptive" else left, choose)
        if not new:
            break  # the budget is spent
        drawn = list(work.finished)
        if scores is not None and arm.needs_scorer:
            scores = np.concatenate([scores, await work.score(new)])
    how = "vote" if arm.how == "adaptive" else arm.how
    index, _ = chosen(Arm(len(drawn), how), as_arrays(drawn, work, scores if arm.needs_scorer else None))
    return drawn[index]
