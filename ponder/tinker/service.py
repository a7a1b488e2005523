"""Sessions, models in training and samplers: what the routes ask for, without HTTP.

A session is a client process; it numbers its training models and samplers, and every id follows from these numbers:

    SESSION:train:0          a model in training; its requests are SESSION:train:0/1, /2, ... and run in this order
    SESSION:sample:3         a sampler: a base, saved weights, or a snapshot of a model in training
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.tinker.checkpoints import Checkpoint, SavedWeights
from ponder.tinker.futures import Futures, Payload, RequestLine, Work
from ponder.tinker.sampling import Base, Version
from ponder.tinker.training import LoraSettings, TrainingModel
from ponder.tinker.wire import ForwardBackward, sample_response
from ponder.types import SamplingParams, text_seed

SILENT = 300.0  # seconds without a heartbeat after which a session's models may be freed for another
SNAPSHOTS = 16  # kept of one model: a sampler older than that is gone
SAVED = {  # the kind of a path -> what the answer is called
    "weights": "save_weights", "sampler_weights": "save_weights_for_sampler",
    "external_weights": "save_weights_external",
}  # fmt: skip
_UNUSED = ("topk_prompt_logprobs", "topk_sample_logprobs", "prompt_alt_tokens_k")


class NotHere(LookupError):
    """An id that this server does not know: a wrong one, or of before it was started again."""


@dataclass(kw_only=True)
class TinkerSettings:
    """What the operator chooses; what a client chooses comes with its requests."""

    folder: Path  # of saved weights
    seed: int = 0  # of adapters and samples for which a client gives none
    num_workers: int = 0
    max_models: int = 4  # in training at a time
    max_tokens_per_batch: int = 4096


@dataclass(eq=False)
class Session:
    """A client process. last_seen: of time.monotonic(), see `SILENT`."""

    ordinal: int  # seeds follow from it, not from the id
    last_seen: float


@dataclass(eq=False)
class Model:
    """A model in training, once it is made."""

    identity: str
    session: Session
    line: RequestLine
    ordinal: int
    training: TrainingModel | None = None
    has_room: bool = False  # it is made, or is being made: one of `max_models`
    metadata: dict[str, Any] = field(default_factory=dict)
    num_saved: int = 0
    snapshots: list[str] = field(default_factory=list)  # samplers, oldest first
    last_request: float = field(default_factory=time.time)
    busy: threading.Lock = field(default_factory=threading.Lock)  # it is being made or closed, or a job of it runs
    is_closed: bool = False

    def make(self, build: Callable[[], TrainingModel]) -> TrainingModel:
        """Blocks. What is unloaded meanwhile is closed when it is made; ConfigError for what was unloaded before."""
        with self.busy:
            if self.is_closed:
                raise ConfigError(f"{self.identity} was unloaded before it was made")
            self.training = build()
            return self.training

    def run(self, job: Callable[[TrainingModel], Payload]) -> Payload:
        """Blocks."""
        with self.busy:
            if self.training is None:
                raise ConfigError(f"{self.identity} is not made yet, or no longer; wait for create_model")
            return job(self.training)

    def close(self) -> None:
        """Waits for the job that runs."""
        with self.busy:
            if self.training is not None:
                self.training.close()
            self.training, self.is_closed = None, True


@dataclass(frozen=True, eq=False)
class SamplingClient:
    """What one sampler of a session draws from."""

    base: Base
    version: Version | None  # None: it is of saved weights, or was a snapshot and is gone
    ordinal: tuple[int, ...]
    model_path: str | None = None
    saved: str = ""  # the name of the version that lies at model_path


class TinkerService:
    """All state of the server. Methods run in the event loop, what computes runs in threads. NotHere for an id that is
    not known, ConfigError for what a client can put right."""

    def __init__(self, bases: Mapping[str, Base], settings: TinkerSettings) -> None:
        self.bases, self.settings = dict(bases), settings
        self.futures, self.store = Futures(), SavedWeights(settings.folder)
        self.sessions: dict[str, Session] = {}
        self.models: dict[str, Model] = {}
        self.samplers: dict[str, SamplingClient] = {}
        self._loaded: dict[str, Version] = {}  # saved weights, by the name of their version; the last used come last
        self._closing: set[asyncio.Future[None]] = set()

    # sessions

    def create_session(self) -> str:
        identity = f"s{secrets.token_hex(6)}"
        self.sessions[identity] = Session(len(self.sessions), time.monotonic())
        return identity

    def session(self, identity: str) -> Session:
        """A session, which counts as seen now. Raises NotHere."""
        if identity not in self.sessions:
            raise NotHere(f"no session {identity[:100]!r} here: the server was started again? Make a new ServiceClient")
        self.sessions[identity].last_seen = time.monotonic()
        return self.sessions[identity]

    def finish(self, identity: str) -> None:
        """Its models and samplers make room at once; what was saved stays."""
        session = self.session(identity)
        for name in [name for name, model in self.models.items() if model.session is session]:
            self.unload(name, "its session was closed")
        for name in [name for name in list(self.samplers) if name.startswith(f"{identity}:sample:")]:
            del self.samplers[name]

    def base(self, name: str) -> Base:
        """A base model by the name that clients know. Raises ConfigError."""
        if name not in self.bases:
            hint = nearest(name, list(self.bases))
            raise ConfigError(f"no model {name!r} is served{hint}; start with --model {name}=FOLDER, or use one of "
                              f"{', '.join(self.bases)}")  # fmt: skip
        return self.bases[name]

    # models in training

    def model(self, identity: str) -> Model:
        """A model in training; it and its session count as seen now. Raises NotHere."""
        found = self.models.get(identity)
        if found is None:
            fix = "saved weights are kept: go on with create_training_client_from_state_with_optimizer(PATH)"
            raise NotHere(f"no model {identity[:100]!r} in training here: the server was started again? {fix}")
        found.last_request = time.time()
        found.session.last_seen = time.monotonic()
        return found

    def create_model(
        self, session_id: str, number: int, *, base: str, lora: Mapping[str, Any] | None, optimizer: str,
        metadata: Mapping[str, Any] | None,
    ) -> str:  # fmt: skip
        """The id of the future."""
        identity = f"{session_id}:train:{number}"
        self._begin(session_id, identity, number, metadata)

        async def work() -> Payload:
            if not isinstance(lora, Mapping) or type(lora.get("rank")) is not int:
                raise ConfigError("full fine-tuning is not offered here; create a LoRA training client, with a rank")
            if not (lora.get("seed") is None or (type(lora["seed"]) is int and abs(lora["seed"]) < 2**63)):
                raise ConfigError(f"lora_config: seed={str(lora['seed'])[:40]!r} must be a whole number")
            settings = LoraSettings(lora["rank"], bool(lora.get("train_mlp", True)), bool(lora.get("train_attn", True)))
            await self._make(identity, self.base(base), settings, optimizer, lora.get("seed"))
            return {"type": "create_model", "model_id": identity}

        self.futures.start(f"{identity}/create", self._making(identity, work))
        return f"{identity}/create"

    def create_from(
        self, session_id: str, number: int, *, path: str, optimizer: bool, metadata: Mapping[str, Any] | None
    ) -> str:
        """A model in training that begins with saved weights."""
        identity = f"{session_id}:train:{number}"
        self._begin(session_id, identity, number, metadata)

        async def work() -> Payload:
            saved = self.store.find(path)
            _refuse_without_moments(saved, optimizer)
            facts = saved.facts
            settings = LoraSettings(facts["rank"], facts["train_mlp"], facts["train_attn"])
            model = await self._make(identity, self.base(facts["base_model"]), settings, "adamw", 0)
            await asyncio.to_thread(model.load, saved.folder, optimizer=optimizer)
            return {"type": "load_weights", "path": path}

        self.futures.start(f"{identity}/create", self._making(identity, work))
        return f"{identity}/create"

    def _begin(self, session_id: str, identity: str, number: int, metadata: Mapping[str, Any] | None) -> None:
        session = self.session(session_id)
        if identity not in self.models:
            line = RequestLine(identity, self.futures)
            self.models[identity] = Model(identity, session, line, number, metadata=dict(metadata or {}))

    def _making(self, identity: str, work: Work) -> Work:
        """What fails leaves no half-made model."""

        async def guarded() -> Payload:
            try:
                return await work()
            except BaseException:
                if identity in self.models:
                    self.unload(identity, "it could not be made")
                raise

        return guarded

    async def _make(
        self, identity: str, base: Base, settings: LoraSettings, optimizer: str, seed: int | None
    ) -> TrainingModel:
        if optimizer != "adamw":
            raise ConfigError(f"the optimizer {optimizer!r} is not offered here; use adamw, the default")
        model = self.models[identity]
        self._make_room()
        model.has_room = True
        await base.ready()
        own = text_seed("lora", self.settings.seed, model.session.ordinal, model.ordinal)
        return await asyncio.to_thread(model.make, partial(
            TrainingModel, base, settings, seed=own if seed is None else seed,
            num_workers=self.settings.num_workers, max_tokens=self.settings.max_tokens_per_batch,
        ))  # fmt: skip

    def _make_room(self) -> None:
        """Models of sessions that fell silent go first; then it is an error."""
        limit, now = self.settings.max_models, time.monotonic()
        there = [model for model in self.models.values() if model.has_room]
        silent = [model for model in there if now - model.session.last_seen > SILENT]
        for model in silent[: max(0, len(there) + 1 - limit)]:
            self.unload(model.identity, "its client was silent, and another needed the room")
            self._forget_snapshots(model, keep=0)
            there.remove(model)
        if len(there) >= limit:
            raise ConfigError(f"{limit} models are in training, as many as --max-models allows; end one of their "
                              "clients, or start the server with a larger number")  # fmt: skip

    def unload(self, identity: str, why: str = "it was unloaded") -> None:
        """Forget a model at once; what still waits in its line is refused with this reason. The job that runs is waited
        for elsewhere. KeyError where there is no such model."""
        model = self.models.pop(identity)
        model.line.close(f"{identity} is no longer in training: {why}")
        closing = asyncio.ensure_future(asyncio.to_thread(model.close))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def in_line(self, identity: str, number: int, job: Callable[[TrainingModel], Payload]) -> str:
        """Queue a blocking job of a model; the id of its future."""
        model = self.model(identity)

        async def work() -> Payload:
            return await asyncio.to_thread(model.run, job)

        return model.line.add(number, work)

    def forward_backward(self, request: ForwardBackward) -> str:
        """The id of the future, which gives a protobuf message."""
        return self.in_line(request.model_id, request.seq_id, lambda model: model.forward_backward(request))

    def optim_step(self, identity: str, number: int, params: Mapping[str, Any]) -> str:
        """The id of the future, which gives the metrics."""
        return self.in_line(identity, number, lambda model: {"metrics": model.optim_step(params)})

    def save(
        self, identity: str, number: int, *, kind: str, name: str | None, overwrite: bool, ttl: float | None,
        metadata: Mapping[str, Any] | None,
    ) -> str:  # fmt: skip
        """Save under a name: `weights` to go on training from, `sampler_weights` to draw from."""
        model = self.model(identity)

        def job(training: TrainingModel) -> Payload:
            model.num_saved += 1
            path = self.store.save(
                identity, kind, name or f"{model.num_saved:06d}",
                lambda folder: training.save(folder, optimizer=kind == "weights"),
                {**training.facts(), "user_metadata": dict(metadata) if isinstance(metadata, Mapping) else None},
                overwrite=overwrite, ttl=ttl,
            )  # fmt: skip
            return {"type": SAVED[kind], "path": path}

        return self.in_line(identity, number, job)

    def snapshot(self, identity: str, number: int, sampler_number: Any) -> str:
        """A sampler of a model's weights as they are when its turn comes. The future refuses a number that is none."""
        model = self.model(identity)
        sampler = f"{identity.rpartition(':train:')[0]}:sample:{sampler_number}"

        def job(training: TrainingModel) -> Payload:
            if type(sampler_number) is not int:
                raise ConfigError(f"sampling_session_seq_id={str(sampler_number)[:40]!r} must be given, as int")
            version = Version(sampler, training.snapshot())
            self.samplers[sampler] = SamplingClient(training.base, version, (model.session.ordinal, sampler_number))
            model.snapshots.append(sampler)
            self._forget_snapshots(model, keep=SNAPSHOTS)
            return {"type": "save_weights_for_sampler", "sampling_session_id": sampler}

        return self.in_line(identity, number, job)

    def _forget_snapshots(self, model: Model, *, keep: int) -> None:
        """But for the last ones."""
        while len(model.snapshots) > keep:
            if known := self.samplers.get(old := model.snapshots.pop(0)):
                self.samplers[old] = replace(known, version=None)

    def load(self, identity: str, number: int, path: str, *, optimizer: bool) -> str:
        """Load saved weights into a model, in its line; the id of the future. They must be of the same base."""

        def job(training: TrainingModel) -> Payload:
            saved = self.store.find(path)
            _refuse_without_moments(saved, optimizer)
            if saved.facts["base_model"] != training.base.name:
                raise ConfigError(f"{path} is of {saved.facts['base_model']}, this model of {training.base.name}")
            training.load(saved.folder, optimizer=optimizer)
            return {"type": "load_weights", "path": path}

        return self.in_line(identity, number, job)

    # samplers

    async def create_sampler(
        self, session_id: str, number: int, *, base_model: str | None, model_path: str | None
    ) -> str:
        """The id of the sampler, whose model is loaded by then; the same number again is the same sampler. model_path
        goes before base_model; ConfigError where neither is given."""
        session, identity = self.session(session_id), f"{session_id}:sample:{number}"
        if identity not in self.samplers:
            ordinal = session.ordinal, number
            if model_path:
                saved = self.store.find(model_path)
                base = self.base(saved.facts["base_model"])
                await base.ready()
                read = await self._read(saved, base)
                made = SamplingClient(base, None, ordinal, model_path, read.name)
            elif base_model:
                made = SamplingClient(self.base(base_model), Version("base"), ordinal)
                await made.base.ready()
            else:
                raise ConfigError("say what to sample from: base_model or model_path")
            self.samplers[identity] = made
        return identity

    async def _version(self, sampler: SamplingClient) -> Version:
        """The weights of a sampler; saved ones are read again where they are no longer in memory."""
        if sampler.version is not None:
            return sampler.version
        if sampler.model_path is None:
            raise ConfigError(f"this sampler's weights are gone: the last {SNAPSHOTS} snapshots of a model are "
                              "kept. Save older ones by name, with save_weights_for_sampler")  # fmt: skip
        if found := self._loaded.get(sampler.saved):
            return self._use(found)
        saved = self.store.find(sampler.model_path)
        if _version_name(saved) != sampler.saved:
            raise ConfigError(f"{sampler.model_path} was overwritten since this sampler was made: make a new one")
        return await self._read(saved, sampler.base)

    async def _read(self, saved: Checkpoint, base: Base) -> Version:
        name = _version_name(saved)
        if name not in self._loaded:
            self._loaded[name] = Version(name, await asyncio.to_thread(base.read_adapter, saved.folder))
        return self._use(self._loaded[name])

    def _use(self, version: Version) -> Version:
        """Of saved weights the last ones used stay in memory, as many as snapshots of a model."""
        self._loaded[version.name] = self._loaded.pop(version.name)
        for old in list(self._loaded)[:-SNAPSHOTS]:
            del self._loaded[old]
        return version

    def sampler(self, identity: str) -> SamplingClient:
        """Raises NotHere."""
        if identity not in self.samplers:
            raise NotHere(f"no sampler {identity[:100]!r} here: the server was started again? Make a new one")
        return self.samplers[identity]

    def sample(self, identity: str, number: int, request: Mapping[str, Any]) -> tuple[str, list[str]]:
        """The id of the future, and one of each sample."""
        sampler = self.sampler(identity)
        n, future = request.get("num_samples", 1), f"{identity}/{number}"
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 4096:
            raise ConfigError(f"num_samples={n!r} must lie in 1 to 4096")
        seed = text_seed("sample", self.settings.seed, *sampler.ordinal, number)
        self.futures.start(future, self._sampling(sampler, n, seed, request))
        return future, [f"{future}/{index}" for index in range(n)]

    def _sampling(self, sampler: SamplingClient, n: int, seed: int, request: Mapping[str, Any]) -> Work:
        async def work() -> Payload:
            base = sampler.base
            if unused := [name for name in _UNUSED if request.get(name)]:
                raise ConfigError(f"{unused[0]} is not supported here; leave it out")
            if request.get("target_prompt_logprobs"):
                raise ConfigError("target_prompt_logprobs is not supported here; use forward with cross_entropy")
            await base.ready()
            version = await self._version(sampler)
            ids = prompt_ids(request.get("prompt"))
            params, end_ids = sampling_params(request.get("sampling_params") or {}, seed, base, ids)
            scored = await base.prompt_logprobs(version, ids) if request.get("prompt_logprobs") else None
            last = request.get("prompt_logprobs_last_n")
            if scored is not None and last is not None:
                if type(last) is not int or not 1 <= last < len(ids):
                    raise ConfigError(f"prompt_logprobs_last_n={last} must lie in 1 to {len(ids) - 1}")
                scored[: len(ids) - last] = float("nan")
            completions = await base.sample(version, ids, params, n=n, end_ids=end_ids)
            stops = ["stop" if each.finish_reason == "stop" else "length" for each in completions]
            return sample_response(
                [(each.token_ids, each.sampler_logprobs, why) for each, why in zip(completions, stops, strict=True)],
                scored,
            )

        return work

    async def aclose(self) -> None:
        """Unload all models, wait for the jobs that run, then stop the engines."""
        for identity in list(self.models):
            self.unload(identity, "the server is stopping")
        await asyncio.gather(*self._closing)
        for base in self.bases.values():
            await base.aclose()


