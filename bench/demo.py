"""The demo's RL run, an earlier revision of ponder against this one: seconds for the same steps of the same recipe.

    git worktree add ../before 0123abc
    python bench/demo.py --before ../before              # 8 steps, 3 times each; 10 minutes
    make demo SEED=0 RUN=runs/demo_after                 # and the accuracy: the whole demo, then its exam

Each repetition runs both in turn, each from its own checkout with its own recipe (the keys' names may differ) and with
this Python, into a fresh folder. What counts is
the time of the steps that the run itself records (loading left out); rollout tokens are printed beside it, since an
engine that draws other random numbers writes other texts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common

RECIPE = "demo_nano_cpu.toml"
FOLDERS = ("ponder/recipes", "recipes")  # where it lies, now and before
MAIN = "from ponder.cli import main; main()"


def steps(checkout: Path, num_steps: int) -> tuple[float, float]:
    """Seconds and rollout tokens of a fresh run. Raises Missing."""
    recipe = next((checkout / folder / RECIPE for folder in FOLDERS if (checkout / folder / RECIPE).exists()), None)
    if recipe is None:
        raise common.Missing(f"{checkout} has no {RECIPE}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MAIN, "rl", str(recipe), f"num_steps={num_steps}", f"out={folder}/run"]
        env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
        metrics = Path(folder) / "run" / "metrics.jsonl"
        if done.returncode or not metrics.exists():
            raise common.Missing(f"{checkout}: {done.stderr.strip()[-300:] or 'no metrics'}")
        last = json.loads(metrics.read_text().splitlines()[-1])
        return last["seconds"], last["tokens/rollout"]


def main() -> None:
    parser = common.arguments(__doc__ or "", repeats=3)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier revision")
    parser.add_argument("--steps", type=int, default=8, help="steps of the recipe")
    arguments = parser.parse_args()
    num_steps, repeats = (1, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    checkouts = {"before": arguments.before.resolve(), "now": common.ROOT}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    for repeat in range(repeats):
        for name in list(checkouts)[:: 1 if repeat % 2 else -1]:
            taken[name].append(steps(checkouts[name], num_steps))
    seconds = {name: [each[0] for each in pairs] for name, pairs in taken.items()}
    faster = common.spread(common.ratios(seconds["before"], seconds["now"]))
    per_token = common.spread(
        common.ratios(*([time / tokens for time, tokens in taken[name]] for name in ("before", "now")))
    )
    name = f"{num_steps} steps of {RECIPE}"
    case = common.facts("demo", case=name, taken=taken, times_faster=faster, times_faster_per_token=per_token)
    lines = [name]
    for name, each in seconds.items():
        tokens = common.spread([pair[1] for pair in taken[name]])
        lines.append(f"  {name:8} {common.text(common.spread(each)):>24} s {common.text(tokens):>30} rollout tokens")
    lines.append(f"  now is {common.text(faster)} times as fast, {common.text(per_token)} times a rollout token")
    common.publish(arguments, [case], show="\n".join(lines))


if __name__ == "__main__":
    common.run(main)
