"""Inputs that tell programs apart: written by a model as generators and validators, or made from examples.

    spec = InputSpec(statement="Print the sum of two numbers.")
    texts, _ = await ask_for(engine, generator_prompt(spec), params, n=4)            # four generators
    checks, _ = await ask_for(engine, validator_prompt(spec), params, n=8)           # eight validators
    made = make_inputs(texts, checks, execute, n=256, seed=0)
    made.kept                                  # inputs that at least 75 % of the validators call valid

The procedure of o1-ioi (arXiv:2502.06807, section 3.2). A generator is a Python program that prints one input, another
for every seed on its stdin; a validator reads an input on its stdin and prints `valid` or `invalid`. Both are programs
of a model: hostile until shown otherwise. They run where `execute` runs them, which for anything that a model wrote is
the sandbox; what they print is compared as text and never evaluated, and an input that is too long is not kept. A
validator that says neither word of any input has no vote. Without a model, `similar` changes the numbers and words of
known inputs: some will be invalid, which does little harm where inputs only tell programs apart.

Left out: expected outputs written by a model (CodeT); the vote of the programs stands for them (`programs.agreement`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ponder.grading.code_blocks import extract_code
from ponder.types import Engine, Message, SamplingParams

SHARE = 0.75  # of the validators, that must accept an input
MAX_INPUT = 10_000  # characters; a longer one is not kept
MAX_TRIES = 4  # seeds that are tried for every input wanted
_NUMBER = re.compile(r"-?\d+")
_WORD = re.compile(r"[A-Za-z]+")

# (program, stdin) -> stdout; None where it crashed, came to a limit, or was lost
Execute = Callable[[str, str], str | None]

_GENERATOR = """Here is a programming problem.

{statement}

Write a Python program that makes one random input for it. It reads a seed, a whole number, from standard input, seeds
`random` with it, and prints one input to standard output, exactly in the format that the problem describes and with
nothing around it. Different seeds must give different inputs; mix small, special and large ones. {form} {constraints}
Answer with one fenced code block."""

_VALIDATOR = """Here is a programming problem.

{statement}

Write a Python program that checks whether an input for it is allowed. It reads the input from standard input, and
prints `valid` if it has the right format and keeps to all the constraints of the problem, else `invalid`. {form}
{constraints}
Answer with one fenced code block."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What the prompts for generators and validators say of a problem."""

    statement: str
    form: str = ""  # how an input is written down, where the statement does not say
    constraints: tuple[str, ...] = ("",)  # of each subtask, in words; "" = those of the problem


@dataclass(frozen=True, kw_only=True)
class MadeInputs:
    """Inputs that were kept, and what it took."""

    kept: tuple[str, ...]
    num_made: int  # different inputs that generators printed
    num_rejected: int  # by the validators
    num_validators: int  # that had a vote
    runs: int  # of programs


def generator_prompt(spec: InputSpec, subtask: int = 0) -> tuple[Message, ...]:
    """Asks for a program that makes inputs of a subtask."""
    return _prompt(_GENERATOR, spec, subtask)


def validator_prompt(spec: InputSpec, subtask: int = 0) -> tuple[Message, ...]:
    """Asks for a program that tells whether an input is allowed in a subtask."""
    return _prompt(_VALIDATOR, spec, subtask)


async def ask_for(
    engine: Engine, prompt: Sequence[Message], params: SamplingParams, *, n: int
) -> tuple[list[str], int]:
    """The different programs among n answers to a prompt, and the tokens that they took."""
    drawn = await engine.generate(prompt, params, n=n)
    found = [extract_code(each.answer) for each in drawn]
    return list(dict.fromkeys(text for text in found if text)), sum(each.num_tokens for each in drawn)


