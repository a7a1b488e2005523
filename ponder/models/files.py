"""Reading the JSON files of a model folder: what is wrong with one is a ConfigError that names it and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import cache_root


def remedy(path: Path) -> str:
    """What to do about a damaged file of a model: a checkpoint of a run cannot be downloaded again, and what ponder
    pulled or merged is taken to be whole while its folder is there."""
    folder = next((each for each in path.parents if each.parent.name == "checkpoints"), None)
    if folder is None and cache_root() / "models" in path.parents:
        return f"delete the folder {path.parent}, then it is made anew: by `ponder pull`, a merged one when it is used"
    if folder is None:
        return "download it again"
    run = folder.parent.parent
    return (
        f"take another checkpoint ({run}@STEP); the one of the last step is written anew when you delete {folder} and "
        "run the command that trained it again"
    )


def read_json(path: Path, *, missing: str = "") -> dict[str, Any]:
    """The object in a JSON file; `missing` ends the message where there is no such file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"no {path.name} in {path.parent}; {missing or remedy(path)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable JSON ({error}); {remedy(path)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}, not an object; {remedy(path)}")
    return data
