"""Ways of thinking: how a problem can be worked, and which way a piece of reasoning used.

`nano`'s base was trained on demonstrations that mix these ways, so that reinforcement learning has something to
choose from, and so that what it chose can be counted:

    guess    no reasoning at all; right only where the line is short
    steps    one operation a line, no looking back; now and then a step is wrong, and so is all that follows
    checked  every operation is tried backwards; what does not come out is done again
    tried    programs of `pipes` are tried on the examples until one fits (`pipes_ways.py` has how)
    rules    the rules of `desk` are gone through, each with its evidence, before anything is worked out

    5*9=45               5*9=45 9*5=45 ok
    36-14=22             36-14=32 32+14=46 no
    22+45=67             36-14=22 22+14=36 ok
    67-8=59              22+45=67 67-45=22 ok
                         67-8=59 59+8=67 ok

Slips are part of the demonstrations on purpose: a way that is never wrong would leave nothing to check. What a mixture
for training is, is in `demonstrations.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from ponder.tasks.arithmetic import parse
from ponder.tasks.pipes_language import STAGES
from ponder.types import Problem

WAYS = ("guess", "steps", "checked", "tried", "rules")
_STAGE = re.compile(rf"(?:^| )(?:{'|'.join(map(re.escape, STAGES))}):", re.MULTILINE)  # and its result
_RULE = re.compile(r"(?:no (?:end )?|max |min )[-+*0-9]+\?")  # and its evidence


def operations(problem: Problem) -> list[tuple[int, str, int]]:
    """The operations of an arithmetic problem in order: products first, then the running total."""
    parsed = parse(problem.text)
    if parsed is None:
        raise ValueError(f"{problem.id} is not an arithmetic problem: {problem.text!r}")
    signs, terms = parsed
    result = [(term[0], "*", term[1]) for term in terms if len(term) == 2]
    values = [term[0] * term[1] if len(term) == 2 else term[0] for term in terms]
    total = values[0]
    for sign, value in zip(signs[1:], values[1:], strict=True):
        result.append((total, "+" if sign > 0 else "-", value))
        total += sign * value
    return result


def demonstrate(problem: Problem, way: str, rng: Random, *, slip: float) -> tuple[str, str]:
    """(reasoning, answer) of a line of arithmetic by guess, steps or checked; an operation slips with chance `slip`."""
    if way == "guess":
        return "", problem.target
    products: dict[tuple[int, int], int] = {}
    lines: list[str] = []
    signs, terms = parse(problem.text) or ([], [])

    def work(a: int, op: str, b: int) -> int:
        while True:
            right = apply(a, op, b)
            got = slipped(right, rng) if rng.random() < slip else right
            if way == "steps":
                lines.append(f"{a}{op}{b}={got}")
                return got
            back, undone = backwards(a, op, b, got)
            lines.append(f"{a}{op}{b}={got} {back} {'ok' if undone else 'no'}")
            if undone:
                return got

    for term in terms:
        if len(term) == 2 and term not in products:
            products[term] = work(term[0], "*", term[1])
    values = [products[term] if len(term) == 2 else term[0] for term in terms]  # type: ignore[index]
    total = values[0]
    for sign, value in zip(signs[1:], values[1:], strict=True):
        total = work(total, "+" if sign > 0 else "-", value)
    return "\n".join(lines), str(total)


def apply(a: int, op: str, b: int) -> int:
    """op: *, + or -."""
    return a * b if op == "*" else a + b if op == "+" else a - b


def backwards(a: int, op: str, b: int, got: int) -> tuple[str, bool]:
    """The check of one operation, and whether it came out: products swapped, sums and differences undone."""
    if op == "*":
        return f"{b}*{a}={a * b}", a * b == got
    undo = "-" if op == "+" else "+"
    value = apply(got, undo, b)
    return f"{got}{undo}{b}={value}", value == a


def slipped(value: int, rng: Random) -> int:
    """A plausible wrong result: a ten too many or too few, a wrong last digit."""
    return abs(value + rng.choice((-10, 10, -1, 1, -2, 2)))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a piece of reasoning shows on its surface."""

    way: str  # one of WAYS, or "other"
    steps: int  # results written down, checks not counted; of programs: of stages
    checks: int
    backtracks: int  # checks that failed and sent the work back


def count(reasoning: str) -> Counts:
    """Classify reasoning by its marks; works on any text and never fails."""
    checks = len(re.findall(r" (?:ok|no)(?=\n|$)", reasoning))
    backtracks = len(re.findall(r" no(?=\n|$)", reasoning))
    steps = sum("=" in line for line in reasoning.splitlines())
    stages = len(_STAGE.findall(reasoning))
    if not reasoning.strip():
        way = "guess"
    elif _RULE.match(reasoning):
        way = "rules"
    elif stages > steps:
        way = "tried"
    else:
        way = "other" if not steps else "checked" if 2 * checks >= steps else "steps"
    return Counts(way=way, steps=max(steps, stages), checks=checks, backtracks=backtracks)
