"""The task of bench/rl_step.py, the same for ponder and TRL: small sums, judged by the last number written.

1 for the sum, at most a half for another number, the less the further it is off, 0 for none. Graded so that the samples
of a group nearly always differ: a group whose rewards are equal carries no gradient, ponder skips it and TRL does not,
and a comparison of speed should not live on that. Standard library only; problem i is a pure function of i.
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
    if not numbers or len(numbers[-1]) > 9:
        return 0.0
    off = abs(int(numbers[-1]) - int(target))
    return 0.5 / off if off else 1.0
