"""Programs behind the fence: servers that fork a child a run, and this side, which feeds, reads, measures and stops it.

    sandbox = Programs(num_workers=2)
    sandbox.run(Program(source="print(input()[::-1])"), b"abc").stdout                      # b"cba\\n"
    talk = sandbox.start(Program(source="while True: print(int(input()) + 1)"))
    talk.send(b"41"), talk.receive(), talk.kill().status                                    # None, b"42", "ok"

A server is a fresh interpreter (server.py) that never saw a test or another program. A run costs two to four
milliseconds of processor time. Any thread may call; `run` waits for one of `num_workers` places, `start` does not: who
holds conversations says how many. A run that the machine failed is repeated once, alone, and is then `lost`.

What passes for own wall time is wall time less the time in the run queue, as the kernel counts it: a sleeper is told
from a program that is starved by others. Without a fence nothing runs: see `fence.py`; `unfenced=True` says so in every
result.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder.sandbox import fence, languages
from ponder.sandbox.base import Limits, Program, Ran, Running
from ponder.sandbox.child import Child, Order

TOOL_FILE_BYTES = 256 << 20
START_SECONDS = 180.0  # for a server to import its modules, on a busy machine


class Programs:
    """The sandbox of this machine."""

    def __init__(self, *, num_workers: int = 1, unfenced: bool = False) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers}: use at least 1")
        facts = fence.probe()
        if facts.problem and not unfenced:
            raise fence.FenceError(facts.problem)
        self.num_workers, self.is_fenced = num_workers, not unfenced
        self._facts = facts
        self._level = facts.level if self.is_fenced else "unfenced"
        self._places = threading.BoundedSemaphore(num_workers)
        self._alone = threading.Lock()
        self._lock = threading.Lock()
        self._servers: list[_Server | None] = [None] * num_workers
        self._pid = os.getpid()
        self._is_closed = False
        atexit.register(self.close)

    @property
    def fence(self) -> str:
        return self._level

    @property
    def server_pids(self) -> list[int]:
        """The processes that run for it now."""
        with self._lock:
            return [server.process.pid for server in self._servers if server]

    def run(self, program: Program, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()) -> Ran:
        """Run it on this input to its end. C++ is compiled first, unless it was before."""
        if program.language != "python":
            return languages.run_compiled(program, self, stdin, args=args, limits=limits)
        return self._to_its_end(Order.python(program, args, limits), stdin)

    def start(self, program: Program, *, args: Sequence[str] = (), limits: Limits = Limits()) -> Running:
        """Begin a run that is spoken to. Does not wait for a place."""
        if program.language != "python":
            return languages.start_compiled(program, self, args=args, limits=limits)
        return self._launch(Order.python(program, args, limits, is_spoken_to=True), None)

    # ---- for rooms that compile: a static program behind the same filter, and compilers in a box

    def run_binary(
        self, binary: int, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()
    ) -> Ran:
        """Run a static program, given by a descriptor: `child.executable(data)`."""
        return self._to_its_end(_binary_order(args, limits), stdin, binary=binary)

    def start_binary(
        self,
        binary: int,
        *,
        args: Sequence[str] = (),
        limits: Limits = Limits(),
        stdin: bytes | int | None = None,
        stdout: int | None = None,
        extra: Sequence[int] = (),
    ) -> Child:
        """Begin one. `stdin`, `stdout` and `extra` (3, 4, ...) may be descriptors of yours, ends of pipes between
        programs: they are copied, so close yours afterwards."""
        return self._launch(_binary_order(args, limits), stdin, binary=binary, stdout=stdout, extra=extra)

    def run_tool(
        self,
        command: Sequence[str],
        box: str,
        stdin: bytes = b"",
        *,
        limits: Limits = Limits(),
        read: Sequence[str] = (),
    ) -> Ran:
        """Run a compiler, or another command that needs files. It reads the system's folders and `read`, writes below
        `box`, where it begins, and has no network. Everything that it started ends with it."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": box}
        more = {
            "box": box,
            "read": [*fence.SYSTEM, *read],
            "bubblewrap": self._facts.bubblewrap,
            "file_bytes": TOOL_FILE_BYTES,
            "environment": environment,
        }
        return self._to_its_end(Order(kind="tool", limits=limits, args=tuple(command), more=more), stdin)

    def _to_its_end(self, order: Order, stdin: bytes, **more: Any) -> Ran:
        with self._places:
            ran = self._launch(order, stdin, **more).finish()
        if ran.status == "lost":  # once more, with nothing of ours beside it
            with contextlib.ExitStack() as all_places:
                all_places.enter_context(self._alone)
                for _ in range(self.num_workers):
                    all_places.enter_context(self._places)
                ran = self._launch(order, stdin, **more).finish()
        return ran

    def _launch(self, order: Order, stdin: bytes | int | None, **more: Any) -> Child:
        if self._pid != os.getpid():
            raise RuntimeError("this sandbox belongs to another process; make a new one after forking")
        for _ in range(3):  # a server that died is replaced
            server = self._server()
            child = Child(order, stdin, level=self._level, **more)
            try:
                child.ask(server.control)
            except OSError:
                child.close()
                self._discard(server)
                continue
            with self._lock:
                server.num_jobs += 1
            child.when_over = functools.partial(self._over, server)
            return child
        raise RuntimeError("the sandbox's servers do not stay alive; see `ponder sandbox`")

    def _server(self) -> _Server:
        """The one with the least to do; it is started where there is none yet."""
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the sandbox is closed")
            index = min(range(self.num_workers), key=self._num_jobs)
            found = self._servers[index]
            if found is None:
                found = self._servers[index] = _Server(str(self._facts.landlock) if self.is_fenced else "unfenced")
            return found

    def _num_jobs(self, index: int) -> int:
        server = self._servers[index]
        return server.num_jobs if server else 0

    def _over(self, server: _Server) -> None:
        with self._lock:
            server.num_jobs -= 1

    def _discard(self, server: _Server) -> None:
        with self._lock:
            self._servers = [None if each is server else each for each in self._servers]
        server.close()

    def close(self) -> None:
        """Stop everything; idempotent. A run that is under way ends as lost."""
        atexit.unregister(self.close)
        if self._pid != os.getpid():
            return
        with self._lock:
            self._is_closed = True
            servers, self._servers = self._servers, [None] * self.num_workers
        for server in servers:
            if server is not None:
                server.close()

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _binary_order(args: Sequence[str], limits: Limits) -> Order:
    return Order(kind="binary", limits=limits, args=("program", *args))


