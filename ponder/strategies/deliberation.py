"""Deliberation: reasoning as turns of question and answer, with a choice among candidates at each of them.

    Q: 4*3
    A: 12
    <blank line>

A Markov decision process over turns, inside the reasoning of one completion. The state is the prompt and the turns
chosen so far. At each turn the policy draws m candidates, one batch on the shared state. A candidate that closes its
reasoning is the final answer; a question with an answer is a step; anything else is unparseable and is never chosen
while there is another. Equal candidates are one. The chosen one becomes part of the state, and so on, until an answer
is chosen or a limit is met.

The choice, by name:

policy   the policy is shown the list and says which after a short comparison; the comparison is not kept
scorer   the best scored by an outcome or process scorer; without one the policy's own confidence
vote     the pair that most candidates have

Nothing here knows rewards or training; see train/ for these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ponder.config import ConfigError, lookup
from ponder.strategies.select import best_of
from ponder.strategies.turns import Walk, is_final
from ponder.types import Completion, Ending, Engine, Turn

PAUSE = "\n\n"  # ends a step
MOST = 9  # candidates: the choice is one digit
CHOICE_TOKENS = 48  # a comparison and an index, at most


@dataclass(frozen=True, kw_only=True)
class Step:
    """A candidate as it is read."""

    turn: Turn
    kind: Literal["step", "answer", "unparseable"]
    question: str = ""
    answer: str = ""

    @property
    def line(self) -> str:
        """How it is listed. Equal lines are equal candidates."""
        return pair_line(self.question, self.answer) if self.kind == "step" else answer_line(self.answer)


def render_step(question: str, answer: str) -> str:
    """One turn as it stands in the state."""
    return f"Q: {question}\nA: {answer}{PAUSE}"


def pair_line(question: str, answer: str) -> str:
    """A step as it is listed, on one line whatever it holds: "Q: 4*3 A: 12"."""
    return f"Q: {_flat(question)} A: {_flat(answer)}"


def answer_line(answer: str) -> str:
    """A final answer as it is listed: "Answer: 9"."""
    return f"Answer: {_flat(answer)}"


def parse_step(text: str) -> tuple[str, str] | None:
    """The question and the answer of one well-formed turn; None for anything else, two turns in one included."""
    text = text.strip()
    if not text.startswith("Q:"):
        return None
    question, _, answer = text[2:].partition("\nA:")
    question, answer = question.strip(), answer.strip()
    if not question or not answer or any(mark in f"\n{question}\n{answer}" for mark in ("\nQ:", "\nA:")):
        return None
    return question, answer


def read(turn: Turn) -> Step:
    """A drawn candidate as a step, a final answer or neither. An answer that says nothing is none."""
    piece = turn.completion
    if is_final(piece) and piece.answer.strip():
        return Step(turn=turn, kind="answer", answer=piece.answer.strip())
    pair = parse_step(piece.reasoning) if piece.finish_reason == "pause" else None
    if pair is None:
        return Step(turn=turn, kind="unparseable")
    return Step(turn=turn, kind="step", question=pair[0], answer=pair[1])


def distinct(steps: Sequence[Step]) -> list[Step]:
    """The usable ones of which no two say the same; the first of equals is kept, in the order they were drawn."""
    found: dict[str, Step] = {}
    for step in steps:
        if step.kind != "unparseable":
            found.setdefault(step.line, step)
    return list(found.values())


def listing(lines: Sequence[str]) -> str:
    """What the policy is shown after the state to choose from: "1. Q: 4*3 A: 12\\n2. Answer: 9\\nBest: "."""
    return "".join(f"{number}. {line}\n" for number, line in enumerate(lines, 1)) + "Best: "


def parse_choice(text: str, count: int) -> int | None:
    """The place (from 0) of the candidate that a choice names: its last digit that is a number of the list."""
    numbers = [int(sign) for sign in text if sign in "123456789" and int(sign) <= count]
    return numbers[-1] - 1 if numbers else None


@dataclass(frozen=True, kw_only=True)
class Deliberation:
    """The environment, of any prompt: `await run(Deliberation(m=4), work)`.

    How it ends: "answer", a final answer was chosen. "turns", the turn limit. "window", the context window or the
    tokens of the whole (max_reasoning_tokens, a budget) were used up. "unparseable", no candidate of a turn could be
    used. In the last three an answer still comes, with `force`: at a limit the reasoning is closed (its mark is not
    sampled, so it is never trained on), and after a turn that cannot be read the model reasons on as it likes.
    """

    m: int = 4  # candidates a turn
    turns: int = 12
    choice: str = "policy"  # see CHOICES
    turn_tokens: int = 64  # of one candidate's reasoning
    force: bool = True
    encode: Callable[[str], Sequence[int]] | None = None  # text -> ids; the engine's tokenizer does it unless told

    def __post_init__(self) -> None:
        for name in ("m", "turns", "turn_tokens"):
            if type(getattr(self, name)) is not int:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be a whole number")
        if not 1 <= self.m <= MOST:
            raise ValueError(f"m={self.m} candidates must be 1 or more and at most {MOST}: the choice is one digit")
        if self.turns < 1 or self.turn_tokens < 1:
            raise ValueError(f"turns={self.turns} and turn_tokens={self.turn_tokens} must be 1 or more")
        lookup(CHOICES, self.choice, what="choice")

    async def __call__(self, walk: Walk) -> Ending:
        choose = CHOICES[self.choice]
        while walk.number < self.turns:
            drawn = await self._propose(walk)
            if not drawn:
                return await self._end(walk, "window")
            steps = [read(turn) for turn in drawn]
            walk.counts["unparseable"] += sum(step.kind == "unparseable" for step in steps)
            candidates = distinct(steps)
            if not candidates:
                return await self._stuck(walk, drawn)
            self._tell(walk, candidates)
            chosen = candidates[0] if len(candidates) == 1 else await choose(self, walk, candidates, steps)
            walk.keep(chosen.turn)
            if chosen.kind == "answer":
                return "answer"
        return await self._end(walk, "turns")

    async def _propose(self, walk: Walk) -> list[Turn]:
        """The candidates of a turn; none where the tokens of the whole or the budget are used up."""
        params = walk.work.params
        used = (0, 0) if walk.path is None else (walk.path.num_reasoning_tokens, len(walk.path.token_ids))
        left = params.max_reasoning_tokens - used[0]
        most = min(self.turn_tokens, left) + 1 + params.max_answer_tokens
        if params.max_tokens is not None:
            most = min(most, params.max_tokens - used[1])
        if walk.path is not None and (left < 1 or most < 1):
            return []
        return await walk.draw(self.m, spare=self.spare(walk), pause=(PAUSE,), max_tokens=most)

    def spare(self, walk: Walk) -> int:
        """Tokens kept back for an answer by force."""
        return 1 + walk.work.params.max_answer_tokens

    def _tell(self, walk: Walk, candidates: Sequence[Step]) -> None:
        """An answer that was proposed is the best so far, for whoever stops this now."""
        answers = [step for step in candidates if step.kind == "answer"]
        if answers:
            walk.work.report(walk.after(answers[0].turn))

    async def _stuck(self, walk: Walk, drawn: Sequence[Turn]) -> Ending:
        """No candidate can be used: they ran out of room, were cancelled, or do not keep to the format."""
        reasons = {turn.completion.finish_reason for turn in drawn}
        if "cancelled" in reasons:
            return "cancelled"
        closed = [turn for turn in drawn if _closed_by_force(turn.completion)]
        if self.force and closed:
            walk.keep(closed[0])  # the engine has closed it at the limit, and its answer is paid for
        if closed or "window" in reasons:
            return "window"
        return await self._end(walk, "unparseable")

    async def _end(self, walk: Walk, why: Ending) -> Ending:
        if self.force:
            await walk.finish(**({} if why == "unparseable" else {"max_reasoning_tokens": 0}))
        return why


Choose = Callable[[Deliberation, Walk, Sequence[Step], Sequence[Step]], Awaitable[Step]]


async def by_policy(options: Deliberation, walk: Walk, candidates: Sequence[Step], _: Sequence[Step]) -> Step:
    """The policy reads the list, compares and names one; where it names none it is the first, and that is counted."""
    shown = options.encode or encoder(walk.work.engine)
    ids = shown(listing([step.line for step in candidates]))
    drawn = await walk.draw(
        1, kind="choice", shown=ids, spare=options.spare(walk), pause=("\n",),
        max_reasoning_tokens=CHOICE_TOKENS, max_answer_tokens=1, max_tokens=CHOICE_TOKENS,
    )  # fmt: skip
    if not drawn:
        return candidates[0]  # no budget for a comparison
    walk.counts["choices"] += 1
    place = parse_choice(drawn[0].completion.reasoning, len(candidates))
    walk.counts["choice_unparsed"] += place is None
    return candidates[place or 0]


async def by_scorer(_: Deliberation, walk: Walk, candidates: Sequence[Step], __: Sequence[Step]) -> Step:
    """The best scored, each as the unfinished completion that it would make."""
    return candidates[best_of(await walk.work.score([walk.after(step.turn) for step in candidates]))]


async def by_vote(_: Deliberation, walk: Walk, candidates: Sequence[Step], steps: Sequence[Step]) -> Step:
    """What most of the draws say; of equally frequent ones the earliest."""
    votes = Counter(step.line for step in steps if step.kind != "unparseable")
    return max(candidates, key=lambda step: votes[step.line])


CHOICES: dict[str, Choose] = {"policy": by_policy, "scorer": by_scorer, "vote": by_vote}


def encoder(engine: Engine) -> Callable[[str], Sequence[int]]:
    """How the engine's model spells a text."""
    if not engine.capabilities.token_ids:
        raise ConfigError("choice 'policy' puts a list into the reasoning, and this engine does not say how its model "
                         "spells it; choose by 'vote' or 'scorer', or give encode=")  # fmt: skip
    return engine.encode


def _closed_by_force(piece: Completion) -> bool:
    place = piece.num_reasoning_tokens
    return len(piece.token_ids) > place and not piece.sampled[place]


def _flat(text: str) -> str:
    """Without line breaks: a candidate cannot put lines of its own into the list."""
    return " ".join(text.split())
