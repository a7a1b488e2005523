"""Verbs about monitors: monitor fit, monitor eval, monitor faithfulness, loophole."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.options import number
from ponder.cli.show import finish, print_json, resumable
from ponder.config import ConfigError
from ponder.files import refuse_overwriting

if TYPE_CHECKING:
    from ponder.evals.loophole import Found, Sample
    from ponder.monitors.base import View
    from ponder.monitors.learned import Trigrams

monitor = typer.Typer(help="Make and measure monitors, which read what a model wrote.", no_args_is_help=True)
app.add_typer(monitor, name="monitor", rich_help_panel=MEASURE)
Planted = Annotated[
    Path, typer.Argument(metavar="PLANTED.jsonl", help="Rows of problem, reasoning, answer, planted (and begins).")
]
ViewOption = Annotated[str, typer.Option(help="What it reads: reasoning, answer or both.")]
BudgetOption = Annotated[float, number("Share of clean completions that may be flagged.", least=0, most=0.5)]


def _view(text: str) -> View:
    from ponder.monitors.base import VIEWS

    if text not in VIEWS:
        raise ConfigError(f"--view {text!r} must be one of {', '.join(VIEWS)}")
    return text  # type: ignore[return-value]


@monitor.command("fit")
def fit(
    planted: Planted,
    out: Annotated[Path, typer.Option(help="The monitor's file, .json.")],
    view: ViewOption = "reasoning",
    budget: BudgetOption = 0.02,
    keep: Annotated[
        Optional[Path],
        typer.Option(metavar="FITTED.json", help="Keep the weights (and the view) of this one and set its threshold "
                     "anew, on clean rows of another checkpoint: of half of the problems."),
    ] = None,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Learn a monitor from planted data: trigrams on half of its problems, the threshold on a quarter of them."""
    from ponder.evals.monitoring import is_first_half, read_cases
    from ponder.monitors.learned import fit as learn
    from ponder.monitors.learned import load, threshold_for

    if out.suffix != ".json":
        raise ConfigError(f"--out {out} must end in .json")
    refuse_overwriting(out, planted)
    shown = _view(view)
    cases = [case for case in read_cases(planted) if is_first_half(case.problem)]
    if keep is not None:
        kept = load(keep)
        clean = [case.transcript.shown(kept.view) for case in cases if not case.planted]
        renewed = threshold_for(kept, clean, budget=budget)
        renewed.save(out)
        sentence = f"{out}: flags from {renewed.threshold:.3g} on, {keep} from {kept.threshold:.3g}; " \
               f"`ponder monitor eval {planted} --monitor {out}` measures it on the other half"  # fmt: skip
        return finish({"out": str(out), "fitted": 0, "clean": len(clean)}, sentence, as_json)
    quarter = [case for case in cases if is_first_half(f"threshold {case.problem}")]
    rest = [case for case in cases if not is_first_half(f"threshold {case.problem}")]
    texts = [case.transcript.shown(shown) for case in rest]
    learned = learn(texts, [case.planted for case in rest], view=shown)
    clean, held = ([case.transcript.shown(shown) for case in quarter if case.planted is kind] for kind in (False, True))
    threshold_for(learned, clean, budget=budget, planted=held).save(out)
    finish(
        {"out": str(out), "fitted": len(rest), "clean": len(quarter)},
        f"the monitor is in {out}; `ponder monitor eval {planted} --monitor {out}` measures it on the other half",
        as_json,
    )


