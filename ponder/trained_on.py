"""What a model was trained on: training.json in its folder, carried forward from the model that it began from.

record_training(folder, base, [{"kind": "task", "task": "gsm8k", "split": "train", "seed": 0, "size": 2048}])
training_sources(folder)        # for the check of contamination, and the notes of exams
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ponder.files import file_hash, read_recipe, write_atomic

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
