"""Tasks: what is asked and how it is checked. `load_task` opens one; `specs.py` says what it takes.

Nothing here imports torch, sympy or reasoning_gym; the heavy parts load inside a killable child when first needed.
"""

from __future__ import annotations

from collections.abc import Callable

from ponder.tasks import code, refusal_sets
from ponder.tasks.arithmetic import arithmetic
from ponder.tasks.base import BaseTask, Mixture, ProceduralTask, as_task
from ponder.tasks.benchmarks import BENCHMARKS, LOADERS
from ponder.tasks.desk import desk
from ponder.tasks.loophole import loophole
from ponder.tasks.pipes import pipes
from ponder.tasks.procedural import bases, cipher, countdown, ordering
from ponder.tasks.specs import load_task
from ponder.tasks.words import words
from ponder.types import Task

FAMILIES: dict[str, Callable[..., Task]] = {
    "arithmetic": arithmetic,
    "countdown": countdown,
    "cipher": cipher,
    "bases": bases,
    "ordering": ordering,
    "words": words,
    "pipes": pipes,
    "desk": desk,
}

NAMED: dict[str, Callable[..., Task]] = {  # every name that a spec may begin with
    **FAMILIES, **LOADERS, **code.LOADERS, **refusal_sets.LOADERS,
    "loophole": loophole,  # of one experiment: too small a set of problems for a family
}  # fmt: skip

__all__ = [
    "BENCHMARKS",
    "FAMILIES",
    "NAMED",
    "BaseTask",
    "Mixture",
    "ProceduralTask",
    "as_task",
    "load_task",
]
