"""pipes: find the program that does what a few examples show. The dials are its length and how much is shown.

    -6 8 -2 5>-12 16 -4 10      ->   *2          (level 1: one stage)
    4 -7 2>5 -6 3
    3>6                         ->   +1 ...      fits two of the three: wrong

A problem shows `examples` pairs of input and output; an answer is a program of the language of `pipes_language.py`, and
is right when it does what the problem's own program does on all that is shown and on 19 hidden inputs, drawn anew for
each problem. Any program that does is right. The fewer the examples, the more programs fit them (docs/code_pipes.md has
the counts), so passing what is shown is not enough. No program shorter than the level fits what is shown.

Tests come in three subtasks, as at an olympiad: inputs of positive numbers only, sorted inputs, all of them. A program
that is right on all tests of a subtask has its points. The reward is 1 for all tests and 0 for less;
`reward=fraction` is the share of the tests that pass, `reward=weighted` the share of the points. `Verdict.parts` has
public, hidden, fraction and points, each a share. Votes are about behaviour on fixed inputs, never on the hidden ones.

`form=python` asks the same of a language model, in Python: `pipes_python.py`.
"""

from __future__ import annotations

import re
from functools import partial
from random import Random

from ponder.config import ConfigError, lookup
from ponder.tasks import pipes_python
from ponder.tasks.base import Item, ProceduralTask, level_range
from ponder.tasks.pipes_language import DEEPEST, PROBES, Pipe, behaviour, digest, parse, run
from ponder.tasks.pipes_problems import PARTS, REWARDS, draw, hidden_tests, judge, public_examples, text_of
from ponder.types import Problem, Verdict

LEVELS = (1, 2)  # where nothing else is said
MAX_EXAMPLES = 6
MAX_ANSWER = 2_000  # characters that are looked at; a program has at most 23
_MARKED = re.compile(r"\\boxed\{([^{}]*)\}|\banswer(?:\s+is\b\s*:?|\s*:)([^\n]*)", re.IGNORECASE)


def make(rng: Random, level: int, *, num_examples: int) -> Item:
    pipe, shown, hidden = draw(rng, level, num_examples=num_examples)
    text = "\n".join(f"{text_of(value)}>{text_of(output)}" for value, output in shown)
    return Item(text=text, target=" ".join(pipe), meta={"public": shown, "hidden": hidden})


def find_pipe(answer: str) -> Pipe | None:
    """The program an answer gives: what it marks as its answer, else all of it."""
    if len(answer) > MAX_ANSWER:
        return None
    marked = [match[1] or match[2] or "" for match in _MARKED.finditer(answer)]
    text = next((text for text in reversed(marked) if text.strip()), answer)
    return parse(text.strip(" \t\r\n`\"'$."))  # no asterisks: `*2` is a stage


def verify(problem: Problem, answer: str, *, reward: str = "all") -> Verdict:
    """Run the answer's program on the tests."""
    pipe = find_pipe(answer)
    if pipe is None:
        return Verdict(outcome="wrong", reward=0.0, parts=dict.fromkeys(PARTS, 0.0))
    tests = public_examples(problem) + hidden_tests(problem)
    return judge(problem, {value: run(pipe, value) for value, _ in tests}, " ".join(pipe), reward=reward)


def key(problem: Problem, answer: str) -> str | None:
    """Programs that do the same on fixed inputs are the same answer."""
    pipe = find_pipe(answer)
    return None if pipe is None else digest(behaviour(pipe, PROBES))


def pipes(
    *,
    split: str = "test",
    seed: int = 0,
    level: int | str | None = None,
    examples: int = 3,
    reward: str = "all",
    form: str = "program",
    size: int = 500,
) -> ProceduralTask:
    """The task; `level` is a number of stages or a range such as "1-3", `examples` how many are shown, `reward` all,
    fraction or weighted, `form` program (of this language) or python."""
    levels = level_range(level, LEVELS)
    if not 1 <= levels[0] <= levels[-1] <= DEEPEST:
        raise ConfigError(f"pipes has levels 1 to {DEEPEST}, not {level}")
    if not isinstance(examples, int) or not 1 <= examples <= MAX_EXAMPLES:
        raise ConfigError(f"examples={examples} must be a whole number from 1 to {MAX_EXAMPLES}")
    lookup(REWARDS, reward, what="reward")
    if form not in ("program", "python"):
        raise ConfigError(f"form={form!r} is neither program nor python")
    asked, check, same = make, verify, key
    if form == "python":
        asked, check, same = pipes_python.make, pipes_python.verify, pipes_python.key
    return ProceduralTask(
        "pipes", partial(asked, num_examples=examples), partial(check, reward=reward), same,
        levels=levels, split=split, seed=seed, size=size,
    )  # fmt: skip
