"""Signals: how a long piece of work is asked to stop, and what its workers do not hear.

with GracefulStop() as stop:        # Ctrl-C, SIGTERM, or the terminal's window was closed
    for step in ...:
        ...
        if stop.requested: save(); raise KeyboardInterrupt
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from typing import Any

# what a terminal or a scheduler sends to all processes of a command, workers among them
SENT_TO_ALL = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class GracefulStop:
    """Ctrl-C, SIGTERM (as schedulers send it) or a closed terminal ask a loop to finish its step and save; a second
    Ctrl-C or SIGTERM interrupts at once. A closed terminal tells twice: the kernel, and then the shell.
    """

    requested = False

    def __enter__(self) -> GracefulStop:
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in SENT_TO_ALL:
                before = signal.getsignal(number)
                # under nohup a closed terminal stops nothing; None: a handler of a library in C, which stays
                if before is not None and (number == signal.SIGINT or before != signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._request)
        return self

    def _request(self, number: int, _: object) -> None:
        hung_up = number not in (signal.SIGINT, signal.SIGTERM)
        if self.requested and not hung_up:
            raise KeyboardInterrupt
        self.requested = True
        _write_nowhere(hung_up)
        with contextlib.suppress(OSError):
            print("\nfinishing this step, then saving (Ctrl-C again to stop at once)", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


def _write_nowhere(hung_up: bool) -> None:
    """The terminal is gone, or `| tee log`, which hears Ctrl-C too: a line written to it would be an error in the
    middle of a step."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # it was closed from the beginning
            mode = os.fstat(stream).st_mode
            if (hung_up and stat.S_ISCHR(mode)) or (stat.S_ISFIFO(mode) and _has_no_reader(stream)):
                os.dup2(nowhere, stream)
    os.close(nowhere)


def _has_no_reader(pipe: int) -> bool:
    """Whether whoever read it has ended, which may take it a moment."""
    if not hasattr(select, "poll"):
        return False
    waiting = select.poll()
    waiting.register(pipe, 0)  # an error alone: that nobody reads
    return bool(waiting.poll(200))


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Without what is sent to all processes of a command: Ctrl-C, SIGTERM, and that the terminal was closed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may; the workers then ignore it once they run
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SENT_TO_ALL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
