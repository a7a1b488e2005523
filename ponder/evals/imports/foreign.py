"""Samples that another program drew and judged, and the bank that they become.

    log = read_log(Path("logs/2026-11-30_gsm8k.eval"))
    imported = write_bank(log, Path("runs/theirs"))        then   ponder report, compare, regrade
    imported.missing       -> ("token ids", "log-probabilities", ...)      what the bank does not know

The verdicts stay those of the log. Votes need answer classes: where the log has none they are those of ponder's `math`
verifier (`choice` where a problem has choices), of the answer that the log extracted or else of the whole answer. A
number that a log does not have is no number (log-probabilities), or 0 where a bank has none for that (tokens):
`missing` says so, on the terminal and in result.json.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ponder.config import ConfigError
from ponder.evals.bank import Bank, BankError, BankSpec, SampleRow
from ponder.evals.exams import RESULT, summarise
from ponder.evals.results import ExamResult
from ponder.files import file_hash, lock_beside, utf8
from ponder.grading.verifiers import VERIFIERS
from ponder.types import FinishReason, Message, Outcome, Problem, Role, SamplingParams

ALWAYS_MISSING = ("token ids", "fingerprint of the weights")


@dataclass(frozen=True, kw_only=True)
class ForeignSample:
    """One sample as a log has it; None = the log does not say."""

    answer: str
    outcome: Outcome
    reasoning: str = ""
    extracted: str | None = None
    answer_class: str | None = None
    has_class: bool = False  # `answer_class` is what the log says, also where it is None: no answer
    finish_reason: FinishReason = "stop"
    was_cut: bool | None = None
    prompt_tokens: int | None = None
    reasoning_tokens: int | None = None
    tokens: int | None = None
    mean_logprob: float | None = None
    seed: int = 0
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignLog:
    """Another program's log in our words, before it becomes a bank."""

    path: Path  # the file with the samples
    format: str
    task: str
    split: str
    model: str
    params: SamplingParams
    grader: str  # who judged
    samples: Sequence[tuple[Problem, Sequence[ForeignSample]]]
    notes: Sequence[str] = ()  # what was left out or taken another way
    missing: Sequence[str] = ()  # of the log as a whole
    complete: bool = True
    seed: int = 0
    prompting: str = "none"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came in, and what did not."""

    num_problems: int
    num_samples: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    result: ExamResult


def write_bank(log: ForeignLog, out: Path) -> Imported:
    """The bank and its result.json. It is made beside and renamed, so it is there whole or not at all."""
    if not log.samples:
        raise ConfigError(f"{log.path} has no samples; the program that wrote it can be told to log them")
    with lock_beside(out):
        return _write_bank(log, out)


def _write_bank(log: ForeignLog, out: Path) -> Imported:
    if out.exists():
        raise ConfigError(f"{out} is there already; choose a new folder for the samples of {log.path}")
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    spec = BankSpec(task=log.task, split=log.split, model=log.model, params=log.params, grader=log.grader,
                    seed=log.seed, prompting=log.prompting)  # fmt: skip
    missing, notes = _missing(log), tuple(log.notes)
    data = {"log": log.path.name, "format": log.format, "sha256": file_hash(log.path), "missing": "; ".join(missing),
            "notes": "; ".join(notes)}  # fmt: skip
    try:
        with Bank.open(draft, spec) as bank:
            for problem, samples in log.samples:
                bank.append(problem, [_row(problem, i, each) for i, each in enumerate(samples)], prompt_ids=())
        result = ExamResult(
            **vars(summarise(Bank.read(draft))), data=(data,), complete=log.complete, command=" ".join(sys.argv)
        )
        result.write(draft / RESULT)
        draft.rename(out)
    except BankError as error:  # a number where a text belongs, a count that no column holds
        raise ConfigError(f"{log.path} says something that a bank cannot hold: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Imported(
        num_problems=len(log.samples), num_samples=sum(len(samples) for _, samples in log.samples), missing=missing,
        notes=notes, result=result,
    )  # fmt: skip


def _row(problem: Problem, index: int, sample: ForeignSample) -> SampleRow:
    cut = sample.was_cut if sample.was_cut is not None else sample.finish_reason in ("length", "window")
    return SampleRow(
        problem=problem.id, sample=index, seed=sample.seed, outcome=sample.outcome,
        answer_class=sample.answer_class if sample.has_class else _class(problem, sample),
        extracted=sample.extracted, finish_reason=sample.finish_reason, prompt_tokens=sample.prompt_tokens or 0,
        reasoning_tokens=sample.reasoning_tokens or 0, tokens=sample.tokens or 0, was_cut=cut,
        mean_logprob=math.nan if sample.mean_logprob is None else sample.mean_logprob, note=sample.note,
        error=sample.error, reasoning=sample.reasoning, answer=sample.answer,
    )  # fmt: skip


def _class(problem: Problem, sample: ForeignSample) -> str | None:
    """The answer's class by ponder's own rule; of what the log extracted, else of the whole answer."""
    verifier = VERIFIERS["choice" if problem.choices else "math"]
    text = sample.extracted if sample.extracted is not None else sample.answer
    return verifier.key(problem, text) if text.strip() else None


def _missing(log: ForeignLog) -> tuple[str, ...]:
    """What a bank of ponder's own has and this one has not."""
    samples = [each for _, samples in log.samples for each in samples]
    names = {"mean_logprob": "log-probabilities", "tokens": "tokens (0 in the bank)",
             "prompt_tokens": "tokens of prompts (0 in the bank)",
             "reasoning_tokens": "tokens of reasoning (0 in the bank)"}  # fmt: skip
    found = [*ALWAYS_MISSING, *log.missing]
    for name, what in names.items():
        lacking = sum(getattr(each, name) is None for each in samples)
        if lacking:
            found.append(what if lacking == len(samples) else f"{what}, of {lacking} samples")
    if not any(each.reasoning for each in samples):
        found.append("reasoning")
    if not all(each.has_class for each in samples):
        found.append("answer classes (computed by ponder's verifier)")
    return tuple(found)


