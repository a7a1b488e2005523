"""A story being told: sentences on one side, the steps that solve it on the other.

Every step is one operation; its result is positive and comes out, or the telling starts again (`Again`). Templates
have alternatives in square brackets and two tenses in angle brackets, one of which the whole story keeps:

    s.say("[Then|Later], {p.he} <buys/bought> {n} more {things}.", p=person, n=5, things="marbles")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from ponder.grading.plain_arithmetic import is_short, show
from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.template import template

Number = Fraction | int
MAX_VALUE = 20_000
_NUMBERS = (int, Fraction)  # looked up for every field: isinstance with Fraction is slow
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_SPACES = re.compile("  +")
_ARTICLE = re.compile(r"\b([Aa]) (?=hour|[aeiou](?!ne\b|ni|nce\b))")  # an apple, a unicycle, a one-way ticket
_WORD_PERCENT = re.compile(rf"\b({'|'.join(_WORDS)})%")
_BEGINNING = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


class Again(Exception):
    """These numbers or this turn do not work out: tell another story."""


@dataclass(frozen=True)
class Person:
    name: str
    he: str
    his: str
    him: str

    def __str__(self) -> str:
        return self.name

    @property
    def He(self) -> str:
        return self.he.capitalize()

    @property
    def His(self) -> str:
        return self.his.capitalize()


class _Shown:
    """The fields of a template as they are written: numbers as `n` or, asked for as {$name}, `usd` writes them."""

    def __init__(self, story: Story, fields: Mapping[str, Any]) -> None:
        self.story, self.fields = story, fields

    def __getitem__(self, name: str) -> Any:
        value = self.fields[name.removeprefix("$")]
        if name[0] == "$":
            return self.story.usd(value)
        return self.story.n(value) if type(value) in _NUMBERS else value


class Story:
    """`left` counts the steps still to be told; a story ends with `ask` when none is left."""

    def __init__(self, rng: Random, level: int) -> None:
        self.rng, self.level = rng, level
        self.past = rng.random() < 0.55
        self.wordy = rng.random() < 0.25  # small numbers in words
        self.sentences: list[str] = []
        self.question = ""
        self.lines: list[str] = []  # sentences of the solution, calculator marks inside
        self.value = Fraction(0)
        self.people: list[Person] = []
        self._taken: set[str] = set()  # names of people
        self.names: dict[str, Any] = {}  # what a story of the files has drawn and worked out (`script.py`)
        self.kind = self.asked = ""  # where it stands: what kind of thing `v` is; the question so far, as a template

    @property
    def left(self) -> int:
        """Steps that are still to be told."""
        return self.level - len(self.lines)

    # ---- choosing

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.rng.randrange(len(options))]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def some(self, low: int, high: int) -> int:
        """A whole number; three in ten of the larger ones are round, as in life."""
        value = self.rng.randint(low, high)
        if high - low >= 20 and value > 20 and self.chance(0.3):
            value = max(low, round(value, -1))
        return value

    def sample(self, options: Sequence[str], count: int) -> list[str]:
        return self.rng.sample(options, count)

    def divisor(self, value: Number, low: int = 2, high: int = 12) -> int:
        """A divisor of the value, which leaves more than one."""
        if Fraction(value).denominator != 1:
            raise Again
        found = [d for d in range(low, high + 1) if value % d == 0 and value / d > 1]
        if not found:
            raise Again
        return int(self.pick(found))

    def part(self, value: Number, low: float = 0.1, high: float = 0.7) -> int:
        """A whole number that is a part of the value."""
        min_value, max_value = max(2, int(value * low)), int(value * high)
        if max_value < min_value:
            raise Again
        return self.some(min_value, max_value)

    def next_bill(self, value: Number) -> int:
        """The smallest bill that pays the value and leaves change."""
        bills = [bill for bill in (10, 20, 50, 100, 200, 500, 1000) if bill > value]
        if not bills:
            raise Again
        return bills[0]

    def person(self) -> Person:
        """A new person, whose name nobody else in the story has."""
        while True:
            is_girl = self.chance(0.5)
            name = self.pick(book.GIRLS if is_girl else book.BOYS)
            if self.chance(0.06):
                name = f"{'Mrs.' if is_girl else 'Mr.'} {self.pick(book.SURNAMES)}"
            if name not in self._taken:
                self._taken.add(name)
                found = Person(name, *("she", "her", "her") if is_girl else ("he", "his", "him"))
                self.people.append(found)
                return found

    def thing(self, *lists: Sequence[str]) -> tuple[str, str]:
        """(plural, singular)."""
        return book.noun(self.pick(self.pick(lists)))

    def goods(self) -> tuple[str, str, Fraction]:
        """(plural, singular, price): mostly whole dollars, cheap things sometimes by the half."""
        entry, low, high = self.pick(book.GOODS).rsplit(" ", 2)
        price = Fraction(self.rng.randint(int(low), int(high)))
        if price <= 8 and self.chance(0.15):
            price += Fraction(1, 2)
        return (*book.noun(entry), price)

    # ---- telling

    def words(self, text: str, fields: Mapping[str, Any]) -> str:
        """A template with its alternatives chosen and its fields filled in."""
        text = template(text, self.past).written(self.pick).format_map(_Shown(self, fields)).strip()
        text = _ARTICLE.sub(r"\1n ", _SPACES.sub(" ", text))
        if "%" in text:  # digits before it, always
            text = _WORD_PERCENT.sub(lambda word: f"{_WORDS.index(word[1])}%", text)
        return _BEGINNING.sub(lambda first: first[0].upper(), text)

    def is_told(self, word: str) -> bool:
        """Whether the text is part of any sentence so far."""
        return word in " ".join(self.sentences)

    def say(self, text: str, /, **fields: Any) -> None:
        self.sentences.append(self.words(text, fields))

    def will_ask(self, text: str, kind: str = "") -> None:
        """Set the template of the question at the end. kind: of what it asks for, by which the next move is chosen."""
        self.asked, self.kind = text, kind

    def ask(self, text: str, /, **fields: Any) -> None:
        """The question. Sometimes the last sentence becomes its condition: If ..., how many ...?"""
        question = self.words(text, fields)
        last = self.sentences[-1] if self.sentences else ""
        opens = re.match(r"([A-Z][a-z]+\.? ?[A-Z]?[a-z]*|He|She|Each|They|The) ", last)
        if opens and question.startswith("How") and last.count(".") == 1 and self.chance(0.35):
            if opens[1] in ("He", "She", "Each", "They", "The"):
                last = last[0].lower() + last[1:]
            elif not any(last.startswith(name) for name in self._taken):
                last = ""
            if last:
                self.sentences.pop()
                question = f"If {last[:-1]}, {question[0].lower()}{question[1:]}"
        self.question = question

    def n(self, value: Number) -> str:
        """A number as this story writes it: 2 to 12 in words where it is wordy, else in digits."""
        if self.wordy and Fraction(value).denominator == 1 and 2 <= value <= 12:
            return _WORDS[int(value)]
        return f"{int(value):,}" if Fraction(value).denominator == 1 else show(Fraction(value))

    @staticmethod
    def usd(value: Number) -> str:
        """$1,200, or $2.50 with cents."""
        value = Fraction(value)
        return f"${int(value):,}" if value.denominator == 1 else f"${float(value):.2f}"

    def times(self, k: int) -> str:
        """k times, in one of its ways: "twice", "two times", "2 times"."""
        return {2: self.pick(["twice", "two times", "2 times"]), 3: self.pick(["three times", "3 times"])}.get(
            k, f"{self.n(k)} times"
        )

    def fraction(self, k: int) -> str:
        """One k-th, in one of its ways: "a third", "one-third", "1/3"."""
        if k == 2:
            return "half"
        word = {3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 8: "eighth", 10: "tenth"}.get(k)
        return self.pick([f"1/{k}", f"a {word}", f"one-{word}"] if word and k != 8 else [f"1/{k}"])

    def then(self) -> str:
        return self.pick(
            ["Then", "Then", "Later", "After that", "Afterwards", "The next day", "A week later", "That evening",
             "Next", "Over the weekend", f"On {self.pick(book.WEEKDAYS)}", "The following day", "Soon after",
             "In the afternoon"]
        )  # fmt: skip

    # ---- solving

    def step(self, sign: str, a: Number, b: Number, note: str) -> Fraction:
        """One operation. `note` says what it gives; # stands for the calculation."""
        a, b = Fraction(a), Fraction(b)
        value = a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a / b
        if self.left < 1 or not 0 < value <= MAX_VALUE or not is_short(value) or (sign in "*/" and 1 in (a, b)):
            raise Again
        if sign == "*" and self.chance(0.3):
            a, b = b, a
        left = f"{show(a)}{sign}{show(b)}"
        if any(f"<<{left}=" in line for line in self.lines):  # a step taken twice is one step
            raise Again
        self.lines.append(note.replace("#", f"{left}=<<{left}={show(value)}>>{show(value)}") + ".")
        self.value = value
        return value

    def whole(self, value: Number) -> int:
        """The value as an int; raises Again where it is not whole."""
        if Fraction(value).denominator != 1:
            raise Again
        return int(value)
