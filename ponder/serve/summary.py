"""Summaries of hidden reasoning: a model reads a sealed segment and describes in other words what went on.

Nothing is released that repeats the reasoning or the developer's messages: `leaks` compares runs of words, with up to
two words of another text between any two of them, forwards and backwards, and runs of letters whatever stands between
those. Look-alike letters, what cannot be seen, case and punctuation make no difference; a long run of letters without
a blank (base64, hexadecimal) is not released at all. What fails is replaced by a sentence that gives only the length of
the segment. It is a check of quotations, not of sense: a translation, a paraphrase or a cipher passes. The summariser
never sees the user's messages; what the model quotes of them in its thoughts it does see. Its tokens are counted apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Protocol

from ponder.types import Engine, Message, SamplingParams

WORDS, CHARACTERS = 6, 32  # a run this long, found in the source, is a quotation
_GAP = 3  # two words of a run stand so many places apart at most
_LONG_WORDS = 3  # of a run with gaps are no "the" or "and": those stand in any order in any text
_COMMON = 500  # places of a word from which on it is left to the search for runs without gaps, as the other takes long
_CODED = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_WORD = re.compile(r"\w+")
_PROMPT = (
    "Below are notes from working on a problem. In one or two short sentences say what kind of step they take. "
    "Use your own words, quote nothing, give no results.\n\nNotes:\n{notes}"
)
# letters of other scripts that look like Latin ones, and digits that stand for letters nowhere
_ALIKE = str.maketrans(
    "аеорсухіјѕһԁԛԝɡαοεικνρτυχβ" "АВЕКМНОРСТУХІЈЅ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijshdqwgaoeiknptuxb" "abekmhopctyxijs" "abezhikmnoptyx",
)  # fmt: skip


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
    if _CODED.search(text):
        return True
    text = plain(text)
    words, squeezed = _WORD.findall(text), "".join(_WORD.findall(text))
    for source in map(plain, sources):
        theirs = _WORD.findall(source)
        size = min(WORDS, len(theirs))
        runs = {tuple(theirs[i : i + size]) for i in range(len(theirs) - size + 1)}
        if size >= 3 and any(tuple(words[i : i + size]) in runs for i in range(len(words) - size + 1)):
            return True
        if _quotes(words, theirs) or _quotes(words[::-1], theirs):
            return True
        whole = "".join(theirs)
        for direction in (squeezed, squeezed[::-1]):
            if any(direction[i : i + CHARACTERS] in whole for i in range(len(direction) - CHARACTERS + 1)):
                return True
    return False


def plain(text: str) -> str:
    """Text as it is read: one form a letter, lower case, without accents and what cannot be seen."""
    shown = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(_ALIKE).casefold())
    return "".join(char for char in shown if unicodedata.category(char) not in ("Cf", "Mn", "Me"))


def _quotes(words: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether WORDS words stand in both in the same order, each at most _GAP places after the one before."""
    places: dict[str, list[int]] = {}
    for index, word in enumerate(theirs):
        places.setdefault(word, []).append(index)
    best: dict[tuple[int, int], tuple[int, int]] = {}  # (index here, index there) -> (words, long ones) of a run
    for here, word in enumerate(words):
        found = places.get(word, ())
        for there in found if len(found) <= _COMMON else ():
            count = longs = 0
            for back in range(1, _GAP + 1):
                for behind in range(1, _GAP + 1):
                    run = best.get((here - back, there - behind))
                    if run is not None and run > (count, longs):
                        count, longs = run
            run = count + 1, longs + (len(word) > 3)
            if run[0] >= WORDS and run[1] >= _LONG_WORDS:
                return True
            best[here, there] = run
    return False


def says_something(text: str) -> bool:
    """At least three different words of letters: a small model may answer with a number, or go on calculating."""
    return len({word.casefold() for word in re.findall(r"\b[^\W\d_]{2,}\b", text)}) >= 3


def plain_summary(number: int, num_tokens: int) -> str:
    """What stands in where no summary can be."""
    title = "Starting to think" if number == 0 else "Thinking further"
    return f"**{title}**\n\nWorked on the problem for {num_tokens} tokens."
