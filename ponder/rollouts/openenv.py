r"""OpenEnv environments in turns: the model acts, sees what comes of it, and acts again, inside its reasoning.

    task = "openenv:http://localhost:8000"
    environment = "openenv"

    Action: guess crane             drawn, trained on
    Observation: --y-g              inserted, never trained on

A line that begins with "Action:" is an action; other lines are thinking. The episode ends when the environment says so,
after `turns` actions, or where the model closes its reasoning; an answer is then a last action. The rollout's answer is
the list of the actions, whose rewards the task adds up (tasks/openenv.py). Counted for the report: actions, refused (by
the environment's schema), failures (of the server).
"""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ponder.config import ConfigError
from ponder.rollouts.programs import asked, plain, with_answer
from ponder.strategies.deliberation_strategy import allow_plain_text
from ponder.strategies.turns import Episode, is_final
from ponder.tasks.openenv import (
    ActionRefused,
    EnvironmentSession,
    Observation,
    Played,
    ServerFailed,
    address_of,
    episode_of,
    note_played,
)
from ponder.types import Ending, Problem

T = TypeVar("T")
ASK = 'Act in turns: write a line "Action: " with an action, and what comes of it is shown to you.'
PREFIX = "Action:"
MAX_LINES = 200  # of reasoning in one episode
MAX_OBSERVATION = 600  # characters that are inserted


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """asyncio's own threads are few, and each step of an episode that is under way must find one."""
    return ThreadPoolExecutor(64, thread_name_prefix="openenv")


def in_thread(function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Run a call that blocks in one of 64 threads kept for episodes. Needs a running event loop."""
    return asyncio.get_running_loop().run_in_executor(_threads(), function, *arguments)


class ActingSession(Protocol):
    """What is asked of an episode; calls block."""

    def try_reset(self, seed: int) -> Observation | None:
        """Begin; the first observation, or None where there is no place for an episode now."""
        ...

    def step(self, text: str) -> Observation:
        """What comes of an action. Raises ActionRefused, after which the episode is as it was, and ServerFailed."""
        ...

    def pauses(self) -> Iterator[float]:
        """Seconds to wait after each try for a place, for as long as it is worth trying."""
        ...

    def no_place(self) -> ServerFailed:
        """The error to raise when no try was given a place."""
        ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class _Play:
    """One episode on the server, and what it came to so far."""

    session: ActingSession
    total: float = 0.0
    is_done: bool = False
    failure: str = ""
    actions: list[str] = field(default_factory=list)
    _calls: threading.Lock = field(init=False, default_factory=threading.Lock)  # one at a time

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one of the session's calls in a thread. Where the rollout is cancelled meanwhile, the next one, which
        closes the session, waits for it: what connects after it was closed would keep its place on the server."""

        def alone() -> T:
            with self._calls:
                return function(*arguments)

        return await in_thread(alone)

    async def reset(self, seed: int) -> None:
        """Begin. Waiting for a place takes no thread from those who have one."""
        for pause in self.session.pauses():
            first = await self.call(self.session.try_reset, seed)
            if first is not None:
                self.total, self.is_done = first.reward, first.is_done
                return
            await asyncio.sleep(pause)
        raise self.session.no_place()

    async def step(self, text: str) -> str:
        """What is shown of an action."""
        self.actions.append(text)
        try:
            after = await self.call(self.session.step, text)
        except ActionRefused as error:
            self.actions.pop()  # it changed nothing, and would end the play if it was played again
            return f"refused: {error}"
        except ServerFailed as error:
            self.failure = str(error)
            return ""
        self.total, self.is_done = self.total + after.reward, after.is_done
        return after.text


@dataclass(frozen=True, kw_only=True)
class OpenEnvTurns:
    """The environment. How it ends: "answer" where the environment is done, or the model closed its reasoning; "turns"
    after as many actions; "window" where there is no room left; "unparseable" without any action."""

    turns: int = 16
    ask_for: str = ASK  # "" = the prompt as it is

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ConfigError(f"turns={self.turns} leaves no action; use at least 1")

    async def __call__(self, episode: Episode) -> Ending:
        problem = self.problem_of(episode.work.prompt)
        episode.work.prompt = asked(episode.work.prompt, self.ask_for)
        allow_plain_text(episode.work)
        play = _Play(session=self.session_of(problem))
        try:
            try:
                await play.reset(problem.meta.get("seed", 0))
            except ServerFailed as error:
                play.failure = str(error)
            ended = await self._play(episode, play)
        finally:
            await asyncio.shield(play.call(play.session.__exit__))
        answer = json.dumps(play.actions, ensure_ascii=False) if play.actions or play.failure else ""
        if answer:
            self.note(problem, answer, play)
        episode.counts["actions"] += len(play.actions)
        episode.counts["failures"] += bool(play.failure)
        _end(episode, answer)
        return ended if answer else "window" if ended == "window" else "unparseable"

    def problem_of(self, prompt: Sequence[Any]) -> Problem:
        """The problem that a prompt asks. ConfigError where it is of no openenv task."""
        return episode_of(prompt)

    def session_of(self, problem: Problem) -> ActingSession:
        """A new episode of a problem, not begun yet."""
        return EnvironmentSession(address_of(problem.meta["url"], problem.meta["field"]))

    def note(self, problem: Problem, answer: str, play: Any) -> None:
        """Keep what the episode came to, for its verdict."""
        note_played(problem, answer, Played(
            total=play.total, is_done=play.is_done, num_steps=len(play.actions), failure=play.failure,
        ))  # fmt: skip

    async def _play(self, episode: Episode, play: _Play) -> Ending:
        seen = 0  # characters of reasoning that were read
        for _ in range(MAX_LINES):
            drawn = await episode.draw(1, pause=("\n",))
            if not drawn:
                return "window"
            episode.keep(drawn[0])
            completion, whole = drawn[0].completion, episode.prefix
            assert whole is not None
            text, seen = whole.reasoning[seen:], len(whole.reasoning)
            is_over = completion.finish_reason != "pause"
            action = action_in(completion.answer) or completion.answer.strip() if is_over else action_in(text)
            if is_over and not is_final(completion):
                return "window"
            if action and not play.failure and not play.is_done:
                observation = await play.step(action)
                episode.counts["refused"] += observation.startswith("refused: ")
                if not is_over and not play.is_done and not play.failure:
                    inserted = f"Observation: {_one_line(observation)}\n"
                    episode.append(inserted, episode.work.engine.encode(inserted))
                    seen = len(episode.prefix.reasoning) if episode.prefix else 0
            if is_over or play.is_done or play.failure:
                return "answer"
            if len(play.actions) >= self.turns:
                return "turns"
        return "turns"


def action_in(text: str) -> str:
    """The action of a line; "" = it has none."""
    line = text.strip()
    return line.removeprefix(PREFIX).strip() if line.startswith(PREFIX) else ""


def _one_line(text: str) -> str:
    """An observation as it is inserted: text alone, on one line, so that it ends no line of the model's."""
    return " ".join(plain(text.encode()).split())[:MAX_OBSERVATION]


def _end(episode: Episode, answer: str) -> None:
    """The actions become the answer."""
    whole = episode.prefix
    if whole is None:
        return
    thought = whole.reasoning + (f"\n{whole.answer}" if whole.answer.strip() else "")
    episode.prefix = with_answer(whole, thought, answer)


def openenv_turns(*_: Any) -> OpenEnvTurns:
    """For `ENVIRONMENTS` (rollouts/deliberate.py), whose arguments it does not need."""
    return OpenEnvTurns()
