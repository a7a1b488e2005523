"""Rows that teach deliberation to a model that never saw it, made of worked problems.

    ponder data arithmetic:level=1-4 --style deliberate --count 8000 --out data/deliberate.jsonl
    ponder data arithmetic:level=1-4 --style chain --count 8000 --out data/chain.jsonl

A problem is worked as pairs of a question and its answer: the operations of an arithmetic line, the pairs of letters of
a cipher, the calculations of a solution (words, GSM8K). Of each come two kinds of row:

    a whole trajectory      reasoning "Q: 4*3\\nA: 12\\n\\nQ: 47+12\\nA: 59\\n\\n", answer "59"
    a choice                given "Q: 4*3\\nA: 12\\n\\n1. Q: 47+12 A: 49\\n2. Q: 47+12 A: 59\\nBest: ",
                            reasoning "59 -> 2\\n"

`given` is reasoning that is already there, context and not target; a row without `answer` leaves the reasoning open.
`chain` is the same work, with the same faults, as one chain of thought: a line a pair, "4*3=12", and no choices; what
deliberation is compared with.

Faults are part of the rows on purpose, as in `tasks/ways.py`: answers slip (and what follows of them is wrong), the
answer is guessed before the work is done, and choices are careless, so that good ways are there but rare and
reinforcement learning has something to find. In a procedural family a slip goes on into what follows; a solution in
sentences is not worked again, so there only the listed candidates slip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ponder.config import ConfigError, check, lookup, setting
from ponder.rewarding import rewarding
from ponder.strategies.deliberation_environment import answer_line, listing, pair_line, render_step
from ponder.tasks.arithmetic import parse
from ponder.tasks.calculations import equation
from ponder.tasks.ways import apply, slipped
from ponder.train.solutions import Row, Unusable, open_source, refuse_none, single_operations
from ponder.types import Problem

Say = Callable[[str, str], str]  # (question, right answer) -> the answer that is written down
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often the rows do what a careful solver would not."""

    slip: float = setting(0.1, "of each answer of a pair", least=0, most=1)
    early: float = setting(0.15, "before each pair: that the final answer is guessed there", least=0, most=1)
    careless: float = setting(0.4, "of each choice: that it falls at random, without a comparison", least=0, most=1)
    choices: int = setting(2, "rows of choices a problem", least=0)

    def __post_init__(self) -> None:
        try:
            check(self)
        except ValueError as error:
            raise ConfigError(str(error)) from None


# ---- problems worked as pairs --------------------------------------------------------------------------------------


def work_arithmetic(problem: Problem, say: Say) -> str:
    """Products first, each once, then the running total."""
    signs, terms = parse(problem.text) or ([], [])
    values: list[int] = []
    products: dict[tuple[int, ...], int] = {}
    for term in terms:
        if len(term) == 2 and term not in products:
            products[term] = int(say(f"{term[0]}*{term[1]}", str(term[0] * term[1])))
        values.append(products[term] if len(term) == 2 else term[0])
    total = values[0]
    for sign, value in zip(signs[1:], values[1:], strict=True):
        operator = "+" if sign > 0 else "-"
        total = int(say(f"{total}{operator}{value}", str(apply(total, operator, value))))
    return str(total)


