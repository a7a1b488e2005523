"""The language of `pipes`: programs of one to four stages over lists of whole numbers, and how short one can be.

    run(parse("sort rev"), (3, 19, 1))    ->  (19, 3, 1)
    run(parse("+3 abs"), (-2, 13))        ->  (1, 16)
    level_of(parse("rev rev sort"))       ->  1: `sort` does the same
    as_python(parse("sort rev"))          ->  "def f(x):\\n    x = sorted(x)\\n    x = x[::-1]\\n    return x\\n"

Every stage is total, so no program fails: numbers are cut to [-999, 999], lists to nine. Two programs are the same when
they do the same on `PROBES`, fixed inputs that hold the empty list, zeros, repeats, and long lists; a program's level
is the length of the shortest one that is the same, found by going through all behaviours breadth first. That is exact
for what the probes can tell apart. Levels 1, 2 and 3 have 29, some five hundred and some six thousand behaviours.

Programs are interpreted here, by this file's own functions: nothing a model wrote is evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from random import Random

Value = tuple[int, ...]
Pipe = tuple[str, ...]  # the names of a program's stages

MOST = 999  # of a number, either way
LONGEST = 9  # of a list
MAX_STAGES = 4
DEEPEST = 3  # the highest level that is looked up; the next would be some 70,000 behaviours

STAGES: dict[str, Callable[[Value], Iterable[int]]] = {
    "sort": sorted,
    "rev": reversed,
    "uniq": dict.fromkeys,  # the first of each, in order
    "even": lambda x: [v for v in x if v % 2 == 0],
    "odd": lambda x: [v for v in x if v % 2],
    "pos": lambda x: [v for v in x if v > 0],
    "neg": lambda x: [v for v in x if v < 0],
    "abs": lambda x: [abs(v) for v in x],
    "sq": lambda x: [v * v for v in x],
    "cum": accumulate,
    "diff": lambda x: [b - a for a, b in pairwise(x)],
    "sum": lambda x: [sum(x)],
    "max": lambda x: [max(x)] if x else [],
    "min": lambda x: [min(x)] if x else [],
    "len": lambda x: [len(x)],
    "take1": lambda x: x[:1],
    "take2": lambda x: x[:2],
    "take3": lambda x: x[:3],
    "drop1": lambda x: x[1:],
    "drop2": lambda x: x[2:],
    "+1": lambda x: [v + 1 for v in x],
    "+2": lambda x: [v + 2 for v in x],
    "+3": lambda x: [v + 3 for v in x],
    "+5": lambda x: [v + 5 for v in x],
    "-1": lambda x: [v - 1 for v in x],
    "-2": lambda x: [v - 2 for v in x],
    "*2": lambda x: [v * 2 for v in x],
    "*3": lambda x: [v * 3 for v in x],
    "*-1": lambda x: [-v for v in x],
}

# the same in Python, of a list x; an input whose numbers stay within MOST comes out the same
PYTHON: dict[str, str] = {
    "sort": "sorted(x)",
    "rev": "x[::-1]",
    "uniq": "list(dict.fromkeys(x))",
    "even": "[v for v in x if v % 2 == 0]",
    "odd": "[v for v in x if v % 2]",
    "pos": "[v for v in x if v > 0]",
    "neg": "[v for v in x if v < 0]",
    "abs": "[abs(v) for v in x]",
    "sq": "[v * v for v in x]",
    "cum": "[sum(x[:i + 1]) for i in range(len(x))]",
    "diff": "[b - a for a, b in zip(x, x[1:])]",
    "sum": "[sum(x)]",
    "max": "[max(x)] if x else []",
    "min": "[min(x)] if x else []",
    "len": "[len(x)]",
    **{f"take{n}": f"x[:{n}]" for n in (1, 2, 3)},
    **{f"drop{n}": f"x[{n}:]" for n in (1, 2)},
    **{f"+{n}": f"[v + {n} for v in x]" for n in (1, 2, 3, 5)},
    **{f"-{n}": f"[v - {n} for v in x]" for n in (1, 2)},
    **{f"*{n}": f"[v * {n} for v in x]" for n in (2, 3, -1)},
}


def parse(text: str) -> Pipe | None:
    """The stages of a program's text, None where it is none."""
    pipe = tuple(text.split()) if len(text) <= 100 else ()
    return pipe if 1 <= len(pipe) <= MAX_STAGES and all(name in STAGES for name in pipe) else None


