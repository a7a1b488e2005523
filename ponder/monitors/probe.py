"""A monitor over the model's hidden states: what it computed, not what it wrote. Nearly free where they are kept.

    monitor = fit(completions, labels)         # completions of an engine with keep_hidden (`Completion.hidden`)
    await monitor.read(Transcript.of(completion))

A logistic regression over the last state and the mean of all of them. It belongs to the weights that it was fitted on:
training moves them, so it is fitted again for every checkpoint. Text alone tells it nothing: then it cannot tell
("error"), and a served stream, which has no states, gives it nothing to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ponder.config import ConfigError
from ponder.monitors.base import Judgement, Monitor, Suspicion, Transcript
from ponder.monitors.learned import logistic
from ponder.types import Completion


class HiddenProbe(Monitor):
    """Weights (F,) and bias of a logistic regression over `Completion.hidden`. threshold: of its chance, 0 to 1."""

    view = "both"

    def __init__(self, weights_F: Any, bias: float, *, threshold: float = 0.5, name: str = "hidden probe") -> None:
        self.weights_F, self.bias, self.threshold, self.name = np.asarray(weights_F, float), bias, threshold, name

    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement:
        return Judgement("error", "a probe reads hidden states, not text")

    async def read(self, transcript: Transcript) -> Judgement:
        if transcript.hidden is None:
            return Judgement("error", "the engine kept no hidden states")
        states_F = np.asarray(transcript.hidden, float)
        if states_F.shape != self.weights_F.shape:
            return Judgement("error", f"hidden states of {states_F.size} numbers, not {self.weights_F.size}")
        if not np.isfinite(states_F).all():
            return Judgement("error", "hidden states with numbers that are not finite")
        chance = 1 / (1 + math.exp(-float(np.clip(states_F @ self.weights_F + self.bias, -500, 500))))
        return Judgement("flag" if chance >= self.threshold else "allow", suspicion=Suspicion(chance))


def fit(completions: Sequence[Completion], labels: Sequence[bool], *, l2: float = 10.0) -> HiddenProbe:
    """labels: whether a completion is of the kind that is watched for. ConfigError for completions without hidden
    states, or all of one kind."""
    if any(completion.hidden is None for completion in completions):
        raise ConfigError("a probe needs hidden states; open the engine with keep_hidden")
    if len(completions) != len(labels) or not any(labels) or all(labels):
        raise ConfigError("a probe needs completions of both kinds, and a label for each")
    x = np.stack([np.asarray(completion.hidden, float) for completion in completions])
    mean, scale = x.mean(0), np.where(x.std(0) > 1e-9, x.std(0), 1.0)
    theta = logistic(np.column_stack([(x - mean) / scale, np.ones(len(x))]), np.asarray(labels, float), l2)
    weights = theta[:-1] / scale
    return HiddenProbe(weights, float(theta[-1] - weights @ mean))
