"""A log of wire events that grows while a response is made; any number of readers follow it at their own pace.

A reader who is slow reads later, and nobody waits for him: what he has not read is in the log anyway, which is as long
as the answer. Readers may begin anywhere, so the same log serves a stream, a resumed stream and a replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class EventLog:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_closed = False
        self._changed = asyncio.Event()

    def add(self, event: dict[str, Any]) -> None:
        """Number and append an event."""
        self.events.append({"type": event["type"], "sequence_number": len(self.events), **event})
        self._wake()

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int = -1) -> AsyncIterator[list[dict[str, Any]]]:
        """Events numbered above `after`, as many at a time as there are, until the log is closed."""
        place = max(0, after + 1)
        while True:
            changed = self._changed
            if place < len(self.events):
                batch = self.events[place:]
                place += len(batch)
                yield batch
                continue
            if self.is_closed:
                return
            await changed.wait()
