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

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ponder.strategies.turns import Walk
from ponder.types import Ending, Turn

PAUSE = "\n\n"  # ends a step
MOST = 9  # candidates: the choice is one digit
CHOICE_TOKENS = 48  # a comparison and an index, at most


@dataclass(frozen=True, kw_only=True)
class Step:
    """A candidate as it is read. kind: "step", "answer" or "unparseable"."""

    turn: Turn
    kind: Literal["step", "answer", "unparseable"]
    question: str = ""
    answer: str = ""


def render_step(question: str, answer: str) -> str:
    """One turn as it stands in the state."""
    return f"Q: {question}\nA: {answer}{PAUSE}"


def parse_step(text: str) -> tuple[str, str] | None:
    """The question and the answer of one well-formed turn, None for anything else."""
    raise NotImplementedError


def read(turn: Turn) -> Step:
    """A drawn candidate as a step, a final answer or neither."""
    raise NotImplementedError


def distinct(steps: Sequence[Step]) -> list[Step]:
    """Candidates of which no two say the same, the first of equals kept, in the order they were drawn."""
    raise NotImplementedError


def line(step: Step) -> str:
    """A candidate on one line: "Q: 4*3 A: 12", "Answer: 9"."""
    raise NotImplementedError


def listing(lines: Sequence[str]) -> str:
    """What the policy is shown after the state to choose from: "1. Q: 4*3 A: 12\\n2. Answer: 9\\nBest: "."""
    raise NotImplementedError


def parse_choice(text: str, count: int) -> int | None:
    """The place (from 0) of the candidate that a choice names: its last digit that is a number of the list."""
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Deliberation:
    """The environment. Of one policy and any prompt: `await run(Deliberation(m=4), work)`."""

    m: int = 4  # candidates a turn
    turns: int = 12  # turns, then the reasoning is closed
    choice: str = "policy"  # see CHOICES
    turn_tokens: int = 64  # of one candidate's reasoning
    force: bool = True  # at a limit the reasoning is closed by force and an answer comes; else there is none
    encode: Callable[[str], Sequence[int]] | None = None  # text -> ids, for the list; the engine's tokenizer unless told

    async def __call__(self, walk: Walk) -> Ending:
        raise NotImplementedError


Choose = Callable[["Deliberation", Walk, Sequence[Step], Sequence[Step]], Awaitable[Step]]
