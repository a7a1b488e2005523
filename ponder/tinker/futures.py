"""Requests that are answered later: each has an id that says which it is, so a request sent twice is done once.

    futures.start("s:sample:0/7", work)          # work: an async function; the id is what the client polls with
    outcome = await futures.wait("s:sample:0/7", 30.0)      # None: not yet

`RequestLine` runs the requests of one model in the order of their numbers, whatever order they come in: the SDK sends
the first part of a batch last. What was fetched is kept for a while, for a client that lost the answer on the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ponder.config import ConfigError
from ponder.tinker.protobuf import WireError
from ponder.train.replica import NonFiniteLoss

_log = logging.getLogger("ponder.tinker")
KEPT = 600.0  # seconds after it was fetched
UNFETCHED = 24 * 3600.0  # seconds for what nobody fetched
PATIENCE = 300.0  # seconds for a number that is missing before others

Payload = Mapping[str, Any] | bytes  # JSON, or a protobuf message
Work = Callable[[], Awaitable[Payload]]


@dataclass(frozen=True)
class Refused:
    """A request that failed, as the client is told of it."""

    error: str
    category: Literal["user", "server"]  # who can fix it

    def body(self) -> dict[str, str]:
        return {"error": self.error, "category": self.category}


Outcome = Payload | Refused


@dataclass(eq=False)
class _Entry:
    future: asyncio.Future[Outcome]
    task: asyncio.Task[None] | None = None
    ends: float = float("inf")  # when it is forgotten


class Futures:
    """Requests by their ids, from their beginning until some time after they were fetched."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._entries: dict[str, _Entry] = {}
        self._now = now

    def __contains__(self, identity: str) -> bool:
        return identity in self._entries

    def start(self, identity: str, work: Work) -> None:
        """Begin, unless it has begun."""
        if identity not in self._entries:
            entry = self.promise(identity)
            entry.task = asyncio.ensure_future(self._settle(entry, work))

    def promise(self, identity: str) -> _Entry:
        """One that somebody else settles."""
        self._forget()
        entry = self._entries[identity] = _Entry(asyncio.get_running_loop().create_future())
        return entry

    async def run(self, identity: str, work: Work) -> None:
        """Do the work of one that was promised, and settle it. What the work raises becomes its outcome."""
        await self._settle(self._entries[identity], work)

    async def _settle(self, entry: _Entry, work: Work) -> None:
        outcome = await outcome_of(work)
        entry.ends = self._now() + UNFETCHED
        if not entry.future.done():
            entry.future.set_result(outcome)

    async def wait(self, identity: str, seconds: float) -> Outcome | None:
        """KeyError for one that is not known, or no more."""
        entry = self._entries[identity]
        await asyncio.wait({entry.future}, timeout=seconds)
        if not entry.future.done():
            return None
        entry.ends = self._now() + KEPT
        return entry.future.result()

    def cancel(self, identity: str) -> None:
        """Stop one that `start` began. One that was promised, or is unknown, is left alone."""
        entry = self._entries.get(identity)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    def _forget(self) -> None:
        now = self._now()
        for identity in [name for name, entry in self._entries.items() if entry.ends < now]:
            del self._entries[identity]


async def outcome_of(work: Work) -> Outcome:
    """What some work gives, or why it gives nothing."""
    try:
        return await work()
    except (ConfigError, WireError, NonFiniteLoss, ValueError) as error:
        return Refused(str(error), "user")
    except asyncio.CancelledError:
        return Refused("the request was cancelled", "user")
    except Exception as error:  # told to the client, whose loop then ends with the reason
        _log.exception("a request failed")
        return Refused(f"{type(error).__name__}: {error}", "server")


class RequestLine:
    """Requests of one model, one at a time, numbered from 1."""

    def __init__(self, name: str, futures: Futures) -> None:
        self.name, self._futures = name, futures
        self._next = 1
        self._waiting: dict[int, Work] = {}
        self._runner: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closed = ""

    def add(self, number: int, work: Work) -> str:
        """The id of its future. ConfigError for a number that cannot be one."""
        if number < 1:
            raise ConfigError(f"seq_id={number} must be 1 or more")
        identity = f"{self.name}/{number}"
        if identity not in self._futures:
            if number < self._next:
                raise ConfigError(f"request {number} of {self.name} was answered long ago")
            self._futures.promise(identity)
            self._waiting[number] = work
            if self._runner is None or self._runner.done():
                self._runner = asyncio.ensure_future(self._run())
        return identity

    async def _run(self) -> None:
        while self._waiting:
            if self._next not in self._waiting and not self._closed:
                missing = self._next
                await asyncio.sleep(0)
                if not await self._arrives(missing):
                    self._next = min(self._waiting)  # it will not come: those after it are told, one by one
                    self._closed = f"request {missing} of {self.name} never came, so what follows it was not done"
            number = self._next if self._next in self._waiting else min(self._waiting)
            work = self._waiting.pop(number)
            self._next = number + 1
            closed = self._closed
            await self._futures.run(f"{self.name}/{number}", _refused(closed) if closed else work)

    async def _arrives(self, number: int) -> bool:
        end = time.monotonic() + PATIENCE
        while number not in self._waiting and not self._closed and time.monotonic() < end:
            await asyncio.sleep(0.01)
        return number in self._waiting

    def close(self, why: str) -> None:
        """Whatever comes now is refused with this reason."""
        self._closed = why


def _refused(why: str) -> Work:
    async def work() -> Payload:
        raise ConfigError(why)

    return work
