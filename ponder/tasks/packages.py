"""Packages of contest problems as CMS keeps them, read from a folder or a zip that nobody has checked.

    package = read_package("sphinx-CMS.zip")
    package.code, package.kind, package.subtasks[1].points       "sphinx", "communication", 3.0
    package.test("1-01").input                                   b"2 1\n0 0\n0 1\n"
    find_packages("ioi2024")                                     every package in a folder, zipped or not

    CODE/problem.json          code, name, time_limit (s), memory_limit (bytes), task_type, task_type_params
    CODE/subtasks/NN-x.json    {"score": 10, "testcases": ["1-01", ...]}; those worth 0 are samples
    CODE/tests/T.in, T.out     CODE/graders/ (stub or grader, manager, headers), CODE/checker/
    CODE/solutions/KIND/       the jury's programs, sorted by what becomes of them
    CODE/attachments/X.zip     what contestants get: cpp/CODE.h, cpp/grader.cpp, examples/
    CODE/statement.md, CODE/statements/*.md     the text, where the package has it

A zip is read in place and never unpacked. Refused: names that lead out of it, links, encrypted and repeated entries,
more or larger entries than a contest problem has; what an entry says of its size is not believed, and texts are counted
together, since few bytes may unpack to very many. In a folder a link may not lead out. Left out: other archives (unpack
them first), and packages without subtasks.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from ponder.config import ConfigError
from ponder.files import utf8
from ponder.grading.points import Subtask

MAX_ENTRIES = 20_000  # of a package
MAX_TEST = 256 << 20  # bytes of a test's file
MAX_TEXT = 4 << 20  # bytes of any other
MAX_TEXTS = 64 << 20  # bytes of all of those, which are kept in memory
MAX_TOTAL = 8 << 30  # bytes of a package, unpacked
MAX_PROCESSES = 8
SOURCES = (".cpp", ".cc", ".h", ".hpp")
# what Python's zipfile raises at a damaged or foreign zip: its decompressors have errors of their own
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, RuntimeError, ValueError
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TestData:
    """The two files of a test. `answer` never goes to a solution."""

    __test__ = False  # pytest: this is no test

    input: bytes
    answer: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class ContestPackage:
    """One problem, and where its files are read from. Two packages are never equal."""

    code: str
    name: str
    kind: Literal["batch", "communication"]
    time_seconds: float
    memory_mb: int
    subtasks: tuple[Subtask, ...]
    num_processes: int = 1  # communication: how many run at once
    has_own_main: bool = False  # a whole program, without a grader
    graders: Mapping[str, str] = field(default_factory=dict)  # name -> text, of what is compiled with a solution
    judges: Mapping[str, str] = field(default_factory=dict)  # of the manager or checker, with their headers
    digest: str = ""  # of problem, subtasks and graders
    files: PackageFiles = field(repr=False)

    def test(self, name: str) -> TestData:
        """Read now: tests of a package may be larger than memory."""
        given, answer = (self.files.read(f"tests/{name}.{end}", MAX_TEST) for end in ("in", "out"))
        return TestData(input=given, answer=answer)

    @property
    def points(self) -> float:
        return sum(subtask.points for subtask in self.subtasks)

    @property
    def scored(self) -> list[int]:
        """The indices of the subtasks that give points."""
        return [index for index, subtask in enumerate(self.subtasks) if subtask.points]

    @property
    def samples(self) -> list[int]:
        """The indices of those that give none."""
        return [index for index, subtask in enumerate(self.subtasks) if not subtask.points]

    @cached_property
    def attachments(self) -> Mapping[str, str]:
        """Texts that contestants get, by the name that they have in the attached zip."""
        left, texts = MAX_TEXTS, dict[str, str]()
        for name in sorted(self.files.names):
            if name.startswith("attachments/") and name.endswith(".zip"):
                inner = ZipFiles(io.BytesIO(self.files.read(name, MAX_TEXT)), f"{self.files.where}:{name}")
                texts |= _texts(inner, inner.names, left)
                left = MAX_TEXTS - sum(map(len, texts.values()))
        return texts

    @cached_property
    def statement(self) -> str:
        """The text of the problem; "" where the package has none."""
        found = [name for name in self.files.names if name.startswith("statement") and name.endswith(".md")]
        best = min(found, key=lambda name: ("en" not in name.lower(), len(name), name), default=None)
        return _text(self.files, best) if best else ""

    @cached_property
    def solutions(self) -> Mapping[str, str]:
        """The jury's programs: "incorrect/slow.cpp" -> its text."""
        names = [name for name in self.files.names if name.startswith("solutions/") and name.endswith(SOURCES)]
        return {name.removeprefix("solutions/"): text for name, text in _texts(self.files, names, MAX_TEXTS).items()}


# ---- where files are read from -------------------------------------------------------------------------------------


