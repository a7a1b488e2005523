"""C++ from its source to a static program that runs behind the closed fence; the compiler works behind one too.

    program = Program(source=text, language="c++20")
    built = compiled(program, sandbox)           # seconds the first time, then from the cache
    built.status, built.note                     # "refused", "program.cpp:3:5: error: ..."
    sandbox.run(program, b"1 2\\n").stdout       # compiles, then runs: `Programs` asks this file

The flags are those of contests (`-O2 -DEVAL`, GNU C++17 or C++20), statically linked: a program behind the closed
fence may open no library. A program's `.cpp` files (a grader's stub) are compiled once and kept as objects. The one
header that takes seconds, bits/stdc++.h, is precompiled on first use, for sources that include it before anything but
headers. What was made lies in the cache by a digest of source, flags and compiler; the oldest goes when there is much.

A source can attack its compiler (`hostile_cpp.py`): time, memory, files and what can be read are limited, a binary or
a message that is too long is refused. What does not compile is refused with the compiler's message, never an error of
ours. Left out: compilers other than GNU's, and linking with other libraries.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ponder.config import ConfigError
from ponder.files import cache_root
from ponder.sandbox.base import Limits, Program, Ran, Running, Status
from ponder.sandbox.child import executable
from ponder.sandbox.together import PatientLimits

STANDARDS = {"c++17": "gnu++17", "c++20": "gnu++20"}
FLAGS = ("-DEVAL", "-O2", "-pipe", "-w", "-fmax-errors=5", "-fdiagnostics-color=never", "-ftemplate-depth=900")
LINKING = ("-static", "-s")
# of one step of a compilation; its parts work while the compiler's own process waits for them
LIMITS = PatientLimits(cpu_seconds=30, memory_mb=2048, output_bytes=1 << 16)
MAX_SOURCE = 1 << 20  # characters of a program with its files, but for headers of judges: see `compiled`
MAX_FILES = 8 << 20
MAX_BINARY = 64 << 20  # bytes; an array that is no zeros lies in it
MAX_NOTE = 2_000  # characters of the compiler's message
MIN_FREE = 256 << 20  # bytes; with less, a compiler that says so found the disk full
MAX_KEPT = 400  # programs in the cache, about 2 MB each
MAX_REFUSED = 4_096  # sources that did not compile, remembered while this process lives
MAIN = "program.cpp"

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_INCLUDE = re.compile(r"[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]*)[>\"][ \t]*(?://.*)?")
_EVERYTHING = "bits/stdc++.h"


class Tools(Protocol):
    """What a compilation needs of a sandbox: `programs.Programs` has it."""

    def run_tool(
        self, command: Sequence[str], box: str, stdin: bytes = b"", *, limits: Limits = ..., read: Sequence[str] = ()
    ) -> Ran:
        """Run a command that may write below the folder `box`; `read`: folders that it reads beside the system's."""
        ...


class Binaries(Tools, Protocol):
    """And what running takes."""

    def run_binary(self, binary: int, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = ...) -> Ran:
        """Run a static program to its end. binary: a descriptor, which stays the caller's to close."""
        ...

    def start_binary(self, binary: int, *, args: Sequence[str] = (), limits: Limits = ...) -> Running:
        """Begin a static program that is spoken to. binary: as in `run_binary`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What came of a compilation."""

    status: Status  # ok, refused (the note says why) or lost
    file: Path | None = None  # the program, in the cache
    note: str = ""

    def open(self) -> int:
        """A descriptor for `run_binary`, yours to close."""
        if self.file is None:
            raise ValueError(f"there is no program: {self.note}")
        return executable(self.file.read_bytes())

    def as_ran(self) -> Ran:
        """The result of a run where there is no program."""
        return Ran(status=self.status, note=self.note)


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """The compiler of this machine."""

    path: str
    version: str

    @property
    def folders(self) -> tuple[str, ...]:
        """What it reads beside the system's folders: its own, where it is installed elsewhere."""
        home = Path(os.path.realpath(self.path)).parent.parent
        return () if str(home) in ("/", "/usr") else (str(home),)


@functools.cache
def compiler() -> Compiler:
    """The compiler; a ConfigError that says what to install where there is none."""
    name = os.environ.get("CXX") or "g++"
    path = shutil.which(name)
    fix = "install g++ (apt-get install g++), or set CXX to a GNU C++ compiler"
    if path is None:
        raise ConfigError(f"C++ programs need a compiler, and there is no {name}: {fix}")
    try:
        english = os.environ | {"LC_ALL": "C"}
        ran = subprocess.run([path, "-v"], capture_output=True, timeout=60, text=True, errors="replace", env=english)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"C++ programs need a compiler, and {path} does not start ({error}): {fix}") from None
    version = next((line for line in ran.stderr.splitlines() if line.startswith("gcc version")), "")
    if not version:
        raise ConfigError(f"{path} is not GNU's compiler: {fix}")
    return Compiler(path=path, version=version)


