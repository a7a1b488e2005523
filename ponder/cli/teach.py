"""Verbs that teach: data, star, sft, rl, scorer, doctor."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from ponder import processes
from ponder.cli import options as opt
from ponder.cli.app import LEARN, app
from ponder.cli.loading import check_kind, closing, describe, open_engine, own_recipe
from ponder.cli.options import number
from ponder.cli.show import finish, print_plan, resumable
from ponder.config import ConfigError
from ponder.files import refuse_overwriting
from ponder.types import SamplingParams


@app.command(rich_help_panel=LEARN)
def data(
    sources: Annotated[
        list[str],
        typer.Argument(help="Files of problems with a `solution` (yours, GSM8K's, MATH's), or tasks: words:level=1-5."),
    ],
    out: Annotated[Path, typer.Option(help="The JSON Lines file to write, for `ponder sft`.")],
    style: Annotated[
        str, typer.Option(help="plain, marks, equations or operations; deliberate, or chain with the same faults.")
    ] = "equations",
    count: Annotated[Optional[int], number("Problems of each source; default all, or 500 made.", least=1)] = None,
    no_exam: Annotated[
        bool, typer.Option("--no-exam", help="Take a file without `train` in its name: it is not a benchmark.")
    ] = False,
    slip: Annotated[float, number("deliberate, chain: how often an answer slips.", least=0, most=1)] = 0.1,
    early: Annotated[float, number("deliberate, chain: how often it guesses a step.", least=0, most=1)] = 0.15,
    careless: Annotated[float, number("deliberate: how often a choice falls at random.", least=0, most=1)] = 0.4,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Make training rows (problem, reasoning, answer) from worked solutions; every row is checked."""
    from ponder.train import deliberations
    from ponder.train.solutions import make_rows, write_rows

    refuse_overwriting(out, *sources)
    if (slip, early) != (0.1, 0.15) and style not in deliberations.STYLES:
        raise ConfigError(f"--slip and --early are of the styles deliberate and chain, not of {style}: leave them out")
    if careless != 0.4 and style != "deliberate":
        raise ConfigError(f"--careless is of the style deliberate, not of {style}: leave it out")
    if style in deliberations.STYLES:
        faults = deliberations.Faults(slip=slip, early=early, careless=careless)
        rows, dropped = deliberations.make_rows(sources, style, faults, count=count, seed=seed, no_exam=no_exam)
    else:
        rows, dropped = make_rows(sources, style, count=count, seed=seed, no_exam=no_exam)
    write_rows(rows, out)
    left_out = "; ".join(f"{number} left out: {reason}" for reason, number in dropped.most_common())
    finish(
        {"rows": len(rows), "dropped": dict(dropped), "out": str(out)},
        f"{len(rows)} rows are in {out}" + (f" ({left_out})" if left_out else ""),
        as_json,
    )


@app.command(rich_help_panel=LEARN)
def star(
    task: Annotated[str, typer.Option(help="What to draw on; its train split is used.")],
    out: Annotated[Path, typer.Option(help="The JSON Lines file of kept rows. Again = go on.")],
    model: opt.Model = "nano",
    samples: Annotated[int, number("Samples a problem.", least=1)] = 8,
    keep: Annotated[int, number("Different right solutions of a problem to keep, at most.", least=1)] = 4,
    shortest: Annotated[bool, typer.Option("--shortest", help="Keep the shortest of them instead of any.")] = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="Leave out of the work what announces it and what says its result again.")
    ] = False,
    prompting: Annotated[str, typer.Option(help="How it is asked; rows hold the plain problem.")] = "none",
    environment: Annotated[str, typer.Option(help="deliberate: draw whole deliberations.")] = "",
    drop_system: Annotated[
        bool, typer.Option("--drop-system", help="Rows are trained on without the system message they were drawn with.")
    ] = False,
    hint: Annotated[bool, typer.Option("--hint", help="Try unsolved problems again, the answer given.")] = False,
    limit: Annotated[Optional[int], number("Only the first problems.", least=1)] = None,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 64,
    temperature: opt.Temperature = 1.0,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    int8: opt.Int8 = False,
    as_json: opt.Json = False,
) -> None:
    """Draw solutions from a model and keep the verified ones as training rows (STaR, expert iteration)."""
    from ponder.live import Bar
    from ponder.tasks import load_task
    from ponder.tasks.prompting import Prompted
    from ponder.train.star import StarConfig
    from ponder.train.star import star as draw

    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    config = StarConfig(
        num_samples=samples, keep=keep, shortest=shortest, brief=brief, hint=hint, drop_system=drop_system,
        params=params, seed=seed,
    )  # fmt: skip
    problems = load_task(task, split="train", seed=seed)
    if prompting != "none":
        problems = Prompted(problems, prompting)
    if environment and (environment != "deliberate" or base_url):
        raise ConfigError("--environment is deliberate or nothing, and needs a local model")
    if environment and brief:
        raise ConfigError("--brief is for work in one piece, not for the turns of --environment: leave one out")
    facts = describe(model, base_url, int8=int8)
    engine = open_engine(model, base_url, int8=int8)
    if environment:
        from ponder.rollouts.deliberate import Deliberating, DeliberationConfig

        engine = Deliberating(engine, DeliberationConfig().environment())
    with closing(engine), resumable(), Bar(Console(stderr=True), "star") as bar:
        result = asyncio.run(
            draw(
                problems, engine, config, out=out, model=facts.fingerprint or facts.name,
                name=", ".join(filter(None, (task, environment, prompting.removesuffix("none")))),
                limit=limit, on_progress=lambda done, total, share: bar("", done, total, share),
            )
        )  # fmt: skip
    sentence = f"{result['rows']} rows of {result['solved'] + result['solved_with_hint']} problems are in {out}"
    finish(result, f"{sentence}; {result['pass_rate']:.1%} of the samples were right", as_json)


