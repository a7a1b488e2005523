"""Killable children: run an importable function in a child process that can be killed.

    result = Children().run("ponder.grading.symbolic:opinion", "text", timeout=5.0)
    result.status     "ok" | "timeout" | "crashed" | "memory"

For work that may hang, eat memory or die: sympy on a model's text, a scorer somebody else wrote. The child is a plain
Python process that speaks JSON lines, so it works from any thread, needs no signal in the parent, imports nothing of
the parent's `__main__`, and holds no copy of its memory. Arguments and results are what JSON can carry.

Limits: wall time per call (the parent kills), processor time per call and address space (the kernel does). A child that
was killed is replaced on the next call. Children start on first use and die with the parent, however that ends: they
leave at the end of their input, when their parent is gone, or when their processor time is used up. Ctrl-C reaches only
the parent. Nothing is ever silently 0: the status says what happened and `counts` counts it.

This is a fence against accidents, not against malice: the child may read files and use the network like its parent.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from ponder.rewarding import mark_process

START_SECONDS = 300.0  # for starting Python and importing the function's module, which no call's timeout pays for

Status = Literal["ok", "timeout", "crashed", "memory"]


@dataclass(frozen=True, kw_only=True)
class CallOutcome:
    """What became of a call. `value` is the function's result when status is "ok"; `note` says why it is not."""

    status: Status
    value: Any = None
    note: str = ""
    has_started: bool = True  # False: the machine was too busy to start the child, which says nothing about the call


class Children:
    """At most `num_workers` killable children, shared by any number of threads."""

    def __init__(self, *, num_workers: int = 1, memory_mb: int = 2_048) -> None:
        if num_workers < 1 or memory_mb < 256:
            raise ValueError(f"num_workers={num_workers}, memory_mb={memory_mb}: use at least 1 worker and 256 MB")
        self.memory_mb = memory_mb
        self.counts: Counter[str] = Counter()
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        for _ in range(num_workers):
            self._places.put(None)  # a place without a child: started when somebody needs it
        self._pid = os.getpid()
        self._is_closed = False
        atexit.register(self.close)

    def run(self, function: str, *arguments: Any, timeout: float = 5.0) -> CallOutcome:
        """Call `module:function` with JSON-able arguments in a child; waits for a free one."""
        if self._pid != os.getpid():
            raise RuntimeError("these children belong to another process; make new ones after forking")
        request = json.dumps({"function": function, "arguments": arguments, "timeout": timeout})
        worker = self._places.get()
        try:
            if self._is_closed:
                raise RuntimeError("the children are closed")
            if worker is None:
                worker = _Worker(self.memory_mb)
                with self._lock:
                    self._workers.add(worker)
            ran = worker.call(request, timeout)
        except BaseException:  # Ctrl-C while waiting: the child's answer would reach the next caller
            self._discard(worker)
            self._places.put(None)
            raise
        if ran.status != "ok" and not worker.is_reusable:
            self._discard(worker)
            worker = None
        self._places.put(worker)
        with self._lock:
            self.counts[ran.status] += 1
        return ran

    def _discard(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.kill()
            with self._lock:
                self._workers.discard(worker)

    def close(self) -> None:
        """Kill the children; idempotent. A call that is under way ends as crashed."""
        self._is_closed = True
        atexit.unregister(self.close)
        if self._pid == os.getpid():
            for worker in list(self._workers):
                self._discard(worker)


class _Worker:
    """One child and its two pipes; used by one thread at a time."""

    def __init__(self, memory_mb: int) -> None:
        start = "from ponder.grading.killable import child; child()"
        command = [sys.executable, "-c", start, str(memory_mb), str(os.getpid())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self.is_reusable = True
        self._buffer = b""

    def call(self, request: str, timeout: float) -> CallOutcome:
        assert self.process.stdin is not None
        has_started = False
        self.is_reusable = False  # until it has answered in full
        try:
            self.process.stdin.write(request.encode() + b"\n")
            line = self._line(START_SECONDS)
            has_started = line == b"started"
            if has_started:
                line = self._line(timeout)
        except (BrokenPipeError, ValueError, OSError):
            line = b""
        if line is None:
            note = f"over {timeout:g} s" if has_started else f"the child did not start within {START_SECONDS:g} s"
            return CallOutcome(status="timeout", note=note, has_started=has_started)
        if not line:
            return CallOutcome(status="crashed", note=self._how_it_died())
        answer = json.loads(line)
        self.is_reusable = answer["status"] != "memory"  # what is left of its memory is in pieces
        return CallOutcome(**answer)

    def _line(self, seconds: float) -> bytes | None:
        """One line from the child; b"" when it is dead, None when time is up."""
        assert self.process.stdout is not None
        end, poll = time.monotonic() + seconds, select.poll()  # select() knows no descriptor beyond 1023
        poll.register(self.process.stdout, select.POLLIN)
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                return None
            if poll.poll(1000 * min(left, 1.0)):
                block = os.read(self.process.stdout.fileno(), 1 << 16)
                if not block:
                    return b""
                self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _how_it_died(self) -> str:
        try:
            code = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "the child closed its pipes"
        return f"the child was killed by signal {-code}" if code < 0 else f"the child exited with {code}"

    def kill(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the other end is gone, which is what was wanted
                    pipe.close()
        self.process.wait()  # no zombie


_shared: dict[int, Children] = {}
_shared_lock = threading.Lock()


def shared() -> Children:
    """The children that verifiers of this process use: one, started when it is first needed."""
    with _shared_lock:
        if os.getpid() not in _shared:
            _shared[os.getpid()] = Children()
        return _shared[os.getpid()]


# ---- the child's side ----------------------------------------------------------------------------------------------


def child() -> None:
    """Serve calls from standard input until it ends. Runs in the child only."""
    memory_mb, parent = int(sys.argv[1]), int(sys.argv[2])
    mark_process("verification in a child process")
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)  # what the function prints or reads must not touch the protocol
    os.dup2(nowhere, 1)
    _limit("RLIMIT_AS", memory_mb << 20)
    _limit("RLIMIT_CORE", 0)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    for line in requests:
        os.write(answers, json.dumps(_serve(json.loads(line), answers)).encode() + b"\n")


def _serve(request: dict[str, Any], answers: int) -> dict[str, str]:
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        _limit("RLIMIT_CPU", int(time.process_time() + request["timeout"]) + 2)
        os.write(answers, b"started\n")
        value = function(*request["arguments"])
        json.dumps(value)
        return {"status": "ok", "value": value}
    except MemoryError:
        return {"status": "memory", "note": "over the memory limit"}
    except RecursionError:
        return {"status": "crashed", "note": "RecursionError"}
    except BaseException as error:  # whatever it is, SystemExit too, it is an outcome the parent is told of
        return {"status": "crashed", "note": f"{type(error).__name__}: {error}"[:500]}


def _limit(name: str, value: int) -> None:
    """Lower a soft limit of this process where the platform has it."""
    try:
        import resource

        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    except (ImportError, AttributeError, ValueError, OSError):
        return  # macOS refuses RLIMIT_AS; wall time still holds


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
