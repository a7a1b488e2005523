"""Connections under attack: how many there may be, how long each may keep the server waiting, and how one ends.

uvicorn's protocol, with a watch on what it leaves open. A request's head and its body have their time, and so has a
client for taking what was written. When there are as many as allowed, the one that has kept the server waiting longest
is dropped for a new one: connections that send nothing shut nobody out. An answer to a client that is still sending
stays in the line until the client has read it. What the operating system refuses is refused, not reported a million
times.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import socket
import time
from typing import Any

import h11

from ponder.serve.errors import ApiError, overloaded
from ponder.serve.logs import log
from ponder.serve.sending import CoalescingProtocol

HEAD = 15.0  # seconds for a request's head, from the connection or from its first byte on
BODY = 75.0  # seconds for a body; reading one in (http.py) has less, so that it can say so
TAKE = 120.0  # seconds for taking what was written
LINGER = 10.0  # seconds, and
DISCARD = 64 << 20  # bytes, that a client may go on sending after its answer
_SPARE = 128  # descriptors that are not for connections: the store, workers, files
_QUIET = 10.0  # seconds between two log lines of the same kind


class ConnectionLimits:
    """How many connections a server takes, in all and from one address."""

    def __init__(self, most: int, most_of_address: int) -> None:
        self.most, self.most_of_address = most, most_of_address
        self.count = 0
        self.by_address: dict[str, int] = {}
        self.waiting: dict[GuardedProtocol, None] = {}  # for a head or a body, in the order they began to
        self._logged: dict[str, float] = {}

    def log_once(self, event: str, **fields: Any) -> None:
        """Log an event, and none of its kind again for a while."""
        now = time.monotonic()
        if now - self._logged.get(event, -_QUIET) >= _QUIET:
            self._logged[event] = now
            log(event, **fields)

    def enter(self, new: GuardedProtocol) -> bool:
        """Whether a connection is taken; another may be dropped for it."""
        address = new.address
        self.count += 1
        self.by_address[address] = self.by_address.get(address, 0) + 1
        has_dropped = False
        is_much = self.by_address[address] > self.most_of_address
        for is_full, who in ((is_much, address), (self.count > self.most, None)):
            if is_full and not has_dropped:
                longest = next((each for each in self.waiting if who in (None, each.address)), None)
                self.log_once("connections_full", limit=self.most if who is None else self.most_of_address)
                if longest is None:
                    return False
                self.waiting.pop(longest)
                longest.drop()
                has_dropped = True
        return True

    def leave(self, old: GuardedProtocol) -> None:
        """Forget a connection, whether `enter` took it or not; called once, when it is lost."""
        self.waiting.pop(old, None)
        self.count -= 1
        count = self.by_address.get(old.address, 0) - 1
        if count > 0:
            self.by_address[old.address] = count
        else:
            self.by_address.pop(old.address, None)

    def stop_waiting(self) -> None:
        """The server ends: clients that have sent no whole request are disconnected."""
        for each in list(self.waiting):
            each.drop()


class GuardedProtocol(CoalescingProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self.address = ""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_in = self._is_refused = False

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` says: something is not taken yet
        super().connection_made(transport)
        self._raw = transport
        self.address = self.client[0] if self.client else ""
        self._is_in = True
        if not self._limits.enter(self):
            self.refuse(overloaded("The server has as many connections as it takes. Please try again later."))
            return
        self._update_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop(name)
        if self._is_in:
            self._is_in = False
            self._limits.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timers()

    def _update_timers(self) -> None:
        """Limit the time for what the client has still to send."""
        state = self.conn.their_state
        is_waiting = state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if not is_waiting:
            self._limits.waiting.pop(self, None)
        elif self not in self._limits.waiting:
            self._limits.waiting[self] = None
        # between two requests uvicorn's own timer runs, until something of the next has come
        is_head = is_waiting and state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
        self._due("head", HEAD, is_head, self._too_slow)
        self._due("body", BODY, is_waiting and state is h11.SEND_BODY, self.drop)

    def _due(self, name: str, seconds: float, is_due: bool, then: Any) -> None:
        if not is_due:
            self._stop(name)
        elif name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, then)

    def _stop(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _too_slow(self) -> None:
        self.refuse(ApiError(408, "The request did not come in time."))

    def pause_writing(self) -> None:
        """Something that was written is not taken yet; the connection is aborted after `TAKE` seconds of that."""
        super().pause_writing()
        self._due("take", TAKE, True, self._raw.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("take")

    def drop(self) -> None:
        """Close at once; what is still buffered is not sent."""
        self._raw.abort()

    def shutdown(self) -> None:
        """The server ends: a running answer may come to its end, nothing else is waited for."""
        if self in self._limits.waiting:
            self.drop()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for a request that is no valid HTTP."""
        self.refuse(ApiError(400, msg, code="invalid_request"))

    def refuse(self, error: ApiError) -> None:
        """An answer before there is a request, and the end."""
        body = json.dumps(error.body()).encode()
        headers = [
            ("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close"),
            *error.headers.items(),
        ]  # fmt: skip
        self._is_refused = True
        with contextlib.suppress(h11.LocalProtocolError):  # it has been answered already
            for event in (
                h11.Response(status_code=error.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()
            ):  # fmt: skip
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def closing(self) -> bool:
        """The transport is to close. A client that still sends would lose its answer, as what it sends is answered by a
        reset: so the rest is read and thrown away for a while. True: that is taken care of."""
        if self._raw.is_closing() or not (self._is_refused or self.conn.their_state is h11.SEND_BODY):
            return False
        for name in ("head", "body"):
            self._stop(name)
        self._limits.waiting.pop(self, None)
        self._raw.set_protocol(_Lingering(self, self._raw))
        return True


class _Lingering(asyncio.Protocol):
    """Sends nothing more, and reads what still comes."""

    def __init__(self, before: GuardedProtocol, transport: Any) -> None:
        self._before, self._transport = before, transport
        self._left = DISCARD
        self._timer = asyncio.get_running_loop().call_later(LINGER, transport.abort)
        transport.write_eof()
        with contextlib.suppress(RuntimeError):
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._before.connection_lost(exc)


class Listener(socket.socket):
    """A listening socket that survives a full table of descriptors: it gives up a spare one, takes the connection, and
    hangs up. asyncio would try again at once, and report every time."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def listen(self, backlog: int = 0) -> None:
        super().listen(1024)  # asyncio takes `backlog` of them at a time

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises BlockingIOError where descriptors or memory have run out; the waiting connection is then closed."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._limits.log_once("no_descriptors", kind=errno.errorcode[error.errno])
            self._hang_up()
            raise BlockingIOError from None  # asyncio waits for the next one

    def _hang_up(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        super().close()


def listen(host: str, port: int, limits: ConnectionLimits) -> list[Listener]:
    """Listening sockets on all addresses of a host. Raises OSError."""
    found: list[Listener] = []
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            try:
                each = Listener(family, kind, protocol, limits=limits)
            except OSError:  # a machine without IPv6 may well have addresses of it
                continue
            found.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = found[0].getsockname()[1] if len(found) > 1 else port  # one port, where any will do
            each.bind((address[0], taken, *address[2:]))
        if not found:
            raise OSError(f"no address of {host}")
    except OSError:
        for each in found:
            each.close()
        raise
    return found


def most_connections(wanted: int) -> int:
    """As many descriptors as the system allows, and how many connections that makes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, soft - min(_SPARE, soft // 2)))
