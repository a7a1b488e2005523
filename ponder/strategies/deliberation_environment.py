"""The environment of deliberation: reasoning as turns of question and answer, each chosen among candidates.

    Q: 4*3
    A: 12
    <blank line>

A Markov decision process over turns, inside the reasoning of one completion. The state is the prompt and the turns
chosen so far. At each turn the policy draws m candidates, one batch on the shared state. A candidate that closes its
reasoning is the final answer; a question with an answer is a step; anything else is unparseable and is never chosen
while there is another. Equal candidates count as one. The chosen one becomes part of the state, and so on, until an
answer is chosen or a limit is reached.

The choice, by name:

policy   the policy is shown the list and names a number after a short comparison; the comparison is not kept
scorer   the best scored by an outcome or process scorer; without one the policy's own confidence
vote     the candidate that was drawn most often

Rewards and training are not here, see rollouts/deliberate.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ponder.config import ConfigError, lookup
from ponder.strategies.select import best_of
from ponder.strategies.turns import Episode, is_final
from ponder.types import Completion, Ending, Engine, Turn

PAUSE = "\n\n"  # ends a step
MAX_CANDIDATES = 9  # the choice is one digit
MAX_CHOICE_TOKENS = 48  # of a comparison and a number


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A turn that was drawn, parsed."""

    turn: Turn
    kind: Literal["step", "answer", "unparseable"]
    question: str = ""
    answer: str = ""

    @property
    def line(self) -> str:
        """How it is listed. Equal lines are equal candidates."""
        return pair_line(self.question, self.answer) if self.kind == "step" else answer_line(self.answer)


def render_step(question: str, answer: str) -> str:
    """One turn as it is written in the state."""
    return f"Q: {question}\nA: {answer}{PAUSE}"


def pair_line(question: str, answer: str) -> str:
    """A step in the list, on one line whatever its text: "Q: 4*3 A: 12"."""
    return f"Q: {_one_line(question)} A: {_one_line(answer)}"


def answer_line(answer: str) -> str:
    """A final answer in the list: "Answer: 9"."""
    return f"Answer: {_one_line(answer)}"


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


def parse_candidate(turn: Turn) -> Candidate:
    """A turn as a step, a final answer or neither. An empty answer is no answer."""
    completion = turn.completion
    if is_final(completion) and completion.answer.strip():
        return Candidate(turn=turn, kind="answer", answer=completion.answer.strip())
    pair = parse_step(completion.reasoning) if completion.finish_reason == "pause" else None
    if pair is None:
        return Candidate(turn=turn, kind="unparseable")
    return Candidate(turn=turn, kind="step", question=pair[0], answer=pair[1])


def distinct(parsed: Sequence[Candidate]) -> list[Candidate]:
    """The usable candidates without duplicates, in the order they were drawn: the first of equals is kept."""
    found: dict[str, Candidate] = {}
    for candidate in parsed:
        if candidate.kind != "unparseable":
            found.setdefault(candidate.line, candidate)
    return list(found.values())


def listing(lines: Sequence[str]) -> str:
    """What the policy is shown after the state to choose from: "1. Q: 4*3 A: 12\\n2. Answer: 9\\nBest: "."""
    return "".join(f"{number}. {line}\n" for number, line in enumerate(lines, 1)) + "Best: "


def parse_choice(text: str, count: int) -> int | None:
    """The index (from 0) of the candidate that a choice names: its last digit that is a number of the list."""
    numbers = [int(sign) for sign in text if sign in "123456789" and int(sign) <= count]
    return numbers[-1] - 1 if numbers else None


