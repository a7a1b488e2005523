"""Judging one program against a package: batch problems with a grader and a checker, communication with a manager.

    package = read_package("sphinx-CMS.zip")
    judged = judge(package, Program(source=text, language="c++20"), sandbox)
    judged.points, judged.total, judged.note            (0.0, 3.0, 7.0, 0.0, ...), 10.0, "chain-full-01: ..."
    judge(package, program, sandbox, subtasks=[1, 2])   these only, by their places in `package.subtasks`

Everything runs in the sandbox, what the package brings too: a manager or checker reads hostile bytes, and may itself
come from anybody. It opens nothing: "/dev/fd/3" and the like are copies of what it was handed (`FILES`). The score is
the first word of its stdout, as in CMS. How a solution ended is looked at first: a manager that lost its partner says
what it likes. Solutions that wait for what never comes are idle, not slow (`sandbox/together.py`).

Time limits are multiplied by how slow this machine is (`sandbox/speed.py`), which is kept in the result; who exceeds
one is asked again after a new measurement, if that allows more. A test that the machine lost is repeated once, then
undecided. Scores are remembered by package and source while the package lives. Left out: solutions in other languages
than C++, and output-only problems.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ponder.grading.judging import MAX_NOTE, SLACK, TIMES, Checked, plain, read_checker_output, tokens
from ponder.grading.points import Judged, judge_subtasks
from ponder.sandbox.base import Limits, Program, Ran, Sandbox
from ponder.sandbox.child import Child, sealed
from ponder.sandbox.languages import STANDARDS, Binaries, Compiled, compiled
from ponder.sandbox.speed import slowness
from ponder.sandbox.together import PatientLimits, finish_together
from ponder.tasks.packages import ContestPackage, TestData

MOST_OUTPUT = 64 << 20  # bytes, whatever the answer's length
# a judge's own program is slow or fast by what a solution asks of it
JUDGE_LIMITS = PatientLimits(cpu_seconds=60, memory_mb=2048, output_bytes=1 << 16)

# Files by descriptor: compiled with managers and checkers, in place of the library's functions. A pipe is taken as it
# is, so that closing it ends it; a file is copied from its beginning, so that it can be opened twice.
FILES = """
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
static int handed(const char* path) {
  if (std::strncmp(path, "/dev/fd/", 8) != 0) return -1;
  char* end;
  long number = std::strtol(path + 8, &end, 10);
  if (end == path + 8 || *end || number < 0 || number > 63) return -1;
  return lseek(number, 0, SEEK_SET) == -1 ? number : dup(number);
}
extern "C" FILE* fopen(const char* path, const char* mode) {
  int number = handed(path);
  if (number >= 0) return fdopen(number, mode);
  errno = EACCES;
  return nullptr;
}
extern "C" FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }
extern "C" FILE* freopen(const char* path, const char*, FILE* stream) {
  int number = path ? handed(path) : -1;
  if (number >= 0 && dup2(number, fileno(stream)) >= 0) return stream;
  errno = EACCES;
  return nullptr;
}
extern "C" FILE* freopen64(const char* path, const char* mode, FILE* stream) { return freopen(path, mode, stream); }
"""


class JudgingSandbox(Sandbox, Binaries, Protocol):
    """A sandbox that also starts binaries with pipes between them: `sandbox.programs.Programs`."""

    def start_binary(
        self, binary: int, *, args: Sequence[str] = (), limits: Limits = ..., stdin: bytes | int | None = None,
        stdout: int | None = None, extra: Sequence[int] = (),
    ) -> Child: ...  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What is needed to judge a program: its binary and the judge's, and the limits."""

    package: ContestPackage
    sandbox: JudgingSandbox
    binary: int
    judge: int | None  # the manager or checker
    slowness: float

    @property
    def seconds(self) -> float:
        return self.package.time_seconds * self.slowness


