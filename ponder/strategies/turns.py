"""Episodes: rollouts of several turns. What is drawn next, what of it is kept, what is inserted, and why it ended.

    async def calculator(episode: Episode) -> Ending:                 # an environment is one async function
        while episode.turn_number < 8:
            (turn,) = await episode.draw(1, pause=("=",))             # "12*7="
            episode.keep(turn)
            if is_final(turn.completion):
                return "answer"
            episode.append(" 84\\n", encode(" 84\\n"))                 # text that was not sampled: never trained on
        return "turns"

    trajectory = await run_episode(calculator, Work(prompt, engine, params=params, key=key))

The state is the prompt and everything that was kept: continuations of one completion's reasoning, token for token, so
that the result reads as one completion. `draw` requests n continuations of the state at once, `keep` makes one
of them part of it, `append` adds text of the environment, such as a tool's result. Everything that was drawn stays in
the trajectory, kept or not, with the state it was drawn in: training needs the log-probabilities there.

Episodes that run at once share the engine's batches, and none waits for another. Everything goes through `Work`, so
budgets and costs hold here too: the engine processes the state again at every turn, and that is counted.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, get_args

from ponder.config import ConfigError
from ponder.strategies.base import Work, joined
from ponder.strategies.select import mean_logprob
from ponder.types import Completion, Ending, FinishReason, Turn, TurnKind, text_seed

_FINISH_REASONS: dict[Ending, FinishReason] = {
    "answer": "stop", "window": "window", "turns": "length", "cancelled": "cancelled", "unparseable": "stop",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The result of a rollout. A rollout of a single completion has one turn."""

    turns: tuple[Turn, ...]  # all that was drawn, in order: chosen, rejected, choices, the answer
    completion: Completion  # the prompt, everything kept and the end, as one; its answer is the trajectory's
    ended: Ending
    num_turns: int  # turns that became part of the state, the answer included
    counts: Mapping[str, float] = field(default_factory=dict)  # what the environment counted, e.g. unparsed choices
    is_single: bool = False  # one completion, no environment

    @classmethod
    def of(cls, completion: Completion) -> Trajectory:
        """A single completion as a trajectory."""
        turn = Turn(completion=completion)
        return cls(turns=(turn,), completion=completion, ended="answer", num_turns=1, is_single=True)

    @property
    def answer(self) -> str:
        return self.completion.answer

    @property
    def choices(self) -> tuple[Turn, ...]:
        """The turns in which the policy chose between candidates."""
        return tuple(turn for turn in self.turns if turn.kind == "choice")

    @property
    def rejected(self) -> tuple[Turn, ...]:
        """The candidates that did not become part of the state."""
        return tuple(turn for turn in self.turns if turn.kind == "candidate" and not turn.chosen)


class Environment(Protocol):
    """Plays one episode and returns why it ended. It has no state of its own: one serves many episodes at once."""

    async def __call__(self, episode: Episode) -> Ending: ...


