"""Multi-turn environments of the verifiers package: a message of the model a turn, inside its reasoning.

    task = "verifiers:my-game"
    environment = "verifiers"

    Action: 50                      drawn: the model's message to the environment
    Observation: lower              inserted, never trained on: the environment's next message

The turns are those of rollouts/openenv.py, the episodes and the verdict tasks/verifiers_games.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ponder.rollouts.openenv import ActingSession, OpenEnvTurns
from ponder.types import Problem


@dataclass(frozen=True, kw_only=True)
class VerifiersTurns(OpenEnvTurns):
    """The environment; its package is imported when a problem is played."""

    def problem_of(self, prompt: Sequence[Any]) -> Problem:
        from ponder.tasks.verifiers_games import game_of

        return game_of(prompt)

    def session_of(self, problem: Problem) -> ActingSession:
        from ponder.tasks.verifiers_games import GameSession

        return GameSession(problem)

    def note(self, problem: Problem, answer: str, play: Any) -> None:
        from ponder.tasks.verifiers_games import note_game

        note_game(problem, answer, play.session.shown, play.failure)


def verifiers_turns(*_: Any) -> VerifiersTurns:
    """For `ENVIRONMENTS` (rollouts/deliberate.py), whose arguments it does not need."""
    return VerifiersTurns()
