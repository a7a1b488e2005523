"""The hostile suite: programs and compiler inputs that try to get out, run behind the fence, and what was seen of them.

    for tried in run(Programs()):                   # in seconds
        tried.attack.name, tried.breaches           # "read-files", ()

Around the programs stands a small world that is looked at after each: a secret, files, listeners (TCP, UDP, unix by
path and by abstract name), a decoy process of the same user, another program whose text and input ran before in the
same server. A breach is whatever of it was reached or changed, a call that succeeded and should not, a process that is
left, a run that does not end within its limits, or one that passes its death off as the machine's fault. Passing is a
floor, not a proof. The suite refuses to start without a fence: its programs do harm.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ponder.sandbox import fence
from ponder.sandbox.base import Limits, Program, Ran
from ponder.sandbox.child import executable
from ponder.sandbox.filters import closed_rules
from ponder.sandbox.programs import Programs
from ponder.sandbox.syscalls import NUMBERS

LIMITS = Limits(cpu_seconds=0.3, memory_mb=128)
COMPILING = Limits(cpu_seconds=2.0, memory_mb=1_024)


FILE = Path(__file__).with_name("hostile.txt")
ENDED = frozenset({"ok", "crashed", "refused", "memory"})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One hostile program or compiler input."""

    name: str
    kind: str  # "python", "c++", "compiler"
    tries: str
    source: str
    ends: frozenset[str] = ENDED  # how it may end; "lost" never

    @property
    def is_patient(self) -> bool:
        """It waits until a limit of time."""
        return self.ends == {"idle"}


