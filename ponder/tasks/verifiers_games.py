"""Multi-turn environments of the `verifiers` package as tasks; the model's turns are rollouts/verifiers_turns.py.

    load_task("verifiers:my-game")              a taskset whose module exports an Env with one agent
    environment = "verifiers"                   a message a turn; without it the answer is the only message, or a
                                                JSON array of them

Followed is the protocol of version 0.4 (verifiers.v1): the environment's `run(task, agents)` opens one `interaction` of
its agent, and each `await interaction.turn(message)` takes the model's next message; what the environment sends back is
the observation. When `run` returns, or the model has said all that it may (then `turn` gives a `terminated` segment),
the task's rewards score the trace and `finalize` adds its own. The older `MultiTurnEnv.env_response` of 0.1 is gone
from the package since 0.4 and is not read.

An episode runs in a thread with an event loop of its own, so that code that blocks stops nothing else; a turn has
`SECONDS`. The verdict is found by playing the answer's messages again in a child process that can be killed, so stored
samples can be graded later. An environment that then shows something else than it showed the model is not
deterministic: the answer is undecided, as it is where the environment raises, hangs, or its rewards are no number
within 0 and 1. Refused, by name: environments of several agents, ones that `start` shared resources, tasks with tools,
a container or a runtime.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ponder.config import ConfigError
from ponder.grading import killable
from ponder.grading.verifiers import undecided, verdict
from ponder.tasks.base import split_of
from ponder.tasks.openenv import MAX_ACTIONS, MAX_PLAYED, MAX_SHOWN, Observation, ServerFailed, actions_of
from ponder.tasks.verifiers_tasks import (
    MAX_ANSWER,
    MAX_TASKS,
    SCORE_SECONDS,
    TasksetTask,
    problem_of,
    reward_of,
    task_of,
    version_of,
    vf,
)
from ponder.types import Problem, Verdict

SECONDS = 30.0  # for each turn of an environment
Said = list[tuple[str, str]]  # roles and texts


class Game:
    """One episode: the environment asks for messages, `step` gives them. Calls block: use threads."""

    def __init__(self, name: str, config: str, data: str, *, scores: bool = False) -> None:
        self._given, self._scores = (name, config, data), scores
        self._told: queue.Queue[tuple[str, Any]] = queue.Queue()  # turn, over or failed, from the environment's thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Future[str | None] | None = None
        self._main: asyncio.Task[None] | None = None
        self.reward: float | None = None  # with scores, once it is over

    def open(self) -> Said:
        """What the model is asked."""
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()
        kind, opening = self._next()
        if kind == "over":
            raise ServerFailed("it ended before its agent was asked anything")
        return [(str(role), str(text)) for role, text in opening]

    def step(self, text: str) -> Observation:
        """What comes of the model's message."""
        self._answer(text)
        kind, shown = self._next()
        return Observation(text=cut(shown), reward=0.0, is_done=kind == "over")

    def end(self) -> None:
        """The model sends nothing more: the environment is notified, and may end."""
        self._answer(None)
        if self._next()[0] != "over":
            raise ServerFailed("it asks for more turns after it was told that there are none")

    def close(self) -> None:
        """Stop the environment's thread without waiting for it; does nothing where it is over."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):  # it is over
                loop.call_soon_threadsafe(main.cancel)

    def _next(self) -> tuple[str, Any]:
        try:
            kind, value = self._told.get(timeout=SECONDS)
        except queue.Empty:
            raise ServerFailed(f"{self._given[0]} took more than {SECONDS:g} s for a turn") from None
        if kind == "failed":
            raise ServerFailed(f"{self._given[0]}: {value}"[:300])
        return kind, value

    def _answer(self, text: str | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or self._loop is None:
            raise ServerFailed(f"{self._given[0]} asks for no message")

        def give() -> None:
            if not waiting.done():
                waiting.set_result(text)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(give)

    # --- in the environment's thread ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.create_task(self._play())
        try:
            await self._main
        except asyncio.CancelledError:
            self._told.put(("failed", "it was stopped"))
        except BaseException as error:  # the code of others
            self._told.put(("failed", f"{type(error).__name__}: {error}"))
        else:
            self._told.put(("over", ""))

    async def _play(self) -> None:
        name, config, data = self._given
        task, _ = task_of(name, config, data)
        env, role = environment_of(name, config)
        seat = _Seat(self, role)
        agents = _Agents(role, seat)
        await env.setup(agents)
        await env.run(task, agents)
        if not seat.traces:
            raise RuntimeError("its run() asked no agent")
        if self._scores:
            self.reward = await self._score(env, task, seat)

    async def _score(self, env: Any, task: Any, seat: _Seat) -> float:
        (trace,) = seat.traces
        await seat.tasks[0].score(trace)
        episode = vf.Episode(
            env=vf.EnvInfo(id=self._given[0]), task=vf.TraceTask(type=type(task).__name__, data=task.data),
            traces=[trace], ok=True,
        )  # fmt: skip
        await env.finalize(task, episode)
        (trace,) = episode.traces
        return reward_of(trace)

    async def asked(self, shown: Any) -> str | None:
        """The model's next message; None = there is none."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._told.put(("turn", shown))
        return await self._waiting


