"""Rollouts of several turns: what is drawn next, what of it is kept, what is put after it, and why it ended.

    async def calculator(walk: Walk) -> Ending:                      # an environment is one async function
        while walk.number < 8:
            (turn,) = await walk.draw(1, pause=("=",))                # "12*7="
            walk.keep(turn)
            if is_final(turn.completion):
                return "answer"
            walk.say(" 84\\n", encode(" 84\\n"))                       # text that was not sampled: never trained on
        return "turns"

    trajectory = await run(calculator, Work(prompt, engine, params=params, key=key))

The state is the prompt with everything that was kept: pieces of one completion's reasoning, token for token, so that
the whole reads as one completion. `draw` asks for n pieces after the state in one request, `keep` makes one of them
part of it, `say` appends what an environment has to tell, such as a tool's result. All that is drawn stays in the
trajectory, kept or not, with the state it was drawn in: a trainer wants the log-probabilities there.

Trajectories that run at once share the engine's batches, and none waits for another. Everything goes through `Work`,
so budgets and costs hold here too: the engine reads the state again at every turn, and that is paid for.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ponder.config import ConfigError
from ponder.strategies.base import Work, joined
from ponder.strategies.select import mean_logprob
from ponder.types import Completion, Ending, FinishReason, Turn, TurnKind, text_seed

_REASON: dict[Ending, FinishReason] = {
    "answer": "stop", "window": "window", "turns": "length", "cancelled": "cancelled", "unparseable": "stop",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What a rollout came to. Of a single draw: one turn, which is the whole."""

    turns: tuple[Turn, ...]  # all that was drawn, in order: chosen, rejected, choices, the answer
    whole: Completion  # the prompt, everything kept and the end, as one completion; its answer is the answer
    ended: Ending
    num_turns: int  # that became part of the state, the answer included
    counts: Mapping[str, float] = field(default_factory=dict)  # what the environment counted, e.g. unparsed choices
    is_single: bool = False  # one completion, no environment

    @classmethod
    def of(cls, completion: Completion) -> Trajectory:
        """A single completion as a trajectory."""
        turn = Turn(completion=completion)
        return cls(turns=(turn,), whole=completion, ended="answer", num_turns=1, is_single=True)

    @property
    def answer(self) -> str:
        return self.whole.answer

    @property
    def choices(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self.turns if turn.kind == "choice")

    @property
    def rejected(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self.turns if turn.kind == "candidate" and not turn.chosen)


class Environment(Protocol):
    """Plays one rollout on a Walk, and says why it ended. It keeps nothing itself: one serves many rollouts at once."""

    async def __call__(self, walk: Walk) -> Ending: ...


