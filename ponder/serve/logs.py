"""One JSON line a request on stderr: who, how long, how many tokens. Never a key, a prompt, an answer, a thought."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO


def log(event: str, *, to: TextIO | None = None, **fields: Any) -> None:
    """fields: numbers, ids and fixed words only."""
    line = {"at": round(time.time(), 3), "event": event, **fields}
    print(json.dumps(line, default=lambda value: type(value).__name__), file=to or sys.stderr, flush=True)
