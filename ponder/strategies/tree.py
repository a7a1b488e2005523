"""Search over steps of reasoning: draw a few next steps, judge the unfinished solutions, go on from the best.

beam   one beam: the `width` best of all are kept (arXiv:2408.03314)
dvts   diverse verifier tree search: `width` trees that never see each other, each keeps its best (the Hugging Face
       post "Scaling test-time compute", 2024-12): less greedy, and better where many samples are affordable

A step ends with a string of `pause` (of the params, else a line). A scorer that judges unfinished solutions is wanted,
i.e. a process scorer, or an outcome scorer trained on prefixes; without one the policy's own confidence stands in, which
is a beam search by likelihood. Finished solutions leave the beam and vote at the end, weighted by their scores.

Cost: width x expand steps a level. A step that was not kept is paid for, and every continuation reads its prefix again,
which is counted as prompt tokens. Each level is one batch of the engine; problems solved at once share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
async def beam(work: Work, *, width: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """Keep the `width` best unfinished solutions of all; width 2 = 8 samples a level, or what the budget's samples say."""
    return await _search(work, trees=1, width=width or _width(work, expand), expand=expand, depth=depth)


@strategy
async def dvts(work: Work, *, width: int | None = None, expand: int = 4, depth: int = DEPTH) -> Completion:
    """`width` separate trees, each keeping the best of `expand` next steps."""
    return await _search(work, trees=width or _width(work, expand), width=1, expand=expand, depth=depth)


def _width(work: Work, expand: int) -> int:
    """As many beams as keep a level within 8 calls; a small budget of samples has narrower levels, but some depth."""
    return max(1, min(8, work.samples // 4) // expand)


async def _search(work: Work, *, trees: int, width: int, expand: int, depth: int) -> Completion:
    if min(width, trees, expand, depth) < 1:
        raise ValueError(f"width={width * trees}, expand={expand} and depth={depth} must be 1 or more")
    pause = work.params.pause or PAUSE
    spare = 1 + work.params.max_answer_tokens  # one answer from the best place is always affordable
    open_: list[list[Scored]] = [[] for _ in range(trees)]
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
            # a solution that is done takes a place of its beam for good
            places = width - sum(scored.path.finish_reason != "pause" for scored in _best(mine, width))
            open_[tree] = [unfinished[i] for i in order[: max(0, places)]] if mine else open_[tree]
        if done:
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
        raise ValueError(f"a budget of {work.budget} allows no sample; allow at least 1")
    chosen = finished or start
    assert chosen is not None
    work.finished.append(chosen)
    return chosen


def _choose(work: Work, done: list[Scored]) -> Completion:
    paths, scores = [one.path for one in done], np.array([one.score for one in done])
    return paths[weighted_vote(classes(work, paths), weights(scores, known=work.scorer is not None))]
