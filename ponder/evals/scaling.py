"""Both scaling curves of a run: accuracy against train-time compute and against test-time compute.

    curves = await scale("runs/demo", task=task, open_engine=..., fingerprint=..., params=params)
    report("runs/demo")                                                                      # draws it, see report.py

Every checkpoint is evaluated on the same problems with the same seeds; its bank stays in RUN/scale/step_00020/, so that
running again draws only what is missing. The base, the middle and the last checkpoint draw `num_samples`, the others
`checkpoint_samples`. Accuracy at test-time compute C is read off those three banks: cons@k costs one reading of the
prompt and k samples, and is exact over all subsets for every k. The last one is also evaluated with a smaller cap
on its reasoning, the second way of spending less. On the last checkpoint (or another) every strategy that only selects
is replayed. RUN/scale/curves.json then holds all of it, efforts.json the effort levels that `ponder serve` offers for
it. `compare_strategies` does the replay for any bank, without a run.

Train compute is what the checkpoints counted, from the base on: what made the base is not in it. Test compute is
counted in FLOPs where `flops_per_token` is given, and always in tokens.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ponder import efforts, runs
from ponder.engine.base import EngineWrapper
from ponder.evals.accuracy_at_compute import accuracy_at_compute, headline
from ponder.evals.bank import Bank
from ponder.evals.exams import RESULT, FlopsPerToken, compare, run_exam, vote_rate_at
from ponder.evals.results import (
    BudgetPoint,
    CheckpointResult,
    Curves,
    ExamResult,
    Strategies,
    TrainingCost,
    VoteCurve,
    VotePoint,
    WayCount,
)
from ponder.evals.stats import Estimate, paired_difference
from ponder.types import Engine, Problem, SamplingParams, Task

OpenEngine = Callable[[Path], Engine]  # a checkpoint folder -> an engine over its weights
WayOf = Callable[[Problem, str], str]  # the name of the way of thinking that a piece of reasoning took
ScaleProgress = Callable[[str, int, int, float], None]  # exam, problems done, problems in all, share correct so far

CURVES, STRATEGIES = "curves.json", "strategies.json"
BUDGETS = (1 / 8, 1 / 4, 1 / 2)  # shares of max_reasoning_tokens


async def scale(
    run_folder: str | Path,
    *,
    task: Task,
    open_engine: OpenEngine,
    fingerprint: Callable[[Path], str],
    params: SamplingParams,
    name: str | None = None,
    num_samples: int = 64,
    checkpoint_samples: int = 16,
    limit: int | None = None,
    seed: int = 0,
    flops_per_token: FlopsPerToken | None = None,
    way_of: WayOf | None = None,
    on_progress: ScaleProgress | None = None,
    command: str | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    checkpoint: int | None = None,
) -> Curves:
    """Evaluate the checkpoints of a run, write RUN/scale/curves.json, and return it. Stopping early keeps what is done.

    num_samples: of a problem, for the first, the middle and the last checkpoint; the others get checkpoint_samples.
    fingerprint: of a checkpoint's weights, by which a bank knows its own. checkpoint: the step whose strategies are
    compared; None = the last. training: what was trained on, for the search for contamination. ValueError where the
    run has no checkpoint, or none of that step.
    """
    folder = Path(run_folder)
    checkpoints = runs.find_checkpoints(folder)
    if not checkpoints:
        raise ValueError(f"{folder} has no finished checkpoint to evaluate; let `ponder rl` run to its first one")
    steps = [runs.step_of(path) for path in checkpoints]
    if checkpoint is not None and checkpoint not in steps:
        raise ValueError(f"{folder} has no checkpoint of step {checkpoint}; it has {', '.join(map(str, steps))}")
    checkpoint_samples = min(checkpoint_samples, num_samples)
    start, exams = time.monotonic(), plan(checkpoints, params, num_samples, checkpoint_samples)
    evaluated = 0
    try:
        for exam in exams:
            engine = LazyEngine(open_engine, exam.checkpoint)
            try:
                await run_exam(
                    task,
                    engine,
                    model=str(exam.checkpoint.relative_to(folder)),
                    name=name,
                    fingerprint=fingerprint(exam.checkpoint),
                    num_samples=exam.num_samples,
                    params=exam.params,
                    out=folder / "scale" / exam.name,
                    seed=seed,
                    limit=limit,
                    flops_per_token=flops_per_token,
                    on_progress=_named(on_progress, exam.name),
                    command=command,
                    training=training,
                )
                evaluated += 1
            finally:
                await engine.aclose()
    finally:
        if evaluated:  # exams that an earlier run finished count too
            wanted = len(task) if limit is None else min(limit, len(task))
            done = [e for e in exams if is_finished(folder / "scale" / e.name, wanted, e.num_samples)]
            curves = dataclasses.replace(
                collect(folder, done, checkpoint_samples=checkpoint_samples, way_of=way_of),
                strategies=_strategies_at(folder, done, checkpoint),
                complete=len(done) == len(exams),
                command=" ".join(sys.argv) if command is None else command,
                seconds=time.monotonic() - start,  # of this run; every exam counts its own in result.json
            )
            curves.write(folder / "scale" / CURVES)
            if curves.complete:
                levels = published(curves, fingerprint(checkpoints[-1]), folder / "scale")
                levels.write(folder / "scale" / efforts.FILE)
    return curves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exam:
    """One exam of the plan: a checkpoint, how it is sampled, and the folder under RUN/scale."""

    name: str
    checkpoint: Path
    params: SamplingParams
    num_samples: int
    role: str = ""  # base, middle, final: drawn on the test-compute curve; budget: the last with less reasoning


def plan(checkpoints: Sequence[Path], params: SamplingParams, num_samples: int, checkpoint_samples: int) -> list[Exam]:
    """The exams of a run: its ends first, so that a stopped evaluation already has what matters most."""
    roles = {len(checkpoints) // 2: "middle", 0: "base", len(checkpoints) - 1: "final"}  # later entries win
    exams = [
        Exam(
            name=checkpoint.name,
            checkpoint=checkpoint,
            params=params,
            num_samples=num_samples if i in roles else checkpoint_samples,
            role=roles.get(i, ""),
        )
        for i, checkpoint in enumerate(checkpoints)
    ]
    caps = sorted({int(params.max_reasoning_tokens * share) for share in BUDGETS} - {0, params.max_reasoning_tokens})
    budgets = [
        Exam(
            name=f"{checkpoints[-1].name}_reasoning_{cap:05d}",
            checkpoint=checkpoints[-1],
            params=dataclasses.replace(
                params, max_reasoning_tokens=cap, min_reasoning_tokens=min(cap, params.min_reasoning_tokens)
            ),
            num_samples=checkpoint_samples,
            role="budget",
        )
        for cap in caps
    ]
    order = {"base": 0, "final": 1, "middle": 2, "": 3}
    return sorted(exams, key=lambda exam: order[exam.role]) + budgets


def published(curves: Curves, policy: str, folder: Path) -> efforts.Efforts:
    """The effort levels of the last checkpoint: one sample with less and less of a cap, then votes of more and more. A
    level pays if its gain over the one before it, paired over the same problems, is more than noise."""
    cap = max(row.max_reasoning_tokens for row in curves.budgets)
    last = max(curves.test, key=lambda curve: curve.step)
    home = next(checkpoint.folder for checkpoint in curves.checkpoints if checkpoint.step == last.step)
    ways = [(row.folder, row.max_reasoning_tokens, 1, row.tokens, row.pass_at[1]) for row in curves.budgets]
    ways += [(home, cap, row.k, row.tokens, row.cons_at_k) for row in last.points if row.k > 1]
    banks = {name: Bank.read(folder / name) for name in {way[0] for way in ways}}
    rates: dict[efforts.Point, dict[str, float]] = {}  # of each problem
    for name, max_reasoning_tokens, n, tokens, rate in ways:
        tables = [banks[name].samples(problem.id) for problem in banks[name].problems]
        size = ExamResult.read(folder / name / RESULT).tokens
        answer_tokens = size.completion_per_sample - size.reasoning_per_sample
        point = _effort_point(max_reasoning_tokens, n, tokens, rate, answer_tokens)
        rates[point] = {table.problem.id: vote_rate_at(table, n) for table in tables}

    def pays(cheap: efforts.Point, dear: efforts.Point) -> bool:
        shared = sorted(rates[cheap].keys() & rates[dear].keys())
        return paired_difference([rates[cheap][p] for p in shared], [rates[dear][p] for p in shared]).low > 0

    return efforts.Efforts.choose(
        list(rates), task=curves.task, num_problems=curves.num_problems, policy=policy, verifier=curves.verifier,
        pays=pays,
    )  # fmt: skip


def _effort_point(cap: int, n: int, tokens: float, rate: Estimate, answer_tokens: float) -> efforts.Point:
    value = min(1.0, max(0.0, rate.value))  # estimates over all subsets round a little beside 0 and 1
    return efforts.Point(
        max_reasoning_tokens=cap, n=n, tokens=tokens, accuracy=value, answer_tokens=answer_tokens,
        low=max(0.0, min(rate.low, value)), high=min(1.0, max(rate.high, value)),
    )  # fmt: skip


class LazyEngine(EngineWrapper):
    """Opens the engine when something is asked of it: an exam whose bank is full loads no weights."""

    def __init__(self, open_engine: OpenEngine, checkpoint: Path) -> None:
        self._open, self._checkpoint = open_engine, checkpoint
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:  # type: ignore[override]  # nobody may set it
        if self._engine is None:
            self._engine = self._open(self._checkpoint)
        return self._engine

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._engine is not None:
            await self._engine.aclose()
        self._engine = None


def collect(run_folder: Path, exams: Sequence[Exam], *, checkpoint_samples: int, way_of: WayOf | None) -> Curves:
    """Both curves from finished exams."""
    folder = run_folder / "scale"
    results = {exam.name: ExamResult.read(folder / exam.name / RESULT) for exam in exams}
    checkpoints = sorted(
        (exam for exam in exams if exam.role != "budget"), key=lambda exam: runs.step_of(exam.checkpoint)
    )
    any_result = results[checkpoints[0].name]
    k = max(k for k in set.intersection(*(set(found.metrics.cons_at) for found in results.values()))
            if k <= checkpoint_samples)  # fmt: skip
    last = checkpoints[-1]
    caps = [e for e in exams if e.role == "budget"] + [e for e in checkpoints if e.role == "final"]
    ends = [Bank.read(folder / exam.name) for exam in checkpoints if exam.role in ("base", "final")]
    return Curves(
        task=any_result.task,
        split=any_result.split,
        seed=any_result.seed,
        params=any_result.params,
        grader=any_result.grader,
        num_problems=any_result.num_problems,
        revision=any_result.revision,
        machine=any_result.machine,
        verifier=any_result.verifier,
        contamination=results[last.name].contamination,
        k=k,
        checkpoints=tuple(_checkpoint(exam, results[exam.name], folder, k, way_of) for exam in checkpoints),
        test=tuple(_vote_curve(exam, results[exam.name]) for exam in checkpoints if exam.role),
        budgets=tuple(_budget(exam, results[exam.name], k) for exam in caps),
        gain=compare(*ends) if len(ends) == 2 else None,
    )


def _strategies_at(run_folder: Path, exams: Sequence[Exam], step: int | None) -> Strategies | None:
    """The strategies compared on the checkpoint of this step (None = the last); None where its exam is not done."""
    drawn = [exam for exam in exams if exam.role != "budget" and step in (None, runs.step_of(exam.checkpoint))]
    last = max(drawn, key=lambda exam: runs.step_of(exam.checkpoint), default=None)
    return compare_strategies(run_folder / "scale" / last.name) if last else None


def compare_strategies(folder: str | Path) -> Strategies:
    """What each way of selecting gives for its cost, of one bank, with its headline: see accuracy_at_compute.py.

    FLOPs are counted as its exam counted them (result.json), else there are tokens only.
    """
    bank = Bank.read(folder)
    path = bank.folder / RESULT
    per_token = ExamResult.read(path).flops.per_token if path.exists() else None
    tables = bank.tables()
    return Strategies(
        **vars(bank.spec),
        **vars(accuracy_at_compute(tables, bank.scorers, per_token=per_token)),
        folder=bank.folder.name,
        headline=headline(tables, bank.scorers),
    )


def is_finished(folder: Path, num_problems: int, num_samples: int) -> bool:
    """The exam in this folder has drawn at least what is wanted now: a smaller one of an earlier run has not."""
    if not (folder / RESULT).exists():
        return False
    result = ExamResult.read(folder / RESULT)
    return result.complete and result.num_problems >= num_problems and result.num_samples >= num_samples


def _checkpoint(exam: Exam, result: ExamResult, folder: Path, k: int, way_of: WayOf | None) -> CheckpointResult:
    return CheckpointResult(
        **vars(TrainingCost.read(exam.checkpoint / "checkpoint.json")),
        num_samples=result.num_samples,
        num_problems=result.num_problems,
        levels=result.levels,
        subjects=result.subjects,
        flops=result.flops,
        no_answer_rate=result.no_answer_rate,
        truncated_rate=result.truncated_rate,
        undecided_rate=result.undecided_rate,
        folder=exam.name,
        role=exam.role,
        reasoning_per_sample=result.tokens.reasoning_per_sample,
        pass_at={1: result.metrics.pass_at[1]},
        cons_at={k: result.metrics.cons_at[k]},
        ways=None if way_of is None else count_ways(Bank.read(folder / exam.name), way_of, k),
    )


def count_ways(bank: Bank, way_of: WayOf, num_samples: int) -> dict[str, WayCount]:
    """How often each way of thinking was taken, and how often it was right, over the first samples of each problem."""
    taken: Counter[str] = Counter()
    right: Counter[str] = Counter()
    problems = {problem.id: problem for problem in bank.problems}
    for row in bank.full_rows(("outcome", "reasoning")):
        if row.sample < num_samples and row.problem in problems:
            way = way_of(problems[row.problem], row.reasoning)
            taken[way] += 1
            right[way] += row.outcome == "correct"
    return {way: WayCount(samples=taken[way], correct=right[way]) for way in sorted(taken)}


def _flops(result: ExamResult, k: int) -> float | None:
    """What k samples of a problem cost: the prompt is read once."""
    flops = result.flops.prompt + k * result.flops.sample
    return None if math.isnan(flops) else flops


def _tokens(result: ExamResult, k: int) -> float:
    return result.tokens.prompt / result.num_problems + k * result.tokens.completion_per_sample


def _vote_curve(exam: Exam, result: ExamResult) -> VoteCurve:
    points = tuple(
        VotePoint(k=k, flops=_flops(result, k), tokens=_tokens(result, k), cons_at_k=cons,
                  pass_at_k=result.metrics.pass_at[k])
        for k, cons in sorted(result.metrics.cons_at.items())
    )  # fmt: skip
    return VoteCurve(role=exam.role, step=runs.step_of(exam.checkpoint), points=points)


def _budget(exam: Exam, result: ExamResult, k: int) -> BudgetPoint:
    return BudgetPoint(
        folder=exam.name,
        max_reasoning_tokens=exam.params.max_reasoning_tokens,
        flops=_flops(result, 1),
        tokens=_tokens(result, 1),
        pass_at={1: result.metrics.pass_at[1]},
        cons_at={k: result.metrics.cons_at[k]},
        truncated_rate=result.truncated_rate,
        reasoning_per_sample=result.tokens.reasoning_per_sample,
    )


def _named(on_progress: ScaleProgress | None, name: str) -> Callable[[int, int, float], None] | None:
    if on_progress is None:
        return None
    return lambda done, total, rate: on_progress(name, done, total, rate)
