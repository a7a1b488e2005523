"""What a process that computes beside others does at its start, whatever it computes.

Usage:

    def _worker(connection, ...):          # the target of `processes.start`
        become_worker()
"""

from __future__ import annotations

import ctypes
import signal

import torch

from ponder.stopping import SENT_TO_ALL

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h


def become_worker() -> None:
    """One thread, signals to the whole command ignored (the parent handles them), and freed memory is kept.

    A pass allocates and frees gigabytes in pieces of some megabytes. glibc hands such pieces back to the system at once
    and gets them anew, page by page, a moment later: 0.6 of 6.3 s of a training pass, and seconds where the machine is
    a virtual one that has to ask its host for every page.
    """
    for number in SENT_TO_ALL:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc and some others; not on macOS
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)  # large pieces come from the heap, too
        mallopt(_TRIM_THRESHOLD, -1)  # whose end is never given back
