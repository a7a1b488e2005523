"""One JSON line a request on stderr: who, how long, how many tokens. Never a key, a prompt, an answer, a thought."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def log(event: str, **fields: Any) -> None:
    """fields: numbers, ids and fixed words only."""
    line = {"at": round(time.time(), 3), "event": event, **fields}
    print(json.dumps(line, default=lambda value: type(value).__name__), file=sys.stderr, flush=True)


def log_error(error: BaseException, **fields: Any) -> None:
    """An error by its kind and its place. Its text only if ponder's engine wrote it for an operator (`reason`): any
    other may quote a prompt or a thought."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    log("error", kind=type(error).__name__, where=where, reason=reason_of(error), **fields)


def reason_of(error: BaseException) -> str | None:
    """The text of an engine's own error, cut at 500 characters; None for any other error."""
    kind = type(error)
    is_engines = kind.__name__ == "EngineError" and kind.__module__.startswith("ponder.engine.")
    return str(error)[:500] if is_engines else None
