"""plan, and what `--dry-run` prints where a cluster is named."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from ponder.cli import options as opt
from ponder.cli.app import LEARN, app
from ponder.cli.show import print_json

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="cluster=KIND:NUMBER [KEY=VALUE]...",
        help="cluster=h100:8,64,1000, how it is planned (plan.tensor=4), and recipe keys to change.",
    ),
]


@app.command(rich_help_panel=LEARN)
def plan(recipe: Annotated[str, opt.recipe("rl_qwen05_cpu")], words: Words, as_json: opt.Json = False) -> None:
    """What a run of `ponder rl` would do on GPUs: seconds a step, staleness, waiting, failures, what does not fit."""
    from ponder.train.plan import split_cluster

    print_cluster_plans(recipe, *split_cluster(words), as_json)


def print_cluster_plans(recipe: str, overrides: list[str], cluster_words: list[str], as_json: bool) -> None:
    """Plans for each number of GPUs, and why others do not fit. overrides: KEY=VALUE of the recipe. cluster_words: what
    `parse_cluster` reads."""
    from ponder.train.estimate import cluster_job
    from ponder.train.plan import parse_cluster, plans, table
    from ponder.train.recipe import load_recipe

    cluster = parse_cluster(cluster_words)
    config = load_recipe(recipe, overrides)
    job = cluster_job(config)
    found: list[dict[str, Any]] = []
    mean = cluster.mean_tokens or job.mean_tokens
    if not as_json:
        size, batch = f"{job.shape.total / 1e9:.3g} B weights", f"{job.groups} x {job.group_size} completions"
        print(
            f"{job.shape.name}, {size}; {batch} of {mean:,} tokens, {job.max_tokens:,} at most.\n"
            "Seconds a step, without failures. Lag: mean and largest, in updates. Waiting:\n"
            "shares of the time, of engines and of trainers. Lost: share that failures take."
        )
    for num_gpus in cluster.num_gpus:
        made, words = plans(job, cluster, num_gpus)
        found.append({"num_gpus": num_gpus, "plans": [one.as_dict() for one in made], "does_not_fit": words})
        if as_json:
            continue
        engines = f"; engines of {made[0].tensor}, {made[0].slots} sequences each" if made else ""
        print(f"\n{num_gpus:,} {cluster.hardware.upper()}{engines}")
        misfits = [textwrap.fill(f"does NOT fit: {line}", 80, subsequent_indent="  ") for line in words]
        print("\n".join(([table(made)] if made else []) + misfits))
    if as_json:
        print_json({"recipe": recipe, "model": job.shape.name, "mean_tokens": mean, "clusters": found})
