"""Functions of an untrusted program, called from outside: a data set's asserts against a model's code.

    judge = Calls(Programs(num_workers=2))
    asserts = Asserts(names=("f",), units=(("assert f([3, 1]) == [1, 3]", True),))
    judge.check("def f(x): return sorted(x)", asserts).results      # ("",): passed
    judge.behave("def f(x): return sorted(x)", [call("f", [3, 1])]) # (b'{"v":[1,3]}',): what it gives, nothing judged

Two programs run, each behind the fence, and neither sees the other's text:

    the tests    (inside/asserts.py)     "C nonce call" ->           -> the candidate   (inside/candidate.py)
                 stubs in place of f     <- "nonce reply"            <- the model's program, and arguments

What travels is plain tagged JSON (inside/wire.py); this process hands lines on and parses none that the candidate
wrote. So a program cannot find expected values in its memory, its frames or its files, cannot end the tests by ending
itself, and cannot send an object whose `__eq__` is true. It may answer anything, but without knowing what is right.
Both are forks of a server that reads neither (`server.py`); the tests go straight to the child that runs them.

A session is one process of the candidate for all tests of a problem, so a function may remember; `fresh=True` starts it
anew for every test. Left out: tests that hand over functions of their own (they are undecided, and the note says so).
"""

from __future__ import annotations

import contextlib
import json
import marshal
import re
import secrets
import sys
import threading
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ponder.sandbox.base import Limits, Program, Ran, Running, Sandbox
from ponder.sandbox.inside import wire
from ponder.sandbox.together import PatientLimits
from ponder.sandbox.waiting import place

SECONDS = 2.0  # of processor time for the tests' own work on one program
MESSAGES = 64 << 20  # bytes that a session may send
_LINE = wire.MAX_LINE + 200
_alone = threading.Semaphore()  # a session that was lost is repeated once, one at a time


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of a test: Python to run, or a call with arguments and value as data (`wire.encode`)."""

    code: str = ""
    on: str = ""
    args: tuple[Any, ...] = ()
    want: Any = None
    is_test: bool = True  # False = what stands between tests: run, not counted
    decides: bool = True  # False = the tests go on where it fails

    @property
    def data(self) -> list[Any]:
        """As `inside/asserts.py` reads it: what to do, is_test, decides."""
        what = {"on": self.on, "args": list(self.args), "want": self.want} if self.on else self.code
        return [what, self.is_test, self.decides]


@dataclass(frozen=True, kw_only=True)
class Asserts:
    """The tests of a problem."""

    names: tuple[str, ...]  # that the program should define
    units: tuple[Unit, ...]
    setup: str = ""  # Python before the first unit, the data set's own: imports, helpers
    aliases: tuple[tuple[str, str], ...] = ()  # ("candidate", "f"): how the tests call it, and its name

    @property
    def num_tests(self) -> int:
        """How many results `Tested` has."""
        return sum(unit.is_test for unit in self.units)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What came of the tests, in their order: "" = passed, else why not; None = not run."""

    results: tuple[str | None, ...]
    cpu_seconds: float = 0.0  # of the candidate
    note: str = ""  # why it is undecided, or how the candidate ended
    is_undecided: bool = False
    fence: str = ""
    replies: tuple[bytes | None, ...] = ()  # to `probes`

    @property
    def passed(self) -> bool:
        """Every test ran and passed. False where it is undecided."""
        return not self.is_undecided and all(result == "" for result in self.results)


def call(name: str, *args: Any) -> bytes:
    """A call with plain arguments, for `behave`. wire.NotPlain where they cannot be sent."""
    return call_of(name, [wire.encode(arg) for arg in args])


def call_of(name: str, args: Sequence[Any]) -> bytes:
    """A call with arguments that are data already."""
    return wire.written({"do": "call", "on": name, "args": list(args), "kw": []})


