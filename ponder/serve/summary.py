"""Summaries of hidden reasoning: a model reads a sealed segment and says in other words what went on.

Nothing is released that repeats the reasoning or the developer's messages: `leaks` compares runs of words, and of
characters for what has no words. What fails is replaced by a sentence that tells only how long the segment was. The
summariser never sees the user's messages, so it cannot be told what to write. Its tokens are counted apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from ponder.types import Engine, Message, SamplingParams

WORDS, CHARACTERS = 6, 32  # a run this long, found in the source, is a quotation
_WORD = re.compile(r"\w+")
_BLANK = re.compile(r"\s+")
_PROMPT = (
    "Below are notes from working on a problem. In one or two short sentences say what kind of step they take. "
    "Use your own words, quote nothing, give no results.\n\nNotes:\n{notes}"
)


class Summarizer(Protocol):
    async def __call__(self, segment: str) -> tuple[str, int]:
        """(summary, tokens it cost)."""
        ...


class ModelSummarizer:
    """Any engine as summariser; it answers without thinking."""

    def __init__(self, engine: Engine, *, max_tokens: int = 80, max_characters: int = 4000) -> None:
        self._engine, self._max_characters = engine, max_characters
        self._params = SamplingParams(temperature=0.0, max_reasoning_tokens=0, max_answer_tokens=max_tokens)

    async def __call__(self, segment: str) -> tuple[str, int]:
        prompt = (Message(role="user", content=_PROMPT.format(notes=segment[-self._max_characters :])),)
        (completion,) = await self._engine.generate(prompt, self._params)
        return completion.answer.strip(), completion.num_prompt_tokens + completion.num_tokens


def leaks(text: str, sources: Sequence[str]) -> bool:
    """Whether a text repeats a run of words or characters of a source; of a short source, all of it."""
    words, squeezed = _words(text), _BLANK.sub("", text.casefold())
    for source in sources:
        theirs = _words(source)
        size = min(WORDS, len(theirs))
        runs = {tuple(theirs[i : i + size]) for i in range(len(theirs) - size + 1)}
        if size >= 3 and any(tuple(words[i : i + size]) in runs for i in range(len(words) - size + 1)):
            return True
        whole = _BLANK.sub("", source.casefold())
        if any(squeezed[i : i + CHARACTERS] in whole for i in range(len(squeezed) - CHARACTERS + 1)):
            return True
    return False


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def says_something(text: str) -> bool:
    """At least three different words of letters: a small model may answer with a number, or go on calculating."""
    return len({word.casefold() for word in re.findall(r"\b[^\W\d_]{2,}\b", text)}) >= 3


def plain_summary(number: int, num_tokens: int) -> str:
    """What is told where no summary can be."""
    title = "Starting to think" if number == 0 else "Thinking further"
    return f"**{title}**\n\nWorked on the problem for {num_tokens} tokens."