def judge(
    package: ContestPackage,
    program: Program,
    sandbox: JudgingSandbox,
    subtasks: Sequence[int] | None = None,
    *,
    stop_early: bool = True,
) -> Judged:
    """The points of a program, and the scores of the tests that were run."""
    if program.language not in STANDARDS:
        raise ValueError(f"language={program.language!r}: packages are judged in {', '.join(STANDARDS)}")
    chosen = [package.subtasks[i] for i in (range(len(package.subtasks)) if subtasks is None else subtasks)]
    known = _remembered(package, program)
    notes: list[str] = []
    factor = slowness(sandbox)
    with contextlib.ExitStack() as stack:
        bench: _Bench | Checked | None = None

        def run(test: str) -> float | None:
            nonlocal bench
            if test not in known:
                if bench is None:
                    bench = _prepared(package, program, sandbox, factor, stack)
                found = bench if isinstance(bench, Checked) else _scored(bench, package.test(test))
                if found.score is None:
                    notes.append(f"{test}: {found.note}")
                    return None
                known[test] = found
            if known[test].score != 1:
                notes.append(f"{test}: {known[test].note}")
            return known[test].score

        judged = judge_subtasks(chosen, run, stop_early=stop_early)
    note = notes[0][:MAX_NOTE] if notes else ""
    return replace(judged, note=note, slowness=slowness(sandbox), fence=sandbox.fence)


_scores: weakref.WeakKeyDictionary[ContestPackage, dict[str, dict[str, Checked]]] = weakref.WeakKeyDictionary()
_MOST_PROGRAMS = 100_000


def _remembered(package: ContestPackage, program: Program) -> dict[str, Checked]:
    """The scores of a program's tests so far, to which is added."""
    of_package = _scores.setdefault(package, {})
    digest = hashlib.sha256(f"{program.language}\n{program.source}".encode("utf-8", "replace")).hexdigest()
    if len(of_package) > _MOST_PROGRAMS:
        of_package.clear()
    return of_package.setdefault(digest, {})


def _prepared(
    package: ContestPackage, program: Program, sandbox: JudgingSandbox, factor: float, stack: contextlib.ExitStack
) -> _Bench | Checked:
    """Everything compiled and opened; or the result for a program that does not compile."""
    own = compiled(replace(program, files=tuple(package.graders.items())), sandbox)
    if own.status != "ok":
        return Checked(score=0.0 if own.status == "refused" else None, note=plain(own.note.encode()))
    judges = _judging_program(package, sandbox)
    if judges is not None and judges.status == "lost":
        return Checked(score=None, note=plain(judges.note.encode()))
    opened = [stack.enter_context(_opened(each)) for each in (own, judges) if each is not None]
    return _Bench(
        package=package, sandbox=sandbox, binary=opened[0], judge=opened[1] if judges else None, slowness=factor
    )


def _judging_program(package: ContestPackage, sandbox: JudgingSandbox) -> Compiled | None:
    """The package's manager or checker; None where outputs are compared by tokens."""
    main = "manager.cpp" if package.kind == "communication" else "checker.cpp"
    if main not in package.judges:
        return None
    others = tuple((name, text) for name, text in package.judges.items() if name != main)
    files = (*others, ("files_by_descriptor.cpp", FILES))
    built = compiled(Program(source=package.judges[main], language="c++20", files=files), sandbox)
    if built.status == "refused":
        raise RuntimeError(f"{main} of {package.code} does not compile ({built.status}): {built.note}")
    return built


@contextlib.contextmanager
def _opened(built: Compiled) -> Iterator[int]:
    binary = built.open()
    try:
        yield binary
    finally:
        os.close(binary)


def _scored(bench: _Bench, test: TestData) -> Checked:
    """The score of one test; asked again where the machine was at fault, or may have been."""
    one = _communicated if bench.package.kind == "communication" else _batch
    found, is_slow = one(bench, test)
    if is_slow:
        now = slowness(bench.sandbox, again=True)
        if now > 1.1 * bench.slowness:
            found, _ = one(replace(bench, slowness=now), test)
    elif found.score is None:
        found, _ = one(bench, test)
    return found


# ---- batch ---------------------------------------------------------------------------------------------------------


