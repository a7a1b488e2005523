"""vLLM's HTTP server, which ends when whoever started it is gone; it runs in vLLM's environment.

Usage:

    python -m ponder_vllm_server ARGUMENTS
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time


def end_with_parent() -> None:
    """Standard input ends when the process that holds its other side does, however that died."""
    while os.read(sys.stdin.fileno(), 1024):  # not its buffer, whose lock this thread would hold when Python exits
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    # not `vllm serve`: that asks for the version of a package "vllm", which in the CPU build has another name
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
