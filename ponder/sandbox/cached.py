"""Runs are remembered: the same program on the same input within the same limits is run once.

    sandbox = CachedSandbox(Programs(num_workers=2))

Samples of one problem repeat each other, and a vote asks again what a verdict has asked. The memory is bounded in
bytes, the oldest run goes first; a run that was lost says nothing about the program, and is never kept. Two threads
that ask the same thing at once both run it. Programs that look at the clock are remembered as they first ran.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

from ponder.sandbox.base import Limits, Program, Ran, Running, Sandbox


class CachedSandbox:
    """A `Sandbox` around another one."""

    def __init__(self, sandbox: Sandbox, *, most_bytes: int = 256 << 20) -> None:
        self.sandbox, self.most_bytes = sandbox, most_bytes
        self.num_runs = self.num_hits = 0
        self._kept: OrderedDict[bytes, Ran] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def fence(self) -> str:
        return self.sandbox.fence

    def run(self, program: Program, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()) -> Ran:
        key = _digest(program, stdin, args, limits)
        with self._lock:
            self.num_runs += 1
            ran = self._kept.get(key)
            if ran is not None:
                self.num_hits += 1
                self._kept.move_to_end(key)
                return ran
        ran = self.sandbox.run(program, stdin, args=args, limits=limits)
        if not ran.is_undecided:
            with self._lock:
                self._keep(key, ran)
        return ran

    def start(self, program: Program, *, args: Sequence[str] = (), limits: Limits = Limits()) -> Running:
        """A conversation is never remembered: what is said depends on the judge."""
        return self.sandbox.start(program, args=args, limits=limits)

    def close(self) -> None:
        self.sandbox.close()

    def _keep(self, key: bytes, ran: Ran) -> None:
        if key in self._kept:  # two threads ran it at the same time
            self._bytes -= _size(self._kept[key])
        self._bytes += _size(ran)
        self._kept[key] = ran
        while self._bytes > self.most_bytes:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(ran: Ran) -> int:
    return len(ran.stdout) + len(ran.stderr) + 1_000


def _digest(program: Program, stdin: bytes, args: Sequence[str], limits: Limits) -> bytes:
    """Of everything that a run depends on; each part with its length, so that no two inputs flow together."""
    found = hashlib.sha256()
    texts = [program.language, program.source, *(part for file in program.files for part in file), "", *args]
    parts = [text.encode("utf-8", "surrogatepass") for text in texts] + [stdin, repr(limits).encode()]
    for part in (str(len(program.files)).encode(), str(len(args)).encode(), *parts):
        found.update(len(part).to_bytes(8, "little") + part)
    return found.digest()
