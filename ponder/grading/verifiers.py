"""Verifiers: the truth about an answer, each from the one engine of `extract.py` and `equality.py`.

    exact     the text itself, spaces and the text's own markers ("Answer: ...") apart
    integer   a whole number, however it is written: 42, 42.0, "It is 42.", 1,000
    choice    the letter of one of the problem's choices, or its text
    math      anything `equality.py` reads; what it cannot read is shown to sympy in a child that can be killed

A verifier is called as verifier(problem, answer) -> Verdict, and verifier.key(problem, answer) -> the answer's
equivalence class, None where there is no answer. An answer is correct exactly when its key is the target's key.

No answer found: wrong, extracted=None, no vote. Undecided (reward 0.0, the rollout leaves its group): the target is not
understood, or the child timed out, ran out of memory or died; the note says which. `exact`, `integer` and `choice` are
pure, bounded and take microseconds; `math` does too, unless it needs the child (2 s at most for each text it is shown).
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import re
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ponder.config import ConfigError, lookup
from ponder.files import most_unpacked
from ponder.grading import killable
from ponder.grading.equality import MAX_ANSWER, read
from ponder.grading.extract import extract, extract_marked, extract_text
from ponder.grading.frames import key_in, whole_number
from ponder.grading.letters import chosen, plain
from ponder.grading.readings import ParsedAnswer
from ponder.grading.visible import DIGITS, without_thoughts
from ponder.types import Message, Problem, Verdict

OPINION_SECONDS = 2.0


class KeyedVerifier(Protocol):
    """Truth about an answer, and the equivalence class it belongs to."""

    def __call__(self, problem: Problem, answer: str) -> Verdict: ...

    def key(self, problem: Problem, answer: str) -> str | None:
        """Equal keys = the same answer; None = no answer was found."""
        ...


def verdict(is_correct: bool, extracted: str | None) -> Verdict:
    """Reward 1 or 0. extracted: the answer that was found, None = none."""
    return Verdict(
        outcome="correct" if is_correct else "wrong", reward=1.0 if is_correct else 0.0, extracted=extracted,
        parts={"correct": float(is_correct)},
    )  # fmt: skip


def undecided(extracted: str | None, note: str) -> Verdict:
    """Reward 0, but not wrong: the rollout leaves its group. note: why it cannot be told."""
    return Verdict(outcome="undecided", reward=0.0, extracted=extracted, note=note)


def _by_keys(verifier: KeyedVerifier, problem: Problem, answer: str, kind: str) -> Verdict:
    """Correct where the answer has the target's key; undecided where the target has none, for nobody can be right."""
    key, target = verifier.key(problem, answer), verifier.key(problem, problem.target)
    if target is None:
        return undecided(key, f"the problem's target is no {kind}")
    return verdict(key == target, key)


class Exact:
    """The same text, white space apart."""

    def key(self, problem: Problem, answer: str) -> str | None:
        """The text with single blanks; None where it is empty or has more than 100,000 characters."""
        text = extract_marked(answer) or without_thoughts(answer).strip()
        return self._plain(text) or None if len(text) <= 100_000 else None

    @staticmethod
    def _plain(text: str) -> str:
        words = re.fullmatch(r"\s*\\text\s*\{([^{}]*)\}\s*", text)  # in a box
        text = " ".join((words[1] if words else text).split()).translate(DIGITS)
        bold = re.fullmatch(r"\*\*([^*]+)\*\*", text)
        return bold[1].strip() if bold else text

    def __call__(self, problem: Problem, answer: str) -> Verdict:
        return _by_keys(self, problem, answer, "text")


class Integer:
    """The same whole number; the key is its digits."""

    _PLAIN = re.compile(r"\s*([+-]?)0*([0-9]{1,4000})\s*")

    def key(self, problem: Problem, answer: str) -> str | None:
        plain = self._PLAIN.fullmatch(answer)
        if plain is None:
            extracted = extract(answer)
            reading = None if extracted is None else read(extracted)
            return None if reading is None else whole_number(reading)
        return ("-" if plain[1] == "-" and plain[2] != "0" else "") + plain[2]

    def __call__(self, problem: Problem, answer: str) -> Verdict:
        return _by_keys(self, problem, answer, "whole number")


