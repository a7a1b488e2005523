"""Deliberations as rollouts: how they are configured, the three terms of their reward, and an engine of them.

    environment = "deliberate"                  in a recipe of `ponder rl`
    [deliberation]
    m = 4
    step_cost = 0.1

What is rewarded is how a trajectory ended, never a step of it (strategies/deliberation_environment.py plays it):

    right answer        1 - step_cost * turns / turn limit + preference_weight * preference
    wrong answer        0                                  + preference_weight * preference
    no final answer     -window_penalty       the window, the token budget or the turn limit came first, or nothing
                                              that could be read was drawn

Each term stands in the `parts` of the verdict and each can be 0; with all of them 0 the reward is the verifier's. The
bounds are checked where they are set, so that no wrong answer is ever worth more than a right one and no missing one
more than a wrong one. The preference reads the answer alone (`preferences.py`). The step cost is on right answers
only: paid on wrong ones too, it would be the whole gradient of a group that got everything wrong, and the quickest
way to earn it there is to answer at once (`truncation_penalty`).

Credit: the trajectory's advantage goes to the chosen candidates, the answer and the choices (`batches.from_groups`);
with `contrast`, minus a share of it to candidates that were not chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ponder.config import ConfigError, check, lookup, setting
from ponder.engine.base import RedrawingWrapper
from ponder.models.tokenizer import Tokenizer
from ponder.rollouts.openenv import openenv_turns
from ponder.rollouts.preferences import open_preference, preference_term
from ponder.rollouts.programs import one_program, program_turns
from ponder.rollouts.rewards import RewardTerm, each
from ponder.rollouts.verifiers_turns import verifiers_turns
from ponder.strategies.base import Work
from ponder.strategies.deliberation_environment import MAX_CANDIDATES, Deliberation
from ponder.strategies.turns import Environment, Trajectory, run_episode
from ponder.types import Capabilities, Completion, Engine, Message, SamplingParams, Usage, Verdict


@dataclass(frozen=True, kw_only=True)
class DeliberationConfig:
    """How a deliberation is played and rewarded: [deliberation] of a recipe."""

    m: int = setting(4, "candidates a turn: the choice is one digit", least=1, most=MAX_CANDIDATES)
    turns: int = setting(12, "the limit", least=1)
    choice: Literal["policy", "vote", "scorer"] = setting("policy", "who chooses; scorer = the policy's own confidence")
    turn_tokens: int = setting(32, "cap of one candidate's reasoning", least=1)
    force: bool = setting(False, "at the turn limit an answer is forced; else there is none")
    window_penalty: float = setting(1.0, "for no final answer; 0 = worth as much as a wrong one", least=0, most=1)
    step_cost: float = setting(0.1, "of a right answer that took all the turns there are", least=0, below=1)
    preference_weight: float = setting(0.0, "of what the scorer `preference` says of the answer", least=0, below=1)
    preference: str = setting("", "a scorer's folder, or module:attr of a function that makes a Scorer")
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
            raise ConfigError("preference_weight needs a scorer; name one as preference = 'FOLDER' or 'module:attr'")

    def environment(self, tokenizer: Tokenizer | None = None) -> Deliberation:
        """tokenizer: encodes the list that the policy chooses from; without one the engine does."""
        return Deliberation(
            m=self.m, turns=self.turns, choice=self.choice, turn_tokens=self.turn_tokens, force=self.force,
            encode=tokenizer.encode if tokenizer else None,
        )  # fmt: skip


ENVIRONMENTS: dict[str, Callable[..., Environment]] = {  # by name, with the config of each; or module:attr
    "deliberate": DeliberationConfig.environment,
    "programs": one_program,
    "program_turns": program_turns,
    "openenv": openenv_turns,
    "verifiers": verifiers_turns,
}


def open_environment(name: str, config: DeliberationConfig, tokenizer: Tokenizer | None = None) -> Environment | None:
    """The environment that a recipe names; None for "", single completions."""
    if not name:
        return None
    found: Any = lookup(ENVIRONMENTS, name, what="environment")
    opened: Environment = found(config, tokenizer) if name in ENVIRONMENTS else found
    return opened


def deliberation_terms(config: DeliberationConfig) -> dict[str, RewardTerm]:
    """The three terms, all of which stand in the parts, whatever their weight."""

    def window(trajectory: Trajectory, verdict: Verdict) -> float:
        return 0.0 if trajectory.answer.strip() else -config.window_penalty

    def steps(trajectory: Trajectory, verdict: Verdict) -> float:
        return -config.step_cost * min(1.0, trajectory.num_turns / config.turns) if verdict.is_correct else 0.0

    terms = {"window": each(window), "steps": each(steps), "preference": each(lambda trajectory, verdict: 0.0)}
    if config.preference_weight:
        terms["preference"] = preference_term(open_preference(config.preference), config.preference_weight)
    return terms


class Deliberating(RedrawingWrapper):
    """An engine whose samples are whole deliberations: for exams, training curves and rejection sampling.

    A sample is the chosen turns as one completion. Its cost is of everything: candidates that were not chosen, and the
    state read again at every draw, count as its own tokens beside the prompt.
    """

    def __init__(self, engine: Engine, environment: Environment) -> None:
        super().__init__(engine)
        self._environment = environment

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, hidden_states=False)  # a whole trajectory is put together from pieces

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        messages = cast("Sequence[Message]", prompt)
        works = [Work(messages, self.engine, params=params, key=lambda a: a) for _ in range(n)]
        runs = [run_episode(self._environment, work, index=first + i) for i, work in enumerate(works)]
        return [_priced(one.completion, work) for one, work in zip(await asyncio.gather(*runs), works, strict=True)]


def _priced(whole: Completion, work: Work) -> Completion:
    own = len(whole.prompt_ids)
    spent = work.usage.prompt_tokens + work.usage.completion_tokens
    return replace(whole, counted=Usage(prompt_tokens=own, completion_tokens=max(0, spent - own), samples=1))
