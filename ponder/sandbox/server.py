"""The server that forks a child a run: a fresh interpreter that never saw a test, an expected output or another
program.

    python -S -s -P -X utf8 ponder/sandbox/server.py CONTROL LANDLOCK        # as programs.py starts it, and nobody
    else

It preloads the standard modules that programs use, freezes them, and then only passes descriptors on: a job's source
and input are read by the child, so nothing of one run lies in the memory that the next is forked from. A job comes as
one message of descriptors: what to run, stdin, stdout, stderr, and a socket that reports its number and its end.
That socket closed or spoken to means: kill it. When the control socket closes, whoever started us is gone, and so is
everything.

This file runs as a script, outside the house's import path, which it takes away again before the first program runs.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import linecache
import marshal
import os
import platform
import random
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from typing import Any, NoReturn

MODULES = """
__future__ abc argparse array ast base64 bisect bz2 calendar cmath codecs collections collections.abc colorsys
concurrent.futures concurrent.futures.thread contextlib contextvars copy copyreg csv dataclasses datetime decimal
difflib doctest enum errno fileinput fnmatch fractions functools getopt glob graphlib gzip hashlib heapq hmac html
inspect io ipaddress itertools json keyword linecache locale logging lzma math mmap numbers opcode operator optparse
pathlib pickle pkgutil platform pprint queue random re reprlib resource sched secrets select selectors shlex shutil
signal socket stat statistics string stringprep struct subprocess symtable tempfile textwrap threading time timeit
tokenize traceback types typing unicodedata unittest urllib.parse uuid warnings weakref zlib _strptime
_compat_pickle encodings.ascii encodings.latin_1 encodings.utf_16 encodings.utf_32 encodings.utf_8_sig
encodings.cp1252 encodings.idna encodings.punycode encodings.unicode_escape encodings.raw_unicode_escape
encodings.hex_codec encodings.rot_13 encodings.base64_codec encodings.utf_16_le encodings.utf_16_be
encodings.utf_32_le encodings.utf_32_be encodings.cp437
""".split()
NAME = "program.py"  # as tracebacks call it
DONE = struct.Struct("=iddQQ")  # wait status, user and system seconds, kilobytes, nanoseconds in the run queue
most_descriptors = 1 << 20  # how many this process may have
MOST_FRAMES, MOST_CAUSES = 100, 20  # of a traceback
NOT_FENCED = 125  # the child's exit code when a step before the program failed; its note comes on the socket


def serve(control: socket.socket, landlock: int | None) -> None:
    """Fork children until the control socket closes. `landlock`: its version here; None to run without any fence."""
    closed = None
    if landlock is not None:
        closed = fence.Closed(platform.machine(), landlock)
        if landlock:  # else bubblewrap is started from here, and root needs its capabilities to begin
            fence.drop_bounding_set()
    # the library's own: os.fork tidies up after threads that are not here, at the price of the whole fence
    fork = ctypes.PyDLL(None).fork
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    jobs: dict[int, socket.socket] = {}  # a child's number -> where its end is reported
    children: dict[int, int] = {}  # that socket's descriptor -> the child's number
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(woken, select.POLLIN)
    starter = os.getppid()
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while os.getppid() == starter:  # a fork of whoever started us may hold our control open
        for descriptor, _ in poll.poll(2_000):
            if descriptor == woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            elif descriptor == control.fileno():
                kind, descriptors, _, _ = socket.recv_fds(control, 16, 32)
                if not kind:
                    return  # with us, our children die
                reports = socket.socket(fileno=descriptors[0])
                pid = fork()
                if pid == 0:
                    _child(descriptors[1:], reports, closed)
                if pid < 0:  # no place for another process; our end closes, which says that the run is lost
                    reports.close()
                for each in descriptors[1:]:
                    os.close(each)
                if pid > 0:
                    jobs[pid], children[reports.fileno()] = reports, pid
                    poll.register(reports.fileno(), select.POLLIN)
                    _send(reports, b"p%d" % pid)
            elif descriptor in children:  # its judge spoke or went away
                with contextlib.suppress(OSError):  # read, or closing ours would undo what we reported
                    jobs[children[descriptor]].recv(64)
                _kill(children[descriptor])
                poll.unregister(descriptor)
        for pid, report in _ended():
            if pid in jobs:  # not an orphan that a compiler left
                over = jobs.pop(pid)
                _send(over, report)
                del children[over.fileno()]
                with contextlib.suppress(KeyError):
                    poll.unregister(over.fileno())
                over.close()


def _ended() -> list[tuple[int, bytes]]:
    """Children that ended; their place in the process table is held until all that can be read of them is read."""
    found: list[tuple[int, bytes]] = []
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
        if info is None:
            return found
        pid = info.si_pid
        waited = 0
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat", "rb") as stat:
            waited = int(stat.read().split()[1])
        _kill_group(pid)
        _, status, used = os.wait4(pid, 0)
        found.append((pid, b"d" + DONE.pack(status, used.ru_utime, used.ru_stime, used.ru_maxrss, waited)))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    """What a compiler started: a group of its own, which nobody in it may leave. Others have no group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _send(reports: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):  # the other end is closed
        reports.send(message)


