r"""Brevity: the work of a solution, without what announces it and without what says its result again.

    brief("To find the sum, we follow these steps:\n\nFirst we add:\n\\[\n2 + 3 = 5\n\\]\n\nSo it is \\boxed{5}.", "5")
    == "First we add:\n\\[ 2 + 3 = 5 \\]"

An instruct model that works in the open writes for a reader: what it is going to do, a list of the steps, the work, and
a sentence with the result. Behind a reasoning mark only the work is of use, since the answer follows it. Only a text
with equations is touched. Lines are left out and none is changed (but for line breaks inside a displayed formula): it
stays the model's own text.
"""

from __future__ import annotations

import re

_PARAGRAPH = re.compile(r"\n\s*\n")
_ANNOUNCES = re.compile(
    r"\W{0,9}(?:to (?:determine|find|solve|calculate|compute|figure)|let'?s|let us|we (?:need|can|will)|here(?:'s| is)"
    r"|given|sure|first, (?:let'?s|we need))\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\W{0,9}(?:therefore|so|thus|hence|finally|in conclusion|the (?:final )?answer)\b", re.IGNORECASE
)
_NUMBER_OF_A_STEP = re.compile(r"^[^\w\n]{0,9}[0-9]+[.)]", re.MULTILINE)
_COMPUTES = re.compile(r"[-+*/^×÷]|\\(?:times|cdot|div|frac|sqrt)")
_BEHIND = re.compile(r"[^0-9+*/^=<>%\\-]*(?:\\(?:[\])%$, ]|text\b|boxed\b)[^0-9+*/^=<>%\\-]*)*")  # units, marks, an end
_DISPLAYED = re.compile(r"\\\[((?:[^\\]|\\(?!\])){0,400})\\\]")


def brief(work: str, answer: str) -> str:
    """The work alone. answer: as the verifier read it; a conclusion stays where nothing before it comes to that.

    A work without an equation comes back as it is; of any other at least one equation is left.
    """
    parts = [part.strip() for part in _PARAGRAPH.split(work) if part.strip()]
    if not any("=" in part for part in parts):
        return work.strip()
    while _is_announcement(parts[0]):
        del parts[0]
    while len(parts) > 1 and _only_concludes(parts[-1]) and _comes_to(parts[-2], answer):
        del parts[-1]
    parts = [part for part in parts[:-1] if not _is_heading(part)] + parts[-1:]
    return _DISPLAYED.sub(lambda match: rf"\[ {match[1].strip()} \]", "\n".join(parts))


def _is_announcement(part: str) -> bool:
    """It says that something will be done, or lists what, and neither gives a number nor computes one."""
    if "=" in part or re.search("[0-9]", _NUMBER_OF_A_STEP.sub("", part)):
        return False
    return bool(_ANNOUNCES.match(part) or _NUMBER_OF_A_STEP.match(part))


def _is_heading(part: str) -> bool:
    return len(part) < 90 and part.endswith(":") and not re.search("[0-9]", part)


def _only_concludes(part: str) -> bool:
    """It says a result and does not work it out."""
    return bool(_CONCLUDES.match(part)) and not any(_COMPUTES.search(side) for side in part.split("=")[:-1])


def _comes_to(part: str, answer: str) -> bool:
    """Does the last equation in it end at the answer?"""
    lines = [line for line in part.splitlines() if "=" in line]
    said = answer.replace(",", "").strip()
    if not lines or not said:
        return False
    before, found, behind = lines[-1].rpartition("=")[2].replace(",", "").partition(said)
    is_whole = not re.search(r"[\w.^/+*-]\s*$", before) and not re.match(r"[0-9]|\.[0-9]|\s*\\?%", behind)
    return bool(found) and is_whole and bool(_BEHIND.fullmatch(behind))
