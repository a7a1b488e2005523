"""The verbs as a user types them: in a process of their own, and what an error must look like."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cli.forked import ROOT, run

SHORT = ["--max-reasoning-tokens", "8", "--max-answer-tokens", "4"]


def ponder(*words: object, cwd: Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(list(map(str, words)), cwd=cwd, timeout=timeout,
               environment=os.environ | {"PYTHONPATH": str(ROOT)} | environment)  # fmt: skip


def fails_with(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