def _refuse_without_moments(saved: Checkpoint, optimizer: bool) -> None:
    """ConfigError where Adam's moments are asked of weights of a kind that is saved without them."""
    if optimizer and "/weights/" not in saved.path:
        raise ConfigError(
            f"{saved.path} has no moments of the optimizer: save_state keeps them, under tinker://RUN/weights/NAME; "
            "load this without the optimizer"
        )


def _version_name(saved: Checkpoint) -> str:
    """Overwritten weights are another version."""
    return f"{saved.path}@{saved.facts['time']}"


def prompt_ids(prompt: Any) -> list[int]:
    """The token ids of a ModelInput."""
    chunks = prompt.get("chunks") if isinstance(prompt, Mapping) else None
    if not isinstance(chunks, list):
        raise ConfigError("prompt must be a ModelInput: {'chunks': [{'type': 'encoded_text', 'tokens': [...]}]}")
    ids: list[int] = []
    for chunk in chunks:
        if not isinstance(chunk, Mapping) or chunk.get("type", "encoded_text") != "encoded_text":
            kind = chunk.get("type") if isinstance(chunk, Mapping) else chunk
            raise ConfigError(f"a chunk of kind {kind!r} is not supported; send token ids")
        tokens = chunk.get("tokens")
        if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
            raise ConfigError("the tokens of a chunk must be a list of whole numbers")
        ids += tokens
    return ids


