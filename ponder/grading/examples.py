r"""The examples in a question: what a program should do, as its statement shows it.

    examples_of("... >>> f(2)\n4")                     calls of f: f(2) should be 4
    examples_of("... assert f([1]) == 1")              the same, from asserts
    examples_of("Input:\n3 4\nOutput:\n7")             text in, text out
    examples_of("1 2>3\n4>4")                          pairs, as the task `pipes` shows them
    shown_in("... Example\nInput\n3 4\nOutput\n7")("3 4\n", "7\n")     whether a test is one of the examples: True

A question has one kind of examples: calls before pairs before texts, and None where it shows none. What a user wrote is
read by lines, in bounds, and never evaluated: arguments of calls must be plain literals. Left out: examples in prose
("the answer for 3 is 9"), and `Input: nums = [1, 2]` with names, of which nobody says in which order they are passed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from ponder.grading.code_blocks import fenced_blocks

MAX_QUESTION = 100_000  # characters that are looked at
MAX_LINE = 2_000  # a longer line is no example of a call
MAX_TEXT = 20_000  # characters of an input or an output
MOST = 20  # examples that are kept

Kind = Literal["calls", "pairs", "texts"]

_PROMPT = re.compile(r"\s*>>> ?(?P<code>\S.*)")
_ASSERT = re.compile(r"[\s`*\-\d.)]*(?P<code>assert\s.*?)`?\s*")
_ARROW = re.compile(
    r"[\s`*\-]*(?P<call>[A-Za-z_]\w*\(.*\))`?\s*(?:==|->|=>|→|➞|returns?|should return)\s*`?(?P<value>.+?)`?\.?\s*"
)
_PAIR = re.compile(r"\s*(?P<given>-?\d+(?: -?\d+)*|)\s*>\s*(?P<wanted>-?\d+(?: -?\d+)*|)\s*")
_HEADING = re.compile(
    r"[\s#*_`=-]*(?:(?:sample|example)s?\s*(?:#?\d+)?\s*)?(?P<side>input|output)(?:s|copy)?(?:\s*#?\d+)?[\s*_`=-]*"
    r"(?::[*_`]*(?P<rest>.*))?",
    re.IGNORECASE,
)
_END = re.compile(r"[\s#*_=-]*(?:explanation|note|constraints|examples?|samples?|limits)\b", re.IGNORECASE)
_SAMPLE = re.compile(r"[\s#*_`=-]*(?:for\s+)?(?:sample|example)", re.IGNORECASE)  # what begins the examples
_SAMPLES = re.compile(  # the same as a heading, below which an example stands without a label
    rf"{_SAMPLE.pattern}s?(?:\(s\))?(?:\s+(?:tests?|cases?|data))*(?:\s*#?\d+)?[\s*_`=-]*(?::[*_`]*(?P<rest>.*))?",
    re.IGNORECASE,
)
_NAMES = re.compile(r"\s*[A-Za-z_]\w*\s*=")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One example."""

    given: str  # a call's arguments, a pair's left side, or a text
    wanted: str  # the value as a literal, a pair's right side, or a text


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples of a question; `name` is the function that calls are of."""

    kind: Kind
    items: tuple[Shown, ...]
    name: str = ""


def examples_of(question: str) -> Examples | None:
    """What the question shows; None where it shows nothing that is understood."""
    lines = question[:MAX_QUESTION].replace("\r\n", "\n").split("\n")
    calls = list(_calls(lines))
    if calls:
        names = [name for name, _ in calls]
        name = max(dict.fromkeys(names), key=names.count)  # examples of helpers are not of the function asked for
        return _kept("calls", [shown for own, shown in calls if own == name], name)
    pairs = [match for line in lines if len(line) <= MAX_LINE and (match := _PAIR.fullmatch(line))]
    pairs = [match for match in pairs if match["given"] or match["wanted"]]  # a bare ">" quotes nothing
    if pairs:
        return _kept("pairs", [Shown(given=match["given"], wanted=match["wanted"]) for match in pairs])
    texts = list(_texts(lines))
    return _kept("texts", texts) if texts else None


def shown_in(statement: str) -> Callable[[str, str], bool]:
    """Whether an input, with its output, is one of a statement's examples as a whole; asked of all tests of a problem.

    That its words occur in the text says nothing: "5" stands everywhere. Under a heading such as "Examples" it must be
    the block labelled "Input", or where none has a label the first block: alone if it has several words, or with its
    output, as also two fences in a row may be. Blanks and empty lines apart. An empty input is never shown.
    """
    lines = statement[:MAX_QUESTION].replace("\r\n", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if _SAMPLE.match(line)), len(lines))
    loose = list(_first_blocks(lines[first:]))
    labelled = {_squeezed(shown.given) for part in (lines[first:], *loose) for shown in _texts(part)}
    blocks = {_squeezed("\n".join(block)) for block in loose}
    fences = [_squeezed(block.code) for block in fenced_blocks("\n".join(lines[first:]))]
    blocks |= {f"{given}\n{wanted}" for given, wanted in pairwise(fences)}

    def is_shown(given: str, wanted: str) -> bool:
        text = _squeezed(given)
        has_words = " " in text or "\n" in text
        is_block = (has_words and text in blocks) or f"{text}\n{_squeezed(wanted)}" in blocks
        return bool(text) and (text in labelled or is_block)

    return is_shown


def _squeezed(text: str) -> str:
    """Its lines without empty ones, with single blanks between their words."""
    return "\n".join(words for line in text.splitlines() if (words := " ".join(line.split())))


def _first_blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Below each heading of examples the first paragraph or fence, or what follows the heading on its line."""
    block: list[str] | None = None  # None = no heading was met, or its block is over
    is_fenced = False
    for line in [*lines, "Examples"]:
        is_fence = line.strip().startswith(("```", "~~~"))
        heading = None if is_fenced or len(line) > MAX_LINE else _SAMPLES.fullmatch(line)
        if block and (heading or is_fence or (not line.strip() and not is_fenced)):
            yield block
            block = None
        if is_fence:
            is_fenced = not is_fenced
        elif heading:
            rest = (heading["rest"] or "").strip(" `*")
            block = [rest] if rest else []
        elif block is not None and (line.strip() or block):
            block.append(line)


