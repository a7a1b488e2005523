"""What strategies share: drawing samples without ever passing the budget.

A sample costs at most max_reasoning_tokens + 1 (the closing mark) + max_answer_tokens. Samples are drawn in waves of as
many as surely fit into what is left, so short samples make room for more, and the limit holds in the worst case. If not
even one full sample fits, one is drawn with less room to reason: a small budget still gets an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ponder.types import Budget, Completion, Engine, Message, SamplingParams


async def draw(
    prompt: Sequence[Message], engine: Engine, params: SamplingParams, *, n: int, budget: Budget | None = None
) -> list[Completion]:
    """Up to n samples of one prompt, as many as the budget allows, and at least one."""
    limit = budget or Budget()
    if n < 1 or (limit.max_samples is not None and limit.max_samples < 1):
        raise ValueError(f"a budget of {limit} and n={n} allow no sample; allow at least 1")
    n = n if limit.max_samples is None else min(n, limit.max_samples)
    if limit.max_tokens is None:
        return await engine.generate(prompt, params, n=n)
    params = fit(params, limit.max_tokens)
    drawn: list[Completion] = []
    left = limit.max_tokens
    while (wave := min(n - len(drawn), left // most_tokens(params))) > 0:
        drawn += await engine.generate(prompt, params, n=wave, first=len(drawn))
        left = limit.max_tokens - sum(completion.num_tokens for completion in drawn)
    return drawn


def most_tokens(params: SamplingParams) -> int:
    """The most completion tokens that one sample can take."""
    return params.max_reasoning_tokens + 1 + params.max_answer_tokens


def fit(params: SamplingParams, max_tokens: int) -> SamplingParams:
    """The same sampling with less room to reason, then to answer, until one sample surely fits."""
    if max_tokens < 2:
        raise ValueError(f"max_tokens={max_tokens} has no room for the closing mark and an answer; allow at least 2")
    answer = min(params.max_answer_tokens, max_tokens - 1)
    reasoning = min(params.max_reasoning_tokens, max_tokens - 1 - answer)
    return replace(
        params,
        max_answer_tokens=answer,
        max_reasoning_tokens=reasoning,
        min_reasoning_tokens=min(params.min_reasoning_tokens, reasoning),
    )
