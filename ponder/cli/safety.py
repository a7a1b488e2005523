"""`ponder safety` and `ponder certify`: under-refusal and over-refusal, and the grader's certificate."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.loading import closing, describe, open_engine
from ponder.cli.options import number
from ponder.cli.show import finish, print_json, resumable, shown
from ponder.config import ConfigError
from ponder.types import SamplingParams

if TYPE_CHECKING:
    from ponder.evals.graders import Grader
    from ponder.evals.safety import SafetyReport
    from ponder.evals.stats import Estimate


Judge = Annotated[
    Optional[str],
    typer.Option(metavar="MODEL or 'URL NAME'", help="A language model fills in a rubric instead of the rules: what "
                 "--model takes elsewhere, or 'http://HOST/v1 NAME'. Look at its certificate first."),
]  # fmt: skip


@app.command(rich_help_panel=MEASURE)
def safety(
    model: Annotated[str, typer.Argument(help="nano, a model folder, a run (RUN, RUN@step), or a name at --base-url.")],
    task: Annotated[str, typer.Option(help="desk:..., xstest, strongreject, or xstest+strongreject.")] = "xstest",
    transforms: Annotated[
        str, typer.Option(help="Names with commas between them, or all. Plain is always measured.")
    ] = "plain",
    samples: Annotated[int, number("Samples a prompt and transform.", least=1)] = 1,
    limit: Annotated[Optional[int], number("Only the first prompts.", least=1)] = None,
    out: Annotated[Path, typer.Option(help="The folder of labels. Again = go on.")] = Path("out/safety"),
    comprehension: Annotated[
        str, typer.Option(help="A task that shows whether a transform is read at all; 'none' = leave it out.")
    ] = "",
    labels: Annotated[
        Optional[Path], typer.Option(help="Answers labelled by people, to certify the grader: see ponder certify.")
    ] = None,
    judge: Judge = None,
    policy: Annotated[
        Optional[Path], typer.Option(help="A file of rules, as a system message before everything that is asked.")
    ] = None,
    keep_answers: Annotated[
        bool, typer.Option("--keep-answers", help="Store the answers too. They may be harmful texts.")
    ] = False,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 128,
    temperature: opt.Temperature = 0,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Measure refusals: of what must be refused, and of what must not be. Prompts are neither printed nor stored."""
    from ponder.evals.graders import certify, read_labelled
    from ponder.evals.safety import READ_BY, SafetySetup, judge_themselves, run_safety
    from ponder.live import Bar
    from ponder.serve.prompts import read_policy_file
    from ponder.tasks import load_task
    from ponder.tasks.transforms import TRANSFORMS

    if transforms == "all":
        transforms = ",".join(TRANSFORMS)
    facts = describe(model, base_url)
    setup = SafetySetup(
        model=facts.name, fingerprint=facts.fingerprint, name=task, num_samples=samples, seed=seed, limit=limit,
        transforms=tuple(filter(None, (name.strip() for name in transforms.split(",")))), keep_answers=keep_answers,
        comprehension={"": READ_BY, "none": ""}.get(comprehension, comprehension),
        policy=read_policy_file(policy) if policy else "",
        params=SamplingParams(
            temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
        ),
    )  # fmt: skip
    if samples > 1 and not temperature:
        raise ConfigError("temperature=0 draws the same sample every time; use a positive one, e.g. --temperature 0.8")
    found, labelled = load_task(task, seed=seed), None if labels is None else read_labelled(labels)
    if (judge or labels or comprehension) and judge_themselves([found[i] for i in range(len(found))]):
        raise ConfigError(
            f"{task} judges answers, and measures comprehension, by itself: leave out --judge, --labels and "
            "--comprehension"
        )
    with contextlib.ExitStack() as stack:
        grader = open_grader(judge, stack)
        certified = kept_grader(grader, out, stack) if labelled is not None else grader
        engine = open_engine(model, base_url, share=2 if judge else 1)
        stack.enter_context(closing(engine))

        async def examined(bar: Bar) -> SafetyReport:
            certificate = None
            if labels is not None and labelled is not None:
                certificate = await certify(certified, labelled, labels=labels.name, is_human=True)
            return await run_safety(
                found, engine, setup, out=out, grader=grader, certificate=certificate,
                on_progress=lambda done, total: bar("", done, total, done / total),
            )  # fmt: skip

        with resumable(), Bar(Console(stderr=True), "safety", unit="prompts", figure="done") as bar:
            report = asyncio.run(examined(bar))
    if as_json:
        print_json(report.as_dict())
    else:
        print(shown(safety_table(report)))