# ---- the child -------------------------------------------------------------------------------------------------------


def _child(descriptors: list[int], reports: socket.socket, closed: Any) -> NoReturn:
    """Set the fence and run. Nothing of the program is looked at before, but its limits."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job, *descriptors = descriptors
        order = marshal.loads(os.pread(job, os.lseek(job, 0, os.SEEK_END), 0))
        if order["extra"]:  # what is handed as 3, 4, ... would take the socket's number
            reports = socket.socket(fileno=fcntl.fcntl(reports.fileno(), fcntl.F_DUPFD_CLOEXEC, fence.NUM_DESCRIPTORS))
        kind, server = order["kind"], os.getppid()
        is_wrapped = kind == "tool" and closed is not None and not closed.version
        if is_wrapped:
            order["args"] = fence.wrapped(order["bubblewrap"], order["box"], order["read"], order["args"])
        _descriptors(descriptors, binary=kind == "binary")
        if kind == "binary" and _loaded_bytes(fence.EXEC_FD) > order["memory"]:
            raise MemoryError("its data")  # its exec would die of a signal, as by a fault of its code
        fence.limit(cpu_seconds=order["cpu_seconds"], memory=order["memory"], file_bytes=order["file_bytes"])
        fence.limit_threads()
        if kind == "tool":
            os.setpgid(0, 0)
            os.chdir(order["box"])
            if closed is not None and closed.version:
                fence.files(order["box"], read=order["read"])
        elif closed is not None:
            closed.apply(may_exec=kind == "binary")
        if os.getppid() != server:  # it died before the kernel knew that we die with it
            os._exit(NOT_FENCED)
        if kind == "binary":  # the kernel counts the most before the exec too
            os.write(reports.fileno(), b"m%d" % resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    except BaseException as error:
        _send(reports, b"!" + f"{type(error).__name__}: {error}".encode()[:900])
        os._exit(NOT_FENCED)
    os.closerange(3 + order["extra"], fence.EXEC_FD)  # last: until here a step that failed could be reported
    os.closerange(fence.EXEC_FD + (kind == "binary" or is_wrapped), most_descriptors)
    if order["kind"] == "python":
        _python(order["source"], order)
    try:
        for which in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(which, signal.SIG_DFL)
        where = fence.EXEC_FD if order["kind"] == "binary" else order["args"][0]
        os.execve(where, order["args"], order["environment"])
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(126)


def _descriptors(descriptors: list[int], *, binary: bool) -> None:
    """stdin, stdout, stderr to 0, 1, 2, what follows to 3, 4, ...; a binary's own file to EXEC_FD, closed by its
    exec."""
    safe = [fcntl.fcntl(each, fcntl.F_DUPFD, fence.EXEC_FD + 1) for each in descriptors]
    own = safe.pop() if binary else None
    for number, each in enumerate(safe):
        os.dup2(each, number, inheritable=True)
    if own is not None:
        os.dup2(own, fence.EXEC_FD, inheritable=False)


def _loaded_bytes(binary: int) -> int:
    """What a program's own segments take of its address space, by its headers; 0 where it has none that we know."""
    head = os.pread(binary, 64, 0)
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return 0
    start, size, count = struct.unpack_from("=Q", head, 32)[0], *struct.unpack_from("=HH", head, 54)
    rows = (os.pread(binary, 56, start + size * row) for row in range(count))
    return sum(struct.unpack_from("=Q", row, 40)[0] for row in rows if len(row) == 56 and row[:4] == b"\1\0\0\0")


