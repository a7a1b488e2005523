"""OpenEnv environments as tasks: a served environment is reset to a seed, actions step it, its rewards are the verdict.

    load_task("openenv:http://localhost:8000")                  one action, or several at once as a JSON array
    load_task("openenv:http://localhost:8000?size=100&best=2")  turns: rollouts/openenv.py

A problem is what `reset(seed)` shows. An answer is an action: a JSON object of the environment's schema, or plain text
where an action has one field (`field=NAME` says which). The verdict is the sum of the rewards: `best` or more is
correct, anything between 0 and that a share, below 0 is 0. It is found by playing the answer again from the seed, so
that a stored answer can be graded later; what was just played here is not played twice. What the server gets wrong (it
is not there, takes too long, fails on a step) leaves an answer undecided; an action that its schema refuses ends the
play, and the sum so far counts.

The protocol is OpenEnv's WebSocket (/ws: reset, step, close), a session an episode; its HTTP routes keep no state.
This is the one file that imports websockets: pip install "ponder[openenv]". The server is the user's to start, and is
trusted with what the model writes; nothing of it runs here. Episodes of splits have seeds of their own: an environment
that does not look at its seed has no splits.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from ponder.config import ConfigError, nearest
from ponder.grading.verifiers import undecided, verdict
from ponder.tasks.base import BaseTask
from ponder.types import Message, Problem, Verdict, text_seed

SECONDS = 30.0  # for connecting, and for each message
CAPACITY_SECONDS = 60.0  # a server takes few sessions at a time, often one: how long to wait for a place
MAX_MESSAGE = 4 << 20  # bytes of an observation
MAX_SHOWN = 4_000  # characters of an observation that a model is shown
MAX_ACTIONS = 200  # of one answer
MAX_PLAYED = 50_000  # episodes whose outcome is kept for the verdict
_LEFT_OUT = ("done", "reward", "metadata")


class ServerFailed(Exception):
    """The server is not there, too slow, or failed; nobody's answer is wrong for it."""


class ActionRefused(Exception):
    """The environment's schema does not take the action."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What an environment returns after a reset or a step."""

    text: str
    reward: float
    is_done: bool


@dataclass(frozen=True, kw_only=True)
class Played:
    """What an episode came to."""

    total: float = 0.0  # the sum of its rewards
    is_done: bool = False
    num_steps: int = 0
    failure: str = ""  # of the server


@dataclass(frozen=True, kw_only=True)
class Address:
    """An environment, and how its actions are written."""

    url: str
    fields: Mapping[str, str] = field(default_factory=dict)  # of an action: name -> type, without metadata
    plain: str = ""  # the field that plain text goes into; "" = actions are JSON objects

    @property
    def socket(self) -> str:
        return "ws" + self.url.removeprefix("http") + "/ws"

    def action(self, text: Any) -> dict[str, Any]:
        """The action that a text stands for."""
        if isinstance(text, dict):
            return text
        given = str(text).strip()
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(given)
            if isinstance(value, dict):
                return value
        if not self.plain:
            raise ActionRefused(f"an action is a JSON object with {', '.join(self.fields)}")
        try:
            kind = self.fields.get(self.plain, "string")
            return {self.plain: {"integer": int, "number": float}.get(kind, str)(given)}
        except ValueError:
            raise ActionRefused(f"{self.plain} is a number") from None

    @property
    def described(self) -> str:
        """How actions are written, as the prompt says it."""
        if self.plain:
            return f"An action is its {self.plain} alone, as plain text."
        return "An action is a JSON object with " + ", ".join(f"{name} ({kind})" for name, kind in self.fields.items())


