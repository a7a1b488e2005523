"""Programs that wait for each other: who works is waited for, who sleeps for ever is stopped."""

import os
import signal
import threading
import time

import pytest

from ponder.sandbox import Program, together
from ponder.sandbox.languages import compiled
from ponder.sandbox.together import PatientLimits, finish_together
from tests.cpp import cpp  # noqa: F401 - a fixture

HEAD = "#include <cstdio>\n#include <ctime>\n#include <unistd.h>\n"
READS = HEAD + "int main() { char c; return read(0, &c, 1) == 1 ? 0 : 7; }\n"
WORKS = HEAD + 'int main() { while (clock() < 0.9 * CLOCKS_PER_SEC); puts("x"); }\n'
DAWDLES = HEAD + "int main() { for (;;) usleep(20000); }\n"


@pytest.fixture
def pair(cpp):  # noqa: F811
    """Start two programs, each of which reads what the other writes."""

    def start(first, second, **limits):
        sides = [os.pipe(), os.pipe()]
        children = []
        for place, source in enumerate((first, second)):
            with open(compiled(Program(source=source, language="c++17"), cpp).open(), "rb") as binary:
                children.append(
                    cpp.start_binary(
                        binary.fileno(),
                        limits=PatientLimits(**limits),
                        stdin=sides[place][0],
                        stdout=sides[1 - place][1],
                    )
                )
        for side in sides:
            for end in side:
                os.close(end)
        return children

    return start


def test_two_that_wait_for_each_other_are_stopped_as_idle(pair, monkeypatch):
    monkeypatch.setattr(together, "LOOKS_ASLEEP", 3)
    first, second = finish_together(pair(READS, READS))
    assert (first.status, second.status) == ("idle", "idle")
    assert first.cpu_seconds < 0.5


def test_one_that_waits_for_a_worker_is_not_idle_however_long_that_works(pair, monkeypatch):
    monkeypatch.setattr(together, "LOOKS_ASLEEP", 2)  # half a second, and the worker needs nearly a whole one
    reader, worker = finish_together(pair(READS, WORKS))
    assert (reader.status, reader.exit_code) == ("ok", 0)
    assert worker.status == "ok"


def test_one_whose_partner_ends_reads_the_end_and_is_not_left_waiting(pair):
    reader, other = finish_together(pair(READS, HEAD + "int main() {}\n"))
    assert (reader.status, reader.exit_code) == ("crashed", 7)
    assert other.status == "ok"


def test_a_limit_of_one_does_not_end_the_other(pair):
    reader, worker = finish_together(pair(READS, WORKS, cpu_seconds=0.3))
    assert worker.status == "time"
    assert (reader.status, reader.exit_code) == ("crashed", 7)


def test_one_that_sleeps_and_looks_and_sleeps_again_is_stopped_in_the_end(pair, monkeypatch):
    monkeypatch.setattr(together, "UNUSED_SECONDS", 1.0)
    reader, dawdler = finish_together(pair(READS, DAWDLES))
    assert (reader.status, dawdler.status) == ("idle", "idle")


@pytest.mark.parametrize("begun", [False, True])
def test_children_that_wait_for_a_starved_server_are_not_stuck(pair, cpp, monkeypatch, begun):  # noqa: F811
    monkeypatch.setattr(together, "UNUSED_SECONDS", 1.0)
    for source in (READS, WORKS):  # or compiling would need the server
        compiled(Program(source=source, language="c++17"), cpp)
    servers = cpp.server_pids
    children = pair(READS, WORKS) if begun else []
    while not all(child.pid for child in children):
        children[0].wait(0.01), children[1].wait(0.01)
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    wakes = threading.Timer(4.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in servers])
    wakes.start()
    try:
        began = time.monotonic()
        reader, worker = finish_together(children or pair(READS, WORKS))
        assert (reader.status, worker.status) == ("ok", "ok")
        assert time.monotonic() - began > 3.5
    finally:
        wakes.join()
