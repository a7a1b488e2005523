"""arithmetic: one line of sums, differences and small products; the dial is the number of operations.

    What is 36-14+5*9-8?   ->   59

Every number and running total lies between 0 and 99, so each operation is easy; a long line is not, unless it is
worked one operation at a time. Whether to think, and how carefully, decides the score. `tasks/ways.py` has the ways of
thinking that `nano`'s base was shown.
"""

from __future__ import annotations

import re
from random import Random

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks.base import Item, ProceduralTask, level_range

LEVELS = tuple(range(1, 7))
HARDEST = 20  # beyond, lines whose running totals all stay in range are too rare to draw
_QUESTION = re.compile(r"What is ([-+*0-9]{1,200})\?")

Term = tuple[int, ...]  # (37,) a number, (7, 12) a product


def make(rng: Random, level: int) -> Item:
    """`level` additions or subtractions; three terms in ten are products of two digits."""
    while True:
        terms = [_term(rng) for _ in range(level + 1)]
        signs = [1] + [rng.choice((1, -1)) for _ in range(level)]
        totals = running_totals(signs, terms)
        if all(0 <= total <= 99 for total in totals):
            break
    line = "".join(
        ("" if i == 0 else "+" if sign > 0 else "-") + "*".join(map(str, term))
        for i, (sign, term) in enumerate(zip(signs, terms, strict=True))
    )
    return Item(text=f"What is {line}?", target=str(totals[-1]), meta={})


def _term(rng: Random) -> Term:
    if rng.random() < 0.3:
        return rng.randint(2, 9), rng.randint(2, 9)
    return (rng.randint(2, 60),)


def running_totals(signs: list[int], terms: list[Term]) -> list[int]:
    """The total after each term, from left to right; a term of two numbers is their product."""
    totals, total = [], 0
    for sign, term in zip(signs, terms, strict=True):
        total += sign * (term[0] * term[1] if len(term) == 2 else term[0])
        totals.append(total)
    return totals


def parse(text: str) -> tuple[list[int], list[Term]] | None:
    """The signs and terms of a question, None where the text is not one."""
    match = _QUESTION.fullmatch(text)
    pieces = re.findall(r"([-+]?)(\d{1,6})(?:\*(\d{1,6}))?", match[1]) if match else []
    if not pieces or "".join(s + a + ("*" + b if b else "") for s, a, b in pieces) != match[1]:  # type: ignore[index]
        return None
    return [-1 if s == "-" else 1 for s, _, _ in pieces], [(int(a), int(b)) if b else (int(a),) for _, a, b in pieces]


def arithmetic(
    *, split: str = "test", seed: int = 0, level: int | str | None = None, size: int = 500
) -> ProceduralTask:
    """The task; `level` is a number of operations or a range such as "2-6"."""
    levels = level_range(level, LEVELS)
    if not 1 <= levels[0] <= levels[-1] <= HARDEST:
        raise ConfigError(f"arithmetic has levels 1 to {HARDEST}, not {level}")
    verifier = VERIFIERS["integer"]
    return ProceduralTask(
        "arithmetic", make, verifier, verifier.key,
        levels=levels, split=split, seed=seed, size=size,
    )  # fmt: skip
