"""Other projects' logs as banks: `read_log` finds the format, foreign.py writes the bank."""

from __future__ import annotations

from pathlib import Path

from ponder.config import ConfigError
from ponder.evals.imports import inspect, lm_eval
from ponder.evals.imports.foreign import ForeignLog


def read_log(path: Path, *, score: str = "", task: str = "") -> ForeignLog:
    """The samples of a log. `score` and `task` choose where a log has several."""
    if not path.exists():
        raise ConfigError(f"there is no {path}")
    if path.suffix == ".eval":
        return inspect.read(path, score=score)
    if path.is_dir() or path.suffix == ".jsonl":
        return lm_eval.read(path, score=score, task=task)
    if path.suffix == ".json" and lm_eval.is_results(path):
        return lm_eval.read(path, score=score, task=task)
    if path.suffix == ".json":
        return inspect.read(path, score=score)
    raise ConfigError(
        f"{path} is no log that is known; logs are Inspect's .eval or .json, and lm-eval's folder, results_*.json or "
        "samples_*.jsonl"
    )
