"""One row of a file of preferences -> what was compared, whatever its fields are called.

    {"question": "2+2?", "response_a": "4", "response_b": "5", "preferred": "a"}
    {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    {"messages": [{"role": "user", "content": "2+2?"}], "a": "4", "b": "5", "winner": "a", "strength": 2}
    {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"}

A dialogue written as one text becomes messages. `votes` (1: the first, 2: the second, 0: a tie) is a comparison of each
annotator's. HelpSteer3 and UltraFeedback have readers of their own at the foot. Answers are handed on as they are, of
whatever type: who loads a set counts those that are no text. A field that is missing or says nothing is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, cast, get_args

from ponder.config import ConfigError
from ponder.types import Message, Role

Choice = Literal["first", "second", "tie"]
Row = dict[str, Any]

PROMPTS = ("prompt", "question", "problem", "instruction", "query", "messages", "conversation", "context")
PAIRS = (
    ("a", "b"), ("chosen", "rejected"), ("response_a", "response_b"), ("answer_a", "answer_b"), ("answer1", "answer2"),
    ("response1", "response2"), ("response_1", "response_2"), ("completion_a", "completion_b"),
    ("output_1", "output_2"),
)  # fmt: skip
SAYS_WHICH = ("preferred", "winner")
CHOICES = (*SAYS_WHICH, "preference", "answer", "label", "choice")
DOMAINS = ("domain", "subject", "category")
_TOLD: dict[str, Choice] = {"tie": "tie", "tie (bothbad)": "tie", "both": "tie", "equal": "tie", "c": "tie"}
for _stem in ("{}", "response_{}", "answer_{}", "model_{}", "completion_{}"):
    _TOLD |= {_stem.format("a"): "first", _stem.format("b"): "second"}
for _stem in ("{}", "response_{}", "response{}", "answer{}", "output_{}"):
    _TOLD |= {_stem.format("1"): "first", _stem.format("2"): "second"}
_TOLD |= {"first": "first", "second": "second"}
_VOTES: dict[int, Choice] = {0: "tie", 1: "first", 2: "second"}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, kw_only=True)
class ComparedAnswers:
    """A row as it was found: nothing is checked or swapped yet."""

    id: str  # "" = it has none
    prompt: tuple[Message, ...]
    first: Any
    second: Any
    choice: Choice
    strength: float | None = None
    annotator: str = ""
    domain: str = ""


def read_row(row: Row, where: str) -> list[ComparedAnswers]:
    """What a row compares, one for each annotator."""
    names = next((pair for pair in PAIRS if all(name in row for name in pair)), None)
    if names is None:
        shown = ", ".join(f"{a}/{b}" for a, b in PAIRS[:4])
        raise ConfigError(f"{where}: no two answers; name them {shown}; the row has {', '.join(row) or 'no field'}")
    first, second = (row[name] for name in names)
    asked = next((name for name in PROMPTS if name in row and row[name] not in (None, "")), None)
    if asked is not None:
        prompt = messages_of(row[asked], f"{where}: {asked}")
        first, second = (_answer(answer, prompt, where) for answer in (first, second))
    else:
        (prompt, first), (other, second) = (
            _cut(answer, f"{where}: {n}") for answer, n in zip((first, second), names, strict=True)
        )
        if prompt != other:
            raise ConfigError(
                f"{where}: {names[0]} and {names[1]} answer different prompts, and there is no prompt field"
            )
    choices = _choices(row, names, where)
    domain = next((str(row[name]) for name in DOMAINS if row.get(name)), "")
    given = "" if row.get("annotator") is None else str(row["annotator"])
    return [
        ComparedAnswers(
            id="" if row.get("id") is None else str(row["id"]), prompt=prompt, first=first, second=second,
            choice=choice, strength=_strength(row, where), annotator=annotator or given, domain=domain,
        )
        for annotator, choice in choices
    ]  # fmt: skip


def _choices(row: Row, names: tuple[str, str], where: str) -> list[tuple[str, Choice]]:
    """(annotator, choice) of everybody who judged the row."""
    votes = row.get("votes")
    if votes is not None:
        if not isinstance(votes, list) or not votes or not all(type(v) is int and v in _VOTES for v in votes):
            raise ConfigError(f"{where}: votes = {votes!r} must be a list of 0 (tie), 1 (first) and 2 (second)")
        return [(str(number), _VOTES[vote]) for number, vote in enumerate(votes, 1)]
    if names == ("chosen", "rejected"):  # their names are the label: an `answer` or a `label` beside them is the task's
        for key in SAYS_WHICH:
            told = str(row.get(key)).strip().lower()
            if told == "rejected" or _TOLD.get(told, "first") != "first":
                raise ConfigError(f"{where}: {key} = {row[key]!r} contradicts chosen and rejected; leave it out")
        return [("", "first")]
    name = next((name for name in CHOICES if row.get(name) not in (None, "")), None)
    if name is None:
        raise ConfigError(f"{where}: which answer is preferred? add {CHOICES[0]!r}: a, b or tie")
    found = _TOLD.get(str(row[name]).strip().lower()) if not isinstance(row[name], bool) else None
    if found is None:
        raise ConfigError(f"{where}: {name} = {row[name]!r} says no preference; write a, b or tie")
    return [("", found)]


def _strength(row: Row, where: str) -> float | None:
    value = row.get("strength")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e100:
        raise ConfigError(f"{where}: strength = {value!r} must be a number above 0; leave it out where it is not known")
    return float(value)


def messages_of(prompt: Any, where: str) -> tuple[Message, ...]:
    """A prompt as messages: a text, a dialogue in one text, or a list of messages."""
    if isinstance(prompt, str):
        return dialogue(prompt) or (Message(role="user", content=prompt),)
    if not isinstance(prompt, list) or not prompt:
        raise ConfigError(f"{where} must be a text or a list of messages, not {type(prompt).__name__}")
    found = []
    for message in prompt:
        role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, dict) else (None, None)
        if role not in get_args(Role) or not isinstance(content, str):
            raise ConfigError(f"{where}: a message must be {{role: user, assistant or system, content: text}}")
        found.append(Message(role=cast(Role, role), content=content))
    return tuple(found)


def dialogue(text: str) -> tuple[Message, ...]:
    """ "Human: hi\n\nAssistant: hello\n\nHuman: bye" as messages; nothing where the text does not begin so."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip() or marks[0][1] != "Human":
        return ()
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return tuple(
        Message(role=_ROLES[mark[1]], content=text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def _answer(answer: Any, prompt: Sequence[Message], where: str) -> Any:
    """An answer given as messages: the last one's text; the prompt may stand before it once more."""
    if not isinstance(answer, list):
        return answer
    messages = messages_of(answer, where)
    if messages[-1].role != "assistant" or tuple(messages[:-1]) not in ((), tuple(prompt)):
        raise ConfigError(
            f"{where}: an answer of messages must be the prompt's and one of the assistant, or that alone"
        )
    return messages[-1].content


def _cut(answer: Any, where: str) -> tuple[tuple[Message, ...], Any]:
    """(prompt, answer) of a whole dialogue that ends with the answer."""
    messages = (
        messages_of(answer, where) if isinstance(answer, list) else dialogue(answer) if isinstance(answer, str) else ()
    )
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ConfigError(f"{where}: there is no prompt field, and this is no dialogue that ends with an answer")
    return messages[:-1], messages[-1].content


# ---- sets with a form of their own -----------------------------------------------------------------------------------


def read_helpsteer3(row: Row, where: str) -> list[ComparedAnswers]:
    """overall_preference: -3 (the first is much better) to 3 (the second is); its size is the strength."""
    preference = row.get("overall_preference")
    if type(preference) is not int or abs(preference) > 3:
        raise ConfigError(f"{where}: overall_preference = {preference!r} must be a whole number from -3 to 3")
    choice: Choice = "tie" if preference == 0 else "first" if preference < 0 else "second"
    return [
        ComparedAnswers(
            id="", prompt=messages_of(row.get("context"), f"{where}: context"), first=row.get("response1"),
            second=row.get("response2"), choice=choice, strength=float(abs(preference)) or None,
            domain=str(row.get("domain") or ""),
        )
    ]  # fmt: skip


def read_ultrafeedback(row: Row, where: str) -> list[ComparedAnswers]:
    """Four answers with an overall_score each: six comparisons, whose strength is the difference."""

    def pairs() -> Iterator[ComparedAnswers]:
        prompt = (Message(role="user", content=str(row["instruction"])),)
        for first, second in combinations(row["completions"], 2):
            gap = float(first["overall_score"]) - float(second["overall_score"])
            if not math.isfinite(gap):
                raise ValueError("an overall_score is no number")
            choice: Choice = "tie" if gap == 0 else "first" if gap > 0 else "second"
            yield ComparedAnswers(
                id="", prompt=prompt, first=first["response"], second=second["response"], choice=choice,
                strength=abs(gap) or None, domain=str(row.get("source") or ""),
            )  # fmt: skip

    try:
        return list(pairs())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where} does not look as expected ({type(error).__name__}: {error})") from None
