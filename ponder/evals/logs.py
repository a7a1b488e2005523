"""What training logged, for a report: metrics.jsonl as pictures, samples.jsonl as samples.

The lines are a trainer's, and which keys they have depends on the run: nothing in a line is taken for granted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 4000  # characters of one text on a page; the folder has the rest
Row = Mapping[str, Any]

# the training metrics worth a picture: those of these that the run has logged
METRICS = {
    "reward/mean": "reward (mean)",
    "rollout/correct": "correct rollouts (share)",
    "rollout/reasoning_tokens": "reasoning tokens",
    "thinking/checks": "checks in a piece of reasoning",
    "group/frac_mixed": "groups with a gradient (share)",
    "rollout/truncated_frac": "truncated rollouts (share)",
    "policy/entropy": "entropy (nats a token)",
    "policy/mismatch_kl": "engine/trainer mismatch (KL)",
    "loss": "loss",
}


@dataclass(frozen=True)
class LoggedMetric:
    """One training metric: (step, value) where the run has logged it."""

    title: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class ShownSample:
    """One sample on a page."""

    outcome: str
    reasoning: str
    answer: str
    detail: str

    @property
    def verdict(self) -> str:
        """What neither is right nor wrong is one thing to look for."""
        return self.outcome if self.outcome in ("correct", "wrong") else "undecided"


@dataclass(frozen=True)
class SampleColumn:
    """Samples of one checkpoint, beside those of another."""

    title: str
    samples: Sequence[ShownSample]


@dataclass(frozen=True)
class ProblemSamples:
    """One problem with its samples."""

    text: str
    target: str
    columns: Sequence[SampleColumn]


def logged_metrics(rows: Sequence[Row]) -> list[LoggedMetric]:
    """The metrics that have a number in any line."""
    rows = [row for row in rows if is_number(row.get("step"))]
    found = [
        LoggedMetric(title, [(row.get("step", 0), float(row[key])) for row in rows if is_number(row.get(key))])
        for key, title in METRICS.items()
    ]
    return [each for each in found if each.points]


def logged_samples(rows: Sequence[Row]) -> list[ProblemSamples]:
    """The last samples that training logged, as far as their lines have the fields; trajectories are drawn as trees."""
    problems = []
    for row in [row for row in rows if "answer" in row and not row.get("turns")][-8:]:
        reward = row.get("reward")
        outcome = row.get("outcome") or ("correct" if isinstance(reward, int | float) and reward > 0 else "wrong")
        text = row.get("problem_text") or row.get("text") or row.get("prompt") or row.get("problem") or ""
        shown = ShownSample(str(outcome), clip(row.get("reasoning", "")), clip(row.get("answer")), f"reward {reward}")
        target = f"target {row.get('target')}" if row.get("target") else ""
        column = SampleColumn(f"step {row.get('step', '?')}", [shown])
        problems.append(ProblemSamples(clip(text), target, [column]))
    return problems


def clip(text: Any) -> str:
    """At most LONGEST_TEXT characters, and how many more there are. What is no text is shown as JSON."""
    text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    # half a surrogate pair cannot be written to a file
    text = text.encode(errors="replace").decode()
    rest = len(text) - LONGEST_TEXT
    return text if rest <= 0 else f"{text[:LONGEST_TEXT]} … ({rest} more characters)"


def is_number(value: Any) -> bool:
    """A number that a float can hold; true, false, nan and infinity are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
