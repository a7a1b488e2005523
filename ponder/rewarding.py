"""Marks code that produces rewards or chooses training data. While it runs, no monitor may be asked.

    with rewarding("verification"):        # verdicts, reward terms, advantages, choices of rows and of problems
        ...                                # a monitor that is called in here raises MonitorInReward

Optimising against a monitor teaches to hide from it (arXiv:2503.11926), and leaving out what it flagged does the same.
So training marks the stretches in which rewards and rows are made, and everything that asks a monitor goes through
`refuse` first (monitors/base.py). The mark is a context variable: tasks and threads that are started inside inherit it
(rollouts/threads.py hands it on). Worker processes inherit an environment variable, which is set for a whole run
(`training`). A refusal that a user's code swallowed is raised again at the end of its stretch.

An experiment on what happens otherwise says so and why, `experiments.monitor_in_reward = "reason"`; the reason is then
kept in run.json and in every checkpoint that comes of it, and printed wherever such a model is used.

What this cannot stop: a person who writes a monitor's rule into a verifier, or calls a monitor over the network.
"""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

WHAT, REASON = "PONDER_REWARDING", "PONDER_MONITOR_IN_REWARD"  # what worker processes inherit
ROOM = "ponder.monitors"


class MonitorInReward(RuntimeError):
    """A monitor was asked where rewards or rows for training come about."""


@dataclass
class _Stretch:
    what: str
    reason: str = ""  # of an experiment that allows it
    refused: str = ""


_now: ContextVar[_Stretch | None] = ContextVar("rewarding", default=None)


@contextmanager
def rewarding(what: str, *, reason: str = "") -> Iterator[None]:
    """A stretch in which what is learned is decided. reason: why an experiment lets monitors in; inherited inside."""
    outer = _now.get()
    stretch = _Stretch(what, reason or (outer.reason if outer else os.environ.get(REASON, "")))
    token = _now.set(stretch)
    try:
        yield
    finally:
        _now.reset(token)
    if stretch.refused:  # and swallowed by whoever asked
        raise MonitorInReward(stretch.refused)


@contextmanager
def training(what: str, *, reason: str = "") -> Iterator[None]:
    """A whole run, with the worker processes that it starts."""
    before = {name: os.environ.get(name) for name in (WHAT, REASON)}
    os.environ[WHAT], os.environ[REASON] = what, reason
    try:
        with rewarding(what, reason=reason):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def mark_process(what: str) -> None:
    """This process does nothing else: a child that verifies."""
    os.environ.setdefault(WHAT, what)


def is_rewarding() -> bool:
    """Whether a monitor would be refused here."""
    return _open_stretch() is not None


def _open_stretch() -> _Stretch | None:
    stretch = _now.get()
    if stretch is None and (what := os.environ.get(WHAT)):
        stretch = _Stretch(what, os.environ.get(REASON, ""))
    return None if stretch is None or stretch.reason else stretch


def refuse(monitor: str) -> None:
    """Raise MonitorInReward where a monitor must not be asked."""
    stretch = _open_stretch()
    if stretch is not None:
        stretch.refused = _refusal(f"the monitor {monitor!r} was asked during {stretch.what}")
        raise MonitorInReward(stretch.refused)


def _refusal(what: str) -> str:
    return (
        f"{what}: what a monitor says must not reach training, for that teaches to hide from it (docs/monitors.md). "
        'Take it out, or, to study just that, give `ponder rl` experiments.monitor_in_reward="REASON"'
    )


# ---- rows of what was served ----------------------------------------------------------------------------------------


def chosen_by_flags(rows: Iterable[Mapping[str, Any]]) -> str:
    """Why these rows are a selection by what a monitor said; "" where they are none.

    Rows that a server exported carry `flagged`, and in `flagged_in_export` how many responses of the export monitors
    flagged, stopped or held. Fewer flagged rows than that, or nothing else, is a selection. The other columns and the
    number of rows do not matter. Tables have these columns as text.
    """
    flags, promised = [], 0
    for row in rows:
        if "flagged" in row:
            flags.append(str(row["flagged"]).lower() in ("true", "1"))
            count = str(row.get("flagged_in_export", 0))
            promised = max(promised, int(count) if count.isascii() and count.isdigit() else 0)
    if not flags or (sum(flags) >= promised and not all(flags)):
        return ""
    return (
        f"holds {sum(flags)} flagged rows of {len(flags)}, its export had {promised or 'others'}: rows are not chosen "
        "by what a monitor said, for that teaches to hide from it. Train on the whole export; one of a server whose "
        "monitors stop or hold responses is never whole"
    )