def cut(values: Iterable[int]) -> Value:
    """Numbers and length within the language's bounds."""
    return tuple(MOST if v > MOST else -MOST if v < -MOST else v for v in values)[:LONGEST]


def apply(stage: str, value: Value) -> Value:
    """What one stage makes of a list, cut to the language's bounds."""
    return cut(STAGES[stage](value))


def run(pipe: Pipe, value: Sequence[int]) -> Value:
    """What a program makes of an input."""
    value = cut(value)
    for stage in pipe:
        value = apply(stage, value)
    return value


def behaviour(pipe: Pipe, inputs: Iterable[Sequence[int]]) -> tuple[Value, ...]:
    """Its outputs on inputs: what a program is to somebody who only runs it."""
    return tuple(run(pipe, value) for value in inputs)


def as_python(pipe: Pipe) -> str:
    """The program as a Python function of a list."""
    return "".join(["def f(x):\n", *(f"    x = {PYTHON[stage]}\n" for stage in pipe), "    return x\n"])


def stays_within(pipe: Pipe, value: Value) -> bool:
    """Nothing is cut on the way, so that Python without bounds comes to the same."""
    for stage in pipe:
        whole = tuple(STAGES[stage](value))
        if whole != cut(whole):
            return False
        value = whole
    return True


# ---- which programs are the same, and how short they can be ---------------------------------------------------------


def _probes() -> tuple[Value, ...]:
    """24 inputs, chosen once: by hand what programs differ on, the rest by chance."""
    rng = Random("pipes/probes")
    chosen: list[Value] = [
        (), (0,), (1,), (-1,), (7,), (-8,), (3, 3), (0, 0, 0), (2, -2), (5, 1, 5, 1), (-3, -1, -2), (9, 4, 4, -9),
    ]  # fmt: skip
    return (*chosen, *(tuple(rng.randint(-20, 20) for _ in range(3 + i % 7)) for i in range(12)))


PROBES = _probes()


def digest(outputs: Sequence[Sequence[int] | None]) -> str:
    """A name for a behaviour, of whoever's program: programs with the same outputs have the same."""
    text = ";".join("?" if value is None else " ".join(map(str, value)) for value in outputs)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def new_behaviours(level: int) -> dict[tuple[Value, ...], Pipe]:
    """The behaviours on PROBES that need `level` stages and no fewer, each with a program; level 0 does nothing."""
    if level == 0:
        return {PROBES: ()}
    # a longer program's behaviour is that of its last stage on the outputs of the rest, whichever program made those
    known = [new_behaviours(lower) for lower in range(level)]
    found: dict[tuple[Value, ...], Pipe] = {}
    for outputs, pipe in known[-1].items():
        for stage in STAGES:
            longer = tuple(apply(stage, value) for value in outputs)
            if longer not in found and not any(longer in lower for lower in known):
                found[longer] = (*pipe, stage)
    return found


@cache
def shortest(level: int) -> tuple[Pipe, ...]:
    """A shortest program of each behaviour of a level."""
    return tuple(new_behaviours(level).values())


def level_of(pipe: Pipe) -> int:
    """The length of the shortest program that does the same; of what needs more than DEEPEST stages: one more."""
    outputs = behaviour(pipe, PROBES)
    return next((level for level in range(DEEPEST + 1) if outputs in new_behaviours(level)), DEEPEST + 1)


def fits(pipe: Pipe, examples: Iterable[tuple[Value, Value]]) -> bool:
    """The program's outputs are those of the examples."""
    return all(run(pipe, value) == output for value, output in examples)


@cache
def at_most(level: int) -> tuple[Pipe, ...]:
    """A shortest program of each behaviour up to a level, doing nothing included."""
    return tuple(pipe for lower in range(level + 1) for pipe in shortest(lower))
