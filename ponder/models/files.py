"""Reading the JSON files of a model folder: what is wrong with one is a ConfigError that names it and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ponder.config import ConfigError


def read_json(path: Path, *, missing: str = "download it again") -> dict[str, Any]:
    """The object in a JSON file; `missing` ends the message where there is no such file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"no {path.name} in {path.parent}; {missing}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable JSON ({error}); download it again") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}, not an object; download it again")
    return data