def work_cipher(problem: Problem, say: Say) -> str:
    """Two letters at a time: what lies half-way between them."""
    coded = problem.text.splitlines()[1].removesuffix(" -> ?")
    decoded = []
    for word in coded.split(" "):
        pairs = [word[i : i + 2] for i in range(0, len(word), 2)]
        decoded.append("".join(say(pair, chr((ord(pair[0]) + ord(pair[1])) // 2)) for pair in pairs))
    return " ".join(decoded)


def work_bases(problem: Problem, say: Say) -> str:
    """To base 10 by Horner's rule, a product and a sum a digit; from it by division: "45/4" -> "11r1"."""
    numbers = [int(number) for number in re.findall(r"\d+", problem.text)]
    if problem.meta["base"] == 10:
        digits, base = str(numbers[0]), numbers[1]
        value = int(digits[0])
        for digit in digits[1:]:
            product = int(say(f"{value}*{base}", str(value * base)))
            value = int(say(f"{product}+{digit}", str(product + int(digit))))
        return str(value)
    number, base = numbers
    written = ""
    while number >= base:
        quotient, _, remainder = say(f"{number}/{base}", f"{number // base}r{number % base}").partition("r")
        number, written = min(int(quotient), number - 1), remainder + written  # a slip may not go round for ever
    return f"{number}{written}"


def work_solution(problem: Problem, say: Say) -> str:
    """The single operations of a worked solution (words, GSM8K)."""
    for line in single_operations(problem).splitlines():
        question, _, answer = line.rpartition("=")
        say(question, answer)
    return problem.target


WORKED: dict[str, Callable[[Problem, Say], str]] = {
    "arithmetic": work_arithmetic, "bases": work_bases, "cipher": work_cipher,
}  # fmt: skip


def work(problem: Problem, say: Say) -> str:
    """Work a problem and return the answer. `say` is called with every question and its right answer, and the work goes
    on from what it returns. A task without a function in `WORKED` is worked from its solution."""
    return WORKED.get(problem.task, work_solution)(problem, say)


def is_true(problem: Problem, question: str, answer: str) -> bool:
    """Whether a pair says something true, useful or not: by which a choice can be labelled where no one did."""
    if problem.task == "cipher":
        return len(question) == 2 and answer == chr((ord(question[0]) + ord(question[1])) // 2)
    if division := re.fullmatch(r"([0-9]{1,9})/([1-9])=([0-9]{1,9})r([0-9])", f"{question}={answer}"):
        number, base, quotient, remainder = map(int, division.groups())
        return divmod(number, base) == (quotient, remainder)
    return equation(f"{question}={answer}") is not None


# ---- rows ----------------------------------------------------------------------------------------------------------


class _Guess(Exception):
    """The work stops here and the answer is guessed."""


def walk(problem: Problem, faults: Faults, rng: Random) -> tuple[list[Pair], str]:
    """(pairs, answer) of one way through a problem, faults included: an answer that slipped is gone on from."""
    pairs: list[Pair] = []
    may_slip = problem.task in WORKED

    def say(question: str, right: str) -> str:
        if rng.random() < faults.early:
            raise _Guess
        answer = slip(right, rng) if may_slip and rng.random() < faults.slip else right
        pairs.append((question, answer))
        return answer

    try:
        return pairs, work(problem, say)
    except _Guess:
        return pairs, problem.target  # a guess: a small model cannot see it from here, so its own will be wrong


def right_pairs(problem: Problem) -> list[Pair]:
    """The pairs of a problem worked to its end without a slip or a guess."""
    return walk(problem, Faults(slip=0, early=0), Random(0))[0]


def slip(answer: str, rng: Random) -> str:
    """A plausible wrong answer: a neighbour of a number or of a letter; a word with one letter wrong."""
    if answer.lstrip("-").isdigit():
        return str(slipped(int(answer), rng))
    if "r" in answer and answer.replace("r", "").isdigit():  # a quotient and a remainder
        quotient, _, remainder = answer.partition("r")
        return f"{slipped(int(quotient), rng)}r{remainder}"
    letters = [i for i, letter in enumerate(answer) if letter.isalpha()]
    if not letters:
        return answer + ("1" if "." in answer else "0")  # 1.50 would be 1.5
    i = rng.choice(letters)
    return answer[:i] + chr(ord(answer[i]) + (1 if answer[i] in "aA" else -1)) + answer[i + 1 :]


def choice(problem: Problem, faults: Faults, rng: Random) -> Row | None:
    """A row in which one of two to four candidates is to be chosen, at a random point of the right way."""
    pairs = right_pairs(problem)
    position = rng.randrange(len(pairs) + 1)
    done, ahead = pairs[:position], pairs[position:]
    right = pair_line(*ahead[0]) if ahead else answer_line(problem.target)
    value = ahead[0][1] if ahead else problem.target
    wrong = [pair_line(ahead[0][0], slip(value, rng)) for _ in range(2)] if ahead else []
    wrong += [answer_line(slip(problem.target, rng)) for _ in range(1 if ahead else 2)]
    wrong += [pair_line(*pair) for pair in (*done[-2:], *ahead[1:2])]  # asked before, or too early
    wrong = [line for line in dict.fromkeys(wrong) if line != right]
    candidates = [right, *rng.sample(wrong, min(len(wrong), rng.randint(1, 3)))]
    if len(candidates) < 2:
        return None
    rng.shuffle(candidates)
    if rng.random() < faults.careless:
        reasoning = f"{rng.randint(1, len(candidates))}\n"
    else:
        reasoning = f"{value} -> {candidates.index(right) + 1}\n"  # what is right, then who has it
    state = "".join(render_step(*pair) for pair in done)
    return {"problem": problem.text, "given": state + listing(candidates), "reasoning": reasoning}


def deliberate(problem: Problem, faults: Faults, rng: Random) -> list[Row]:
    """A whole trajectory and some choices."""
    pairs, answer = walk(problem, faults, rng)
    reasoning = "".join(render_step(*pair) for pair in pairs)
    chosen = [choice(problem, faults, rng) for _ in range(faults.choices)]
    return [{"problem": problem.text, "reasoning": reasoning, "answer": answer}, *(row for row in chosen if row)]


def chain(problem: Problem, faults: Faults, rng: Random) -> list[Row]:
    """The same work as one chain of thought."""
    pairs, answer = walk(problem, faults, rng)
    reasoning = "\n".join(f"{question}={answer}" for question, answer in pairs)
    return [{"problem": problem.text, "reasoning": reasoning, "answer": answer}]


STYLES: dict[str, Callable[[Problem, Faults, Random], list[Row]]] = {"deliberate": deliberate, "chain": chain}


def make_rows(
    sources: Sequence[str], style: str, faults: Faults, *, count: int | None = None, seed: int = 0,
    no_exam: bool = False,
) -> tuple[list[Row], Counter[str]]:  # fmt: skip
    """Rows of every source in turn, none twice, with what was left out and why; see `solutions.make_rows`."""
    make = lookup(STYLES, style, what="style")
    rows: dict[tuple[str, ...], Row] = {}
    dropped: Counter[str] = Counter()
    for source in sources:
        task = open_source(source, count, seed, no_exam=no_exam)
        for i in range(len(task)):
            problem = task[i]
            try:
                with rewarding("the choice of rows"):
                    made = make(problem, faults, Random(f"{seed}/{style}/{problem.id}"))
            except Unusable as reason:
                dropped[str(reason)] += 1
                continue
            for row in made:
                if rows.setdefault(tuple(row.values()), row) is not row:
                    dropped["a row that was there already"] += 1
    refuse_none(rows, dropped, sources, style)
    return list(rows.values()), dropped