def _python(source: bytes, order: dict[str, Any]) -> NoReturn:
    """Run a program as `python program.py` does, to its exit code. Destructors of what is left then do not run."""
    code = 1
    try:
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=NAME, __builtins__=__builtins__)
        sys.modules["__main__"] = main
        sys.argv = [NAME, *order["args"]]
        random.seed(0)  # the module draws a new seed in every fork, and a program would not do the same thing twice
        if order["is_spoken_to"]:
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        linecache.cache[NAME] = (len(source), None, source.decode(errors="replace").splitlines(True), NAME)
        try:
            exec(compile(source, NAME, "exec", dont_inherit=True), main.__dict__)
            code = 0
        except SystemExit as stop:
            code = _exit_code(stop)
        except BaseException as error:
            _print(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
        threading._shutdown()  # type: ignore[attr-defined]  # other threads go on, as everywhere
        atexit._run_exitfuncs()
    except BaseException:
        code = code or 1
    try:
        sys.stdout.flush()
    except BaseException:
        code = code or 120
    with contextlib.suppress(BaseException):
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _print(error: BaseException) -> None:
    """As an interpreter does at the end, with the lines of the source, which no file has."""
    if sys.excepthook is sys.__excepthook__:
        with contextlib.suppress(Exception):  # no memory, or no stack, is left for more
            _shorten(error)
            traceback.print_exception(error)
            return
    sys.excepthook(type(error), error, error.__traceback__)


def _shorten(error: BaseException) -> None:
    """Leave its last frames and what it came from last: to show a million takes longer than the program may run."""
    each: BaseException | None = error
    for left in reversed(range(MOST_CAUSES)):
        assert each is not None
        last = ahead = each.__traceback__
        for _ in range(MOST_FRAMES):
            ahead = ahead and ahead.tb_next
        while ahead is not None and last is not None:
            last, ahead = last.tb_next, ahead.tb_next
        each.__traceback__ = last
        if not left:
            each.__cause__ = each.__context__ = None
        each = each.__cause__ or each.__context__
        if each is None:
            return


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return int(stop.code) & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


def _fstat(fstat: Any) -> Any:
    """os.fstat by the call that knows only descriptors; the library's asks by path, which the filter cannot look
    into."""
    layouts = {"x86_64": (5, "=QQQIIIIQqqqqqqqqq", (3, 1, 0, 2, 4, 5, 8, 11, 13, 15)),
               "aarch64": (80, "=QQIIIIQQqiiqqqqqqq", (2, 1, 0, 3, 4, 5, 8, 12, 14, 16))}  # fmt: skip
    if platform.system() != "Linux" or platform.machine() not in layouts:
        return fstat
    number, form, order = layouts[platform.machine()]
    syscall, shape = ctypes.CDLL(None, use_errno=True).syscall, struct.Struct(form)

    def replaced(fd: int) -> os.stat_result:
        buffer = ctypes.create_string_buffer(144)
        if syscall(ctypes.c_long(number), ctypes.c_long(fd), buffer) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        values = shape.unpack_from(buffer.raw)
        return os.stat_result(values[index] for index in order)

    return replaced


def prepare() -> None:
    """Load what programs import, then forget where it came from."""
    for name in MODULES:
        with contextlib.suppress(ImportError):  # an interpreter built without it
            importlib.import_module(name)
    os.fstat = _fstat(os.fstat)
    global most_descriptors
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most_descriptors = min(hard, 1 << 16) if hard > 0 else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_descriptors, hard))
    for name in [name for name in sys.modules if name.split(".")[0] == "ponder"]:
        del sys.modules[name]
    sys.path[:] = []
    sys.path_importer_cache.clear()
    os.chdir("/")
    os.umask(0o077)
    os.environ.clear()
    time.tzset()
    with contextlib.suppress(OSError):
        path = "/proc/self/oom_score_adj"
        with open(path, "w") as score:  # if memory runs out, programs go first
            score.write("1000")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from ponder.sandbox import fence

    prepare()
    try:
        serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]) if sys.argv[2] != "unfenced" else None)
    finally:
        for each in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else []:
            with open(f"/proc/self/task/{each}/children") as left:
                for pid in left.read().split():
                    _kill(int(pid))
        os._exit(0)
