"""What a run reads, as hashes: the files and problems of its task, and the model that it starts from.

    of_task("file:mine.jsonl", task, problems) | of_model("runs/sft")
    -> {"mine.jsonl": "9f86...", "the problems of file:mine.jsonl": "60ce...", "the model runs/sft": "fcde...",
        "config and tokenizer of runs/sft": "77ab..."}

`Run.same_inputs` keeps them in the run's folder and refuses to go on with others. The problems themselves are hashed
beside the files: a benchmark of a hub, a task of your own and a procedural family may change without any file here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ponder.files import file_hash
from ponder.models import hub
from ponder.scorers import files
from ponder.tasks.base import problems_hash
from ponder.types import Problem, Task

SMALL_FILES = "config and tokenizer of "  # begins a name that runs of before it was kept do not have
_SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja",
)  # fmt: skip


def files_of(task: Task) -> dict[str, str]:
    """The files that a task was read from, path -> sha256; those of a mixture together."""
    return {row["file"]: row["sha256"] for row in task.origin if "file" in row}


def of_task(spec: str, task: Task, problems: Iterable[Problem]) -> dict[str, str]:
    """The hashes of a task's files, by path, and one of the problems that are given, in their order."""
    return {**files_of(task), f"the problems of {spec}": problems_hash(problems)}


def source_of(spec: str, task: Task, *, seed: int, size: int) -> dict[str, Any]:
    """The train split of a task as `runs.record_training` wants it."""
    files = files_of(task)
    source = {"kind": "task", "task": spec, "split": "train", "seed": seed, "size": size}
    return source | ({"files": files} if files else {})


def of_model(reference: str | Path) -> dict[str, str]:
    """Its weights, and the files that say how they are read and what a prompt looks like; of a folder without weights,
    for training elsewhere (train/tinker_backend.py), what there is."""
    folder = hub.resolve(reference)
    if not any(folder.glob("*.safetensors")):
        kept = (folder / name for name in ("config.json", "tokenizer.json"))
        return {f"{path.name} of {reference}": file_hash(path) for path in kept if path.exists()}
    small = {name: file_hash(folder / name) for name in _SMALL if (folder / name).is_file()}
    whole = hashlib.sha256(json.dumps(small).encode()).hexdigest()
    return {f"the model {reference}": hub.fingerprint(folder), f"{SMALL_FILES}{reference}": whole}


def of_rewards(preference: str) -> dict[str, str]:
    """The scorer that a reward asks, where it is a folder."""
    folder = files.scorer_folder(preference) if preference else None
    return {f"the scorer {preference}": files.fingerprint(folder)} if folder and (folder / files.FACTS).exists() else {}
