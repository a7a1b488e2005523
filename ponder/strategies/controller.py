"""A controller: look at a few cheap probes of a problem, then choose how to spend, "stop now" included.

    controller = Controller.load("controller.json")         # from `ponder controller BANK`, or controller_fit.py
    solution = await controlled(prompt, engine, ..., rule=controller)

An arm is a number of samples and a way of choosing among them. All arms begin with the same `num_probes` samples, so
looking at those costs nothing that is not used. For every arm, two linear models of features of the probes predict what
it gains over stopping and what it costs. The arm with the largest gain - price * cost is picked.

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

from ponder.files import write_atomic
from ponder.strategies.base import Work, mean_logprobs, strategy
from ponder.strategies.sampling import answer_classes, by_vote, vote_weights
from ponder.strategies.select import (
    KEEP,
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
        """The samples at these indices, in this order."""
        return ControllerSamples(
            self.classes[order], self.correct[order], self.tokens[order], self.mean_logprobs[order],
            self.was_cut[order], None if self.scores is None else self.scores[order], self.score_cost,
        )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way to spend: how many samples, and how the answer is chosen from them."""

    n: int  # samples in all, at most
    how: str  # the answer is chosen: vote, adaptive, confident, weighted, best_of

    @property
    def needs_scorer(self) -> bool:
        return self.how in ("weighted", "best_of")


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
        return weighted_vote(classes, confidence(samples.mean_logprobs[:n], keep=KEEP)), n
    scores = samples.scores if samples.scores is not None else samples.mean_logprobs
    if arm.how == "best_of":
        return best_of(scores[:n], classes), n
    return weighted_vote(classes, vote_weights(scores[:n], has_scorer=samples.scores is not None)), n


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
        """As JSON, replacing the file in one step."""
        saved = {
            "format": FORMAT, "features": list(FEATURES), "arms": [asdict(arm) for arm in self.arms],
            "num_probes": self.num_probes, "uses_scorer": self.uses_scorer, "price": self.price, "facts": self.facts,
            **{name: getattr(self, name).tolist() for name in ("centre", "scale", "gain", "cost")},
        }  # fmt: skip
        write_atomic(Path(path), json.dumps(saved, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Controller:
        """ValueError where the file is missing, damaged or of another version; the message says how to make one."""
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
    """X, the width of `expand`: the 1, F features, and F (F + 1) / 2 products."""
    return 1 + len(FEATURES) + len(FEATURES) * (len(FEATURES) + 1) // 2


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
        made = "`ponder controller BANK --out FILE` makes one, and --controller FILE names it"
        raise ValueError(f"mode controller needs a fitted rule; {made}")
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
