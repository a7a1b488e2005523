"""Killable children: every end of a call is told apart, and no child outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ponder.grading.killable import Children
from tests.helpers import many_open_files

JOBS = "tests.grading.killable_jobs"
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def importable_jobs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # children see the parent's sys.path


@pytest.fixture
def children():
    box = Children(num_workers=2, memory_mb=1_024)
    yield box
    box.close()


def gone(pid: int, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True  # dead; only its own parent can bury it
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_a_result_comes_back_even_if_the_function_prints_and_reads(children):
    assert children.run(f"{JOBS}:double", 21).value == 42


def test_a_child_that_does_not_start_is_no_call_that_took_too_long(children, monkeypatch):
    monkeypatch.setattr("ponder.grading.killable.START_SECONDS", 0.0)
    ran = children.run(f"{JOBS}:double", 21, timeout=5.0)
    assert (ran.status, ran.note) == ("timeout", "the child did not start within 0 s")
    assert not ran.has_started


def test_a_process_with_more_than_a_thousand_open_files_is_still_answered(children):
    with many_open_files():
        ran = children.run(f"{JOBS}:double", 21, timeout=60.0)
    assert (ran.status, ran.value) == ("ok", 42), ran.note


@pytest.mark.parametrize(
    ("job", "status", "note"),
    [("spin", "timeout", "over"), ("eat", "memory", "memory"), ("die", "crashed", "signal 11"),
     ("leave", "crashed", "SystemExit"), ("fail", "crashed", "ZeroDivisionError: no"),
     ("missing", "crashed", "AttributeError"), ("unserialisable", "crashed", "TypeError")],
)  # fmt: skip
def test_every_bad_end_has_its_status_and_the_next_call_works(children, job, status, note):
    ran = children.run(f"{JOBS}:{job}", timeout=1.0 if status == "timeout" else 60.0)
    assert (ran.status, ran.value) == (status, None) and note in ran.note
    assert children.run(f"{JOBS}:double", 1).value == 2
    assert children.counts == {status: 1, "ok": 1}


def test_a_timeout_is_kept_and_the_child_is_gone(children):
    pid = children.run(f"{JOBS}:pid").value
    start = time.monotonic()
    ran = children.run(f"{JOBS}:sleep", 600, timeout=0.5)
    assert (ran.status, ran.has_started) == ("timeout", True)
    assert 0.5 <= time.monotonic() - start < 60 and gone(pid)  # long before the call would have come back


def test_a_healthy_child_is_used_again(children):
    assert children.run(f"{JOBS}:pid").value == children.run(f"{JOBS}:pid").value


def test_many_threads_share_the_children_and_each_gets_its_own_result(children):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: children.run(f"{JOBS}:double", n).value, range(40)))
    assert results == [2 * n for n in range(40)]


def test_a_thread_that_ends_does_not_take_its_child_along(children):
    pids: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: pids.append(children.run(f"{JOBS}:pid").value))
        thread.start()
        thread.join()
    assert pids[0] == pids[1]


def test_close_leaves_no_child_and_no_zombie(children):
    pid = children.run(f"{JOBS}:pid").value
    children.close()
    children.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="closed"):
        children.run(f"{JOBS}:pid")


PARENT = f"""
import sys, threading, time
from ponder.grading.killable import Children
box = Children()
print(box.run("{JOBS}:pid").value, flush=True)
if sys.argv[1] == "busy":
    threading.Thread(target=box.run, args=("{JOBS}:sleep", 60), kwargs=dict(timeout=60), daemon=True).start()
if sys.argv[1] != "ends":
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["ends", "idle", "busy", "ctrl-c"])
def test_the_child_dies_with_its_parent(end):
    environment = {**os.environ, "PYTHONPATH": ROOT}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "busy" if end == "ctrl-c" else end],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    if end != "ends":
        parent.send_signal(signal.SIGINT if end == "ctrl-c" else signal.SIGKILL)
    parent.wait(timeout=20)
    parent.stdout.close()
    assert gone(child)


def test_ctrl_c_while_waiting_does_not_mix_up_later_results(children, monkeypatch):
    from ponder.grading import killable as module

    def interrupted(self, request, timeout):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._Worker, "call", interrupted)
        children.run(f"{JOBS}:double", 1)
    assert [children.run(f"{JOBS}:double", n).value for n in range(4)] == [0, 2, 4, 6]
