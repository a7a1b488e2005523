"""A nearly free scorer: statistics of the sampling, combined by logistic regression.

    mean_logprob    mean log-probability of the tokens, as the sampler recorded them
    worst_logprob   the lowest mean over `window` neighbouring tokens (after DeepConf, arXiv:2508.15260)
    lowest_logprob  the log-probability of the least likely token
    log_length      log(1 + tokens)
    was_cut         a budget ended it
    has_answer      there is an answer to vote for
    class_share     share of the problem's answers that are the same: consensus as a feature
    outcome         an outcome scorer's score, as a logit, where one is joined

`class_share` depends on what else was drawn, so a sample's score depends on the samples beside it. numpy only.
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
from ponder.scorers.logistic import Logistic, expit
from ponder.scorers.packing import CompletionGroup

FEATURES = ("mean_logprob", "worst_logprob", "lowest_logprob", "log_length", "was_cut", "has_answer", "class_share")

Floats = NDArray[np.float64]


def features(group: CompletionGroup, outcome: Floats | None = None, *, window: int = CONFIDENCE_WINDOW) -> Floats:
    """(B F), finite; `outcome`: probabilities of an outcome scorer, which add one feature."""
    if group.logprobs is None or group.was_cut is None or group.classes is None:
        raise ValueError("these completions come without logprobs and answers; the features scorer needs both")
    if len(group.logprobs) != len(group.token_ids):
        raise ValueError(f"{len(group.logprobs)} logprobs for {len(group.token_ids)} tokens; give one a token")
    logprobs = np.nan_to_num(group.logprobs.astype(np.float64), neginf=-30.0)
    mean, worst = _mean_and_worst(logprobs, group.lengths, window)
    _, lowest = _mean_and_worst(logprobs, group.lengths, 1)
    has_answer = group.classes >= 0
    votes = np.bincount(group.classes[has_answer]) if has_answer.any() else np.zeros(1)
    share = np.where(has_answer, votes[np.maximum(group.classes, 0)] / max(1, has_answer.sum()), 0.0)
    columns = [mean, worst, lowest, np.log1p(group.lengths), group.was_cut, has_answer, share]
    if outcome is not None:
        p = np.clip(outcome, 1e-9, 1 - 1e-9)
        columns.append(np.log(p / (1 - p)))
    return np.column_stack([np.asarray(column, np.float64) for column in columns])


def _mean_and_worst(logprobs: Floats, lengths: NDArray[np.int64], window: int) -> tuple[Floats, Floats]:
    """The mean, and the lowest mean of a window, of each completion; 0 for an empty one."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    sums = np.r_[0.0, np.cumsum(logprobs)]
    mean = (sums[ends] - sums[starts]) / np.maximum(lengths, 1)
    width = np.repeat(np.minimum(window, lengths), lengths)  # of each token's window, which ends with the token
    end = np.arange(len(logprobs)) + 1
    begin = np.maximum(end - width, 0)
    means = (sums[end] - sums[begin]) / np.maximum(width, 1)
    means = np.where(end - np.repeat(starts, lengths) >= width, means, np.inf)
    worst = np.zeros(len(lengths))
    not_empty = lengths > 0
    if not_empty.any():
        worst[not_empty] = np.minimum.reduceat(means, starts[not_empty])
    return mean, worst


class FeatureScorer(TokenScorer):
    """A logistic regression over FEATURES of a completion among its peers, and over the score of another scorer."""

    kind = "features"
    needs = frozenset({"logprobs", "peers"})

    def __init__(
        self, model: Logistic, *, name: str, policy: str, outcome: TokenScorer | None = None,
        outcome_folder: str = "", key: Key | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name=name, policy=policy, key=key)
        self.model, self.outcome, self.outcome_folder = model, outcome, outcome_folder
        self.needs_forward_pass = outcome is not None  # nearly free unless a network is joined
        self.flops_per_token = outcome.flops_per_token if outcome else None

    def score(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        outcomes: Sequence[Floats | None] = self.outcome.score(groups) if self.outcome else [None] * len(groups)
        scores = []
        for group, outcome in zip(groups, outcomes, strict=True):
            logits = self.model.logits(features(group, outcome))
            scores.append(expit(logits))
        return scores

    def save(self, folder: str | Path) -> None:
        """Of a joined outcome scorer only the folder and the fingerprint are written, not its weights."""
        names = [*FEATURES, "outcome"][: len(self.model.weights)]
        files.write_facts(
            folder,
            {
                "kind": self.kind, "name": self.name, "policy": self.policy, "outcome": self.outcome_folder,
                # identifies the joined network, since scores depend on it
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
        """A joined scorer is loaded from the folder that scorer.json names. ConfigError for other features."""
        inner = facts.get("outcome", "")
        if not isinstance(inner, str):
            raise ConfigError(f"{folder / files.FACTS}: outcome = {inner!r} must be a folder; train the scorer again")
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
        if outcome and files.fingerprint(inner) != facts.get("outcome_fingerprint"):
            raise ConfigError(f"{folder} was fitted to another scorer than {inner} holds now; train it again")
        return cls(model, name=facts["name"], policy=facts["policy"], outcome=outcome, outcome_folder=inner, key=key)