def make_inputs(
    generators: Sequence[str], validators: Sequence[str], execute: Execute, *, n: int, seed: int = 0,
    read: Callable[[str], str | None] = str,
) -> MadeInputs:  # fmt: skip
    """Up to n different inputs, from the generators in turn, that the validators accept. No validators: all that are
    made. read: what was printed as an input; None where it is none, and its generator is not asked again."""
    found: dict[str, None] = {}
    runs, live = 0, list(generators)
    for number in range(MAX_TRIES * n):
        if not live or len(found) >= n:
            break
        program = live[number % len(live)]
        printed = execute(program, f"{seed + number}\n")
        runs += 1
        text = read(printed) if printed is not None and len(printed) <= MAX_INPUT else printed
        if text is None:
            live.remove(program)  # one that fails once costs no second run
        elif text.strip() and len(text) <= MAX_INPUT:
            found.setdefault(text.rstrip("\n") + "\n")
    made = list(found)
    kept, voting = valid_inputs(made, [lambda text, p=p: verdict_of(execute(p, text)) for p in validators])  # type: ignore[misc]
    return MadeInputs(
        kept=tuple(kept),
        num_made=len(made),
        num_rejected=len(made) - len(kept),
        num_validators=voting,
        runs=runs + len(made) * len(validators),
    )


def valid_inputs(
    inputs: Sequence[str], validators: Sequence[Callable[[str], bool | None]], share: float = SHARE
) -> tuple[list[str], int]:
    """The inputs that at least `share` of the validators accept, and how many validators had a vote.

    One that says nothing (None) of an input rejects it; one that says nothing of any input has no vote. Where none has
    a vote, all inputs are kept.
    """
    table = [[validator(text) for text in inputs] for validator in validators]
    voting = [row for row in table if any(vote is not None for vote in row)]
    if not voting:
        return list(inputs), 0
    accepted = [sum(row[i] is True for row in voting) for i in range(len(inputs))]
    return [text for text, votes in zip(inputs, accepted, strict=True) if votes >= share * len(voting)], len(voting)


def verdict_of(printed: str | None) -> bool | None:
    """A validator's verdict: its first word, which is `valid` or `invalid`; None for anything else."""
    words = (printed or "")[:200].lower().split()
    return {"valid": True, "invalid": False}.get(words[0].strip(".,:!'\"")) if words else None


def similar(inputs: Sequence[str], *, n: int, seed: int = 0) -> list[str]:
    """Up to n inputs like the given ones, other than those: numbers moved, words shuffled, list elements repeated or
    left out. The same for the same seed."""
    known = [text for text in inputs if len(text) <= MAX_INPUT]
    rng, found = Random(f"similar/{seed}"), dict[str, None]()
    for number in range(20 * n if known else 0):
        if len(found) >= n:
            break
        text = known[number % len(known)]
        for _ in range(rng.randint(1, 3)):
            text = _changed(text, rng)
        if text not in known and len(text) <= MAX_INPUT:
            found.setdefault(text)
    return list(found)


def _changed(text: str, rng: Random) -> str:
    """One change, in one place."""
    numbers, words = list(_NUMBER.finditer(text)), list(_WORD.finditer(text))
    if numbers and (not words or rng.random() < 0.7):
        match = rng.choice(numbers)
        value = int(match[0]) if len(match[0]) <= 30 else 0
        other = rng.choice([value + 1, value - 1, -value, 0, 1, rng.randint(-9, 9), rng.randint(0, 100), value * 2])
        if rng.random() < 0.25:  # one more, or one fewer, of whatever separates it from its neighbour
            gap = re.match(r"[, ]\s*(?=-?\d)", text[match.end() :])
            if gap:
                return text[: match.start()] + text[match.end() + gap.end() :]
            before = re.search(r"\d([, ]\s*)$", text[: match.start()])
            if before:
                return text[: match.end()] + before[1] + str(other) + text[match.end() :]
        return text[: match.start()] + str(other) + text[match.end() :]
    if words:
        match = rng.choice(words)
        letters = list(match[0])
        how = rng.randrange(3)
        if how == 0:
            rng.shuffle(letters)
        elif how == 1:
            letters.append(rng.choice(letters))
        elif len(letters) > 1:
            letters.pop(rng.randrange(len(letters)))
        return text[: match.start()] + "".join(letters) + text[match.end() :]
    return text


def _prompt(request: str, spec: InputSpec, subtask: int) -> tuple[Message, ...]:
    constraints = spec.constraints[subtask]
    parts = {
        "{constraints}": f"The input must also keep to this: {constraints}" if constraints else "",
        "{form}": spec.form,
        "{statement}": spec.statement,
    }
    # not str.format, and in one pass: a statement may hold braces
    text = re.sub("|".join(map(re.escape, parts)), lambda match: parts[match[0]], request)
    return (Message(role="user", content=text),)
