"""The sandbox of this process, which every task, strategy and environment shares, and what was found out with it.

    shared().run(program, stdin)               through a `CachedSandbox`: the same on the same input is run once
    shared().calls.check(source, asserts)      sessions by calls (calls.py)
    shared().once(key, make)                   anything else that need not be found out twice

A group of samples holds the same program many times and is graded in many threads: who asks for what another thread is
just finding out waits for it. What says nothing about the program (`is_undecided`) is not kept. The sandbox is started
on first use; `use(sandbox)` puts another in its place, as tests do. `allow_unfenced()` is what `ponder --unfenced`
means: programs run as the user runs them, and every result says so.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from ponder.config import ConfigError
from ponder.processes import num_cores
from ponder.sandbox.base import Limits, Program, Ran, Sandbox
from ponder.sandbox.cached import CachedSandbox
from ponder.sandbox.calls import Calls
from ponder.sandbox.fence import FenceError
from ponder.sandbox.programs import Programs
from ponder.sandbox.waiting import place, stopped

MAX_KEPT = 20_000  # findings, a few kB each
T = TypeVar("T")


class Executions:
    """A sandbox and a memory."""

    def __init__(self, sandbox: Sandbox, *, num_workers: int = 1) -> None:
        self.sandbox = CachedSandbox(sandbox)
        self.calls = Calls(sandbox, num_workers=num_workers)
        self.num_asked = self.num_made = 0
        self._places = threading.Semaphore(num_workers)
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def programs(self) -> Sandbox:
        """The sandbox without the memory: for judges that start compilers and binaries of their own."""
        return self.sandbox.sandbox

    def run(self, program: Program, stdin: bytes = b"", *, limits: Limits = Limits()) -> Ran:
        """Of the sandbox; waiting for a place is no part of the call's time (waiting.py)."""
        with place(self._places):
            return self.sandbox.run(program, stdin, limits=limits)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """make(), or what it gave for this key before."""
        with self._lock:
            self.num_asked += 1
            known = self._kept.get(key)
            if known is None:
                future: Future[T] = Future()
                self._kept[key] = future
                self.num_made += 1
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        if known is not None:
            with stopped():
                found: T = known.result()
            return found
        try:
            made = make()
        except BaseException as error:
            self._forget(key)
            future.set_exception(error)
            raise
        if made is None or getattr(made, "is_undecided", False):  # None: a run that the machine lost, see `behave`
            self._forget(key)
        future.set_result(made)
        return made

    def known(self, key: Hashable) -> Any:
        """What was found for this key; None where nothing was yet."""
        with self._lock:
            future = self._kept.get(key)
        return future.result() if future is not None and future.done() and not future.exception() else None

    def forget(self) -> None:
        """Everything is found out anew."""
        with self._lock:
            self._kept.clear()

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._kept.pop(key, None)


_shared: dict[int, Executions] = {}  # by process: a sandbox belongs to the one that started it
_lock = threading.Lock()
_unfenced = False


def allow_unfenced() -> None:
    """From now on the shared sandbox is started without a fence. For machines that have none, and programs that one
    would run oneself."""
    global _unfenced
    _unfenced = True


def shared() -> Executions:
    """ConfigError, with what would help, where this machine has no fence: programs of a model never run without one."""
    with _lock:
        found = _shared.get(os.getpid())
        if found is None:
            cores = num_cores()
            try:
                sandbox = Programs(num_workers=cores, unfenced=_unfenced)
            except FenceError as error:
                raise ConfigError(f"programs of the model are judged by running them: {error}") from None
            found = _shared[os.getpid()] = Executions(sandbox, num_workers=cores)
        return found


def use(sandbox: Sandbox, *, num_workers: int = 1) -> Executions:
    """From now on this is the sandbox of this process."""
    with _lock:
        _shared[os.getpid()] = Executions(sandbox, num_workers=num_workers)
        return _shared[os.getpid()]
