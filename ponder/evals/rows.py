"""One sample as a row of the bank: made from a completion and its verdict, and turned into a completion again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ponder.strategies import select
from ponder.tasks.prompting import question
from ponder.types import Completion, FinishReason, Message, Outcome, Problem, Verdict


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One stored sample: a field a column of DIR/samples, `answer_class` being `class` there.

    Columns that were not asked for have their defaults.
    """

    problem: str
    sample: int
    seed: int = 0
    policy_version: int = 0
    outcome: Outcome = "wrong"
    answer_class: str | None = None  # None = no answer
    extracted: str | None = None
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    reasoning_tokens: int = 0
    tokens: int = 0
    was_cut: bool = False
    mean_logprob: float = float("nan")
    worst_logprob: float = float("nan")
    note: str | None = None  # why it is undecided or failed
    error: str | None = None  # how the verifier failed
    reasoning: str = ""
    answer: str = ""
    token_ids: Sequence[int] = ()
    sampler_logprobs: Sequence[float] = ()
    forced: Sequence[int] = ()  # indices of tokens that a budget put there


def sample_row(problem: Problem, index: int, completion: Completion, verdict: Verdict) -> SampleRow:
    """One sample as a row of the bank."""
    forced = [i for i, drawn in enumerate(completion.sampled) if not drawn]
    mean, worst = confidence(completion.sampler_logprobs, forced)
    return SampleRow(
        problem=problem.id,
        sample=index,
        seed=completion.seed,
        policy_version=completion.policy_version,
        outcome=verdict.outcome,
        answer_class=verdict.key,
        extracted=verdict.extracted,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.num_prompt_tokens,
        reasoning_tokens=completion.num_reasoning_tokens,
        tokens=completion.num_tokens,
        was_cut=completion.was_cut,
        mean_logprob=mean,
        worst_logprob=worst,
        note=verdict.note or None,
        error=verdict.note if verdict.outcome == "failed" else None,
        reasoning=completion.reasoning,
        answer=completion.answer,
        token_ids=completion.token_ids,
        sampler_logprobs=completion.sampler_logprobs,
        forced=forced,
    )


def confidence(logprobs: Sequence[float], forced: Sequence[int] = ()) -> tuple[float, float]:
    """How sure the policy was: the mean logprob, and the lowest mean of a window (`select.worst_window`).

    Of sampled tokens only, at the temperature they were sampled with; none give nan. (scorers/features.py, which a
    model is fitted on, takes all tokens, and 0 for none.)
    """
    drawn = np.delete(np.asarray(logprobs, dtype=np.float64), list(forced))
    return select.mean_logprob(drawn), select.worst_window(drawn)


def withheld(problem: Problem) -> Problem:
    """A problem of a gated benchmark as a bank may hold it: a digest in place of its texts."""
    digest = hashlib.sha256(question(problem).encode()).hexdigest()
    return replace(problem, prompt=(Message(role="user", content=f"(withheld: {digest})"),), choices=(), meta={})


def withheld_row(row: SampleRow) -> SampleRow:
    """A sample without its texts, since they quote the problem: verdict, class and cost stay."""
    return replace(row, reasoning="", answer="", token_ids=(), sampler_logprobs=(), forced=())


def completion_of(row: SampleRow, prompt_ids: Sequence[int]) -> Completion:
    """The completion that a full row was made from, as a trainer or a scorer wants it."""
    forced = set(row.forced)
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(row.token_ids),
        sampler_logprobs=tuple(row.sampler_logprobs),
        sampled=tuple(i not in forced for i in range(len(row.token_ids))),
        finish_reason=row.finish_reason,
        reasoning=row.reasoning,
        answer=row.answer,
        num_reasoning_tokens=row.reasoning_tokens,
        policy_version=row.policy_version,
        seed=row.seed,
    )
