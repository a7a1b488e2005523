"""New verdicts for stored samples, without a model: after a verifier was fixed, or with another one.

    found = await regrade(Bank.read("runs/eval/gsm8k"), None, out="runs/eval/gsm8k-regraded")
    found.moves           -> {"wrong -> correct": 12, "correct -> wrong": 0, ...}     samples whose outcome changed
    found.gain.pass_at[1] -> new - old over the same samples, paired

The new bank is a copy in which only what a verifier says differs: outcome, class, extracted, note. The old one is not
touched, so both can be read, reported and compared. An answer that a problem's samples repeat is judged once. Samples
of a gated benchmark are stored without their texts, so they cannot be judged again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ponder import files, runs
from ponder.config import ConfigError
from ponder.evals import columns
from ponder.evals.bank import Bank, problem_row
from ponder.evals.codec import ResultError
from ponder.evals.exams import RESULT, paired_gain, summarise
from ponder.evals.files import facts_of
from ponder.evals.identity import graded
from ponder.evals.results import ExamResult, Gain
from ponder.rollouts.grade import Tally, grade
from ponder.rollouts.side_by_side import side_by_side
from ponder.tasks import load_task
from ponder.tasks.file import FileTask, verifier_of
from ponder.tasks.parts import split_part
from ponder.tasks.prompting import question
from ponder.types import Completion, FinishReason, Problem, Task, Verdict

EndedAnswer = tuple[str, FinishReason]  # an answer, and how its completion ended: all that a verdict depends on
Verdicts = Mapping[tuple[str, EndedAnswer], Verdict]  # of a problem's id and an answer to it
AT_ONCE = 8  # problems that are judged together


@dataclass(frozen=True, kw_only=True)
class Regraded:
    """What changed between two banks of the same samples."""

    num_problems: int
    num_samples: int  # of all problems
    num_judged: int  # different answers
    moves: Mapping[str, int]  # "wrong -> correct": how many samples; unchanged ones are not in it
    gain: Gain  # new - old
    seconds: float


async def regrade(
    bank: Bank,
    verifier: str | None,
    *,
    out: Path,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Regraded:
    """Judge every sample of a bank anew and write a bank with these verdicts, its result.json too, into `out`.

    verifier: a name of `VERIFIERS` or `module:attr`, for problems whose target is the truth; None = the bank's task's
    own. ConfigError where the task has changed or cannot be opened, and where texts were withheld.
    """
    began = time.monotonic()
    if out.resolve() == bank.folder.resolve() or out.exists():
        raise ConfigError(f"{out} is there already; the old verdicts stay, so choose a new folder")
    problems = _problems(bank, task := _task(bank, verifier))
    answers = _distinct_answers(bank)
    with files.lock_beside(out):
        verdicts, tally = await _judged(task, problems, answers, on_progress)
        moves = _write(bank, problems, verdicts, tally, task, verifier or task.verifier, out)
    new = Bank.read(out)
    return Regraded(
        num_problems=len(problems), num_samples=sum(map(len, (bank.samples(id) for id in problems))),
        num_judged=len(verdicts), moves=dict(moves.most_common()), gain=paired_gain(bank, new, list(problems)),
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _task(bank: Bank, verifier: str | None) -> Task:
    if not bank.problems:
        raise ConfigError(f"{bank.folder} holds no samples; there is nothing to judge")
    if any(problem.text.startswith("(withheld: ") for problem in bank.problems):
        raise ConfigError(f"{bank.folder} is of a gated benchmark: its samples are kept without their texts")
    if verifier is None:
        return load_task(split_part(bank.spec.task)[0], split=bank.spec.split)
    if not all(problem.target for problem in bank.problems):
        raise ConfigError(f"the problems of {bank.spec.task} have no target for {verifier} to compare with")
    return FileTask(bank.spec.task, bank.problems, verifier_of(verifier, bank.problems[0]), split=bank.spec.split)


def _problems(bank: Bank, task: Task) -> dict[str, Problem]:
    """The task's problems by id, which know more than stored ones; each must be the one that was asked, though it may
    be graded by other tests than then."""
    known = {problem.id: problem for problem in (task[index] for index in range(len(task)))}
    for problem in bank.problems:
        now = known.get(problem.id)
        if now is None or (question(now), now.target) != (question(problem), problem.target):
            raise ConfigError(
                f"{bank.spec.task} has changed: the problem {problem.id!r} is {'another' if now else 'gone'}; "
                "--verifier judges by the targets that are stored"
            )
    return {problem.id: known[problem.id] for problem in bank.problems}


def _distinct_answers(bank: Bank) -> dict[str, list[EndedAnswer]]:
    """The different answers of each problem, in all rows that are about to be copied."""
    found: dict[str, dict[EndedAnswer, None]] = {}
    known = {problem.id for problem in bank.problems}
    for row in columns.scan(bank.folder / "samples", ["problem", "answer", "finish_reason"]):
        if row["problem"] not in known:
            raise ConfigError(
                f"{bank.folder}/problems.jsonl lacks {row['problem']!r}, of which there are samples: run the command "
                "that drew them once more, then regrade"
            )
        found.setdefault(row["problem"], {})[row["answer"] or "", row["finish_reason"]] = None
    return {problem: list(answers) for problem, answers in found.items()}


async def _judged(
    task: Task,
    problems: Mapping[str, Problem],
    answers: Mapping[str, Sequence[EndedAnswer]],
    on_progress: Callable[[int, int, float], None] | None,
) -> tuple[Verdicts, Tally]:
    verdicts: dict[tuple[str, EndedAnswer], Verdict] = {}
    judged: list[str] = []
    tally, todo = Tally(), iter(problems.items())

    async def work() -> None:
        for id, problem in todo:  # shared by all workers
            found = await grade(task, problem, [_completion(*each) for each in answers[id]], keys=True)
            for each, verdict in zip(answers[id], found, strict=True):
                verdicts[id, each] = verdict
                tally.add(verdict)
            judged.append(id)
            if on_progress:
                on_progress(len(judged), len(problems), tally.counts["correct"] / tally.total)

    await side_by_side(work, AT_ONCE)
    return verdicts, tally


def _completion(answer: str, finish_reason: FinishReason) -> Completion:
    return Completion(
        prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), finish_reason=finish_reason, reasoning="",
        answer=answer, num_reasoning_tokens=0,
    )  # fmt: skip


def _write(
    bank: Bank, problems: Mapping[str, Problem], verdicts: Verdicts, tally: Tally, task: Task, verifier: str, out: Path
) -> Counter[str]:
    """The new bank. It is made beside and renamed, so it is there whole or not at all."""
    moves: Counter[str] = Counter()
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "samples").mkdir(parents=True)

    def make(problem: list[str], answer: list[Any], finish_reason: list[Any], outcome: list[str]) -> dict[str, Any]:
        new = [verdicts[p, (a or "", f)] for p, a, f in zip(problem, answer, finish_reason, strict=True)]
        moves.update(f"{old} -> {v.outcome}" for old, v in zip(outcome, new, strict=True) if old != v.outcome)
        return {
            "outcome": [v.outcome for v in new], "class": [v.key for v in new], "extracted": [v.extracted for v in new],
            "note": [v.note or None for v in new],
            "error": [v.note if v.outcome == "failed" else None for v in new],
        }  # fmt: skip

    reads = ("problem", "answer", "finish_reason", "outcome")
    columns.copy_with(bank.folder / "samples", draft / "samples", reads, make)
    spec = replace(bank.spec, grader=task.grader_version, verifier=verifier)
    files.write_atomic(draft / "bank.json", json.dumps(facts_of(spec), indent=1, ensure_ascii=False) + "\n")
    ids = bank.prompt_ids()
    rows = [problem_row(_judged_by(old, problems[old.id]), ids[old.id]) for old in bank.problems]
    files.append_jsonl(draft / "problems.jsonl", rows)
    if (bank.folder / "scores").exists():  # of the samples, whatever the verdicts
        joint = [name for name, facts in bank.scorers.items() if facts.joint]  # these look at the answer classes
        stale = [f"{name}.{kind}" for name in joint for kind in ("json", "parquet")]
        shutil.copytree(bank.folder / "scores", draft / "scores", ignore=shutil.ignore_patterns(".*", *stale))
        if joint:
            warnings.warn(
                f"the scores {', '.join(joint)} are of the old answer classes, so they stay behind: "
                f"`ponder score {out}` makes them anew",
                stacklevel=2,
            )
    _write_result(bank, Bank.read(draft), tally, task)
    draft.rename(out)
    return moves


def _judged_by(asked: Problem, judged: Problem) -> Problem:
    """The problem as it was asked, with what its answers are graded by now."""
    own = {name: value for name, value in asked.meta.items() if name == "question"}
    return replace(asked, meta={**own, **graded(judged).meta})


def _write_result(old: Bank, new: Bank, tally: Tally, task: Task) -> None:
    """result.json as an exam writes it; what it cannot know without the model is taken from the old one."""
    try:
        before = ExamResult.read(old.folder / RESULT)
    except (FileNotFoundError, ResultError):
        before = None
    summary = summarise(new, flops_per_token=None)
    facts = {**vars(summary), "flops": before.flops if before else summary.flops}
    ExamResult(
        **facts, verifier_error=tally.last_failure, data=tuple(task.origin),
        contamination=before.contamination if before else None, seconds=before.seconds if before else 0.0,
        complete=before.complete if before else True, command=" ".join(sys.argv), revision=runs.revision(),
        machine=runs.machine(),
    ).write(new.folder / RESULT)  # fmt: skip
