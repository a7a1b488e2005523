"""What ponder uses of the Tinker SDK, in this process: the names of its module, over ponder's own trainer and engine.

    with sdk_double(model_folder, tmp_path) as sdk:        # `import tinker` gives it meanwhile
        rl(RLConfig(..., backend="tinker", lora_rank=4, tinker=TinkerConfig(base_model=NAME)))

`sdk.calls` are the verbs that were asked for. `sdk.failures[verb]` are raised by its next calls, one each. `sdk.saved`
are states and exports by path; `sdk.current` is the model in training that was opened last.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.tinker.sampling import Base, Version
from ponder.tinker.training import LoraSettings, TrainingModel
from ponder.tinker.wire import read_request
from ponder.types import SamplingParams
from tests.tinker import tinkering
from tests.tinker.tinkering import NAME, read_output, request


class TinkerError(Exception): ...


class APIError(TinkerError): ...


class RequestFailedError(TinkerError):
    category = "user"


@dataclass
class EncodedTextChunk:
    tokens: list[int]


@dataclass
class ModelInput:
    chunks: list[EncodedTextChunk]

    @classmethod
    def from_ints(cls, ids: list[int]) -> ModelInput:
        return cls([EncodedTextChunk(list(ids))])

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.tokens]


@dataclass
class Datum:
    model_input: ModelInput
    loss_fn_inputs: dict[str, np.ndarray]

    def wire(self, **inputs: np.ndarray) -> bytes:
        told = inputs or self.loss_fn_inputs
        return tinkering.datum(*(chunk.tokens for chunk in self.model_input.chunks), **told)  # type: ignore[arg-type]


@dataclass
class Promise:
    of: Future[Any]

    def future(self) -> Future[Any]:
        return self.of


class SdkDouble:
    """The module."""

    TinkerError, APIError, RequestFailedError = TinkerError, APIError, RequestFailedError
    EncodedTextChunk, ModelInput, Datum = EncodedTextChunk, ModelInput, Datum
    SamplingParams = AdamParams = staticmethod(lambda **given: SimpleNamespace(**given))

    def __init__(self, base: Base, folder: Path, url: str) -> None:
        self.base, self.folder, self.url = base, folder, url
        for name in ("APIConnection", "InternalServer", "RateLimit", "Authentication", "PermissionDenied", "BadRequest",
                     "Billing", "UnprocessableEntity", "NotFound"):  # fmt: skip
            setattr(self, f"{name}Error", type(f"{name}Error", (APIError,), {}))
        self.calls: list[str] = []
        self.failures: dict[str, list[Exception]] = defaultdict(list)
        self.saved: dict[str, Path] = {}
        self.runs: list[TrainingClient] = []
        self.holds_back = False  # new sampling clients draw from the base, whatever was trained
        self.numbers = itertools.count()
        self.thread = ThreadPoolExecutor(1)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    @property
    def current(self) -> TrainingModel:
        return self.runs[-1].model

    def ask(self, verb: str, work: Callable[[], Any]) -> Promise:
        """In the one thread that trains, in order."""
        self.calls.append(verb)
        if self.failures[verb]:
            error = self.failures[verb].pop(0)
            work = partial(self._raise, error)
        return Promise(self.thread.submit(work))

    @staticmethod
    def _raise(error: Exception) -> None:
        raise error

    def ServiceClient(self, base_url: str | None = None) -> ServiceDouble:
        return ServiceDouble(self)

    def RestClient(self, base_url: str | None = None) -> RestDouble:
        return RestDouble(self)


@dataclass
class RestDouble:
    sdk: SdkDouble

    def get_external_weights_urls(self, path: str) -> Promise:
        folder = self.sdk.saved[path]
        urls = {file.name: f"{self.sdk.url}/{folder.name}/{file.name}" for file in folder.iterdir()}
        return self.sdk.ask("urls", lambda: SimpleNamespace(urls=urls))

    def delete_checkpoint_from_tinker_path(self, path: str) -> Promise:
        return self.sdk.ask("delete", lambda: shutil.rmtree(self.sdk.saved.pop(path)))


@dataclass
class ServiceDouble:
    sdk: SdkDouble

    def create_lora_training_client(self, base_model: str, *, rank: int, seed: int, train_unembed: bool) -> Promise:
        assert base_model == NAME and not train_unembed
        return self.sdk.ask("create", lambda: TrainingClient(self.sdk, rank, seed))

    def create_training_client_from_state_with_optimizer(self, path: str) -> Promise:
        def load() -> TrainingClient:
            if path not in self.sdk.saved:
                raise RequestFailedError(f"there are no weights {path}")
            client = TrainingClient(self.sdk, 4, 0)
            client.model.load(self.sdk.saved[path], optimizer=True)
            return client

        return self.sdk.ask("load", load)

    def create_sampling_client(self, *, base_model: str) -> Promise:
        return self.sdk.ask("sampler", lambda: SamplingDouble(self.sdk, Version("base")))

    def close(self, status: str) -> Promise:
        return self.sdk.ask("close", lambda: None)


class TrainingClient:
    def __init__(self, sdk: SdkDouble, rank: int, seed: int) -> None:
        self.sdk, self.number = sdk, next(sdk.numbers)
        self.model = TrainingModel(sdk.base, LoraSettings(rank), seed=seed, num_workers=0, max_tokens=1024)
        sdk.runs.append(self)

    def _run(self, data: Sequence[bytes], loss: str, settings: dict[str, float], *, forward_only: bool) -> Any:
        try:
            body = request(data, loss, forward_only=forward_only, **settings)
            logprobs, _ = read_output(self.model.forward_backward(read_request(body)))
        except ConfigError as error:
            raise RequestFailedError(str(error)) from error
        return SimpleNamespace(loss_fn_outputs=[{"logprobs": SimpleNamespace(data=x.tolist())} for x in logprobs])

    def forward_backward(self, data: list[Datum], loss: str, settings: dict[str, float] | None) -> Promise:
        told = [each.wire() for each in data]
        return self.sdk.ask(
            f"forward_backward {loss}", lambda: self._run(told, loss, settings or {}, forward_only=False)
        )

    def forward(self, data: list[Datum], loss: str, settings: dict[str, float] | None) -> Promise:
        return self.sdk.ask("forward", lambda: self._run([d.wire() for d in data], loss, {}, forward_only=True))

    def forward_backward_custom(self, data: list[Datum], loss_fn: Any) -> Promise:
        """As the SDK does it: a forward pass, the loss here, and its gradient as the weights of a cross-entropy."""

        def work() -> Any:
            targets = [each.loss_fn_inputs["target_tokens"] for each in data]
            pairs = list(zip(data, targets, strict=True))
            zeros = [each.wire(target_tokens=t, weights=np.zeros(len(t))) for each, t in pairs]
            told = self._run(zeros, "cross_entropy", {}, forward_only=True)
            logprobs = [torch.tensor(x["logprobs"].data, requires_grad=True) for x in told.loss_fn_outputs]
            loss_fn(data, logprobs)[0].backward()
            slopes = [
                each.wire(target_tokens=t, weights=-x.grad.numpy())  # type: ignore[union-attr]
                for each, t, x in zip(data, targets, logprobs, strict=True)
            ]
            return self._run(slopes, "cross_entropy", {}, forward_only=False)

        return self.sdk.ask("forward_backward_custom", work)

    def optim_step(self, params: SimpleNamespace) -> Promise:
        return self.sdk.ask("optim_step", lambda: SimpleNamespace(metrics=self.model.optim_step(vars(params))))

    def save_weights_and_get_sampling_client(self) -> Promise:
        def snapshot() -> SamplingDouble:
            held = self.sdk.holds_back
            version = Version("base") if held else Version(f"v{next(self.sdk.numbers)}", self.model.snapshot())
            return SamplingDouble(self.sdk, version)

        return self.sdk.ask("publish", snapshot)

    def _save(self, verb: str, kind: str, name: str, *, optimizer: bool) -> Promise:
        def work() -> Any:
            path, folder = f"tinker://run{self.number}/{kind}/{name}", self.sdk.folder / f"{next(self.sdk.numbers)}"
            assert path not in self.sdk.saved
            folder.mkdir(parents=True)
            self.model.save(folder, optimizer=optimizer)
            self.sdk.saved[path] = folder
            return SimpleNamespace(path=path)

        return self.sdk.ask(verb, work)

    def save_state(self, name: str) -> Promise:
        return self._save("save_state", "weights", name, optimizer=True)

    def save_weights_external(self, name: str, *, ttl_seconds: int) -> Promise:
        return self._save("save_weights_external", "external_weights", name, optimizer=False)


@dataclass
class SamplingDouble:
    sdk: SdkDouble
    version: Version
    seeds: list[int] = field(default_factory=list)

    def sample(self, prompt: ModelInput, num_samples: int, params: SimpleNamespace) -> Promise:
        """Ends with the first of `stop`, which is part of it; nothing else ends it before `max_tokens`."""
        self.seeds.append(params.seed)

        async def work() -> Any:
            if self.sdk.failures["sample"]:
                raise self.sdk.failures["sample"].pop(0)
            how = SamplingParams(
                temperature=params.temperature, top_p=params.top_p, max_reasoning_tokens=0, seed=params.seed,
                max_answer_tokens=params.max_tokens, max_tokens=params.max_tokens,
            )  # fmt: skip
            drawn = await self.sdk.base.sample(self.version, prompt.ids, how, n=num_samples, end_ids=tuple(params.stop))
            return SimpleNamespace(
                sequences=[SimpleNamespace(tokens=[*c.token_ids], logprobs=[*c.sampler_logprobs]) for c in drawn]
            )

        self.sdk.calls.append("sample")
        return Promise(asyncio.run_coroutine_threadsafe(work(), self.sdk.loop))

    def compute_logprobs(self, prompt: ModelInput) -> Promise:
        async def work() -> list[float | None]:
            told = await self.sdk.base.prompt_logprobs(self.version, prompt.ids)
            return [None, *told[1:].tolist()]

        return Promise(asyncio.run_coroutine_threadsafe(work(), self.sdk.loop))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def sdk_double(model: Path, folder: Path) -> Iterator[SdkDouble]:
    base = Base(NAME, str(model), dtype=torch.float32, num_workers=0)
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sdk = SdkDouble(base, folder, f"http://127.0.0.1:{server.server_port}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tinker", sdk)  # type: ignore[arg-type]
        try:
            yield sdk
        finally:
            asyncio.run_coroutine_threadsafe(base.aclose(), sdk.loop).result(30)
            sdk.loop.call_soon_threadsafe(sdk.loop.stop)
            sdk.thread.shutdown()
            server.shutdown()
            server.server_close()
