"""Fewer, larger packets: what is written to a connection within one turn of the event loop leaves together.

A response is a head, a body and an end, each written for itself; a stream writes a few events at a time, and 32 streams
do so at once. Every write is a system call that wakes the reader up, on the cores that are to sample tokens.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class CoalescingProtocol(H11Protocol):
    """uvicorn's HTTP over a transport that gathers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]

    def closing(self) -> bool:
        """The transport is to close, all that was written has left; True: somebody sees to it."""
        return False


class _Transport:
    """A transport whose writes leave at the end of the turn, in order, and before it closes."""

    def __init__(self, transport: Any, protocol: CoalescingProtocol) -> None:
        self._transport, self._protocol, self._held = transport, protocol, bytearray()
        self._loop = asyncio.get_running_loop()
        self._is_closing = False

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
        if self._is_closing or not self._protocol.closing():
            self._transport.close()
        self._is_closing = True

    def is_closing(self) -> bool:
        return self._is_closing or bool(self._transport.is_closing())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