class Walk:
    """One rollout on its way.

    `path` is what was kept so far: an unfinished completion from the prompt on, None before the first piece. `counts`
    is the environment's to fill.
    """

    def __init__(self, work: Work, *, index: int = 0) -> None:
        self.work, self.index = work, index
        self.path: Completion | None = None
        self.turns: list[Turn] = []
        self.number = 0  # the last turn that was begun
        self.counts: Counter[str] = Counter()
        self._kept = 0
        self._draws = 0
        self._prompt_ids: tuple[int, ...] = ()

    @property
    def state_ids(self) -> tuple[int, ...]:
        """The prompt and everything kept; empty until the engine has been asked once."""
        return self._prompt_ids if self.path is None else (*self.path.prompt_ids, *self.path.token_ids)

    async def draw(
        self,
        n: int = 1,
        *,
        kind: TurnKind = "candidate",
        shown: Sequence[int] = (),
        spare: int = 0,
        **changes: Any,
    ) -> list[Turn]:
        """Up to n pieces after the state, in one request, as many as the budget surely allows (perhaps none).

        kind: candidates begin a turn; a choice or an answer belongs to the last one. shown: tokens that are put after
        the state for this draw alone, such as a list to choose from; they need a state, so not before the first draw.
        spare: tokens, and one call, to keep back. changes: of the sampling (pause, max_tokens, ...).
        """
        begun = self.number + (kind == "candidate")
        salt = ("walk", self.index, begun, kind, self._draws)
        self._draws += 1
        changes.setdefault("seed", text_seed(self.work.params.seed, *salt))
        place = [*self.state_ids, *shown] if shown else ()
        pieces = await self.work.piece(self.path, n, shown=place, spare=spare, **changes)
        if not pieces:
            return []
        if not pieces[0].prompt_ids:
            raise ConfigError("a rollout of several turns goes on from token ids, which this engine does not give")
        self.number = begun
        if not self._prompt_ids:
            self._prompt_ids = pieces[0].prompt_ids
        drawn = [
            Turn(completion=piece, candidate=place, chosen=kind == "choice", number=begun, kind=kind)
            for place, piece in enumerate(pieces)
        ]
        self.turns += drawn
        return drawn

    def keep(self, turn: Turn) -> None:
        """The piece becomes part of the state; of its turn's candidates it is the chosen one."""
        place = next(i for i, one in enumerate(self.turns) if one is turn)
        self.turns[place] = replace(turn, chosen=True)
        self.path = self.after(turn)
        self._kept += 1

    def after(self, turn: Turn) -> Completion:
        """The whole completion, were this piece kept."""
        return turn.completion if self.path is None else joined(self.path, turn.completion)

    def say(self, text: str, token_ids: Sequence[int]) -> None:
        """Put a text after the state that nobody sampled; it counts as reasoning, and the budget pays for it."""
        if self.path is None:
            raise ValueError("nothing has been kept yet; put what comes before the first turn into the prompt")
        size = len(token_ids)
        self.path = replace(
            self.path,
            token_ids=(*self.path.token_ids, *token_ids),
            sampler_logprobs=(*self.path.sampler_logprobs, *[0.0] * size),
            sampled=(*self.path.sampled, *[False] * size),
            reasoning=self.path.reasoning + text,
            num_reasoning_tokens=self.path.num_reasoning_tokens + size,
            hidden=None,
        )
        self.work.charge(size)

    async def finish(self, **changes: Any) -> Turn | None:
        """An answer from here, in one draw without a pause, with less room where the budget is short; kept. None where
        nothing fits. `max_reasoning_tokens=0` closes the reasoning at once, by force."""
        seed = text_seed(self.work.params.seed, "walk", self.index, "finish")
        piece = await self.work.last_piece(self.path, seed=seed, **changes)
        if piece is None:
            return None
        turn = Turn(completion=piece, chosen=False, number=self.number, kind="answer")
        self.turns.append(turn)
        self.keep(turn)
        return self.turns[-1]

    def trajectory(self, ended: Ending) -> Trajectory:
        """What there is of it now."""
        whole = self.path or _nothing(self.turns, self._prompt_ids)
        if not whole.answer and whole.finish_reason in ("pause", "stop"):
            whole = replace(whole, finish_reason=_REASON[ended])
        return Trajectory(
            turns=tuple(self.turns), whole=whole, ended=ended, num_turns=self._kept, counts=dict(self.counts)
        )


async def run(
    environment: Environment,
    work: Work,
    *,
    index: int = 0,
    told: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """One rollout. index: which of several rollouts of one prompt, each of which draws something else.

    told: hears of the trajectory however it ends, a cancelled one included (its call then raises as any other does).
    """
    walk = Walk(work, index=index)
    try:
        ended = await environment(walk)
    except asyncio.CancelledError:
        if told is not None:
            told(walk.trajectory("cancelled"))
        raise
    trajectory = walk.trajectory(ended)
    if told is not None:
        told(trajectory)
    return trajectory


def is_final(completion: Completion) -> bool:
    """It closed its own reasoning: there is an answer, and the closing mark was not a budget's."""
    place = completion.num_reasoning_tokens
    closed = len(completion.token_ids) > place and completion.finish_reason in ("stop", "length")
    return closed and completion.sampled[place] and bool(completion.answer or completion.finish_reason == "stop")


def diversity(turns: Sequence[Turn]) -> float:
    """The share of distinct texts among a turn's candidates, averaged over the turns with two or more; nan for none.

    A value of 1 / m means that all m said the same: there was nothing to choose.
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
    piece = turn.completion
    sure = mean_logprob(piece.sampler_logprobs, piece.sampled)
    return {
        "number": turn.number,
        "kind": turn.kind,
        "candidate": turn.candidate,
        "chosen": turn.chosen,
        "text": piece.reasoning,
        "answer": piece.answer,
        "finish_reason": piece.finish_reason,
        "tokens": piece.num_tokens,
        "logprob": None if math.isnan(sure) else sure,
        "forced": len(piece.sampled) - sum(piece.sampled),
    }


def _nothing(turns: Sequence[Turn], prompt_ids: tuple[int, ...]) -> Completion:
    """The completion of a rollout of which nothing was kept."""
    version = turns[0].completion.policy_version if turns else 0
    return Completion(
        prompt_ids=prompt_ids, token_ids=(), sampler_logprobs=(), sampled=(), finish_reason="pause", reasoning="",
        answer="", num_reasoning_tokens=0, policy_version=version,
    )  # fmt: skip
