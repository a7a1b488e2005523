"""What the kernel asks before every system call: small programs for its filter machine (classic BPF), built by pure
code.

    program = closed_filter("x86_64")                 # a Filter: about 200 instructions
    program.pack(own_pid=4711)                        # the bytes that seccomp(2) takes

A level is an allow-list: name -> what becomes of the call. Everything else fails with EPERM; a call newer than the
table fails with ENOSYS, as on an older kernel, so that libraries fall back; another architecture's numbers and x32's
kill. Numbers are found by binary search, since the kernel runs the filter for every call, and once for each number when
it is set.

Conditions compare the low 32 bits of an argument: the kernel reads those arguments as 32-bit numbers. Arguments that
are addresses cannot be looked into, so a call whose meaning lies in memory (clone3, openat by path) is refused or
allowed as a whole.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ponder.sandbox.syscalls import CLOSED, FAKED, FILES, NEWEST, NUMBERS

Machine = Literal["x86_64", "aarch64"]
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # how the kernel calls the architectures
X32 = 0x40000000  # set in the number of an x32 call, which has x86-64's architecture

KILL, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
REFUSE, ABSENT, FAKE = ERROR | errno.EPERM, ERROR | errno.ENOSYS, ERROR  # ERROR with 0 returns 0: "done"
EXEC_FD = 1_000  # above every limit on descriptors: after the exec closed it, none can have this number again

_LOAD, _EQUAL, _AT_LEAST, _AND, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x05, 0x06
_OWN = -1  # stands for the number of the process that sets the filter


@dataclass(frozen=True)
class Arg:
    """Argument `index`, cut by `mask`, is one of `values`; with `is_in=False` none of them."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_in: bool = True


Rule = int | tuple[Arg, ...]  # what to return; or ALLOW if all hold, else REFUSE

_CLONE_THREAD = (0x3D0F00, 0x7D0F00)  # exactly what glibc and musl ask of a thread; no namespace, no process
_FCNTL = (0, 1, 2, 3, 4, 1030)  # DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC: no owner, no lease, no pipe size
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, GWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_CLOCKS = tuple(range(12))  # the others are clocks of other processes
_CONDITIONS: dict[str, Rule] = {
    "clone": (Arg(0, _CLONE_THREAD),),
    "clone3": ABSENT,  # its flags lie in memory; libraries fall back to clone
    "kill": (Arg(0, (_OWN,)), Arg(1, (9,), is_in=False)),  # so a death by 9 came from outside
    "tgkill": (Arg(0, (_OWN,)), Arg(2, (9,), is_in=False)),
    "prlimit64": (Arg(0, (0, _OWN)), Arg(1, (0,), is_in=False)),  # not RLIMIT_CPU: it ends in a SIGKILL too
    "setrlimit": (Arg(0, (0,), is_in=False),),
    "sched_getaffinity": (Arg(0, (0, _OWN)),),
    "getpgid": (Arg(0, (0, _OWN)),),
    "getsid": (Arg(0, (0, _OWN)),),
    "fcntl": (Arg(1, _FCNTL),),
    "ioctl": (Arg(1, _IOCTL),),
    "prctl": (Arg(0, (15, 16)),),  # the thread's name
    "mmap": (Arg(3, (0,), 0x40000),),  # no huge pages: they are reserved for others
    "clock_gettime": (Arg(0, _CLOCKS),),
    "clock_getres": (Arg(0, _CLOCKS),),
    "clock_nanosleep": (Arg(0, _CLOCKS),),
}
_EXEC: dict[str, Rule] = {"execveat": (Arg(0, (EXEC_FD,)), Arg(4, (0x1000,)))}  # AT_EMPTY_PATH: this file itself
_FORKS = (0x00000011, 0x01200011, 0x00004111)  # fork, and vfork and posix_spawn of glibc, exactly
_COMPILERS: dict[str, Rule] = {
    "clone": (Arg(0, (*_CLONE_THREAD, *_FORKS)),),
    "fcntl": (Arg(1, (*_FCNTL, 5, 6, 7)),),  # and locks of files
}


@dataclass(frozen=True)
class Filter:
    """Instructions (code, jump if true, jump if false, constant); a constant below 0 is the own process's number."""

    instructions: tuple[tuple[int, int, int, int], ...]

    def pack(self, own_pid: int) -> bytes:
        """8 bytes an instruction, in the machine's byte order. own_pid: of the process that sets the filter."""
        return b"".join(struct.pack("=HBBI", a, t, f, own_pid if k == _OWN else k) for a, t, f, k in self.instructions)

    @property
    def own_places(self) -> list[int]:
        """Where, in the packed bytes, the own process's number stands."""
        return [8 * i + 4 for i, (_, _, _, k) in enumerate(self.instructions) if k == _OWN]


def closed_rules(*, may_exec: bool = False) -> dict[str, Rule]:
    """No file, socket, process or signal but its own. `may_exec`: once, the file at EXEC_FD."""
    return {name: ALLOW for name in CLOSED} | _CONDITIONS | (_EXEC if may_exec else {})


def files_rules() -> dict[str, Rule]:
    """For compilers: files and processes too; which files is said by Landlock or mounts. No network, no signal to
    others."""
    return closed_rules() | {name: ALLOW for name in FILES} | {name: FAKE for name in FAKED} | _COMPILERS


def closed_filter(machine: str, *, may_exec: bool = False) -> Filter:
    """The filter of `closed_rules`. machine: a key of `NUMBERS`."""
    return build(machine, closed_rules(may_exec=may_exec))


def files_filter(machine: str) -> Filter:
    """The filter of `files_rules`, for compilers. machine: a key of `NUMBERS`."""
    return build(machine, files_rules())


def build(machine: str, rules: Mapping[str, Rule]) -> Filter:
    """The program of these rules. Names that the architecture lacks are left out."""
    numbers = NUMBERS[machine]
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, AUDIT[machine]), (_RETURN, 0, 0, KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, X32), (_RETURN, 0, 0, KILL)]
    by_number = {numbers[name]: rule for name, rule in rules.items() if name in numbers}
    ranges = [(0, by_number.get(0, REFUSE))]
    for number in range(1, NEWEST + 1):  # one entry where the answer changes
        rule = by_number.get(number, REFUSE)
        if rule != ranges[-1][1] or isinstance(rule, tuple):
            ranges.append((number, rule))
    return Filter((*code, *_search([*ranges, (NEWEST + 1, ABSENT)])))


def _search(ranges: Sequence[tuple[int, Rule]]) -> list[tuple[int, int, int, int]]:
    """A binary search for the range that holds the number, with what to do at its leaves."""
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    if len(low) <= 255:
        return [(_AT_LEAST, len(low), 0, first), *low, *high]
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(low)), *low, *high]  # further than a byte can say


def _leaf(rule: Rule) -> list[tuple[int, int, int, int]]:
    if isinstance(rule, int):
        return [(_RETURN, 0, 0, rule)]
    code: list[tuple[int, int, int, int]] = []
    for arg in rule:
        code.append((_LOAD, 0, 0, 16 + 8 * arg.index))
        if arg.mask != 0xFFFFFFFF:
            code.append((_AND, 0, 0, arg.mask))
        count = len(arg.values)
        # a value that is met jumps over what is left and one instruction more: the refusal, or the jump over it
        code += [(_EQUAL, count - i, 0, value) for i, value in enumerate(arg.values)]
        code += [(_RETURN, 0, 0, REFUSE)] if arg.is_in else [(_JUMP, 0, 0, 1), (_RETURN, 0, 0, REFUSE)]
    return [*code, (_RETURN, 0, 0, ALLOW)]
