"""The fake: a sandbox that answers from a function, for tests of what judges and chooses.

    sandbox = ScriptedSandbox(lambda program, stdin, args: f"{int(stdin) + 1}\\n")
    sandbox.run(Program(source="anything"), b"41").stdout                          # b"42\\n"

The function says what the program prints, or a whole `Ran`. Conversations are given the lines sent so far as stdin, and
answer with the lines that are new. Nothing is run, so nothing is fenced; it may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ponder.sandbox.base import Limits, Program, Ran

Script = Callable[[Program, bytes, Sequence[str]], str | Ran]


class ScriptedSandbox:
    """A `Sandbox` whose programs are one function. `calls` has what was asked of it."""

    fence = "scripted"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[tuple[Program, bytes, tuple[str, ...]]] = []
        self._lock = threading.Lock()

    def run(self, program: Program, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()) -> Ran:
        with self._lock:
            self.calls.append((program, stdin, tuple(args)))
        output = self.script(program, stdin, args)
        return output if isinstance(output, Ran) else self._ran(output.encode(), limits)

    def start(self, program: Program, *, args: Sequence[str] = (), limits: Limits = Limits()) -> ScriptedTalk:
        return ScriptedTalk(self, program, args, limits)

    def close(self) -> None:
        """Nothing is held."""

    def _ran(self, stdout: bytes, limits: Limits) -> Ran:
        if len(stdout) > limits.output_bytes:
            return Ran(status="output", stdout=stdout[: limits.output_bytes], fence=self.fence)
        return Ran(status="ok", stdout=stdout, exit_code=0, fence=self.fence)


class ScriptedTalk:
    """A `Running`: the script is asked again whenever more is wanted than it has said."""

    def __init__(self, sandbox: ScriptedSandbox, program: Program, args: Sequence[str], limits: Limits) -> None:
        self._sandbox, self._program, self._args, self._limits = sandbox, program, args, limits
        self._sent, self._place = b"", 0
        self._ran: Ran | None = None

    def send(self, line: bytes) -> None:
        self._sent += line + b"\n"

    def receive(self, most: int = 1 << 20) -> bytes | None:
        """Asks the script again, with all lines sent so far. None where it says no further whole line."""
        if self._ran is not None:
            return None
        ran = self._sandbox.run(self._program, self._sent, args=self._args, limits=self._limits)
        line, end, _ = ran.stdout[self._place :].partition(b"\n")
        if not end or len(line) > most:
            return None
        self._place += len(line) + 1
        return line

    def finish(self) -> Ran:
        if self._ran is None:
            self._ran = self._sandbox.run(self._program, self._sent, args=self._args, limits=self._limits)
        return self._ran

    def kill(self) -> Ran:
        return self.finish()
