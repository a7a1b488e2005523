"""What a monitor is: it reads what a model wrote and returns a `Judgement`, which is neither a score nor a verdict.

    class Mine(Monitor):
        name, view = "mine", "reasoning"
        async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement: ...

    judgement = await monitor(segment, context)          # a piece, while it is written (ponder serve)
    judgement = await monitor.read(transcript)           # a whole completion, in its own view (ponder monitor)

allow, flag (noted, counted, shown to the administrator), hold (the answer is withheld until a person has looked) or
stop (the response ends with a policy code); "error" where the monitor could not tell. The view says what it reads: the
hidden reasoning, the visible answer, or both.

Every way of asking a monitor goes through `rewarding.refuse`: `__init_subclass__` wraps the methods that are asked, and
`Adapted` a plain object of somebody else. So none answers while rewards or training rows come about.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NoReturn

from ponder.config import ConfigError, lookup
from ponder.rewarding import MonitorInReward, refuse
from ponder.types import Completion

Action = Literal["allow", "flag", "hold", "stop", "error"]
View = Literal["reasoning", "answer", "both"]
VIEWS: tuple[View, ...] = ("reasoning", "answer", "both")


class Suspicion:
    """How suspicious something is, higher is more. It is no number: only exams open it (`ponder/evals`)."""

    __slots__ = ("_value",)

    def __init__(self, value: float) -> None:
        self._value = float(value)

    def open(self) -> float:
        """The number. Raises MonitorInReward where rewards or rows for training come about."""
        refuse("a suspicion")
        return self._value

    def __repr__(self) -> str:
        return "Suspicion()"

    def __bool__(self) -> NoReturn:
        raise TypeError("a Suspicion is neither true nor false; exams open it")


@dataclass(frozen=True)
class Judgement:
    """What a monitor says of a text. TypeError where it is used as a truth value."""

    action: Action
    note: str = ""  # for the administrator; it should not quote the reasoning
    suspicion: Suspicion | None = field(default=None, compare=False)  # of monitors that have degrees

    def __bool__(self) -> NoReturn:
        raise TypeError("a Judgement is neither true nor false; ask for its action")


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A whole completion, as monitors are shown it."""

    problem: str = ""
    reasoning: str = ""
    answer: str = ""
    hidden: Any = None  # `Completion.hidden`, where the engine kept it

    @classmethod
    def of(cls, completion: Completion, problem: str = "") -> Transcript:
        return cls(problem=problem, reasoning=completion.reasoning, answer=completion.answer, hidden=completion.hidden)

    def shown(self, view: View) -> str:
        """What a view shows of it."""
        parts = {"reasoning": (self.reasoning,), "answer": (self.answer,), "both": (self.reasoning, self.answer)}
        return "\n".join(part for part in parts[view] if part)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that refuses to answer where rewards come about."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(self: Any, *arguments: Any, **named: Any) -> Any:
            refuse(self.name)
            return await function(self, *arguments, **named)

        return later

    @functools.wraps(function)
    def now(self: Any, *arguments: Any, **named: Any) -> Any:
        refuse(self.name)
        return function(self, *arguments, **named)

    return now


class Monitor(ABC):
    """A subclass implements `__call__`; one that reads more than text implements `read` too."""

    is_monitor: ClassVar[bool] = True
    name: str
    view: View = "reasoning"

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for method in ("__call__", "read", "suspect"):
            if method in vars(cls):
                setattr(cls, method, _guarded(vars(cls)[method]))

    @abstractmethod
    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement:
        """Its judgement of a piece of text. context: "problem", where it is known; of a served response also
        "response", "owner" and "model"."""

    async def read(self, transcript: Transcript) -> Judgement:
        """Its judgement of a whole completion, in its view."""
        return await self(transcript.shown(self.view), {"problem": transcript.problem})


class Adapted(Monitor):
    """A monitor of somebody else: an object with a name that is called with a segment and its context."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self.name = str(getattr(made, "name", type(made).__name__))
        self.view = getattr(made, "view", "reasoning")
        if self.view not in VIEWS:
            raise ConfigError(f"the monitor {self.name!r} has the view {self.view!r}; it is one of {', '.join(VIEWS)}")

    async def __call__(self, segment: str, context: Mapping[str, str]) -> Judgement:
        judgement: Judgement = await self._made(segment, context)
        return judgement


def as_monitor(made: Any) -> Monitor:
    """A Monitor as it is; any other object in `Adapted`. Raises ConfigError for a view that there is not."""
    return made if isinstance(made, Monitor) else Adapted(made)


def load_monitors(names: Sequence[str], known: Mapping[str, Callable[[], Any]]) -> tuple[Monitor, ...]:
    """Monitors by name, or anything importable as module:attr that makes one when called; "none" is no monitor."""
    return tuple(as_monitor(lookup(known, name, what="monitor")()) for name in names if name != "none")


async def ask_monitor(
    monitor: Any, segment: str, context: Mapping[str, str], *, deadline: float, fail_closed: bool
) -> Judgement:
    """A monitor's judgement within its deadline. One that is late, raises or answers nonsense is an "error"."""
    try:
        async with asyncio.timeout(deadline):
            judgement = await as_monitor(monitor)(segment, context)
        if isinstance(judgement, Judgement):
            return judgement
        note = f"it returned {type(judgement).__name__}, no Judgement"
    except MonitorInReward:
        raise
    except TimeoutError:
        note = f"no verdict within {deadline:g} s"
    except Exception as error:  # a plug-in: whatever it raises is its failure, not the response's
        note = type(error).__name__
    return Judgement("stop" if fail_closed else "error", note)
