"""One run as this side sees it: feed it, read it, stop it, say what came of it. Implements `base.Running`."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponder.sandbox import looks
from ponder.sandbox.base import Limits, Program, Ran, Status
from ponder.sandbox.fence import FenceError

STDERR_BYTES = 1 << 16
BLOCK = 1 << 16
DONE = struct.Struct("=iddQQ")  # as server.py packs it
SEND_SECONDS = 0.02  # until a full pipe is tried again
SERVER_SECONDS = 60.0  # for a starved server to begin a run, or to end it
EXEC_KB = 1024  # at most, resident of what a server's fork does between its measure and its exec
LOOKS_AT_REST = 5  # in a row, before a program is called idle
FAMILY_SECONDS = 0.25  # between two looks at what a compiler started
FAMILY_LOOKS_AT_REST = 12  # in a row: a compiler that reads from a pipe of its own waits for itself


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run, as the child reads it."""

    kind: str  # "python"; "binary": a file behind the closed filter; "tool": a command that may use files of its box
    limits: Limits
    args: tuple[str, ...] = ()
    source: bytes = b""
    is_spoken_to: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def python(cls, program: Program, args: Sequence[str], limits: Limits, *, is_spoken_to: bool = False) -> Order:
        """ValueError for a program in another language: that one is compiled first."""
        if program.language != "python":
            raise ValueError(f"language={program.language!r}: compile it first (languages.py)")
        source = program.source.encode("utf-8", "surrogatepass")
        return cls(kind="python", limits=limits, args=tuple(args), source=source, is_spoken_to=is_spoken_to)

    def pack(self, extra: int) -> bytes:
        """What the server's child reads (marshal). extra: number of descriptors that become 3, 4, ..."""
        return marshal.dumps(
            {
                "kind": self.kind, "args": self.args, "source": self.source, "cpu_seconds": self.limits.cpu_seconds,
                "memory": self.limits.memory_mb << 20, "file_bytes": 0, "extra": extra,
                "is_spoken_to": self.is_spoken_to, "environment": {},
            } | self.more
        )  # fmt: skip


