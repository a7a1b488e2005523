"""Saved weights: a tinker:// path is a folder here, so they outlive the server.

    tinker://SESSION:train:0/weights/000020          -> ROOT/SESSION_train_0/weights/000020/
    tinker://SESSION:train:0/sampler_weights/final      adapter_config.json, adapter_model.safetensors   as PEFT's
    tinker://SESSION:train:0/external_weights/final     optimizer.safetensors                            of `weights`
                                                        checkpoint.json                                  what it is of

A folder is written beside its place and moved there when it is whole; what a kill leaves in the middle of that is
finished when it is next looked for.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import write_atomic

KINDS = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}
FACTS = "checkpoint.json"
MAX_TTL = 1e9  # seconds: 30 years
_LAST = 1e11  # seconds since 1970 that are still a date
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")
_RUN = re.compile(r"[A-Za-z0-9][\w:.-]{0,127}")
_PATH = re.compile(r"tinker://([^/]+)/([^/]+)/([^/]+)")


@dataclass(frozen=True)
class Checkpoint:
    """Saved weights, whole and not expired. path: the tinker:// path. facts: what `checkpoint.json` holds."""

    path: str
    folder: Path
    facts: Mapping[str, Any]


class SavedWeights:
    """The folder of all saved weights: save, find, list by run, delete. What has expired is not found."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(
        self, run: str, kind: str, name: str, write: Callable[[Path], None], facts: Mapping[str, Any], *,
        overwrite: bool = False, ttl: float | None = None,
    ) -> str:  # fmt: skip
        """Its path. ConfigError for a name that is taken or that is none."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            may = "use letters, digits, '.', '_' and '-', 128 at most"
            raise ConfigError(f"{str(name)[:200]!r} is no name for weights; {may}")
        is_time = isinstance(ttl, int | float) and 0 < ttl <= MAX_TTL
        if ttl is not None and not is_time:
            raise ConfigError(f"ttl_seconds={str(ttl)[:40]} must be a number of seconds, {MAX_TTL:.0f} at most")
        path, folder = f"tinker://{run}/{kind}/{name}", self._folder(run, kind, name)
        if folder.exists() and not overwrite and self._read(path, folder) is not None:
            raise ConfigError(f"{path} exists; save under another name, or with overwrite=True")
        new = _beside(folder)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        now = time.time()
        more = {"run": run, "time": now, "expires": now + ttl if ttl else None}
        try:
            write(new)
            write_atomic(new / FACTS, json.dumps({**facts, **more}, indent=1) + "\n")
        except BaseException:  # a full disk: what was written of it is in the way of everybody else
            shutil.rmtree(new, ignore_errors=True)
            raise
        _move(new, folder)
        return path

    def find(self, path: str) -> Checkpoint:
        """Raises ConfigError for a text that is no path, and for weights that are not there or have expired."""
        matched = _PATH.fullmatch(path)
        if not matched or matched[2] not in KINDS or not _RUN.fullmatch(matched[1]) or not _NAME.fullmatch(matched[3]):
            shape = "tinker://RUN/weights/NAME or tinker://RUN/sampler_weights/NAME"
            raise ConfigError(f"{path[:200]!r} is no path of weights; it looks like {shape}")
        found = self._read(path, self._folder(*matched.groups()))
        if found is None:
            raise ConfigError(f"there are no weights {path} in {self.root}; were they saved by a server elsewhere?")
        return found

    def of_run(self, run: str) -> list[Checkpoint]:
        """Oldest first."""
        found = []
        for kind in KINDS if _RUN.fullmatch(run) else ():
            for folder in sorted(self._folder(run, kind, "x").parent.glob("[A-Za-z0-9]*")):
                found.append(self._read(f"tinker://{run}/{kind}/{folder.name}", folder))
        return sorted((each for each in found if each), key=lambda each: each.facts["time"])

    def delete(self, path: str) -> None:
        """Raises ConfigError as `find` does."""
        folder = self.find(path).folder
        shutil.rmtree(_beside(folder), ignore_errors=True)  # of a kill: it would take the place of what is deleted
        _remove(folder)

    def _folder(self, run: str, kind: str, name: str) -> Path:
        return self.root / run.replace(":", "_") / kind / name

    def _read(self, path: str, folder: Path) -> Checkpoint | None:
        """None where there is nothing that is whole, or its time is over: then it goes."""
        if not (folder / FACTS).exists() and (_beside(folder) / FACTS).exists():  # killed between the two moves
            _move(_beside(folder), folder)
        try:
            facts = json.loads((folder / FACTS).read_bytes())
            now, expires = float(facts["time"]), facts["expires"]
            kinds = {"base_model": str, "rank": int, "train_mlp": bool, "train_attn": bool}
            is_whole = all(type(facts[name]) is kind for name, kind in kinds.items())
            if not is_whole or not 0 <= now <= _LAST or not (expires is None or 0 < expires <= _LAST):
                return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        if expires is not None and expires < time.time():
            _remove(folder)
            return None
        return Checkpoint(path, folder, facts)


def _remove(folder: Path) -> None:
    """What says that a folder is whole goes first: a kill in the middle leaves nothing that looks like weights."""
    (folder / FACTS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """Where a folder is written. What has FACTS there is whole: they are written last."""
    return folder.with_name(f".{folder.name}.new")


def _move(new: Path, folder: Path) -> None:
    """Put a whole folder in its place; the one that is there stays whole until the other is."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def as_listed(checkpoint: Checkpoint) -> dict[str, Any]:
    """As the SDK lists it."""
    _, kind, name = checkpoint.path.removeprefix("tinker://").split("/")
    when = lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat()
    expires = checkpoint.facts.get("expires")
    return {
        "checkpoint_id": f"{kind}/{name}",
        "checkpoint_type": KINDS[kind],
        "time": when(checkpoint.facts["time"]),
        "tinker_path": checkpoint.path,
        "size_bytes": sum(file.stat().st_size for file in checkpoint.folder.iterdir()),
        "expires_at": when(expires) if expires else None,
        "user_metadata": checkpoint.facts.get("user_metadata"),
    }
