"""The filter says what its rules say, on both architectures: run here in a small machine, on every number."""

import errno
import re
import struct
from pathlib import Path

import pytest

from ponder.sandbox import fence
from ponder.sandbox.filters import (
    ABSENT,
    ALLOW,
    AUDIT,
    EXEC_FD,
    FAKE,
    KILL,
    REFUSE,
    X32,
    Arg,
    build,
    closed_filter,
    closed_rules,
    files_filter,
    files_rules,
)  # fmt: skip
from ponder.sandbox.syscalls import NEWEST, NUMBERS

MACHINES = sorted(NUMBERS)
OWN = 4711
HEADERS = {"x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")}


def judge(program: bytes, machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """Classic BPF, as the kernel runs it, on one system call."""
    data = struct.pack("=IIQ6Q", number, AUDIT[machine] if audit is None else audit, 0,
                       *[each % (1 << 64) for each in (*arguments, *[0] * (6 - len(arguments)))])  # fmt: skip
    code = [struct.unpack_from("=HBBI", program, 8 * i) for i in range(len(program) // 8)]
    accumulator = place = 0
    for _ in range(len(code)):  # it only jumps forward
        what, true, false, k = code[place]
        place += 1
        if what == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif what == 0x54:
            accumulator &= k
        elif what == 0x05:
            place += k
        elif what == 0x15:
            place += true if accumulator == k else false
        elif what == 0x35:
            place += true if accumulator >= k else false
        else:
            assert what == 0x06
            return k
    raise AssertionError("it does not end")


def closed(machine, **more):
    return closed_filter(machine, **more).pack(OWN)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rules", [closed_rules(), closed_rules(may_exec=True), files_rules()], ids=["c", "x", "f"])
def test_every_number_gets_what_its_rule_says(machine, rules):
    program = build(machine, rules).pack(OWN)
    by_number = {NUMBERS[machine][name]: rule for name, rule in rules.items() if name in NUMBERS[machine]}
    for number in range(NEWEST + 60):
        rule = by_number.get(number, REFUSE if number <= NEWEST else ABSENT)
        if isinstance(rule, int):
            assert judge(program, machine, number) == rule, number
            continue
        good = [0] * 6
        for arg in rule:
            ours = OWN if arg.values[-1] == -1 else arg.values[-1]
            good[arg.index] = ours if arg.is_in else max(arg.values) + 1
        assert judge(program, machine, number, *good) == ALLOW, (number, good)
        for arg in rule:
            bad = list(good)
            bad[arg.index] = 0x7EADBEE0 | arg.mask & 0x40000 if arg.is_in else arg.values[0]
            assert judge(program, machine, number, *bad) == REFUSE, (number, bad)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_the_own_process_can_be_signalled_and_never_with_kill(machine):
    number = NUMBERS[machine]
    for call, before in (("kill", 0), ("tgkill", 1)):
        for pid in (OWN, 0, 1, -1, -OWN, OWN + 1):
            for signal in (0, 6, 9, 15):
                arguments = (pid, *([pid] * before), signal)
                allowed = judge(closed(machine), machine, number[call], *arguments) == ALLOW
                assert allowed == (pid == OWN and signal != 9), (call, pid, signal)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_thread_is_allowed_and_a_process_or_namespace_is_not(machine):
    clone = NUMBERS[machine]["clone"]
    thread = 0x3D0F00
    assert judge(closed(machine), machine, clone, thread) == ALLOW
    for flags in (17, 0, 0x4111, 0x01200011, thread | 0x10000000, thread | 0x20000, thread & ~0x10000, 0x7E020000 | 17):
        assert judge(closed(machine), machine, clone, flags) == REFUSE, hex(flags)
    assert judge(closed(machine), machine, NUMBERS[machine]["clone3"]) == ABSENT
    compilers = files_filter(machine).pack(OWN)
    assert judge(compilers, machine, clone, 0x01200011) == ALLOW
    assert judge(compilers, machine, clone, 0x10000000 | 17) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
def test_other_architectures_are_killed(machine):
    for audit in {AUDIT["x86_64"], AUDIT["aarch64"], 0x40000003, 0x40000028, 0} - {AUDIT[machine]}:
        for number in (0, 1, NUMBERS[machine]["exit"]):
            assert judge(closed(machine), machine, number, audit=audit) == KILL
    if machine == "x86_64":
        for number in (X32, X32 + 1, X32 + 521, 0xFFFFFFFF):
            assert judge(closed(machine), machine, number) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_what_reaches_out_is_refused_in_both_levels(machine):
    out = """socket socketpair connect bind sendto sendmsg recvmsg ptrace process_vm_readv process_vm_writev pidfd_open
    pidfd_getfd pidfd_send_signal tkill rt_sigqueueinfo memfd_create userfaultfd io_uring_setup bpf perf_event_open
    keyctl add_key unshare setns mount chroot shmget msgget mq_open setuid setresuid capset seccomp sched_setaffinity
    setpriority setsid setpgid splice vmsplice open_by_handle_at timer_create timerfd_create inotify_init1 kexec_load
    mknod mknodat symlink symlinkat link linkat setxattr landlock_restrict_self mlock modify_ldt openat2
    process_madvise""".split()
    for program in (closed(machine), closed(machine, may_exec=True), files_filter(machine).pack(OWN)):
        for name in out:
            if name in NUMBERS[machine]:
                assert judge(program, machine, NUMBERS[machine][name], 0, 0, 0, 0, 0) == REFUSE, name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_closed_level_has_no_path_and_no_new_program(machine):
    names = """open openat creat stat newfstatat statx access faccessat readlink unlinkat execve execveat fork vfork
    wait4 pipe2 getdents64 chdir chmod fchmod""".split()
    for name in names:
        if name in NUMBERS[machine]:
            assert judge(closed(machine), machine, NUMBERS[machine][name], -100, 0, 0, 0, 0x1000) == REFUSE, name


@pytest.mark.parametrize("machine", MACHINES)
def test_a_program_file_is_executed_by_its_descriptor_alone(machine):
    exec_, execveat = closed(machine, may_exec=True), NUMBERS[machine]["execveat"]
    assert judge(exec_, machine, execveat, EXEC_FD, 0, 0, 0, 0x1000) == ALLOW
    assert judge(exec_, machine, execveat, EXEC_FD, 0, 0, 0, 0) == REFUSE
    assert judge(exec_, machine, execveat, 0, 0, 0, 0, 0x1000) == REFUSE
    assert judge(exec_, machine, NUMBERS[machine]["execve"]) == REFUSE
    assert EXEC_FD >= fence.NUM_DESCRIPTORS  # so that nobody can give it a file again


@pytest.mark.parametrize("machine", MACHINES)
def test_compilers_believe_that_they_set_modes(machine):
    compilers = files_filter(machine).pack(OWN)
    for name in ("chmod", "fchmod", "fchmodat", "utimensat", "fchownat"):
        if name in NUMBERS[machine]:
            assert judge(compilers, machine, NUMBERS[machine][name]) == FAKE


def test_huge_pages_clocks_of_others_owners_of_pipes_and_own_limits_of_time_are_refused():
    for machine in MACHINES:
        number = NUMBERS[machine]
        for call, arguments, allowed in (
            ("mmap", (0, 4096, 3, 0x22), True), ("mmap", (0, 1 << 21, 3, 0x40022), False),
            ("clock_gettime", (2,), True), ("clock_gettime", ((~OWN << 3) | 2,), False),
            ("fcntl", (0, 3), True), ("fcntl", (0, 8, 1), False), ("fcntl", (0, 10, 9), False),
            ("ioctl", (0, 0x5401), True), ("ioctl", (0, 0x5412), False), ("prctl", (15,), True), ("prctl", (1,), False),
            ("prlimit64", (0, 7), True), ("prlimit64", (OWN, 3), True), ("prlimit64", (1, 7), False),
            ("prlimit64", (0, 0), False), ("setrlimit", (0,), False), ("setrlimit", (3,), True),
        ):  # fmt: skip
            assert (judge(closed(machine), machine, number[call], *arguments) == ALLOW) == allowed, (call, arguments)


def test_a_search_too_wide_for_a_byte_jumps_far():
    names = {name: Arg(0, tuple(range(1, 9))) for name in NUMBERS["x86_64"]}
    wide = build("x86_64", {name: (arg,) for name, arg in names.items()})
    assert len(wide.instructions) > 2_000
    for name, number in NUMBERS["x86_64"].items():
        assert judge(wide.pack(OWN), "x86_64", number, 3) == ALLOW, name
        assert judge(wide.pack(OWN), "x86_64", number, 0) == REFUSE, name


def test_filters_are_within_what_the_kernel_takes():
    for machine in MACHINES:
        for filter in (closed_filter(machine), closed_filter(machine, may_exec=True), files_filter(machine)):
            assert len(filter.instructions) < 4_096
            assert all(t < 256 and f < 256 for _, t, f, _ in filter.instructions)
            assert len(filter.own_places) == 6


def test_the_numbers_are_the_kernel_headers():
    for machine, header in HEADERS.items():
        if header.exists():
            found = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
            assert {name: int(found[name]) for name in NUMBERS[machine]} == NUMBERS[machine]
    assert len(set(NUMBERS["aarch64"].values())) == len(NUMBERS["aarch64"])


def test_without_a_fence_the_refusal_names_the_fix():
    facts = {"system": "Linux", "machine": "x86_64", "kernel": "6.1", "has_filter": True, "landlock": 3,
             "has_namespaces": False, "is_root": False, "bubblewrap": ""}  # fmt: skip
    assert fence.FenceFacts(**facts).problem == ""
    assert fence.FenceFacts(**facts).level == "closed filter + landlock 3"
    assert fence.FenceFacts(**facts | {"landlock": 0}).level == "closed filter"
    for change in ({"system": "Darwin"}, {"system": "Windows"}, {"machine": "riscv64"}, {"has_filter": False}):
        found = fence.FenceFacts(**facts | change)
        assert "--unfenced" in found.problem
        assert found.level == "none"


def test_errno_of_the_refusals():
    assert REFUSE & 0xFFFF == errno.EPERM
    assert ABSENT & 0xFFFF == errno.ENOSYS