class MultipleChoice:
    """The same letter. The letters are A, B, ... for the problem's choices, A to J where it names none."""

    def key(self, problem: Problem, answer: str) -> str | None:
        """The letter, from the last 20,000 characters; None where no letter, or more than one, is meant."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(problem.choices) or 10]
        text = answer.rstrip()[-20_000:].strip()
        marked = extract_marked(text)
        for candidate in (marked, text):
            if candidate:
                letter = self._letter(candidate, letters) or self._by_text(problem, candidate)
                if letter:
                    return letter
        return (chosen(marked, letters, leads=True) if marked else None) or chosen(text, letters)

    @staticmethod
    def _letter(text: str, letters: str) -> str | None:
        """B, b, (B), B., \\text{(B)}, **B**: the letter alone."""
        match = re.fullmatch(r"[\s*_\"']*[(\[]?([A-Za-z])[)\]]?[.:)]?[\s*_\"']*", plain(text[:200]))
        return match[1].upper() if match and match[1].upper() in letters else None

    @staticmethod
    def _by_text(problem: Problem, text: str) -> str | None:
        """The letter of the one choice that says the same; "B) iron" is B where that is what B says."""
        if not problem.choices or len(text) > MAX_ANSWER:
            return None
        opening = re.match(r"[\s(*_]*([A-Za-z])[.:)]+\s+", text)
        rest = text[opening.end() :] if opening else text
        wanted = " ".join(rest.split()).strip(" .").casefold()
        texts = [" ".join(choice.split()).strip(" .").casefold() for choice in problem.choices]
        hits = [i for i, choice in enumerate(texts) if choice == wanted]
        if not hits:
            pairs = [(key_in(rest, choice), key_in(choice, choice)) for choice in problem.choices]
            hits = [i for i, (said, own) in enumerate(pairs) if said is not None and own and said.key == own.key]
        letters = [chr(ord("A") + i) for i in hits]
        return letters[0] if len(letters) == 1 and (not opening or opening[1].upper() == letters[0]) else None

    def __call__(self, problem: Problem, answer: str) -> Verdict:
        return _by_keys(self, problem, answer, "letter of a choice")


class Math:
    """The same mathematics, in the frame of the problem's target."""

    patience = killable.START_SECONDS + 2 * OPINION_SECONDS  # of a task: the child may have to start first

    def key(self, problem: Problem, answer: str) -> str | None:
        """In the frame of the problem's target. Where nothing is understood sympy is asked in a child, 2 s at most."""
        extracted, reading = self._reading(problem, answer)
        return None if reading is None or extracted is None else self._settled(reading, extracted)[0]

    def __call__(self, problem: Problem, answer: str) -> Verdict:
        extracted, reading = self._reading(problem, answer)
        target = key_in(problem.target, problem.target)
        if target is None:
            return undecided(extracted, "the problem has no target")
        if reading is None or extracted is None:
            return verdict(False, None)
        if reading.key == target.key:
            return verdict(True, extracted)
        if target.kind == "words" or (reading.is_understood and target.is_understood):
            return verdict(False, extracted)
        target_key, target_note = self._settled(target, problem.target)
        if target_note:
            return undecided(extracted, f"the target: {target_note}")
        key, note = self._settled(reading, extracted)
        if key == target_key:
            return verdict(True, extracted)
        if note and note != _NOT_READ:
            return undecided(extracted, f"the answer: {note}")
        return verdict(False, extracted)

    @staticmethod
    def _reading(problem: Problem, answer: str) -> tuple[str | None, ParsedAnswer | None]:
        goal = read(problem.target)
        if goal is not None and (goal.kind == "words" or not goal.is_understood):
            extracted = extract_text(answer)
        else:
            extracted = extract(answer)
        return extracted, None if extracted is None else key_in(extracted, problem.target)

    @staticmethod
    def _settled(reading: ParsedAnswer, text: str) -> tuple[str, str]:
        """The key, by sympy's opinion where the first reading understood nothing; and why there is none."""
        if reading.is_understood:
            return reading.key, ""
        try:
            status, key, note = _opinion(text)
        except _NotStarted as error:
            return reading.key, str(error)
        if key is not None:
            return key, ""
        return reading.key, _NOT_READ if status == "ok" else note


_NOT_READ = "not understood"


class _NotStarted(Exception):
    """The child did not start: nothing to remember of the text."""


@lru_cache(maxsize=8_192)
def _opinion(text: str) -> tuple[str, str | None, str]:
    """Asked once for each text, so that one text keeps one key, whatever the machine is doing."""
    ran = killable.shared().run("ponder.grading.symbolic:opinion", text[:1_000], timeout=OPINION_SECONDS)
    if not ran.has_started:
        raise _NotStarted(ran.note)
    return ran.status, ran.value, f"{ran.status}: {ran.note}"