def compiled(program: Program, sandbox: Tools) -> Compiled:
    """The program's binary, from the cache or made now. Raises ConfigError where this machine cannot compile."""
    if program.language not in STANDARDS:
        raise ValueError(f"language={program.language!r} is not compiled; {', '.join(STANDARDS)} are")
    problem = _unfit(program)
    if problem:
        return Compiled(status="refused", note=problem)
    gcc = compiler()
    digest = _digest("program", gcc.version, program.language, program.source, *program.files)
    target = _cache() / "programs" / digest
    with _building(digest):
        if target.is_file():
            os.utime(target)  # it is used: the oldest goes first
            return Compiled(status="ok", file=target)
        if digest in _refused:
            return _refused[digest]
        built = _build(program, gcc, sandbox, target)
        if built.status == "refused":
            _check_works(gcc, sandbox)
            _refused[digest] = built
            while len(_refused) > MAX_REFUSED:
                _refused.popitem(last=False)
        return built


def run_compiled(
    program: Program, sandbox: Binaries, stdin: bytes = b"", *, args: Sequence[str] = (), limits: Limits = Limits()
) -> Ran:
    """Compile, and run to the end."""
    built = compiled(program, sandbox)
    if built.status != "ok":
        return built.as_ran()
    binary = built.open()
    try:
        return sandbox.run_binary(binary, stdin, args=args, limits=limits)
    finally:
        os.close(binary)


def start_compiled(
    program: Program, sandbox: Binaries, *, args: Sequence[str] = (), limits: Limits = Limits()
) -> Running:
    """Compile, and begin a run that is spoken to."""
    built = compiled(program, sandbox)
    if built.status != "ok":
        return NeverRan(built.as_ran())
    binary = built.open()
    try:
        return sandbox.start_binary(binary, args=args, limits=limits)
    finally:
        os.close(binary)


class NeverRan:
    """The conversation with a program that does not compile."""

    def __init__(self, ran: Ran) -> None:
        self._ran = ran

    def send(self, line: bytes) -> None:
        """Nobody reads it."""

    def receive(self, most: int = 1 << 20) -> bytes | None:
        return None

    def finish(self) -> Ran:
        return self._ran

    def kill(self) -> Ran:
        return self._ran


# ---- compiling -----------------------------------------------------------------------------------------------------

_refused: OrderedDict[str, Compiled] = OrderedDict()
_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()
_header_lock = threading.Lock()  # taken while one of the others is held, never the other way round


def _building(digest: str) -> threading.Lock:
    """Two threads do not compile the same thing at once. A lock a thing in 256 is enough."""
    with _locks_lock:
        return _locks.setdefault(digest[:2], threading.Lock())


def _unfit(program: Program) -> str:
    names = [name for name, _ in program.files]
    bad = next((name for name in names if not _FILE_NAME.fullmatch(name) or name == MAIN), None)
    if bad is not None:
        return f"a file cannot be called {bad[:100]!r}"
    if len(program.source) > MAX_SOURCE or sum(len(text) for _, text in program.files) > MAX_FILES:
        return f"the source is longer than {MAX_SOURCE:,} characters"
    return ""


def _build(program: Program, gcc: Compiler, sandbox: Tools, target: Path) -> Compiled:
    flags = [f"-std={STANDARDS[program.language]}", *FLAGS]
    _cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix=".box-") as box:
        for name, text in ((MAIN, program.source), *program.files):
            (Path(box) / name).write_bytes(text.encode("utf-8", "replace"))
        objects = []
        for name, text in program.files:
            if name.endswith((".cpp", ".cc")):
                kept = _object(name, text, program, gcc, flags, sandbox, box)
                if isinstance(kept, Compiled):
                    return kept
                objects.append(kept)
        includes, header = [], _precompiled(gcc, flags, sandbox) if _takes_everything(program.source) else None
        if header is not None:
            includes = ["-I", str(header), "-include", _EVERYTHING]
        command = [gcc.path, *flags, *includes, *LINKING, MAIN, *objects, "-o", "program"]
        ran = sandbox.run_tool(command, box, limits=LIMITS, read=[*gcc.folders, *([str(header)] if header else [])])
        return _kept(ran, Path(box) / "program", target, most=MAX_BINARY)


def _object(
    name: str, text: str, program: Program, gcc: Compiler, flags: Sequence[str], sandbox: Tools, box: str
) -> str | Compiled:
    """The name, in the box, of a file's object; what went wrong where it does not compile."""
    headers = [file for file in program.files if file[0].endswith((".h", ".hpp"))]
    target = _cache() / "objects" / _digest("object", gcc.version, *flags, name, text, *headers)
    made = f"{name}.o"
    if not target.is_file():
        ran = sandbox.run_tool([gcc.path, *flags, "-c", name, "-o", made], box, limits=LIMITS, read=gcc.folders)
        kept = _kept(ran, Path(box) / made, target, most=MAX_BINARY)
        if kept.file is None:
            return kept
    os.utime(target)
    shutil.copyfile(target, Path(box) / made)
    return made


