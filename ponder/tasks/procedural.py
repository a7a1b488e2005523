"""Four small procedural families that reward thinking step by step, and unlike arithmetic are not one running total.

    countdown   make 25 from 3 7 4, each once      search, and any right expression counts
    cipher      letters hidden as pairs            one step a letter: oy -> the letter half-way between o and y is t
    bases       write 45 in base 2                 repeated division, or powers
    ordering    Bo>Al Cy>Bo: who is number 2?      sorting from pairwise facts

The cipher is that of the announcement of o1 (OpenAI, "Learning to reason with LLMs", 2024). A family is a function
make(rng, level) -> Item and a key: an answer is correct when its key is the target's. The level dial says how long the
problem is; prompts are short because byte models read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise
from random import Random

from ponder.config import ConfigError
from ponder.grading.extract import extract_marked
from ponder.grading.plain_arithmetic import calculation
from ponder.grading.verifiers import VERIFIERS, verdict
from ponder.tasks.base import Item, ProceduralTask, level_range
from ponder.types import Problem, Verdict, Verifier

MAX_ANSWER = 2_000  # characters; every true answer is far shorter

Key = Callable[[Problem, str], str | None]


def by_key(key: Key) -> Verifier:
    """The verifier of a key: correct = the target's key."""

    def verify(problem: Problem, answer: str) -> Verdict:
        found = key(problem, answer)
        return verdict(found is not None and found == key(problem, problem.target), found)

    return verify


def _task(
    name: str, make: Callable[[Random, int], Item], key: Key, levels: tuple[int, ...], max_level: int,
    *, split: str = "test", seed: int = 0, level: int | str | None = None, size: int = 500,
) -> ProceduralTask:  # fmt: skip
    """The task of a family at the levels asked for, by default `levels`; `max_level` is the hardest there is."""
    wanted = level_range(level, levels)
    if not levels[0] <= wanted[0] <= wanted[-1] <= max_level:
        raise ConfigError(f"{name} has levels {levels[0]} to {max_level}, not {level}")
    return ProceduralTask(name, make, by_key(key), key, levels=wanted, split=split, seed=seed, size=size)


# ---- countdown -----------------------------------------------------------------------------------------------------


def make_countdown(rng: Random, level: int) -> Item:
    """`level` numbers between 1 and 30, and a goal below 1000 that some expression with all of them reaches."""
    while True:
        numbers = [rng.randint(1, 30) for _ in range(level)]
        pool = [(Fraction(number), str(number)) for number in numbers]
        while len(pool) > 1:
            (a, left), (b, right) = (pool.pop(rng.randrange(len(pool))) for _ in range(2))
            sign = rng.choice("++--**/")
            if sign == "/" and (b == 0 or (a / b).denominator != 1):
                sign = "*"
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[sign]
            pool.append((value, f"({left}{sign}{right})"))
        goal, expression = pool[0]
        if 0 < goal < 1_000 and goal not in numbers:
            break
    text = f"Make {goal} from {' '.join(map(str, numbers))}, each once."
    return Item(text=text, target=expression[1:-1], meta={"numbers": numbers, "goal": int(goal)})


def countdown_key(problem: Problem, answer: str) -> str | None:
    """The value of an expression that uses each given number exactly once; None for anything else.

    So all right expressions are one class, and votes are about the value reached. The rules and the goal stand in the
    prompt: this asks nothing of the target.
    """
    for text in _expressions(answer):
        found = calculation(text, strict=True)
        if found is not None and sorted(found.numbers) == sorted(problem.meta["numbers"]):
            return str(found.value)
    return None


def _expressions(answer: str) -> list[str]:
    """Candidates: both sides of `=` in what is marked, else in the whole text, else in its last line."""
    text = (extract_marked(answer) or answer).strip()
    for plain, signs in {"*": (r"\times", r"\cdot", "×", "·"), "/": (r"\div", "÷"), "-": ("−",), "": ("$",)}.items():
        for sign in signs:
            text = text.replace(sign, plain)
    if not text or len(text) > MAX_ANSWER:
        return []
    runs = re.findall(r"[-+*/()0-9 \t]*[0-9)]", text.splitlines()[-1])
    return [*text.split("="), *(run for run in reversed(runs) if re.search(r"[-+*/]", run))]


countdown = partial(_task, "countdown", make_countdown, countdown_key, (3, 4, 5, 6), 8)


# ---- cipher --------------------------------------------------------------------------------------------------------