@app.command(rich_help_panel=LEARN)
def sft(
    recipe: Annotated[str, opt.recipe("sft_smollm2_cpu")],
    overrides: opt.Overrides = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Supervised fine-tuning on worked solutions: the cold start. Run it again to go on where it stopped."""
    if not dry_run:
        processes.prepare()
    from ponder.train.estimate import estimate_sft
    from ponder.train.sft import SFTConfig
    from ponder.train.sft import sft as train

    config: SFTConfig = own_recipe("sft", recipe, overrides or [])
    if dry_run:
        return print_plan(config, estimate_sft(config), as_json)
    console = Console(stderr=as_json, highlight=False)

    def show(step: int, metrics: dict[str, float]) -> None:
        if step % 20 == 0 or step + 1 == config.num_steps:
            console.print(
                f"step {step + 1}/{config.num_steps}  loss {metrics['loss']:.4f}  "
                f"{metrics['tokens'] / 1e6:.2f} M tokens  {metrics['seconds']:.0f} s"
            )

    with resumable():
        folder = train(config, on_step=show)
    finish({"model": str(folder)}, f"the model is in {folder}", as_json)


@app.command(rich_help_panel=LEARN)
def rl(
    recipe: Annotated[str, opt.recipe("demo_nano_cpu")],
    overrides: opt.Overrides = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Reinforcement learning with verified answers. Run it again to go on where it stopped."""
    if not dry_run:
        processes.prepare()
    from ponder.cli.planned import print_cluster_plans
    from ponder.live import RLView
    from ponder.train.dev import sentence
    from ponder.train.estimate import estimate_rl
    from ponder.train.plan import split_cluster
    from ponder.train.recipe import RLConfig
    from ponder.train.rl import rl as train

    keys, cluster = split_cluster(overrides or [])
    if cluster and not dry_run:
        raise ConfigError(f"{cluster[0]} is something to plan for; add --dry-run, or leave it out to run here")
    if cluster:
        return print_cluster_plans(recipe, keys, cluster, as_json)
    config: RLConfig = own_recipe("rl", recipe, keys)
    if dry_run and config.backend == "tinker":
        raise ConfigError("--dry-run estimates this machine; with backend = 'tinker' a service computes: leave it out")
    if dry_run:
        return print_plan(config, estimate_rl(config), as_json)
    console = Console(stderr=as_json)
    with resumable(), RLView(console, num_steps=config.num_steps) as view:
        folder = train(config, on_step=view)
    if (best := sentence(Path(config.out))) and not as_json:
        print(best)
    finish(
        {"model": str(folder), "run": config.out},
        f"the run is in {config.out}; ponder scale {config.out} draws its curves",
        as_json,
    )


@app.command(rich_help_panel=LEARN)
def scorer(
    recipe: Annotated[str, opt.recipe("scorer_nano_cpu")],
    overrides: opt.Overrides = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Train a scorer from a policy's own samples: will a completion end correct? Run it again to go on."""
    if not dry_run:
        processes.prepare()
    from ponder.evals.scorer_plots import save_page
    from ponder.evals.stats import cons_at
    from ponder.files import null_as_nan, read_object
    from ponder.live import Bar
    from ponder.train.estimate import estimate_scorer
    from ponder.train.scorer import recipe_of, train_scorer

    config = own_recipe("scorer", recipe, overrides or [])
    if dry_run:
        return print_plan(config, estimate_scorer(config), as_json)
    console = Console(stderr=True, highlight=False)
    with resumable(), Bar(console, "draw") as bar:
        folder = train_scorer(
            config,
            on_draw=lambda done, total, share: bar("", done, total, share),
            on_check=lambda check: console.print(str(check)),
            consensus=lambda counts, correct, k, blank: cons_at(counts, correct, k, blank=blank),
        )
    result = read_object(Path(config.out) / "result.json")
    if "curve" in result:  # of samples to choose among
        try:
            save_page(Path(config.out))
        except ImportError as error:
            print(f"note: {error}", file=sys.stderr)
    headline = recipe_of(config.kind).headline(null_as_nan(result))
    finish({"scorer": str(folder), **result}, f"the scorer is in {config.out}; {headline}", as_json)


@app.command(rich_help_panel=LEARN)
def doctor(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: opt.Json = False) -> None:
    """Explain a run that does not learn: what was seen, the likely cause, what to change."""
    from dataclasses import asdict

    from ponder.files import read_jsonl, read_recipe
    from ponder.train.doctor import diagnose, render

    if not (run / "metrics.jsonl").exists():
        raise ConfigError(f"{run} has no metrics.jsonl; give the folder of a `ponder rl` run")
    check_kind(run)
    findings = diagnose(list(read_jsonl(run / "metrics.jsonl")), read_recipe(run / "config.toml"))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        print(render(findings))
