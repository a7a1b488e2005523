"""Programs that communicate through pipes: waiting for all of them, and detecting a deadlock.

    solution = sandbox.start_binary(..., limits=PatientLimits(cpu_seconds=1.5), stdin=..., stdout=...)
    manager = sandbox.start_binary(..., limits=PatientLimits(cpu_seconds=30), extra=(...))
    ran = finish_together([solution, manager])

One that waits for another uses no processor time and sleeps as long as the other works, so neither a limit of
processor time nor one of its own wall time shows that it hangs. A deadlock is: all of them sleep and none has done
anything for two seconds; or far more time has passed than they used or waited for a processor. Processes that a busy
machine starves are not asleep, so they are not taken for hanging; nor are those whose server is starved.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ponder.sandbox.base import Limits, Ran
from ponder.sandbox.child import Child
from ponder.sandbox.looks import has_ended, sleeps, used_seconds

STEP = 0.004  # seconds that each is waited for in turn
LOOK = 0.25  # seconds between looks at what they do
LOOKS_ASLEEP = 8  # in a row, until sleepers are taken for stuck
UNUSED_SECONDS = 30.0  # that nobody used, until all are stuck: one that polls sleeps, looks and sleeps
STUCK = "deadlock: no process makes progress"


@dataclass(frozen=True, kw_only=True)
class PatientLimits(Limits):
    """Limits of a program that waits for others: `finish_together` says when it waits too long."""

    @property
    def own_seconds(self) -> float:
        return 1e9

    @property
    def wall_seconds(self) -> float:
        return 10 * self.cpu_seconds + 600


def finish_together(children: Sequence[Child]) -> list[Ran]:
    """Wait for all of them; where none makes progress any more, those that have not ended are stopped as idle."""
    began = looked = time.monotonic()
    used: dict[int, float] = {}  # a process -> seconds that it used or waited for a processor
    num_asleep = 0
    while under_way := [child for child in children if not child.wait(STEP)]:
        now = time.monotonic()
        if now - looked < LOOK:
            continue
        if any(not child.pid or has_ended(child.pid) for child in under_way):
            began += now - looked  # its server has not begun it yet, or not said that it ended: nobody is stuck
        looked, before = now, dict(used)
        used |= {child.pid: max(used_seconds(child.pid), used.get(child.pid, 0)) for child in under_way}
        num_asleep = num_asleep + 1 if used == before and all(sleeps(child.pid) for child in under_way) else 0
        if num_asleep >= LOOKS_ASLEEP or now - began - sum(used.values()) > UNUSED_SECONDS:
            for child in under_way:
                child.stop("idle", STUCK)
    return [child.finish() for child in children]