def attacks() -> list[Attack]:
    """Those of the file."""
    found, preludes = [], {"compiler": ""}
    for part in FILE.read_text(encoding="utf-8").split("\n== ")[1:]:
        head, _, source = part.partition("\n")
        match = re.fullmatch(r"(python|c\+\+|compiler) ([\w-]+)(?: \[(only )?([a-z ]+)\])?(?:: (.*))?", head)
        if not match:
            raise ValueError(f"{FILE.name}: not a head: {head!r}")
        kind, name, only, ends, tries = match.groups()
        if name == "PRELUDE":
            preludes[kind] = source + "\n"
            continue
        allowed = frozenset((ends or "").split()) | (frozenset() if only else ENDED)
        found.append(Attack(name=name, kind=kind, tries=tries, source=preludes[kind] + source, ends=allowed))
    return found


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of one attack. `skipped` says why it was not run."""

    attack: Attack
    ran: Ran | None = None
    breaches: tuple[str, ...] = ()
    skipped: str = ""
    seconds: float = 0.0


def run(sandbox: Programs, chosen: Sequence[Attack] | None = None) -> Iterator[Tried]:
    """Each attack in turn; those that wait for a limit of time at once, at the end."""
    if not sandbox.is_fenced:
        raise fence.FenceError("the hostile suite does real harm without a fence: run it with one, or not at all")
    chosen = attacks() if chosen is None else chosen
    with _World(sandbox) as world:
        compiler = shutil.which("g++") or ""
        for attack in chosen:
            if attack.kind != "python" and not compiler:
                yield Tried(attack=attack, skipped="no g++ here")
            elif not attack.is_patient:
                yield world.look_after(attack)
        with ThreadPoolExecutor(max_workers=8) as pool:
            yield from pool.map(world.look_after, [attack for attack in chosen if attack.is_patient])


class _World:
    """What could be reached, and a look at it."""

    def __init__(self, sandbox: Programs) -> None:
        self.sandbox = sandbox
        self.words = {name: secrets.token_hex(12) for name in ("file", "environment", "source", "input", "decoy")}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> _World:
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ponder-hostile-")))
            self.secret, self.kept = self.folder / "secret", self.folder / "kept"
            self.secret.write_text(self.words["file"], encoding="utf-8")
            self.kept.write_text("kept", encoding="utf-8")
            self.kept.chmod(0o666)
            self.boxes = self.folder / "boxes"
            self.boxes.mkdir()
            os.environ["PONDER_HOSTILE"] = self.words["environment"]
            stack.callback(os.environ.pop, "PONDER_HOSTILE", None)
            self.decoy = stack.enter_context(_decoy(self.words["decoy"]))
            self.before = self._state_of_decoy()
            self.listeners = {name: stack.enter_context(each) for name, each in _listeners(self.folder).items()}
            self.files = self._files()
            source = f"secret = {self.words['source']!r}\nkept = input()\nprint(len(kept))"
            self.sandbox.run(Program(source=source), self.words["input"].encode() + b"\n")
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def look_after(self, attack: Attack) -> Tried:
        """Run it, then look."""
        began = time.monotonic()
        ran = self._run(attack)
        seconds = time.monotonic() - began
        if attack.kind == "c++" and ran.fence == "":
            return Tried(attack=attack, ran=ran, breaches=("it does not compile: nothing was tried",))
        limits = COMPILING if attack.kind == "compiler" else LIMITS
        output = ran.stdout + ran.stderr
        found = [line.decode(errors="replace")[:120] for line in output.split(b"\n") if line.startswith(b"BREACH")]
        found += [f"it knows the {name}'s secret" for name, word in self.words.items() if word.encode() in output]
        if ran.status not in attack.ends:
            found.append(f"it ended as {ran.status} ({ran.note})")
        if seconds > limits.wall_seconds + 5:
            found.append(f"it took {seconds:.0f} s")
        found += self._changes() + self._survivors(attack.is_patient)
        return Tried(attack=attack, ran=ran, breaches=tuple(found), seconds=seconds)

    def _run(self, attack: Attack) -> Ran:
        source = self._filled(attack.source)
        if attack.kind == "python":
            return self.sandbox.run(Program(source=source), b"1\n", limits=LIMITS)
        with tempfile.TemporaryDirectory(dir=self.boxes) as box:
            Path(box, "a.cpp").write_text(source, encoding="utf-8")
            command = ["/usr/bin/env", "g++", "-std=gnu++17", "-O1", "-static", "-o", "a", "a.cpp"]
            ran = self.sandbox.run_tool(command, box, limits=COMPILING)
            made = Path(box, "a")
            if not made.exists() or (attack.kind == "c++" and ran.status != "ok"):  # half a program tries nothing
                return ran if attack.kind == "compiler" else replace(ran, fence="")
            if attack.kind == "compiler" and self.words["file"].encode() not in made.read_bytes():
                return ran
            binary = executable(made.read_bytes())
        try:
            return self.sandbox.run_binary(binary, b"1\n", limits=LIMITS)
        finally:
            os.close(binary)

    def _filled(self, source: str) -> str:
        numbers = NUMBERS.get(platform.machine(), {})
        words = {
            "NUMBERS": repr(numbers), "NOW": str(time.time()), "DECOY": str(self.decoy.pid),
            "ALLOWED": repr({numbers[name] for name in closed_rules() if name in numbers}),
            "PARENT": str(os.getpid()), "TCP": str(self.listeners["tcp"].getsockname()[1]),
            "UDP": str(self.listeners["udp"].getsockname()[1]), "UNIX": repr(str(self.folder / "unix")),
            "ABSTRACT": repr(self.listeners["abstract"].getsockname()), "FOLDER": repr(str(self.folder)),
            "FOLDER_C": f'"{self.folder}"', "SECRET_C": f'"{self.secret}"',
            "SECRET": repr(str(self.secret)), "SECRET_PATH": str(self.secret),
        }  # fmt: skip
        for name, word in words.items():
            source = source.replace(f"@{name}@", word)
        return source

    def _files(self) -> dict[str, tuple[object, ...]]:
        """Outside of the boxes: each file with its mode, owner, time of change and content."""
        paths = [each for each in sorted(self.folder.iterdir()) if each != self.boxes]
        paths += [Path(each) for each in ("/ponder-hostile", "/tmp/ponder-hostile", "/dev/shm/ponder-hostile")]
        found: dict[str, tuple[object, ...]] = {}
        for path in paths:
            if path.exists() or path.is_symlink():
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ctime_ns, content)
        return found

    def _changes(self) -> list[str]:
        found = []
        now = self._files()
        if now != self.files:
            found.append(
                f"files changed: {sorted(p for p in {**now, **self.files} if now.get(p) != self.files.get(p))}"
            )
            self.files = now
        for name, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_DGRAM:
                    listener.recv(64)
                else:
                    listener.accept()[0].close()
                found.append(f"it reached the {name} listener")
        state = self._state_of_decoy()
        if state != self.before:
            found.append(f"the decoy is {state}, was {self.before}")
            self.before = state
        return found

    def _state_of_decoy(self) -> tuple[object, ...]:
        """Alive, not stopped or traced, where it may run, how urgently, and what it may open."""
        pid = self.decoy.pid
        try:
            with open(f"/proc/{pid}/status") as status:
                facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
            with open(f"/proc/{pid}/limits") as limits:
                nofile = next(line for line in limits if line.startswith("Max open files"))
            stopped = facts["State"][0] in "Tt"
            return (self.decoy.poll(), stopped, facts["TracerPid"], os.sched_getaffinity(pid),
                    os.getpriority(os.PRIO_PROCESS, pid), nofile)  # fmt: skip
        except (OSError, KeyError, StopIteration):
            return ("gone",)

    def _survivors(self, beside_others: bool) -> list[str]:
        """Processes that the servers have and nobody waits for."""
        if beside_others:
            return []
        left: list[str] = []
        for _ in range(50):
            left = [child for pid in self.sandbox.server_pids for child in _children(pid)]
            if not left:
                return []
            time.sleep(0.01)
        return [f"{len(left)} processes are left: {left[:5]}"]


def _children(pid: int) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as children:
        return children.read().split()
    return []


@contextlib.contextmanager
def _decoy(word: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user, whose environment and memory have a secret."""
    command = [fence.real_python(), "-I", "-S", "-c", f"import time; kept = {word!r}; time.sleep(600)"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={"KEPT": word}, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _listeners(folder: Path) -> dict[str, socket.socket]:
    found = {
        "tcp": socket.create_server(("127.0.0.1", 0)),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "abstract": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    }
    found["udp"].bind(("127.0.0.1", 0))
    found["unix"].bind(str(folder / "unix"))
    found["unix"].listen()
    found["abstract"].bind("\0ponder-hostile-" + secrets.token_hex(8))
    for each in found.values():
        each.setblocking(False)
    return found