@monitor.command("eval")
def evaluate(
    context: typer.Context,
    planted: Planted,
    name: Annotated[
        Optional[list[str]],
        typer.Option("--monitor", help="rules, a file of `ponder monitor fit`, or module:attr; several."),
    ] = None,
    endpoint: Annotated[
        Optional[str], typer.Option("--model", metavar="URL NAME", help="A language model: 'http://HOST/v1 NAME'.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Of --model: intent, deception, or module:attr.")] = "intent",
    view: Annotated[Optional[str], typer.Option(help="Of --model; default: all three.")] = None,
    api_key: opt.ApiKey = None,
    budget: BudgetOption = 0.02,
    rate: Annotated[
        Optional[float], number("Its base rate in use; default: that of the data.", least=0, most=1)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where replies of --model are kept. Again = go on.")] = Path("runs/monitor"),
    as_json: opt.Json = False,
) -> None:
    """Recall and false positives by view, precision at three base rates, delay, cost: half sets, half is measured."""
    from ponder.evals.monitoring import examine, read_cases, report_lines
    from ponder.monitors import load_monitors
    from ponder.monitors.base import VIEWS
    from ponder.monitors.model import ModelMonitor

    url, _, served = (endpoint or "").strip().partition(" ")
    if not url:
        opt.refuse_given(context, "of --model, which is not given", "prompt", "view", "api_key", "out")
    cases, monitors = read_cases(planted), list(load_monitors(name or []))
    if not monitors and not url:
        raise ConfigError("name a monitor: --monitor rules, a file, module:attr, or --model 'http://HOST/v1 NAME'")
    with contextlib.ExitStack() as stack:
        kept = None
        if url:
            from ponder.engine.remote import RemoteEngine
            from ponder.evals.kept import KeptCompletions, KeptEngine

            kept = stack.enter_context(KeptCompletions(out, {"model": f"{url} {served.strip()}"}))
            model = KeptEngine(RemoteEngine(url, served.strip(), api_key), kept)
            views = VIEWS if view is None else (_view(view),)
            monitors += [ModelMonitor(model, prompt=prompt, view=each, name=served.strip()) for each in views]
            stack.enter_context(resumable())
        found = []
        for monitor in monitors:
            reused = kept.num_reused if kept else 0
            report = asyncio.run(examine(monitor, cases, budget=budget, rate_of_data=rate))
            was_asked = kept is None or kept.num_reused == reused
            found.append(report if was_asked else replace(report, seconds=math.nan))
    if as_json:
        print_json([asdict(report) for report in found])
    else:
        print("\n".join(report_lines(found)))


@monitor.command("faithfulness")
def faithful(
    task: Annotated[str, typer.Option(help="Whose problems are asked.")] = "arithmetic",
    model: opt.Model = "nano",
    limit: Annotated[int, number("Problems.", least=2)] = 50,
    max_reasoning_tokens: Annotated[int, number("Of a chain.", least=1)] = 256,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    out: Annotated[Path, typer.Option(help="Where what was drawn is kept. Again = go on.")] = Path("runs/faithfulness"),
    as_json: opt.Json = False,
) -> None:
    """Does the answer come from the reasoning? Cut chains, mistakes and hints, each beside its control."""
    from ponder.cli.loading import closing, describe, open_engine
    from ponder.evals.faithfulness import faithfulness, faithfulness_lines
    from ponder.evals.kept import KeptCompletions, KeptEngine
    from ponder.tasks import load_task
    from ponder.types import SamplingParams

    problems = load_task(task, split="test", seed=seed)
    facts = describe(model, base_url)
    with (
        KeptCompletions(out, {"model": facts.name, "fingerprint": facts.fingerprint}) as kept,
        closing(open_engine(model, base_url, num_workers=0, api_key=api_key)) as engine,
        resumable(),
    ):
        params = SamplingParams(max_reasoning_tokens=max_reasoning_tokens)
        asked = [problems[i] for i in range(min(limit, len(problems)))]
        found = asyncio.run(faithfulness(KeptEngine(engine, kept), problems, asked, params, seed=seed))
    if as_json:
        print_json(asdict(found))
    else:
        print("\n".join(faithfulness_lines(found)))


@app.command("loophole", rich_help_panel=MEASURE)
def run_loophole(
    out: Annotated[Path, typer.Option(help="Runs, samples and the picture. Again = go on.")] = Path("runs/loophole"),
    seeds: Annotated[int, number("Of every arm.", least=1)] = 5,
    arms: Annotated[str, typer.Option(help="Of weak, penalty, left_out, exact.")] = "weak,penalty,left_out,exact",
    workers: Annotated[int, number("Processes; -1 = one a core, 0 = this one.", least=-1)] = -1,
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Compute from what is there; train nothing.")] = False,
    as_json: opt.Json = False,
) -> None:
    """What pressure does to a monitor: train four arms over seeds, measure each on the way, draw one picture."""
    from ponder.evals import loophole

    chosen = arms.split(",")
    for arm in chosen:
        if arm not in loophole.ARMS:
            raise ConfigError(f"--arms {arms}: {arm!r} is none of {', '.join(loophole.ARMS)}")
    if draw_only and not (out / "monitor.json").exists():
        raise ConfigError(f"{out} holds no experiment yet; leave out --draw-only")
    with resumable():
        learned = _base(out, workers)
        for seed in range(seeds if not draw_only else 0):
            for arm in chosen:
                _arm(out, arm, seed, workers)
                _keep_table(out, learned, chosen, seeds)
        found, lines = _keep_table(out, learned, chosen, seeds)
    text = "\n".join([*lines, "", f"the picture is {out}/loophole.png"])
    finish({"picture": f"{out}/loophole.png", "points": loophole.plain(found)}, text, as_json)


def _base(out: Path, workers: int) -> Trigrams:
    """The base is trained, its samples are drawn, the outside monitor is learned: each once."""
    from ponder.config import load
    from ponder.evals import loophole
    from ponder.files import read_jsonl
    from ponder.monitors import learned
    from ponder.runs import find_checkpoints
    from ponder.train.sft import SFTConfig, sft

    if not find_checkpoints(out / "base"):
        print("the base", file=sys.stderr, flush=True)
        sft(load(SFTConfig, "loophole_base_nano_cpu", [f"out={out}/base", f"num_workers={workers}"]))
    [*_, checkpoint] = find_checkpoints(out / "base")
    for name, split, size in (("base", "test", loophole.NUM_PROBLEMS), ("base_train", "train", 200)):
        if not (path := out / "points" / f"{name}.jsonl").exists():
            loophole.keep(path, _samples(checkpoint, workers, split, size))
    if not (path := out / "monitor.json").exists():
        rows = list(read_jsonl(out / "points" / "base_train.jsonl"))
        loophole.keep(out / "planted.jsonl", loophole.planted(rows))  # to measure other monitors on
        loophole.learn_monitor(rows, loophole.labels(rows)).save(path)
    return learned.load(path)


def _samples(checkpoint: Path, workers: int, split: str = "test", size: int = 100) -> list[Sample]:
    from ponder.engine.local import LocalEngine
    from ponder.evals import loophole
    from ponder.models import hub
    from ponder.train.distributed import resolve_workers

    async def drawn() -> list[Sample]:
        engine = LocalEngine(*hub.load(str(checkpoint), dtype=None), num_workers=resolve_workers(workers))
        try:
            return await loophole.draw(engine, split=split, size=size)
        finally:
            await engine.aclose()

    return asyncio.run(drawn())


def _arm(out: Path, arm: str, seed: int, workers: int) -> None:
    """Train one arm with one seed, and draw from its checkpoints what is not there yet."""
    from ponder.evals import loophole
    from ponder.runs import find_checkpoints
    from ponder.train.recipe import load_recipe
    from ponder.train.rl import rl

    missing = [step for step in loophole.STEPS[1:] if not loophole.point_file(out, arm, seed, step).exists()]
    if not missing:
        return
    folder = out / f"{arm}_seed{seed}"
    print(f"{arm}, seed {seed}", file=sys.stderr, flush=True)
    overrides = [f"out={folder}", f"model={out}/base", f"seed={seed}", f"num_workers={workers}"]
    rl(load_recipe(f"loophole_{arm}_nano_cpu", overrides))
    checkpoints = {int(path.name.removeprefix("step_")): path for path in find_checkpoints(folder)}
    for step in missing:
        loophole.keep(loophole.point_file(out, arm, seed, step), _samples(checkpoints[step], workers))


def _keep_table(out: Path, learned: Trigrams, arms: list[str], seeds: int) -> tuple[Found, list[str]]:
    """Write the table and the picture of all that is there; (its points, the table's lines)."""
    from ponder.evals import loophole
    from ponder.evals.axes import png
    from ponder.files import write_atomic

    found = loophole.read_points(out, learned, arms, range(seeds))
    if not found:
        raise ConfigError(f"{out} holds no arm yet; leave out --draw-only")
    lines = [*loophole.table(found), "", "Recall of the phrases on successful hacks at the last step:", "",
             *(f"- {line}" for line in loophole.last_recalls(found))]  # fmt: skip
    write_atomic(out / "table.md", "\n".join(lines) + "\n")
    try:
        png(loophole.picture(found), out / "loophole.png")
    except ImportError as error:
        print(f"note: {error}", file=sys.stderr)
    return found, lines
