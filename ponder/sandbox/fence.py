"""The fence: what the kernel is told to refuse to this process from now on. Nothing here can be undone, by anybody.

    probe().level                        "closed filter + landlock 7 + own user"
    closed = Closed("x86_64", 7)         # once, in a server: the filter and the Landlock rules are built here
    closed.apply(limits)                 # in a fork of it: from here on nothing can be opened, started or reached
    files(box, read=SYSTEM)              # in a child that will exec a compiler: system read-only, one folder of its own

The order matters: descriptors, limits, Landlock, user and capabilities, filter last; Landlock set after the filter
could not open its paths. Every step that fails raises, and then nothing may be run. Linux on x86-64 and arm64; ctypes
only. The filter alone closes the closed level, so Landlock is a second layer there; it is the first for compilers, with
bubblewrap where that works. Not covered: errors of the kernel, and what can be learnt from times and caches.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ponder.sandbox.filters import EXEC_FD, Filter, closed_filter, files_filter
from ponder.sandbox.syscalls import NUMBERS

SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/alternatives", "/etc/ld.so.cache")
OWN_UID = 0x70000000  # plus the process's number: a user nobody else is, where the caller is root
NUM_DESCRIPTORS = 64
NUM_THREADS = 256

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 24, 38, 22
# Landlock: rights by the version that knows them
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_READ, _WRITE = 0b1101, (1 << 15) - 1 - (1 << 6 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 10)  # no devices, sockets, links


class FenceError(RuntimeError):
    """No fence can be set here, or one of its steps failed. Then nothing is run."""


@dataclass(frozen=True, kw_only=True)
class FenceFacts:
    """What the fence can use on this machine."""

    system: str
    machine: str
    kernel: str
    has_filter: bool
    landlock: int  # its version; 0 = none
    has_namespaces: bool  # this user may make user namespaces
    is_root: bool
    bubblewrap: str  # its path if it works here, else ""

    @property
    def problem(self) -> str:
        """Why there is no fence here, and the fix; "" where there is one."""
        fix = "use Linux 4.14 or newer (a container or virtual machine will do), or run without: ponder --unfenced ..."
        if self.system != "Linux":
            return f"no fence on {self.system}: {fix}; only programs that you would run yourself"
        if self.machine not in NUMBERS:
            return f"no fence on {self.machine}: the filter is known for {', '.join(NUMBERS)}; {fix}"
        if not self.has_filter:
            return f"this kernel ({self.kernel}) or container refuses seccomp filters: {fix}"
        return ""

    @property
    def level(self) -> str:
        """For every result."""
        if self.problem:
            return "none"
        parts = ["closed filter", f"landlock {self.landlock}" if self.landlock else "", "own user" * self.is_root]
        return " + ".join(part for part in parts if part)


def probe() -> FenceFacts:
    """Look, without setting anything."""
    system, machine = platform.system(), platform.machine()
    known = system == "Linux" and machine in NUMBERS
    bubblewrap = shutil.which("bwrap") or "" if known else ""
    return FenceFacts(
        system=system, machine=machine, kernel=platform.release(),
        has_filter=known and _error(_call(machine, "seccomp", 1, 0, 0)) == 14,  # EFAULT: it went to read the filter
        landlock=max(0, _call(machine, "landlock_create_ruleset", 0, 0, 1)) if known else 0,
        has_namespaces=known and _works(
            [real_python(), "-I", "-S", "-c",
             "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000))"]
        ),
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        bubblewrap=bubblewrap if bubblewrap and _works([bubblewrap, *WRAPPED, "true"]) else "",
    )  # fmt: skip


# every namespace of its own, the system read-only, nothing else of the file system; dies with its parent
WRAPPED = (
    "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
    "--ro-bind", "/usr", "/usr",
    "--ro-bind-try", "/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64", "--ro-bind-try", "/bin", "/bin",
    "--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--dev", "/dev",
)  # fmt: skip


def real_python() -> str:
    """The interpreter itself: a version manager's shim in its place takes a tenth of a second, every time."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


# ---- system calls ----------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_long = ctypes.c_long


def _call(machine: str, name: str, *arguments: int) -> int:
    return int(_libc.syscall(_long(NUMBERS[machine][name]), *map(_long, arguments)))


def _error(result: int) -> int:
    return ctypes.get_errno() if result < 0 else 0


def _must(what: str, result: int) -> int:
    if result < 0:
        raise FenceError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, value: int, address: int = 0) -> int:
    return int(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), ctypes.c_ulong(address), _long(0), _long(0)))


# ---- the steps -------------------------------------------------------------------------------------------------------


def limit(*, cpu_seconds: float, memory: int, file_bytes: int = 0, descriptors: int = NUM_DESCRIPTORS) -> None:
    """Hard limits; `memory` in bytes of address space."""
    seconds = int(cpu_seconds) + 1  # a backstop: whoever waits for us reads the exact time
    for which, value in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_NOFILE, descriptors),
        (resource.RLIMIT_CORE, 1),  # 1, not 0: a handler that the kernel pipes cores into is started even at 0
        (resource.RLIMIT_MEMLOCK, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))  # the address space bounds it
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (ValueError, OSError):
        if sys.platform == "linux":  # others do not know it; they have no fence either
            raise


def limit_threads() -> None:
    """Of this user, so that nobody can use up the numbers of processes. Root's children become users of their own, of
    whom
    there is one process; a plain user's share theirs with all else that runs, so their limit lies above what there
    is."""
    most = NUM_THREADS
    if os.geteuid() != 0:
        with open("/proc/loadavg", "rb") as load:
            most = 1_024 + int(load.read().split()[3].partition(b"/")[2])
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def drop_bounding_set() -> None:
    """No exec of this process and its children will gain a capability."""
    for capability in range(64):
        if _prctl(_PR_CAPBSET_DROP, capability) < 0:
            return  # past the last one, or not ours to drop: then no_new_privs holds alone


