"""`ponder tinker` as a process of its own, for tests through the SDK itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_server(place: Path, log: Path, *, name: str, model: Path) -> tuple[subprocess.Popen, str]:
    """(the process, its address), once it listens. Its weights lie in place/weights; what it says goes to `log`."""
    command = [
        sys.executable, "-m", "ponder.cli", "tinker", "--port", "0", "--workers", "0",
        "--model", f"{name}={model}", "--folder", str(place / "weights"),
    ]  # fmt: skip
    with log.open("w") as out:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    for _ in range(3000):
        text = log.read_text()
        if " at http" in text:
            return process, text.strip().rpartition(" at ")[2]
        assert process.poll() is None, text
        time.sleep(0.1)
    raise AssertionError("the server did not start")
