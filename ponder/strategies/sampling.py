"""Parallel sampling: one answer from one sample, or from a vote of many.

`consensus` is self-consistency (arXiv:2203.11171): answers vote by equivalence class, not by text. A tie goes to the
class seen first, i.e. whose first sample has the smallest index: the same on every run, and on average the even split
that `evals.stats.cons_at` computes. Samples without an answer do not vote; if none has one, the first sample is
returned as it is. Weighted votes and rerankers need a scorer and live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ponder.strategies.base import draw
from ponder.types import Budget, Completion, Engine, Message, SamplingParams, Scorer, Solution, Usage


async def single(
    prompt: Sequence[Message],
    engine: Engine,
    *,
    params: SamplingParams,
    key: Callable[[str], str | None],
    scorer: Scorer | None = None,
    budget: Budget | None = None,
    watch: Callable[[Solution], None] | None = None,
) -> Solution:
    """The first sample."""
    drawn = await draw(prompt, engine, params, n=1, budget=budget)
    return _solution(drawn[0], drawn)


async def consensus(
    prompt: Sequence[Message],
    engine: Engine,
    *,
    params: SamplingParams,
    key: Callable[[str], str | None],
    scorer: Scorer | None = None,
    budget: Budget | None = None,
    watch: Callable[[Solution], None] | None = None,
    n: int | None = None,
) -> Solution:
    """A vote of n samples: n, else the budget's max_samples, else 8. The cost of every sample is counted."""
    if n is None:
        n = 8 if budget is None or budget.max_samples is None else budget.max_samples
    drawn = await draw(prompt, engine, params, n=n, budget=budget)
    return _solution(drawn[winner([key(completion.answer) for completion in drawn])], drawn)


def winner(keys: Sequence[str | None]) -> int:
    """The index of the first sample of the class with most votes; the class seen first wins a tie; 0 if none voted.

    winner(["7", "4", None, "4", "7"]) -> 0
    """
    votes: dict[str, list[int]] = {}  # class -> its samples; a dict keeps the order in which classes were seen
    for index, name in enumerate(keys):
        if name is not None:
            votes.setdefault(name, []).append(index)
    return max(votes.values(), key=len)[0] if votes else 0  # max returns the first of equals


def _solution(chosen: Completion, drawn: Sequence[Completion]) -> Solution:
    return Solution(answer=chosen.answer, reasoning=chosen.reasoning, usage=Usage.of(drawn), completions=tuple(drawn))