def environment_of(name: str, config: str) -> tuple[Any, str]:
    """The environment of a taskset, and what it calls its agent."""
    kind = vf.env_config_type(name)
    env = vf.environment_class(name)(kind(taskset={**json.loads(config), "id": name}))
    roles = [field for field, value in env.config if isinstance(value, vf.AgentConfig)]
    if len(roles) != 1:
        raise ConfigError(f"the taskset {name!r} is not used: its environment has {len(roles)} agents, not one")
    if type(env).start is not vf.Env.start:
        raise ConfigError(f"the taskset {name!r} is not used: its environment starts resources that runs share")
    return env, roles[0]


class _Agents:
    """What `run` is given: one agent, by its name."""

    def __init__(self, role: str, seat: _Seat) -> None:
        self.__dict__[role] = seat


class _Seat:
    """The agent, as the environment sees it."""

    def __init__(self, game: Game, role: str) -> None:
        self._game, self._role = game, role
        self.trainable = True
        self.tasks: list[Any] = []
        self.traces: list[Any] = []

    @contextlib.asynccontextmanager
    async def interaction(self, task: Any, **_: Any) -> AsyncIterator[_Talk]:
        if self.traces:
            raise RuntimeError("it opens a second conversation of its agent, and one is what a verdict is of")
        talk = _Talk(self._game, task, self._role)
        self.tasks.append(task)
        self.traces.append(talk.trace)
        yield talk
        talk.trace.stop("user_closed")
        talk.trace.ok = True

    async def run(self, task: Any, **_: Any) -> Any:
        async with self.interaction(task) as talk:
            await talk.turn()
        return talk.trace


@dataclass(frozen=True)
class GameSegment:
    """What a turn gives the environment: the fields that the package's own has."""

    messages: Sequence[Any]
    terminated: bool = False

    @property
    def last_reply(self) -> str:
        return (self.messages[-1].content or "").strip() if self.messages else ""

    root_reply = last_reply


class _Talk:
    """The conversation that the environment holds."""

    def __init__(self, game: Game, task: Any, role: str) -> None:
        from verifiers.v1.types import SystemMessage, UserMessage

        self._game, self._is_prompted, self._is_over = game, task.data.prompt is not None, False
        kind = vf.TraceTask(type=type(task).__name__, data=task.data)
        self.trace = vf.Trace(task=kind, agent=vf.AgentInfo(config=vf.AgentConfig(), name=role), nodes=[])
        if task.data.system_prompt:
            self._add(SystemMessage(content=task.data.system_prompt))
        prompt = task.data.prompt
        for message in [UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt or ()):
            self._add(message)

    def _add(self, message: Any, *, sampled: bool = False) -> None:
        nodes = self.trace.nodes
        nodes.append(vf.MessageNode(parent=len(nodes) - 1 if nodes else None, message=message, sampled=sampled))

    async def turn(self, message: Any = None) -> GameSegment:
        """One message of the model, after one of the environment's."""
        from verifiers.v1.types import AssistantMessage, UserMessage

        if self._is_over:
            raise RuntimeError("the exchange is over (the run ended)")
        if self._is_prompted != (message is None):
            raise ValueError("a prompted task speaks first, and every other turn takes a message")
        self._is_prompted, is_first = False, not any(node.sampled for node in self.trace.nodes)
        shown = "" if message is None else message if isinstance(message, str) else "\n".join(map(_text_of, message))
        if message is not None:
            self._add(UserMessage(content=shown))
        opening = [(node.message.role, _text_of(node.message)) for node in self.trace.nodes]
        said = await self._game.asked(opening if is_first else shown)
        if said is None:
            self._is_over = True
            self.trace.stop("max_turns")
            return GameSegment([], terminated=True)
        reply = AssistantMessage(content=said)
        self._add(reply, sampled=True)
        return GameSegment([reply])


