"""How an answer looks: its length and its markup, for telling what voters prefer from how it is dressed.

    style_of("# Title\\n- **one**\\n- two")     Style(tokens=8, headings=1, bold=1, lists=2)

Tokens are words and marks: every model is measured by the same ruler, whatever its tokenizer. Code blocks count as
length alone; a "#" in one is no heading. `differences` are the covariates of a fit: first minus second over their sum,
so that 10 against 20 weighs as 100 against 200, divided by the standard deviation over all votes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(r"\w+|[^\w\s]")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*?(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^\s*][^\n*]*\*\*|__[^\s_][^\n_]*__")
_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])\s+\S", re.MULTILINE)
FEWEST = 30  # votes in which a feature differs


@dataclass(frozen=True)
class Style:
    """How an answer looks: counts of what a reader may like beside its content."""

    tokens: int = 0
    headings: int = 0
    bold: int = 0
    lists: int = 0  # items of lists


def style_of(text: str) -> Style:
    """The counts of a Markdown text; fenced code has tokens only."""
    plain = _FENCE.sub("", text)
    counts = (len(pattern.findall(plain)) for pattern in (_HEADING, _BOLD, _ITEM))
    return Style(len(_TOKEN.findall(text)), *counts)


def differences(first: Sequence[Style], second: Sequence[Style]) -> dict[str, NDArray[np.float64]]:
    """A column for each feature that differs often enough to be measured, in standard deviations."""
    found = {}
    for feature in fields(Style):
        a, b = (np.array([getattr(style, feature.name) for style in side], float) for side in (first, second))
        column = (a - b) / np.maximum(a + b, 1)
        if np.count_nonzero(column) >= FEWEST and (deviation := float(column.std())) > 0:
            found[feature.name] = column / deviation
    return found
