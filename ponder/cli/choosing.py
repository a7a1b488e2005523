"""Verbs that choose what to submit: inputs, submit, ioi."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.loading import closing, describe, open_engine
from ponder.cli.options import number
from ponder.cli.show import print_json, print_tables, resumable
from ponder.config import ConfigError
from ponder.types import SamplingParams

if TYPE_CHECKING:
    from ponder.evals.bank import Bank
    from ponder.evals.entries import Entry, HiddenPoints
    from ponder.evals.executions import ProgramRunner


WrittenBy = Annotated[
    str, typer.Option("--inputs", help="Those that `ponder inputs` had a model write, by name; default: made up.")
]


@app.command(rich_help_panel=MEASURE)
def inputs(
    bank: Annotated[Path, typer.Argument(help="The --out of `ponder eval` on a task whose answers are programs.")],
    model: opt.Model,
    name: Annotated[
        str, typer.Option(help="What they are called, for `ponder submit BANK --inputs NAME`.")
    ] = "written",
    generators: Annotated[int, number("Programs that make inputs, for each subtask.", least=1)] = 4,
    validators: Annotated[int, number("Programs that call inputs allowed; 75 % of them must.", least=0)] = 8,
    count: Annotated[int, number("Inputs of each subtask.", "--count", least=1, most=1000)] = 24,
    max_reasoning_tokens: opt.Reasoning = 0,
    max_answer_tokens: opt.Answer = 400,
    temperature: opt.Temperature = 1.0,
    engine_name: opt.EngineName = "local",
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    int8: opt.Int8 = False,
    as_json: opt.Json = False,
) -> None:
    """Have a model write inputs that tell a bank's programs apart: generators, and validators that check them.

    The model is told what a contestant knows. Its programs run behind the fence; an input is kept where 75 % of the
    validators accept it. Run it again to go on where it stopped.
    """
    from ponder.evals.bank import Bank
    from ponder.evals.codec import encode
    from ponder.evals.program_runners import open_runner
    from ponder.evals.tables import Table
    from ponder.evals.written_inputs import Asking, in_the_sandbox, writable, write_inputs
    from ponder.live import Bar
    from ponder.sandbox.executions import shared

    held = Bank.read(bank)
    runner, _ = open_runner(held.spec.task, held.spec.split)
    fence = shared().sandbox.fence  # refused here where there is none
    facts = describe(model, base_url, int8=int8)
    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    asking = Asking(
        model=facts.name, fingerprint=facts.fingerprint, generators=generators, validators=validators, inputs=count,
        sampling=json.dumps(asdict(params)), fence=fence,
    )  # fmt: skip
    writable(held, runner, name, asking)  # what is wrong with it, before a model is loaded
    engine = open_engine(model, base_url, api_key=api_key, engine=engine_name, int8=int8)
    progress = Bar(Console(stderr=True), "write", figure="with inputs")
    with closing(engine), resumable(), progress as bar:
        written = asyncio.run(
            write_inputs(
                held, runner, engine, in_the_sandbox, name, asking, params,
                on_progress=lambda done, total, share: bar("", done, total, share),
            )
        )  # fmt: skip
    if as_json:
        print(json.dumps(encode(written), ensure_ascii=False))
        return
    rows = [
        (each.contest, len(each.inputs), each.generators, f"{each.voting} of {each.validators}", each.made,
         each.rejected, each.runs, each.tokens)
        for each in written.by_contest.values()
    ]  # fmt: skip
    head = ("problem", "inputs", "generators", "validators that vote", "made", "rejected", "runs", "tokens")
    print_tables([Table(f"Inputs written by {facts.name}", head, rows)])
    note = f"; {len(written.without)} of {len(rows)} problems have none and keep the made-up ones" * bool(
        written.without
    )
    print(f"`ponder submit {bank} --inputs {name}` chooses by them{note}")


@app.command(rich_help_panel=MEASURE)
def submit(
    bank: Annotated[Path, typer.Argument(help="The --out of `ponder eval` on a task whose answers are programs.")],
    rules: Annotated[
        str, typer.Option(help="codeforces: accepted or not. ioi: points of every subtask.")
    ] = "codeforces",
    submissions: Annotated[str, typer.Option(help="How many a problem, separated by commas.")] = "1,10,50",
    samples: Annotated[Optional[int], number("Samples of each problem to choose from; default: all.", least=1)] = None,
    draws: Annotated[int, number("Random orders of the samples, by which ties are broken.", least=1)] = 20,
    fit: Annotated[
        Optional[Path], typer.Option(help="Another bank, of problems held out for it: fit the weights on it first.")
    ] = None,
    written: WrittenBy = "",
    as_json: opt.Json = False,
) -> None:
    """Run the programs of a bank, and compare ways of choosing which to submit, at equal submissions.

    Programs are run once and kept beside the bank; the table is in BANK/ladder_RULES.json, and in its report.
    """
    from ponder.config import lookup
    from ponder.evals.bank import Bank
    from ponder.evals.codec import encode
    from ponder.evals.ladder import fit_weights, ladder, table
    from ponder.evals.submissions import RULES
    from ponder.strategies.programs import Weights

    contest = lookup(RULES, rules, what="rules")
    budgets = numbers(submissions)
    with resumable():
        held = Bank.read(bank)
        runner, entries = run_programs(held, by_subtask=contest.reveals_points, written=written)
        weights, choosing = Weights(), "the weights are ponder's defaults"
        if fit is not None:
            other = Bank.read(fit)
            if shared := {problem.id for problem in held.problems} & {problem.id for problem in other.problems}:
                raise ConfigError(f"{fit} holds {len(shared)} of the same problems; fit on others, such as a dev part")
            _, tuning = run_programs(other, by_subtask=contest.reveals_points)
            scorer = next(iter(sorted(set(scorers(held, fewest(held))) & set(scorers(other, fewest(other))))), "")
            weights = fit_weights(tuning, rules=contest, budgets=budgets, scorer=scorer)
            choosing = f"weights fitted on {len(tuning)} other problems ({fit}): {json.dumps(asdict(weights))}"
        found = ladder(
            entries, rules=contest, budgets=budgets, num_samples=samples, draws=draws, weights=weights,
            scorers=scorers(held, samples or fewest(held)), task=held.spec.task, model=held.spec.model,
            choosing=choosing, runner=runner.facts, command=" ".join(sys.argv),
        )  # fmt: skip
    path = bank / f"ladder_{contest.name}{written and f'_{written}'}.json"
    found.write(path)
    if as_json:
        print(json.dumps(encode(found), ensure_ascii=False))
        return
    print_tables([table(found)])
    print(f"{choosing}; the table is in {path}, and `ponder report {bank}` shows it")


@app.command(rich_help_panel=MEASURE)
def ioi(
    bank: Annotated[Path, typer.Argument(help="The --out of `ponder eval` on cms:PATH, by problem or by subtask.")],
    submissions: Annotated[int, number("A problem.", least=1)] = 50,
    standings: Annotated[
        Optional[Path], typer.Option(help="The contestants' totals, one a line: then the percentile is printed.")
    ] = None,
    written: WrittenBy = "",
    as_json: opt.Json = False,
) -> None:
    """Take part in an olympiad with the samples of a bank: 50 submissions a problem, only these are judged."""
    from dataclasses import replace

    from ponder.evals.bank import Bank
    from ponder.evals.executions import execute_bank
    from ponder.evals.olympiad import olympiad, percentile
    from ponder.evals.submissions import IOI
    from ponder.evals.tables import Table
    from ponder.live import Bar

    totals = read_totals(standings) if standings else []
    held = Bank.read(bank)
    runner, points_of, kept = runner_of(held, written)
    if points_of is None:
        raise ConfigError(f"{held.spec.task} has no subtasks; `ponder submit` compares ways of choosing on it")
    with resumable():
        with Bar(Console(stderr=True), "run", unit="samples", figure="with a program") as bar:
            done = execute_bank(held, runner, kept, on_progress=lambda now, all_, share: bar("", now, all_, share))
        known = scorers(held)
        results = olympiad(
            held, done.table, runner, points_of, rules=replace(IOI, limit=submissions),
            scorer=known[0] if known else "",
            on_submission=lambda name, sample, points: print(f"{name}: sample {sample} got {points}", file=sys.stderr),
        )  # fmt: skip
    score = sum(result.score for result in results)
    better = percentile(score, totals) if totals else None
    if as_json:
        return print_json({"score": score, "percentile": better, "problems": results})
    rows = [
        (
            s.problem,
            f"{s.score:g} of {s.full:g}",
            " ".join(f"{points:g}" for points in s.subtasks),
            s.submissions,
            s.samples,
        )
        for s in results
    ]
    print_tables([Table(held.spec.model, ("problem", "points", "by subtask", "submissions", "samples"), rows)])
    full = sum(result.full for result in results)
    note = "" if better is None else f", percentile {better:.0f} among the {len(totals)} of {standings}"
    print(f"{score:g} of {full:g} points{note}")


def read_totals(path: Path) -> list[float]:
    """The numbers of a file, one a line."""
    try:
        totals = [float(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; write one contestant's total a line") from None
    if not totals or not all(map(math.isfinite, totals)):
        raise ConfigError(f"{path}: no totals, or one that is no number; write one contestant's total a line")
    return totals


def numbers(text: str) -> list[int]:
    """ "1,10,50" -> [1, 10, 50]"""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--submissions {text!r}: write numbers from 1 on with commas, such as 1,10,50")
    return sorted(set(map(int, parts)))


def scorers(bank: Bank, num_samples: int | None = None) -> list[str]:
    """The scorers that have scored every sample of a bank, and whose scores mean something among `num_samples` of each
    problem; None = all of it."""
    from ponder.evals.accuracy_at_compute import complete_scorers

    return complete_scorers(bank.tables(), bank.scorers, num_samples)[0]


def fewest(bank: Bank) -> int:
    """The samples that every problem has."""
    return min(bank.num_samples(problem.id) for problem in bank.problems)


def runner_of(bank: Bank, written: str) -> tuple[ProgramRunner, HiddenPoints | None, str]:
    """The runner of a bank, its hidden points, and the name under which executions are kept: other inputs, another."""
    from ponder.evals.program_runners import open_runner
    from ponder.evals.written_inputs import WithInputs, read_inputs

    runner, points_of = open_runner(bank.spec.task, bank.spec.split)
    language = str(runner.facts["language"])
    if not written:
        return runner, points_of, language
    return WithInputs(runner, read_inputs(bank, written)), points_of, f"{language}-{written}"


def run_programs(bank: Bank, *, by_subtask: bool, written: str = "") -> tuple[ProgramRunner, list[Entry]]:
    """The problems of a bank for the ladder; what has not been run yet is run."""
    from ponder.evals.entries import entries_of
    from ponder.evals.executions import execute_bank
    from ponder.live import Bar

    runner, points_of, kept = runner_of(bank, written)
    if by_subtask and points_of is None:
        raise ConfigError(f"{bank.spec.task} has no subtasks; leave out --rules ioi")
    with Bar(Console(stderr=True), "run", unit="samples", figure="with a program") as bar:
        done = execute_bank(bank, runner, kept, on_progress=lambda now, all_, share: bar("", now, all_, share))
    if done.lost:
        print(f"{done.lost} samples were lost by the machine: run this again when it is free", file=sys.stderr)
    held = scorers(bank)
    return runner, entries_of(bank, done.table, runner, scorers=held, points_of=points_of if by_subtask else None)