def arguments_of(text: str) -> tuple[Any, ...] | None:
    """The values of a call's arguments, `1, [2]` -> (1, [2]); None where they are no plain literals."""
    try:
        value = ast.literal_eval(f"({text},)" if text.strip() else "()")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, tuple) else None


def _kept(kind: Kind, items: Sequence[Shown], name: str = "") -> Examples:
    return Examples(kind=kind, items=tuple(dict.fromkeys(items))[:MOST], name=name)


def _calls(lines: Sequence[str]) -> Iterator[tuple[str, Shown]]:
    """(function, example) of doctests, asserts, and lines such as `f(1) -> 2`."""
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE:
            continue
        if prompt := _PROMPT.fullmatch(line):
            value = next(iter(lines[number + 1 : number + 2]), "").strip()
            if value and len(value) <= MAX_LINE and not _PROMPT.fullmatch(value):
                yield from _call(prompt["code"], value)
        elif stated := _ASSERT.fullmatch(line):
            yield from _equality(stated["code"].removeprefix("assert"))
        elif arrow := _ARROW.fullmatch(line):
            yield from _call(arrow["call"], arrow["value"])


def _equality(code: str) -> Iterator[tuple[str, Shown]]:
    """Of `f(1) == 2`."""
    tree = _parsed(code)
    if isinstance(tree, ast.Tuple):  # assert f(1) == 2, "message"
        tree = tree.elts[0] if tree.elts else None
    if isinstance(tree, ast.Compare) and len(tree.ops) == 1 and isinstance(tree.ops[0], ast.Eq):
        yield from _call(_unparsed(tree.left), _unparsed(tree.comparators[0]))


def _call(code: str, value: str) -> Iterator[tuple[str, Shown]]:
    tree = _parsed(code)
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)) or tree.keywords:
        return
    given = ", ".join(map(_unparsed, tree.args))
    wanted = arguments_of(value)
    if arguments_of(given) is not None and wanted is not None and len(wanted) == 1:
        yield tree.func.id, Shown(given=given, wanted=value.strip())


def _parsed(code: str) -> ast.expr | None:
    try:
        return ast.parse(code.strip(), mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _unparsed(tree: ast.expr) -> str:
    """The text of a part; of one that is nested too deeply a text that is no value."""
    try:
        return ast.unparse(tree)
    except RecursionError:
        return "?"


def _texts(lines: Sequence[str]) -> Iterator[Shown]:
    """Blocks under `Input` and `Output`, or texts after them on the line."""
    given: str | None = None
    for side, text in _blocks(lines):
        if side == "input":
            given = text
        elif given is not None:
            if text.strip() and len(given) <= MAX_TEXT and len(text) <= MAX_TEXT and not _NAMES.match(given):
                yield Shown(given=given, wanted=text)
            given = None


def _blocks(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """("input" or "output", its text) in turn."""
    side, block = "", list[str]()
    is_fenced = False
    for line in [*lines, "Explanation"]:
        is_fence = line.strip().startswith(("```", "~~~"))
        heading = None if is_fenced or len(line) > MAX_LINE else _HEADING.fullmatch(line)
        # a heading stands alone or is followed by a colon; a sentence that begins with the word is prose
        is_over = (heading or _END.match(line)) and not is_fenced
        # an input goes on to its output's heading: tests may have empty lines
        ends_blank = side == "output" and not line.strip() and not is_fenced and any(part.strip() for part in block)
        if side and (is_over or ends_blank or (is_fence and is_fenced)):
            yield side, "\n".join(block).strip("\n") + "\n"
            side, block = "", []
        if is_fence:
            is_fenced = not is_fenced
        elif heading:
            side = heading["side"].lower()
            rest = heading["rest"] or ""
            block = [rest.strip(" `*")] if rest.strip(" `*_=-") else []
        elif side:
            block.append(line)
