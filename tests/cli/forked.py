"""`ponder` in a process of its own without importing torch anew: forks of one that has it.

    done = run(["eval", "--help"], cwd=folder, environment={}, timeout=60)    # as of subprocess.run
    ran = killed(["rl", "recipe.toml"], cwd=folder, environment={}, when=lambda: marker.exists())

A command is a fork of a server that is started once a test process: it has a command's modules, no threads, and ran
nothing. Each import costs seconds of processor time, and there are a hundred commands. So what forks their workers
(`ponder/processes.py`) is a fork of the command, where elsewhere it is a new interpreter; tests of the processes
themselves start `python -m ponder.cli`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def run(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    with _started(words, cwd, environment, timeout) as command:
        code = command.wait()
        told, said = command.out.read_text(), command.err.read_text()
    if code is None:
        raise subprocess.TimeoutExpired(["ponder", *words], timeout, told, said)
    return subprocess.CompletedProcess(["ponder", *words], code, told, said)


def killed(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], when: Callable[[], bool], timeout: float = 120
) -> bool:
    """kill -9 of the command and all that it started, once `when` is true; whether it still ran then."""
    with _started(words, cwd, environment, timeout) as command:
        while command.runs() and not when():
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        return command.wait() is None


@dataclass(frozen=True)
class _Command:
    pid: int  # also of its process group
    out: Path
    err: Path

    def runs(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> int | None:
        """Its exit status; None where it was killed."""
        code: int | None = json.loads(_answer())
        return code


@contextlib.contextmanager
def _started(words: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float) -> Iterator[_Command]:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        job = {"words": list(words), "cwd": str(cwd), "environment": dict(environment), "timeout": timeout,
               "out": str(out), "err": str(err)}  # fmt: skip
        server = _server()
        assert server.stdin is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        yield _Command(json.loads(_answer()), out, err)


def _answer() -> str:
    """A line of the server: the number of the process, later its exit status."""
    stdout = _server().stdout
    assert stdout is not None
    return stdout.readline()


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.forked"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.communicate()  # waits for its end and closes both pipes


def _serve() -> None:
    import pydantic  # noqa: F401 - which Typer looks for

    import ponder.cli
    import ponder.engine.local
    import ponder.evals.scaling
    import ponder.live
    import ponder.train.rl  # noqa: F401 - torch with them

    # else a command looks through all of this for garbage when it ends, and copies it by doing so: half a second
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _become(job)
            return
        print(child, flush=True)
        print(json.dumps(_wait(child, job["timeout"])), flush=True)


def _become(job: dict[str, Any]) -> None:
    """The command, in this fork."""
    for name, number in ((os.devnull, 0), (job["out"], 1), (job["err"], 2)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path.insert(0, "")
    util.spawnv_passfds = _server_of_workers
    sys.argv = ["ponder", *job["words"]]
    from ponder.cli import main

    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.exit(code)


_new_interpreter = util.spawnv_passfds


def _server_of_workers(path: bytes, words: Sequence[str], passed: Sequence[int]) -> int:
    """multiprocessing's way to start its helpers; one that forks workers has torch already. It begins as after exec:
    without handlers of signals and open files of the command."""
    if "multiprocessing.forkserver" not in words[-1] or threading.active_count() > 1:
        return _new_interpreter(path, words, passed)
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    try:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        kept = sorted({0, 1, 2, *passed})
        for first, last in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(first + 1, last)
        forkserver._forkserver.__init__()  # type: ignore[misc]  # it was being started, under its lock
        listener, alive = passed
        forkserver.main(listener, alive, [])
    except SystemExit:  # all that could ask for a worker have ended
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _wait(child: int, timeout: float) -> int | None:
    """Its exit status, or None where it was killed, as it is when it takes too long."""
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, timeout)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code


if __name__ == "__main__":
    _serve()