def params_of(known: dict[str, object], missing: list[str]) -> SamplingParams:
    """Sampling settings as far as a log has them; what it lacks is named in `missing` and has ponder's default.

    known: by ponder's names; None = the log does not say. A value that ponder has not is left out and named too.
    """
    taken: dict[str, object] = {}
    for name, value in known.items():
        if value is None and name == "max_tokens":
            continue  # no limit
        try:
            if value is None:
                raise TypeError
            taken[name] = value
            SamplingParams(**{"max_reasoning_tokens": 0, **taken})  # type: ignore[arg-type]
        except (TypeError, ValueError):
            taken.pop(name, None)
            missing.append(f"{name} (the bank says {getattr(SamplingParams(), name)})")
    return replace(SamplingParams(), **taken)  # type: ignore[arg-type]


def drawing_of(known: Mapping[str, object]) -> dict[str, Any]:
    """seed and prompting for a `ForeignLog`, out of what an export of ponder's own says of its bank."""
    seed, prompting = known.get("seed"), text_of(known.get("prompting"))
    return {"seed": seed if type(seed) is int else 0, "prompting": prompting or "none"}


def message(role: object, content: str) -> Message:
    """ConfigError for a role that is none of `types.Role`."""
    if role not in get_args(Role):
        raise ConfigError(f"a message of the log is by {role!r}, which is none of {', '.join(get_args(Role))}")
    return Message(role=role, content=content)  # type: ignore[arg-type]


def text_of(value: object) -> str:
    """Any value of a log as text that a file can hold; None is ""."""
    return utf8(value if isinstance(value, str) else "" if value is None else str(value))


# what reading a log may raise where something in it is of another kind than that program writes
STRANGE = (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
