"""Learned estimates of how good completions of one prompt are, higher is better (`types.Scorer`); never the truth.

    scorer = load_scorer("runs/scorer_nano")          # a folder that `ponder scorer` made
    check_policy(scorer, hub.fingerprint(model))      # warns where it was trained for another policy
    scores = await scorer(problem.prompt, completions)

    outcome.py    the policy's own network with a scalar head: will this completion end correct?
    process.py    the same, trained on the outcomes of continuations of each step
    probe.py      a small head over the sampler's own hidden states: nearly free
    features.py   confidence, length and agreement, combined by logistic regression
    preference.py which of two answers do people prefer? a reward model; `reward.py` has what all of those share
    judge.py      a language model that grades or compares

Training is in train/scorer.py.
"""

from __future__ import annotations

from ponder.scorers.base import TokenScorer, check_policy
from ponder.scorers.files import KINDS, load_scorer

__all__ = ["KINDS", "TokenScorer", "check_policy", "load_scorer"]
