"""Which server produces a response, and whether that server is still there.

Every server has a row of its own that it renews; what it produces carries its name. A response whose server has not
renewed for `LEASE` seconds is broken. On one machine a process that is gone is known to be at once: after a kill the
next server need not wait. Between machines the clocks must agree within half a minute.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LEASE = 60.0  # seconds without a sign of life after which a server is taken for dead
BEAT = 5.0  # seconds between two signs


def this_process() -> str:
    """machine/pid/start, "" where the system does not know."""
    pid = os.getpid()
    start = _start_of(pid)
    return f"{_machine()}/{pid}/{start}" if start else ""


def is_gone(process: str) -> bool:
    """True only if it ran on this machine and does not run any more."""
    machine, _, rest = process.partition("/")
    pid, _, start = rest.partition("/")
    if not machine or machine != _machine() or not pid.isdigit():
        return False
    return _start_of(int(pid)) != start


def _machine() -> str:
    """This boot of this machine, and the process ids that are seen from here."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    return ""


def _start_of(pid: int) -> str:
    """When a process started, in ticks since boot; "" if it has ended. A later process with its id has another."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
