"""The hostile programs, as text. They do real harm outside a fence: `hostile.py` runs them, and only behind one.

Each attack says what it tries. A program reports what it managed by a line that begins with BREACH; everything else is seen
from outside: files, listeners, a decoy process, what is left running, secrets in the output. Words in @...@ are filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENDED = frozenset({"ok", "crashed", "refused", "memory"})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One hostile program or compiler input."""

    name: str
    tries: str
    source: str
    kind: Literal["python", "c++", "compiler"] = "python"
    ends: frozenset[str] = ENDED  # how it may end; "lost" never
    is_patient: bool = False  # it ends at a limit of time


PRELUDE = '''
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
N = @NUMBERS@
def breach(what, value=""):
    os.write(1, f"BREACH {what} {value!r}\\n".encode()[:300])
def attempt(what, call, *args, **named):
    try:
        value = call(*args, **named)
    except BaseException:
        return None
    breach(what, value)
    return value
def syscall(name, *args):
    if name not in N: return -1
    args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    value = libc.syscall(ctypes.c_long(N[name]), *args)
    if value >= 0: breach(name, value)
    return value
secret, folder, decoy, parent = @SECRET@, @FOLDER@, @DECOY@, @PARENT@
'''

_PYTHON = {
    "read-files": ("read a secret, /etc/passwd, its own and other processes' memory and environment", '''
for path in (secret, "/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/proc/self/maps", f"/proc/{parent}/environ",
             f"/proc/{parent}/mem", f"/proc/{decoy}/environ", "/dev/mem", "/dev/kmsg", "/dev/zero", "/proc/kcore"):
    attempt("open " + path, open, path, "rb")
    attempt("os.open " + path, os.open, path, os.O_RDONLY)
    attempt("O_PATH " + path, os.open, path, 0o10000000)
'''),
    "write-files": ("create and change files", '''
for path in (folder + "/new", folder + "/kept", "/tmp/ponder-hostile", "/dev/shm/ponder-hostile", "/ponder-hostile", "x"):
    for mode in ("w", "a", "x", "r+"):
        attempt(mode + " " + path, open, path, mode)
    attempt("O_TMPFILE", os.open, folder, 0o20200000 | os.O_RDWR)
import tempfile
attempt("tempfile", tempfile.TemporaryFile)
'''),
    "change-modes": ("change modes, owners, times and attributes of files it owns", '''
kept = folder + "/kept"
attempt("chmod", os.chmod, kept, 0o777); attempt("chown", os.chown, kept, 0, 0); attempt("utime", os.utime, kept, (1, 1))
attempt("truncate", os.truncate, kept, 0); attempt("setxattr", os.setxattr, kept, "user.x", b"1")
attempt("fchmod", os.fchmod, 0, 0o777); attempt("fchown", os.fchown, 1, 0, 0)
'''),
    "move-files": ("link, rename, remove, make folders and devices", '''
kept = folder + "/kept"
attempt("symlink", os.symlink, kept, folder + "/s"); attempt("link", os.link, kept, folder + "/l")
attempt("rename", os.rename, kept, folder + "/r"); attempt("unlink", os.unlink, kept)
attempt("mkdir", os.mkdir, folder + "/d"); attempt("rmdir", os.rmdir, folder); attempt("mkfifo", os.mkfifo, folder + "/f")
attempt("mknod", os.mknod, folder + "/n", 0o20666, os.makedev(1, 5)); attempt("chdir", os.chdir, folder)
'''),
    "look-around": ("find out which files exist", '''
for path in (secret, "/etc/passwd", folder, "/"):
    attempt("stat", os.stat, path); attempt("lstat", os.lstat, path); attempt("listdir", os.listdir, path)
    attempt("readlink", os.readlink, path); attempt("statvfs", os.statvfs, path); attempt("scandir", os.scandir, path)
    if os.access(path, os.F_OK): breach("access", path)
    name, buffer = ctypes.create_string_buffer(path.encode()), ctypes.create_string_buffer(512)
    syscall("newfstatat", -100, name, buffer, 0x1000); syscall("statx", -100, name, 0x1000, 0xFFF, buffer)
'''),
    "open-otherwise": ("open files by the calls that are not called open", '''
name, how = ctypes.create_string_buffer(secret.encode()), (ctypes.c_uint64 * 3)(0, 0, 0)
syscall("openat2", -100, name, how, 24); syscall("creat", name, 0); syscall("open", name, 0, 0)
handle, mount = (ctypes.c_int * 40)(128), ctypes.c_int()
syscall("name_to_handle_at", -100, name, handle, ctypes.byref(mount), 0); syscall("open_by_handle_at", -100, handle, 0)
syscall("inotify_init1", 0); syscall("fanotify_init", 0, 0); syscall("quotactl", 0, 0, 0, 0); syscall("acct", name)
'''),
    "tcp": ("connect to a listener on this machine, and listen itself", '''
import socket
for host, port in (("127.0.0.1", @TCP@), ("::1", @TCP@)):
    attempt("tcp", socket.create_connection, (host, port), 1)
attempt("listen", socket.create_server, ("127.0.0.1", 0))
libc.socket.restype = ctypes.c_int
for family in range(0, 45):
    for kind in (1, 2, 3, 5):
        if libc.socket(family, kind, 0) >= 0: breach("socket", (family, kind))
'''),
    "udp": ("send a datagram, ask a name server", '''
import socket
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp: return udp.sendto(b"x", ("127.0.0.1", @UDP@))
attempt("udp", send); attempt("name", socket.gethostbyname, "example.com")
'''),
    "unix-sockets": ("connect to unix sockets by path and by abstract name, pass descriptors", '''
import socket
for address in (@UNIX@, @ABSTRACT@):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        def connect():
            with socket.socket(socket.AF_UNIX, kind) as unix: return unix.connect(address)
        attempt("unix", connect)
attempt("socketpair", socket.socketpair)
for fd in range(0, 64):
    syscall("sendmsg", fd, ctypes.create_string_buffer(64), 0); syscall("recvmsg", fd, ctypes.create_string_buffer(64), 0)
    syscall("sendto", fd, ctypes.create_string_buffer(b"x"), 1, 0, None, 0)
'''),
    "start-processes": ("start another process in every way Python has", '''
import subprocess, multiprocessing
attempt("fork", os.fork); attempt("forkpty", os.forkpty)
attempt("spawn", os.posix_spawn, "/bin/true", ["true"], {}); attempt("subprocess", subprocess.run, ["/bin/true"])
attempt("popen", os.popen, "true"); attempt("execv", os.execv, "/bin/sh", ["sh", "-c", "echo BREACH exec"])
def start():
    process = multiprocessing.get_context("fork").Process(target=print); process.start(); return process
attempt("multiprocessing", start)
if os.system("true") == 0: breach("system")
'''),
    "clone": ("start a process or enter a namespace by clone and clone3", '''
for flags in (17, 0x4111, 0x10000000 | 17, 0x20000 | 17, 0x40000000 | 17, 0x3D0F00 | 0x10000000, 0x100, 0, 0x10000):
    if libc.syscall(ctypes.c_long(N["clone"]), ctypes.c_long(flags), 0, 0, 0, 0) >= 0: breach("clone", flags)
args = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)
syscall("clone3", args, 88); syscall("vfork"); syscall("fork"); syscall("unshare", 0x10000000); syscall("unshare", 0x20000)
syscall("setns", 0, 0); syscall("setsid"); syscall("setpgid", 0, 0)
'''),
    "fork-bomb": ("fork 200 times", '''
for _ in range(200):
    try:
        if os.fork() == 0:
            import time; time.sleep(5); os._exit(0)
        breach("fork")
    except OSError: pass
'''),
    "daemon": ("leave a process behind that writes a file later", '''
import threading, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1); open(folder + "/late", "w").write("x"); os._exit(0)
        os._exit(0)
except OSError: pass
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
'''),
    "exec-memory": ("make a program in memory and run it", '''
fd = syscall("memfd_create", ctypes.create_string_buffer(b"x"), 0)
empty, argv = ctypes.create_string_buffer(b""), (ctypes.c_char_p * 2)(b"x", None)
for fd in (0, 1, 2, 3, 1000, 1001):
    libc.syscall(ctypes.c_long(N["execveat"]), ctypes.c_long(fd), empty, argv, argv, ctypes.c_long(0x1000))
for fd in range(1000, 1003): attempt("dup2", os.dup2, 0, fd)
syscall("memfd_secret", 0)
'''),
    "kill-others": ("send signals to the judge, the server, the decoy, the group and everybody", '''
for pid in (parent, os.getppid(), decoy, 0, -1, -os.getppid(), 1):
    for number in (0, 9, 15, 10, 19):
        attempt(f"kill {pid} {number}", os.kill, pid, number)
        syscall("tkill", pid, number); syscall("tgkill", pid, pid, number); syscall("tgkill", -1, pid, number)
        info = ctypes.create_string_buffer(128)
        syscall("rt_sigqueueinfo", pid, number, info); syscall("rt_tgsigqueueinfo", pid, pid, number, info)
    fd = syscall("pidfd_open", pid, 0); syscall("pidfd_send_signal", fd, 9, None, 0)
'''),
    "signal-by-descriptor": ("have the kernel send a signal for it: owner of a pipe, leases, folder notices, timers", '''
import fcntl
for fd in (0, 1, 2):
    for command, value in ((8, decoy), (8, -decoy), (10, 9), (15, 0), (1024, 0), (1026, 1), (1031, 1 << 20), (1033, 0)):
        attempt(f"fcntl {command}", fcntl.fcntl, fd, command, value)
    for request in (0x5412, 0x540E, 0x8901, 0x8902, 0x5410, 0x541D, 0x5422):
        attempt(f"ioctl {request:x}", fcntl.ioctl, fd, request, b"x" * 8)
syscall("timer_create", 0, None, ctypes.create_string_buffer(8)); syscall("timerfd_create", 0, 0); syscall("signalfd4", -1, None, 8, 0)
'''),
    "debug-others": ("trace, read and write the memory of the judge and the decoy, take their descriptors", '''
for pid in (parent, os.getppid(), decoy, os.getpid()):
    for request in (16, 0x4206, 0): syscall("ptrace", request, pid, 0, 0)
    local = ctypes.create_string_buffer(64)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(local), 64)
    syscall("process_vm_readv", pid, vector, 1, vector, 1, 0); syscall("process_vm_writev", pid, vector, 1, vector, 1, 0)
    syscall("kcmp", os.getpid(), pid, 0, 0, 0); syscall("migrate_pages", pid, 8, vector, vector); syscall("move_pages", pid, 0, 0, 0, 0, 0)
for fd in range(0, 10): syscall("pidfd_getfd", fd, 0, 0); syscall("process_madvise", fd, 0, 0, 0, 0)
'''),
    "odd-calls": ("io_uring, userfaultfd, bpf, perf events, keyrings, kernel modules, swap, reboot", '''
page = ctypes.create_string_buffer(4096)
syscall("io_uring_setup", 4, page); syscall("io_uring_enter", 0, 0, 0, 0, 0, 0); syscall("io_uring_register", 0, 0, 0, 0)
syscall("userfaultfd", 1); syscall("bpf", 0, page, 128); syscall("perf_event_open", page, 0, -1, -1, 0)
syscall("keyctl", 0, -3, 1); syscall("add_key", page, page, page, 1, -3); syscall("request_key", page, page, page, -3)
syscall("init_module", page, 1, page); syscall("finit_module", 0, page, 0); syscall("kexec_load", 0, 0, 0, 0)
syscall("syslog", 3, page, 100); syscall("swapon", page, 0); syscall("personality", 0x40000); syscall("modify_ldt", 0, page, 1)
syscall("iopl", 3); syscall("ioperm", 0, 1, 1); syscall("reboot", 1, 2, 3, 0); syscall("sethostname", page, 1)
'''),
    "mounts": ("mount, chroot, pivot", '''
path = ctypes.create_string_buffer(b"/")
syscall("mount", path, path, path, 0, 0); syscall("umount2", path, 0); syscall("chroot", path); syscall("pivot_root", path, path)
'''),
    "undo-the-fence": ("set a friendlier filter or Landlock ruleset, outlive the judge, become debuggable", '''
class P(ctypes.Structure): _fields_ = [("n", ctypes.c_ushort), ("c", ctypes.c_void_p)]
code = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 0xFF, 0x7F]), 8)
program = P(1, ctypes.addressof(code))
for operation, flags in ((0, 0), (1, 0), (1, 8), (1, 1), (2, 0), (3, 0)): syscall("seccomp", operation, flags, ctypes.byref(program))
for option in (1, 4, 8, 22, 23, 24, 28, 35, 36, 38, 47, 0x59616d61, 53):
    if libc.prctl(option, 0, 0, 0, 0) >= 0: breach("prctl", option)
syscall("landlock_create_ruleset", 0, 0, 1); syscall("landlock_restrict_self", 0, 0); syscall("capset", code, code)
'''),
    "become-another": ("change user and group", '''
for name in ("setuid", "setgid"): attempt(name, getattr(os, name), 0)
attempt("setresuid", os.setresuid, 0, 0, 0); attempt("setgroups", os.setgroups, [0]); attempt("setreuid", os.setreuid, 0, 0)
syscall("setuid", 0); syscall("setgroups", 0, None)
if os.path.exists("/") or os.geteuid() == 0 and not libc.setuid(0): breach("root")
'''),
    "shared-memory": ("talk to others by System V memory, semaphores, message queues", '''
syscall("shmget", 0, 4096, 0o1777); syscall("semget", 0, 1, 0o1777); syscall("msgget", 0, 0o1777)
syscall("mq_open", ctypes.create_string_buffer(b"x"), 0o102, 0o777, None); syscall("eventfd2", 0, 0); syscall("epoll_create1", 0)
attempt("pipe", os.pipe)
'''),
    "priorities": ("slow others down: affinity, priority, limits, locked memory, huge pages", '''
import resource
for pid in (parent, decoy, os.getppid()):
    attempt("affinity", os.sched_setaffinity, pid, {0}); attempt("priority", os.setpriority, os.PRIO_PROCESS, pid, 19)
    attempt("prlimit", resource.prlimit, pid, resource.RLIMIT_NOFILE, (1, 1)); syscall("sched_setscheduler", pid, 0, None)
    attempt("look", os.sched_getaffinity, pid); attempt("group", os.getpgid, pid); attempt("session", os.getsid, pid)
    attempt("clock", __import__("time").clock_gettime, (~pid << 3) | 2)
attempt("own priority", os.nice, -5); attempt("more", resource.setrlimit, resource.RLIMIT_AS, (-1, -1)); syscall("ioprio_set", 1, 0, 0)
attempt("descriptors", resource.setrlimit, resource.RLIMIT_NOFILE, (100000, 100000)); attempt("file", resource.setrlimit, resource.RLIMIT_FSIZE, (1, 1))
syscall("mlock", id(N), 4096); syscall("mlockall", 3); syscall("mbind", 0, 0, 0, 0, 0, 0)
libc.mmap.restype = ctypes.c_long
if libc.mmap(0, ctypes.c_long(1 << 21), 3, 0x40022, -1, ctypes.c_long(0)) != -1: breach("huge pages")
'''),
    "descriptors": ("use what was left open", '''
for fd in range(3, 4200):
    try: os.fstat(fd)
    except OSError: continue
    breach("descriptor", fd)
'''),
    "change-input": ("change the input that others may be given too", '''
attempt("write", os.write, 0, b"x"); attempt("pwrite", os.pwrite, 0, b"x", 0); attempt("truncate", os.ftruncate, 0, 0)
libc.mmap.restype = ctypes.c_long
if libc.mmap(0, ctypes.c_long(4096), 3, 1, 0, ctypes.c_long(0)) != -1: breach("mmap shared")
'''),
    "forge": ("forge the server's messages on every descriptor", '''
import struct
for fd in range(0, 1200):
    if fd not in (1, 2):
        attempt(f"write {fd}", os.write, fd, b"d" + struct.pack("=iddQQ", 0, 0.0, 0.0, 0, 0))
os.write(1, b"d" + struct.pack("=iddQQ", 0, 0.0, 0.0, 0, 0)); os.write(2, b"p1")
os._exit(0)
'''),
    "memory-of-others": ("find another program's text, input or the judge's environment in its own memory", '''
import gc
pile = repr([o for o in gc.get_objects() if isinstance(o, (str, bytes, dict, list, tuple))][-2000:])[:200000]
os.write(1, pile.encode(errors="replace") + repr(dict(os.environ)).encode())
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
for i in range(0, 100):
    if not environ or environ[i] is None: break
    os.write(1, environ[i])
libc.sbrk.restype = ctypes.c_long
top = libc.sbrk(0) & ~4095
for page in range(top - 400 * 4096, top, 4096): libc.write(1, ctypes.c_void_p(page), ctypes.c_long(4096))
for page in range(id(gc) & ~0xFFFFF, (id(gc) & ~0xFFFFF) + (1 << 20), 4096): libc.write(1, ctypes.c_void_p(page), ctypes.c_long(4096))
'''),
    "browser": ("open a page in a browser by importing a module", "import antigravity\nimport webbrowser\nprint(webbrowser.open('http://127.0.0.1'))"),
    "time-of-day": ("set the clock", '''
import time
attempt("clock_settime", time.clock_settime, time.CLOCK_REALTIME, 0.0)
for number in (164, 227, 159, 305, 170, 112, 171, 266): # settimeofday, clock_settime, adjtimex and their like
    zero = ctypes.create_string_buffer(256)
    libc.syscall(ctypes.c_long(number), zero, zero, 0)
if abs(time.time() - @NOW@) > 3600: breach("clock")
'''),
    "x32": ("call the kernel by x32's numbers", '''
for number in (39, 2, 57, 521):
    if libc.syscall(ctypes.c_long(0x40000000 + number), 0, 0, 0) >= 0: breach("x32", number)
'''),
    "int-0x80": ("call the kernel as i386 does", '''
import mmap, platform
if platform.machine() == "x86_64":
    memory = mmap.mmap(-1, 4096, prot=7)
    memory.write(bytes.fromhex("53b814000000cd805bc3"))  # getpid
    breach("int 0x80", ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())
'''),
    "die-as-if-killed": ("kill itself so that the machine seems to blame", '''
import signal, threading
for number in (9, 9, 31, 6): attempt(f"kill {number}", os.kill, os.getpid(), number)
'''),
    "core-dump": ("leave a core file", "resource = __import__('resource')\nattempt('core', resource.setrlimit, resource.RLIMIT_CORE, (1 << 20, 1 << 20))\nos.abort()"),
    "segfault": ("crash the interpreter", "ctypes.string_at(8)"),
    "nesting": ("break the parser", "exec('(' * 200000)"),
    "recursion": ("recurse without end", "sys.setrecursionlimit(10**9)\ndef f(): f()\nf()"),
    "memory": ("take 2 GB", "x = bytearray(1 << 31)\nbreach('memory')"),
    "memory-slowly": ("take 2 GB in small pieces, swallowing every error", '''
kept = []
try:
    while len(kept) < 2000: kept.append(bytearray(1 << 20))
    breach("memory", len(kept))
except MemoryError: raise
'''),
    "threads": ("start 5,000 threads that stay", '''
import threading, time
threading.stack_size(32768)
count = 0
try:
    for _ in range(5000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); count += 1
except BaseException: pass
if count > 4900: breach("threads", count)
os._exit(0)
'''),
    "close-and-go-on": ("close its pipes, so that a judge that waits for their end is gone", "for fd in (0, 1, 2): os.close(fd)\nwhile True: pass"),
    "endless": ("compute for ever, deaf to every signal", '''
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
'''),
    "big-power": ("one step that takes for ever", "9**9**9**9"),
    "regex": ("a regular expression that takes for ever", "import re\nre.match('(a*)*b', 'a' * 64)"),
    "sleep": ("sleep for ever, signals blocked", "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: time.sleep(100)"),
    "stop": ("stop itself", "import signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    "wait-for-input": ("wait for input that does not come, a thread alive after the end", '''
import threading, time
threading.Thread(target=lambda: time.sleep(1000)).start()
sys.exit(0)
'''),
    "flood": ("write 300 MB", "block = b'x' * (1 << 20)\nfor _ in range(300): os.write(1, block)"),
    "flood-errors": ("write 300 MB to stderr", "block = b'x' * (1 << 20)\nfor _ in range(300): os.write(2, block)"),
}  # fmt: skip

_TIME, _IDLE = frozenset({"time"}), frozenset({"idle"})
_ENDS = {
    "close-and-go-on": _TIME, "endless": _TIME, "big-power": frozenset({"time", "memory"}), "regex": _TIME,
    "sleep": _IDLE, "stop": _IDLE, "wait-for-input": _IDLE, "flood": frozenset({"output"}),
    "flood-errors": frozenset({"ok", "time"}), "memory": frozenset({"memory"}), "memory-slowly": frozenset({"memory"}),
    "memory-of-others": ENDED | {"output"},     "threads": ENDED | {"time"}, "recursion": ENDED | {"time"},
}  # fmt: skip

CPP_PRELUDE = """
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <pthread.h>
#include <unistd.h>
#define TRY(call) do { if ((long)(call) >= 0) { printf("BREACH %s\\n", #call); fflush(stdout); } } while (0)
static const char* secret = @SECRET_C@; static const char* folder = @FOLDER_C@;
static int decoy = @DECOY@, parent_ = @PARENT@;
"""

_CPP = {
    "c++ files": ("read, create and change files", """
int main() {
  char kept[4096], made[4096]; snprintf(kept, 4096, "%s/kept", folder); snprintf(made, 4096, "%s/new", folder);
  TRY(open(secret, O_RDONLY)); TRY(open(kept, O_RDWR)); TRY(creat(made, 0777)); TRY(chmod(kept, 0777)); TRY(unlink(kept));
  TRY(rename(kept, made)); TRY(symlink(secret, made)); TRY(access(secret, F_OK)); struct stat s; TRY(stat(secret, &s));
  TRY(truncate(kept, 0)); TRY(chdir("/tmp")); TRY(mkdir(made, 0777));
}"""),
    "c++ network": ("reach a listener", """
int main() {
  for (int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, 40, 44}) for (int kind : {1, 2, 3}) TRY(socket(family, kind, 0));
  int pair[2]; TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)); TRY(pipe(pair));
}"""),
    "c++ processes": ("fork, execute, signal, trace", """
int main() {
  pid_t pid = fork(); if (pid == 0) { sleep(1); _exit(0); } TRY(pid); TRY(vfork() > 0 ? 0 : -1);
  for (int p : {parent_, (int)getppid(), decoy, 0, -1}) { TRY(kill(p, 0)); TRY(kill(p, 9)); TRY(ptrace(PTRACE_ATTACH, p, 0, 0)); TRY(syscall(SYS_tkill, p, 9)); }
  struct rlimit l = {1, 1}; TRY(prlimit(decoy, RLIMIT_NOFILE, &l, 0)); TRY(setpriority(PRIO_PROCESS, decoy, 19)); TRY(unshare(0x10000000));
  TRY(syscall(SYS_memfd_create, "x", 0)); TRY(syscall(SYS_process_vm_readv, decoy, 0, 0, 0, 0, 0)); TRY(setsid()); TRY(nice(-5));
  char* argv[] = {(char*)"sh", (char*)"-c", (char*)"echo BREACH sh", 0}; execv("/bin/sh", argv); return 0;
}"""),
    "c++ run again": ("execute its own file or its input once more", """
int main() {
  char* argv[] = {(char*)"x", 0};
  for (int fd = 0; fd < 1100; fd++) syscall(SYS_execveat, fd, "", argv, argv, 0x1000);
  TRY(dup2(0, 1000)); TRY(open("/proc/self/exe", O_RDONLY));
  for (int fd = 3; fd < 1100; fd++) TRY(fcntl(fd, F_GETFD));
}"""),
    "c++ thread bomb": ("start 100,000 threads with small stacks", """
static void* wait_(void*) { pause(); return 0; }
int main() {
  pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 16384); int n = 0; pthread_t t;
  while (n < 100000 && !pthread_create(&t, &a, wait_, 0)) n++;
  if (n > 8000) printf("BREACH %d threads\\n", n);
  fflush(stdout); _exit(0);
}"""),
    "c++ memory": ("take 2 GB, touch it", """
int main() { for (int i = 0; i < 2000; i++) { char* p = new char[1 << 20]; memset(p, 1, 1 << 20); } puts("BREACH memory"); }"""),
    "c++ recursion": ("recurse without end", """
int f(int x) { volatile char b[1000]; b[x % 1000] = x; return f(x + 1) + b[0]; } int main() { return f(0); }"""),
    "c++ endless": ("compute for ever, deaf to every signal", """
int main() { for (int i = 1; i < 65; i++) signal(i, SIG_IGN); for (volatile unsigned x = 0;; x++); }"""),
    "c++ static array": ("an array of 2 GB that no file holds", """
static char a[1u << 31]; int main(int n, char** v) { for (char* p = a; p < a + sizeof a; p += 4096) *p = n; printf("BREACH %d\\n", a[n]); }"""),
}  # fmt: skip
_CPP_ENDS = {"c++ endless": _TIME, "c++ memory": frozenset({"memory", "crashed"}), "c++ thread bomb": ENDED | {"time"}}

_COMPILER = {
    "include a secret": ("print a secret in an error", "#include @SECRET_C@\nint main() {}"),
    "include system files": ("print /etc/passwd and the environment in errors", '#include "/etc/passwd"\n#include "/proc/self/environ"\n#include "/etc/hostname"\nint main() {}'),
    "incbin": ("put a secret into the program", 'asm(".incbin \\"@SECRET@\\"\\n.include \\"@SECRET@\\"");\nint main() {}'),
    "endless file": ("include a device without end", '#include "/dev/zero"\n#include "/dev/urandom"\n#include "/dev/stdin"\nint main() {}'),
    "templates": ("instantiate without end", "template <int N> struct A { A<N + 1> a; A<N + 2> b; }; A<0> a; int main() {}"),
    "macros": ("expand macros to gigabytes", "".join(f"#define X{i + 1} X{i} X{i} X{i} X{i}\n" for i in range(1, 30)) + "#define X1 int a;\nX30\nint main() {}"),
    "big array": ("write a file of 2 GB", "char a[2147483000] = {1};\nint main() { return a[5]; }"),
    "include itself": ("include itself without end", '#include __FILE__\n#include __FILE__\nint main() {}'),
    "compile-time loop": ("compute for ever while compiling", "constexpr unsigned long f(unsigned long n) { unsigned long s = 0; for (unsigned long i = 0; i < n; i++) for (unsigned long j = 0; j < n; j++) s += i ^ j; return s; }\nstatic_assert(f(100000000) != 1); int main() {}"),
}  # fmt: skip
_COMPILER_ENDS = ENDED | {"time", "output"}

ATTACKS = (
    *(Attack(name=name, tries=tries, source=PRELUDE + source, ends=_ENDS.get(name, ENDED), is_patient=name in _ENDS and _ENDS[name] <= _IDLE)
      for name, (tries, source) in _PYTHON.items()),
    *(Attack(name=name, tries=tries, source=CPP_PRELUDE + source, kind="c++", ends=_CPP_ENDS.get(name, ENDED)) for name, (tries, source) in _CPP.items()),
    *(Attack(name="compiler: " + name, tries=tries, source=source, kind="compiler", ends=_COMPILER_ENDS) for name, (tries, source) in _COMPILER.items()),
)  # fmt: skip
