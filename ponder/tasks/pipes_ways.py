"""How a problem of `pipes` can be worked: a program at once, or ideas that are tried on the examples until one fits.

    6 8 -2>-2 8 6        guess    no reasoning
    5 1>1 5              tried    rev:-2|-2 8|8 6|6 ok
    3 7>7 3                       rev:1|1 5|5 ok
                                  rev:7|7 3|3 ok

An idea that does not come out is left for the next: `sort:-2 6 8 rev:8|-2 no`. After each stage stands what it makes
of the list, so the second stage is chosen in view of what the first left to do. What the last stage makes is written
number by number beside what is wanted, and the line ends at the first that differs; a dot stands where one of the two
lists is over: `drop1:8|-2 no`, `take1:1|1 .|5 no`. So whether an idea fits is read off two numbers side by side; a
small model that had to look the wanted list up in the problem called two of five wrong ideas right. Ideas begin on the
first example, the longest; one that fits goes on to the next; the answer is the first that fits all.

Ideas that miss are part of the demonstrations on purpose, as slips are in arithmetic. Most do all that the first
example shows and miss a later one: short ones first, else in any order, the right one among them. So the next idea is
always drawn from what the first example suggests. Some are less: programs near the right one, and ones whose output
looks likely.
"""

from __future__ import annotations

from itertools import zip_longest
from random import Random

from ponder.tasks.pipes_language import STAGES, Pipe, Value, apply, at_most, fits, parse, run, shortest
from ponder.tasks.pipes_problems import Shown, public_examples, text_of
from ponder.types import Problem

NEAR = 0.25  # the chance of an idea that is less, before each other one
MAX_MISSES = 8
_LOOKS = 6  # programs from which the likeliest-looking is taken
_LENGTH = 2  # stages, at most, of ideas that fit the first example: longer ones are too many to look through


def demonstrate(problem: Problem, way: str, rng: Random, *, slip: float = 0.0) -> tuple[str, str]:
    """(reasoning, answer) by guess or tried. Every result is right: what is tried and misses is what there is to find
    out, so `slip` has no effect here."""
    if way == "guess":
        return "", problem.target
    shown, target = public_examples(problem), parse(problem.target)
    assert target is not None, problem.target
    ideas = misses(shown, target, rng)
    return "\n".join(line for pipe in (*ideas, target) for line in attempt(pipe, shown)), problem.target


def attempt(pipe: Pipe, shown: Shown) -> list[str]:
    """The lines of one idea: an example each, up to the first that does not come out."""
    lines = []
    for value, output in shown:
        words = []
        for stage in pipe[:-1]:
            value = apply(stage, value)
            words.append(f"{stage}:{text_of(value)}")
        value = apply(pipe[-1], value)
        words.append(f"{pipe[-1]}:{_compared(value, output)}")
        lines.append(f"{' '.join(words)} {'ok' if value == output else 'no'}")
        if value != output:
            break
    return lines


def _compared(found: Value, wanted: Value) -> str:
    """Number beside number, up to the first that differs."""
    pairs = list(zip_longest(map(str, found), map(str, wanted), fillvalue=".")) or [(".", ".")]
    differing = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs) - 1)
    return " ".join(f"{a}|{b}" for a, b in pairs[: differing + 1])


def misses(shown: Shown, target: Pipe, rng: Random) -> list[Pipe]:
    """Ideas that do not fit what is shown, in the order in which they are tried."""
    fitting = [pipe for pipe in at_most(min(len(target), _LENGTH)) if pipe and fits(pipe, shown[:1])]
    before = [pipe for pipe in fitting if not fits(pipe, shown)]
    rng.shuffle(before)
    before = [pipe for pipe in before if len(pipe) < len(target) or rng.random() < 0.5]  # the right one is among them
    found: list[Pipe] = []
    for idea in [*sorted(before, key=len), target]:
        while rng.random() < NEAR:
            less = _near(target, rng) if rng.random() < 0.5 else _likely(shown, len(target), rng)
            if less not in found and not fits(less, shown):
                found.append(less)
        if idea != target:
            found.append(idea)
    return found[:MAX_MISSES]


def _near(target: Pipe, rng: Random) -> Pipe:
    """The right program with another stage in one place."""
    index = rng.randrange(len(target))
    return (*target[:index], rng.choice(tuple(STAGES)), *target[index + 1 :])


def _likely(shown: Shown, most: int, rng: Random) -> Pipe:
    """Of a few programs, the one whose output on the first example is most like what is wanted."""
    value, wanted = shown[0]

    def likeness(pipe: Pipe) -> float:
        output = run(pipe, value)
        places = sum(a == b for a, b in zip(output, wanted, strict=False))
        return (len(output) == len(wanted)) + (places + len(set(output) & set(wanted))) / (1 + len(wanted))

    return max((rng.choice(shortest(rng.randint(1, most))) for _ in range(_LOOKS)), key=likeness)
