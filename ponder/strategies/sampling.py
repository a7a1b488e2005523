"""Parallel sampling: many samples of one prompt, and ways of choosing among them. The choosing is select.py's.

single        the first sample
consensus     the answer most agree on (self-consistency, arXiv:2203.11171)
adaptive      the same, in waves, until the leader is safe (after arXiv:2305.11860)
best_of_n     the best scored (arXiv:2110.14168)
weighted      a vote in which a sample counts for its score (arXiv:2206.02336)
confident     a vote in which a sample counts for how sure the policy was of it (arXiv:2508.15260)
rerank_vote   a vote among the best scored few
judge         one candidate an answer, and a judge that compares those

n is the call's, else the budget's max_samples, else 8. Where a scorer is wanted and there is none, the policy's own
confidence takes its place: a weaker ranking, and no cost. Only `judge` needs one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ponder.config import ConfigError
from ponder.grading import counted_answer
from ponder.strategies.base import Choice, Work, certainty, strategy
from ponder.strategies.select import (
    RISK,
    WAVE,
    best_of,
    classes_of,
    confidence,
    counts_of,
    leader_is_safe,
    rerank_vote,
    vote,
    weighted_vote,
)
from ponder.types import Completion


@strategy
async def single(work: Work) -> Completion:
    """The first sample."""
    return (await work.draw(1))[0]


@strategy
async def consensus(work: Work, *, n: int | None = None) -> Completion:
    """A vote of n samples by equivalence class; those without an answer do not vote."""
    leader = by_vote(work)
    return leader(await work.draw(count(work, n), leader))


@strategy
async def adaptive(work: Work, *, n: int | None = None, wave: int = WAVE, risk: float = RISK) -> Completion:
    """A vote of at most n, drawn in waves until the vote of all n would hardly end otherwise (`leader_is_safe`)."""
    n = 64 if n is None and work.budget.max_samples is None else count(work, n)
    leader = by_vote(work)
    while len(work.finished) < n and await work.draw(min(wave, n - len(work.finished)), leader):
        if leader_is_safe(counts_of(classes(work, work.finished)), left=n - len(work.finished), risk=risk):
            break
    return leader(work.finished)


@strategy
async def best_of_n(work: Work, *, n: int | None = None) -> Completion:
    """The best scored of n."""
    drawn, scores = await scored(work, n)
    return drawn[best_of(scores, classes(work, drawn))]


@strategy
async def weighted(work: Work, *, n: int | None = None) -> Completion:
    """A vote of n in which a sample counts for its score; see `weights`."""
    drawn, scores = await scored(work, n)
    return drawn[weighted_vote(classes(work, drawn), weights(scores, known=work.scorer is not None))]


@strategy
async def confident(work: Work, *, n: int | None = None, temperature: float = 0.1, keep: float = 0.5) -> Completion:
    """A vote of the surest half of n, weighted by how sure the policy was; no scorer is asked."""

    def leader(drawn: Sequence[Completion]) -> Completion:
        shares = confidence(certainty(drawn), temperature=temperature, keep=keep)
        return drawn[weighted_vote(classes(work, drawn), shares)]

    return leader(await work.draw(count(work, n), leader))


@strategy
async def rerank(work: Work, *, n: int | None = None, m: int | None = None) -> Completion:
    """The vote of the m best scored of n; m is the square root of n unless told."""
    drawn, scores = await scored(work, n)
    return drawn[rerank_vote(classes(work, drawn), scores, m or max(1, round(math.sqrt(len(drawn)))))]


@strategy
async def judge(work: Work, *, n: int | None = None) -> Completion:
    """One candidate for each answer that was given, compared by a judge: it reads distinct answers, not all samples."""
    if work.scorer is None:
        raise ConfigError("mode judge needs a judge; give a scorer (ponder/scorers/judge.py makes one of any engine)")
    leader = by_vote(work)
    drawn = await work.draw(count(work, n), leader)
    names = classes(work, drawn)
    sizes = {name: int((names == name).sum()) for name in names.tolist() if name >= 0}
    candidates = [drawn[names.tolist().index(name)] for name in sorted(sizes, key=lambda name: -sizes[name])]
    if len(candidates) < 2:
        return leader(drawn)
    return candidates[best_of(await work.score(candidates))]  # a draw goes to the answer that more samples gave


def count(work: Work, n: int | None) -> int:
    """How many samples: the call's word, else the budget's."""
    n = work.samples if n is None else n
    if n < 1:
        raise ConfigError(f"n={n} allows no sample; allow at least 1")
    return n


def classes(work: Work, drawn: Sequence[Completion]) -> np.ndarray:
    return classes_of([work.key(counted_answer(completion)) for completion in drawn])


def by_vote(work: Work) -> Choice:
    return lambda drawn: drawn[vote(classes(work, drawn))]


async def scored(work: Work, n: int | None) -> tuple[list[Completion], np.ndarray]:
    """n samples and their scores; until these are there, the vote is the best guess."""
    drawn = await work.draw(count(work, n), by_vote(work))
    return drawn, await work.score(drawn)


def weights(scores: np.ndarray, *, known: bool) -> np.ndarray:
    """Scores -> weights of a vote: probabilities as they are, anything else (logprobs, points) by `confidence`."""
    there = scores[~np.isnan(scores)]
    if known and len(there) and there.min() >= 0 and there.max() <= 1:
        return scores
    return confidence(scores)
