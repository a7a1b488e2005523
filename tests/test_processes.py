"""Worker processes start with what their parent has now, and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ponder import processes
from ponder.stopping import SENT_TO_ALL
from tests.helpers import until

pytestmark = pytest.mark.slow


def tell(connection: Any, name: str) -> None:
    ignored = all(signal.getsignal(each) is signal.SIG_IGN for each in SENT_TO_ALL)
    connection.send((os.environ.get(name), ignored, sys.path))


def ask(name: str) -> tuple[str | None, bool, list[str]]:
    connection, worker = processes.start(tell, (name,), name="test")
    assert connection.poll(60)
    answer = connection.recv()
    worker.join(10)
    assert worker.exitcode == 0
    return answer


def test_a_worker_has_the_environment_of_this_moment_not_of_its_server(monkeypatch):
    monkeypatch.setenv("PONDER_TEST_WORD", "first")
    assert ask("PONDER_TEST_WORD")[0] == "first"
    monkeypatch.setenv("PONDER_TEST_WORD", "second")
    assert ask("PONDER_TEST_WORD")[0] == "second"
    monkeypatch.delenv("PONDER_TEST_WORD")
    assert ask("PONDER_TEST_WORD")[0] is None


def test_a_worker_ignores_what_is_sent_to_the_whole_command_and_imports_from_where_its_parent_does(monkeypatch):
    monkeypatch.syspath_prepend("/somewhere/of/this/test")
    _, ignored, path = ask("HOME")
    assert ignored and "/somewhere/of/this/test" in path


def started(script: Path) -> tuple[subprocess.Popen[str], int]:
    """A parent, and the worker whose number it prints."""
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.skipif(sys.platform != "linux", reason="there is a server on Linux only")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_and_their_server_end_when_their_parent_is_killed(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import contextlib, time\n"
        "from ponder import processes\n"
        "def listen(connection):\n"
        "    with contextlib.suppress(EOFError):\n"
        "        connection.recv()\n"
        "if __name__ == '__main__':\n"
        "    processes.prepare()\n"
        "    connection, worker = processes.start(listen, (), name='listener')\n"
        "    print(worker.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent, worker = started(script)
    server = parent_of(worker)
    assert alive(server) and server != parent.pid
    assert "libtorch" in Path(f"/proc/{server}/maps").read_text()  # imported once, for all workers
    parent.send_signal(how)
    parent.wait(10)
    until(lambda: not alive(worker) and not alive(server), 20)


def test_a_parent_that_ends_leaves_no_worker_and_waits_for_none(tmp_path):
    """One that computes hears neither the pipe nor SIGTERM, with which multiprocessing would end it."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from ponder import processes\n"
        "def compute(connection):\n"
        "    connection.send('begun')\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    connection, worker = processes.start(compute, (), name='busy')\n"
        "    print(worker.pid, connection.recv(), flush=True)\n"
    )
    ran = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    until(lambda: not alive(int(ran.stdout.split()[0])), 20)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_processes_of_a_pool_end_when_their_parent_is_killed(how, tmp_path):
    """They wait at a queue of which they hold both ends, so that it never ends for them."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from ponder import processes\n"
        "if __name__ == '__main__':\n"
        "    begin = (dict(os.environ), time.sleep, 0)\n"
        "    pool = ProcessPoolExecutor(1, processes.context(), initializer=processes.enter, initargs=begin)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent, worker = started(script)
    assert alive(worker)
    parent.send_signal(how)
    parent.wait(10)
    until(lambda: not alive(worker), 20)


def parent_of(process: int) -> int:
    with open(f"/proc/{process}/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_finishes_the_step_and_saves_although_whoever_read_the_output_heard_it_too(tmp_path):
    script = tmp_path / "steps.py"
    script.write_text(
        "import pathlib, time\n"
        "from ponder.stopping import GracefulStop\n"
        "with GracefulStop() as stop:\n"
        "    print('begun', flush=True)\n"
        "    while not stop.requested:\n"
        "        time.sleep(0.05)\n"
        "    print('a step', flush=True)\n"
        f"    pathlib.Path({str(tmp_path / 'saved')!r}).touch()\n"
    )
    at = {**os.environ, "PYTHONPATH": str(Path(processes.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=at
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.stdout.close()  # as that of `| tee log`
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0 and (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [(-9, "(exit code -9); out of memory? take less"), (1, "(exit code 1); its own error stands above"),
     (255, "(exit code 255); out of memory? take less"), (None, "(exit code None); out of memory? take less")],
)  # fmt: skip
def test_a_worker_that_failed_by_itself_is_not_told_to_have_lacked_memory(code, said):
    process = SimpleNamespace(exitcode=code, join=lambda seconds: None)
    assert processes.why_ended(process, "take less") == said