def _text_of(message: Any) -> str:
    """The text of a message, whichever form the environment gives it in."""
    content = message.get("content") if isinstance(message, dict) else message.content
    if isinstance(content, str) or content is None:
        return content or ""
    parts = [part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a message holds more than text")
    return "".join(map(str, parts))


def cut(text: str) -> str:
    """At most MAX_SHOWN characters, and how many there were."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} [cut: {len(text)} characters]"


# --- the task --------------------------------------------------------------------------------------------------------

_episodes: dict[str, Problem] = {}  # by the text of the problem
_played: OrderedDict[tuple[str, str], tuple[list[str], str]] = OrderedDict()  # what was shown, and what failed
_lock = threading.Lock()


def game_of(prompt: Sequence[Any]) -> Problem:
    """The problem of a prompt, for the rollout that plays it."""
    texts = [getattr(part, "content", None) for part in prompt]
    found = next((_episodes[text] for text in texts if text in _episodes), None)
    if found is None:
        raise ConfigError(
            'environment "verifiers" plays verifiers: tasks that have an environment of their own; this prompt is none'
        )
    return found


def note_game(problem: Problem, answer: str, shown: Sequence[str], failure: str) -> None:
    """Keep what a rollout saw: the verdict is of the same game only if it shows the same again."""
    with _lock:
        _played[problem.id, answer] = list(shown), failure
        while len(_played) > MAX_PLAYED:
            _played.popitem(last=False)


class GameTask(TasksetTask):
    """Tasks of a taskset with an environment of its own."""

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Plays the game again in a child, with the answer's messages. Undecided where the environment failed, or
        showed something else than the rollout was shown."""
        text = answer.strip()
        if not text or len(text) > MAX_ANSWER:
            return verdict(False, None)
        with _lock:
            seen, failure = _played.get((problem.id, text), (None, ""))
        if failure:
            return undecided(text, f"the environment of {self.name}: {failure}")
        meta = problem.meta
        messages = [each if isinstance(each, str) else json.dumps(each) for each in actions_of(text)]
        ran = killable.shared().run(
            "ponder.tasks.verifiers_games:replay", meta["taskset"], meta["config"], meta["data"],
            messages[:MAX_ACTIONS], timeout=SCORE_SECONDS,
        )  # fmt: skip
        if ran.status == "ok" and seen is not None and ran.value["shown"] != seen:
            return undecided(text, f"the environment of {self.name} showed something else when it was played again")
        return self.judged(text, ran, ran.value["reward"] if ran.status == "ok" else None)


def replay(name: str, config: str, data: str, messages: list[str]) -> dict[str, Any]:
    """In the child: the reward of a game in which the model sends these messages, and what it was shown."""
    game, shown = Game(name, config, data, scores=True), []
    game.open()
    is_over = False
    for message in messages:
        after = game.step(message)
        shown.append(after.text)
        if is_over := after.is_done:
            break
    if not is_over:
        game.end()
    return {"reward": game.reward, "shown": shown}


def game_task(name: str, taskset: Any, config: Any, *, split: str, size: int) -> GameTask:
    """The task of a taskset whose environment is its own."""
    spec, dumped = f"verifiers:{name}", json.dumps(config.model_dump(mode="json"))
    environment_of(name, dumped)  # refuses what cannot be played
    problems: list[Problem] = []
    for task in itertools.islice(taskset, MAX_TASKS):
        game = Game(name, dumped, json.dumps(task.data.model_dump(mode="json")))
        try:
            said = game.open()
        except ServerFailed as error:
            raise ConfigError(f"the environment of {name!r} gives no problem: {error}") from None
        finally:
            game.close()
        problem = problem_of(spec, name, config, task, said)
        if problem.text in _episodes and _episodes[problem.text].id != problem.id:
            raise ConfigError(f"the taskset {name!r} is not used: two of its tasks begin with the same words, and a "
                              "rollout is known by them")  # fmt: skip
        _episodes[problem.text] = problem
        if split_of(problem.text) == split:
            problems.append(problem)
        if len(problems) == size:
            break
    return GameTask(spec, problems, split=split, version=version_of())


class GameSession:
    """A Game with the calls that rollouts/openenv.py makes of an episode."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._game = problem, Game(*(problem.meta[key] for key in ("taskset", "config", "data")))
        self.shown: list[str] = []

    def try_reset(self, seed: int) -> Observation:
        """Never None: a place is not waited for. The seed changes nothing."""
        self._game.open()
        return Observation(text="", reward=0.0, is_done=False)

    def step(self, text: str) -> Observation:
        after = self._game.step(text)
        self.shown.append(after.text)
        return after

    @staticmethod
    def pauses() -> Iterator[float]:
        yield 0.0

    def no_place(self) -> ServerFailed:
        return ServerFailed("the environment did not open")

    def __exit__(self, *_: object) -> None:
        self._game.close()
