"""Reward terms: what is added to a verdict's reward. Each is a function over a group; `Verdict.parts` records each.

    def brevity(problem, trajectories, verdicts):            # in mymodule.py
        return [-0.001 * t.completion.num_tokens if v.is_correct else 0.0 for t, v in zip(trajectories, verdicts)]

    reward_terms = ["mymodule:brevity"]                      # in a recipe of `ponder rl`

A term returns one number a trajectory, or is a coroutine function that does: a learned scorer is one
(`preferences.py`). None means that it cannot tell: the rollout leaves its group as undecided. The reward is the
verifier's with all terms added. Only decided rollouts are asked about. No monitor's verdict may be a term
(`ponder/rewarding.py` sees to it): reasoning that is rewarded for what a monitor says stops saying what it thinks.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from ponder.rewarding import rewarding
from ponder.strategies.turns import Trajectory
from ponder.types import Problem, Verdict

Numbers = Sequence[float | None]
RewardTerm = Callable[[Problem, Sequence[Trajectory], Sequence[Verdict]], Numbers | Awaitable[Numbers]]


class TermFailed(RuntimeError):
    """A term could not be asked: the rollouts of its group are failed, as those of a verifier that raises are."""


async def add_terms(
    terms: Mapping[str, RewardTerm], problem: Problem, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """The verdicts with every term added to reward and parts.

    Where a term could not tell, the reward is nan and the outcome undecided, or failed.

    ValueError for a term that says something else than a finite number or None.
    """
    result = list(verdicts)
    for name, term in terms.items():
        failure = ""
        with rewarding(f"the reward term {name!r}"):
            try:
                returned = term(problem, trajectories, verdicts)
                numbers = await returned if inspect.isawaitable(returned) else returned
                values = [None if v is None else float(v) for v in numbers]
            except TermFailed as error:
                failure = f"the reward term {name!r} failed on problem {problem.id}: {error}"[:500]
        if failure:
            return [replace(verdict, outcome="failed", reward=math.nan, note=failure) for verdict in result]
        if len(values) != len(result) or not all(value is None or math.isfinite(value) for value in values):
            raise ValueError(
                f"the reward term {name!r} returned {values} for {len(result)} trajectories; "
                "return one finite number for each, or None where it cannot tell"
            )
        result = [_with_part(verdict, name, value) for verdict, value in zip(result, values, strict=True)]
    return result


def _with_part(verdict: Verdict, name: str, value: float | None) -> Verdict:
    if value is None:
        return replace(verdict, outcome="undecided", reward=math.nan, note=f"the reward term {name!r} could not tell")
    return replace(verdict, reward=verdict.reward + value, parts={**verdict.parts, name: value})


def each(term: Callable[[Trajectory, Verdict], float]) -> RewardTerm:
    """A term that looks at one trajectory at a time."""

    def over_group(problem: Problem, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> Numbers:
        return [term(trajectory, verdict) for trajectory, verdict in zip(trajectories, verdicts, strict=True)]

    return over_group


def overlong_penalty(buffer: int, limit: int) -> RewardTerm:
    """DAPO's soft punishment (arXiv:2503.14476, eq. 13): from 0 to -1 over the last `buffer` reasoning tokens."""

    def term(trajectory: Trajectory, verdict: Verdict) -> float:
        excess = trajectory.completion.num_reasoning_tokens - (limit - buffer)
        return -min(max(excess, 0) / buffer, 1.0)

    return each(term)


def truncation_penalty(cost: float) -> RewardTerm:
    """A right answer that a budget had to bring about is worth 1 - cost; a wrong one is worth 0 either way.

    Ending well means closing the reasoning and ending the answer oneself. The term is on right answers only: paid on
    wrong ones too, it would be the whole gradient of a group that got everything wrong, and the quickest way to earn
    it there is to stop thinking and guess. So no wrong answer is ever worth more than a right one, and length as such
    costs and earns nothing.
    """

    def term(trajectory: Trajectory, verdict: Verdict) -> float:
        return -cost if verdict.is_correct and trajectory.completion.was_cut else 0.0

    return each(term)
