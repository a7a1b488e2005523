"""What all requests share: the models, the store, keys and limits, and what runs at the moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ponder.monitors import Judgement, Monitor, Rules
from ponder.serve.arena import Arena, ArenaSettings
from ponder.serve.errors import ApiError, StoreUnavailable, overloaded
from ponder.serve.job import GenerationJob
from ponder.serve.keys import Keyring
from ponder.serve.limits import Limiter
from ponder.serve.logs import log, log_error
from ponder.serve.mcp import ServerSpec, Toolbox
from ponder.serve.metrics import Metrics
from ponder.serve.prompts import PromptEncoder
from ponder.serve.saving import save_running
from ponder.serve.served import ServedModel, by_name
from ponder.serve.store import Store
from ponder.serve.thoughts import Watch
from ponder.serve.vault import Vault, load_secret
from ponder.types import Message, SamplingParams

if TYPE_CHECKING:
    from ponder.serve.responses import ResponseJob


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server is run, whatever it serves."""

    db: str = ":memory:"
    api_key: str | None = None
    requests_per_minute: int = 6000
    tokens_per_minute: int = 10_000_000
    max_running: int = 512  # responses produced at a time; more are refused with 503
    max_body: int = 4 << 20  # bytes
    max_connections: int = 4096  # fewer where the system allows fewer
    max_per_address: int = 2048  # connections of one address
    heartbeat: float = 10.0  # seconds between two comments in a silent stream
    drain: float = 20.0  # seconds that running responses get when the server is to stop
    monitors: Sequence[Monitor] = field(default_factory=lambda: (Rules(),))
    monitor_deadline: float = 2.0
    fail_closed: bool = False
    strict_params: bool = True  # refuse what o1 refuses; False: ignore it
    arena: ArenaSettings | None = None  # blind battles between the models; None: there are none
    mcp: Sequence[ServerSpec] = ()  # servers whose tools responses may use
    show_reasoning: bool = False  # to whoever started the server and to admins, of their own responses
    policy: str = ""  # a system message before every conversation, which no request can take away


_READY_FOR = 5.0  # seconds for which a model that generated a token is taken to do so still


