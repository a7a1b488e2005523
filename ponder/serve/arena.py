"""Blind battles: a question, two answers under no name, a vote, and only then the names.

    arena = Arena(service, ArenaSettings(log=Path("votes.jsonl")))
    battle = await arena.ask(key, "mathematics", "What is 2 + 2?", charge)     # both answers, when both are there
    await arena.vote(key, battle.id, "left")                                   # stored, then the names come

Blindness is the server's. Until the vote is in the log, `Held.shown` has two texts, a random id and what the person
wrote, and nothing that depends on which models they are: no reasoning, no counts, no limits of a model, no times of
either. Pairs are drawn evenly among all that work, sides at random; a question must fit every model, so that its
refusal tells nothing; a battle is charged the same whatever it cost. One vote an owner of keys and battle, no sooner
than a reader needs; a withdrawn one is another row of the log, and the battle is then over: its names are known.

The log is append-only JSON lines (docs/arena.md), held by one server at a time. Left out: conversations of several
turns, attachments, drawing pairs unevenly, telling people from programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import IO, TYPE_CHECKING, Any

from ponder import files
from ponder.config import ConfigError
from ponder.serve.blind_answers import BlindAnswer, draw
from ponder.serve.errors import ApiError, StoreUnavailable, not_found, overloaded
from ponder.serve.generation import Failed
from ponder.serve.items import input_items
from ponder.serve.keys import Key
from ponder.serve.limits import Charge
from ponder.serve.logs import log_error
from ponder.serve.modes import ComputePlan
from ponder.serve.prompts import EncodedPrompt
from ponder.serve.self_naming import names_itself
from ponder.types import Battle, BattleSide, Message, Vote, text_seed

if TYPE_CHECKING:
    from ponder.serve.served import ServedModel
    from ponder.serve.service import Service

DOMAINS = {
    "writing": "Personal writing", "editing": "Editing text", "programming": "Computer programming",
    "data analysis": "Data analysis", "mathematics": "Mathematical calculation", "other": "Something else",
}  # fmt: skip
DWELL = 3.0  # seconds from the answers to the first vote that is taken
_KEPT = 10_000  # battles whose texts stay in memory


@dataclass(frozen=True, kw_only=True)
class ArenaSettings:
    """Where votes are written, and how soon one is taken. dwell: seconds from the answers to the first vote."""

    log: Path
    dwell: float = DWELL
    revisions: Mapping[str, str] = field(default_factory=dict)  # fingerprints by the names of models


@dataclass(kw_only=True)
class Held:
    """A battle as the server holds it."""

    id: str
    owner: str  # pseudonym of whoever asked
    domain: str
    question: str
    models: tuple[str, str]
    texts: tuple[str, str] | None  # None: shown long ago
    shown_at: float  # of time.monotonic()
    vote: str | None = None  # what was chosen
    vote_id: str = ""
    is_withdrawn: bool = False

    def shown(self) -> dict[str, Any]:
        """What the person who asked may see: the names only once the vote is stored."""
        left, right = self.texts or (None, None)
        return {
            "id": self.id, "object": "arena.battle", "domain": self.domain, "question": self.question,
            "left": {"text": left}, "right": {"text": right}, "vote": self.vote, "withdrawn": self.is_withdrawn,
            "models": None if self.vote is None else {"left": self.models[0], "right": self.models[1]},
        }  # fmt: skip


class Arena:
    """All battles of a server. Making one locks the log and reads it: ConfigError for fewer than two models, a log that
    another server holds, or a file that is no log of votes."""

    def __init__(self, service: Service, settings: ArenaSettings) -> None:
        if len(service.models) < 2:
            raise ConfigError("an arena compares models: serve two or more, --model A --model B")
        self._service, self.settings = service, settings
        self._lock = asyncio.Lock()  # between looking for a vote and writing one
        self._writing = asyncio.Lock()
        self._held: dict[str, Held] = {}
        self._with_texts: deque[Held] = deque()
        log = settings.log
        try:
            self._file: IO[str] = files.lock(log.with_name(log.name + ".lock"), log)
        except files.InUse:
            raise ConfigError(f"another server holds {log}; stop it, or give another --arena") from None
        with contextlib.suppress(OSError):  # a full disk: the first battle says so
            log.touch(mode=0o600)  # what people asked is nobody's who only has an account on this machine
        self._read()

    def close(self) -> None:
        """Release the lock on the log."""
        self._file.close()

    # --- a battle ----------------------------------------------------------------------------------------------------

    async def ask(self, key: Key, domain: str, question: str, charge: Charge) -> Held:
        """Both answers to a question; in the log before anybody sees them."""
        self._service.check_capacity()
        prompts = await self._prompts(question, charge)
        models = [model for model in self._service.models.values() if not model.engine.failure]
        if len(models) < 2:
            raise overloaded("There are no two models to compare at the moment. Please try again later.")
        seed, battle_id = secrets.randbits(62), "battle_" + secrets.token_hex(16)
        drawn_by = Random(seed)
        pairs = list(itertools.combinations(models, 2))
        pair = list(drawn_by.choice(pairs))
        drawn_by.shuffle(pair)
        plans = [
            self._plan(model, prompts[model.name], text_seed(seed, side))
            for model, side in zip(pair, ("left", "right"), strict=True)
        ]
        # a fixed price: what is left of a limit stands in the headers, and would tell of a model that thinks long
        all_plans = [self._plan(self._service.models[name], prompt, 0) for name, prompt in prompts.items()]
        charge.reserve(2 * max(plan.max_output() for plan in all_plans))
        answers = await self._both(battle_id, key, domain, pair, [prompts[model.name] for model in pair], plans)
        left, right = (self._side(model, plan, drawn) for model, plan, drawn in zip(pair, plans, answers, strict=True))
        owner = self._pseudonym(key)
        battle = Battle(
            id=battle_id, prompt=(Message(role="user", content=question),), domain=domain, left=left, right=right,
            asked_by=owner, probability=1 / len(pairs), seed=seed, time=round(time.time(), 3),
        )  # fmt: skip
        await self._write({"row": "battle", **asdict(battle)})
        held = Held(
            id=battle_id, owner=owner, domain=domain, question=question, models=(left.model, right.model),
            texts=(left.answer, right.answer), shown_at=time.monotonic(),
        )  # fmt: skip
        self._hold(held)
        return held

    async def _prompts(self, question: str, charge: Charge) -> dict[str, EncodedPrompt]:
        """The question for every model. One that a model cannot take is refused for all, in words that name none."""
        found = {}
        for name, model in self._service.models.items():
            try:
                found[name] = await self._service.encoder.prompt(
                    model, input_items(question), {}, param="question", truncate=False, charge=charge
                )
            except ApiError as error:
                if error.code != "context_length_exceeded":
                    raise
                raise ApiError(400, "The question is too long for the models here. Ask something shorter.",
                               code="context_length_exceeded", param="question") from None  # fmt: skip
        return found

    def _plan(self, model: ServedModel, prompt: EncodedPrompt, seed: int) -> ComputePlan:
        """How a model answers here: at its usual effort, the same for everybody."""
        return model.compute(
            effort=None, mode=None, compute=None, limit=None, num_prompt_tokens=prompt.num_tokens, seed=seed
        )

    async def _both(
        self, battle: str, key: Key, domain: str, pair: list[ServedModel], prompts: list[EncodedPrompt],
        plans: list[ComputePlan],
    ) -> list[BlindAnswer]:  # fmt: skip
        """Both answers, when both are there. If one fails there is no battle, and nobody but the log learns which one
        did: a model that fails where it would lose must not gain by it unseen."""
        work = [
            asyncio.ensure_future(draw(self._service, key, model, prompt, plan, battle=battle))
            for model, prompt, plan in zip(pair, prompts, plans, strict=True)
        ]
        try:
            return list(await asyncio.gather(*work))
        except ApiError:
            raise  # the server is full
        except Exception as problem:
            if not isinstance(problem, Failed):
                log_error(problem, response=battle)
            names = [model.name for model in pair]
            failed = [name for name, task in zip(names, work, strict=True) if task.done() and task.exception()]
            await self._write(
                {"row": "failed", "id": battle, "domain": domain, "models": names, "failed": failed,
                 "time": round(time.time(), 3)}
            )  # fmt: skip
            raise _no_battle() from None
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def _side(self, model: ServedModel, plan: ComputePlan, drawn: BlindAnswer) -> BattleSide:
        params = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(plan.params).items()}
        return BattleSide(
            model=model.name, answer=drawn.text, ended=drawn.ended,
            revision=self.settings.revisions.get(model.name, ""),
            parameters={"mode": plan.mode, "effort": plan.effort, "n": plan.n, **params},
            names_itself=names_itself(drawn.text, self._service.models),
        )  # fmt: skip

    # --- votes -------------------------------------------------------------------------------------------------------

    def battle(self, key: Key, name: str) -> Held:
        """A battle of this key's owner; another's is not there."""
        held = self._held.get(name)
        if held is None or held.owner != self._pseudonym(key):
            raise not_found("battle", name)
        return held

    async def vote(self, key: Key, name: str, choice: Any) -> Held:
        """Write a vote to the log, and count it once it is there. Raises ApiError: 404 for another owner's battle, 409
        for a second vote or one that comes before `dwell` seconds are over, 503 where the log cannot be written."""
        async with self._lock:
            held = self.battle(key, name)
            if held.vote is not None:
                raise ApiError(409, "There is a vote on this battle already; it counts once.", code="already_voted")
            seconds = time.monotonic() - held.shown_at
            if seconds < self.settings.dwell:
                wait = self.settings.dwell - seconds
                raise ApiError(409, "Read both answers first: this was too soon.", code="too_soon",
                               headers={"retry-after": str(max(1, round(wait + 0.5)))})  # fmt: skip
            vote = Vote(
                id="vote_" + secrets.token_hex(16), battle=held.id, voter=held.owner, kind="person", choice=choice,
                seconds=round(seconds, 3), time=round(time.time(), 3),
            )  # fmt: skip
            await self._write({"row": "vote", **asdict(vote)})
            held.vote, held.vote_id = choice, vote.id
            return held

    async def undo(self, key: Key, name: str) -> Held:
        """Withdraw a vote. There is no second one on the same battle: whoever voted has seen the names."""
        async with self._lock:
            held = self.battle(key, name)
            if held.vote is None or held.is_withdrawn:
                what = "There is no vote to withdraw." if held.vote is None else "The vote is withdrawn already."
                raise ApiError(409, what, code="nothing_to_withdraw")
            row = {"row": "undo", "vote": held.vote_id, "voter": held.owner, "time": round(time.time(), 3)}
            await self._write(row)
            held.is_withdrawn = True
            return held

    # --- the log -----------------------------------------------------------------------------------------------------

    def _pseudonym(self, key: Key) -> str:
        """The same for all keys of an owner, and no way back to one."""
        digest = hashlib.blake2b(key.owner.encode(), key=self._service.vault.pseudonym_key, digest_size=12)
        return "person_" + digest.hexdigest()

    def _hold(self, held: Held) -> None:
        self._held[held.id] = held
        self._with_texts.append(held)
        if len(self._with_texts) > _KEPT:
            self._with_texts.popleft().texts = None

    async def _write(self, row: dict[str, Any]) -> None:
        """Into the log, row by row."""
        try:
            async with self._writing:
                await asyncio.to_thread(files.append_jsonl, self.settings.log, [row])
        except files.StorageError as problem:
            log_error(problem)
            raise StoreUnavailable("The vote cannot be stored at the moment. Please try again later.") from None

    def _read(self) -> None:
        """What the log knows already: a vote counts once across restarts too."""
        long_ago = time.monotonic() - 1e6
        votes: dict[str, Held] = {}
        try:
            for row in files.read_jsonl(self.settings.log):
                if row.get("row") == "battle":
                    left, right = row["left"], row["right"]
                    held = Held(
                        id=row["id"], owner=row["asked_by"], domain=row["domain"],
                        question=row["prompt"][-1]["content"], models=(left["model"], right["model"]),
                        texts=(left["answer"], right["answer"]), shown_at=long_ago,
                    )  # fmt: skip
                    self._hold(held)
                elif row.get("row") == "vote" and row["kind"] == "person":
                    known = self._held.get(row["battle"])
                    if known is not None and known.vote is None:
                        known.vote, known.vote_id = row["choice"], row["id"]
                        votes[row["id"]] = known
                elif row.get("row") == "undo" and row["vote"] in votes:
                    votes[row["vote"]].is_withdrawn = True
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ConfigError(f"{self.settings.log} is no log of votes: {error}; give another --arena") from None


def _no_battle() -> ApiError:
    return ApiError(500, "No two answers came of this. Ask again.", code="battle_failed", kind="server_error")
