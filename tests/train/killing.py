"""Runs of `ponder rl` that are killed and go on: they must end with the bits of a run that nobody disturbed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ponder.config import dumps
from ponder.files import read_jsonl
from ponder.train.recipe import RLConfig
from tests.cli import forked


def whole_and_broken(config: RLConfig, folder: Path, *, kills: Sequence[int]) -> tuple[Path, Path]:
    """Two finished runs of the config in processes of their own, one of them after a kill -9 at each of these steps.

    Fails if no kill met a running one, or if metrics or samples differ. Times may: they are compared by nobody.
    """
    whole, broken = folder / "whole", folder / "broken"
    for out in (whole, broken):
        (folder / f"{out.name}.toml").write_text(dumps(replace(config, out=str(out))))
    where: dict[str, Any] = {"cwd": folder, "environment": os.environ | {"PYTHONPATH": str(forked.ROOT)}}
    met = [forked.killed(["rl", "broken.toml"], when=partial(has_logged, broken, step), **where) for step in kills]
    assert any(met), "no kill met a running process"
    for out in (whole, broken):
        done = forked.run(["rl", f"{out.name}.toml"], timeout=300, **where)
        assert done.returncode == 0, done.stderr
    assert untimed(broken) == untimed(whole)
    assert (broken / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    return whole, broken


def has_logged(run: Path, steps: int) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and metrics.read_bytes().count(b"\n") >= steps


def untimed(run: Path) -> list[dict[str, Any]]:
    """A run's metrics without what a clock says."""
    rows = read_jsonl(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "seconds"))} for row in rows]
