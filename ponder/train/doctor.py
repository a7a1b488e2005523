"""Explains a run that does not learn, from its metrics.jsonl alone.

    findings = diagnose(list(read_jsonl(run / "metrics.jsonl")), config)
    print(render(findings))

Every check of `symptoms.py` is asked. A finding that another one explains is left out: a policy whose entropy is gone
also has groups that come out all the same, and only the first is worth fixing. Left out: bugs that leave no trace in
the metrics, such as a verifier that accepts wrong answers; read samples.jsonl.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ponder.train.series import Series
from ponder.train.symptoms import CHECKS, Finding, Severity, percent

_ORDER: tuple[Severity, ...] = ("serious", "warning", "note", "ok")
_STUCK = {"step_too_small", "step_too_large", "flat_reward"}
_SAME = {"too_hard", "too_easy", "too_uneven"}
EXPLAINS: dict[str, set[str]] = {  # cause -> symptoms that go with it; no circles
    "mismatch": _STUCK,
    "never_closes": _STUCK | {"truncation", "no_format", "too_hard"},
    "truncation": _STUCK | {"no_format", "too_hard"},
    "no_format": _STUCK | {"too_hard"},
    "entropy_collapse": _STUCK | _SAME,
    "entropy_blowup": _STUCK | {"no_format", "too_hard", "reward_fell", "length_hacking"},
    "exploding": _STUCK | {"too_hard", "reward_fell"},
    "kl_runaway": _STUCK,
    "length_hacking": _STUCK,
    "reward_fell": _STUCK | _SAME | {"length_hacking"},
    "preference_over_truth": _STUCK | {"reward_fell", "length_hacking"},
}


def diagnose(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None) -> list[Finding]:
    """What is wrong with an RL run, most serious first; one finding of severity "ok" where nothing is.

    rows: the lines of metrics.jsonl. config: the resolved recipe as plain values, for advice with numbers.
    """
    s = Series(rows, config or {})
    known = ("reward/mean", "rollout/correct", "rollout/failed", "rollout/undecided")
    if rows and not any(s.all(key) for key in known):
        return [
            Finding(
                name="no_metrics",
                severity="note",
                evidence=f"{len(rows)} steps without a rollout's reward",
                cause="These are not the metrics of an RL run.",
                advice="Give the folder of a run that `ponder rl` wrote.",
            )
        ]
    found = [finding for check in CHECKS if (finding := check(s)) is not None]
    explained = set().union(*(EXPLAINS.get(finding.name, set()) for finding in found)) if found else set()
    kept = [finding for finding in found if finding.name not in explained]
    return sorted(kept, key=lambda finding: _ORDER.index(finding.severity)) or [healthy(s)]


def healthy(s: Series) -> Finding:
    """Nothing wrong, with the numbers that say so."""
    seen = [f"{len(s.rows)} steps"]
    for key, words in (("reward/mean", "reward"), ("policy/entropy", "entropy")):
        if (change := s.change(key)) is not None:
            seen.append(f"{words} {change[0]:.3g} -> {change[1]:.3g}")
    for key, words in (
        ("group/frac_mixed", "mixed groups"), ("rollout/truncated_frac", "cut off"),
        ("rollout/no_answer_frac", "without an answer"), ("policy/clip_frac", "clipped"),
    ):  # fmt: skip
        if (level := s.level(key)) is not None:
            seen.append(f"{percent(level)} {words}")
    if (level := s.level("policy/mismatch_kl")) is not None:
        seen.append(f"engine and trainer within {level:.2g} nats a token")
    return Finding(
        name="healthy",
        severity="ok",
        evidence=", ".join(seen),
        cause="Nothing wrong was found.",
        advice="Go on; `ponder scale RUN` measures the checkpoints on problems that were not practised.",
    )


def render(findings: Sequence[Finding]) -> str:
    """Findings for a terminal, most serious first as given."""
    marks = {"serious": "✗", "warning": "!", "note": "·", "ok": "✓"}
    blocks = []
    for finding in findings:
        lines = [f"{marks[finding.severity]} {finding.name.replace('_', ' ')} ({finding.severity})"]
        for label, text in (("seen", finding.evidence), ("cause", finding.cause), ("try", finding.advice)):
            lines.append(textwrap.fill(text, 100, initial_indent=f"  {label:<7}", subsequent_indent=" " * 9))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
