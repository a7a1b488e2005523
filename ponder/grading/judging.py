r"""Is an output right? Checkers compare what a program printed with what was expected, and say a share of 1.

    tokens(b"1  2\n", b"1 2")            -> right: white space apart, the same words
    lines(b"1 2 \n", b"1 2\n")           -> right: blanks at the ends of lines apart; b"1  2" is wrong
    floats(1e-6)(b"0.3333333", b"1/3")   -> wrong: 1/3 is no decimal number; b"0.33333333" would do
    cases()(b"Case #1: 4\n", ...)        -> every case in its order, none missing, none more; then tokens or floats
    checker("cases:floats:1e-6")         -> by name, as data files say it
    read_checker_output(b"0.5\n", b"partly")    -> what a checker that is a program printed: half, "partly"

Outputs are hostile: `capped` refuses what is far longer than the answer before anything is parsed, a number of a
million digits is never converted, and an output is never cut to the length of the answer. Checkers run on the trusted
side and see bytes. Whether a run ended well is not asked here, and points are in `points.py`.

Left out: answers of which several are right. They need a program (`tasks/cms.py` runs it in the sandbox).
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ponder.config import ConfigError

SLACK = 1 << 16  # bytes that an output may have beyond the answer's, and
TIMES = 16  # ... so many times its length: 0.00000000000 may stand for 0
LONGEST_NUMBER = 400  # characters; what is longer is a number to nobody
MAX_NOTE = 200  # characters of what people are told

_NUMBER = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,5})?")
_WHOLE = re.compile(rb"[-+]?[0-9]+")
_WORD = re.compile(rb"\S+")
_CASE = re.compile(rb"^[ \t]*Case #([0-9]{1,9}):", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A checker's result for one output."""

    score: float | None  # 1 = right, 0 = wrong, between them partly; None = the checker could not tell
    note: str = ""  # for people: where it first differs


Checker = Callable[[bytes, bytes], Checked]  # (output, answer)

RIGHT = Checked(score=1.0)


def wrong(note: str) -> Checked:
    """A score of 0; the note is cut to MAX_NOTE characters."""
    return Checked(score=0.0, note=note[:MAX_NOTE])


def capped(check: Checker) -> Checker:
    """The checker, which is not asked where the output is far longer than the answer."""

    @functools.wraps(check)
    def checked(output: bytes, answer: bytes) -> Checked:
        most = TIMES * len(answer) + SLACK
        if len(output) > most:
            return wrong(f"too much output: {len(output)} bytes, at most {most} where the answer has {len(answer)}")
        return check(output, answer)

    return checked


def tokens(output: bytes, answer: bytes) -> Checked:
    """The same words in the same order, whatever white space is between them."""
    return RIGHT if output == answer else _words(output, answer, lambda word, wanted: word == wanted)


def lines(output: bytes, answer: bytes) -> Checked:
    """The same lines, apart from blanks at their ends and empty lines at the end."""
    pairs = itertools.zip_longest(_lines(output), _lines(answer))
    for number, (line, wanted) in enumerate(pairs, 1):
        if line != wanted:
            return wrong(f"line {number}: {_shown(line, 'no line')}, not {_shown(wanted, 'the end')}")
    return RIGHT


def floats(eps: float) -> Checker:
    """The same words, where numbers may differ by eps x max(1, the answer's size). nan and inf are no numbers.

    Two whole numbers must be the same: a tolerance of 1e-6 is not meant to forgive 10000001 for 10000002.
    """
    if not 0 < eps < 1:
        raise ConfigError(f"a tolerance of {eps} must lie between 0 and 1, such as 1e-6")

    def close(word: bytes, wanted: bytes) -> bool:
        if word == wanted:
            return not _is_unbounded(word)
        if _WHOLE.fullmatch(word) and _WHOLE.fullmatch(wanted):
            return _whole(word) == _whole(wanted)
        value, target = _number(word), _number(wanted)
        return value is not None and target is not None and abs(value - target) <= eps * max(1.0, abs(target))

    return functools.partial(_words, same=close)


