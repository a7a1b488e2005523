"""Verbs that measure: eval, scale, score, report, compare, controller, grade."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console

from ponder import processes
from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.loading import CheckpointEngines, check_kind, closing, describe, open_engine
from ponder.cli.options import number
from ponder.cli.show import finish, finish_scale, print_metrics, print_tables, resumable, shown
from ponder.config import ConfigError, load
from ponder.types import SamplingParams, Task, text_seed

if TYPE_CHECKING:
    from ponder.evals.scoring import ScoringAsDrawn, ScoringResult

PartOption = Annotated[
    Optional[str],
    typer.Option(help="dev: what anything is chosen by; report: looked at once, for a number to print. Default: all."),
]


@app.command("eval", rich_help_panel=MEASURE)
def evaluate(
    task: Annotated[str, typer.Option(help="A task: a name, NAME:level=3-6, file:PATH, gym:FAMILY.")],
    model: opt.Model = "nano",
    out: Annotated[
        Optional[Path],
        typer.Option(help="Where samples and result.json go; default runs/eval/TASK-MODEL. Again = add."),
    ] = None,
    samples: Annotated[int, number("Samples a problem.", least=1)] = 8,
    verifier: Annotated[
        Optional[str], typer.Option(help="For file: and hub: tasks: exact, integer, choice, math or module:attr.")
    ] = None,
    limit: Annotated[Optional[int], number("Only the first problems.", least=1)] = None,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    part: PartOption = None,
    prompting: Annotated[
        str, typer.Option(help="How it is asked: none, letter, direct, zero_shot_cot or few_shot_cot (baselines).")
    ] = "none",
    environment: Annotated[
        str,
        typer.Option(
            help="What a sample is: programs or program_turns (what a program prints), openenv, verifiers, deliberate, "
            "or module:attr."
        ),
    ] = "",
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 64,
    temperature: opt.Temperature = 1.0,
    seed: opt.Seed = 0,
    engine_name: opt.EngineName = "local",
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    int8: opt.Int8 = False,
    scorer: Annotated[
        Optional[Path],
        typer.Option(help="What `ponder scorer` made: its scores are kept beside; a probe's as samples are drawn."),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Evaluate a model: pass@k and cons@k with intervals, from a bank of samples that is kept."""
    from ponder.evals.codec import encode
    from ponder.evals.exams import RESULT, run_exam
    from ponder.evals.looks import note_look
    from ponder.evals.results import ExamResult
    from ponder.live import Bar
    from ponder.rollouts.deliberate import Deliberating, DeliberationConfig, open_environment
    from ponder.tasks import load_task
    from ponder.tasks.base import TaskWrapper
    from ponder.tasks.prompting import Prompted
    from ponder.tasks.specs import with_verifier

    if scorer and base_url:
        raise ConfigError("--scorer reads token ids, which --base-url does not give: leave it out; for a reward model, "
                          "which reads answers, `ponder score` adds the scores")  # fmt: skip
    problems, task = _part(load_task(task, split=split, verifier=verifier), with_verifier(task, verifier), part)
    if prompting != "none":
        problems = Prompted(problems, prompting)
    if environment:
        problems = TaskWrapper(problems)
        problems.prompting = environment if prompting == "none" else f"{prompting}, {environment}"
    facts = describe(model, base_url, int8=int8)
    ways = [prompting] * (prompting != "none") + [environment] * bool(environment) + ["int8"] * int8
    name = "-".join([task, model, *ways])
    out = out or Path("runs/eval") / folder_name(name)
    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    scored = _scoring(scorer, problems, out, facts.fingerprint) if scorer else None
    if part == "report":
        print(note_look(task, facts.name, facts.fingerprint), file=sys.stderr)
    engine = open_engine(
        model, base_url, api_key=api_key, engine=engine_name, int8=int8,
        keep_hidden=scored is not None and scored.keeps_hidden,
    )  # fmt: skip
    if play := open_environment(environment, DeliberationConfig(), engine.tokenizer):
        engine = Deliberating(engine, play)
    with closing(engine), resumable(), scored or contextlib.nullcontext(), Bar(Console(stderr=True), "eval") as bar:
        result = asyncio.run(
            run_exam(
                problems, engine, name=task, model=facts.name, fingerprint=facts.fingerprint,
                num_samples=samples, params=params, out=out, seed=seed, limit=limit,
                flops_per_token=facts.flops_per_token, training=facts.training,
                on_progress=lambda done, total, figure: bar("", done, total, figure), on_drawn=scored,
            )
        )  # fmt: skip
    if scorer:  # what was not scored on the way
        _score(out, scorer)
        result = ExamResult.read(out / RESULT)
    if as_json:
        print(json.dumps(encode(result)))
    else:
        print_metrics(result)
        print(f"samples and result.json are in {out}; ponder report {out} makes a page of them")