def _kept(ran: Ran, made: Path, target: Path, *, most: int) -> Compiled:
    """What a compilation made, moved into the cache."""
    if ran.status == "lost":
        return Compiled(status="lost", note=ran.note)
    if _is_full(ran):
        return Compiled(status="lost", note=f"the disk of {_cache()} is full")
    if ran.status != "ok":
        return Compiled(status="refused", note=_message(ran))
    try:
        found = os.lstat(made)
    except OSError:
        return Compiled(status="refused", note="the compiler made no program")
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        return Compiled(status="refused", note=f"the program is larger than {most >> 20} MB")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, target)  # at once: whoever compiles at the same time makes the same file
    _drop_oldest(target.parent)
    return Compiled(status="ok", file=target)


def _is_full(ran: Ran) -> bool:
    """The compiler found no space: no fault of the program. Its message alone may be the source's own (#error)."""
    said = ran.status != "ok" and b"No space left on device" in ran.stderr
    return said and shutil.disk_usage(_cache()).free < MIN_FREE


def _message(ran: Ran) -> str:
    """The compiler's message, as text that may be shown."""
    if ran.status == "crashed":
        text = ran.stderr.decode(errors="replace")
        if "Killed" in text or "out of memory" in text or "CPU time limit" in text or "File size limit" in text:
            text = f"compiling it takes too much time, memory or disk\n{text}"
    else:
        text = f"compiling it: {ran.note or ran.status}"
    text = "".join(each if each.isprintable() or each == "\n" else "?" for each in text[: 4 * MAX_NOTE])
    return text.strip()[:MAX_NOTE] or f"it does not compile (exit code {ran.exit_code})"


def _drop_oldest(folder: Path) -> None:
    """Keep the newest MAX_KEPT; looked at now and then."""
    files = list(folder.iterdir())
    if len(files) > MAX_KEPT + 32:
        files.sort(key=lambda file: file.stat().st_mtime)
        for file in files[:-MAX_KEPT]:
            file.unlink(missing_ok=True)


def _check_works(gcc: Compiler, sandbox: Tools) -> None:
    """Something does not compile: make sure that this machine compiles anything. Once it does, that is remembered."""
    digest = _digest("check", gcc.version)
    target = _cache() / "programs" / digest
    if not target.is_file():
        built = _build(Program(source="int main() {}\n", language="c++17"), gcc, sandbox, target)
        if built.status == "refused":
            raise ConfigError(
                f"{gcc.path} does not compile an empty program here: {built.note[:300]}; C++ programs are linked "
                "statically, which takes libc.a and libstdc++.a (apt-get install g++ libc6-dev; elsewhere "
                "glibc-static libstdc++-static)"
            )


# ---- the header that takes seconds -----------------------------------------------------------------------------------


def _takes_everything(source: str) -> bool:
    """It includes bits/stdc++.h, and nothing but headers stands before: then the header may as well be the first."""
    for line in source[:4_096].split("\n"):
        found = _INCLUDE.fullmatch(line.rstrip("\r"))
        if found and found[1] == _EVERYTHING:
            return True
        if not found and line.strip() and not line.lstrip().startswith("//"):
            return False
    return False


def _precompiled(gcc: Compiler, flags: Sequence[str], sandbox: Tools) -> Path | None:
    """The folder of the precompiled header; None where this compiler has no such header."""
    digest = _digest("header", gcc.version, *flags)
    folder = _cache() / "headers" / digest
    made = folder / "bits" / "stdc++.h.gch"
    with _header_lock:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=_cache(), prefix=".box-") as box:
                (Path(box) / "all.h").write_text(f"#include <{_EVERYTHING}>\n", encoding="utf-8")
                command = [gcc.path, *flags, "-x", "c++-header", "all.h", "-o", "stdc++.h.gch"]
                ran = sandbox.run_tool(command, box, limits=LIMITS, read=gcc.folders)
                part = Path(box) / "done"
                (part / "bits").mkdir(parents=True)
                # where the .gch does not do
                (part / "bits" / "stdc++.h").write_text("#include_next <bits/stdc++.h>\n", encoding="utf-8")
                if ran.status == "ok":
                    os.replace(Path(box) / "stdc++.h.gch", part / "bits" / "stdc++.h.gch")
                elif ran.status != "crashed":
                    return None  # perhaps next time
                try:
                    os.replace(part, folder)
                except OSError:
                    if not folder.exists():  # else another process was faster
                        raise
    return folder if made.is_file() else None


def _cache() -> Path:
    return cache_root() / "c++"


def _digest(*parts: object) -> str:
    text = json.dumps([FLAGS, LINKING, *parts]).encode()
    return hashlib.sha256(text).hexdigest()[:32]