def refuse_chosen(origin: Iterable[Mapping[str, Any]], *, reason: str = "") -> None:
    """Raise MonitorInReward where a file among `Task.origin` was found to be such a selection."""
    for row in origin:
        if not reason and row.get("chosen_by_flags"):
            raise MonitorInReward(f"{row.get('file', 'the task')} {row['chosen_by_flags']}")


# ---- before anything runs ------------------------------------------------------------------------------------------


def refuse_monitor(found: Any, what: str, *, reason: str = "") -> None:
    """Raise MonitorInReward where a part of training is a monitor, or holds one that can be seen from outside."""
    if not reason and (name := monitor_in(found)):
        raise MonitorInReward(_refusal(f"the {what} uses the monitor {name}"))


def monitor_in(found: Any) -> str:
    """The first thing of the monitors' room that an object is, or reaches: by its closure, the globals and imports that
    it mentions, its arguments or its attributes. "" where none is seen."""
    return _search(found, {}, depth=6)


def _search(found: Any, seen: dict[int, int], depth: int) -> str:
    """seen: with how much depth left; what was reached by a long way first is searched again by a shorter one."""
    if depth <= seen.get(id(found), 0) or isinstance(found, str | bytes | int | float | type(None)):
        return _name(found) if isinstance(found, str) else ""
    seen[id(found)] = depth
    if name := _name(found):
        return name
    return next((name for part in _parts(found) if (name := _search(part, seen, depth - 1))), "")


def _name(found: Any) -> str:
    """What an object is called, where it is of the room or says that it is a monitor."""
    module = found.__name__ if isinstance(found, types.ModuleType) else getattr(found, "__module__", None)
    kind = type(found)
    for place in (module, kind.__module__):
        if isinstance(place, str) and (place == ROOM or place.startswith(f"{ROOM}.")):
            named = module if isinstance(found, types.ModuleType) else getattr(found, "__qualname__", kind.__qualname__)
            return str(named)
    return kind.__qualname__ if getattr(kind, "is_monitor", False) is True else ""


def _parts(found: Any) -> Iterator[Any]:
    """What an object reaches at once."""
    if isinstance(found, functools.partial):
        yield from (found.func, *found.args, *found.keywords.values())
    elif isinstance(found, types.MethodType):
        yield from (found.__self__, found.__func__)
    elif isinstance(found, types.FunctionType):
        yield from (cell.cell_contents for cell in found.__closure__ or () if _is_filled(cell))
        yield from (*(found.__defaults__ or ()), *(found.__kwdefaults__ or {}).values())
        yield from _reached(found.__code__, found.__globals__)
    elif isinstance(found, type):
        yield from (value for value in vars(found).values() if isinstance(value, types.FunctionType | staticmethod))
    elif isinstance(found, staticmethod | classmethod):
        yield found.__func__
    elif isinstance(found, list | tuple | set | frozenset):
        yield from list(found)[:100]
    elif isinstance(found, Mapping):
        yield from list(found.values())[:100]
    elif not isinstance(found, types.ModuleType):
        yield from vars(found).values() if hasattr(found, "__dict__") else ()
        yield from (value for value in vars(type(found)).values() if isinstance(value, types.FunctionType))


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _reached(code: types.CodeType, names: Mapping[str, Any]) -> Iterator[Any]:
    """The globals that a function mentions, and the modules that it imports when it runs."""
    for name in code.co_names:
        if name == ROOM or name.startswith(f"{ROOM}."):
            yield types.ModuleType(name)
        elif name in names:
            yield names[name]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _reached(constant, names)
