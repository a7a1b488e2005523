"""Search over steps of reasoning: draw a few next steps, score the unfinished solutions, continue the best.

beam   one beam: the best of all are kept (arXiv:2408.03314)
dvts   diverse verifier tree search: separate trees, each of which keeps its own best (the Hugging Face post "Scaling
       test-time compute", 2024-12): less greedy

A step ends with a string of `pause` (of the params, else a line). The scorer must score unfinished solutions: a process
scorer is best. Without a scorer the policy's own confidence is used, which is a beam search by likelihood. Finished
solutions leave the beam and vote at the end, weighted by their scores.

Cost: n steps a level. A step that was not kept is paid for, and every continuation processes its prefix again, which is
counted as prompt tokens. Each level is one batch of the engine; calls that run at once share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ponder.config import ConfigError
from ponder.strategies.base import Work, strategy
from ponder.strategies.sampling import answer_classes, vote_weights
from ponder.strategies.select import ranking, weighted_vote
from ponder.types import Completion

PAUSE = ("\n",)
DEPTH = 40  # levels; what is unfinished then is finished without a pause


@dataclass(frozen=True)
class ScoredCompletion:
    """A prefix or a finished completion of a search, with the scorer's word on it."""

    completion: Completion
    score: float

    @property
    def is_finished(self) -> bool:
        """Whether it ended in another way than a pause; one that was cut counts as finished."""
        return self.completion.finish_reason != "pause"


@strategy
async def beam(work: Work, *, n: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """n candidates a level; the best n / expand of all are continued."""
    n, expand = _level(work, n, expand)
    return await _search(work, trees=1, width=n // expand, expand=expand, depth=depth)


@strategy
async def dvts(work: Work, *, n: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """n candidates a level in n / expand separate trees, each of which continues its best."""
    n, expand = _level(work, n, expand)
    return await _search(work, trees=n // expand, width=1, expand=expand, depth=depth)


def _level(work: Work, n: int | None, expand: int) -> tuple[int, int]:
    """Candidates a level, and candidates a prefix. By default a small budget of samples has narrow levels, but
    several."""
    if n is None:
        n = 8 if work.budget.max_samples is None else max(2, min(8, work.budget.max_samples // 4))
    if n < 1 or expand < 1:
        raise ValueError(f"n={n} and expand={expand} must be 1 or more")
    return n, min(n, expand)


async def _search(work: Work, *, trees: int, width: int, expand: int, depth: int) -> Completion:
    if depth < 1:
        raise ValueError(f"depth={depth} leaves no step to draw; use at least 1")
    pause = work.params.pause or PAUSE
    reserve = 1 + work.params.max_answer_tokens  # one answer to the best prefix is always affordable
    beams: list[list[ScoredCompletion]] = [[] for _ in range(trees)]
    widths = [width] * trees  # a finished solution reduces the width of its beam for good
    finished: list[ScoredCompletion] = []
    for level in range(depth):
        requests: list[tuple[int, Completion | None, int]]  # tree, prefix, n
        if level == 0:
            requests = [(tree, None, width * expand) for tree in range(trees)]
        else:
            requests = [(tree, one.completion, expand) for tree, beam in enumerate(beams) for one in beam]
        extended = await work.extend(
            [(prefix, n) for _, prefix, n in requests], salt=("level", level), reserve=reserve, pause=pause
        )
        new = [(request[0], one) for request, several in zip(requests, extended, strict=True) for one in several]
        if not new:
            break  # the budget is spent, or no beam has an unfinished solution
        scores = await work.score([completion for _, completion in new])
        for tree in range(trees):
            drawn = [ScoredCompletion(one, float(s)) for (t, one), s in zip(new, scores, strict=True) if t == tree]
            ended = [one for one in drawn if one.is_finished]
            finished += ended
            work.finished += [one.completion for one in ended]
            unfinished = _without_duplicates([one for one in drawn if not one.is_finished])
            order = ranking([one.score for one in unfinished])
            if work.scorer is not None:  # the likelihoods of a guess and of a step do not compare: it only votes then
                widths[tree] -= sum(one.is_finished for one in _best(drawn, widths[tree]))
            beams[tree] = [unfinished[i] for i in order[: widths[tree]]] if drawn else beams[tree]
        if finished:
            await work.compute_keys([one.completion for one in finished])
            work.report(_choose_finished(work, finished))
        if not any(beams):
            break
    if not finished:
        return await _finish_best(work, [one for beam in beams for one in beam])
    return _choose_finished(work, finished)


def _best(scored: list[ScoredCompletion], width: int) -> list[ScoredCompletion]:
    return [scored[i] for i in ranking([one.score for one in scored])[:width]] if scored else []


def _without_duplicates(scored: list[ScoredCompletion]) -> list[ScoredCompletion]:
    """Equal prefixes are continued once."""
    return list({one.completion.token_ids: one for one in reversed(scored)}.values())[::-1]


async def _finish_best(work: Work, unfinished: list[ScoredCompletion]) -> Completion:
    """Nothing was finished within the budget or the depth: finish the best of what there is."""
    best = _best(unfinished, 1)
    prefix = best[0].completion if best else None
    finished = await work.finish(prefix, salt="finish")
    if finished is None and prefix is None:
        raise ConfigError(f"a budget of {work.budget} allows no sample; allow at least 1")
    chosen = finished or prefix
    assert chosen is not None
    work.finished.append(chosen)
    return chosen


def _choose_finished(work: Work, finished: list[ScoredCompletion]) -> Completion:
    completions, scores = [one.completion for one in finished], np.array([one.score for one in finished])
    weights = vote_weights(scores, has_scorer=work.scorer is not None)
    return completions[weighted_vote(answer_classes(work, completions), weights)]