def _scoring(scorer: Path, problems: Task, out: Path, policy: str) -> ScoringAsDrawn:
    """A scorer beside an exam. What would stop it later is refused before anything is drawn."""
    processes.prepare()  # before torch is imported
    from ponder.evals.scoring import ScoringAsDrawn

    if problems.is_gated:
        raise ConfigError(
            f"samples of {problems.name} are kept without their tokens, which --scorer reads; leave it out"
        )
    scored = ScoringAsDrawn(scorer, policy=policy)
    scored.check(out)
    return scored


def folder_name(name: str) -> str:
    """A name for a folder from what is evaluated; file systems take 255 bytes."""
    short = re.sub(r"[^\w.=@+-]+", "_", name).strip("_")
    return short if len(short.encode()) <= 200 else f"{short[:40]}_{text_seed(name):x}"


def _part(problems: Task, task: str, part: str | None) -> tuple[Task, str]:
    """The problems of a part, and what the exam is called then."""
    from ponder.tasks.parts import Part, with_part

    return (problems, task) if part is None else (Part(problems, part), with_part(task, part))


@app.command(rich_help_panel=MEASURE)
def scale(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a `ponder rl` run, or the --out of `ponder eval`.")],
    task: Annotated[
        Optional[str], typer.Option(help="What to evaluate on; default: unseen problems of the run's task.")
    ] = None,
    samples: Annotated[
        int, number("Samples a problem for the base, the middle and the last checkpoint.", least=1)
    ] = 64,
    checkpoint_samples: Annotated[int, number("Samples a problem for the other checkpoints.", least=1)] = 16,
    part: PartOption = None,
    limit: Annotated[int, number("Problems.", least=1)] = 120,
    checkpoint: Annotated[
        Optional[int], number("The step whose ways of choosing are compared; default the last.", least=0)
    ] = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Draw both curves of a run: accuracy against train-time and against test-time compute.

    And, of one checkpoint or of the samples of any evaluation, every way of choosing an answer from many samples.
    """
    from ponder.evals.contamination import refuse_overlap
    from ponder.evals.looks import note_look
    from ponder.evals.report import report as render
    from ponder.evals.scaling import STRATEGIES, compare_strategies
    from ponder.evals.scaling import scale as draw_curves
    from ponder.live import Bar
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config
    from ponder.rollouts.deliberate import open_environment
    from ponder.runs import find_checkpoints
    from ponder.tasks import load_task
    from ponder.tasks.ways import count
    from ponder.train.recipe import RLConfig, reached
    from ponder.trained_on import training_sources

    if (run / "bank.json").exists():
        of_a_run = "task", "part", "checkpoint", "samples", "checkpoint_samples", "limit", "seed"
        opt.refuse_given(context, f"for the folder of a run, and {run} is one exam, replayed as it is", *of_a_run)
        found = compare_strategies(run)
        found.write(run / STRATEGIES)
        return finish_scale(render(run), found, as_json)
    if not (run / "config.toml").exists():
        raise ConfigError(f"{run} is neither a run nor an exam; make one with ponder rl demo_nano_cpu")
    check_kind(run)
    config = load(RLConfig, run / "config.toml", prepare=reached)
    checkpoints = find_checkpoints(run)
    if not checkpoints:
        raise ConfigError(f"{run} has no checkpoint yet; let ponder rl run to its first one")
    problems, task = _part(load_task(task or config.task, split="test"), task or config.task, part)
    if part == "report":
        print(note_look(task, str(run), hub.fingerprint(checkpoints[-1])), file=sys.stderr)
    pool = load_task(config.task, split="train", seed=config.seed, size=config.pool_size)
    print(refuse_overlap(problems, pool, limit), file=sys.stderr)
    model = read_config(hub.resolve(checkpoints[0]))
    environment = open_environment(config.environment, config.deliberation)
    with (
        CheckpointEngines(environment) as engines,
        resumable(),
        Bar(Console(stderr=True), "scale") as bar,
    ):
        curves = asyncio.run(
            draw_curves(
                run, task=problems, name=task, open_engine=engines.open,
                fingerprint=hub.fingerprint, params=config.params,
                num_samples=samples, checkpoint_samples=checkpoint_samples, limit=limit, seed=seed,
                flops_per_token=lambda index: flops_per_token(model, index),
                way_of=lambda problem, reasoning: count(reasoning).way, on_progress=bar,
                training=training_sources(checkpoints[-1]), checkpoint=checkpoint,
            )
        )  # fmt: skip
    finish_scale(render(run), curves, as_json)


@app.command(rich_help_panel=MEASURE)
def score(
    bank: Annotated[Path, typer.Argument(help="The --out folder of `ponder eval`: its samples are scored.")],
    scorer: Annotated[Path, typer.Option(help="What `ponder scorer` made: its run folder.")],
    name: Annotated[str, typer.Option(help="What the scores are kept under; default: the scorer's own name.")] = "",
    workers: Annotated[int, number("Processes; -1 = one a core.", least=-1)] = -1,
    as_json: opt.Json = False,
) -> None:
    """Score every sample of a bank that has no score yet; the samples themselves stay as they are."""
    from ponder.evals.codec import encode

    result = _score(bank, scorer, name, workers)
    done = f"{result.scored_now} of {result.samples} samples scored in {result.seconds:.0f} s"
    finish(encode(result), f"{done}; the scores are kept as {result.name!r} in {bank}", as_json)


def _score(folder: Path, scorer: Path, name: str = "", workers: int = -1) -> ScoringResult:
    """Score what has no score yet; the exam's result.json then has what choosing by it gives."""
    processes.prepare()
    from ponder.evals.bank import Bank, BankError
    from ponder.evals.codec import ResultError
    from ponder.evals.exams import refreshed
    from ponder.evals.scoring import score_bank
    from ponder.live import Bar
    from ponder.train.distributed import resolve_workers

    bar = Bar(Console(stderr=True), "score", unit="samples", figure="mean score")
    with Bank.read(folder) as samples, resumable(), bar:
        result = score_bank(
            samples, scorer, name=name, num_workers=resolve_workers(workers),
            on_progress=lambda done, total, mean: bar("", done, total, mean),
        )  # fmt: skip
    with contextlib.suppress(BankError, ResultError):  # an exam goes on there, and writes its own; a damaged one stays
        refreshed(folder)
    return result


@app.command(rich_help_panel=MEASURE)
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder or the --out of an eval.")], as_json: opt.Json = False
) -> None:
    """Write report.html from a folder, without running anything again."""
    from ponder.evals.report import report as render

    path = render(folder)
    finish({"report": str(path)}, f"the report is {path}", as_json)


