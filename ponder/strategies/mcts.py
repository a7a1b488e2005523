"""Monte Carlo tree search over steps of reasoning (UCT; for language models: arXiv:2408.06195, arXiv:2501.04519).

A node is an unfinished solution. A simulation goes down from the root along the child with the largest

    mean value + exploration * sqrt(ln(visits of the parent) / visits)

draws `expand` next steps at the leaf it comes to, gives each a value, and adds it to every node on the way. The value
of a node is the scorer's judgement of it; with `rollouts` (the default without a scorer) it is that of one solution
drawn from there to the end: its score, or without a scorer the share of the finished solutions that agree with it. At
the end all finished solutions vote, weighted by their values.

Simulations are one after the other, since each needs the values of those before; problems solved at once share batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ponder.config import ConfigError
from ponder.strategies.base import Work, strategy
from ponder.strategies.sampling import by_vote, classes, weights
from ponder.strategies.select import ranking, weighted_vote
from ponder.strategies.tree import PAUSE
from ponder.types import Completion


@dataclass(eq=False)
class Node:
    path: Completion | None  # None = the root
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0  # of the values seen at or below

    @property
    def mean(self) -> float:
        return self.total / self.visits if self.visits else 0.0

    @property
    def is_open(self) -> bool:
        return self.path is None or self.path.finish_reason == "pause"

    def uct(self, exploration: float) -> float:
        assert self.parent is not None
        if not self.visits:
            return math.inf
        return self.mean + exploration * math.sqrt(math.log(max(1, self.parent.visits)) / self.visits)


@strategy
async def mcts(
    work: Work, *, n: int | None = None, expand: int = 3, exploration: float = 0.5, rollouts: bool | None = None
) -> Completion:
    """n simulations (8 unless told, or what the budget's samples allow)."""
    n = work.samples if n is None else n
    if n < 1 or expand < 1:
        raise ValueError(f"n={n} and expand={expand} must be 1 or more")
    by_rollout = work.scorer is None if rollouts is None else rollouts
    pause = work.params.pause or PAUSE
    spare = 1 + work.params.max_answer_tokens
    root = Node(None)
    values: list[float] = []  # of work.finished, in its order
    for simulation in range(n):
        leaf = _select(root, exploration)
        if leaf is None:
            break  # every branch has come to its end
        (paths,) = await work.extend([(leaf.path, expand)], salt=("expand", simulation), spare=spare, pause=pause)
        if not paths:
            break  # the budget is spent
        leaf.children = [Node(path, leaf) for path in _distinct(paths)]
        for child, value in zip(leaf.children, await _values(work, leaf, simulation, by_rollout, values), strict=True):
            _back_up(child, value)
        if work.finished:
            work.report(_choose(work, values))
    if not work.finished:
        best = _most_visited(root)
        finished = await work.finish(best.path, salt="finish") or best.path
        if finished is None:
            raise ConfigError(f"a budget of {work.budget} allows no sample; allow at least 1")
        work.finished.append(finished)
        return finished
    return _choose(work, values)


async def _values(work: Work, leaf: Node, simulation: int, by_rollout: bool, values: list[float]) -> list[float]:
    """The values of a leaf's new children; what was finished on the way joins work.finished and `values`."""
    ends: list[Completion | None] = [child.path for child in leaf.children]
    if by_rollout:
        asks = [(child.path, 1) for child in leaf.children if child.is_open]
        rolled = iter(await work.extend(asks, salt=("rollout", simulation), pause=()))
        ends = [next(iter(next(rolled)), None) if child.is_open else child.path for child in leaf.children]
    judged = [end for end in ends if end is not None]
    scores = await work.score(judged) if work.scorer is not None else np.full(len(judged), math.nan)
    of = {id(end): float(score) for end, score in zip(judged, scores, strict=True)}
    complete = [end for end in judged if end.finish_reason != "pause"]
    work.finished += complete
    await work.read(complete)
    if work.scorer is None:  # agreement, of all that are finished by now
        names = classes(work, work.finished)
        share = [float((names == name).mean()) if name >= 0 else 0.0 for name in names]
        values[:] = share
        of |= {id(end): share[len(share) - len(complete) + i] for i, end in enumerate(complete)}
    else:
        values += [of[id(end)] for end in complete]
    found = [of.get(id(end), math.nan) for end in ends]
    return [0.0 if math.isnan(value) else value for value in found]


def _select(root: Node, exploration: float) -> Node | None:
    """The leaf to grow next; None where everything below is finished."""
    node = root
    while node.children:
        growing = [child for child in node.children if _can_grow(child)]
        if not growing:
            return None
        node = max(growing, key=lambda child: child.uct(exploration))
    return node if node.is_open else None


def _can_grow(node: Node) -> bool:
    return any(map(_can_grow, node.children)) if node.children else node.is_open


def _back_up(node: Node | None, value: float) -> None:
    while node is not None:
        node.visits += 1
        node.total += value
        node = node.parent


def _most_visited(root: Node) -> Node:
    node = root
    while node.children:
        node = node.children[int(ranking([child.visits + child.mean for child in node.children])[0])]
    return node


def _distinct(paths: list[Completion]) -> list[Completion]:
    return list({(path.token_ids, path.finish_reason): path for path in reversed(paths)}.values())[::-1]


def _choose(work: Work, values: list[float]) -> Completion:
    if work.scorer is None:  # the values are shares of votes already
        return by_vote(work)(work.finished)
    shares = weights(np.array(values), known=True)
    return work.finished[weighted_vote(classes(work, work.finished), shares)]