class Episode:
    """A rollout in progress.

    `prefix` is what was kept so far: an unfinished completion from the prompt on, None before the first turn. `counts`
    is for the environment to fill.
    """

    def __init__(self, work: Work, *, index: int = 0) -> None:
        self.work, self.index = work, index
        self.prefix: Completion | None = None
        self.turns: list[Turn] = []
        self.turn_number = 0  # of the last turn that was begun
        self.counts: Counter[str] = Counter()
        self._num_kept = 0
        self._draws = 0
        self._prompt_ids: tuple[int, ...] = ()

    @property
    def state_ids(self) -> tuple[int, ...]:
        """The prompt and everything kept; empty before the first draw."""
        return self._prompt_ids if self.prefix is None else (*self.prefix.prompt_ids, *self.prefix.token_ids)

    async def draw(
        self,
        n: int = 1,
        *,
        kind: TurnKind = "candidate",
        suffix_ids: Sequence[int] = (),
        reserve: int = 0,
        **overrides: Any,
    ) -> list[Turn]:
        """Up to n continuations of the state, in one request: as many as the budget surely allows (perhaps none).

        kind: candidates begin a turn; a choice or an answer belongs to the last one. suffix_ids: tokens that follow the
        state in this draw only, such as a list to choose from; not before the first draw. reserve: tokens, and one
        call, that are left unspent. overrides: of the sampling params (pause, max_tokens, ...).
        """
        number = self.turn_number + (kind == "candidate")
        salt = ("walk", self.index, number, kind, self._draws)  # part of the seed: another word draws other samples
        self._draws += 1
        overrides.setdefault("seed", text_seed(self.work.params.seed, *salt))
        prompt_ids = [*self.state_ids, *suffix_ids] if suffix_ids else ()
        continuations = await self.work.draw_continuations(
            self.prefix, n, prompt_ids=prompt_ids, reserve=reserve, **overrides
        )
        if not continuations:
            return []
        if not continuations[0].prompt_ids:
            raise ConfigError("a rollout of several turns continues from token ids, which this engine does not return")
        self.turn_number = number
        if not self._prompt_ids:
            self._prompt_ids = continuations[0].prompt_ids
        drawn = [
            Turn(completion=continuation, candidate=index, chosen=kind == "choice", number=number, kind=kind)
            for index, continuation in enumerate(continuations)
        ]
        self.turns += drawn
        return drawn

    def keep(self, turn: Turn) -> None:
        """Make the turn's completion part of the state: it is the chosen one of its turn's candidates."""
        index = next(i for i, one in enumerate(self.turns) if one is turn)
        self.turns[index] = replace(turn, chosen=True)
        self.prefix = self.with_turn(turn)
        self._num_kept += 1

    def with_turn(self, turn: Turn) -> Completion:
        """What `prefix` would be if this turn were kept."""
        return turn.completion if self.prefix is None else joined(self.prefix, turn.completion)

    def append(self, text: str, token_ids: Sequence[int]) -> None:
        """Add text that was not sampled to the state. It counts as reasoning and against the budget."""
        if self.prefix is None:
            raise ValueError("nothing has been kept yet; put what comes before the first turn into the prompt")
        size = len(token_ids)
        self.prefix = replace(
            self.prefix,
            token_ids=(*self.prefix.token_ids, *token_ids),
            sampler_logprobs=(*self.prefix.sampler_logprobs, *[0.0] * size),
            sampled=(*self.prefix.sampled, *[False] * size),
            reasoning=self.prefix.reasoning + text,
            num_reasoning_tokens=self.prefix.num_reasoning_tokens + size,
            versions=tuple(  # nobody drew them: they count with what stands before them
                (version, start, end + size if end == len(self.prefix.token_ids) else end)
                for version, start, end in self.prefix.versions
            ),
            hidden=None,
        )
        self.work.charge(size)

    async def finish(self, **overrides: Any) -> Turn | None:
        """Draw and keep the rest of the completion, without a pause, and shorter where the budget is short; None where
        nothing fits. `max_reasoning_tokens=0` closes the reasoning at once, by force."""
        seed = text_seed(self.work.params.seed, "walk", self.index, "finish")
        ending = await self.work.draw_ending(self.prefix, seed=seed, **overrides)
        if ending is None:
            return None
        turn = Turn(completion=ending, chosen=False, number=self.turn_number, kind="answer")
        self.turns.append(turn)
        self.keep(turn)
        return self.turns[-1]

    def trajectory(self, ended: Ending) -> Trajectory:
        """The trajectory so far."""
        completion = self.prefix or _empty_completion(self.turns, self._prompt_ids)
        if ended == "cancelled" or (not completion.answer and completion.finish_reason in ("pause", "stop")):
            completion = replace(completion, finish_reason=_FINISH_REASONS[ended])
        return Trajectory(
            turns=tuple(self.turns),
            completion=completion,
            ended=ended,
            num_turns=self._num_kept,
            counts=dict(self.counts),
        )


