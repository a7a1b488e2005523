"""A score of another program as an outcome: correct, wrong, or undecided where it is no verdict."""

from __future__ import annotations

import math
from collections import Counter

from ponder.types import Outcome

WORDS: dict[str, Outcome] = {
    "c": "correct", "i": "wrong", "n": "wrong", "p": "wrong", "true": "correct", "false": "wrong", "yes": "correct",
    "no": "wrong",
}  # fmt: skip
PARTIAL = "partial scores, which count as wrong"
NO_VERDICT = "scores that are no verdict, so undecided"


def outcome_of(value: object, seen: Counter[str]) -> Outcome:
    """1, true and C are correct; 0, false, I and N (no answer) wrong; a share of 1 is not correct.

    Anything else is undecided: nan (not scored), a scale of other numbers, a table of scores. `seen` counts what
    was not plainly one or the other.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        if word in WORDS:
            seen[PARTIAL] += word == "p"
            return WORDS[word]
        try:
            value = float(word)
        except ValueError:
            value = math.nan
    if isinstance(value, bool | int | float) and 0 <= value <= 1:  # nan is in no range
        seen[PARTIAL] += 0 < value < 1
        return "correct" if value == 1 else "wrong"
    seen[NO_VERDICT] += 1
    return "undecided"


def count_notes(seen: Counter[str]) -> list[str]:
    """A line of every count that is not 0."""
    return [f"{count} {what}" for what, count in seen.items() if count]
