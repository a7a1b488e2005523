"""Problems -> groups of verified rollouts: sample, then check.

A verifier that fails is a fault, not a reward of 0: the rollout leaves its group and is counted. So is one that could
not decide.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ponder.types import Completion, Engine, Group, Problem, Rollout, SamplingParams, Task, Turn, Verdict, text_seed

Reward = Callable[[Verdict, Completion], Verdict]


@dataclass
class Collected:
    """The groups of one step, and what was dropped on the way."""

    groups: list[Group] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # "undecided", "error"
    last_error: str = ""
    counts: Counter[str] = field(default_factory=Counter)  # what an environment counted (strategies/turns.py)

    @property
    def rollouts(self) -> list[Rollout]:
        return [rollout for group in self.groups for rollout in group.rollouts]

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            self.groups + other.groups,
            self.dropped + other.dropped,
            other.last_error or self.last_error,
            self.counts + other.counts,
        )


async def collect(
    engine: Engine,
    task: Task,
    problems: Sequence[Problem],
    params: SamplingParams,
    *,
    group_size: int,
    seed: int,
    step: int,
    shape: Reward | None = None,
) -> Collected:
    """A group of `group_size` rollouts a problem. The seed of each depends on run, step and problem alone.

    shape: turns the verdict into the one that training sees, e.g. a penalty for running into the budget.
    """
    samples = await asyncio.gather(
        *(
            engine.generate(problem.prompt, replace(params, seed=own), n=group_size)
            for problem, own in zip(problems, rollout_seeds(seed, step, problems), strict=True)
        )
    )
    result = Collected()
    for problem, completions in zip(problems, samples, strict=True):
        rollouts = []
        for completion in completions:
            verdict = judged(task, problem, completion.answer, result)
            if verdict is None:
                continue
            if shape is not None:
                verdict = shape(verdict, completion)
            rollouts.append(
                Rollout(problem=problem, turns=(Turn(completion=completion),), verdict=verdict, reward=verdict.reward)
            )
        dropped = len(completions) - len(rollouts)
        result.groups.append(Group(problem=problem, rollouts=tuple(rollouts), num_dropped=dropped))
    return result


def rollout_seeds(seed: int, step: int, problems: Sequence[Problem]) -> list[int]:
    """The seed of each group of a step: of run, step and problem alone. A problem that comes again gets another."""
    times: Counter[str] = Counter()
    seeds = []
    for problem in problems:
        again = [times[problem.id]] if times[problem.id] else []
        seeds.append(text_seed(seed, "rollout", step, problem.id, *again))
        times[problem.id] += 1
    return seeds


def judged(task: Task, problem: Problem, answer: str, result: Collected) -> Verdict | None:
    """The verdict; None, and counted, where the verifier failed or could not decide."""
    try:
        verdict = task.verify(problem, answer)
    except Exception as error:  # any verifier, any text: counted, and the run stops where there are many
        result.dropped["error"] += 1
        result.last_error = f"{type(error).__name__}: {error} (problem {problem.id})"
        return None
    if verdict.outcome == "undecided":
        result.dropped["undecided"] += 1
        return None
    return verdict


def overlong(buffer: int, limit: int) -> Reward:
    """DAPO's soft punishment (arXiv:2503.14476, eq. 13): from 0 to -1 over the last `buffer` reasoning tokens."""

    def shape(verdict: Verdict, completion: Completion) -> Verdict:
        excess = completion.num_reasoning_tokens - (limit - buffer)
        if excess <= 0:
            return verdict
        penalty = -min(excess / buffer, 1.0)
        return replace(verdict, reward=verdict.reward + penalty, parts={**verdict.parts, "overlong": penalty})

    return shape


def unended(cost: float) -> Reward:
    """A right answer that a budget had to bring about is worth 1 - cost; a wrong one is worth 0 either way.

    Ending well means closing the reasoning and ending the answer oneself. The term is on right answers only: paid on
    wrong ones too, it would be the whole gradient of a group that got everything wrong, and the quickest way to earn
    it there is to stop thinking and guess. So no wrong answer is ever worth more than a right one, and length as such
    costs and earns nothing.
    """

    def shape(verdict: Verdict, completion: Completion) -> Verdict:
        loss = -cost if verdict.is_correct and completion.was_cut else 0.0
        return replace(verdict, reward=verdict.reward + loss, parts={**verdict.parts, "unended": loss})

    return shape


def chain(shapes: Sequence[Reward]) -> Reward | None:
    """One shape after the other; None where there is none."""
    if not shapes:
        return None

    def shape(verdict: Verdict, completion: Completion) -> Verdict:
        for one in shapes:
            verdict = one(verdict, completion)
        return verdict

    return shape