class PackageFiles(Protocol):
    """Files by their names inside a package: "tests/1-01.in"."""

    where: str  # for errors
    names: frozenset[str]

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file. ConfigError where it is missing, larger than `most` bytes, or outside of the package."""
        ...


class FolderFiles:
    """A folder on the disk."""

    def __init__(self, folder: Path) -> None:
        self.where, self._root = str(folder), folder.resolve()
        paths = [path for path in self._root.rglob("*") if path.is_file()]
        _check_count(self.where, len(paths))
        self.names = frozenset(path.relative_to(self._root).as_posix() for path in paths)

    def read(self, name: str, most: int) -> bytes:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ConfigError(f"{self.where}: {name} leads out of the package")
        if not path.is_file():
            raise ConfigError(f"{self.where}: {name} is missing")
        if path.stat().st_size > most:
            raise ConfigError(f"{self.where}: {name} is larger than {most:,} bytes")
        return path.read_bytes()


class ZipFiles:
    """A zip, or a folder inside it. Entries are read one by one, as far as they may go."""

    def __init__(self, file: str | Path | io.BytesIO, where: str) -> None:
        self.where = where
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise ConfigError(f"{where} is no zip that can be read ({error})") from None
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        _check_count(where, len(entries))
        for entry in entries:
            _check_entry(where, entry)
        if sum(entry.file_size for entry in entries) > MAX_TOTAL:
            raise ConfigError(f"{where}: unpacked it would be larger than {MAX_TOTAL:,} bytes")
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise ConfigError(f"{where}: two entries have the same name")
        self._prefix = ""
        self.names = frozenset(self._entries)

    def inside(self, folder: str) -> ZipFiles:
        """The same zip, seen from one of its folders."""
        seen = object.__new__(ZipFiles)
        seen.where, seen._zip, seen._entries = f"{self.where}:{folder}", self._zip, self._entries
        seen._prefix = folder and f"{folder}/"
        seen.names = frozenset(
            name.removeprefix(seen._prefix) for name in self._entries if name.startswith(seen._prefix)
        )
        return seen

    def read(self, name: str, most: int) -> bytes:
        entry = self._entries.get(self._prefix + name)
        if entry is None:
            raise ConfigError(f"{self.where}: {name} is missing")
        try:
            with self._zip.open(entry) as file:
                data = file.read(most + 1)
        except DAMAGED as error:
            raise ConfigError(f"{self.where}: {name} cannot be read ({error})") from None
        if len(data) > most:
            raise ConfigError(f"{self.where}: {name} is larger than {most:,} bytes")
        return data


def _check_count(where: str, count: int) -> None:
    if count > MAX_ENTRIES:
        raise ConfigError(f"{where}: {count:,} files, at most {MAX_ENTRIES:,} are read")


def _check_entry(where: str, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts or "\x00" in entry.orig_filename:
        raise ConfigError(f"{where}: the entry {name[:80]!r} leads out of the zip")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ConfigError(f"{where}: the entry {name[:80]!r} is a link or device; only files are read")
    if entry.flag_bits & 1:
        raise ConfigError(f"{where}: the entry {name[:80]!r} is encrypted")


def _text(files: PackageFiles, name: str) -> str:
    return files.read(name, MAX_TEXT).decode(errors="replace")


def _texts(files: PackageFiles, names: Iterable[str], most: int) -> dict[str, str]:
    """Several, which together may have `most` characters."""
    texts: dict[str, str] = {}
    for name in sorted(names):
        texts[name] = _text(files, name)
        most -= len(texts[name])
        if most < 0:
            raise ConfigError(f"{files.where}: its texts have more than {MAX_TEXTS:,} characters together")
    return texts


# ---- reading a package ---------------------------------------------------------------------------------------------


def find_packages(path: str | Path) -> list[ContestPackage]:
    """The packages of a folder, of its folders and zips, or the one package that the path is; sorted by their codes."""
    root = Path(path).expanduser()
    if not root.exists():
        raise ConfigError(
            f"{root} is not there; give a CMS package (a folder or zip with problem.json) or a folder of such"
        )
    found = [package for place in _places(root) for package in _packages_at(place)]
    if not found:
        raise ConfigError(f"{root} holds no CMS package: no problem.json in it, its folders or zips")
    codes = [package.code for package in found]
    twice = next((code for code in codes if codes.count(code) > 1), None)
    if twice is not None:
        raise ConfigError(f"{root} holds two packages with the code {twice!r}; name one of them")
    return sorted(found, key=lambda package: package.code)


def read_package(path: str | Path) -> ContestPackage:
    """The one package that a path holds."""
    found = find_packages(path)
    if len(found) > 1:
        raise ConfigError(f"{path} holds {len(found)} packages; name one: {', '.join(p.code for p in found)}")
    return found[0]


def _places(root: Path) -> list[Path]:
    if root.is_file() or (root / "problem.json").is_file():
        return [root]
    folders = [file.parent for depth in ("*", "*/*") for file in root.glob(f"{depth}/problem.json")]
    zips = [file for depth in ("*.zip", "*/*.zip") for file in root.glob(depth)]
    zips = [file for file in zips if file.parent not in folders]
    return sorted({*folders, *zips})


def _packages_at(place: Path) -> list[ContestPackage]:
    if place.is_dir():
        return [_package(FolderFiles(place))]
    files = ZipFiles(place, str(place))
    folders = [name.removesuffix("problem.json").rstrip("/") for name in files.names
               if name.rpartition("/")[2] == "problem.json" and name.count("/") <= 1]  # fmt: skip
    return [_package(files.inside(folder)) for folder in sorted(folders)]


def _package(files: PackageFiles) -> ContestPackage:
    row = _json(files, "problem.json")
    parameters = row.get("task_type_params") or {}
    if not isinstance(parameters, dict):
        parameters = _loaded(parameters, f"{files.where}: task_type_params")
    kind = {"Batch": "batch", "Communication": "communication"}.get(str(row.get("task_type")))
    if kind is None:
        raise ConfigError(f"{files.where}: task_type is {row.get('task_type')!r}; Batch and Communication are judged")
    graders, judges = _sources(files, kind)
    code, subtasks = _named(row, "code", files.where), _subtasks(files)
    parts = [row, [(each.name, each.points, each.tests) for each in subtasks], graders, judges]
    compilation = parameters.get("task_type_parameters_Batch_compilation", "grader" if graders else "alone")
    package = ContestPackage(
        code=code,
        name=utf8(str(row.get("name", code))),
        kind=kind,  # type: ignore[arg-type]
        time_seconds=_number(row, "time_limit", files.where, most=600),
        memory_mb=int(_number(row, "memory_limit", files.where, least=16 << 20, most=2**36)) >> 20,  # bytes, not MB
        subtasks=subtasks,
        num_processes=_count(parameters, files.where),
        has_own_main=kind == "batch" and compilation == "alone",
        graders={} if compilation == "alone" else graders,
        judges=judges,
        digest=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16],
        files=files,
    )
    if kind == "communication" and "manager.cpp" not in judges:
        raise ConfigError(f"{files.where}: a communication problem needs graders/manager.cpp")
    if kind == "batch" and not package.has_own_main and not any(name.startswith("grader.") for name in graders):
        raise ConfigError(f"{files.where}: a batch problem with a grader needs graders/grader.cpp")
    return package


def _sources(files: PackageFiles, kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """What is compiled with a solution, and what with the manager or checker."""
    here = [name for name in files.names if name.startswith(("graders/", "checker/")) and name.count("/") == 1]
    texts = _texts(files, [name for name in here if name.endswith(SOURCES)], MAX_TEXTS)
    graders = {name.removeprefix("graders/"): text for name, text in texts.items() if name.startswith("graders/")}
    headers = {name: text for name, text in graders.items() if name.endswith((".h", ".hpp"))}
    checker = {name.removeprefix("checker/"): text for name, text in texts.items() if name.startswith("checker/")}
    if kind == "communication":
        judges = headers | {name: text for name, text in graders.items() if name.startswith("manager.")}
    else:
        judges = headers | checker if "checker.cpp" in checker else {}
    stubs = ("stub.", "grader.")
    return headers | {name: text for name, text in graders.items() if name.startswith(stubs)}, judges


def _subtasks(files: PackageFiles) -> tuple[Subtask, ...]:
    found = []
    for name in sorted(files.names):
        if not name.startswith("subtasks/") or not name.endswith(".json"):
            continue
        row, where = _json(files, name), f"{files.where}: {name}"
        tests = row.get("testcases")
        if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
            raise ConfigError(f"{where}: testcases must be a list of names")
        missing = [test for test in tests if not {f"tests/{test}.in", f"tests/{test}.out"} <= files.names]
        if missing:
            raise ConfigError(f"{where}: the test {missing[0][:80]!r} has no tests/{missing[0][:80]}.in and .out")
        stem = name.removeprefix("subtasks/").removesuffix(".json")
        points = _number(row, "score", where, least=0.0, most=1e6)
        found.append(Subtask(name=stem, points=points, tests=tuple(dict.fromkeys(tests))))
    if not found:
        raise ConfigError(f"{files.where}: no subtasks/*.json")
    if not any(subtask.points for subtask in found):  # 0 of 0 points would be all of them
        raise ConfigError(f"{files.where}: every score in subtasks/*.json is 0; give one of them points")
    return tuple(found)


def _json(files: PackageFiles, name: str) -> dict[str, Any]:
    return _loaded(_text(files, name), f"{files.where}: {name}")


def _loaded(text: Any, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where} is no JSON ({error})") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is no JSON object")
    return row


def _named(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.isidentifier() or not value.isascii():
        raise ConfigError(f"{where}: {key} is {str(value)[:80]!r}; it must be a name of letters, digits and _")
    return value


def _number(row: Mapping[str, Any], key: str, where: str, *, least: float = 1e-3, most: float) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{where}: {key} is {str(value)[:80]}; it must be a number from {least:g} to {most:g}")
    return float(value)


def _count(parameters: Mapping[str, Any], where: str) -> int:
    value = parameters.get("task_type_parameters_Communication_num_processes", 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PROCESSES:
        raise ConfigError(f"{where}: {str(value)[:80]} processes; 1 to {MAX_PROCESSES} are judged")
    return value