class Child:
    """A run under way. Used by one thread at a time."""

    def __init__(
        self,
        order: Order,
        stdin: bytes | int | None,
        *,
        level: str,
        stdout: int | None = None,
        extra: Sequence[int] = (),
        binary: int | None = None,
    ) -> None:
        """stdin: all of it, or a descriptor of yours, or None for a pipe that `send` writes to. stdout: a descriptor of
        yours, or None to be read here. `extra` become 3, 4, ..."""
        self.order, self.limits, self.level = order, order.limits, level
        self.when_over: Callable[[], None] = lambda: None
        self.pid = 0
        self._ran: Ran | None = None
        self._stopped: tuple[Status, str] | None = None  # why we ended it
        self._stopped_at = 0.0
        self._report: bytes | None = None
        self._handed_kb = 1 << 60 if order.kind == "binary" else 0  # resident in its server's fork, before its exec
        self._waited = 0.0  # seconds that somebody waited for it
        self._cpu: dict[int, float] = {}  # seconds, by process: a compiler starts several, one after another
        self._queued: dict[int, float] = {}
        self._looks_at_rest = 0
        self._out, self._err, self._lines_from = bytearray(), bytearray(), 0
        self._reads: dict[int, bytearray] = {}
        self._out_fd = self._stdin = -1
        self._given = [sealed(order.pack(len(extra)))]
        if stdin is None:
            in_theirs, self._stdin = os.pipe()
            os.set_blocking(self._stdin, False)
        else:
            in_theirs = os.dup(stdin) if isinstance(stdin, int) else sealed(stdin)
        self._given.append(in_theirs)
        if stdout is None:
            self._out_fd = self._read_end_of_pipe(self._out)
        else:
            self._given.append(os.dup(stdout))
        self._read_end_of_pipe(self._err)
        self._given += [os.dup(each) for each in (*extra, *([] if binary is None else [binary]))]
        self._next_look = self._until_next_look()
        self._reports, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._poll = select.poll()
        for descriptor in (self._reports.fileno(), *self._reads):
            self._poll.register(descriptor, select.POLLIN)

    def _read_end_of_pipe(self, into: bytearray) -> int:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._reads[ours] = into
        self._given.append(theirs)
        return ours

    def ask(self, control: socket.socket) -> None:
        """Hand it to a server."""
        socket.send_fds(control, [b"job"], [self._theirs.fileno(), *self._given])
        self._close_given()

    def _close_given(self) -> None:
        for descriptor in self._given:
            os.close(descriptor)
        self._given = []
        self._theirs.close()

    # ---- what judges call

    def send(self, line: bytes) -> None:
        data = memoryview(line + b"\n")
        while data and self._stdin >= 0 and self._report is None:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                self._step(until=SEND_SECONDS)
            except BrokenPipeError:
                self._close_stdin()

    def receive(self, most: int = 1 << 20) -> bytes | None:
        while True:
            end = self._out.find(b"\n", self._lines_from)
            if end >= 0:
                line = bytes(self._out[self._lines_from : end])
                self._lines_from = end + 1
                return line if len(line) <= most else None
            if len(self._out) - self._lines_from > most or self._is_over:
                return None
            self._step()

    def finish(self) -> Ran:
        self._close_stdin()
        while not self._is_over:
            self._step()
        return self._close()

    def kill(self) -> Ran:
        if self._ran is None and self._report is None and self._stopped is None:
            self._stop("ok", "stopped by its judge")
        return self.finish()

    def wait(self, seconds: float) -> bool:
        """Wait a little, as who waits for several programs does; whether it is over."""
        if not self._is_over:
            self._step(until=seconds)
        return self._is_over

    def stop(self, status: Status, note: str) -> None:
        """End it with this status, unless it ended already."""
        if not self._is_over:
            self._stop(status, note)

    def close(self) -> None:
        """Let go of all descriptors; the server kills what still runs."""
        if self._given:
            self._close_given()
        self._close_stdin()
        for descriptor in list(self._reads):
            self._close_read(descriptor)
        self._reports.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if self._ran is None:
                self.close()
                self.when_over()

    # ---- inside

    @property
    def _is_over(self) -> bool:
        return self._report is not None

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _close_read(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(descriptor)
        self._reads.pop(descriptor, None)
        os.close(descriptor)

    def _step(self, until: float = 1e9) -> None:
        """Wait for something to happen, at most until the next limit could be reached."""
        began = time.monotonic()
        events = self._poll.poll(1000 * max(0.001, min(until, self._next_look - self._waited)))
        for descriptor, _ in events:
            if descriptor in self._reads:
                self._read(descriptor)
            elif descriptor == self._reports.fileno():
                self._read_report()
        self._waited += time.monotonic() - began
        if self._waited >= self._next_look and self._report is None:  # also of one that never lets us rest
            self._look()
            self._next_look = self._waited + self._until_next_look()

    def _read(self, descriptor: int) -> bool:
        """A block of it; whether there was something, be it its end."""
        try:
            block = os.read(descriptor, BLOCK)
        except BlockingIOError:
            return False
        if not block:
            self._close_read(descriptor)
        elif descriptor == self._out_fd:
            if len(self._out) <= self.limits.output_bytes:
                self._out += block
            if len(self._out) > self.limits.output_bytes:
                self._stop("output", f"more than {self.limits.output_bytes:,} bytes of output")
        else:
            self._err += block
            if len(self._err) > 2 * STDERR_BYTES:
                del self._err[:-STDERR_BYTES]  # its end says most
        return True

    def _read_report(self) -> None:
        """A message of the server or its fork: the child's number, what it begins with, its end; nothing more if the
        server died."""
        message = b""
        for _ in range(2):  # an error first where the server closed before it read our "kill", then what it had said
            with contextlib.suppress(OSError):
                message = self._reports.recv(1024)
                break
        if message[:1] == b"p":
            self.pid, self._waited = int(message[1:]), 0.0  # until now it waited for its server
            self._next_look = self._until_next_look()
        elif message[:1] == b"m":
            self._handed_kb = int(message[1:]) + EXEC_KB
        elif message[:12] == b"!MemoryError":
            self._stop("memory", f"{self.limits.memory_mb} MB are not enough to begin")
        elif message[:1] == b"!":
            self._stop("refused", message[1:].decode(errors="replace"))
        else:
            self._report = message[1:]
            self._poll.unregister(self._reports.fileno())
            for descriptor in list(self._reads):  # the rest; a descendant may hold the pipe open, so not to its end
                while descriptor in self._reads and self._read(descriptor):
                    pass

    def _stop(self, status: Status, note: str) -> None:
        if self._stopped is None:
            self._stopped, self._stopped_at = (status, note), self._waited
            with contextlib.suppress(OSError):
                self._reports.send(b"kill")

    def _until_next_look(self) -> float:
        if self._stopped is not None:
            return 5.0
        if self.order.kind == "tool":
            return FAMILY_SECONDS
        cpu_left = self.limits.cpu_seconds - sum(self._cpu.values())
        own_left = self.limits.own_seconds - self._waited + sum(self._queued.values())
        return max(0.02, min(cpu_left, own_left) + 0.01)

    def _look(self) -> None:
        if self._stopped is not None or not self.pid:
            if self._waited - self._stopped_at > SERVER_SECONDS:
                self._report = b""  # the server does not answer
            return
        family = looks.family(self.pid) if self.order.kind == "tool" else [self.pid]
        before = dict(self._cpu)
        for pid in family:
            self._cpu[pid], self._queued[pid] = looks.cpu_seconds(pid), looks.queued_seconds(pid)
        is_tool, own_seconds = self.order.kind == "tool", self._waited - sum(self._queued.values())
        if sum(self._cpu.values()) > self.limits.cpu_seconds:
            self._stop("time", f"more than {self.limits.cpu_seconds:g} s of processor time")
        elif self._waited > self.limits.wall_seconds:
            self._stop("lost", f"the machine gave it no time within {self.limits.wall_seconds:g} s")
        elif is_tool or own_seconds > self.limits.own_seconds:
            rests = not any(map(looks.is_awake, family)) and not any(map(_is_half_full, self._reads))
            rests = rests and not looks.has_ended(self.pid) and not (is_tool and self._cpu != before)
            self._looks_at_rest = self._looks_at_rest + 1 if rests else 0
            # one look may fall between two threads that wait for each other
            if self._looks_at_rest >= (FAMILY_LOOKS_AT_REST if is_tool else LOOKS_AT_REST):
                never = "it waited for what never came, as from a pipe of its own"
                self._stop("idle", never if is_tool else f"it waited for {self.limits.own_seconds:g} s")

    def _close(self) -> Ran:
        if self._ran is None:
            self._ran = self._outcome()
            self.close()
            self.when_over()
        return self._ran

    def _outcome(self) -> Ran:
        if self._stopped and self._stopped[0] == "refused":
            raise FenceError(f"the fence could not be set: {self._stopped[1]}")
        if not self._report or len(self._report) != DONE.size:
            return Ran(status="lost", note="its server died", fence=self.level)
        wait_status, user, system, kilobytes, queued = DONE.unpack(self._report)
        cpu, memory_mb = user + system, kilobytes / 1024 if kilobytes > self._handed_kb else 0.0
        code = os.waitstatus_to_exitcode(wait_status)
        stdout, stderr = bytes(self._out), bytes(self._err[-STDERR_BYTES:])
        status, note = self._stopped or self._read_end(code, cpu, memory_mb, stderr)
        return Ran(
            status=status, note=note, stdout=stdout[: self.limits.output_bytes], stderr=stderr,
            exit_code=code if status in ("ok", "crashed") and not self._stopped else None, cpu_seconds=cpu,
            own_seconds=max(0.0, self._waited - queued / 1e9), memory_mb=memory_mb, fence=self.level,
        )  # fmt: skip

    def _read_end(self, code: int, cpu: float, memory_mb: float, stderr: bytes) -> tuple[Status, str]:
        """How a program that we did not stop ended."""
        if cpu > self.limits.cpu_seconds:
            return "time", f"more than {self.limits.cpu_seconds:g} s of processor time"
        if code == 0:
            return "ok", ""
        last = stderr.rstrip().rpartition(b"\n")[2]
        if code == -signal.SIGSYS:
            return "refused", "a system call that the fence kills"
        if code == -signal.SIGKILL:  # it cannot do this to itself
            return "lost", "killed from outside, as the kernel does where memory runs out"
        if last.startswith(b"PermissionError: [Errno 1]"):
            return "refused", "a system call that the fence refuses"
        if last.startswith(b"MemoryError") or b"std::bad_alloc" in last or memory_mb > 0.95 * self.limits.memory_mb:
            return "memory", f"more than {self.limits.memory_mb} MB of memory"
        return "crashed", f"signal {-code}" if code < 0 else f"exit code {code}"


def sealed(data: bytes) -> int:
    """A file in memory that nobody can change any more, at its beginning."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("in", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    _write_sealed(descriptor, data)
    return descriptor


def _write_sealed(descriptor: int, data: bytes) -> None:
    left, offset = memoryview(data), 0
    while left:
        count = os.pwrite(descriptor, left, offset)
        left, offset = left[count:], offset + count
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0xF)


def executable(data: bytes) -> int:
    """A program file in memory, for `Programs.run_binary`: a descriptor that is yours to close. Nobody can change it,
    it
    needs no folder, and one is enough for any number of runs."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("program", flags | 0x10)  # MFD_EXEC, since Linux 6.3
    except OSError:
        descriptor = os.memfd_create("program", flags)
    _write_sealed(descriptor, data)
    return descriptor


def _is_half_full(pipe: int) -> bool:
    """Its writer may wait for us, who are starved ourselves."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) > BLOCK // 2
