"""The nearly free scorer: what sampling already knows, joined by logistic regression.

    mean_logprob    mean log-probability of the tokens, as the sampler recorded them
    worst_logprob   the mean over the worst run of `window` tokens (after DeepConf, arXiv:2508.15260)
    lowest_logprob  of the one most surprising token
    log_length      log(1 + tokens)
    was_cut         a budget ended it
    has_answer      there is an answer to vote for
    class_share     share of the problem's answers that are the same one: consensus as a feature
    outcome         what an outcome scorer says, as a logit, where one is joined

`class_share` depends on what else was drawn, so a score is of a sample among its samples. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.scorers import files
from ponder.scorers.base import CONFIDENCE_WINDOW, Key, TokenScorer
from ponder.scorers.logistic import Logistic
from ponder.scorers.packing import Family

FEATURES = ("mean_logprob", "worst_logprob", "lowest_logprob", "log_length", "was_cut", "has_answer", "class_share")
Floats = NDArray[np.float64]


def features(family: Family, outcome: Floats | None = None, *, window: int = CONFIDENCE_WINDOW) -> Floats:
    """(B F), finite; `outcome`: probabilities of an outcome scorer, which give one feature more."""
    if family.logprobs is None or family.was_cut is None or family.classes is None:
        raise ValueError("these completions come without logprobs and answers; the features scorer needs both")
    if len(family.logprobs) != len(family.token_ids):
        raise ValueError(f"{len(family.logprobs)} logprobs for {len(family.token_ids)} tokens; give one a token")
    logprobs = np.nan_to_num(family.logprobs.astype(np.float64), neginf=-30.0)
    mean, worst = _confidence(logprobs, family.lengths, window)
    _, lowest = _confidence(logprobs, family.lengths, 1)
    has_answer = family.classes >= 0
    votes = np.bincount(family.classes[has_answer]) if has_answer.any() else np.zeros(1)
    share = np.where(has_answer, votes[np.maximum(family.classes, 0)] / max(1, has_answer.sum()), 0.0)
    columns = [mean, worst, lowest, np.log1p(family.lengths), family.was_cut, has_answer, share]
    if outcome is not None:
        p = np.clip(outcome, 1e-9, 1 - 1e-9)
        columns.append(np.log(p / (1 - p)))
    return np.column_stack([np.asarray(column, np.float64) for column in columns])


def _confidence(logprobs: Floats, lengths: NDArray[np.int64], window: int) -> tuple[Floats, Floats]:
    """Mean, and mean of the worst window, of each completion; 0 of an empty one."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    sums = np.r_[0.0, np.cumsum(logprobs)]
    mean = (sums[ends] - sums[starts]) / np.maximum(lengths, 1)
    width = np.repeat(np.minimum(window, lengths), lengths)  # of each token's window, which ends at it
    at = np.arange(len(logprobs)) + 1
    begin = np.maximum(at - width, 0)
    means = (sums[at] - sums[begin]) / np.maximum(width, 1)
    means = np.where(at - np.repeat(starts, lengths) >= width, means, np.inf)
    worst = np.zeros(len(lengths))
    some = lengths > 0
    if some.any():
        worst[some] = np.minimum.reduceat(means, starts[some])
    return mean, worst


class FeatureScorer(TokenScorer):
    kind = "features"
    needs = frozenset({"logprobs", "peers"})

    def __init__(
        self, model: Logistic, *, name: str, policy: str, outcome: TokenScorer | None = None,
        outcome_folder: str = "", key: Key | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name=name, policy=policy, key=key)
        self.model, self.outcome, self.outcome_folder = model, outcome, outcome_folder
        self.reads = outcome is not None  # nearly free unless a network is joined
        self.flops_per_token = outcome.flops_per_token if outcome else None

    def score(self, families: Sequence[Family]) -> list[Floats]:
        said: Sequence[Floats | None] = self.outcome.score(families) if self.outcome else [None] * len(families)
        found = []
        for family, outcome in zip(families, said, strict=True):
            logits = self.model.logits(features(family, outcome))
            found.append(1 / (1 + np.exp(-np.clip(logits, -30, 30))))
        return found

    def save(self, folder: str | Path) -> None:
        names = [*FEATURES, "outcome"][: len(self.model.weights)]
        files.write_facts(
            folder,
            {
                "kind": self.kind, "name": self.name, "policy": self.policy, "outcome": self.outcome_folder,
                # which network it was, as part of what this scorer is
                "outcome_fingerprint": files.fingerprint(self.outcome_folder) if self.outcome else "",
                "bias": float(self.model.bias),
                "features": {
                    name: {"weight": float(w), "mean": float(m), "scale": float(s)}
                    for name, w, m, s in zip(names, self.model.weights, self.model.mean, self.model.scale, strict=True)
                },
            },
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> FeatureScorer:
        inner = facts.get("outcome", "")
        rows = facts.get("features")
        names = [*FEATURES, *(["outcome"] if inner else [])]
        if not isinstance(rows, dict) or list(rows) != names or not all(isinstance(r, dict) for r in rows.values()):
            raise ConfigError(f"{folder / files.FACTS}: features must be {', '.join(names)}; train the scorer again")
        weights, mean, scale = (
            np.array([files.number(row, key, float("nan"), folder) for row in rows.values()])
            for key in ("weight", "mean", "scale")
        )
        if (scale <= 0).any():
            raise ConfigError(f"{folder / files.FACTS}: every scale must be positive; train the scorer again")
        model = Logistic(mean, scale, weights, files.number(facts, "bias", float("nan"), folder))
        outcome = files.load_scorer(inner) if inner else None
        return cls(model, name=facts["name"], policy=facts["policy"], outcome=outcome, outcome_folder=inner, key=key)