def sampling_params(
    given: Mapping[str, Any], seed: int, base: Base, ids: list[int]
) -> tuple[SamplingParams, tuple[int, ...] | None]:
    """As the engine takes them, and which tokens end a sample; None = the model's end marks.

    stop: None is the model's end marks, strings or token ids are meant beside them, an empty list leaves none.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"sampling_params={str(given)[:40]!r} must be an object")
    if given.get("top_k", -1) not in (-1, 0, None):
        raise ConfigError(f"top_k={given['top_k']} is not supported here; use -1, and top_p")
    stop = given.get("stop")
    parts = list(stop) if isinstance(stop, list) else [stop] if stop is not None else []
    strings = tuple(part for part in parts if isinstance(part, str) and part)
    numbers = tuple(part for part in parts if type(part) is int)
    if len(strings) + len(numbers) != len(parts):
        raise ConfigError(f"stop={stop!r} must be a string, strings or token ids")
    end_ids = () if stop == [] else (*base.tokenizer.end_ids, *numbers) if numbers else None
    room = base.check_prompt(ids, given.get("max_tokens"))
    own = given.get("seed")
    for name in ("seed", "temperature", "top_p"):
        value = given.get(name, 1.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**63
        if not is_number and (name, value) != ("seed", None):
            raise ConfigError(f"{name}={str(value)[:40]!r} must be a number")
    params = SamplingParams(
        temperature=given.get("temperature", 1.0), top_p=given.get("top_p", 1.0), max_reasoning_tokens=0,
        max_answer_tokens=room, max_tokens=room, stop=strings, seed=seed if own is None else int(own),
    )  # fmt: skip
    return params, end_ids
