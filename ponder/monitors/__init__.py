"""Monitors: they read what a model wrote and flag what people should look at. Never a reward (`ponder/rewarding.py`).

    base.py       what a monitor is, its views, its judgement; the guard around every call
    rules.py      fixed phrases                         learned.py   runs of characters, logistic regression
    probe.py      over hidden states                    model.py     a language model at any endpoint
    combined.py   several under one review budget       pressure.py  what the loophole experiment does on purpose

`evals`, `serve` and `cli` import this room; nothing at or below `train` does (tests/monitors/test_the_guard.py).
docs/monitors.md says what each is good for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ponder.monitors import base
from ponder.monitors.base import Action, Judgement, Monitor, Suspicion, Transcript, View, as_monitor, ask_monitor
from ponder.monitors.rules import Rules, phrases
from ponder.rewarding import MonitorInReward

__all__ = [
    "MONITORS",
    "Action",
    "Judgement",
    "Monitor",
    "MonitorInReward",
    "Rules",
    "Suspicion",
    "Transcript",
    "View",
    "as_monitor",
    "ask_monitor",
    "load_monitors",
    "phrases",
]

MONITORS: dict[str, Callable[[], Any]] = {"rules": Rules}


def load_monitors(names: Sequence[str]) -> tuple[Monitor, ...]:
    """Monitors by name, a file that `ponder monitor fit` made (.json), or module:attr of what makes one."""
    from ponder.monitors.learned import load

    return tuple(
        monitor
        for name in names
        for monitor in ((load(name),) if name.endswith(".json") else base.load_monitors([name], MONITORS))
    )
