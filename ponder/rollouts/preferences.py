"""The preference term of a reward: what a learned scorer says of an answer, beside the verifier's truth or alone.

    [reward]                                     in a recipe of `ponder rl`
    preference = "runs/rm_nano/scorer"           a scorer's folder, or module:attr of a function that makes a Scorer
    preference_weight = 0.3
    verified = false                             without the verifier's reward; it is still asked, to be looked at

Three rules, each with a test:

- **The answer is all it reads.** The scorer is handed the visible text, never the reasoning, its tokens or what they
  left in the network: else it would be a monitor in a reward, and reasoning would stop saying what it thinks.
- **Preference never outbids truth.** It lies in [0, 1] and its weight below the smallest difference that the verifier
  makes: of whole verdicts when the recipe is read, of shares in each group.
- **A missing score is not a number.** A scorer that says nan (a judge whose reply cannot be read) takes the rollout
  out of its group as undecided; one that raises, as failed, which stops a run that fails often. Never 0, never 0.5.

A scorer that guesses what it cannot tell, as a judge does at test time, is asked for its `strict()` self.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ponder.config import ConfigError, check, lookup, setting
from ponder.rewarding import MonitorInReward
from ponder.rollouts.rewards import RewardTerm, TermFailed
from ponder.scorers import load_scorer
from ponder.scorers.base import floats
from ponder.scorers.files import FACTS, scorer_folder
from ponder.scorers.judge import Judge
from ponder.scorers.reward import RewardModel
from ponder.strategies.turns import Trajectory
from ponder.types import Completion, Problem, Scorer, Verdict

_SHARE = 0.9  # of the smallest verified difference of a group, at most


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """What a rollout is rewarded for: [reward] of a recipe. ConfigError where its keys contradict each other."""

    verified: bool = setting(True, "the verifier's word is rewarded; false = only watched")
    preference: str = setting(
        "", "who likes answers: a scorer's folder, or module:attr of a function that makes a Scorer",
        also="reward_model_path reward_model",
    )  # fmt: skip
    preference_weight: float = setting(0.0, "of what it says, which lies in [0, 1]", least=0, also="reward_weights")
    targeted: bool = setting(False, "the preference trains the tokens of answers only, not those of reasoning")

    def __post_init__(self) -> None:
        check(self)
        if self.targeted and not self.preference:
            raise ConfigError("reward.targeted is of a preference; name a scorer as reward.preference")
        if bool(self.preference) != (self.preference_weight > 0):
            raise ConfigError(
                "reward.preference and reward.preference_weight belong together: give both a scorer and a weight "
                "above 0, or neither"
            )
        if not self.verified and not self.preference:
            raise ConfigError("reward.verified = false leaves no reward; name a scorer as reward.preference")
        if self.verified and self.preference_weight >= 1:
            raise ConfigError(
                f"reward.preference_weight={self.preference_weight:g} must stay below 1: a right answer must be worth "
                "more than any wrong one. Without a verifier (reward.verified = false) any weight will do"
            )


def open_preference(name: str) -> Scorer:
    """The scorer that a recipe names, as a reward: in [0, 1], of texts alone. ConfigError where it cannot be one."""
    if is_attribute(name):
        scorer: Scorer = lookup({}, name, what="preference scorer")()
    elif (scorer_folder(name) / FACTS).exists():
        scorer = load_scorer(name)
        if not isinstance(scorer, RewardModel) or scorer.reads_reasoning:  # token ids, or states that reasoning left
            raise ConfigError(
                f"{name} is a {type(scorer).__name__}, which reads the reasoning too; a reward may read answers only: "
                "train a scorer of the kind 'preference'"
            )
    else:
        raise ConfigError(f"no scorer in {name!r}; `ponder scorer` makes a folder, module:attr names one of your own")
    return scorer.strict() if isinstance(scorer, Judge) else scorer


def is_attribute(name: str) -> bool:
    """Whether a name is module:attr, and no folder."""
    return ":" in name and not Path(name).exists()


def visible(completion: Completion) -> Completion:
    """The answer and nothing else: what a preference may read."""
    return replace(
        completion, prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), reasoning="", num_reasoning_tokens=0,
        versions=(), counted=None, hidden=None, seed=0, policy_version=0,
    )  # fmt: skip


def preference_term(scorer: Scorer, weight: float) -> RewardTerm:
    """weight * the scorer's score of the answer, which must lie in [0, 1]; 0 where there is no answer."""

    async def term(
        problem: Problem, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]
    ) -> list[float | None]:
        asked = [i for i, trajectory in enumerate(trajectories) if trajectory.answer.strip()]
        values: list[float | None] = [0.0] * len(trajectories)
        if not asked:
            return values
        try:
            liked = await scorer(problem.prompt, [visible(trajectories[i].completion) for i in asked])
        except MonitorInReward:
            raise
        except Exception as error:  # whatever a scorer may raise: one failure policy, see `grade`
            raise TermFailed(f"{type(error).__name__}: {error}") from error
        liked = floats(liked, scorer.name)
        own = min(weight, _SHARE * smallest_difference(verdicts))
        for i, value in zip(asked, liked, strict=True):
            if not math.isnan(value) and not 0 <= value <= 1:
                raise ValueError(
                    f"the preference scorer returned {value}; it must lie in [0, 1] for the reward to be bounded"
                )
            values[i] = None if math.isnan(value) else own * value
        return values

    return term


def smallest_difference(verdicts: Sequence[Verdict]) -> float:
    """Between two unequal rewards of the verifier; infinity where all are equal."""
    rewards = sorted({verdict.reward for verdict in verdicts})
    return min((high - low for low, high in itertools.pairwise(rewards)), default=math.inf)