class EnvironmentSession:
    """One episode on the server; a context manager. Calls block: use threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: Any = None

    def __enter__(self) -> EnvironmentSession:
        return self

    def __exit__(self, *_: object) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            with contextlib.suppress(Exception):
                socket.send(json.dumps({"type": "close"}))
                socket.recv(timeout=2)  # the server ends the connection; one that is left logs an error
            with contextlib.suppress(Exception):
                socket.close()

    def try_reset(self, seed: int) -> Observation | None:
        """The first observation; None where the server has no place for a session now."""
        try:
            self._socket = _connected(self._address.socket)
            return self._asked("reset", {"seed": seed})
        except _NoPlace:
            self.__exit__()
            return None

    def reset(self, seed: int) -> Observation:
        """The first observation; waits for a place on the server."""
        for pause in self.pauses():
            if (first := self.try_reset(seed)) is not None:
                return first
            time.sleep(pause)
        raise self.no_place()

    @staticmethod
    def pauses() -> Iterator[float]:
        """How long to wait between tries for a place, until it has been long enough."""
        until, pause = time.monotonic() + CAPACITY_SECONDS, 0.1
        while time.monotonic() < until:
            yield pause
            pause = min(2.0, 2 * pause)

    def no_place(self) -> ServerFailed:
        """What to raise when `pauses` has ended; it is not raised here."""
        return ServerFailed(f"{self._address.url} had no free session for {CAPACITY_SECONDS:g} s")

    def step(self, text: Any) -> Observation:
        """One action. ActionRefused where the environment takes no such action and nothing changed; ServerFailed for
        any other failure, and after SECONDS without a reply."""
        action = self._address.action(text)
        try:
            json.dumps(action, allow_nan=False)
        except (ValueError, RecursionError):  # sent, it would be a failure of the server, and the answer undecided
            raise ActionRefused("an action is JSON, without NaN and Infinity") from None
        return self._asked("step", action)

    def _asked(self, kind: str, data: Mapping[str, Any]) -> Observation:
        try:
            with contextlib.suppress(Exception):  # one that is closed may have said why
                self._socket.send(json.dumps({"type": kind, "data": data}))
            reply = json.loads(self._socket.recv(timeout=SECONDS))
        except Exception as error:  # closed, timed out, no JSON
            raise ServerFailed(f"{self._address.url} on {kind}: {type(error).__name__}: {error}"[:300]) from None
        payload = reply.get("data") if isinstance(reply, dict) else None
        if not isinstance(payload, dict):
            raise ServerFailed(f"{self._address.url} on {kind}: an answer that is not OpenEnv's")
        if reply.get("type") == "error":
            code, message = str(payload.get("code", "")), str(payload.get("message", ""))[:200]
            if code == "CAPACITY_REACHED" and kind == "reset":
                raise _NoPlace
            if code == "VALIDATION_ERROR" and kind == "step":
                raise ActionRefused(message)
            raise ServerFailed(f"{self._address.url} on {kind}: {code} {message}")
        observation = payload.get("observation", payload)
        reward = payload.get("reward")
        is_number = isinstance(reward, int | float) and abs(reward) < 1e300  # a larger whole number is no float
        number = 0.0 if reward is None else float(reward) if is_number else math.nan
        return Observation(text=shown(observation), reward=number, is_done=bool(payload.get("done")))


class _NoPlace(Exception):
    """The server has as many sessions as it takes."""


def _connected(url: str) -> Any:
    try:
        from websockets.sync.client import connect
    except ImportError:
        raise ConfigError('openenv: tasks need websockets: pip install "ponder[openenv]"') from None
    try:
        return connect(url, open_timeout=SECONDS, close_timeout=2, max_size=MAX_MESSAGE, proxy=None)
    except Exception as error:
        raise ServerFailed(f"{url} cannot be reached: {type(error).__name__}: {error}"[:300]) from None


def shown(observation: Any) -> str:
    """An observation as text: that of its only field, or JSON of all that is not bookkeeping."""
    if isinstance(observation, dict):
        observation = {name: value for name, value in observation.items() if name not in _LEFT_OUT}
        if len(observation) == 1:
            observation = next(iter(observation.values()))
    text = observation if isinstance(observation, str) else json.dumps(observation, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} [cut: {len(text)} characters]"


# --- what was played -------------------------------------------------------------------------------------------------

_episodes: dict[str, Problem] = {}  # by the text of the problem, which names its episode
_played: OrderedDict[tuple[str, str], Played] = OrderedDict()
_lock = threading.Lock()


def episode_of(prompt: Sequence[Any]) -> Problem:
    """The problem of a prompt, for the environment that plays it."""
    texts = [part.content for part in prompt if isinstance(part, Message)]
    found = next((_episodes[text] for text in texts if text in _episodes), None)
    if found is None:
        raise ConfigError('environment "openenv" plays problems of openenv: tasks; this prompt is of none')
    return found


def note_played(problem: Problem, answer: str, played: Played) -> None:
    """Keep what a rollout came to, for its verdict."""
    with _lock:
        _played[problem.id, answer] = played
        while len(_played) > MAX_PLAYED:
            _played.popitem(last=False)


def play(address: Address, seed: int, actions: Sequence[Any]) -> Played:
    """Actions one after the other from the seed on."""
    total, done, steps = 0.0, False, 0
    with EnvironmentSession(address) as session:
        try:
            first = session.reset(seed)
            total, done = first.reward, first.is_done
            for action in actions[:MAX_ACTIONS]:
                if done:
                    break
                after = session.step(action)
                total, done, steps = total + after.reward, after.is_done, steps + 1
        except ActionRefused:
            pass
        except ServerFailed as error:
            return Played(total=total, is_done=done, num_steps=steps, failure=str(error))
    return Played(total=total, is_done=done, num_steps=steps)


def actions_of(answer: str) -> list[Any]:
    """The actions of an answer: a JSON array of them, or the one that it is."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(answer)
        if isinstance(value, list):
            return value
    return [answer]