def _batch(bench: _Bench, test: TestData) -> tuple[Checked, bool]:
    """The score, and whether the time was exceeded."""
    most = min(MOST_OUTPUT, TIMES * len(test.answer) + SLACK)
    limits = Limits(cpu_seconds=bench.seconds, memory_mb=bench.package.memory_mb, output_bytes=most)
    ran = bench.sandbox.run_binary(bench.binary, test.input, limits=limits)
    if ran.status != "ok":
        return _death(ran), ran.status == "time"
    if bench.judge is None:
        return tokens(ran.stdout, test.answer), False
    checker = _checked(bench, test, ran.stdout)
    found = _judgement(checker, "checker")
    if found.score is None and checker.status != "lost":
        # it reads hostile bytes: where it copes with the right output, this one is what it failed at
        copes = _judgement(_checked(bench, test, test.answer), "checker").score is not None
        return (replace(found, score=0.0) if copes else found), False
    return found, False


def _checked(bench: _Bench, test: TestData, output: bytes) -> Ran:
    """How the checker ended on an output."""
    assert bench.judge is not None
    with contextlib.ExitStack() as stack:
        given = [_file(stack, data) for data in (test.input, test.answer, output)]
        checker = bench.sandbox.start_binary(
            bench.judge, args=["/dev/fd/3", "/dev/fd/4", "/dev/fd/5"], limits=JUDGE_LIMITS, stdin=b"", extra=given
        )
        return finish_together([checker])[0]


def _file(stack: contextlib.ExitStack, data: bytes) -> int:
    descriptor = sealed(data)
    stack.callback(os.close, descriptor)
    return descriptor


# ---- communication -------------------------------------------------------------------------------------------------


def _communicated(bench: _Bench, test: TestData) -> tuple[Checked, bool]:
    """A manager between its input and `num_processes` copies of the solution, a pair of pipes to each."""
    assert bench.judge is not None, bench.package.code
    count = bench.package.num_processes
    limits = PatientLimits(cpu_seconds=bench.seconds, memory_mb=bench.package.memory_mb)
    children: list[Child] = []
    handed: list[int] = []  # to the manager: of each solution the end that it reads, then the one that it writes
    start = bench.sandbox.start_binary
    with contextlib.ExitStack() as stack:
        for number in range(count):
            (from_manager, to_solution), (from_solution, to_manager) = _pipe(stack), _pipe(stack)
            handed += [from_solution, to_solution]
            args = [str(number)] if count > 1 else []
            children.append(start(bench.binary, args=args, limits=limits, stdin=from_manager, stdout=to_manager))
        names = [f"/dev/fd/{3 + place}" for place in range(len(handed))]
        children.append(start(bench.judge, args=names, limits=JUDGE_LIMITS, stdin=test.input, extra=handed))
        stack.close()  # ours: who waits for the other's end must see it
        *solutions, manager = finish_together(children)
    dead = next((each for each in solutions if each.status != "ok"), None)
    lost = next((each for each in solutions if each.status == "lost"), None)
    if dead is not None:
        return _death(lost or dead), lost is None and any(each.status == "time" for each in solutions)
    if manager.exit_code == -signal.SIGPIPE:
        return Checked(score=0.0, note="it ended before the manager had said everything"), False
    return _judgement(manager, "manager"), False


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


# ---- what came of it -------------------------------------------------------------------------------------------------


def _death(ran: Ran) -> Checked:
    """Of a solution that did not end well."""
    note = f"{ran.status}: {ran.note or 'no reason known'}"
    return Checked(score=None if ran.is_undecided else 0.0, note=plain(note.encode()))


def _judgement(ran: Ran, who: str) -> Checked:
    """The judge program's result. Where it failed, nothing is known of the solution."""
    checked = read_checker_output(ran.stdout, ran.stderr)
    if ran.status not in ("ok", "crashed") or checked.score is None:
        return Checked(score=None, note=f"the {who} failed ({ran.status}: {ran.note}) {checked.note}"[:MAX_NOTE])
    return checked
