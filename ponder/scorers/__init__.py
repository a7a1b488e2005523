"""Learned judgement, not truth: how good completions of one prompt are, higher is better (`types.Scorer`).

    scorer = load_scorer("runs/scorer_nano")          # a folder that `ponder scorer` made
    check_policy(scorer, hub.fingerprint(model))      # warns where it was trained for another policy
    scores = await scorer(problem.prompt, completions)

    outcome.py    the policy's own network with a scalar head: will this completion end correct?
    process.py    the same, trained on what continuations of each step come to
    probe.py      a small head over the sampler's own hidden states: nearly free
    features.py   confidence, length and agreement, joined by logistic regression
    judge.py      a language model that grades or compares

Nothing here is trained (train/scorer.py does that), and nothing here knows an answer's truth.
"""

from __future__ import annotations

from ponder.scorers.base import TokenScorer, check_policy
from ponder.scorers.files import load_scorer

__all__ = ["KINDS", "TokenScorer", "check_policy", "load_scorer"]

KINDS: dict[str, str] = {  # what scorer.json calls it -> module:attr, as your own is; imported when asked for
    "outcome": "ponder.scorers.outcome:OutcomeScorer",
    "process": "ponder.scorers.process:ProcessScorer",
    "probe": "ponder.scorers.probe:Probe",
    "features": "ponder.scorers.features:FeatureScorer",
}
