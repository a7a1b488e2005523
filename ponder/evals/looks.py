"""A record of every evaluation on report problems: results that were seen may have influenced a choice.

One line each:

    runs/report_looks.jsonl     {"at": ..., "task": "gsm8k", "model": ..., "fingerprint": ..., "command": ...}
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ponder.files import append_jsonl, read_jsonl

LOOKS = Path("runs/report_looks.jsonl")


def note_look(task: str, model: str, fingerprint: str, *, file: Path = LOOKS) -> str:
    """Write down that a model is measured on `task`, a report part; a sentence about the looks before."""
    before = [row for row in read_jsonl(file) if row.get("task") == task] if file.exists() else []
    others = [who for row in before if (who := row.get("fingerprint") or row.get("model")) != (fingerprint or model)]
    file.parent.mkdir(parents=True, exist_ok=True)
    row = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "task": task, "model": model,
           "fingerprint": fingerprint, "command": " ".join(sys.argv)}  # fmt: skip
    append_jsonl(file, [row])
    if not others:
        return f"no other model was measured on {task} so far; {file} says that this one was"
    return (
        f"{task} was looked at {len(others)} times before, for {len(set(others))} other models ({file}): what is "
        "chosen by these numbers is not reported on them"
    )
