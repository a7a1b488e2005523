"""The rollouts of a step: play every problem, grade as the samples arrive, add the reward terms.

    collected = await collect(play, task, problems, params, group_size=16, seed=0, step=3)
    collected.groups          # one a problem, in the order of `problems`

`play` says what a rollout is: one completion with `single(engine)`, several turns with `environment(engine,
play_episode, task)` (strategies/turns.py). Groups are independent: the verdicts of one that has arrived are found while
others are still being sampled, and none waits for another.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from ponder.rollouts.grade import Tally, grade
from ponder.rollouts.rewards import RewardTerm, add_terms
from ponder.strategies import turns
from ponder.strategies.base import Work
from ponder.strategies.turns import Environment, Trajectory
from ponder.types import Engine, Group, Problem, Rollout, SamplingParams, Task, text_seed

asking: ContextVar[tuple[int, str]] = ContextVar("asking", default=(0, ""))  # step and problem, for who counts requests
Play = Callable[[Problem, SamplingParams, int], Awaitable[list[Trajectory]]]  # n trajectories of a problem


@dataclass
class Collected:
    """The groups of one step, and what became of every sample."""

    groups: list[Group] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)  # verdicts by outcome; undecided and failed ones left their group
    counts: Counter[str] = field(default_factory=Counter)  # what an environment counted (strategies/turns.py)

    @property
    def rollouts(self) -> list[Rollout]:
        """Of all groups, in their order; undecided and failed ones are not among them."""
        return [rollout for group in self.groups for rollout in group.rollouts]

    def __add__(self, other: Collected) -> Collected:
        return Collected(self.groups + other.groups, self.tally + other.tally, self.counts + other.counts)


def single(engine: Engine) -> Play:
    """One completion a rollout; a group is one request, so that its samples share the prompt."""

    async def play(problem: Problem, params: SamplingParams, n: int) -> list[Trajectory]:
        return [Trajectory.of(completion) for completion in await engine.generate(problem.prompt, params, n=n)]

    return play


def environment(engine: Engine, play_episode: Environment, task: Task) -> Play:
    """A rollout of several turns. Which is which depends on the seed of the params and its index alone."""

    async def play(problem: Problem, params: SamplingParams, n: int) -> list[Trajectory]:
        def work() -> Work:
            return Work(problem.prompt, engine, params=params, key=lambda answer: task.key(problem, answer))

        return list(await asyncio.gather(*(turns.run_episode(play_episode, work(), index=index) for index in range(n))))

    return play


async def collect(
    play: Play,
    task: Task,
    problems: Sequence[Problem],
    params: SamplingParams,
    *,
    group_size: int,
    seed: int,
    step: int,
    terms: Mapping[str, RewardTerm] | None = None,
    keys: bool = False,
    verified: bool = True,
    min_spread: float = 0.0,
) -> Collected:
    """A group of `group_size` rollouts a problem. The seed of each depends on run, step and problem alone.

    terms: what is added to the verifier's reward, see rewards.py. keys: as in `grade`. verified: false = the verifier's
    reward is left out, and what it cannot decide stays. min_spread: of rewards, see `Group`.
    """
    wanted = ("correct", "wrong") if verified else ("correct", "wrong", "undecided")

    async def group_of(problem: Problem, own: int) -> Collected:
        asking.set((step, problem.id))  # of this task: gather makes one of each group
        played = await play(problem, replace(params, seed=own), group_size)
        verdicts = await grade(task, problem, [trajectory.completion for trajectory in played], keys=keys)
        result = Collected()
        for trajectory in played:
            result.counts.update(trajectory.counts)
        kept, judged = [], []
        for trajectory, verdict in zip(played, verdicts, strict=True):
            if verdict.outcome in wanted and trajectory.completion.finish_reason != "cancelled":
                kept.append(trajectory)
                judged.append(verdict if verified else replace(verdict, reward=0.0))
            else:
                result.tally.add(verdict)
        rewarded = await add_terms(terms or {}, problem, kept, judged)
        for verdict in rewarded:
            result.tally.add(verdict)
        rollouts = tuple(
            Rollout(
                problem=problem, turns=trajectory.turns, verdict=verdict, reward=verdict.reward,
                ended=trajectory.ended, whole=None if trajectory.is_single else trajectory.completion,
            )
            for trajectory, verdict in zip(kept, rewarded, strict=True)
            if math.isfinite(verdict.reward)  # nan: a term could not tell
        )  # fmt: skip
        dropped = len(played) - len(rollouts)
        result.groups.append(Group(problem=problem, rollouts=rollouts, num_dropped=dropped, min_spread=min_spread))
        return result

    parts = await asyncio.gather(*map(group_of, problems, rollout_seeds(seed, step, problems)))
    return sum(parts, Collected())


def rollout_seeds(seed: int, step: int, problems: Sequence[Problem]) -> list[int]:
    """The seed of each group of a step: of run, step and problem alone. A problem that comes again gets another."""
    times: Counter[str] = Counter()
    seeds = []
    for problem in problems:
        again = [times[problem.id]] if times[problem.id] else []
        seeds.append(text_seed(seed, "rollout", step, problem.id, *again))
        times[problem.id] += 1
    return seeds
