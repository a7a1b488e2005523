"""Worker processes: how many there are, and how they start.

    processes.prepare()          # first of all, before torch is imported here, where workers will be wanted
    connection, worker = processes.start(target, (layout, ...), name="ponder-engine")  # target(connection, layout, ...)

Importing torch takes a process two seconds. On Linux a server imports it once, while the process that wants workers is
still importing and loading weights itself, and every worker is a fork of that server (multiprocessing's forkserver).
Elsewhere each worker is a fresh interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ponder.stopping import signals_ignored

_started: weakref.WeakSet[Any] = weakref.WeakSet()  # the processes of `start`


def num_cores() -> int:
    """Cores this process may use: taskset and cluster schedulers give fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare() -> None:
    """Let the server begin. Not where there is a GPU: the work is done in one process there."""
    if not Path("/dev/nvidiactl").exists():
        context()


def start(target: Callable[..., None], arguments: tuple[Any, ...], *, name: str) -> tuple[Connection, Any]:
    """A running process that ends with this one and ignores Ctrl-C and SIGTERM from its start, and a pipe to it. It
    ends by what is said through the pipe, or by `kill`."""
    here, there = multiprocessing.Pipe()
    arguments = (dict(os.environ), target, there, *arguments)
    process = context().Process(target=enter, args=arguments, daemon=True, name=name)
    with starting():
        process.start()
    _started.add(process)
    there.close()
    return here, process


def why_ended(process: Any, advice: str = "") -> str:
    """Of a process of `start` that is gone, in brackets and words. Killed (255: with the server that forked it), memory
    was probably short, and `advice` is how to need less of it; one that failed by itself has said why on stderr."""
    process.join(5)
    if process.exitcode == 1:
        return f"(exit code {process.exitcode}); its own error stands above"
    return f"(exit code {process.exitcode}); out of memory?" + (f" {advice}" if advice else "")


@atexit.register
def _kill_left() -> None:
    """Before multiprocessing sends SIGTERM to those that are left, and then waits for them."""
    for process in _started:
        if process.is_alive():
            process.kill()


@functools.cache
def context() -> Any:
    """Of multiprocessing. A process begins with the environment of its server: start it with `enter`."""
    if sys.platform == "linux":
        found = multiprocessing.get_context("forkserver")
        found.set_forkserver_preload(["torch"])  # not ponder: the server does not know where it is imported from here
        with contextlib.suppress(OSError), signals_ignored():  # no socket can be made below TMPDIR
            forkserver.ensure_running()
            return found
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Start worker processes inside: they inherit that signals to the whole command are the parent's to handle, from
    their server or from us. With a server Ctrl-C works meanwhile: the first start waits until the server is there."""
    with contextlib.nullcontext() if context().get_start_method() == "forkserver" else signals_ignored():
        yield


def enter(environment: Mapping[str, str], target: Callable[..., None], *arguments: Any) -> None:
    """What a worker runs: a function, in the environment of the process that started it, for as long as that lives."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def _end_with_parent() -> None:
    """A pipe's end says it too, but not to a worker that computes, or whose queue it holds both ends of."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
