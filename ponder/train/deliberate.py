"""Whole deliberations as rollouts: play them, verify the answer, and give the three terms of their reward.

    environment = "deliberate"                  in a recipe of `ponder rl`
    [deliberation]
    m = 4
    step_cost = 0.1

What is rewarded is how a trajectory ended, never a step of it (strategies/deliberation.py has the process itself):

    right answer        1 - step_cost * turns / turn limit + preference_weight * preference
    wrong answer        0                                  + preference_weight * preference
    no final answer     -window_penalty       the window, the token budget or the turn limit came first, or nothing
                                              that could be read was drawn

Each term stands in the `parts` of the verdict and each can be 0; with all of them 0 the reward is the verifier's. The
bounds are checked where they are set, so that no wrong answer is ever worth more than a right one and no missing one
more than a wrong one. The step cost is on right answers only: paid on wrong ones too, it would be the whole gradient of
a group that got everything wrong, and the quickest way to earn it there is to answer at once (`rollouts.unended`).

Credit: the trajectory's advantage goes to the chosen candidates, the answer and the choices (`batches.from_groups`);
with `contrast`, minus a share of it to candidates that were not chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ponder.config import ConfigError, check, lookup, setting
from ponder.models.tokenizer import Tokenizer
from ponder.strategies.base import Work
from ponder.strategies.deliberation import MOST, Deliberation
from ponder.strategies.turns import Environment, Trajectory, run
from ponder.train.rollouts import Collected, judged, rollout_seeds
from ponder.types import (
    Completion,
    Engine,
    Group,
    Message,
    Problem,
    Rollout,
    SamplingParams,
    Scorer,
    Task,
    Usage,
    Verdict,
)


@dataclass(frozen=True, kw_only=True)
class DeliberationConfig:
    m: int = setting(4, "candidates a turn: the choice is one digit", least=1, most=MOST)
    turns: int = setting(12, "the limit", least=1)
    choice: Literal["policy", "vote", "scorer"] = setting("policy", "who chooses; scorer = the policy's own confidence")
    turn_tokens: int = setting(32, "cap of one candidate's reasoning", least=1)
    force: bool = setting(False, "at the turn limit an answer is forced; else there is none")
    window_penalty: float = setting(1.0, "for no final answer; 0 = worth as much as a wrong one", least=0, most=1)
    step_cost: float = setting(0.1, "of a right answer that took all the turns there are", least=0, below=1)
    preference_weight: float = setting(0.0, "of what the scorer `preference` says of the whole", least=0, below=1)
    preference: str = setting("", "module:attr of a function of no arguments that makes a Scorer")
    contrast: float = setting(0.0, "share of the advantage, sign changed, of candidates not chosen", least=0, below=1)

    def __post_init__(self) -> None:
        check(self)
        if self.step_cost + self.preference_weight >= 1:
            raise ValueError(
                f"step_cost + preference_weight = {self.step_cost + self.preference_weight:g} must stay below 1: "
                "a right answer must be worth more than any wrong one"
            )
        if not (self.window_penalty == 0 or self.step_cost <= self.window_penalty <= 1):
            raise ValueError(
                f"window_penalty={self.window_penalty} must be 0 or lie between step_cost={self.step_cost} and 1: "
                "it is the largest penalty there is"
            )
        if self.preference_weight and not self.preference:
            raise ConfigError("preference_weight needs a scorer; name one as preference = 'module:attr'")

    def environment(self, tokenizer: Tokenizer | None = None) -> Deliberation:
        return Deliberation(
            m=self.m, turns=self.turns, choice=self.choice, turn_tokens=self.turn_tokens, force=self.force,
            encode=tokenizer.encode if tokenizer else None,
        )  # fmt: skip


def reward(verdict: Verdict, trajectory: Trajectory, config: DeliberationConfig, preference: float = 0.0) -> Verdict:
    """The verdict with the terms of the reward added. preference: in [0, 1]."""
    if not 0 <= preference <= 1:  # nan is refused too
        raise ValueError(f"the preference scorer said {preference}; it must lie in [0, 1] for the reward to be bounded")
    has_answer = bool(trajectory.answer.strip())
    terms = {
        "window": 0.0 if has_answer else -config.window_penalty,
        "steps": -config.step_cost * min(1.0, trajectory.num_turns / config.turns) if verdict.is_correct else 0.0,
        "preference": config.preference_weight * preference if has_answer else 0.0,
    }
    return replace(verdict, reward=verdict.reward + sum(terms.values()), parts={**verdict.parts, **terms})


def open_preference(config: DeliberationConfig) -> Scorer | None:
    if not config.preference_weight:
        return None
    scorer: Scorer = lookup({}, config.preference, what="preference scorer")()
    return scorer


async def play(
    environment: Environment, engine: Engine, task: Task, problem: Problem, params: SamplingParams, *, n: int
) -> list[Trajectory]:
    """n trajectories of a problem at once; which is which depends on the seed of `params` and its place alone."""
    return list(
        await asyncio.gather(
            *(
                run(
                    environment,
                    Work(problem.prompt, engine, params=params, key=lambda answer: task.key(problem, answer)),
                    index=index,
                )
                for index in range(n)
            )
        )
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
    config: DeliberationConfig,
    environment: Environment,
    preference: Scorer | None = None,
) -> Collected:
    """A group of trajectories a problem; all of a step run at once, so that the engine has full batches."""
    played = await asyncio.gather(
        *(
            play(
                environment, engine, task, problem, replace(params, seed=own), n=group_size,
            )
            for problem, own in zip(problems, rollout_seeds(seed, step, problems), strict=True)
        )
    )  # fmt: skip
    result = Collected()
    for problem, trajectories in zip(problems, played, strict=True):
        liked = await preferences(preference, problem, trajectories)
        rollouts = []
        for trajectory, value in zip(trajectories, liked, strict=True):
            result.counts.update(trajectory.counts)
            verdict = judged(task, problem, trajectory.answer, result)
            if verdict is None:
                continue
            verdict = reward(verdict, trajectory, config, value)
            rollouts.append(
                Rollout(
                    problem=problem, turns=trajectory.turns, verdict=verdict, reward=verdict.reward,
                    ended=trajectory.ended, whole=trajectory.whole,
                )
            )  # fmt: skip
        dropped = len(trajectories) - len(rollouts)
        result.groups.append(Group(problem=problem, rollouts=tuple(rollouts), num_dropped=dropped))
    return result


async def preferences(scorer: Scorer | None, problem: Problem, trajectories: Sequence[Trajectory]) -> list[float]:
    """What the scorer says of each whole; 0 without one."""
    if scorer is None or not trajectories:
        return [0.0] * len(trajectories)
    return [float(value) for value in await scorer(problem.prompt, [t.whole for t in trajectories])]


class Deliberating:
    """An engine whose samples are whole deliberations: for exams, ladders and rejection sampling.

    A sample is the chosen turns as one completion. Its cost is of everything: candidates that were not chosen, and the
    state read again at every draw, count as its own tokens beside the prompt.
    """

    def __init__(self, engine: Any, environment: Environment) -> None:
        self._engine, self._environment = engine, environment
        self.tokenizer = engine.tokenizer

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        messages = cast("Sequence[Message]", prompt)
        works = [Work(messages, self._engine, params=params, key=lambda a: a) for _ in range(n)]
        runs = [run(self._environment, work, index=first + i) for i, work in enumerate(works)]
        return [_priced(one.whole, work) for one, work in zip(await asyncio.gather(*runs), works, strict=True)]

    def close(self) -> Any:
        return self._engine.close()


def _priced(whole: Completion, work: Work) -> Completion:
    own = len(whole.prompt_ids)
    spent = work.usage.prompt_tokens + work.usage.completion_tokens
    return replace(whole, counted=Usage(prompt_tokens=own, completion_tokens=max(0, spent - own), samples=1))
