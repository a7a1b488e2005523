"""One JSON line a request on stderr: who, what, how long, how many tokens. Never a key, a prompt, an answer or a thought."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO


def log(event: str, *, to: TextIO | None = None, **fields: Any) -> None:
    """fields: numbers, ids and fixed words only."""
    line = json.dumps({"at": round(time.time(), 3), "event": event, **fields}, default=lambda value: type(value).__name__)
    print(line, file=to or sys.stderr, flush=True)
