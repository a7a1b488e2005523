"""Tasks: what is asked and how it is checked. `load_task` opens one; `specs.py` says what it takes.

Nothing here imports torch, sympy or reasoning_gym; the heavy parts load inside a killable child when first needed.
"""

from __future__ import annotations

from ponder.tasks.base import BaseTask, Mixture, ProceduralTask, as_task
from ponder.tasks.benchmarks import BENCHMARKS
from ponder.tasks.specs import FAMILIES, NAMED, load_task

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
