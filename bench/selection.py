"""Does choosing problems by their pass rate save rollout tokens? Reads finished runs; trains nothing.

    ponder rl recipes/demo_nano_cpu.toml seed=0 out=runs/demo_seed0 && ponder scale runs/demo_seed0
    ponder rl recipes/demo_nano_cpu.toml seed=0 selection=uniform out=runs/uniform_seed0
    ponder scale runs/uniform_seed0 --samples 8
    python bench/selection.py runs/demo_seed0:runs/uniform_seed0 [more pairs]

For each pair (adaptive:uniform, the same seed): the final pass@1 of both, and the rollout tokens each needed to first
reach the lower of the two, read off straight lines between the checkpoints. Prints a table and JSON lines.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from ponder.evals.results import ExamResult, TrainingCost
from ponder.runs import find_checkpoints


def curve(run: Path) -> list[tuple[float, float]]:
    """(rollout tokens, pass@1) of every checkpoint, oldest first."""
    points = []
    for folder in find_checkpoints(run):
        result = run / "scale" / folder.name / "result.json"
        if not result.exists():
            raise SystemExit(f"{run} is not measured at {folder.name}; run: ponder scale {run}")
        tokens = TrainingCost.read(folder / "checkpoint.json").rollout_tokens or 0.0
        points.append((tokens, ExamResult.read(result).metrics.pass_at[1].value))
    return points


def tokens_to_reach(points: list[tuple[float, float]], accuracy: float) -> float:
    """Where the curve first reaches an accuracy; nan if it never does. What it had at first cost it nothing."""
    if points[0][1] >= accuracy:
        return points[0][0]
    for (before, low), (after, high) in pairwise(points):
        if low < accuracy <= high:
            return before + (after - before) * (accuracy - low) / (high - low)
    return math.nan


def compare(adaptive: Path, uniform: Path) -> dict[str, Any]:
    first, second = curve(adaptive), curve(uniform)
    goal = min(first[-1][1], second[-1][1])
    needed = [tokens_to_reach(points, goal) for points in (first, second)]
    return {
        "adaptive": str(adaptive), "uniform": str(uniform), "final_adaptive": first[-1][1],
        "final_uniform": second[-1][1], "goal": goal, "tokens_adaptive": needed[0], "tokens_uniform": needed[1],
        "ratio": needed[0] / needed[1] if needed[1] else math.nan,  # nothing was needed: no ratio
    }  # fmt: skip


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    rows = [compare(*map(Path, pair.split(":"))) for pair in sys.argv[1:]]
    table = Table(title="rollout tokens to the same accuracy on unseen problems")
    for name in ("pair", "final, adaptive", "final, uniform", "tokens, adaptive", "tokens, uniform", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["adaptive"], f"{row['final_adaptive']:.1%}", f"{row['final_uniform']:.1%}",
            f"{row['tokens_adaptive'] / 1e6:.2f} M", f"{row['tokens_uniform'] / 1e6:.2f} M", f"{row['ratio']:.2f}",
        )  # fmt: skip
    Console().print(table)
    ratios = [row["ratio"] for row in rows]
    print(f"median ratio {median(ratios):.2f}, mean {fmean(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
