"""One sample as a row of the bank: made from a completion and its verdict, and turned into a completion again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ponder.strategies import select
from ponder.tasks.prompting import question
from ponder.types import Completion, Message, Problem, Verdict

WINDOW = 8  # tokens in a row whose mean logprob says how sure the policy was at its least sure place


def sample_row(problem: Problem, index: int, completion: Completion, verdict: Verdict) -> dict[str, Any]:
    """One sample as a row of the bank."""
    forced = [i for i, drawn in enumerate(completion.sampled) if not drawn]
    mean, worst = confidence(completion.sampler_logprobs, forced)
    return {
        "problem": problem.id,
        "sample": index,
        "seed": completion.seed,
        "policy_version": completion.policy_version,
        "outcome": verdict.outcome,
        "class": verdict.key,  # None = no answer
        "extracted": verdict.extracted,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.num_prompt_tokens,
        "reasoning_tokens": completion.num_reasoning_tokens,
        "reasoning": completion.reasoning,
        "answer": completion.answer,
        **({"note": verdict.note} if verdict.note else {}),
        **({"error": verdict.note} if verdict.outcome == "failed" else {}),
        "token_ids": list(completion.token_ids),
        "sampler_logprobs": list(completion.sampler_logprobs),
        "forced": forced,
        "tokens": completion.num_tokens,
        "was_cut": completion.was_cut,
        "mean_logprob": mean,
        "worst_logprob": worst,
    }


def confidence(logprobs: Sequence[float], forced: Sequence[int] = ()) -> tuple[float, float]:
    """How sure the policy was: the mean logprob, and the lowest mean of 8 in a row (arXiv:2508.15260).

    Of sampled tokens only, at the temperature they were sampled with; fewer than 8 are one window, none give nan.
    """
    drawn = np.delete(np.asarray(logprobs, dtype=np.float64), list(forced))
    return select.mean_logprob(drawn), select.worst_window(drawn, WINDOW)


def withheld(problem: Problem) -> Problem:
    """A problem of a gated benchmark as a bank may hold it: a digest in place of its texts."""
    digest = hashlib.sha256(question(problem).encode()).hexdigest()
    return dataclasses.replace(
        problem, prompt=(Message(role="user", content=f"(withheld: {digest})"),), choices=(), meta={}
    )


def withheld_row(row: dict[str, Any]) -> dict[str, Any]:
    """A sample without what it says, since that quotes the problem: verdict, class and cost stay."""
    return row | {"reasoning": "", "answer": "", "token_ids": [], "sampler_logprobs": [], "forced": []}


def completion_of(row: Mapping[str, Any], prompt_ids: Sequence[int]) -> Completion:
    """The completion that a full row was made from, as a trainer or a scorer wants it."""
    forced = set(row["forced"])
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(row["token_ids"]),
        sampler_logprobs=tuple(row["sampler_logprobs"]),
        sampled=tuple(i not in forced for i in range(len(row["token_ids"]))),
        finish_reason=row["finish_reason"],
        reasoning=row["reasoning"],
        answer=row["answer"],
        num_reasoning_tokens=row["reasoning_tokens"],
        policy_version=row["policy_version"],
        seed=row["seed"],
    )
