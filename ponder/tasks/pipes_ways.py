"""How a problem of `pipes` can be worked: a program at once, or ideas that are tried on the examples until one fits.

    6 8 -2>-2 8 6        guess    no reasoning
    5 1>1 5              tried    rev:-2 8 6 ok
    3 7>7 3                       rev:1 5 ok
                                  rev:7 3 ok

An idea that does not come out is left for the next: `sort:-2 6 8 rev:8 6 -2 no`. After each stage stands what it makes
of the list, so the second stage is chosen in view of what the first left to do. Ideas begin on the first example, the
longest; one that fits goes on to the next; the answer is the first that fits all.

Ideas that miss are part of the demonstrations on purpose, as slips are in arithmetic: programs near the right one, and
programs that look likely on the first example.
"""

from __future__ import annotations

from random import Random

from ponder.tasks.pipes import Shown, public_examples, text_of
from ponder.tasks.pipes_language import STAGES, Pipe, apply, fits, parse, run, shortest
from ponder.types import Problem

MORE_IDEAS = 0.7  # after an idea that misses comes another with this chance, before the right one
MAX_MISSES = 8
_LOOKS = 6  # programs from which the likeliest-looking is taken


def demonstrate(problem: Problem, way: str, rng: Random, *, slip: float = 0.0) -> tuple[str, str]:
    """(reasoning, answer) by guess or tried. Every result is right: what is tried and misses is what there is to find
    out, so `slip` says nothing here."""
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
        for stage in pipe:
            value = apply(stage, value)
            words.append(f"{stage}:{text_of(value)}")
        lines.append(f"{' '.join(words)} {'ok' if value == output else 'no'}")
        if value != output:
            break
    return lines


def misses(shown: Shown, target: Pipe, rng: Random) -> list[Pipe]:
    """Ideas that do not fit what is shown, in the order in which they are tried."""
    found: list[Pipe] = []
    while len(found) < MAX_MISSES and rng.random() < MORE_IDEAS:
        idea = _near(target, rng) if rng.random() < 0.5 else _likely(shown, len(target), rng)
        if idea not in found and not fits(idea, shown):
            found.append(idea)
    return found


def _near(target: Pipe, rng: Random) -> Pipe:
    """The right program with another stage in one place."""
    place = rng.randrange(len(target))
    return (*target[:place], rng.choice(tuple(STAGES)), *target[place + 1 :])


def _likely(shown: Shown, most: int, rng: Random) -> Pipe:
    """Of a few programs, the one whose output on the first example is most like what is wanted."""
    value, wanted = shown[0]

    def likeness(pipe: Pipe) -> float:
        output = run(pipe, value)
        places = sum(a == b for a, b in zip(output, wanted, strict=False))
        return (len(output) == len(wanted)) + (places + len(set(output) & set(wanted))) / (1 + len(wanted))

    return max((rng.choice(shortest(rng.randint(1, most))) for _ in range(_LOOKS)), key=likeness)