class Calls:
    """Judges programs by calls. Any number of threads may use one."""

    def __init__(self, sandbox: Sandbox, *, num_workers: int = 1) -> None:
        """num_workers: sessions at once; more wait. Each is two processes, of which one runs at a time."""
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers}: use at least 1")
        self.sandbox = sandbox
        self._places = threading.BoundedSemaphore(num_workers)

    def check(
        self,
        source: str,
        asserts: Asserts,
        *,
        limits: Limits = Limits(),
        stop: bool = True,
        fresh: bool = False,
        probes: Sequence[bytes] = (),
    ) -> Tested:
        """Run the tests on a program.

        stop: at the first that fails. limits: of the program, for all tests together. probes: calls that the program is
        asked after the tests, which judge nothing: see `behave`.
        """
        if fresh:
            return self._check_each(source, asserts, limits, stop)
        with place(self._places):
            tested, is_lost = self._check_once(source, asserts, limits, stop, probes)
        if is_lost:
            with place(_alone), place(self._places):
                tested, _ = self._check_once(source, asserts, limits, stop, probes)
        return tested

    def _check_each(self, source: str, asserts: Asserts, limits: Limits, stop: bool) -> Tested:
        results: list[str | None] = [None] * asserts.num_tests
        seconds, before, last = 0.0, [], Tested(results=())
        for unit in asserts.units:
            if not unit.is_test:
                before.append(unit)
                continue
            index = next(i for i, result in enumerate(results) if result is None)
            last = self.check(source, replace(asserts, units=(*before, unit)), limits=limits)
            seconds += last.cpu_seconds
            results[index] = last.results[0]
            if last.is_undecided or (stop and results[index] != ""):
                break
        return replace(last, results=tuple(results), cpu_seconds=seconds)

    def _check_once(
        self, source: str, asserts: Asserts, limits: Limits, stop: bool, probes: Sequence[bytes]
    ) -> tuple[Tested, bool]:
        """What came of it, and whether the machine lost it."""
        job = {
            "names": asserts.names, "aliases": asserts.aliases, "setup": asserts.setup,
            "units": [unit.data for unit in asserts.units], "seconds": SECONDS, "stop": stop,
        }  # fmt: skip
        # the tests sleep while the program runs, and get more than they allow themselves
        patient = PatientLimits(cpu_seconds=SECONDS + 2, memory_mb=512, output_bytes=MESSAGES)
        with contextlib.ExitStack() as started:
            tests = self.sandbox.start(_program("asserts"), limits=patient)
            started.callback(tests.kill)
            program = self.sandbox.start(_program("candidate"), limits=replace(limits, output_bytes=MESSAGES))
            started.callback(program.kill)
            program.send(wire.written(source))
            tests.send(wire.written(job))
            report, is_there = _relay(tests, program)
            replies = _replies(program, probes) if is_there and report is not None else []
            ran = program.kill() if is_there else program.finish()
            of_tests = tests.finish() if report is None else tests.kill()
        tested, is_lost = _tested(asserts, report, ran, of_tests, is_there)
        return replace(tested, replies=(*replies, *[None] * (len(probes) - len(replies)))), is_lost

    def behave(
        self, source: str, calls: Sequence[bytes], *, limits: Limits = Limits()
    ) -> tuple[bytes | None, ...] | None:
        """What a program replies to calls, as it wrote it; None for those after its end. None = the machine lost it."""
        with place(self._places):
            found = self._behave_once(source, calls, limits)
        if found is None:
            with place(_alone), place(self._places):
                found = self._behave_once(source, calls, limits)
        return found

    def _behave_once(self, source: str, calls: Sequence[bytes], limits: Limits) -> tuple[bytes | None, ...] | None:
        program = self.sandbox.start(_program("candidate"), limits=replace(limits, output_bytes=MESSAGES))
        try:
            program.send(wire.written(source))
            replies = _replies(program, calls)
            if len(replies) < len(calls) and program.finish().is_undecided:
                return None
        finally:
            program.kill()
        return (*replies, *[None] * (len(calls) - len(replies)))


def _replies(program: Running, calls: Sequence[bytes]) -> list[bytes]:
    """What it replies, until it does not keep to the protocol."""
    replies: list[bytes] = []
    for request in calls:
        nonce = secrets.token_hex(8).encode()
        program.send(nonce + b" " + request)
        own, _, reply = (program.receive(_LINE) or b"").partition(b" ")
        if own != nonce:
            break
        replies.append(reply)
    return replies


def _relay(tests: Running, program: Running) -> tuple[dict[str, Any] | None, bool]:
    """Hand lines on until the tests say what came of them (None where they never do). Is the program still there?"""
    is_there = True
    while True:
        line = tests.receive(_LINE)
        if line is None:
            return None, is_there
        if line.startswith(b"V "):
            return json.loads(line[2:]), is_there  # of the tests' program, which holds no line of the model's
        program.send(line[2:])
        reply = program.receive(_LINE)
        is_there = is_there and reply is not None
        tests.send(reply or b"")


def _tested(
    asserts: Asserts, report: dict[str, Any] | None, ran: Ran, of_tests: Ran, is_there: bool
) -> tuple[Tested, bool]:
    seconds, fence = ran.cpu_seconds, ran.fence
    none: tuple[str | None, ...] = (None,) * asserts.num_tests

    def undecided(note: str) -> Tested:
        return Tested(results=none, cpu_seconds=seconds, note=note, is_undecided=True, fence=fence)

    if not is_there and ran.is_undecided:
        return undecided(f"the run was lost: {ran.note}"), True
    if report is None:
        if of_tests.is_undecided:
            return undecided(f"the tests' run was lost: {of_tests.note}"), True
        if of_tests.status == "crashed" and (of_tests.exit_code or 0) > 0:
            return undecided(f"the tests crashed: {_last_line(of_tests.stderr)}"), False
        why = f"the tests did not survive what the program returned ({of_tests.status})"
        return Tested(results=(why, *none[1:]), cpu_seconds=seconds, note=why, fence=fence), False
    if report["broken"]:
        return undecided(report["broken"]), False
    results = (*report["results"], *none)[: asserts.num_tests]
    note = "" if is_there else f"{ran.status}: {ran.note or _last_line(ran.stderr)}"
    return Tested(results=results, cpu_seconds=seconds, note=note, fence=fence), False


def _last_line(text: bytes) -> str:
    lines = text[-2_000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


@cache
def _program(name: str) -> Program:
    """A file of `inside` as a program of its own, the wire before it.

    Compiled here once, since compiling takes longer than all the rest of a session; another Python compiles the text.
    """
    folder = Path(wire.__file__).parent
    text = "\n".join((folder / f"{part}.py").read_text(encoding="utf-8") for part in ("wire", name))
    text = re.sub(r"^from ponder\.sandbox\.inside\.wire import .*$", "", text, flags=re.MULTILINE)
    code = marshal.dumps(compile(text, f"<{name}>", "exec", optimize=2))
    ready, plain = (b64encode(zlib.compress(data)).decode() for data in (code, text.encode()))
    return Program(
        source="import base64, marshal, sys, zlib\n"
        f"same = sys.hexversion == {sys.hexversion}\n"
        f"data = zlib.decompress(base64.b64decode({ready!r} if same else {plain!r}))\n"
        "exec(marshal.loads(data) if same else data)\n"
    )
