"""A controller: read a few cheap probes of a problem, then pick how to spend, "stop now" included.

    rule = fit(problems, budget=400)          # problems: stored samples as plain arrays; budget: mean tokens a problem
    rule.save("controller.json")
    result = evaluate(problems, budget=400)   # cross-fitted: against the best fixed arm at equal cost, and the oracle

An arm is a number of samples and a way of choosing among them. All arms begin with the same `num_probes` samples, so
looking at those costs nothing that is not used. For every arm, ridge regression on features of the probes predicts what
it gains over stopping and what it costs; the arm with the largest gain - price * cost is taken, and one price, found on
the training problems, makes the mean cost the budget. Nothing here trains a network, and fitting takes seconds.

(arXiv:2408.03314 picks by a problem's difficulty; here difficulty is never known, only probed.) Costs are in tokens of
the policy: a scorer's are given as such, e.g. its tokens times its cost of one over the policy's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.strategies.base import Work, certainty, strategy
from ponder.strategies.sampling import by_vote, classes, weights
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
class Drawn:
    """Stored samples of one problem: one number a sample in every array."""

    classes: NDArray[np.int64]  # -1 = no answer
    correct: NDArray[np.bool_]
    tokens: Floats  # what drawing it cost
    mean_logprobs: Floats
    was_cut: NDArray[np.bool_]
    scores: Floats | None = None  # of one scorer
    score_cost: float = 0.0  # of scoring one token of the policy, in its tokens

    def __post_init__(self) -> None:
        sizes = {len(a) for a in (self.classes, self.correct, self.tokens, self.mean_logprobs, self.was_cut)}
        if len(sizes | ({len(self.scores)} if self.scores is not None else set())) != 1:
            raise ValueError("the arrays of a problem must have one number a sample")

    def take(self, order: NDArray[np.int64]) -> Drawn:
        return Drawn(
            self.classes[order], self.correct[order], self.tokens[order], self.mean_logprobs[order],
            self.was_cut[order], None if self.scores is None else self.scores[order], self.score_cost,
        )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    n: int  # samples in all, at most
    how: str  # vote, adaptive, confident, weighted, best_of

    @property
    def needs_scorer(self) -> bool:
        return self.how in ("weighted", "best_of")


def arms_for(num_probes: int, most: int, *, scorer: bool) -> tuple[Arm, ...]:
    """Stopping now first, then twice as many again and again up to `most`."""
    sizes = [num_probes]
    while sizes[-1] * 2 <= most:
        sizes.append(sizes[-1] * 2)
    hows = ["vote", "confident", *(["weighted", "best_of"] if scorer else [])]
    arms = [Arm(n, how) for n in sizes for how in hows]
    return (*arms, *(Arm(n, "adaptive") for n in sizes[1:]))


def features(first: Drawn) -> Floats:
    """What is read off the probes, see FEATURES."""
    named = first.classes[first.classes >= 0]
    counts = np.unique(named, return_counts=True)[1] if len(named) else np.zeros(1)
    shares = counts[counts > 0] / max(1, counts.sum())
    scores = np.zeros(1) if first.scores is None else np.nan_to_num(first.scores)
    logprobs = first.mean_logprobs[np.isfinite(first.mean_logprobs)]
    return np.array(
        [
            counts.max() / len(first.classes),
            float(-(shares * np.log(shares)).sum()) if len(shares) else np.log(len(first.classes)),
            float((first.classes < 0).mean()),
            scores.mean(),
            scores.max(),
            np.log(max(1.0, first.tokens.mean())),
            logprobs.mean() if len(logprobs) else 0.0,
            first.was_cut.mean(),
        ]
    )


def chosen(arm: Arm, drawn: Drawn) -> tuple[int, int]:
    """(place of the chosen sample, samples drawn) of an arm over samples in order."""
    n = min(arm.n, len(drawn.classes))
    if arm.how == "adaptive":
        n = int(stops_at(drawn.classes[:n]))
    names = drawn.classes[:n]
    if arm.how in ("vote", "adaptive"):
        return vote(names), n
    if arm.how == "confident":
        return weighted_vote(names, confidence(drawn.mean_logprobs[:n], keep=0.5)), n
    scores = drawn.scores if drawn.scores is not None else drawn.mean_logprobs
    if arm.how == "best_of":
        return best_of(scores[:n], names), n
    return weighted_vote(names, weights(scores[:n], known=drawn.scores is not None)), n


@dataclass(frozen=True)
class Replayed:
    """Every arm played on random orders of every problem: P problems, R orders, A arms, F features."""

    arms: tuple[Arm, ...]
    features_PRF: Floats
    right_PRA: Floats
    cost_PRA: Floats  # of an arm by itself
    looking_PR: Floats  # of scoring the probes: a controller that reads scores pays it whatever it picks

    @property
    def paid_PRA(self) -> Floats:
        """The cost of an arm where the controller picked it."""
        free = np.array([not arm.needs_scorer for arm in self.arms])
        return self.cost_PRA + self.looking_PR[..., None] * free

    def take(self, problems: NDArray[np.int64]) -> Replayed:
        return Replayed(
            self.arms, self.features_PRF[problems], self.right_PRA[problems], self.cost_PRA[problems],
            self.looking_PR[problems],
        )  # fmt: skip


def replay(
    problems: Sequence[Drawn],
    *,
    num_probes: int = 4,
    arms: Sequence[Arm] | None = None,
    orders: int = 16,
    seed: int = 0,
) -> Replayed:
    """Play all arms; an order of a problem's samples is the same for all of them (common random numbers)."""
    if not problems:
        raise ValueError("no problem to replay; draw samples first (ponder eval)")
    most = min(len(problem.classes) for problem in problems)
    if most < 2 * num_probes:
        raise ValueError(f"{most} samples a problem leave nothing to pick from; draw at least {2 * num_probes}")
    scored = all(problem.scores is not None for problem in problems)
    arms = tuple(arms or arms_for(num_probes, most, scorer=scored))
    shape = (len(problems), orders)
    seen, right, cost = (np.zeros((*shape, size)) for size in (len(FEATURES), len(arms), len(arms)))
    looking = np.zeros(shape)
    for p, problem in enumerate(problems):
        rng = np.random.default_rng([seed, p])
        for r in range(orders):
            drawn = problem.take(rng.permutation(len(problem.classes)))
            seen[p, r] = features(drawn.take(np.arange(num_probes)))
            spent = np.cumsum(drawn.tokens)
            looking[p, r] = spent[num_probes - 1] * problem.score_cost
            for a, arm in enumerate(arms):
                place, n = chosen(arm, drawn)
                right[p, r, a] = drawn.correct[place] and drawn.classes[place] >= 0
                cost[p, r, a] = spent[n - 1] * (1 + (problem.score_cost if arm.needs_scorer else 0.0))
    return Replayed(arms, seen, right, cost, looking)


