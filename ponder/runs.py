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

How they are written so that a kill or a full disk loses nothing: `ponder/files.py`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ponder import __version__
from ponder.files import append_jsonl, jsonl, lock, nan_as_null, read_jsonl, read_object, read_recipe, write_atomic

# keys of a recipe that a continued run may have changed: none of them changes what is learned, but for num_steps of
# `ponder sft`, which says so (its step size falls over all steps)
MAY_CHANGE = {
    "num_steps", "checkpoint_steps", "save_every", "eval", "adapter_only", "log_rollouts", "cluster", "tinker"
}  # fmt: skip

WRITTEN = ("metrics.jsonl", "checkpoints", "state", "rollouts.jsonl")  # never before run.json


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


class Run:
    """A run folder, open for writing by this process alone. Opening an existing one continues it.

    with Run("runs/demo", kind="rl", config_toml=dumps(config), seed=0) as run:
        ...
    """

    def __init__(
        self, folder: str | Path, *, kind: str, config_toml: str, seed: int, facts: Mapping[str, Any] | None = None,
        completed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:  # fmt: skip
        """facts: further entries of run.json. completed: of a recipe that an earlier version wrote, with the keys that
        are new since."""
        self.folder, self._completed = Path(folder), completed
        self._facts, self._recipe = dict(facts or {}), ""
        self._lock = lock(self.folder / ".lock", self.folder)
        try:
            self._open(kind, config_toml, seed)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock, so that another process may write here."""
        self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, kind: str, config_toml: str, seed: int) -> None:
        self.is_new = not (self.folder / "run.json").exists()
        if self.is_new and (self.folder / "bank.json").exists():  # it would be taken for that exam
            raise ValueError(f"{self.folder} holds the samples of an exam; choose another `out`")
        if self.is_new and (left := [name for name in WRITTEN if (self.folder / name).exists()]):
            raise ValueError(
                f"{self.folder} has no run.json, but {left[0]} of a run: nobody can say with which recipe that was "
                "made. Restore run.json, or choose another `out`"
            )
        if self.is_new:
            known = {
                "kind": kind,
                "seed": seed,
                "revision": revision(),
                "ponder": __version__,
                "machine": machine(),
                "command": " ".join(sys.argv),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            } | self._facts
            write_atomic(self.folder / "config.toml", config_toml + "\n")
            write_atomic(self.folder / "run.json", json.dumps(known, indent=1) + "\n")
        else:
            # of a kill while a state, or a log without its last lines, was written: as large as it
            for part in (*self.folder.glob(".*.jsonl.*.part"), *(self.folder / "state").glob(".*.part")):
                part.unlink(missing_ok=True)
            known = read_object(self.folder / "run.json", "kind")
            if known["kind"] != kind:
                raise ValueError(
                    f"{self.folder} holds a run of kind {known['kind']!r}, not {kind!r}; choose another folder"
                )
            self._continue(config_toml)
        # what tells this run from others, also where its folder has moved
        self.identity = ", ".join(str(known.get(name)) for name in ("kind", "seed", "started"))

    def _continue(self, config_toml: str) -> None:
        """A run may be made longer, nothing else: else nobody could say afterwards which steps had which recipe."""
        old, new = self._completed(read_recipe(self.folder / "config.toml")), tomllib.loads(config_toml)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if fixed := [key for key in changed if key not in MAY_CHANGE]:
            key = fixed[0]
            raise ValueError(
                f"{self.folder} was begun with {key} = {old.get(key)!r}, not {new.get(key)!r}; "
                "choose another `out`, or delete that folder to start over"
            )
        self._recipe = config_toml if changed else ""

    def same_inputs(self, inputs: Mapping[str, str], *, begun: bool, later: str = "") -> None:
        """Keep what the run reads, name -> hash; refuse to go on with anything else once it has `begun`. later: how
        names begin that older runs have not; what they name is taken to be the same."""
        path = self.folder / "inputs.json"
        if begun and path.exists():
            known = read_object(path)
            known |= {
                name: own for name, own in inputs.items() if later and name.startswith(later) and name not in known
            }
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
        """Append the line of a step to metrics.jsonl; nan and infinity become null."""
        append_jsonl(self.folder / "metrics.jsonl", [nan_as_null({"step": step, **metrics})])

    def log_samples(self, rows: list[Mapping[str, Any]]) -> None:
        append_jsonl(self.folder / "samples.jsonl", rows)

    def log_rollouts(self, rows: list[Mapping[str, Any]]) -> None:
        append_jsonl(self.folder / "all_rollouts.jsonl", rows)

    def forget_after(self, step: int) -> None:
        """Drop lines of steps at or past `step`: a resume makes them again, from the last saved state. From here on the
        recipe is the new one, where it has changed: a command that was refused leaves the old."""
        if self._recipe:
            write_atomic(self.folder / "config.toml", self._recipe + "\n")
        for name in ("metrics.jsonl", "samples.jsonl", "all_rollouts.jsonl"):
            path = self.folder / name
            rows = list(read_jsonl(path, "step"))
            kept = [row for row in rows if row["step"] < step]
            if len(kept) < len(rows):  # else nothing is written: a nearly full disk has no room for a second log
                write_atomic(path, jsonl(kept))

    def checkpoint_folder(self, step: int) -> Path:
        """Where the checkpoint of a step is or would be."""
        return self.folder / "checkpoints" / f"step_{step:05d}"


def find_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a run, oldest first; only complete ones (their checkpoint.json is written last)."""
    return step_folders(Path(folder) / "checkpoints", "checkpoint.json")


def best_step(run: Path) -> int:
    """The step that the evaluations on a run's way chose. ValueError where there were none."""
    try:
        return int(read_object(run / "best.json", "step")["step"])
    except FileNotFoundError:
        raise ValueError(f"{run} was not evaluated on its way, so it has no best step: eval.every=10") from None


def step_folders(folder: Path, file: str) -> list[Path]:
    """The folders of steps that hold this file, by number; step_00002_copy is none of them."""
    found = [path.parent for path in folder.glob(f"step_*/{file}")]
    return sorted((path for path in found if path.name.removeprefix("step_").isdecimal()), key=step_of)


def step_of(folder: Path) -> int:
    """Of a checkpoint, or an exam of one, by its name: step_100000 comes after step_99999."""
    return int(folder.name.removeprefix("step_"))
