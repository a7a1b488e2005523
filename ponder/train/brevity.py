r"""Brevity: the work of a solution, without what announces it and without what says its result again.

    brief("To find the sum, we follow these steps:\n\nFirst we add:\n\\[\n2 + 3 = 5\n\\]\n\nSo it is \\boxed{5}.", "5")
    == "First we add:\n\\[ 2 + 3 = 5 \\]"

An instruct model that works in the open writes for a reader: what it is going to do, a list of the steps, the work, and
a sentence with the result. Behind a reasoning mark only the work is of use, since the answer follows it. Lines are left
out and none is changed (but for line breaks inside a displayed formula), so it stays the model's own text.
"""

from __future__ import annotations

import re

_PARAGRAPH = re.compile(r"\n\s*\n")
_ANNOUNCES = re.compile(
    r"\W*(?:to (?:determine|find|solve|calculate|compute|figure)|let'?s|let us|we (?:need|can|will|have)|here(?:'s| is)"
    r"|given|sure)\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"\W*(?:therefore|so|thus|hence|finally|in conclusion|the (?:final )?answer)\b", re.IGNORECASE)
_NUMBER_OF_A_STEP = re.compile(r"^\W*[0-9]+[.)]", re.MULTILINE)
_DISPLAYED = re.compile(r"\\\[\s*(.*?)\s*\\\]", re.DOTALL)


def brief(work: str, answer: str) -> str:
    """The work alone. answer: as the verifier read it; a conclusion stays where nothing before it comes to that.

    Never empty where the work is not: its last paragraph stays.
    """
    parts = [part.strip() for part in _PARAGRAPH.split(work) if part.strip()]
    while len(parts) > 1 and _is_announcement(parts[0]):
        del parts[0]
    while len(parts) > 1 and _CONCLUDES.match(parts[-1]) and _comes_to(parts[-2], answer):
        del parts[-1]
    parts = [part for part in parts[:-1] if not _is_heading(part)] + parts[-1:]
    return _DISPLAYED.sub(lambda match: rf"\[ {match[1]} \]", "\n".join(parts))


def _is_announcement(part: str) -> bool:
    """Nothing is computed in it, and it says that something will be, or holds no number at all."""
    if "=" in part:
        return False
    return bool(_ANNOUNCES.match(part)) or not re.search("[0-9]", _NUMBER_OF_A_STEP.sub("", part))


def _is_heading(part: str) -> bool:
    return len(part) < 90 and part.endswith(":") and not re.search("[0-9]", part)


def _comes_to(part: str, answer: str) -> bool:
    """Does one of its last three lines end at the answer?"""
    found = re.compile(rf"(?<![0-9.,]){re.escape(answer)}(?![0-9]|[.,][0-9])")
    return any(found.search(line.replace(",", "").rpartition("=")[2]) for line in part.splitlines()[-3:])