_capability_header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
_no_capabilities = ctypes.create_string_buffer(24)
_CAPSET = ctypes.addressof(_capability_header), ctypes.addressof(_no_capabilities)


def _drop_capabilities(machine: str) -> None:
    _must("capset", _call(machine, "capset", *_CAPSET))


def become_nobody() -> bool:
    """Root only: a user that nothing else on this machine has. False where the namespace has no such user."""
    own = OWN_UID + os.getpid()
    try:
        os.setgroups([])
        os.setresgid(own, own, own)
        os.setresuid(own, own, own)
    except OSError:
        return False
    return True


def _ruleset(machine: str, version: int) -> int:
    """A Landlock ruleset that refuses all it knows: a descriptor."""
    rights = sum(bits for since, bits in _RIGHTS.items() if since <= version)
    attributes = struct.pack("=QQQ", rights, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    buffer = ctypes.create_string_buffer(attributes)
    return _must("landlock", _call(machine, "landlock_create_ruleset", ctypes.addressof(buffer), size, 0))


def _allow(machine: str, version: int, ruleset: int, path: str, rights: int) -> None:
    rights &= sum(bits for since, bits in _RIGHTS.items() if since <= version)
    if not os.path.isdir(path):
        rights &= 0b111 | 1 << 14 | 1 << 15  # what a file has: execute, write, read, truncate
    where = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        buffer = ctypes.create_string_buffer(struct.pack("=Qi", rights, where))
        _must(f"landlock {path}", _call(machine, "landlock_add_rule", ruleset, 1, ctypes.addressof(buffer), 0))
    finally:
        os.close(where)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


class _Loaded:
    """A filter as the kernel takes it."""

    def __init__(self, filter: Filter) -> None:
        code = filter.pack(0)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._places = filter.own_places
        self._program = _Program(len(filter.instructions), ctypes.addressof(self._code))
        self._address = ctypes.addressof(self._program)

    def set(self, own_pid: int) -> None:
        for offset in self._places:
            struct.pack_into("=I", self._code, offset, own_pid)
        _must("seccomp", _prctl(_PR_SET_SECCOMP, 2, self._address))


def _out_of_the_way(descriptor: int) -> int:
    """The same at a number that is not overwritten by what a program is handed as 3, 4, ..."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, NUM_DESCRIPTORS)
    os.close(descriptor)
    return moved


class Closed:
    """The closed level, built once and set in every fork."""

    def __init__(self, machine: str, version: int) -> None:
        self.machine, self.version = machine, version
        self.ruleset = _out_of_the_way(_ruleset(machine, version)) if version else -1
        self._filter, self._filter_exec = (_Loaded(closed_filter(machine, may_exec=exec_)) for exec_ in (False, True))

    def apply(self, *, may_exec: bool = False) -> None:
        """The limits are set. Nothing can be opened afterwards, so what is still open is the caller's to close."""
        _must("no_new_privs", _prctl(_PR_SET_NO_NEW_PRIVS, 1))
        if self.version:
            _must("landlock", _call(self.machine, "landlock_restrict_self", self.ruleset, 0))
        else:
            drop_bounding_set()
        if os.geteuid() == 0:
            become_nobody()
        _drop_capabilities(self.machine)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        (self._filter_exec if may_exec else self._filter).set(os.getpid())


def files(box: str | None, *, read: Sequence[str] = SYSTEM) -> None:
    """For what is exec'ed next, a compiler or a judge's own tool: reads `read`, writes below `box`, no network, no
    signal to others. Needs Landlock; where there is none, bubblewrap has to be around."""
    machine = platform.machine()
    version = max(0, _call(machine, "landlock_create_ruleset", 0, 0, 1))
    if not version:
        raise FenceError("compilers need Landlock (Linux 5.13) or bubblewrap (apt-get install bubblewrap)")
    _must("no_new_privs", _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    ruleset = _ruleset(machine, version)
    for path in read:
        if os.path.exists(path):
            _allow(machine, version, ruleset, os.path.realpath(path), _READ)
    _allow(machine, version, ruleset, "/dev/null", 0b110 | 1 << 14)
    if box is not None:
        _allow(machine, version, ruleset, box, _READ | _WRITE)
    _must("landlock", _call(machine, "landlock_restrict_self", ruleset, 0))
    os.close(ruleset)
    _drop_capabilities(machine)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _Loaded(files_filter(machine)).set(os.getpid())


def wrapped(bubblewrap: str, box: str, read: Sequence[str], command: Sequence[str]) -> list[str]:
    """The command inside bubblewrap, without Landlock: mounts and namespaces in its place, the same filter."""
    if not bubblewrap:
        raise FenceError("compilers need Landlock (Linux 5.13) or bubblewrap (apt-get install bubblewrap)")
    code = files_filter(platform.machine()).pack(own_pid=0x7FFFFFFF)  # a signal can be sent to nobody
    descriptor = os.memfd_create("filter")
    os.pwrite(descriptor, code, 0)
    os.dup2(descriptor, EXEC_FD, inheritable=True)
    shown = [part for path in read if path not in SYSTEM for part in ("--ro-bind-try", path, path)]
    place = ["--bind", box, box, "--chdir", box, "--setenv", "TMPDIR", box, "--setenv", "PATH", "/usr/bin:/bin"]
    return [bubblewrap, *WRAPPED, *shown, *place, "--seccomp", str(EXEC_FD), "--", *command]
