"""Reasoning that a remote server left in the text, between marks that are text themselves.

    split_marked("<think>hm</think>4")                 -> ("hm", "4")
    split_marked("hm</think>4")                        -> ("hm", "4")       the opening mark was part of the prompt
    split_marked("4<think>really?</think>, I think")   -> ("really?", "4, I think")
    split_marked("4<think>never closed")               -> ("never closed", "4")

The rule is that of `models.tokenizer.ReasoningParser`, on text: reasoning is what stands before a closing mark that
nothing opened, and what an opening mark begins, up to the next closing mark or to the end. Marks are <think>,
<thinking> and [THINK], and with a slash the closing ones, in letters of any case, with or without spaces inside the
brackets. Whether a text holds a closing mark that hides its beginning is known at its end only, so it is split then.
"""

from __future__ import annotations

import re

_MARK = re.compile(r"<\s*(/?)\s*think(?:ing)?\s*>|\[\s*(/?)\s*think(?:ing)?\s*\]", re.IGNORECASE)


def has_marks(text: str) -> bool:
    """Whether a text holds any mark, opening or closing."""
    return _MARK.search(text) is not None


def split_marked(text: str) -> tuple[str, str]:
    """(reasoning, answer), the line ends beside the marks in neither."""
    thoughts: list[str] = []
    said: list[str] = []
    is_thinking, at = False, 0
    for mark in _MARK.finditer(text):
        before, closes = text[at : mark.start()], bool(mark[1] or mark[2])
        at = mark.end()
        (thoughts if is_thinking else said).append(before)
        if closes and not is_thinking:
            thoughts, said = [*thoughts, "".join(said)], []
        is_thinking = not closes
    (thoughts if is_thinking else said).append(text[at:])
    if not thoughts:
        return "", text
    return "\n\n".join(filter(None, (part.strip("\n") for part in thoughts))), "".join(said).lstrip("\n")
