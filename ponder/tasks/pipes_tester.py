"""Programs of `pipes` against the pairs that a question shows: the language's own interpreter, no sandbox.

    PipesTester().passes("sort rev", examples_of("3 1 2>3 2 1"))     -> [True]

For mode submit; what the testers of Python are, see grading/testers.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ponder.grading.examples import Examples
from ponder.tasks.pipes import find_pipe
from ponder.tasks.pipes_language import LONGEST, MOST, parse, run
from ponder.tasks.pipes_problems import text_of


class PipesTester:
    """Examples that are pairs of lists."""

    def program(self, answer: str, examples: Examples) -> str | None:
        found = find_pipe(answer)
        return None if found is None else " ".join(found)

    def passes(self, program: str, examples: Examples) -> list[bool]:
        given = self.outputs(program, examples, [shown.given for shown in examples.items])
        return [output == shown.wanted for output, shown in zip(given, examples.items, strict=True)]

    def outputs(self, program: str, examples: Examples, inputs: Sequence[str]) -> list[str | None]:
        pipe = parse(program)
        values = [_value(text) for text in inputs]
        return [None if pipe is None or value is None else text_of(run(pipe, value)) for value in values]


def _value(text: str) -> tuple[int, ...] | None:
    """The list of a text; None where it is none of the language's."""
    words = text.split()
    if len(words) > LONGEST or any(len(word) > 1 + len(str(MOST)) or not _is_number(word) for word in words):
        return None
    return tuple(map(int, words))


def _is_number(word: str) -> bool:
    digits = word.removeprefix("-")
    return digits.isascii() and digits.isdecimal()
