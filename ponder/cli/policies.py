"""`ponder policies`: rows that teach a policy, drawn with it in the prompt and trained on without it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from ponder.cli import options as opt
from ponder.cli.app import LEARN, app
from ponder.cli.loading import closing, describe, open_engine
from ponder.cli.options import number
from ponder.cli.show import finish, resumable
from ponder.files import refuse_overwriting
from ponder.types import SamplingParams


@app.command(rich_help_panel=LEARN)
def policies(
    task: Annotated[str, typer.Option(help="Problems that show the policy to be learned; the train split is used.")],
    out: Annotated[Path, typer.Option(help="The JSON Lines file of rows for `ponder sft`. Again = go on.")],
    model: opt.Model = "nano",
    others: Annotated[str, typer.Option(help="Problems that show other policies; their rows go on showing them.")] = "",
    extra: Annotated[Optional[list[Path]], typer.Option(help="Rows of anything else to mix in; repeatable.")] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Leave the reasoning out: the control.")] = False,
    samples: Annotated[int, number("Samples a problem.", least=1)] = 1,
    keep: Annotated[int, number("Different right ones of a problem to keep, at most.", least=1)] = 1,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 64,
    temperature: opt.Temperature = 1.0,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Rows that move a policy from the prompt into the weights: work by it, judge, take it out of the prompt."""
    from ponder.live import Bar
    from ponder.tasks import load_task
    from ponder.train.policies import PolicyTasks, policy_rows
    from ponder.train.star import StarConfig

    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    config = StarConfig(num_samples=samples, keep=keep, params=params, seed=seed)
    refuse_overwriting(out, *(extra or ()))
    own = load_task(task, split="train", seed=seed)
    other = load_task(others, split="train", seed=seed + 1) if others else None
    tasks = PolicyTasks(own=own, own_name=task, others=other, others_name=others)
    facts = describe(model, base_url)
    engine = open_engine(model, base_url)
    with closing(engine), resumable(), Bar(Console(stderr=True), "policies", figure="kept") as bar:
        result = asyncio.run(
            policy_rows(
                tasks, engine, config, out=out, model=facts.fingerprint or facts.name, extra=extra or [],
                direct=direct, on_progress=lambda part, done, total, share: bar(part, done, total, share),
            )
        )  # fmt: skip
    kept = ", ".join(f"{result[part]['rows']} {part}" for part in ("own", "others") if part in result)
    finish(result, f"{result['rows']} rows are in {out} ({kept}, {result['extra']} extra)", as_json)
