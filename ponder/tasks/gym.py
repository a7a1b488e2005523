"""Families of reasoning-gym as tasks: `load_task("gym:basic_arithmetic")`; needs `pip install "ponder[gym]"`.

Their generators are used as they are; their scorers are not trusted. An answer is correct when the scorer gives
exactly 1.0 to the stripped text: many pay partial credit to anything that contains the target. The scorer runs in the
killable child, which makes the item again from its seed. Families whose scorer evaluates the answer as code, accepts
wrong answers or breaks on junk are refused, with the reason (DENIED). A scorer that raises leaves the answer undecided.

Item i is drawn from a seed of its index, so it is the same on any machine, and it belongs to a split by a hash of its
text, so splits are disjoint. The vote key is the stripped text: what else a scorer takes for equal is not known here.
Left out: their difficulty curricula; each family has its default difficulty.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.grading import killable
from ponder.grading.extract import extract_marked
from ponder.grading.verifiers import undecided, verdict
from ponder.tasks.base import Item, ProceduralTask
from ponder.types import Problem, Verdict

SCORE_SECONDS = 5.0
MAX_ANSWER = 20_000  # characters handed to a scorer

_CODE = "its scorer evaluates the answer as Python"
_NO_TARGET = "it has no reference answer, so its scorer cannot be checked"
_SYMPY = "its scorer hands the answer to sympy's parse_expr, which evaluates it"
DENIED: dict[str, str] = {
    "binary_matrix": _CODE,
    "n_queens": _CODE,
    "spiral_matrix": _CODE,
    "string_insertion": _CODE,
    "countdown": _SYMPY + "; use the built-in countdown",
    "intermediate_integration": _SYMPY,
    "polynomial_multiplication": _SYMPY,
    "propositional_logic": _SYMPY,
    "puzzle24": _SYMPY + ", and does not look at which numbers were used",
    "simple_integration": _SYMPY,
    "game_of_life_halting": "its scorer gives 1.0 to any text",
    "complex_arithmetic": "its scorer gives 1.0 to nan",
    "coin_flip": "its scorer takes 0 for any small probability",
    "prime_factorization": "its scorer raises on any text that is no factorization, and its items repeat",
    "boxnet": _NO_TARGET,
    "graph_color": _NO_TARGET,
    "rubiks_cube": _NO_TARGET,
    "rush_hour": _NO_TARGET,
    "composite": "it is made of other families; use a mixture: gym:NAME+gym:NAME",
}


def gym_task(name: str, *, split: str = "test", seed: int = 0, size: int = 500) -> ProceduralTask:
    """The task of one family with its default difficulty."""
    families = known_families()
    if name in DENIED:
        raise ConfigError(f"gym:{name} is not used: {DENIED[name]}")
    if name not in families:
        raise ConfigError(f"unknown reasoning-gym family {name!r}{nearest(name, set(families) - set(DENIED))}")

    def make(rng: Random, level: int) -> Item:
        item_seed = rng.randrange(2**31)
        entry = _entry(name, item_seed)
        return Item(text=entry["question"], target=str(entry["answer"]), meta={"family": name, "seed": item_seed})

    task = ProceduralTask(f"gym:{name}", make, verify, key, levels=(1,), split=split, seed=seed, size=size)
    task.patience = killable.START_SECONDS + SCORE_SECONDS
    return task


def known_families() -> list[str]:
    """Sorted names. ConfigError where reasoning-gym is not installed."""
    try:
        from reasoning_gym.factory import DATASETS  # the package registers its families when it is imported
    except ImportError:
        raise ConfigError('gym: tasks need reasoning-gym: pip install "ponder[gym]"') from None
    return sorted(DATASETS)


def key(problem: Problem, answer: str) -> str | None:
    """The marked answer, else the whole text; None where it is empty or longer than MAX_ANSWER characters."""
    text = (extract_marked(answer[-MAX_ANSWER:]) or answer).strip()
    return text if 0 < len(text) <= MAX_ANSWER else None


def verify(problem: Problem, answer: str) -> Verdict:
    """The target's own text is correct; any other is scored in a child that can be killed, where only 1.0 is correct.
    Undecided where the child fails."""
    text = key(problem, answer)
    if text is None or text == problem.target.strip():
        return verdict(text is not None, text)
    family, seed = problem.meta["family"], problem.meta["seed"]
    ran = killable.shared().run("ponder.tasks.gym:score", family, seed, text, timeout=SCORE_SECONDS)
    if ran.status != "ok":
        return undecided(text, f"the scorer of {family}: {ran.status}, {ran.note}")
    return verdict(ran.value == 1.0, text)


def score(family: str, seed: int, answer: str) -> float:
    """The score of the family's own scorer; runs in the child only."""
    return float(_dataset(family, 0).score_answer(answer, _entry(family, seed)))


def _entry(family: str, seed: int) -> dict[str, Any]:
    """The item of a seed: that index of one dataset, or a dataset of its own where an index must be below the size."""
    try:
        return _dataset(family, 0)[seed]
    except IndexError:
        return _dataset(family, seed)[0]


@lru_cache(maxsize=64)
def _dataset(family: str, seed: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(family, seed=seed, size=1)
