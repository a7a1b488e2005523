"""Signals: how a long piece of work is asked to stop, and what its workers do not hear.

with GracefulStop() as stop:        # Ctrl-C, SIGTERM, or the terminal's window was closed
    for step in ...:
        ...
        if stop.requested: save(); raise KeyboardInterrupt
"""

from __future__ import annotations

import contextlib
import os
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
        if hung_up:
            _write_nowhere()
        if self.requested and not hung_up:
            raise KeyboardInterrupt
        self.requested = True
        print("\nfinishing this step, then saving (Ctrl-C again to stop at once)", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


def _write_nowhere() -> None:
    """The terminal is gone, and a line written to it would be an error in the middle of a step."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


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
