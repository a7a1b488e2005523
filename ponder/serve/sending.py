"""Fewer, larger packets: what is written to a connection within one turn of the event loop leaves together.

A response is a head, a body and an end, each written for itself; a stream writes a few events at a time, and 32 streams
do so at once. Every write is a system call that wakes the reader up, on the cores that are to sample tokens.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Gathered(H11Protocol):
    """uvicorn's HTTP over a transport that gathers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport))  # type: ignore[arg-type]


class _Transport:
    """A transport whose writes leave at the end of the turn, in order, and before it closes."""

    def __init__(self, transport: Any) -> None:
        self._transport, self._held = transport, bytearray()
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += data

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, bytearray()
            self._transport.write(held)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
