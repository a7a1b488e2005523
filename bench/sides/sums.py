"""The task of bench/rl_step.py, the same for ponder and TRL: small sums, right if the last number written is the sum.

Standard library only. Problem i is a pure function of i. A small chat model is right sometimes and wrong sometimes,
which is all that a step of reinforcement learning needs.
"""

from __future__ import annotations

import re
from random import Random

_NUMBER = re.compile(r"-?\d+")


def problem(index: int) -> tuple[str, str]:
    """-> what is asked, and the sum."""
    random = Random(f"sums/{index}")
    a, b = random.randint(2, 20), random.randint(2, 20)
    name, thing = random.choice(("Ana", "Ben", "Chi", "Dov")), random.choice(("apples", "coins", "books", "shells"))
    return f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", str(a + b)


def reward(answer: str, target: str) -> float:
    numbers = _NUMBER.findall(answer[-2000:])
    return float(bool(numbers) and len(numbers[-1]) < 10 and int(numbers[-1]) == int(target))
