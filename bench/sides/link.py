"""The protocol of a side: configuration on the command line, one JSON job a line in, one JSON reply a line out.

    serve(load)      load(config) -> answer(job) -> reply     a reply is a flat dict of numbers and short lists

Standard library only: it runs in every environment. `load` imports the heavy libraries, so that pinning and thread
counts come first, and so that an absent library is told as {"missing": why} and not as a traceback.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]


def serve(load: Callable[[Job], Callable[[Job], Job]]) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; only replies may reach the harness
    config = json.loads(sys.argv[1])
    if config["cores"]:
        os.sched_setaffinity(0, config["cores"])

    def reply(what: Job) -> None:
        replies.write(json.dumps(what) + "\n")
        replies.flush()

    try:
        answer = load(config)
    except ImportError as error:
        return reply({"missing": f"{error.name or error} is not installed here ({error!s:.200})"})
    reply({"versions": versions()})
    for line in sys.stdin:
        reply(answer(json.loads(line)))


def versions() -> dict[str, str]:
    """Of the libraries that this process has imported."""
    known = (
        "torch", "transformers", "trl", "vllm", "llama_cpp", "openvino", "openvino_genai", "math_verify", "ponder",
    )  # fmt: skip
    return {name: str(getattr(sys.modules[name], "__version__", "?")) for name in known if name in sys.modules}