class Service:
    """One for each server, used in its event loop. Making one opens the store and the arena's log; ConfigError where
    that fails."""

    def __init__(self, models: Sequence[ServedModel], settings: Settings) -> None:
        self.models, self.settings = by_name(models), settings
        self.store = Store(settings.db)
        self.vault = Vault(load_secret(settings.db))
        self.keyring = Keyring(self.store, settings.api_key)
        self.limiter = Limiter(settings.requests_per_minute, settings.tokens_per_minute)
        self.metrics = Metrics(self.models)
        self.encoder = PromptEncoder(settings.policy)
        self.toolbox = Toolbox(settings.mcp) if settings.mcp else None  # opened with the app
        self.created = int(time.time())
        self.jobs: dict[str, ResponseJob] = {}  # responses that the store does not have whole
        self.running_jobs: set[GenerationJob] = set()
        self.num_running = 0
        self.num_body_bytes = 0  # of requests that are being read
        self.is_draining = False
        self.on_failure: Callable[[str], None] = lambda why: None  # no engine will ever serve again
        self.arena = Arena(self, settings.arena) if settings.arena is not None else None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._verdicts: set[asyncio.Task[Any]] = set()  # that are being written
        self._probes: dict[str, tuple[float, str]] = {}

    # --- models ------------------------------------------------------------------------------------------------------

    def find_model(self, name: str | None) -> ServedModel:
        """The model that a request names. One server with one model needs no name."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        served = ", ".join(f"'{each}'" for each in self.models)
        if name is None:
            message = f"Missing required parameter: 'model'. This server has {served}."
            raise ApiError(400, message, code="missing_required_parameter", param="model")
        if name not in self.models:
            message = f"The model '{name[:200]}' is not served here; this server has {served}."
            raise ApiError(404, message, code="model_not_found", param="model")
        return self.models[name]

    def working_model(self, name: str | None) -> ServedModel:
        """The same, for a request that makes the model work."""
        model = self.find_model(name)
        if model.engine.failure:
            message = f"The model '{model.name}' is out of order until the server is started again."
            raise ApiError(503, message, code="model_failed", kind="server_error")
        return model

    @property
    def failures(self) -> dict[str, str]:
        """Models whose engine will never serve again, and why."""
        return {name: model.engine.failure for name, model in self.models.items() if model.engine.failure}

    async def readiness(self) -> tuple[str, dict[str, str]]:
        """Why requests cannot be served now, "" where they can; and the same of each model."""
        if self.is_draining:
            return "draining", {}
        if self.num_running >= self.settings.max_running or self.encoder.is_full:
            return "busy", {}
        found = await asyncio.gather(*(self._probe(model) for model in self.models.values()))
        return next(iter(found)) if all(found) else "", dict(zip(self.models, found, strict=True))

    async def _probe(self, model: ServedModel) -> str:
        """Why the engine generates no token, "" where it does; asked at most every few seconds."""
        if model.engine.failure:
            return "the engine failed"
        at, why = self._probes.get(model.name, (0.0, ""))
        if at and time.monotonic() - at < _READY_FOR:
            return why
        try:
            async with asyncio.timeout(30):
                params = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=1, max_tokens=1)
                await model.engine.generate((Message(role="user", content="hi"),), params)
            why = ""
        except TimeoutError:
            why = "the engine gave no token within 30 s"
        except Exception as error:  # whatever is wrong with the engine is what readiness is about
            why = f"the engine failed: {type(error).__name__}"
        self._probes[model.name] = time.monotonic(), why
        return why

    # --- work --------------------------------------------------------------------------------------------------------

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that somebody keeps a reference to."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, job: GenerationJob) -> None:
        """Let a job run by itself."""
        self.running_jobs.add(job)
        self.spawn(job.run()).add_done_callback(lambda task: self.running_jobs.discard(job))

    def check_capacity(self) -> None:
        """Refuse what cannot run now."""
        if self.is_draining:
            raise overloaded("The server is shutting down.")
        if self.num_running >= self.settings.max_running:
            raise overloaded("The server is busy. Please try again later.")

    @contextlib.contextmanager
    def admit(self, model: ServedModel) -> Iterator[None]:
        """Count a response as running, or refuse it."""
        self.check_capacity()
        self.num_running += 1
        running = self.metrics.running.labels(model.name)
        running.inc()
        try:
            yield
        finally:
            self.num_running -= 1
            running.dec()

    def watch(
        self,
        model: ServedModel,
        messages: Sequence[Message],
        *,
        response: str,
        owner: str,
        summary: bool = False,
        private: Sequence[str] = (),
    ) -> Watch:
        """Who reads the reasoning of a response to these messages; the last of the user's is the problem."""
        settings = self.settings
        problem = next((message.content for message in reversed(messages) if message.role == "user"), "")
        return Watch(
            monitors=settings.monitors,
            monitor_deadline=settings.monitor_deadline,
            fail_closed=settings.fail_closed,
            summarizer=model.summarize_with() if summary else None,
            private=[*private, settings.policy] if settings.policy else private,
            context={"response": response, "owner": owner, "model": model.name, "problem": problem},
        )

    def on_verdict(self, context: Mapping[str, str]) -> Callable[[str, int, Judgement], None]:
        """What notes a verdict on this response: (monitor, number of the segment, judgement). All are counted; all but
        `allow` are logged, and stored by tasks of their own."""
        response, owner, model = context["response"], context["owner"], context["model"]

        def note(monitor: str, segment: int, verdict: Judgement) -> None:
            self.metrics.verdicts.labels(model, monitor, verdict.action).inc()
            if verdict.action != "allow":
                log("monitor", response=response, monitor=monitor, action=verdict.action, segment=segment)
                kept = self.spawn(self._keep_verdict(response, owner, monitor, verdict.action, segment, verdict.note))
                self._verdicts.add(kept)
                kept.add_done_callback(self._verdicts.discard)

        return note

    async def verdicts_kept(self) -> None:
        """Every verdict until now is in the store, or in the log as lost."""
        await asyncio.gather(*self._verdicts, return_exceptions=True)

    async def _keep_verdict(self, *verdict: Any) -> None:
        try:
            await self.store.do(lambda: self.store.add_verdict(*verdict))
        except Exception as problem:  # it is in the log and the metrics all the same
            log_error(problem, response=verdict[0])

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more work; what runs has a while to end, then it is failed, so that its client gets an end."""
        if not self.is_draining:
            self.is_draining = True
            asyncio.get_running_loop().call_later(self.settings.drain, self.give_up)

    def give_up(self) -> None:
        """Nothing that runs can end well: fail it now."""
        self.fail_jobs("The server was stopped.")

    def fail_jobs(self, why: str, *, model: str | None = None) -> None:
        """Fail what runs, of one model or of all."""
        for job in list(self.running_jobs):
            if model in (None, job.model.name):
                job.fail(why)

    async def stop(self) -> None:
        """Wait until nothing runs, `drain` seconds at most and some for the writing."""
        self.drain()
        until = time.monotonic() + self.settings.drain + 5
        while self.running_jobs and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await save_running(list(self.jobs.values()))  # what could not be written before
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.encoder.close()
        if self.arena is not None:
            self.arena.close()
        with contextlib.suppress(StoreUnavailable):
            await self.store.do(self.store.retire)
        self.store.close()
