"""System calls by name: their numbers on two architectures, and what each level of the fence lets through.

    NUMBERS["x86_64"]["openat"], NUMBERS["aarch64"]["openat"]      257, 56

`CLOSED` computes, reads and writes what it was handed, and nothing else: it opens nothing, starts nothing, reaches
nobody. `FILES` adds what compilers need; Landlock or bubblewrap says which files. `FAKED` say that they worked and do
nothing: Landlock knows no modes, owners and times, and a linker wants to set them. Calls with conditions stand in
`filters.py`. What stands in no list is refused; the numbers of some of those are here for the tests that try them.
"""

from __future__ import annotations

CLOSED = """
read write readv writev pread64 pwrite64 lseek close close_range fstat dup dup2 dup3 mprotect munmap mremap
madvise brk rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
poll ppoll select pselect6 nanosleep gettimeofday time times getrusage getitimer setitimer alarm pause getpid
gettid getppid getuid geteuid getgid getegid getpgrp getpgid getsid getgroups getresuid getresgid uname getcwd
getrandom sched_yield sched_getaffinity futex set_robust_list set_tid_address rseq restart_syscall arch_prctl
exit exit_group getrlimit
""".split()

FILES = """
open openat creat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents
getdents64 chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 truncate ftruncate
fallocate fadvise64 fsync fdatasync copy_file_range sendfile statfs fstatfs pipe pipe2 fork vfork execve wait4
waitid umask sysinfo flock getpriority sched_getparam sched_getscheduler membarrier
""".split()

FAKED = """
chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat futimesat
""".split()

# name, number on x86-64, number on arm64; "-" where an architecture has none
_TABLE = """
access 21 -, acct 163 89, add_key 248 217, alarm 37 -, arch_prctl 158 -, bind 49 200, bpf 321 280, brk 12 214,
capset 126 91, chdir 80 49, chmod 90 -, chown 92 -, chroot 161 51, clock_getres 229 114, clock_gettime 228 113,
clock_nanosleep 230 115, clone 56 220, clone3 435 435, close 3 57, close_range 436 436, connect 42 203,
copy_file_range 326 285, creat 85 -, dup 32 23, dup2 33 -, dup3 292 24, epoll_create1 291 20, eventfd2 290 19,
execve 59 221, execveat 322 281, exit 60 93, exit_group 231 94, faccessat 269 48, faccessat2 439 439,
fadvise64 221 223, fallocate 285 47, fanotify_init 300 262, fchdir 81 50, fchmod 91 52, fchmodat 268 53,
fchown 93 55, fchownat 260 54, fcntl 72 25, fdatasync 75 83, finit_module 313 273, flock 73 32, fork 57 -,
fstat 5 80, fstatfs 138 44, fsync 74 82, ftruncate 77 46, futex 202 98, futimesat 261 -, getcwd 79 17,
getdents 78 -, getdents64 217 61, getegid 108 177, geteuid 107 175, getgid 104 176, getgroups 115 158,
getitimer 36 102, getpgid 121 155, getpgrp 111 -, getpid 39 172, getppid 110 173, getpriority 140 141,
getrandom 318 278, getresgid 120 150, getresuid 118 148, getrlimit 97 163, getrusage 98 165, getsid 124 156,
gettid 186 178, gettimeofday 96 169, getuid 102 174, init_module 175 105, inotify_init1 294 26,
io_uring_enter 426 426, io_uring_register 427 427, io_uring_setup 425 425, ioctl 16 29, ioperm 173 -, iopl 172 -,
ioprio_set 251 30, kcmp 312 272, kexec_load 246 104, keyctl 250 219, kill 62 129, landlock_add_rule 445 445,
landlock_create_ruleset 444 444, landlock_restrict_self 446 446, lchown 94 -, link 86 -, linkat 265 37, lseek 8 62,
lstat 6 -, madvise 28 233, mbind 237 235, membarrier 324 283, memfd_create 319 279, memfd_secret 447 447,
migrate_pages 256 238, mkdir 83 -, mkdirat 258 34, mknod 133 -, mknodat 259 33, mlock 149 228, mlockall 151 230,
mmap 9 222, modify_ldt 154 -, mount 165 40, move_pages 279 239, mprotect 10 226, mq_open 240 180, mremap 25 216,
msgget 68 186, munmap 11 215, name_to_handle_at 303 264, nanosleep 35 101, newfstatat 262 79, open 2 -,
open_by_handle_at 304 265, openat 257 56, openat2 437 437, pause 34 -, perf_event_open 298 241, personality 135 92,
pidfd_getfd 438 438, pidfd_open 434 434, pidfd_send_signal 424 424, pipe 22 -, pipe2 293 59, pivot_root 155 41,
poll 7 -, ppoll 271 73, prctl 157 167, pread64 17 67, prlimit64 302 261, process_madvise 440 440,
process_vm_readv 310 270, process_vm_writev 311 271, pselect6 270 72, ptrace 101 117, pwrite64 18 68,
quotactl 179 60, read 0 63, readlink 89 -, readlinkat 267 78, readv 19 65, reboot 169 142, recvmsg 47 212,
rename 82 -, renameat 264 38, renameat2 316 276, request_key 249 218, restart_syscall 219 128, rmdir 84 -,
rseq 334 293, rt_sigaction 13 134, rt_sigpending 127 136, rt_sigprocmask 14 135, rt_sigqueueinfo 129 138,
rt_sigreturn 15 139, rt_sigsuspend 130 133, rt_sigtimedwait 128 137, rt_tgsigqueueinfo 297 240,
sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120, sched_setaffinity 203 122,
sched_setscheduler 144 119, sched_yield 24 124, seccomp 317 277, select 23 -, semget 64 190, sendfile 40 71,
sendmsg 46 211, sendto 44 206, set_robust_list 273 99, set_tid_address 218 96, setgid 106 144, setgroups 116 159,
sethostname 170 161, setitimer 38 103, setns 308 268, setpgid 109 154, setpriority 141 140, setresuid 117 147,
setrlimit 160 164, setsid 112 157, setuid 105 146, setxattr 188 5, shmat 30 196, shmctl 31 195, shmget 29 194,
sigaltstack 131 132, signalfd4 289 74, socket 41 198, socketpair 53 199, splice 275 76, stat 4 -, statfs 137 43,
statx 332 291, swapon 167 224, symlink 88 -, symlinkat 266 36, sysinfo 99 179, syslog 103 116, tee 276 77,
tgkill 234 131, time 201 -, timer_create 222 107, timerfd_create 283 85, times 100 153, tkill 200 130,
truncate 76 45, umask 95 166, umount2 166 39, uname 63 160, unlink 87 -, unlinkat 263 35, unshare 272 97,
userfaultfd 323 282, utime 132 -, utimensat 280 88, utimes 235 -, vfork 58 -, vmsplice 278 75, wait4 61 260,
waitid 247 95, write 1 64, writev 20 66
"""

NUMBERS: dict[str, dict[str, int]] = {
    machine: {row.split()[0]: int(row.split()[column]) for row in _TABLE.split(",") if row.split()[column] != "-"}
    for machine, column in (("x86_64", 1), ("aarch64", 2))
}
NEWEST = 450  # above it the kernel knows more than this file: such a call does not exist, says the filter