class _Server:
    """One server: its process and the socket on which it takes jobs."""

    def __init__(self, landlock: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.num_jobs = 0
        script = str(Path(__file__).resolve().with_name("server.py"))
        # no hash seed of its own: a program does the same thing twice
        environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "MALLOC_ARENA_MAX": "1"}
        with theirs, tempfile.TemporaryFile() as stderr:
            self.process = subprocess.Popen(
                [fence.real_python(), "-S", "-s", "-P", "-B", "-X", "utf8", script, str(theirs.fileno()),
                 landlock],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment,
                pass_fds=[theirs.fileno()], start_new_session=True, cwd="/",
            )  # fmt: skip
            theirs.close()
            ready = b""
            self.control.settimeout(START_SECONDS)
            with contextlib.suppress(TimeoutError):
                ready = self.control.recv(64)
            self.control.settimeout(None)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()  # pipes, so that the children's streams know what they are; never used
            if ready != b"ready":
                self.process.kill()
                self.process.wait()
                stderr.seek(0)
                why = stderr.read()[-500:].decode() or f"it was not ready after {START_SECONDS:g} s"
                raise fence.FenceError(f"the sandbox's server did not start: {why}")

    def close(self) -> None:
        self.control.close()  # it kills what it forked, and leaves
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
