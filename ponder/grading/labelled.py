"""Labelled parts: the answers to several parts of one question, each behind its label.

    labelled("Part 1: 3. Part 2: 4.")   -> ["3", "4"]
    labelled("(a) 3\n(b) 4")            -> ["3", "4"]
    labelled("A) 3 B) 4")               -> None      (options of a choice have capital letters)

The labels count from the first one without a gap, are of one kind, and the parts run to the end of the text. Their
order is part of the answer, so that one part alone, or two that are exchanged, say something else. Left
out: parts whose text is longer than an answer; steps and cases, which are no parts of a question.
"""

from __future__ import annotations

import re

_LONGEST = 600  # characters of all parts together, from the end of the text
_LONGEST_PART = 80
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_PIECES = (")", "art", "ART", "uestion", "roblem", "Q1", "q1", "irst ", "nswer 1", "nswer a", "nswer A", "nswer (")
_FIRST = re.compile(
    r"\b(?:parts?|questions?|problem|answer)\s?\(?[1aAiI]\b|\b[Qq]1\b|\([1ai]\)\s|(?<![\w(])[ai]\)\s"
    r"|\bfirst\s+(?:part|question|answer|problem)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:^|(?<=[\s.,;:*_#>-]))[*_#>-]{0,3}\s?(?:"
    r"(?P<named>(?:the\s+answer\s+to\s+)?(?:part|question|problem|answer|q)\s?#?\(?(?P<of_named>[0-9]{1,2}|[a-h]|[ivIV]{1,3}|[A-H])\)?)"
    r"\s?(?:[:.=)–—-]|is\b|→)"
    r"|\((?P<round>[1-9]|[a-h]|[iv]{1,3})\)(?=\s|\*|:)|(?P<half>[a-h]|[iv]{1,3})\)(?=\s|\*)"
    r"|(?P<ordinal>first|second|third|fourth|fifth|sixth)\s+(?:part|question|answer|problem)\s?(?:[:=–—-]|is\b))"
    r"[*_:]{0,4}\s*",
    re.IGNORECASE,
)
_BEHIND = re.compile(r"([^\s,]{1,40}) (?:for|in) part \(?([1-9]|[a-h])\)?", re.IGNORECASE)  # 3 for part (a)
_STEP = re.compile(r"[0-9]\s*[-+*/×÷]\s*[$€£¥]?[0-9].*=")  # (1) 5 + 3 = 8 (2) 8 * 2 = 16
_JOINT = re.compile(r"[\s.,;]*(?:\b(?:and|while)\b)?[\s*_#>-]*$", re.IGNORECASE)


def labelled(text: str) -> list[str] | None:
    """What stands behind each label; None where the text does not end in at least two labelled parts."""
    text = text[-_LONGEST:]
    first = _FIRST.search(text) if any(piece in text for piece in _PIECES) else None
    if first is None:
        return None
    behind = _BEHIND.findall(text)
    if len(behind) > 1:
        marks = tuple(mark.lower() for _, mark in behind)
        return (
            [part for part, _ in behind] if marks in (_numbers(len(marks)), tuple("abcdefgh"[: len(marks)])) else None
        )
    labels = list(_LABEL.finditer(text, max(0, first.start() - 4)))
    for start in range(len(labels) - 1):
        run = labels[start:]
        if _count(run):
            ends = [label.start() for label in run[1:]] + [len(text)]
            parts = [_plain(text[label.end() : end]) for label, end in zip(run, ends, strict=True)]
            if not run[0]["of_named"] and any(_STEP.search(part) for part in parts):
                return None
            return parts if all(0 < len(part) <= _LONGEST_PART for part in parts) else None
    return None


def _plain(part: str) -> str:
    part = _JOINT.sub("", part).strip().rstrip(".;,").strip()
    return part.strip("*").strip() if part.count("*") % 2 or part.startswith("**") else part


def _count(labels: list[re.Match[str]]) -> bool:
    """Do the labels count 1, 2, 3 or a, b, c, in one way of writing?"""
    kinds = {label.lastgroup if not label["of_named"] else "named" for label in labels}
    marks = [(label["of_named"] or label["round"] or label["half"] or label["ordinal"]).lower() for label in labels]
    letters = tuple("abcdefgh"[: len(marks)])
    counts = (_numbers(len(marks)), letters, _ROMAN[: len(marks)], _ORDINALS[: len(marks)])
    return len(kinds) == 1 and tuple(marks) in counts


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(index + 1) for index in range(count))
