"""Templates of sentences: alternatives in square brackets, which may stand in each other, and two tenses in angle ones.

    [Then|Later], {p.he} <buys/bought> {n} more {things}[| at {shop}].

A template is read once. Alternatives are chosen in the order in which their brackets close, also those inside one that
is not chosen: how many numbers are drawn does not depend on what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_TENSES = re.compile(r"<([^<>/]*)/([^<>/]*)>")
_MARKS = re.compile(r"([\[|\]])")

Option = list["str | int"]  # pieces of text, and brackets by their number


@dataclass(frozen=True)
class Template:
    brackets: Sequence[Sequence[Option]]  # in the order in which they close
    whole: Option

    def written(self, pick: Callable[[Sequence[Option]], Any]) -> str:
        """The text, its alternatives chosen by `pick`; fields stay as they are."""
        chosen = [pick(options) for options in self.brackets]

        def text(pieces: Option) -> str:
            return "".join([piece if isinstance(piece, str) else text(chosen[piece]) for piece in pieces])

        return text(self.whole)


@lru_cache(maxsize=10_000)
def template(text: str, is_past: bool) -> Template:
    """A text, read once for each tense. is_past: which of two tenses is kept."""
    text = _TENSES.sub(r"\2" if is_past else r"\1", text).replace("${", "{$")
    brackets: list[list[Option]] = []
    open_brackets: list[list[Option]] = [[[]]]  # the whole as if it stood in one
    for piece in _MARKS.split(text):
        if piece == "[":
            open_brackets.append([[]])
        elif piece == "|" and len(open_brackets) > 1:
            open_brackets[-1].append([])
        elif piece == "]":
            brackets.append(open_brackets.pop())
            open_brackets[-1][-1].append(len(brackets) - 1)
        elif piece:
            open_brackets[-1][-1].append(piece)
    ((whole,),) = open_brackets
    return Template(brackets, whole)
