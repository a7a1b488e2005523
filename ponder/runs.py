"""A run's folder: everything needed to reread a run without the code that made it.

    RUN/config.toml      the resolved config
    RUN/run.json         kind, seed, revision of the code, versions, machine, command line, start
    RUN/metrics.jsonl    one line a step: {"step": 3, "reward/mean": 0.4, ...}
    RUN/samples.jsonl    a few rollouts a step, best and worst
    RUN/all_rollouts.jsonl   every rollout, where the recipe asks for it (log_rollouts)
    RUN/evals.jsonl      evaluations on the way, and best.json: the best step (train/dev.py)
    RUN/checkpoints/step_00020/   a model folder (Hugging Face layout) + checkpoint.json (step, train FLOPs, tokens)
                                  + training.json (what it was trained on)
    RUN/state/           what an exact resume needs, replaced atomically
    RUN/inputs.json      hashes of the files, problems and models that it reads
    RUN/.lock            held by the one process that writes here

Writing is append-only or replace-by-rename, so `kill -9` leaves at most one broken last line, which readers skip.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ponder import __version__

try:
    import fcntl
except ImportError:  # no file locks on this system: then nothing warns of two writers
    fcntl = None  # type: ignore[assignment]

SMALL_ENOUGH, MOST_TIMES = 1 << 30, 100  # see `most_unpacked`
# keys of a recipe that a continued run may have changed: none of them changes what is learned
MAY_CHANGE = {
    "num_steps", "checkpoint_steps", "save_every", "eval", "adapter_only", "log_rollouts", "cluster", "tinker"
}  # fmt: skip


class StorageError(OSError):
    """The disk refused a write; what was written before is kept."""


def cache_root() -> Path:
    """Where ponder keeps what it made and can make again: $PONDER_CACHE, else a folder of the user's cache."""
    if os.environ.get("PONDER_CACHE"):
        return Path(os.environ["PONDER_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "ponder"


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace a file so that a reader, or a kill, sees the old or the new content and nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(encoded(data) if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder "
            "(what was written before is kept)"
        ) from error


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
                rest = encoded("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
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


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that ponder wrote; a torn last line is skipped, a broken one before it is an error."""
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


def revision() -> str:
    """The git revision of the code with "+changes" if it was edited, or the version where there is no checkout."""
    here = Path(__file__).parent
    try:
        top = subprocess.run(
            ["git", "-C", here, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=10
        )
        if top.returncode or Path(top.stdout.strip()) != here.parent:
            return __version__  # no checkout, or somebody else's around an installed package
        head = subprocess.run(
            ["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
        )
        dirty = subprocess.run(
            ["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    if head.returncode:
        return __version__
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def machine() -> dict[str, Any]:
    """What a reader needs to judge a time: processor, cores, memory in GiB, Python."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        memory = float("nan")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


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


class Run:
    """A run folder, open for writing by this process alone. Opening an existing one continues it.

    with Run("runs/demo", kind="rl", config_toml=dumps(config), seed=0) as run:
        ...
    """

    def __init__(
        self, folder: str | Path, *, kind: str, config_toml: str, seed: int, facts: Mapping[str, Any] | None = None
    ) -> None:
        """facts: further entries of run.json."""
        self.folder = Path(folder)
        self._facts = dict(facts or {})
        self._lock = lock(self.folder / ".lock", self.folder)
        try:
            self._open(kind, config_toml, seed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, kind: str, config_toml: str, seed: int) -> None:
        self.is_new = not (self.folder / "run.json").exists()
        if self.is_new and (self.folder / "bank.json").exists():  # it would be taken for that exam
            raise ValueError(f"{self.folder} holds the samples of an exam; choose another `out`")
        if self.is_new:
            facts = {
                "kind": kind,
                "seed": seed,
                "revision": revision(),
                "ponder": __version__,
                "machine": machine(),
                "command": " ".join(sys.argv),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            } | self._facts
            write_atomic(self.folder / "config.toml", config_toml + "\n")
            write_atomic(self.folder / "run.json", json.dumps(facts, indent=1) + "\n")
        else:
            for left in (self.folder / "state").glob(".*.part"):  # of a kill while a state was written: as large as it
                left.unlink(missing_ok=True)
            known = read_object(self.folder / "run.json", "kind")
            if known["kind"] != kind:
                raise ValueError(
                    f"{self.folder} holds a run of kind {known['kind']!r}, not {kind!r}; choose another folder"
                )
            self._continue(config_toml)

    def _continue(self, config_toml: str) -> None:
        """A run may be made longer, nothing else: else nobody could say afterwards which steps had which recipe."""
        old, new = read_recipe(self.folder / "config.toml"), tomllib.loads(config_toml)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if fixed := [key for key in changed if key not in MAY_CHANGE]:
            key = fixed[0]
            raise ValueError(
                f"{self.folder} was begun with {key} = {old.get(key)!r}, not {new.get(key)!r}; "
                "choose another `out`, or delete that folder to start over"
            )
        if changed:
            write_atomic(self.folder / "config.toml", config_toml + "\n")

    def same_inputs(self, inputs: Mapping[str, str], *, begun: bool) -> None:
        """Keep what the run reads, name -> hash; refuse to go on with anything else once it has `begun`."""
        path = self.folder / "inputs.json"
        if begun and path.exists():
            known = read_object(path)
            changed = [name for name in {**known, **inputs} if known.get(name) != inputs.get(name)]
            if changed:
                others = f" (and {len(changed) - 1} more)" if changed[1:] else ""
                raise ValueError(
                    f"{changed[0]}{others} has changed since {self.folder} was begun: what was learned and counted so "
                    "far was of the old content. Restore it to go on, or give another `out` for a new run"
                )
            return
        if begun:
            warnings.warn(
                f"{self.folder} was begun by a ponder that kept no hash of its data: it is taken to be the same",
                stacklevel=2,
            )
        write_atomic(path, json.dumps(inputs, indent=1, ensure_ascii=False) + "\n")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        append_jsonl(self.folder / "metrics.jsonl", [nan_as_null({"step": step, **metrics})])

    def log_samples(self, rows: list[Mapping[str, Any]]) -> None:
        append_jsonl(self.folder / "samples.jsonl", rows)

    def log_rollouts(self, rows: list[Mapping[str, Any]]) -> None:
        append_jsonl(self.folder / "all_rollouts.jsonl", rows)

    def forget_after(self, step: int) -> None:
        """Drop lines of steps at or past `step`: a resume makes them again, from the last saved state."""
        for name in ("metrics.jsonl", "samples.jsonl", "all_rollouts.jsonl"):
            path = self.folder / name
            if path.exists():
                kept = [row for row in read_jsonl(path) if row.get("step", 0) < step]
                write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def checkpoint_folder(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"step_{step:05d}"


def find_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a run, oldest first; only complete ones (their checkpoint.json is written last)."""
    return step_folders(Path(folder) / "checkpoints", "checkpoint.json")


def step_folders(folder: Path, file: str) -> list[Path]:
    """The folders of steps that hold this file, by number; step_00002_copy is none of them."""
    found = [path.parent for path in folder.glob(f"step_*/{file}")]
    return sorted((path for path in found if path.name.removeprefix("step_").isdecimal()), key=step_of)


def step_of(folder: Path) -> int:
    """Of a checkpoint, or an exam of one, by its name: step_100000 comes after step_99999."""
    return int(folder.name.removeprefix("step_"))


# --- what a model was trained on ---------------------------------------------------------------------------------


Source = Mapping[str, Any]  # what something was trained on: one of the forms below


def record_training(
    folder: str | Path, base: str | Path | None, sources: Sequence[Source], *, base_name: str = ""
) -> None:
    """Write FOLDER/training.json: what this model was trained on, carried forward from the model it began from.

    `base` is that model's folder, None for a model made from nothing. A source is one of
        {"kind": "task", "task": "gsm8k", "split": "train", "seed": 0, "size": 2048}
        {"kind": "file", "path": "data/solutions.jsonl", "sha256": "..."}      see `file_source`
        {"kind": "other", "name": "demonstrations", "note": "why its problems cannot be listed"}
        {"kind": "experiment", "name": "monitor in the reward", "reason": "..."}      see `experiment_source`
    """
    earlier = [] if base is None else training_sources(base)
    if base is not None and not earlier:
        earlier = [_unknown(base_name or Path(base).name)]
    merged = list({json.dumps(row, sort_keys=True): dict(row) for row in [*earlier, *sources]}.values())
    write_atomic(Path(folder) / "training.json", json.dumps({"format": 1, "sources": merged}, indent=1) + "\n")


def _unknown(name: str) -> dict[str, Any]:
    return {"kind": "unknown", "name": name, "note": "what it was trained on before is not recorded"}


def file_source(path: str | Path) -> dict[str, Any]:
    """A data file as a training source: where it is, and the digest of what it held."""
    return {
        "kind": "file",
        "path": str(path),
        "sha256": file_hash(path),
    }


def experiment_source(reason: str) -> dict[str, Any]:
    """That a monitor reached the reward of this training, and why. It stays with all that is trained from it."""
    return {"kind": "experiment", "name": "monitor in the reward", "reason": reason}


def experiments(folder: str | Path) -> list[str]:
    """The reasons for which monitors reached the reward while the model in a folder was trained."""
    return [str(row.get("reason")) for row in training_sources(folder) if row.get("kind") == "experiment"]


def file_hash(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def training_sources(folder: str | Path) -> list[dict[str, Any]]:
    """What the model in a folder was trained on, as far as it says: its training.json, else the recipe of its run.

    Empty where nothing is known. A file that is broken says nothing.
    """
    folder = Path(folder)
    try:
        sources = json.loads((folder / "training.json").read_text(encoding="utf-8"))["sources"]
        return [dict(row) for row in sources]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    try:
        recipe = read_recipe(run / "config.toml")
    except (OSError, ValueError):
        return []
    sources = []
    if recipe.get("model"):
        sources.append(_unknown(str(recipe["model"])))
    if isinstance(recipe.get("task"), str):
        names = {name: recipe[name] for name in ("seed",) if name in recipe} | {"size": recipe.get("pool_size")}
        sources.append({"kind": "task", "task": recipe["task"], "split": "train", **names})
    elif isinstance(recipe.get("data"), str) and Path(recipe["data"]).is_file():
        sources.append({"kind": "file", "path": recipe["data"]})
    elif "data" in recipe:
        sources.append({"kind": "other", "name": str(recipe["data"]), "note": "made while training"})
    return sources
