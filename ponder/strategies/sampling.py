"""Parallel sampling: many samples of one prompt, and ways of choosing among them. The choosing itself is in select.py.

single        the first sample
consensus     the answer most agree on (self-consistency, arXiv:2203.11171)
adaptive      the same, in waves, until the leading answer is safe (after arXiv:2305.11860)
best_of_n     the best scored (arXiv:2110.14168)
weighted      a vote in which a sample counts for its score (arXiv:2206.02336)
confident     a vote in which a sample counts for the policy's confidence in it (arXiv:2508.15260)
rerank_vote   a vote among the best scored few
judge         one candidate an answer, compared by a judge (a language model)

n is the call's, else the budget's max_samples, else 8. Where a scorer is wanted and there is none, the policy's own
confidence takes its place: a weaker ranking, and no cost. Only `judge` needs one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ponder.config import ConfigError
from ponder.grading import counted_answer
from ponder.strategies.base import ChooseSample, Work, mean_logprobs, strategy
from ponder.strategies.select import (
    KEEP,
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
    """A vote of n samples by the equivalence class of their answers; those without an answer do not vote."""
    choose = by_vote(work)
    return choose(await work.draw(num_samples(work, n), choose))


@strategy
async def adaptive(work: Work, *, n: int | None = None, wave: int = WAVE, risk: float = RISK) -> Completion:
    """A vote of at most n, drawn in waves until all n would hardly change the result (`leader_is_safe`)."""
    n = 64 if n is None and work.budget.max_samples is None else num_samples(work, n)
    choose = by_vote(work)
    while len(work.finished) < n and await work.draw(min(wave, n - len(work.finished)), choose):
        if leader_is_safe(counts_of(answer_classes(work, work.finished)), left=n - len(work.finished), risk=risk):
            break
    return choose(work.finished)


@strategy
async def best_of_n(work: Work, *, n: int | None = None) -> Completion:
    """The best scored of n."""
    drawn, scores = await draw_and_score(work, n)
    return drawn[best_of(scores, answer_classes(work, drawn))]


@strategy
async def weighted(work: Work, *, n: int | None = None) -> Completion:
    """A vote of n in which a sample counts for its score; see `vote_weights`."""
    drawn, scores = await draw_and_score(work, n)
    return drawn[weighted_vote(answer_classes(work, drawn), vote_weights(scores, has_scorer=work.scorer is not None))]


@strategy
async def confident(work: Work, *, n: int | None = None, temperature: float = 0.1, keep: float = KEEP) -> Completion:
    """A vote of the most confident half of n, weighted by the policy's confidence; no scorer is used."""

    def choose(drawn: Sequence[Completion]) -> Completion:
        weights = confidence(mean_logprobs(drawn), temperature=temperature, keep=keep)
        return drawn[weighted_vote(answer_classes(work, drawn), weights)]

    return choose(await work.draw(num_samples(work, n), choose))


@strategy
async def rerank(work: Work, *, n: int | None = None, m: int | None = None) -> Completion:
    """The vote of the m best scored of n; by default m is the square root of n."""
    drawn, scores = await draw_and_score(work, n)
    return drawn[rerank_vote(answer_classes(work, drawn), scores, m or max(1, round(math.sqrt(len(drawn)))))]


@strategy
async def judge(work: Work, *, n: int | None = None) -> Completion:
    """One candidate for each distinct answer, compared by a judge, which is not shown all samples."""
    if work.scorer is None:
        raise ConfigError("mode judge needs a judge; give a scorer (ponder/scorers/judge.py makes one of any engine)")
    choose = by_vote(work)
    drawn = await work.draw(num_samples(work, n), choose)
    classes = answer_classes(work, drawn).tolist()
    votes = Counter(number for number in classes if number >= 0)
    candidates = [drawn[classes.index(number)] for number, _ in votes.most_common()]
    if len(candidates) < 2:
        return choose(drawn)
    return candidates[best_of(await work.score(candidates))]  # a tie goes to the answer that more samples gave


def num_samples(work: Work, n: int | None) -> int:
    """How many samples: n of the call, else what the budget says."""
    n = work.samples if n is None else n
    if n < 1:
        raise ConfigError(f"n={n} allows no sample; allow at least 1")
    return n


def answer_classes(work: Work, drawn: Sequence[Completion]) -> np.ndarray:
    """The class number of each sample's answer, -1 = no answer."""
    return classes_of([work.key(counted_answer(completion)) for completion in drawn])


def by_vote(work: Work) -> ChooseSample:
    """A function that chooses the sample a plain vote picks, as `work.draw` takes it."""
    return lambda drawn: drawn[vote(answer_classes(work, drawn))]


async def draw_and_score(work: Work, n: int | None) -> tuple[list[Completion], np.ndarray]:
    """n samples and their scores; until the scores are known, the vote is reported."""
    drawn = await work.draw(num_samples(work, n), by_vote(work))
    return drawn, await work.score(drawn)


def vote_weights(scores: np.ndarray, *, has_scorer: bool) -> np.ndarray:
    """Scores -> weights of a vote: a scorer's probabilities as they are, anything else (logprobs, points) by
    `confidence`. scores: of the samples that vote, or a row of them for each vote."""
    unknown = np.isnan(scores)
    are_shares = (unknown | ((scores >= 0) & (scores <= 1))).all(axis=-1, keepdims=True) & has_scorer
    return np.where(are_shares, scores, confidence(scores))
