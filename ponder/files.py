"""Files that survive: written whole or not at all, by one process at a time, and read with a name for what is damaged.

Writing is append-only or replace-by-rename, so `kill -9` leaves at most one broken last line, which readers skip. A
full disk is a StorageError, and what was written before is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # no file locks on this system: then nothing warns of two writers
    fcntl = None  # type: ignore[assignment]

SMALL_ENOUGH, MOST_TIMES = 1 << 30, 100  # see `most_unpacked`


class StorageError(OSError):
    """The disk refused a write; what was written before is kept."""


def cache_root() -> Path:
    """Where ponder keeps what it made and can make again: $PONDER_CACHE, else a folder of the user's cache."""
    if os.environ.get("PONDER_CACHE"):
        return Path(os.environ["PONDER_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "ponder"


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace a file so that a reader, or a kill, sees the old or the new content and nothing between."""
    with replacing(path, path.with_name(f".{path.name}.{os.getpid()}.part")) as file:
        file.write(encoded(data) if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path, part: Path) -> Iterator[IO[bytes]]:
    """The same for what is written piece by piece. part: where it stands until it is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()  # gives a full disk its space back
        if isinstance(error, OSError):
            raise StorageError(
                f"cannot write {path}: {error.strerror or error}; free some space or choose another folder "
                "(what was written before is kept)"
            ) from error
        raise


def refuse_overwriting(out: Path, *read: str | Path) -> None:
    """A command never writes over what it reads: the rest of that would be gone."""
    for each in read:
        path = str(each).removeprefix("file:")  # or a task's name, which may be longer than a path can be
        if os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            raise ValueError(f"{out} is what this command reads; give another --out")


def encoded(text: str) -> bytes:
    """UTF-8 for a file. A lone surrogate, which JSON may give, becomes its escape: in JSON that is the same text."""
    return text.encode(errors="backslashreplace")


def utf8(text: str) -> str:
    """The text that `encoded` writes."""
    return text if text.isascii() else encoded(text).decode()


def well_formed(text: str) -> str:
    """Text that UTF-8 can carry beyond files: lone surrogates become U+FFFD, pairs of them their character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    """Text without what would steer a terminal: a model may write escapes, which move, recolour and copy."""
    return text if text.isprintable() else "".join(char for char in text if char in "\n\t" or char.isprintable())


def nan_as_null(value: Any) -> Any:
    """What JSON can hold of a value: it has no number for nan and infinity, and other readers refuse Python's."""
    if isinstance(value, Mapping):
        return {name: nan_as_null(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_as_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def null_as_nan(value: Any) -> Any:
    """What `nan_as_null` wrote, as numbers again."""
    if isinstance(value, dict):
        return {name: null_as_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [null_as_nan(inner) for inner in value]
    return math.nan if value is None else value


def jsonl(rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> str:
    """Rows as the lines that `read_jsonl` reads."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def append_jsonl(path: Path, rows: Sequence[Mapping[str, Any] | Sequence[Any]]) -> None:
    """Append whole lines in one write; a torn last line from an earlier kill is cut off first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    _cut_torn_line(file)
            start = file.seek(0, os.SEEK_END)
            try:
                rest = encoded(jsonl(rows))
                while rest:
                    rest = rest[file.write(rest) :]  # a nearly full disk takes a part, then refuses
            except OSError:
                file.truncate(start)  # a full disk writes half a line; leave none
                raise
    except OSError as error:
        raise StorageError(
            f"cannot append to {path}: {error.strerror or error}; free some space and run the same "
            "command again (what was written before is kept)"
        ) from error


def _cut_torn_line(file: Any) -> None:
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)


def read_jsonl(path: Path, *numbers: str) -> Iterator[dict[str, Any]]:
    """The lines of a file that ponder wrote; a torn last line is skipped, a broken one before it is an error. numbers:
    fields that hold one in every line; without them it is broken too."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number} is not JSON; delete that line to go on")
            if wrong := [name for name in numbers if type(row.get(name)) not in (int, float)]:
                raise ValueError(
                    f"{path}:{number} is damaged: its {wrong[0]!r} is no number; delete that line to go on"
                )
            yield row


def read_object(path: Path, *needed: str) -> dict[str, Any]:
    """The object in a JSON file that ponder wrote, with these keys; ValueError names a file that is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(found, dict) or not set(needed) <= set(found):
            raise ValueError(f"it is no object with {', '.join(needed) or 'anything in it'}")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return found


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys of a run's config.toml; ValueError names a file that is damaged."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({str(error)[:100]}); restore it, or begin again elsewhere")


def most_unpacked(size: int) -> int:
    """Bytes to which packed files of this size may unpack. A few can be made to fill any memory; data is not so."""
    return SMALL_ENOUGH + MOST_TIMES * size


def file_hash(*paths: str | Path) -> str:
    """The SHA-256 of their bytes one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


# --- one writer --------------------------------------------------------------------------------------------------


class InUse(ValueError):
    """Another process writes there."""


def hold(file: IO[Any]) -> bool:
    """Lock an open file; False where another process has it. The lock goes with the process, also by kill -9."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
    return True


def lock(path: Path, what: object) -> IO[str]:
    """Hold a lock file until it is closed; another process gets an error with the holder. Children do not hold it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - held open on purpose
    except OSError as error:
        raise StorageError(f"cannot write in {path.parent}: {error.strerror or error}; choose another") from error
    try:
        if not hold(file):
            file.seek(0)
            holder = file.read(500).strip() or "another process"
            raise InUse(f"{what} is being written by {holder}; wait for it, stop it, or give another `out`")
        file.truncate(0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        file.write(f"process {os.getpid()} on {platform.node()} ({command[:300]})")
        file.flush()
    except InUse:
        file.close()
        raise
    except OSError:
        pass  # a full disk: the lock holds without a name
    return file


def lock_beside(path: Path, what: object = None) -> IO[str]:
    """Hold a file or a folder that is about to be written, by a lock file beside it. what: its name in the error."""
    whole = path.absolute()  # "." has a name then
    return lock(whole.with_name(f".{whole.name}.lock"), what or path)
