"""A record of every evaluation on report problems: results that were seen may have influenced a choice.

One line each:

    runs/report_looks.jsonl     {"at": ..., "task": "gsm8k", "model": ..., "fingerprint": ..., "command": ...}
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from ponder.files import append_jsonl, read_jsonl

LOOKS = Path("runs/report_looks.jsonl")


def note_look(task: str, model: str, fingerprint: str, *, file: Path = LOOKS) -> str:
    """Write down that a model is measured on `task`, a report part; a sentence about the looks before."""
    rows = read_jsonl(file) if file.exists() else []
    before = [row for row in rows if _problems(str(row.get("task"))) == _problems(task)]
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


def _problems(task: str) -> str:
    """The same for two spellings of one set: how many of them, and who judges, makes no other problems."""
    return re.sub(r"[:,](?:size|verifier)=[^,]*", "", task)