@dataclass(frozen=True)
class Controller:
    """Two linear models an arm over the probes, and a price."""

    arms: tuple[Arm, ...]
    num_probes: int
    uses_scorer: bool
    centre: Floats  # (F,) of the features
    scale: Floats  # (F,)
    gain: Floats  # (A, X) over the expanded features: correctness beyond stopping now
    cost: Floats  # (A, X): tokens
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
        told = {
            "format": FORMAT, "features": list(FEATURES), "arms": [asdict(arm) for arm in self.arms],
            "num_probes": self.num_probes, "uses_scorer": self.uses_scorer, "price": self.price, "facts": self.facts,
            **{name: getattr(self, name).tolist() for name in ("centre", "scale", "gain", "cost")},
        }  # fmt: skip
        Path(path).write_text(json.dumps(told, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Controller:
        try:
            told = json.loads(Path(path).read_text())
            if told["format"] != FORMAT or told["features"] != list(FEATURES):
                raise ValueError(f"{path} is a controller of another version; fit it again (ponder controller)")
            arms = tuple(Arm(int(arm["n"]), str(arm["how"])) for arm in told["arms"])
            read = {name: np.array(told[name], dtype=float) for name in ("centre", "scale", "gain", "cost")}
            if read["gain"].shape != (len(arms), num_expanded()) or read["cost"].shape != read["gain"].shape:
                raise ValueError(f"{path} has models of {read['gain'].shape} for {len(arms)} arms; fit it again")
            return cls(
                arms, int(told["num_probes"]), bool(told["uses_scorer"]), **read, price=float(told["price"]),
                facts=dict(told["facts"]),
            )  # fmt: skip
        except FileNotFoundError:
            raise ValueError(f"no controller in {path}; `ponder controller BANK --out {path}` makes one") from None
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no controller ({error}); `ponder controller` makes one") from None


def expand(x_NF: Floats) -> Floats:
    """1, the features, and their products two by two."""
    x = np.clip(x_NF, -4, 4)  # far outside of what was seen a square predicts nonsense
    left, right = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((len(x), 1)), x, x[:, left] * x[:, right]], axis=1)