VERIFIERS: dict[str, KeyedVerifier] = {
    "exact": Exact(),
    "integer": Integer(),
    "choice": MultipleChoice(),
    "math": Math(),
}


def name_of(verifier: object) -> str:
    """The name of a verifier of `VERIFIERS`; "" of any other."""
    return next((name for name, own in VERIFIERS.items() if own is verifier), "")


# ---- grading without a task ----------------------------------------------------------------------------------------


def grade(target: str, answer: str, verifier: str | KeyedVerifier = "math") -> Verdict:
    """The verdict on one answer text beside one target. verifier: a name, or a user's (`handed_in.keyed`)."""
    check = lookup(VERIFIERS, verifier, what="verifier") if isinstance(verifier, str) else verifier
    problem = Problem(id="grade", prompt=(Message(role="user", content=""),), target=target, task="grade")
    found: Any = check(problem, answer)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def grade_file(path: str | Path, verifier: str | KeyedVerifier = "math") -> Iterator[dict[str, Any]]:
    """One row a line of a JSONL file of {"target", "answer", perhaps "id" and "verifier"}.

    A broken line is undecided, with the error and its number, and stops nothing.
    """
    if isinstance(verifier, str):
        lookup(VERIFIERS, verifier, what="verifier")  # a wrong name fails before the first line
    for number, line in numbered_lines(path):
        if isinstance(line, ConfigError):
            yield {"line": number, **_refused(line)}
            continue
        row: dict[str, Any] = {"line": number}
        try:
            pair = _pair(line)
            row |= {name: pair[name] for name in ("id",) if name in pair}
            yield row | grade_row(pair["target"], pair["answer"], pair.get("verifier", verifier))
        except ConfigError as error:
            yield row | _refused(error)


def grade_row(target: str, answer: str, verifier: str | KeyedVerifier = "math") -> dict[str, Any]:
    """A verdict as `ponder grade` prints it: verdict, extracted, seconds, perhaps a partial reward and a note."""
    begun = time.monotonic()
    try:
        found = grade(target, answer, verifier)
    except Exception as error:  # a user's code may raise anything: one line, as in training
        if isinstance(verifier, str):
            raise
        found = Verdict(outcome="failed", reward=0.0, note=f"{type(error).__name__}: {error}")
    row = {"verdict": found.outcome, "extracted": found.extracted, "seconds": time.monotonic() - begun}
    row |= {"reward": found.reward} if 0 < found.reward < 1 else {}
    return row | ({"note": found.note} if found.note else {})


def _refused(error: ConfigError) -> dict[str, Any]:
    return {"verdict": "undecided", "extracted": None, "seconds": 0.0, "error": str(error)}


def _pair(line: str) -> dict[str, Any]:
    try:
        pair = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}; write one object a line") from None
    if not isinstance(pair, dict):
        raise ConfigError('not a JSON object; write {"target": "...", "answer": "..."}')
    for name in ("target", "answer"):
        value = pair.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            pair[name] = str(value)
        elif not isinstance(value, str):
            raise ConfigError(f'{name!r} is missing or no text; write {{"target": "...", "answer": "..."}}')
    own = pair.get("verifier", "")
    if not isinstance(own, str) or ":" in own:  # module:attr would be run: that is the command line's to say
        raise ConfigError(f"'verifier' must be one of {', '.join(VERIFIERS)}; --verifier takes your own")
    return pair


def bounded_lines(file: Any, path: str | Path) -> Iterator[Any]:
    """The lines of an open file; of a packed one as many bytes as are still data: a line may be as long as the disk."""
    if Path(path).suffix != ".gz":
        yield from file
        return
    left = most = most_unpacked(Path(path).stat().st_size)
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise ConfigError(f"{path} unpacks to more than {most:,} bytes; unpack it yourself to read it all the same")
        yield line


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str | ConfigError]]:
    """The lines of a text or .gz file with their numbers; an unreadable line or file is one clear ConfigError."""
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"no file at {path}; give the path of a .jsonl or .jsonl.gz file")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give one of the .jsonl files in it")
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, raw in enumerate(bounded_lines(file, path), start=1):
                if not raw.strip():
                    continue
                try:
                    yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    yield number, ConfigError(f"not UTF-8 ({error.reason}, byte {error.start}); save the file as UTF-8")
    except (zlib.error, EOFError, OSError) as error:
        what = "is not a whole gzip file" if path.suffix == ".gz" else "cannot be read"
        raise ConfigError(f"{path} {what} (after line {number}): {error}") from None
