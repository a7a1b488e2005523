"""A score of another program as an outcome: correct, wrong, or undecided where it is no verdict."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ponder.config import ConfigError
from ponder.types import Outcome

WORDS: dict[str, Outcome] = {
    "c": "correct", "i": "wrong", "n": "wrong", "p": "wrong", "true": "correct", "false": "wrong", "yes": "correct",
    "no": "wrong",
}  # fmt: skip
PARTIAL = "partial scores, which count as wrong"
NO_VERDICT = "scores that are no verdict, so undecided"


def outcome_of(value: object, seen: Counter[str], best: float = 1.0) -> Outcome:
    """1, true and C are correct; 0, false, I and N (no answer) wrong; a share of 1 is not correct.

    Anything else is undecided: nan (not scored), a scale of other numbers, a table of scores. `seen` counts what
    was not plainly one or the other. `best` is the number that is correct, on a scale from 0 or 1 to that.
    """
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, str) and word in WORDS:
        seen[PARTIAL] += word == "p"
        return WORDS[word]
    if isinstance(word, bool):
        return "correct" if word else "wrong"
    number = _number(word)
    if 0 <= number <= best:  # nan is in no range
        seen[PARTIAL] += 0 < number < best
        return "correct" if number == best else "wrong"
    seen[NO_VERDICT] += 1
    return "undecided"


def check_scale(values: Iterable[object], best: float | None, path: Path) -> None:
    """ConfigError where the numbers of a log are on a scale of their own, where 1 is no right answer."""
    numbers = [number for value in values if math.isfinite(number := _number(value))]
    if best is None and numbers and not 0 <= min(numbers) <= max(numbers) <= 1:
        raise ConfigError(
            f"the scores of {path} go from {min(numbers):g} to {max(numbers):g}, so 1 need not be a right answer; say "
            f"which number is: --score NAME={max(1, max(numbers)):g}, or choose another score"
        )


def named_best(score: str) -> tuple[str, float | None]:
    """ "rating=5" -> ("rating", 5.0): the name of a score, and the number that is correct where it is said."""
    found = re.fullmatch(r"(.*)=([0-9.]+)", score)
    best = _number(found[2]) if found else math.nan
    return (found[1], best) if found and best > 0 else (score, None)


def _number(value: object) -> float:
    """nan for what is no number."""
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def count_notes(seen: Counter[str]) -> list[str]:
    """A line of every count that is not 0."""
    return [f"{count} {what}" for what, count in seen.items() if count]