def num_expanded() -> int:
    return 1 + len(FEATURES) + len(FEATURES) * (len(FEATURES) + 1) // 2


def fit(
    problems: Sequence[Drawn] | Replayed, *, budget: float, num_probes: int = 4, ridge: float = 10.0, **facts: Any
) -> Controller:
    """budget: mean tokens a problem. More than the dearest arm buys nothing, less than stopping now cannot be had."""
    if not budget > 0:
        raise ValueError(f"budget={budget} must be above 0: mean tokens a problem")
    played = problems if isinstance(problems, Replayed) else replay(problems, num_probes=num_probes)
    flat = played.features_PRF.reshape(-1, len(FEATURES))
    centre = np.asarray(flat.mean(axis=0), dtype=np.float64)
    scale = np.asarray(flat.std(axis=0), dtype=np.float64)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = expand((flat - centre) / scale)
    right = played.right_PRA.reshape(len(x), -1)
    gram = x.T @ x + ridge * np.diag([1e-9] + [1.0] * (x.shape[1] - 1))
    gain: Floats = np.linalg.solve(gram, x.T @ (right - right[:, :1])).T.astype(np.float64)
    paid = played.paid_PRA.reshape(len(x), -1)
    cost: Floats = np.linalg.solve(gram, x.T @ paid).T.astype(np.float64)
    uses_scorer = any(arm.needs_scorer for arm in played.arms)
    price = price_for(x @ gain.T, x @ cost.T, paid, budget)
    return Controller(
        played.arms, played.arms[0].n, uses_scorer, centre, scale, gain, cost, price, {"budget": budget, **facts}
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
class Comparison:
    """Per problem, at equal mean cost: (P,) each, means over orders."""

    controller: Floats
    fixed: Floats  # the best fixed arm, or the mixture of two that costs as much
    oracle: Floats  # the best arm of each problem known beforehand; who looks at the draw itself may do better still
    cost: float  # mean tokens of all three
    fixed_arms: tuple[Arm, ...]
    picks: dict[str, float]  # arm -> share of the problems


def evaluate(played: Replayed, *, budget: float, folds: int = 5, ridge: float = 10.0) -> Comparison:
    """Cross-fitted over problems: every problem is judged by a controller, and a fixed arm, that never saw it."""
    count = len(played.features_PRF)
    if count < 2 * folds:
        raise ValueError(f"{count} problems are too few to hold any out; use at least {2 * folds}")
    fold_of = np.random.default_rng(0).permutation(count) % folds
    right, cost = played.right_PRA.mean(axis=1), np.zeros(count)  # (P, A)
    ours, fixed, picked = np.zeros(count), np.zeros(count), np.zeros(len(played.arms))
    used: dict[Arm, None] = {}
    for fold in range(folds):
        train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        rule = fit(played.take(train), budget=budget, ridge=ridge)
        arms = rule.pick(played.features_PRF[test].reshape(-1, len(FEATURES))).reshape(len(test), -1)
        picked += np.bincount(arms.ravel(), minlength=len(played.arms))
        ours[test] = np.take_along_axis(played.right_PRA[test], arms[..., None], 2)[..., 0].mean(axis=1)
        cost[test] = np.take_along_axis(played.paid_PRA[test], arms[..., None], 2)[..., 0].mean(axis=1)
    for fold in range(folds):
        train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        mixture = best_fixed(right[train].mean(axis=0), played.cost_PRA[train].mean(axis=(0, 1)), float(cost.mean()))
        fixed[test] = right[test] @ mixture
        used |= dict.fromkeys(arm for arm, share in zip(played.arms, mixture, strict=True) if share > 0)
    mean_cost = played.cost_PRA.mean(axis=1)
    price = price_for(right, mean_cost, mean_cost, float(cost.mean()))
    best = (right - price * mean_cost).argmax(axis=1)
    shares = picked / picked.sum()
    return Comparison(
        ours, fixed, right[np.arange(count), best], float(cost.mean()), tuple(used),
        {f"{arm.how} of {arm.n}": float(s) for arm, s in zip(played.arms, shares, strict=True) if s > 0},
    )  # fmt: skip


def best_fixed(right_A: Floats, cost_A: Floats, budget: float) -> Floats:
    """The shares of the arms, one or two of them, that are most often right for this cost: what a coin between two
    fixed strategies can reach, so that "equal cost" is exact."""
    shares, best = np.zeros(len(right_A)), -1.0
    for low in range(len(right_A)):
        for high in range(len(right_A)):
            if cost_A[low] > budget and not low == high == int(cost_A.argmin()):
                continue
            dearer = cost_A[high] > budget and high != low
            share = (budget - cost_A[low]) / (cost_A[high] - cost_A[low]) if dearer else float(high == low)
            value = right_A[low] * (1 - share) + right_A[high] * share
            if value > best:
                best, shares = value, np.zeros(len(right_A))
                shares[low] += 1 - share
                shares[high] += share
    return shares


def read(completions: Sequence[Completion], work: Work, scores: Floats | None) -> Drawn:
    """Live samples as the arrays that a controller was fitted on; nothing is known of their truth."""
    return Drawn(
        classes(work, completions),
        np.zeros(len(completions), dtype=bool),
        np.array([completion.num_tokens for completion in completions], dtype=float),
        certainty(completions),
        np.array([completion.was_cut for completion in completions], dtype=bool),
        scores,
    )


@strategy
async def controlled(work: Work, *, n: int | None = None, rule: Controller | str | Path | None = None) -> Completion:
    """Draw the probes, let the controller pick, do that. rule: a Controller or its file. n: at most so many samples."""
    if rule is None:
        raise ValueError("mode controller needs a fitted rule; `ponder controller BANK --out FILE` makes one")
    rule = rule if isinstance(rule, Controller) else Controller.load(rule)
    if rule.uses_scorer and work.scorer is None:
        raise ValueError(f"this controller was fitted with the scorer {rule.facts.get('scorer') or '?'}; give that one")
    leader = by_vote(work)
    drawn = await work.draw(rule.num_probes if n is None else min(n, rule.num_probes), leader)
    scores = await work.score(drawn) if rule.uses_scorer else None
    arm = rule.arms[int(rule.pick(features(read(drawn, work, scores))[None])[0])]
    most = arm.n if n is None else min(n, arm.n)
    while len(drawn) < most:
        if arm.how == "adaptive" and leader_is_safe(counts_of(classes(work, drawn)), left=most - len(drawn)):
            break
        new = await work.draw(min(WAVE if arm.how == "adaptive" else most, most - len(drawn)), leader)
        if not new:
            break  # the budget is spent
        drawn = list(work.finished)
        if scores is not None and arm.needs_scorer:
            scores = np.concatenate([scores, await work.score(new)])
    how = "vote" if arm.how == "adaptive" else arm.how
    place, _ = chosen(Arm(len(drawn), how), read(drawn, work, scores if arm.needs_scorer else None))
    return drawn[place]
