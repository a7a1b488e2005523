"""A log of wire events that grows while a response is made; any number of readers follow it at their own pace.

A slow reader holds up nobody: what it has not read is in the log anyway, which is as long as the answer. Readers may
begin anywhere, so the same log serves a stream, a resumed stream and a replay. An event is
written as JSON once, when it happens: every reader and the store get the same text, whatever becomes of the objects
it was made of.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """An event as it goes over the wire."""

    kind: str
    number: int
    text: str  # JSON


class EventLog:
    """The events of one response, in order. Used in one event loop, by one writer and any number of readers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._readers: list[asyncio.Future[bool]] = []  # those who wait for the next event

    def add(self, event: dict[str, Any]) -> None:
        """Number and append an event."""
        self.put(self.numbered(event))

    def numbered(self, event: dict[str, Any]) -> Event:
        """An event as `add` would append it now."""
        number = len(self.events)
        return Event(event["type"], number, json.dumps({"type": event["type"], "sequence_number": number, **event}))

    def put(self, event: Event) -> None:
        """Append an event that has its number already, and wake the readers."""
        self.events.append(event)
        self._wake()

    def close(self) -> None:
        """Nothing more comes: readers end after the last event."""
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(True)

    async def follow(self, after: int = -1, *, patience: float = 1e6) -> AsyncIterator[list[Event]]:
        """Events numbered above `after`, as many at a time as there are, until the log is closed; an empty list where
        nothing happened for `patience` seconds."""
        index = max(0, after + 1)
        while True:
            if index < len(self.events):
                batch = self.events[index:]
                index += len(batch)
                yield batch
            elif self.is_closed:
                return
            elif not await self._next_event(patience):
                yield []

    async def _next_event(self, patience: float) -> bool:
        """Whether something happens in time."""
        loop = asyncio.get_running_loop()
        reader: asyncio.Future[bool] = loop.create_future()
        self._readers.append(reader)
        timer = loop.call_later(patience, lambda: None if reader.done() else reader.set_result(False))
        try:
            return await reader
        finally:
            timer.cancel()
            if reader in self._readers:
                self._readers.remove(reader)


_NOISE = secrets.token_urlsafe(4096)  # padding against reading lengths off the wire; its content means nothing
_PAD = 16


def padded(text: str) -> str:
    """A JSON object with a field more, so that its length is a multiple of one size (and a constant)."""
    start = random.randrange(len(_NOISE) - _PAD)
    return f'{text[:-1]}, "obfuscation": "{_NOISE[start : start + (-len(text) % _PAD or _PAD)]}"}}'
