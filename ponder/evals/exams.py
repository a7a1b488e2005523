"""Exams: a task put to an engine, the samples kept in a bank, and the numbers computed from the bank alone.

    result = await run_exam(task, engine, model="nano", num_samples=8, params=SamplingParams(), out="out/eval")
    result.metrics.pass_at[1]             -> Estimate(value=0.41, low=0.35, high=0.47)
    summarise(Bank.read("out/eval"))      -> the same numbers, without a model
    compare(Bank.read("a"), Bank.read("b")).pass_at[1]    -> b - a over the problems both hold, paired

Many problems are in flight at once, each as one `generate` call, so that the engine shares its prompt. A finished
problem goes into the bank at once; Ctrl-C, a full disk or a dead engine lose only what was in the air, and running
again draws only what is missing. More samples of a problem than may be in flight are drawn, and kept, in parts.
rollouts/grade.py defines what counts: an undecided answer is not correct, and its rate is reported; an answer that is
not there (the reasoning never closed, nothing was found in it) is wrong and never votes; a sample whose verifier failed
is not correct and counted by itself. Metrics are over the whole bank: asking for fewer samples or problems than it
holds hides nothing.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ponder import runs
from ponder.evals import contamination
from ponder.evals.accuracy_at_compute import headline
from ponder.evals.bank import Bank, BankSpec, Samples, sample_row, withheld, withheld_row
from ponder.evals.codec import ResultError
from ponder.evals.files import lock
from ponder.evals.identity import is_same
from ponder.evals.results import Accuracy, BankSummary, ExamResult, Flops, Gain, GroupAccuracy, TokenCounts
from ponder.evals.stats import Estimate, cons_at, interval, paired_difference, pass_at, powers_up_to, sampling_sd
from ponder.rollouts.grade import Tally, grade
from ponder.rollouts.side_by_side import side_by_side
from ponder.tasks.base import as_task
from ponder.types import Completion, Engine, Problem, SamplingParams, Task, text_seed

RESULT = "result.json"
FlopsPerToken = float | Callable[[int], float]  # of one token; a callable is given the token's index in the sequence
Progress = Callable[[int, int, float], None]  # problems done, problems in all, share of correct samples so far
Drawn = Callable[[Bank, Problem, int, Sequence[Completion]], Awaitable[None]]  # a problem's samples from a number on


async def run_exam(
    task: Task,
    engine: Engine,
    *,
    model: str,
    name: str | None = None,
    num_samples: int,
    params: SamplingParams,
    out: str | Path,
    seed: int = 0,
    limit: int | None = None,
    fingerprint: str = "",
    flops_per_token: FlopsPerToken | None = None,
    in_flight: int = 2048,
    on_progress: Progress | None = None,
    on_drawn: Drawn | None = None,
    command: str | None = None,
    training: Sequence[Mapping[str, Any]] = (),
) -> ExamResult:
    """Bring the bank in `out` to `num_samples` of each of the first `limit` problems; write and return result.json.

    `name` is the task as its user wrote it, with dials ("arithmetic:level=4"). `in_flight` is how many samples are
    asked for at once. `training` is what the model was trained on (`training_sources`), for the contamination check.
    `on_drawn` is called with samples that are in the bank by then.
    Stopping early still writes the result of what is done.
    """
    task = as_task(task)
    num_problems = len(task) if limit is None else min(limit, len(task))
    if num_samples < 1 or num_problems < 1:
        raise ValueError(f"{num_samples} samples of {num_problems} problems are no exam; use at least 1 of each")
    folder, start, complete = Path(out), time.monotonic(), False
    spec = BankSpec(
        task=name or task.name,
        split=task.split,
        model=model,
        fingerprint=fingerprint,
        params=params,
        seed=seed,
        grader=task.grader_version,
        verifier=task.verifier,
        prompting=task.prompting,
    )
    problems = [task[index] for index in range(num_problems)]
    with Bank.open(folder, spec) as bank:
        stored = _as_stored(bank, task, problems)  # an exam that is refused leaves the result as it was
        overlap = contamination.check(_measured(bank, task, problems), training)
        before, graded = _seconds_so_far(folder), Tally()
        try:
            complete = await _fill(
                bank, task, engine, spec, graded, problems, stored, num_samples, in_flight, on_progress, on_drawn
            )
        finally:  # also on the way out of an error or Ctrl-C
            result = ExamResult(
                **{**vars(summarise(bank, flops_per_token=flops_per_token)), "verifier": task.verifier},
                verifier_error=graded.last_failure,
                contamination=overlap,
                data=tuple(task.origin),
                seconds=before + time.monotonic() - start,
                complete=complete,
                command=" ".join(sys.argv) if command is None else command,
                revision=runs.revision(),
                machine=runs.machine(),
            )
            result.write(folder / RESULT)
    return result


def _as_stored(bank: Bank, task: Task, problems: Sequence[Problem]) -> dict[str, Problem]:
    """Problems by their ids, as the bank may hold them. Raises where two have one id, or the bank holds another."""
    repeated = [name for name, count in Counter(problem.id for problem in problems).items() if count > 1]
    if repeated:
        raise ValueError(f"{task.name} gives the id {repeated[0]!r} to more than one problem; ids must be unique")
    stored = {problem.id: withheld(problem) if task.is_gated else problem for problem in problems}
    for problem in stored.values():
        bank.check(problem)
    return stored


def _measured(bank: Bank, task: Task, problems: Sequence[Problem]) -> list[Problem]:
    """These and what else the bank holds, which the numbers are over too; withheld texts cannot be looked for."""
    asked = {problem.id for problem in problems}
    return [*problems, *(each for each in bank.problems if each.id not in asked and not task.is_gated)]


async def _fill(
    bank: Bank,
    task: Task,
    engine: Engine,
    spec: BankSpec,
    graded: Tally,
    problems: Sequence[Problem],
    stored: Mapping[str, Problem],
    num_samples: int,
    in_flight: int,
    on_progress: Progress | None,
    on_drawn: Drawn | None,
) -> bool:
    """Draw and judge what the bank lacks; true when it then lacks nothing."""
    todo = iter([problem for problem in problems if bank.num_samples(problem.id) < num_samples])
    rates = {p.id: bank.pass_rate(p.id) for p in problems if bank.num_samples(p.id) >= num_samples}
    under_way: dict[str, bool] = {}  # problem -> it lacks further parts
    # two at a time where one problem is more than may be in flight: the end of one part leaves no core idle
    most = num_samples if num_samples <= in_flight else max(1, in_flight // 2)

    async def work() -> None:
        for problem in todo:  # shared by all workers: each takes the next
            goes_on = True
            while goes_on:
                goes_on = await draw(problem)
                under_way[problem.id] = goes_on
                if bank.num_samples(problem.id):
                    rates[problem.id] = bank.pass_rate(problem.id)
                    if on_progress:
                        on_progress(len(rates) - sum(under_way.values()), len(problems), fmean(rates.values()))

    async def draw(problem: Problem) -> bool:
        """Keep the next part of a problem's samples; whether there is more to draw."""
        first = bank.num_samples(problem.id)
        wanted = min(most, num_samples - first)
        params = replace(spec.params, seed=text_seed(spec.seed, problem.id))
        completions = await engine.generate(problem.prompt, params, n=wanted, first=first)
        completions = list(takewhile(lambda completion: completion.finish_reason != "cancelled", completions))
        verdicts = await grade(task, problem, completions, keys=True)
        for verdict in verdicts:
            graded.add(verdict)
        rows = [
            sample_row(problem, index, completion, verdict)
            for index, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True), first)
        ]
        if task.is_gated:
            rows = [withheld_row(row) for row in rows]
        if rows:
            bank.append(stored[problem.id], rows, prompt_ids=() if task.is_gated else completions[0].prompt_ids)
            if on_drawn:
                await on_drawn(bank, problem, first, completions)
        return len(rows) == wanted and first + wanted < num_samples

    await side_by_side(work, min(len(problems), in_flight // most))
    return all(bank.num_samples(problem.id) >= num_samples for problem in problems)


def up_to_date(folder: str | Path) -> ExamResult:
    """An exam's result as its bank has it now, where scores may have been added since. What only the exam knew (FLOPs,
    seconds, command) is that of its result.json."""
    found = summarise(Bank.read(folder))
    if not (Path(folder) / RESULT).exists():
        return ExamResult(**vars(found))
    known = ExamResult.read(Path(folder) / RESULT)
    return replace(known, **{**vars(found), "flops": known.flops, "verifier": known.verifier})


def refreshed(folder: str | Path) -> ExamResult:
    """`up_to_date`, written into result.json where there is one. BankError where an exam is being drawn there."""
    folder = Path(folder)
    with closing(lock(folder / "bank.json")):
        result = up_to_date(folder)
        if (folder / RESULT).exists():
            result.write(folder / RESULT)
    return result


def summarise(bank: Bank, *, flops_per_token: FlopsPerToken | None = None) -> BankSummary:
    """The numbers of result.json that follow from the bank: problems with no samples yet are not in them."""
    # in the order of ids: problems finish in any order, and sums must not depend on it
    tables = bank.tables()
    num_samples = min(map(len, tables), default=0)

    def share(which: Callable[[Samples], Any]) -> float:
        """Over problems, as every other number: one with more samples weighs no more."""
        return fmean(float(np.mean(which(table))) for table in tables) if tables else math.nan

    return BankSummary(
        **vars(bank.spec),
        num_problems=len(tables),
        num_samples=num_samples,
        metrics=metrics(tables),
        headline=headline(tables, bank.scorers),
        sampling_sd={"pass@1": _sampling_sd(tables)},
        no_answer_rate=share(lambda table: table.classes < 0),
        truncated_rate=share(lambda table: table.was_cut),
        undecided_rate=share(lambda table: table.outcomes == "undecided"),
        failed_rate=share(lambda table: table.outcomes == "failed"),
        verifier_errors=sum(table.errors for table in tables),
        finish_reasons=Counter(str(reason) for table in tables for reason in table.finish_reasons),
        tokens=_tokens(tables),
        flops=_flops(tables, flops_per_token),
        levels=_by(tables, lambda problem: problem.level),
        subjects=_by(tables, lambda problem: problem.subject),
    )


def metrics(tables: Sequence[Samples]) -> Accuracy:
    """pass@k and cons@k for k = 1, 2, 4, ... up to the samples that every problem has, with intervals."""
    ks = powers_up_to(min(map(len, tables), default=0))
    return Accuracy(
        pass_at={k: estimate(tables, pass_rate_at, k) for k in ks},
        cons_at={k: estimate(tables, vote_rate_at, k) for k in ks},
    )


def estimate(tables: Sequence[Samples], rate: Callable[[Samples, int], float], k: int) -> Estimate:
    """The mean over problems of a rate at k, with its interval."""
    return interval([rate(table, k) for table in tables], draws=min(map(len, tables)) // k)


def pass_rate_at(table: Samples, k: int) -> float:
    """pass@k of one problem."""
    return pass_at(len(table), int(table.correct.sum()), k)


def vote_rate_at(table: Samples, k: int) -> float:
    """cons@k of one problem."""
    if k == 1:
        return pass_rate_at(table, 1)  # a vote of one sample is that sample
    counts, correct = table.tally()
    return cons_at(counts, correct, k, blank=table.blank)


def compare(first: Bank, second: Bank) -> Gain:
    """second - first over the problems that both banks hold: pass@1 and cons@k at the largest common k, paired.

    A problem is the same where its id, its question and what it is graded by are, however it was asked.
    """
    known = {problem.id: problem for problem in first.problems}
    shared = [p.id for p in second.problems if p.id in known and is_same(known[p.id], p)]
    if not shared:
        raise ValueError(f"{first.folder} and {second.folder} share no problem; compare exams of one task")
    return paired_gain(first, second, shared)


def paired_gain(first: Bank, second: Bank, shared: Sequence[str]) -> Gain:
    """`compare` over the problems of these ids."""
    pairs = [(first.samples(id), second.samples(id)) for id in shared]
    num_samples = min(min(len(a), len(b)) for a, b in pairs)

    def difference(rate: Callable[[Samples, int], float], k: int) -> Estimate:
        return paired_difference([rate(a, k) for a, _ in pairs], [rate(b, k) for _, b in pairs])

    return Gain(
        num_problems=len(shared),
        num_samples=num_samples,
        pass_at={1: difference(pass_rate_at, 1)},
        cons_at={num_samples: difference(vote_rate_at, num_samples)},
    )


def _sampling_sd(tables: Sequence[Samples]) -> float:
    """How far pass@1 would move if the same problems were sampled again: its standard deviation."""
    if not tables or min(map(len, tables)) < 2:
        return math.nan

    def rate(kinds: Sequence[int]) -> float:
        return pass_at(sum(kinds), kinds[0], 1)

    sds = [sampling_sd(rate, [int(t.correct.sum()), int((~t.correct).sum())]) for t in tables]
    return math.sqrt(sum(sd * sd for sd in sds)) / len(sds)


def _tokens(tables: Sequence[Samples]) -> TokenCounts:
    return TokenCounts(
        prompt=sum(table.prompt_tokens for table in tables),
        reasoning=int(sum(table.reasoning_tokens.sum() for table in tables)),
        completion=int(sum(table.tokens.sum() for table in tables)),
        reasoning_per_sample=fmean(t.reasoning_tokens.mean() for t in tables) if tables else math.nan,
        completion_per_sample=fmean(t.tokens.mean() for t in tables) if tables else math.nan,
    )


def _flops(tables: Sequence[Samples], per_token: FlopsPerToken | None) -> Flops:
    """`per_token` of the result is what lets a later reader of the bank count without the model."""
    if per_token is None or not tables:
        return Flops()
    longest = max(int(table.prompt_tokens + table.tokens.max()) for table in tables)
    cost = per_token if callable(per_token) else lambda index: per_token
    until = np.concatenate([[0.0], np.cumsum([cost(index) for index in range(longest)])])
    prompts = [float(until[table.prompt_tokens]) for table in tables]
    samples = [until[table.prompt_tokens + table.tokens] - until[table.prompt_tokens] for table in tables]
    return Flops(
        total=sum(prompts) + float(sum(costs.sum() for costs in samples)),
        prompt=float(np.mean(prompts)),
        sample=float(np.mean([costs.mean() for costs in samples])),
        per_token=(cost(0), (cost(longest) - cost(0)) / max(1, longest)),
    )


def _by(tables: Sequence[Samples], group: Callable[[Problem], int | str | None]) -> dict[str, GroupAccuracy]:
    """pass@1 and the longest cons@k for each level or subject there is."""
    names: list[Any] = sorted({name for table in tables if (name := group(table.problem)) is not None})
    result = {}
    for name in names:
        members = [table for table in tables if group(table.problem) == name]
        k = min(map(len, members))
        result[str(name)] = GroupAccuracy(
            num_problems=len(members),
            pass_at={1: estimate(members, pass_rate_at, 1)},
            cons_at={k: estimate(members, vote_rate_at, k)},
        )
    return result


def _seconds_so_far(folder: Path) -> float:
    """Seconds that earlier runs spent on this bank, as far as their result.json says."""
    try:
        return ExamResult.read(folder / RESULT).seconds
    except (FileNotFoundError, ResultError):  # it is written anew in any case
        return 0.0