@app.command(rich_help_panel=MEASURE)
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(help="The --out folders of two or more evaluations; or a run: its base and its last step."),
    ],
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A table for a page of documentation.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Put finished evaluations side by side: a row each, with intervals and the paired gain over the first.

    RUN alone compares its base with its last checkpoint, RUN@20 is the
    evaluation of step 20, and so RUN@best and RUN@base (`ponder scale`
    makes them). Folders of several
    tasks become one table: a row a task and subject, two columns a model.
    """
    from ponder.evals.codec import encode
    from ponder.evals.comparison import comparison, markdown, table
    from ponder.evals.exam_table import exam_rows, exam_table, is_of_several_exams

    if is_of_several_exams(folders):
        rows = exam_rows(folders)
        found, shown, notes = encode({"rows": rows}), exam_table(rows), tuple[str, ...]()
    else:
        compared = comparison(folders)
        found, shown, notes = encode(compared), table(compared), compared.notes
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if as_markdown:
        print(markdown(shown))
    else:
        print_tables([shown])
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@app.command(rich_help_panel=MEASURE)
def controller(
    samples: Annotated[Path, typer.Argument(metavar="BANK", help="The --out of `ponder eval`: the stored samples.")],
    out: Annotated[Path, typer.Option(help="The controller's file, for `ponder ask --mode controller`.")],
    budget: Annotated[Optional[float], number("Mean tokens a problem; default: what 8 samples cost.", least=1)] = None,
    scorer: Annotated[str, typer.Option(help="A scorer whose scores the bank has, by name.")] = "",
    probes: Annotated[int, number("Samples that are looked at before it picks.", least=1)] = 4,
    as_json: opt.Json = False,
) -> None:
    """Fit a rule that picks how to spend by problem, and compare it with the best fixed way at equal cost."""
    from ponder.evals.codec import encode
    from ponder.evals.controlling import fit_controller, sentence

    result = fit_controller(samples, out=out, budget=budget, scorer=scorer, num_probes=probes)
    finish(encode(result), sentence(result), as_json)


@app.command(rich_help_panel=MEASURE)
def grade(
    target: Annotated[Optional[str], typer.Option(help="The reference answer.")] = None,
    answer: Annotated[Optional[str], typer.Option(help="The answer to check.")] = None,
    file: Annotated[Optional[Path], typer.Option(help="JSON Lines of target and answer instead.")] = None,
    verifier: Annotated[str, typer.Option(help="exact, integer, choice, math or module:attr.")] = "math",
    as_json: opt.Json = False,
) -> None:
    """Check answers as training and evaluation do: correct, wrong, or undecided."""
    from ponder.config import lookup
    from ponder.grading.handed_in import keyed
    from ponder.grading.verifiers import VERIFIERS, grade_file, grade_row

    check = verifier if verifier in VERIFIERS else keyed(lookup(VERIFIERS, verifier, what="verifier"))
    rows: Iterable[dict[str, Any]]
    if file is not None and (target is not None or answer is not None):
        raise ConfigError(f"{file} has targets and answers: leave out --target and --answer, or --file")
    if file is not None:
        rows = grade_file(file, check)
    elif target is None or answer is None:
        raise ConfigError("give --target and --answer, or --file PAIRS.jsonl")
    else:
        rows = [grade_row(target, answer, check)]
    for row in rows:
        if as_json or file is not None:
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            note = f": {row['note']}" if "note" in row else ""
            share = f", reward {row['reward']:g}" if "reward" in row else ""
            print(shown(f"{row['verdict']}{share} (read as {row['extracted']!r}){note}"))
