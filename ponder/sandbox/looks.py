"""What the kernel says about a process while it runs: its processor time, its waiting, and what its threads do.

    cpu_seconds(pid), queued_seconds(pid)      # on a processor; ready for one, which a busy machine kept from it
    sleeps(pid), is_awake(pid), has_ended(pid)

Read from /proc, which holds nothing more about a process once it was waited for: then it neither sleeps nor is awake,
and its times are 0.
"""

from __future__ import annotations

import contextlib
import os
import time


def cpu_seconds(pid: int) -> float:
    """Of all its threads, so far."""
    try:
        return time.clock_gettime((~pid << 3) | 2) if pid else 0.0
    except OSError:
        return 0.0


def queued_seconds(pid: int) -> float:
    """The longest that one of its threads waited for a processor."""
    return max((queued for _, queued in _schedules(pid)), default=0.0)


def used_seconds(pid: int) -> float:
    """Of all its threads: on a processor, and ready for one."""
    return sum(running + queued for running, queued in _schedules(pid))


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError), open(f"/proc/{each}/task/{each}/children") as children:
            found += map(int, children.read().split())
    return found


def is_awake(pid: int) -> bool:
    """One of its threads runs, or waits for a processor or a disk: what the kernel has not counted yet."""
    return any(state in (b"R", b"D") for state in _states(pid))


def sleeps(pid: int) -> bool:
    """Every thread waits for something that only others can bring. Not known is no."""
    states = _states(pid)
    return bool(states) and all(state in (b"S", b"T", b"t") for state in states)


def has_ended(pid: int) -> bool:
    """It is over, and its server has not said so yet. One whose first thread alone ended lives on in the others."""
    return set(_states(pid)) == {b"Z"}


def _read(pid: int, name: str) -> list[bytes]:
    """A file of each of its threads."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/{name}", "rb") as file:
                found.append(file.read())
    return found


def _states(pid: int) -> list[bytes]:
    """What its threads do, as letters of the kernel."""
    return [text.rpartition(b") ")[2][:1] for text in _read(pid, "stat")]


def _schedules(pid: int) -> list[tuple[float, float]]:
    """Of each thread, seconds on a processor and seconds ready for one."""
    fields = [text.split() for text in _read(pid, "schedstat")]
    return [(int(each[0]) / 1e9, int(each[1]) / 1e9) for each in fields if len(each) > 1]
