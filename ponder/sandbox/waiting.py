"""Time spent waiting for a free worker is not part of a call's time: whoever limits the call is notified of it.

    with place(semaphore):            # in the sandbox: the thread's clock stands while it waits for the semaphore
        ...
    watch(pause, resume)              # who keeps the clock of this thread, such as rollouts/threads.py

Five hundred verdicts may be asked for at once where two programs can run: the last of them waits for minutes, and has
then not hung.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_of_thread = threading.local()


def watch(pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None:
    """Set what stops and restarts the clock of this thread; None = it has no clock."""
    _of_thread.clock = (pause, resume) if pause and resume else None


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Meanwhile the clock of this thread is stopped."""
    clock = getattr(_of_thread, "clock", None)
    if clock is None:
        yield
        return
    clock[0]()
    try:
        yield
    finally:
        clock[1]()


@contextlib.contextmanager
def place(semaphore: threading.Semaphore) -> Iterator[None]:
    """One of its places; the clock stands until it is there."""
    with stopped():
        semaphore.acquire()
    try:
        yield
    finally:
        semaphore.release()