async def run_episode(
    environment: Environment,
    work: Work,
    *,
    index: int = 0,
    on_end: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Play one rollout. index: which of several rollouts of one prompt; each index has seeds of its own.

    on_end: called with the trajectory however it ends, also where it was cancelled (the call then raises as well).
    """
    episode = Episode(work, index=index)
    try:
        played: Any = environment(episode)
        if not inspect.isawaitable(played):
            raise ConfigError(f"the environment returned {played!r:.80} at once; it must be an async function")
        ended: Ending = await played
    except asyncio.CancelledError:
        if on_end is not None:
            on_end(episode.trajectory("cancelled"))
        raise
    if ended not in get_args(Ending):  # a user's may end without a `return`
        raise ConfigError(
            f"the environment returned {ended!r:.80}; it must return why the episode ended: answer, window, turns, "
            "unparseable or cancelled"
        )
    trajectory = episode.trajectory(ended)
    if on_end is not None:
        on_end(trajectory)
    return trajectory


def is_final(completion: Completion) -> bool:
    """Whether it closed its reasoning itself: there is an answer, and no budget forced the closing mark."""
    mark = completion.num_reasoning_tokens  # the index of the closing mark
    closed = len(completion.token_ids) > mark and completion.finish_reason in ("stop", "length")
    return closed and completion.sampled[mark] and bool(completion.answer or completion.finish_reason == "stop")


def diversity(turns: Sequence[Turn]) -> float:
    """The share of distinct texts among a turn's candidates, averaged over the turns with two or more; nan for none.

    A value of 1 / m means that all m were equal: there was nothing to choose.
    """
    groups: dict[int, list[tuple[str, str]]] = {}
    for turn in turns:
        if turn.kind == "candidate":
            text = " ".join(turn.completion.reasoning.split()), " ".join(turn.completion.answer.split())
            groups.setdefault(turn.number, []).append(text)
    shares = [len(set(texts)) / len(texts) for texts in groups.values() if len(texts) > 1]
    return sum(shares) / len(shares) if shares else math.nan


def trajectory_row(turns: Sequence[Turn], ended: str) -> dict[str, Any]:
    """A trajectory's part of a line of samples.jsonl, which the report draws as a tree (evals/trajectories.py):

    {"ended": "answer", "num_turns": 3, "distinct": 0.75, "turns": [{"number": 1, "kind": "candidate", "candidate": 0,
     "chosen": true, "text": "Q: 4*3\\nA: 12\\n\\n", "answer": "", "tokens": 9, "logprob": -0.1, "forced": 0}, ...]}
    """
    share = diversity(turns)
    return {
        "ended": ended,
        "num_turns": sum(turn.chosen and turn.kind != "choice" for turn in turns),
        "distinct": None if math.isnan(share) else share,
        "turns": [_turn_row(turn) for turn in turns],
    }


def _turn_row(turn: Turn) -> dict[str, Any]:
    completion = turn.completion
    logprob = mean_logprob(completion.sampler_logprobs, completion.sampled)
    return {
        "number": turn.number,
        "kind": turn.kind,
        "candidate": turn.candidate,
        "chosen": turn.chosen,
        "text": completion.reasoning,
        "answer": completion.answer,
        "finish_reason": completion.finish_reason,
        "tokens": completion.num_tokens,
        "logprob": None if math.isnan(logprob) else logprob,
        "forced": len(completion.sampled) - sum(completion.sampled),
    }


def _empty_completion(turns: Sequence[Turn], prompt_ids: tuple[int, ...]) -> Completion:
    """The completion of a trajectory of which nothing was kept."""
    version = turns[0].completion.policy_version if turns else 0
    return Completion(
        prompt_ids=prompt_ids, token_ids=(), sampler_logprobs=(), sampled=(), finish_reason="pause", reasoning="",
        answer="", num_reasoning_tokens=0, policy_version=version,
    )  # fmt: skip