def cases(inner: Checker = tokens) -> Checker:
    """`Case #1: ...` to `Case #n: ...`, as many as the answer has, in order; `inner` compares what each says."""

    def check(output: bytes, answer: bytes) -> Checked:
        wanted, given = _cases(answer), _cases(output)
        if isinstance(wanted, str) or not wanted:
            return Checked(score=None, note=f"the answer is no list of cases ({wanted or 'empty'})")
        if isinstance(given, str):
            return wrong(given)
        for number, (said, right) in enumerate(zip(given, wanted, strict=False), 1):
            if (found := inner(said, right)).score != 1:
                return wrong(f"case {number}, {found.note}")
        if len(given) != len(wanted):
            return wrong(f"{len(given)} cases, not {len(wanted)}")
        return RIGHT

    return check


def checker(name: str) -> Checker:
    """A checker by name: tokens, lines, floats:1e-6, cases, cases:floats:1e-6."""
    kind, _, rest = name.partition(":")
    if name in ("tokens", "lines"):
        return capped(tokens if name == "tokens" else lines)
    if kind == "floats":
        return capped(floats(_eps(rest)))
    if kind == "cases" and rest.partition(":")[0] in ("", "tokens", "floats"):
        return capped(cases(floats(_eps(rest.partition(":")[2])) if rest.startswith("floats") else tokens))
    raise ConfigError(f"no checker {name[:40]!r}; there are tokens, lines, floats:1e-6, cases and cases:floats:1e-6")


def read_checker_output(stdout: bytes, stderr: bytes) -> Checked:
    """The output of a checker or manager that is a program: a score in [0, 1] first on stdout, a message on stderr."""
    first = _WORD.match(stdout[: 10 * LONGEST_NUMBER].lstrip())
    score = _number(first[0]) if first else None
    note = plain(stderr)
    if score is None or not 0 <= score <= 1:
        said = first[0][:40].decode(errors="replace") if first else "nothing"
        return Checked(score=None, note=f"it printed {said} in place of a score from 0 to 1: {note}"[:MAX_NOTE])
    return Checked(score=score, note=note)


def plain(data: bytes) -> str:
    """The beginning of what a program wrote, as a line that may be shown to people."""
    text = " ".join(data[: 4 * MAX_NOTE].decode(errors="replace").split())
    return "".join(character if character.isprintable() else "?" for character in text)[:MAX_NOTE]


# ---- reading bytes -------------------------------------------------------------------------------------------------


def _words(output: bytes, answer: bytes, same: Callable[[bytes, bytes], bool]) -> Checked:
    pairs = itertools.zip_longest(_WORD.finditer(output), _WORD.finditer(answer))
    for number, (said, wanted) in enumerate(pairs, 1):
        if said is None or wanted is None or not same(said[0], wanted[0]):
            word, right = (found and found[0] for found in (said, wanted))
            return wrong(f"word {number}: {_shown(word, 'no word')}, not {_shown(right, 'the end')}")
    return RIGHT


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines without blanks at their ends; empty ones only where a line follows."""
    empty = 0
    for line in io.BytesIO(data):
        line = line.rstrip()
        if not line:
            empty += 1
            continue
        yield from itertools.repeat(b"", empty)
        empty = 0
        yield line


def _cases(data: bytes) -> list[bytes] | str:
    """The words of each case; a text where something is wrong with their list."""
    marks = list(_CASE.finditer(data))
    if data[: marks[0].start() if marks else None].strip():
        return f"{_shown(data.split(maxsplit=1)[0], '')} before the first case"
    for number, mark in enumerate(marks, 1):
        if int(mark[1]) != number:
            return f"Case #{int(mark[1])} where Case #{number} should be"
    ends = [mark.start() for mark in marks] + [len(data)]
    return [data[mark.end() : end] for mark, end in zip(marks, ends[1:], strict=True)]


def _number(word: bytes) -> float | None:
    """A finite decimal number; None where it is none."""
    if len(word) > LONGEST_NUMBER or not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def _whole(word: bytes) -> tuple[bool, bytes]:
    """A whole number without its conversion: its sign and its digits."""
    digits = word.lstrip(b"+-").lstrip(b"0")
    return word[:1] == b"-" and bool(digits), digits


def _is_unbounded(word: bytes) -> bool:
    return word.lstrip(b"+-").lower() in (b"nan", b"inf", b"infinity")


def _shown(word: bytes | None, absent: str) -> str:
    """A few characters of it, for a note."""
    if word is None:
        return absent
    return repr(word[:30].decode(errors="replace")) + ("..." if len(word) > 30 else "")


def _eps(text: str) -> float:
    value = _number(text.encode())
    if value is None:
        raise ConfigError(f"a tolerance {text[:40]!r} is no number; write floats:1e-6")
    return value
