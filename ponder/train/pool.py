"""Which problems to practise: per-problem pass-rate estimates, and a choice that follows them.

A group teaches by how much its rewards differ: p(1-p) for a problem with pass rate p. The pool keeps, for every
problem, decayed counts of correct and tried rollouts, with the mean of its bucket (task and level) as prior, so that a
problem never tried is estimated from its like, and one whose group came out all the same is seldom paid for again
before the policy has moved. `uniform` goes through the pool in a shuffled order, epoch after epoch.

Related: prioritised level replay (arXiv:2010.03934), DAPO's dynamic sampling, which throws such groups away after
paying for them. Choosing is a pure function of the counts, the seed and the step, so a resumed run chooses the same.
No problem is drawn twice in a step: where a pass of `uniform` ends within one, the next begins with what it lacks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import numpy as np

from ponder.rewarding import rewarding
from ponder.tasks.base import problems_hash
from ponder.types import Group, Problem, Task

Selection = Literal["uniform", "adaptive"]

_DECAY = 0.9  # of what was seen, a step: the policy moves, old pass rates fade within tens of steps
_PRIOR = 4.0  # rollouts that the bucket's mean counts for
_EXPLORE = 0.05  # share of the weight that every problem has, however hopeless it looks


@dataclass
class Pool:
    """The first `size` problems of a task, with what is known about each."""

    task: Task
    size: int
    seed: int
    selection: Selection = "adaptive"
    correct: np.ndarray = field(init=False)
    tried: np.ndarray = field(init=False)
    updated: np.ndarray = field(init=False)  # step of the last count

    def __post_init__(self) -> None:
        if self.size < 1 or self.size > len(self.task):
            raise ValueError(f"pool_size={self.size} must lie between 1 and the task's {len(self.task)} problems")
        self.correct, self.tried = np.zeros(self.size), np.zeros(self.size)
        self.updated = np.zeros(self.size, np.int64)
        self.problems: list[Problem] = [self.task[i] for i in range(self.size)]
        self._index_of = {problem.id: i for i, problem in enumerate(self.problems)}
        if len(self._index_of) < self.size:
            raise ValueError("the task gives two problems the same id; ids must be unique")
        self._orders: dict[int, list[list[int]]] = {}  # problems a step -> the passes of `uniform` so far
        buckets: dict[tuple[str, int | None], int] = {}
        self._bucket = np.array([buckets.setdefault((p.task, p.level), len(buckets)) for p in self.problems])

    def refuse_too_small(self, count: int) -> None:
        """A step has `count` different problems."""
        if count > self.size:
            raise ValueError(f"{count} problems a step need a pool of at least that many, not {self.size}")

    def choose(
        self, step: int, count: int, *, round: int = 0, exclude: Sequence[str] = (), weights: np.ndarray | None = None
    ) -> list[Problem]:
        """`count` different problems for a step; further rounds of the same step pass what they already have, and the
        weights of the first, where another step may be counted in between."""
        with rewarding("the choice of problems"):
            return self._chosen(step, count, round, exclude, weights)

    def _chosen(
        self, step: int, count: int, round: int, exclude: Sequence[str], weights: np.ndarray | None
    ) -> list[Problem]:
        self.refuse_too_small(count)
        if self.selection == "uniform" and not exclude:
            return [self.problems[i] for i in self._in_turn(step, count)]
        rng = np.random.default_rng([self.seed, step, round])
        weights = (self.weights(step) if weights is None else weights).copy()
        taken = [self._index_of[problem_id] for problem_id in exclude]
        weights[taken] = 0.0
        count = min(count, int((weights > 0).sum()))
        # Efraimidis and Spirakis: the largest u^(1/w) are a weighted draw without replacement
        keys = np.full(self.size, -np.inf)
        usable = weights > 0
        keys[usable] = np.log(rng.random(usable.sum())) / weights[usable]
        return [self.problems[i] for i in np.argsort(-keys, kind="stable")[:count]]

    def _in_turn(self, step: int, count: int) -> list[int]:
        """Indices of the problems of a step: endless shuffled passes over the pool, each of every problem once."""
        epoch, start = divmod(step * count, self.size)
        passes = self._orders.setdefault(count, [])
        while len(passes) <= epoch + 1:
            order = list(range(self.size))
            Random(f"{self.seed}/pool/{len(passes)}").shuffle(order)
            left = len(passes) * self.size % count  # of the step in which the last pass ends, that are of that pass
            if left:
                drawn = set(passes[-1][-left:])
                first = dict.fromkeys([i for i in order if i not in drawn][: count - left])
                order = [*first, *(i for i in order if i not in first)]
            passes.append(order)
        return (passes[epoch] + passes[epoch + 1])[start : start + count]

    def pass_rates(self, step: int) -> np.ndarray:
        """The estimated pass rate of every problem, (size,)."""
        fade = _DECAY ** np.maximum(step - self.updated, 0)
        correct, tried = self.correct * fade, self.tried * fade
        sums: dict[str, np.ndarray] = {}
        for name, values in (("correct", correct), ("tried", tried)):
            sums[name] = np.bincount(self._bucket, weights=values)
        means = (sums["correct"] + 1.0) / (sums["tried"] + 2.0)  # a bucket never tried: one half, most promising
        return (correct + _PRIOR * means[self._bucket]) / (tried + _PRIOR)

    def weights(self, step: int) -> np.ndarray:
        """How much a group of each problem is expected to teach, (size,); the same for all where none is preferred."""
        if self.selection == "uniform":
            return np.ones(self.size)
        p = self.pass_rates(step)
        value = (p * (1 - p)) ** 2  # squared: the estimates are smoothed, what they say is milder than what is true
        return value + _EXPLORE * max(value.mean(), 1e-4)

    def learn(self, step: int, groups: Sequence[Group]) -> None:
        """Count what a step's rollouts showed."""
        for group in groups:
            i = self._index_of[group.problem.id]
            fade = _DECAY ** max(step - int(self.updated[i]), 0)
            passed = sum(rollout.verdict.is_correct for rollout in group.rollouts)
            self.correct[i] = self.correct[i] * fade + passed
            self.tried[i] = self.tried[i] * fade + len(group.rollouts)
            self.updated[i] = step

    def by_level(self, step: int) -> dict[str, float]:
        """Mean estimated pass rate a level, for the log: pool/level_3, of a mixture pool/words/level_3."""
        rates = self.pass_rates(step)
        several = len({problem.task for problem in self.problems}) > 1
        buckets: dict[tuple[str, int], list[float]] = defaultdict(list)
        for problem, rate in zip(self.problems, rates, strict=True):
            if problem.level is not None or several:
                task = f"{problem.task}/" if several else ""
                buckets[task, -1 if problem.level is None else problem.level].append(float(rate))
        return {
            f"pool/{task}{'all' if level < 0 else f'level_{level}'}": float(np.mean(values))
            for (task, level), values in sorted(buckets.items())
        }

    def state(self) -> dict[str, Any]:
        """JSON that `restore` reads back exactly (floats survive JSON bit for bit)."""
        return {
            "problems": problems_hash(self.problems),
            "correct": self.correct.tolist(),
            "tried": self.tried.tolist(),
            "updated": self.updated.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, in place. ValueError where it is of another number of problems, or of other
        problems."""
        if len(state["tried"]) != self.size:
            raise ValueError(f"the saved pool has {len(state['tried'])} problems, the recipe says {self.size}")
        if state.get("problems", "") not in ("", problems_hash(self.problems)):
            raise ValueError("the saved pool is of other problems; what was learned of those says nothing of these")
        self.correct, self.tried = np.array(state["correct"]), np.array(state["tried"])
        self.updated = np.array(state["updated"], np.int64)