WORDS = (
    "able acid aged also area army away baby back ball band bank base bath bear beat been bell belt best bird blow "
    "blue boat body bone book born both bowl burn bush busy cake call calm came camp card care case cash cast cell "
    "chat chip city club coal coat code cold come cook cool copy corn cost crew crop dark data date dawn days dead "
    "deal dear deep desk dish door down draw drop dust duty each earn east easy edge else even ever face fact fair "
    "fall farm fast fear feel fill film find fine fire firm fish five flat flow food foot form four free fuel full "
    "fund gain game gate gave gift girl give glad goal gold good gray grow hair half hall hand hard harm head hear "
    "heat help here hero high hill hold hole home hope hour idea iron item join jump just keep kept kind king knee "
    "know lack lady lake land last late lead leaf left life line list live long look loss love luck made mail main "
    "make many mark mass meal mean meat mind mine moon more most move much must name near neck need news next nice "
    "nine none nose note okay once only open oral over pack page pain pair park part pass past path peak pick pink "
    "plan play plot plus pool poor port post pull pure push race rain rare rate read real rest rice rich ride ring "
    "rise risk road rock role roof room root rose rule safe sail salt same sand save seat seed seem self sell send "
    "ship shop show side sign silk sing site size skin slow snow soft soil song soon sort soul spot star stay step "
    "stop such sure take talk tall task team tell term test text than that then they thin this time tiny town tree "
    "trip true turn type unit upon used very view vote wait wake walk wall want warm wash wave weak wear week well "
    "west what when wide wife wild will wind wine wing wire wise wish wood word work yard year zero zone by think the "
    "and you one two not to of"
).split()  # fmt: skip


def encode(rng: Random, text: str) -> str:
    """Each letter becomes two letters at equal distance before and after it, in either order; a and z are doubled."""
    pairs = []
    for letter in text:
        reach = min(ord(letter) - ord("a"), ord("z") - ord(letter))
        distance = rng.choice((1, -1)) * rng.randint(1, reach) if reach > 0 else 0
        pairs.append(letter if letter == " " else chr(ord(letter) - distance) + chr(ord(letter) + distance))
    return "".join(pairs)


def make_cipher(rng: Random, level: int) -> Item:
    """`level` words to decode, after one word that is given with its encoding."""
    example, message = rng.choice(WORDS), " ".join(rng.choice(WORDS) for _ in range(level))
    text = f"{encode(rng, example)} -> {example}\n{encode(rng, message)} -> ?"
    return Item(text=text, target=message, meta={})


def cipher_key(problem: Problem, answer: str) -> str | None:
    """The letters in lower case, words apart; what comes after the last `->`, if there is one."""
    text = (extract_marked(answer) or answer).rpartition("->")[2].strip().lower()
    is_plain = 0 < len(text) <= MAX_ANSWER and re.fullmatch(r"[\"'`*]*[a-z]+(?:\s+[a-z]+)*[\"'`*.!]*", text)
    return " ".join(re.findall(r"[a-z]+", text)) if is_plain else None


cipher = partial(_task, "cipher", make_cipher, cipher_key, (1, 2, 3, 4), 8)


# ---- bases ---------------------------------------------------------------------------------------------------------


def make_bases(rng: Random, level: int) -> Item:
    """A number of `level` + 1 decimal digits, to or from a base between 2 and 9."""
    number, base = rng.randrange(10**level, 10 ** (level + 1)), rng.randint(2, 9)
    digits = in_base(number, base)
    if rng.random() < 0.5:
        return Item(text=f"Write {number} in base {base}.", target=digits, meta={"base": base})
    return Item(text=f"Write {digits} (base {base}) in base 10.", target=str(number), meta={"base": 10})


def in_base(number: int, base: int) -> str:
    """The digits of a number of 0 or more, in a base from 2 to 10."""
    digits = ""
    while number:
        number, digit = divmod(number, base)
        digits = str(digit) + digits
    return digits or "0"


def bases_key(problem: Problem, answer: str) -> str | None:
    """The digits, with or without the base after them."""
    text = (extract_marked(answer[-MAX_ANSWER:]) or answer).strip().strip("$. ")
    base = problem.meta["base"]
    # no \s* in front: over a long run of blanks it would be tried from each of them
    text = re.sub(rf"(?:_\s*\{{?{base}\}}?|\(?(?:in )?base {base}\)?)$", "", text).rstrip()
    return VERIFIERS["integer"].key(problem, text)


bases = partial(_task, "bases", make_bases, bases_key, (1, 2, 3, 4), 9)


# ---- ordering ------------------------------------------------------------------------------------------------------

NAMES = "Al Bo Cy Di Ed Flo Gus Hal Ivy Jo Kim Lou May Ned Oz Pam Quin Ray Sue Tom Uma Val Wes Yan Zoe".split()


def make_ordering(rng: Random, level: int) -> Item:
    """`level` + 2 people in a row, told by the pairs of neighbours in any order; asked is one position in the row."""
    people = rng.sample(NAMES, level + 2)
    facts = [f"{a}>{b}" for a, b in pairwise(people)]
    rng.shuffle(facts)
    index = rng.randrange(len(people))
    text = f"{' '.join(facts)}. Who is number {index + 1}?"
    return Item(text=text, target=people[index], meta={"names": sorted(people)})


def ordering_key(problem: Problem, answer: str) -> str | None:
    """The one name that the answer gives; None where it gives several, or none of this problem."""
    text = extract_marked(answer) or answer
    if len(text) > MAX_ANSWER:
        return None
    found = {word for word in re.findall(r"[A-Za-z]+", text) if word in problem.meta["names"]}
    return found.pop() if len(found) == 1 else None


ordering = partial(_task, "ordering", make_ordering, ordering_key, (1, 2, 3, 4), 10)
