"""Monte Carlo tree search over steps of reasoning (UCT; for language models: arXiv:2408.06195, arXiv:2501.04519).

A node is an unfinished solution. A simulation descends from the root, always to the child with the largest

    mean value + exploration * sqrt(ln(visits of the parent) / visits)

draws `expand` next steps at the leaf it reaches, gives each a value, and adds it to every node on the way. The value of
a node is the score of its solution so far. With `rollouts` (the default without a scorer) it is the value of one
solution that is drawn from there to the end: its score, or without a scorer the share of the finished solutions that
have the same answer. At the end all finished solutions vote, weighted by their values.

Simulations run one after the other, since each needs the values of those before; calls that run at once share batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ponder.config import ConfigError
from ponder.strategies.base import Work, strategy
from ponder.strategies.sampling import answer_classes, by_vote, vote_weights
from ponder.strategies.select import ranking, weighted_vote
from ponder.strategies.tree import PAUSE
from ponder.types import Completion


@dataclass(eq=False)
class SearchNode:
    """A prefix in the tree, with the sum of the values that were found below it."""

    completion: Completion | None  # None = the root
    parent: SearchNode | None = None
    children: list[SearchNode] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0  # sum of the values found at this node and below it

    @property
    def mean(self) -> float:
        """The mean value, 0 before the first visit."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def is_open(self) -> bool:
        """Whether it can be continued: the root, or a completion that paused."""
        return self.completion is None or self.completion.finish_reason == "pause"

    def uct(self, exploration: float) -> float:
        """What a child is selected by; infinite before its first visit. Not for the root."""
        assert self.parent is not None
        if not self.visits:
            return math.inf
        return self.mean + exploration * math.sqrt(math.log(max(1, self.parent.visits)) / self.visits)


@strategy
async def mcts(
    work: Work, *, n: int | None = None, expand: int = 3, exploration: float = 0.5, rollouts: bool | None = None
) -> Completion:
    """n simulations (default: max_samples of the budget, else 8)."""
    n = work.samples if n is None else n
    if n < 1 or expand < 1:
        raise ValueError(f"n={n} and expand={expand} must be 1 or more")
    by_rollout = work.scorer is None if rollouts is None else rollouts
    pause = work.params.pause or PAUSE
    reserve = 1 + work.params.max_answer_tokens
    root = SearchNode(None)
    values: list[float] = []  # one for each of work.finished, in its order
    for simulation in range(n):
        leaf = _select_leaf(root, exploration)
        if leaf is None:
            break  # every branch is finished
        (steps,) = await work.extend(
            [(leaf.completion, expand)], salt=("expand", simulation), reserve=reserve, pause=pause
        )
        if not steps:
            break  # the budget is spent
        leaf.children = [SearchNode(completion, leaf) for completion in _without_duplicates(steps)]
        for child, value in zip(leaf.children, await _values(work, leaf, simulation, by_rollout, values), strict=True):
            _backpropagate(child, value)
        if work.finished:
            work.report(_choose_finished(work, values))
    if not work.finished:
        best = _most_visited(root)
        finished = await work.finish(best.completion, salt="finish") or best.completion
        if finished is None:
            raise ConfigError(f"a budget of {work.budget} allows no sample; allow at least 1")
        work.finished.append(finished)
        return finished
    return _choose_finished(work, values)


async def _values(work: Work, leaf: SearchNode, simulation: int, by_rollout: bool, values: list[float]) -> list[float]:
    """The values of a leaf's new children. What is finished is added to work.finished, and its value to `values`."""
    solutions: list[Completion | None] = [child.completion for child in leaf.children]  # what is scored for each child
    if by_rollout:
        requests = [(child.completion, 1) for child in leaf.children if child.is_open]
        rollouts = iter(await work.extend(requests, salt=("rollout", simulation), pause=()))
        solutions = [next(iter(next(rollouts)), None) if child.is_open else child.completion for child in leaf.children]
    drawn = [solution for solution in solutions if solution is not None]
    scores = await work.score(drawn) if work.scorer is not None else np.full(len(drawn), math.nan)
    value_of = {id(solution): float(score) for solution, score in zip(drawn, scores, strict=True)}
    finished = [solution for solution in drawn if solution.finish_reason != "pause"]
    work.finished += finished
    await work.compute_keys(finished)
    if work.scorer is None:  # the agreement with all that are finished by now
        classes = answer_classes(work, work.finished)
        values[:] = [float((classes == number).mean()) if number >= 0 else 0.0 for number in classes]
        value_of |= {id(solution): values[len(values) - len(finished) + i] for i, solution in enumerate(finished)}
    else:
        values += [value_of[id(solution)] for solution in finished]
    found = [value_of.get(id(solution), math.nan) for solution in solutions]
    return [0.0 if math.isnan(value) else value for value in found]


def _select_leaf(root: SearchNode, exploration: float) -> SearchNode | None:
    """The leaf to expand next; None where everything is finished."""
    node = root
    while node.children:
        expandable = [child for child in node.children if _can_expand(child)]
        if not expandable:
            return None
        node = max(expandable, key=lambda child: child.uct(exploration))
    return node if node.is_open else None


def _can_expand(node: SearchNode) -> bool:
    return any(map(_can_expand, node.children)) if node.children else node.is_open


def _backpropagate(node: SearchNode | None, value: float) -> None:
    while node is not None:
        node.visits += 1
        node.total += value
        node = node.parent


def _most_visited(root: SearchNode) -> SearchNode:
    node = root
    while node.children:
        node = node.children[int(ranking([child.visits + child.mean for child in node.children])[0])]
    return node


def _without_duplicates(steps: list[Completion]) -> list[Completion]:
    return list({(step.token_ids, step.finish_reason): step for step in reversed(steps)}.values())[::-1]


def _choose_finished(work: Work, values: list[float]) -> Completion:
    if work.scorer is None:  # the values are shares of votes already
        return by_vote(work)(work.finished)
    weights = vote_weights(np.array(values), has_scorer=True)
    return work.finished[weighted_vote(answer_classes(work, work.finished), weights)]