@dataclass(frozen=True, kw_only=True)
class Deliberation:
    """The environment, for any prompt: `await run_episode(Deliberation(m=4), work)`.

    How it ends: "answer", a final answer was chosen. "turns", the turn limit was reached. "window", the context window
    or a token limit (max_reasoning_tokens, a budget) was reached. "unparseable", a turn had no usable candidate. In the
    last three cases `force` brings about an answer: at a limit the reasoning is closed (the mark is not sampled, so it
    is never trained on), and after an unparseable turn the model finishes in any form.
    """

    m: int = 4  # candidates a turn
    turns: int = 12
    choice: str = "policy"  # see CHOICES
    turn_tokens: int = 64  # limit of one candidate's reasoning
    force: bool = True
    encode: Callable[[str], Sequence[int]] | None = None  # text -> ids; None = the engine's

    def __post_init__(self) -> None:
        for name in ("m", "turns", "turn_tokens"):
            if type(getattr(self, name)) is not int:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be a whole number")
        if not 1 <= self.m <= MAX_CANDIDATES:
            raise ValueError(
                f"m={self.m} candidates must be 1 or more and at most {MAX_CANDIDATES}: the choice is one digit"
            )
        if self.turns < 1 or self.turn_tokens < 1:
            raise ValueError(f"turns={self.turns} and turn_tokens={self.turn_tokens} must be 1 or more")
        lookup(CHOICES, self.choice, what="choice")

    async def __call__(self, episode: Episode) -> Ending:
        choose = CHOICES[self.choice]
        while episode.turn_number < self.turns:
            drawn = await self._propose(episode)
            if not drawn:
                return await self._end(episode, "window")
            parsed = [parse_candidate(turn) for turn in drawn]
            episode.counts["unparseable"] += sum(candidate.kind == "unparseable" for candidate in parsed)
            candidates = distinct(parsed)
            if not candidates:
                return await self._end_without_candidate(episode, drawn)
            self._report_answer(episode, candidates)
            chosen = candidates[0] if len(candidates) == 1 else await choose(self, episode, candidates, parsed)
            episode.keep(chosen.turn)
            if chosen.kind == "answer":
                return "answer"
        return await self._end(episode, "turns")

    async def _propose(self, episode: Episode) -> list[Turn]:
        """The candidates of a turn; none where a token limit or the budget is reached."""
        params, prefix = episode.work.params, episode.prefix
        reasoning_left = params.max_reasoning_tokens - (prefix.num_reasoning_tokens if prefix else 0)
        max_tokens = min(self.turn_tokens, reasoning_left) + 1 + params.max_answer_tokens
        if params.max_tokens is not None:
            max_tokens = min(max_tokens, params.max_tokens - (len(prefix.token_ids) if prefix else 0))
        if prefix and (reasoning_left < 1 or max_tokens < 1):
            return []
        return await episode.draw(self.m, reserve=self.reserve(episode), pause=(PAUSE,), max_tokens=max_tokens)

    def reserve(self, episode: Episode) -> int:
        """Tokens left unspent for a forced answer."""
        return 1 + episode.work.params.max_answer_tokens

    def _report_answer(self, episode: Episode, candidates: Sequence[Candidate]) -> None:
        """A proposed answer is the best so far, for whoever stops the call now."""
        answers = [candidate for candidate in candidates if candidate.kind == "answer"]
        if answers:
            episode.work.report(episode.with_turn(answers[0].turn))

    async def _end_without_candidate(self, episode: Episode, drawn: Sequence[Turn]) -> Ending:
        """No candidate is usable: they were cut by a limit, were cancelled, or do not follow the format."""
        reasons = {turn.completion.finish_reason for turn in drawn}
        if "cancelled" in reasons:
            return "cancelled"
        closed = [turn for turn in drawn if _closed_by_force(turn.completion)]
        if self.force and closed:
            episode.keep(closed[0])  # the engine closed it at the limit, and its answer is paid for
        if closed or "window" in reasons:
            return "window"
        return await self._end(episode, "unparseable")

    async def _end(self, episode: Episode, why: Ending) -> Ending:
        if self.force:
            await episode.finish(**({} if why == "unparseable" else {"max_reasoning_tokens": 0}))
        return why


# (options, episode, the distinct candidates, all that were parsed) -> the chosen candidate
ChooseCandidate = Callable[[Deliberation, Episode, Sequence[Candidate], Sequence[Candidate]], Awaitable[Candidate]]


async def by_policy(
    options: Deliberation, episode: Episode, candidates: Sequence[Candidate], _: Sequence[Candidate]
) -> Candidate:
    """The policy is shown the list, compares and names one; where it names none the first is taken, and counted."""
    encode = options.encode or encoder(episode.work.engine)
    list_ids = encode(listing([candidate.line for candidate in candidates]))
    drawn = await episode.draw(
        1, kind="choice", suffix_ids=list_ids, reserve=options.reserve(episode), pause=("\n",),
        max_reasoning_tokens=MAX_CHOICE_TOKENS, max_answer_tokens=1, max_tokens=MAX_CHOICE_TOKENS,
    )  # fmt: skip
    if not drawn:
        return candidates[0]  # no budget for a comparison
    episode.counts["choices"] += 1
    index = parse_choice(drawn[0].completion.reasoning, len(candidates))
    episode.counts["choice_unparsed"] += index is None
    return candidates[index or 0]


async def by_scorer(
    _: Deliberation, episode: Episode, candidates: Sequence[Candidate], __: Sequence[Candidate]
) -> Candidate:
    """The best scored, each as the unfinished completion that it would make."""
    extended = [episode.with_turn(candidate.turn) for candidate in candidates]
    return candidates[best_of(await episode.work.score(extended))]


async def by_vote(
    _: Deliberation, episode: Episode, candidates: Sequence[Candidate], parsed: Sequence[Candidate]
) -> Candidate:
    """The one that was drawn most often; the earliest of a tie."""
    votes = Counter(candidate.line for candidate in parsed if candidate.kind != "unparseable")
    return max(candidates, key=lambda candidate: votes[candidate.line])


CHOICES: dict[str, ChooseCandidate] = {"policy": by_policy, "scorer": by_scorer, "vote": by_vote}


def encoder(engine: Engine) -> Callable[[str], Sequence[int]]:
    """The engine's `encode`; ConfigError where it has no token ids."""
    if not engine.capabilities.token_ids:
        raise ConfigError("choice 'policy' puts a list into the reasoning, and this engine does not say how its model "
                         "spells it; choose by 'vote' or 'scorer', or give encode=")  # fmt: skip
    return engine.encode


def _closed_by_force(completion: Completion) -> bool:
    mark = completion.num_reasoning_tokens  # the index of the closing mark
    return len(completion.token_ids) > mark and not completion.sampled[mark]


def _one_line(text: str) -> str:
    """Without line breaks, so that a candidate cannot add lines of its own to the list."""
    return " ".join(text.split())
