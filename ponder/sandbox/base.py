"""The words of the sandbox: a program, its limits, what came of a run, and the seam behind which programs run.

A `Sandbox` is called from any thread and blocks until the run is over; it runs as many programs at once as it has
workers. `start` waits for no place: who holds conversations says how many. Expected outputs
never enter it: what judges stays outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Language = Literal["python", "c++17", "c++20"]

# ok       it ended by itself with exit code 0
# crashed  it ended by itself otherwise: an exception, a signal of its own
# time     its processor time was used up
# idle     it waited: its own wall time was used up, though the processor was free
# memory   it asked for more memory than the limit
# output   it wrote more than the limit
# refused  it did what the fence forbids; or it does not compile
# lost     the machine or the server failed it: says nothing about the program, see `Ran.is_undecided`
Status = Literal["ok", "crashed", "time", "idle", "memory", "output", "refused", "lost"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use."""

    cpu_seconds: float = 2.0  # of processor time
    memory_mb: int = 256  # of address space
    output_bytes: int = 1 << 20  # of stdout; stderr is cut at 64 kB and never an offence

    def __post_init__(self) -> None:
        if not 0 < self.cpu_seconds < 3_600 or self.memory_mb < 16 or self.output_bytes < 1:
            raise ValueError(f"{self}: use 0 to 3600 seconds, at least 16 MB, and at least one byte of output")

    @property
    def own_seconds(self) -> float:
        """Of wall time, less what it waited for a processor: what a sleeper may sleep."""
        return 2 * self.cpu_seconds + 1

    @property
    def wall_seconds(self) -> float:
        """Of wall time on a busy machine; a program that reaches it without its own limits is lost, not wrong.

        So long that one with a twenty-fifth of a processor reaches its own limit: a verdict must not depend on what
        else runs. A sleeper is stopped much sooner, by `own_seconds`."""
        return 30 * self.cpu_seconds + 30


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program's source. `files` lie beside it while it is compiled: headers, a grader's stub."""

    source: str
    language: Language = "python"
    files: tuple[tuple[str, str], ...] = ()  # (name, text)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of one run."""

    status: Status
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None  # None where a limit or the fence ended it
    cpu_seconds: float = 0.0
    own_seconds: float = 0.0  # wall time less the wait for a processor
    memory_mb: float = 0.0  # the most that was resident; 0 = not known, as of a C++ program with less than about 20 MB
    note: str = ""  # for people: which limit, what the compiler said
    fence: str = ""  # what stood between the program and the machine, as `Sandbox.fence` says it

    @property
    def is_undecided(self) -> bool:
        """The run says nothing about the program: not to be counted as wrong."""
        return self.status == "lost"


class Running(Protocol):
    """A program that runs, spoken to line by line through its stdin and stdout."""

    def send(self, line: bytes) -> None:
        """Write a line (without its end). Does nothing where the program does not read any more."""
        ...

    def receive(self, most: int = 1 << 20) -> bytes | None:
        """Its next line without the end; None where it ended, was stopped by a limit, or wrote a longer line."""
        ...

    def finish(self) -> Ran:
        """Close its stdin, wait for its end within its limits, and say what came of it. Never raises for the program's
        sake; calling it again returns the same."""
        ...

    def kill(self) -> Ran:
        """Stop it now. One that had not ended by itself is "ok" then, without an exit code."""
        ...


class Sandbox(Protocol):
    """Where untrusted programs run."""

    @property
    def fence(self) -> str:
        """What holds here, for every result: "closed filter + landlock", or "unfenced" where that was asked for."""
        ...

    def run(self, program: Program, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()) -> Ran:
        """Run a program on this input to its end. Whatever the program does is a status, and raises nothing."""
        ...

    def start(self, program: Program, *, args: Sequence[str] = (), limits: Limits = Limits()) -> Running:
        """Begin a run that is spoken to."""
        ...

    def close(self) -> None:
        """Stop everything that runs for it."""
        ...