# --- the task --------------------------------------------------------------------------------------------------------


class OpenEnvTask(BaseTask):
    """Episodes of one environment."""

    def __init__(self, address: Address, *, split: str, seed: int, size: int, best: float) -> None:
        self.name, self.split, self._seed, self._size = f"openenv:{address.url}", split, seed, size
        self.address, self._best = address, best
        self.patience = 2 * CAPACITY_SECONDS + 10 * SECONDS

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self._size:
            raise IndexError(index)
        number = text_seed(self._seed, self.name, self.split, index) % 2**31
        problem = Problem(
            id=f"{self.name}/{self.split}/{self._seed}/{index}", target="", task=self.name,
            prompt=(Message(role="user", content=_opened(self.address, number, index, self.split)),),
            meta={"url": self.address.url, "field": self.address.plain, "seed": number},
        )  # fmt: skip
        _episodes[problem.text] = problem
        return problem

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """Of the rollout's own play where it is still known, else the answer's actions are played again, which blocks.
        The reward is the share of `best`; undecided where the server failed."""
        with _lock:
            played = _played.get((problem.id, answer))
        played = played or play(self.address, problem.meta["seed"], actions_of(answer))
        note = f"{played.num_steps} steps, {'done' if played.is_done else 'not done'}, rewards {played.total:g}"
        if played.failure or not math.isfinite(played.total):
            return undecided(answer, played.failure or f"the rewards add up to {played.total}")
        share = min(1.0, max(0.0, played.total / self._best))
        found = verdict(share == 1, answer)
        return Verdict(
            outcome=found.outcome, reward=share, extracted=answer, note=note,
            parts={"correct": float(share == 1), "rewards": played.total},
        )  # fmt: skip

    def key(self, problem: Problem, answer: str) -> str | None:
        return " ".join(answer.split()) or None


@lru_cache(maxsize=20_000)
def _opened(address: Address, seed: int, index: int, split: str) -> str:
    """The text of a problem; an episode has a number, so that no two problems have one text."""
    try:
        with EnvironmentSession(address) as session:
            first = session.reset(seed)
    except ServerFailed as error:
        raise ConfigError(f"the environment gives no problem: {error}") from None
    return f"Episode {index} ({split}, seed {seed}).\n\n{first.text}\n\n{address.described}"


def openenv_task(rest: str, *, split: str = "test", seed: int = 0, **dials: Any) -> OpenEnvTask:
    """The task of a URL, with dials after a question mark: size, best, field."""
    url, _, query = rest.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True)) | {name: str(value) for name, value in dials.items()}
    for name in given:
        if name not in ("size", "best", "field"):
            raise ConfigError(f"openenv: has no dial {name!r}{nearest(name, ['size', 'best', 'field'])}")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"openenv:{rest} names no server; write openenv:http://HOST:PORT?size=100")
    try:
        size, best = int(given.get("size", 500)), float(given.get("best", 1))
    except ValueError:
        raise ConfigError(f"openenv:{rest}: size is a whole number and best a number") from None
    if size < 1 or not 0 < best < math.inf:
        raise ConfigError(f"openenv:{rest}: size must be 1 or more, and best a number above 0")
    address = address_of(url.rstrip("/"), given.get("field", ""))
    return OpenEnvTask(address, split=split, seed=seed, size=size, best=best)


@lru_cache(maxsize=64)
def address_of(url: str, plain: str) -> Address:
    """The environment with the fields of its actions, as its /schema has them."""
    try:
        with urllib.request.urlopen(f"{url}/schema", timeout=SECONDS) as response:  # nosec B310 - http or https, above
            schema = json.loads(response.read(MAX_MESSAGE))["action"]
        known = {name: str(part.get("type", "any")) for name, part in schema["properties"].items()}
        known.pop("metadata", None)
        required = [name for name in schema.get("required", []) if name != "metadata"]
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, http.client.HTTPException
    ) as error:  # fmt: skip
        why = getattr(error, "reason", None) or error
        raise ConfigError(
            f"no OpenEnv server answers at {url} ({type(error).__name__}: {why}); start one, and give its address"
        ) from None
    if plain and plain not in known:
        raise ConfigError(f"an action of {url} has no field {plain!r}{nearest(plain, known)}")
    return Address(url=url, fields=_Frozen(known), plain=plain or (required[0] if len(required) == 1 else ""))


class _Frozen(dict[str, str]):
    """A dict that can be a key of a cache."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))
