"""Search over steps of reasoning: draw a few next steps, judge the unfinished solutions, go on from the best.

beam   one beam: the best of all are kept (arXiv:2408.03314)
dvts   diverse verifier tree search: trees that never see each other, each keeps its best (the Hugging Face post
       "Scaling test-time compute", 2024-12): less greedy

A step ends with a string of `pause` (of the params, else a line). A scorer that judges unfinished solutions is wanted,
a process scorer best; without one the policy's own confidence stands in, which is a beam search by likelihood. Finished
solutions leave the beam and vote at the end, weighted by their scores.

Cost: n steps a level. A step that was not kept is paid for, and every continuation reads its prefix again,
which is counted as prompt tokens. Each level is one batch of the engine; problems solved at once share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ponder.config import ConfigError
from ponder.strategies.base import Work, strategy
from ponder.strategies.sampling import classes, weights
from ponder.strategies.select import ranking, weighted_vote
from ponder.types import Completion

PAUSE = ("\n",)
DEPTH = 40  # levels; what is still open then is finished without a pause


@dataclass(frozen=True)
class Scored:
    path: Completion
    score: float


@strategy
async def beam(work: Work, *, n: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """n candidates a level; the best n / expand of all are gone on from."""
    n, expand = _level(work, n, expand)
    return await _search(work, trees=1, width=n // expand, expand=expand, depth=depth)


@strategy
async def dvts(work: Work, *, n: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """n candidates a level in n / expand separate trees, each of which goes on from its best."""
    n, expand = _level(work, n, expand)
    return await _search(work, trees=n // expand, width=1, expand=expand, depth=depth)


def _level(work: Work, n: int | None, expand: int) -> tuple[int, int]:
    """Candidates a level and to a place. Unless told, a small budget of samples has narrow levels, but several."""
    if n is None:
        n = 8 if work.budget.max_samples is None else max(2, min(8, work.budget.max_samples // 4))
    if n < 1 or expand < 1:
        raise ValueError(f"n={n} and expand={expand} must be 1 or more")
    return n, min(n, expand)


async def _search(work: Work, *, trees: int, width: int, expand: int, depth: int) -> Completion:
    if depth < 1:
        raise ValueError(f"depth={depth} leaves no step to draw; use at least 1")
    pause = work.params.pause or PAUSE
    spare = 1 + work.params.max_answer_tokens  # one answer from the best place is always affordable
    open_: list[list[Scored]] = [[] for _ in range(trees)]
    places = [width] * trees  # a solution that is done takes its place of the beam for good
    done: list[Scored] = []
    for level in range(depth):
        asks: list[tuple[Completion | None, int]]
        if level == 0:
            asks = [(None, width * expand) for _ in range(trees)]
        else:
            asks = [(scored.path, expand) for tree in open_ for scored in tree]
        homes = [t for t in range(trees) for _ in (open_[t] if level else [None])]
        grown = await work.extend(asks, salt=("level", level), spare=spare, pause=pause)
        new = [(home, path) for home, paths in zip(homes, grown, strict=True) for path in paths]
        if not new:
            break  # the budget is spent, or nothing is open
        scores = await work.score([path for _, path in new])
        for tree in range(trees):
            mine = [Scored(path, float(s)) for (home, path), s in zip(new, scores, strict=True) if home == tree]
            ended = [scored for scored in mine if scored.path.finish_reason != "pause"]
            done += ended
            work.finished += [scored.path for scored in ended]
            unfinished = _distinct([scored for scored in mine if scored.path.finish_reason == "pause"])
            order = ranking([scored.score for scored in unfinished])
            if work.scorer is not None:  # likelihoods of a guess and of a step do not compare: then it only votes
                places[tree] -= sum(scored.path.finish_reason != "pause" for scored in _best(mine, places[tree]))
            open_[tree] = [unfinished[i] for i in order[: places[tree]]] if mine else open_[tree]
        if done:
            await work.read([one.path for one in done])
            work.report(_choose(work, done))
        if not any(open_):
            break
    if not done:
        return await _finish_best(work, [scored for tree in open_ for scored in tree])
    return _choose(work, done)


def _best(scored: list[Scored], width: int) -> list[Scored]:
    return [scored[i] for i in ranking([one.score for one in scored])[:width]] if scored else []


def _distinct(scored: list[Scored]) -> list[Scored]:
    """The same text twice is one place to go on from."""
    return list({one.path.token_ids: one for one in reversed(scored)}.values())[::-1]


async def _finish_best(work: Work, open_: list[Scored]) -> Completion:
    """Nothing came to an end within the budget or the depth: end the best of what is there."""
    best = _best(open_, 1)
    start = best[0].path if best else None
    finished = await work.finish(start, salt="finish")
    if finished is None and start is None:
        raise ConfigError(f"a budget of {work.budget} allows no sample; allow at least 1")
    chosen = finished or start
    assert chosen is not None
    work.finished.append(chosen)
    return chosen


def _choose(work: Work, done: list[Scored]) -> Completion:
    paths, scores = [one.path for one in done], np.array([one.score for one in done])
    return paths[weighted_vote(classes(work, paths), weights(scores, known=work.scorer is not None))]