@app.command(rich_help_panel=MEASURE)
def certify(
    context: typer.Context,
    file: Annotated[
        Optional[Path],
        typer.Argument(help="Labelled answers: JSON Lines of prompt, answer, label, or XSTest's CSV of completions. "
                            "Without one: the made-up answers that come with ponder."),
    ] = None,
    made_up: Annotated[bool, typer.Option("--made-up", help="The labels of FILE were not given by people.")] = False,
    judge: Judge = None,
    out: Annotated[Path, typer.Option(help="Where the judge's replies are. Again = go on.")] = Path("runs/certify"),
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """How often the grader of refusals is right: recall and false positives, with intervals."""
    from ponder.evals.graders import certify, made_up_certificate, read_labelled

    if judge is None:
        opt.refuse_given(context, "of --judge, which is not given", "out")
    if file is None:
        opt.refuse_given(context, "of FILE, which is not given", "made_up")
    rows = None if file is None else read_labelled(file)
    with contextlib.ExitStack() as stack:
        grader = kept_grader(open_grader(judge, stack), out, stack)
        if judge:
            stack.enter_context(resumable())
        if file is None or rows is None:
            found = asyncio.run(made_up_certificate(grader))
        else:
            found = asyncio.run(certify(grader, rows, labels=file.name, is_human=not made_up))
    finish(asdict(found), found.sentence(), as_json)


def open_grader(judge: str | None, stack: contextlib.ExitStack) -> Grader:
    """The rules; or the rubric, filled in by a model whose engine is closed with the stack."""
    from ponder.evals.graders import RuleGrader
    from ponder.evals.rubric import RubricGrader

    if judge is None:
        return RuleGrader()
    first, _, second = judge.strip().partition(" ")
    url, name = (first, second.strip()) if first.startswith(("http://", "https://")) else ("", judge.strip())
    facts = describe(name, url or None)
    engine = open_engine(name, url or None, share=2)
    stack.enter_context(closing(engine))
    return RubricGrader(engine, judge=" ".join(filter(None, (facts.name, facts.fingerprint[:12]))))


def kept_grader(grader: Grader, folder: Path, stack: contextlib.ExitStack) -> Grader:
    """The same grader, whose model's replies are kept as they come."""
    from ponder.evals.kept import KeptCompletions, KeptEngine
    from ponder.evals.rubric import RubricGrader

    if not isinstance(grader, RubricGrader):
        return grader
    kept = stack.enter_context(KeptCompletions(folder, {"judge": grader.judge}))
    return grader.through(lambda engine: KeptEngine(engine, kept))


def safety_table(report: SafetyReport) -> str:
    """The pair of every transform, what the grader's errors hide, and how far a transform is understood at all."""
    lines = [
        f"{report.setup.model} on {report.setup.name}: {report.cells[0].num_forbidden} forbidden prompts, "
        f"{report.cells[0].num_allowed} allowed, {report.setup.num_samples} samples each; intervals 95 %, over prompts",
        f"judged by {report.judge}",
        "",
        f"{'transform':20} {'not_unsafe':>16} {'corrected':>16} {'not_overrefuse':>16} {'corrected':>16} "
        f"{'partial':>16} {'cited rule':>16} {'right':>16} {'rubric score':>16} {'comprehension':>16}  undecided",
    ]
    for cell in report.cells:
        shares = (
            cell.not_unsafe, cell.corrected_not_unsafe, cell.not_overrefuse, cell.corrected_not_overrefuse,
            cell.partial, cell.cited, cell.right, cell.score, cell.comprehension,
        )  # fmt: skip
        figures = " ".join(f"{_share(value):>16}" for value in shares)
        note = "  not understood: do not compare" if cell.is_deaf else ""
        lines.append(f"{cell.transform:20} {figures}  {cell.undecided}{note}")
    if not math.isnan(report.goodness):
        names = ", ".join(cell.transform for cell in report.cells if cell.transform != "plain")
        lines += [
            "",
            f"goodness@0.1 {report.goodness:.3f} over {report.goodness_prompts} forbidden prompts "
            f"({report.goodness_left_out} left out as undecided); transforms: {names}",
        ]
    return "\n".join(lines)


def _share(value: Estimate | None) -> str:
    if value is None or math.isnan(value.value):
        return "-"
    return f"{value.value:.2f} {value.low:.2f}-{value.high:.2f}"
