"""A remote training service: `backend = "tinker"` trains and samples through the Tinker API's four verbs.

    export TINKER_API_KEY=tml-...                    # never written down; TINKER_BASE_URL or tinker.base_url says where
    ponder rl recipe.toml backend=tinker lora_rank=32 model=models/llama-1b tinker.base_model=meta-llama/Llama-3.2-1B

    backward   forward_backward with a built-in loss that has the same gradient, else forward_backward_custom
    step       optim_step, with the AdamW of the other backends
    publish    save_weights_and_get_sampling_client: what the sampler draws from next
    state      save_state; a run goes on with create_training_client_from_state_with_optimizer
    save       save_weights_external, downloaded: a checkpoint is an adapter folder, as with `adapter_only`

`model` is read here for its tokenizer and its shape; its weights may be missing. Tokens are made and read here, so they
must be the service's. Which losses are one of the service's: tinker_losses.py.

What is not offered is refused by `RLConfig`: a critic, another temperature than 1, full weights. This is the only file
that imports the SDK (pip install "ponder[tinker]"), and it does so when a run is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_bytes
from torch import Tensor

from ponder.config import ConfigError
from ponder.engine.parts import DrawnPart, Enough, PartsEngine
from ponder.engine.scheduler import Request, Sample
from ponder.files import write_atomic
from ponder.models import hub, lora
from ponder.models.files import read_json
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, blank
from ponder.models.weights import read_config
from ponder.train.batches import Batch
from ponder.train.recipe import RLConfig
from ponder.train.replica import NonFiniteLoss, PolicyLoss, Sums, refuse_loss, sums_of, total_of
from ponder.train.sharded import RankError
from ponder.train.tinker_losses import TrainedRow, built_in, in_batch, rows_of
from ponder.trained_on import Source, record_training
from ponder.types import Capabilities, FrozenPolicy, Learner, Sampler

PATIENCE = 1800.0  # seconds without any answer of the service; the SDK asks again by itself meanwhile
PAUSE = 5.0  # seconds before a sample is asked for again
EXPORT_TTL = 3600  # seconds that the service keeps what was downloaded
_log = logging.getLogger("ponder.train")


class ServiceLost(RankError):
    """The service does not answer, or no longer knows this model: a run goes on from its last saved state."""


@contextmanager
def open_tinker(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """The pair of `backend = "tinker"`."""
    try:
        import tinker
    except ImportError as error:
        raise ImportError('backend = "tinker" needs the SDK of Tinker: pip install "ponder[tinker]"') from error
    if lora.is_adapter(hub.found(config.model)):
        raise ConfigError(f"{config.model} is an adapter, and the service begins from its own weights: name its base")
    place = hub.resolve(config.model)
    calls, tokenizer, shape = ServiceCalls(tinker), load_tokenizer(place), read_config(place)
    learner = TinkerLearner(calls, config, shape, place, sources)
    _log.warning(
        "tinker: %s at %s trains an adapter of rank %d and samples; dtype, kernels and workers are the service's, so a "
        "run that is repeated or resumed need not have the same bits. Tokens are those of %s%s",
        config.tinker.base_model or config.model, config.tinker.base_url or "the address of TINKER_BASE_URL",
        config.lora_rank, place,
        "" if tokenizer.think_id is not None else ", which has no reasoning marks: all that is said is answer, up to "
        "max_answer_tokens",
    )  # fmt: skip
    try:
        yield learner, TinkerSampler(calls, tokenizer, shape)
    finally:
        learner.close()


class ServiceCalls:
    """Waits for what the service promised; whatever goes wrong becomes one error that says what was asked."""

    def __init__(self, sdk: Any) -> None:
        self.sdk = sdk
        # the SDK has given up on them after minutes; a sample is the same however often it is asked for
        self._passing = (sdk.APIConnectionError, sdk.InternalServerError, sdk.RateLimitError, TimeoutError)
        self._answered = time.monotonic()

    def checked(self, what: str, work: Callable[[], Any]) -> Any:
        """What `work` returns. What it raises becomes ConfigError (for the user to fix) or ServiceLost (start again),
        each with `what` was asked; NonFiniteLoss stays as it is."""
        try:
            return work()
        except Exception as error:  # the SDK's own kinds, httpx's, and plain ValueErrors
            raise self._translated(what, error) from error

    def __call__(self, what: str, ask: Callable[[], Any]) -> Any:
        """Block until the answer is there. Nothing is asked twice here: a gradient would count twice."""
        answer = self.checked(what, lambda: ask().future().result(PATIENCE))
        self._answered = time.monotonic()
        return answer

    async def again(self, what: str, ask: Callable[[], Any]) -> Any:
        """An answer that is the same however often it is asked for."""
        begun = time.monotonic()
        while True:
            try:
                future = asyncio.wrap_future(ask().future())
                try:
                    while not (await asyncio.wait({future}, timeout=PAUSE))[0]:
                        if time.monotonic() - max(begun, self._answered) > PATIENCE:
                            raise TimeoutError(f"no answer for {PATIENCE:g} s")
                finally:
                    future.cancel()  # the server stops; nothing happens to one that is done
                answer = future.result()
                self._answered = time.monotonic()
                return answer
            except self._passing as error:
                if time.monotonic() - max(begun, self._answered) > PATIENCE:
                    raise self._translated(what, error) from error
                await asyncio.sleep(PAUSE)
            except Exception as error:
                raise self._translated(what, error) from error

    def _translated(self, what: str, error: Exception) -> Exception:
        """An error of the SDK as one of ponder's, with the fix."""
        sdk, reason = self.sdk, f"{what}: {str(error).strip()[:500] or type(error).__name__}"
        if isinstance(error, (NonFiniteLoss, ConfigError, ServiceLost)):  # it says so already
            return error
        if isinstance(error, (sdk.AuthenticationError, sdk.PermissionDeniedError)):
            return ConfigError(f"Tinker refused this TINKER_API_KEY ({reason})")
        if isinstance(error, sdk.TinkerError) and not isinstance(error, (sdk.APIError, sdk.RequestFailedError)):
            fix = "for `ponder tinker` set TINKER_API_KEY=tml-local and TINKER_BASE_URL"
            return ConfigError(f"Tinker: {reason}; {fix}")
        is_users = isinstance(error, sdk.RequestFailedError) and str(error.category).lower().endswith("user")
        if is_users or isinstance(error, (sdk.BadRequestError, sdk.BillingError, sdk.UnprocessableEntityError)):
            return ConfigError(f"Tinker refused to {reason}")
        return ServiceLost(f"Tinker could not {reason}. Start the run again: its last saved state is kept")


class TinkerLearner:
    """A `Learner` that holds no weight."""

    num_shares, passes = 1, 2  # one call takes all; an adapter's cost, see `Trainer.passes`

    def __init__(
        self, calls: ServiceCalls, recipe: RLConfig, config: ModelConfig, start: Path, sources: Sequence[Source]
    ) -> None:
        self.config = config
        self._call, self._sdk, self._recipe = calls, calls.sdk, recipe
        self._base_url, self._base_model = recipe.tinker.base_url or None, recipe.tinker.base_model or recipe.model
        self._start, self._sources = start, tuple(sources)
        self._service = calls.checked("open a session", lambda: self._sdk.ServiceClient(base_url=self._base_url))
        self._client: Any = None
        self._num_saved = 0

    def close(self) -> None:
        """End the session, which frees the model at the service; what was saved stays."""
        with contextlib.suppress(Exception):  # one that cannot be closed ends by itself
            self._service.close("success").future().result(10)

    @property
    def client(self) -> Any:
        """The model in training: one that `load_state` opened, or a fresh one. Its head is left alone, so that its
        adapter is one of layers, which ponder reads."""
        if self._client is None:
            self._client = self._call(
                f"train {self._base_model}",
                lambda: self._service.create_lora_training_client(
                    self._base_model, rank=self._recipe.lora_rank, seed=self._recipe.seed, train_unembed=False
                ),
            )
        return self._client

    def backward(self, batches: Sequence[Batch], loss_function: Any) -> Sums:
        """Add the gradient of all batches to the service's, which the next step takes; the loss and metrics, computed
        here from the log-probabilities that came back. Raises NonFiniteLoss."""
        if not isinstance(loss_function, PolicyLoss) or loss_function.temperature != 1:
            raise ConfigError("Tinker trains on the loss of a policy at temperature 1, without a critic")
        rows, terms = [rows_of(batch) for batch in batches], [built_in(loss_function, batch) for batch in batches]
        found: list[Sums] = []

        def measured(logprobs: Sequence[Tensor]) -> Tensor:
            remaining, losses = iter(logprobs), []
            for batch, own in zip(batches, rows, strict=True):
                logprobs_BT = in_batch(batch, own, [next(remaining).float() for _ in own])
                loss, sums = loss_function(logprobs_BT, torch.zeros_like(logprobs_BT), batch)
                losses.append(loss)
                sums.pop("entropy", None)  # not known: nobody sends whole distributions
                found.append(sums_of(loss, sums))
            refuse_loss(total_of(found)["loss"])
            return torch.stack(losses).sum()

        known = [term for term in terms if term is not None]
        if len(known) == len(terms):
            data = self._data(batches, rows, [term.inputs for term in known])
            measured(self._logprobs_of("forward_backward", data, known[0].name, known[0].settings))
        else:
            data = self._data(batches, rows, [{} for _ in batches])
            ask = lambda: self.client.forward_backward_custom(data, lambda _, logprobs: (measured(logprobs), {}))
            self._call("compute a gradient", ask)
        return total_of(found)

    def _logprobs_of(self, verb: str, data: list[Any], loss: str, settings: Mapping[str, float] | None) -> list[Tensor]:
        """Of every target of every datum."""
        reply = self._call("compute a gradient", lambda: getattr(self.client, verb)(data, loss, settings))
        return [torch.tensor(each["logprobs"].data) for each in reply.loss_fn_outputs]

    def _data(
        self, batches: Sequence[Batch], rows: Sequence[Sequence[TrainedRow]], inputs: Sequence[Mapping[str, Tensor]]
    ) -> list[Any]:
        """A datum a row: prompt and completion are chunks of their own, so that a service may compute a prompt once."""
        data = []
        for batch, own_rows, own_inputs in zip(batches, rows, inputs, strict=True):
            for b, (prompt, own) in enumerate(own_rows):
                before, n = len(prompt) - 1, len(own)
                numbers = {
                    key: np.pad(torch.where(batch.mask_BT, x, 0.0)[b, :n].float().numpy(), (before, 0))
                    for key, x in own_inputs.items()
                }
                chunks = [self._sdk.EncodedTextChunk(tokens=part) for part in (prompt, own[:-1]) if part]
                targets = np.array([*prompt[1:], *own], np.int64)
                model_input = self._sdk.ModelInput(chunks=chunks)
                data.append(
                    self._sdk.Datum(model_input=model_input, loss_fn_inputs={"target_tokens": targets, **numbers})
                )
        return data

    def step(self, *, lr: float, max_norm: float) -> float:
        """Clip and step, with the optimizer of the other backends; the norm before clipping, nan where the service does
        not say it."""
        params = self._sdk.AdamParams(
            learning_rate=lr, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.0, grad_clip_norm=max_norm
        )
        reply = self._call("step", lambda: self.client.optim_step(params))
        return float((reply.metrics or {}).get("grad_norm", math.nan))

    def publish(self, version: int) -> Any:
        """A sampling client of the SDK that draws from the present weights; the service is not told the version."""
        return self._call("publish weights", lambda: self.client.save_weights_and_get_sampling_client())

    def logprobs(self, batches: Sequence[Batch], temperature: float) -> list[Tensor]:
        """At temperature 1, the only one that a recipe for this backend may have."""
        rows = [rows_of(batch) for batch in batches]
        data = self._data(batches, rows, [{"weights": batch.mask_BT.float()} for batch in batches])
        logprobs = iter(self._logprobs_of("forward", data, "cross_entropy", None))
        return [in_batch(batch, own, [next(logprobs) for _ in own]) for batch, own in zip(batches, rows, strict=True)]

    def values(self, batches: Sequence[Any], loss_function: Any) -> list[Tensor]:
        raise ConfigError("Tinker has no critic; take a group's baseline, e.g. advantage = 'grpo'")

    def reference(self, folder: Path) -> FrozenPolicy:
        """The service's base, which is what a run's first checkpoint holds: its adapter changes nothing yet."""
        ask = lambda: self._service.create_sampling_client(base_model=self._base_model)
        return _Base(self._call, self._call("sample from the base", ask))

    def save(self, folder: Path) -> None:
        """A checkpoint: the adapter in PEFT's layout, over the model that the recipe names."""
        import httpx  # the SDK's own client

        name = f"checkpoint-{time.time_ns()}"
        ask = lambda: self.client.save_weights_external(name, ttl_seconds=EXPORT_TTL)
        path = self._call("export weights", ask).path
        rest = self._call.checked("export weights", lambda: self._sdk.RestClient(base_url=self._base_url))
        urls = self._call("export weights", lambda: rest.get_external_weights_urls(path)).urls
        for file in (lora.ADAPTER_WEIGHTS, lora.ADAPTER_CONFIG):
            if not urls.get(file, "").startswith(("https://", "http://")):
                raise ConfigError(f"Tinker's export has no {file} to download, but {', '.join(urls) or 'nothing'}")
            self._call.checked(f"download {file}", lambda: _download(httpx, urls[file], folder / file))  # noqa: B023
        self._check(folder)
        config = read_json(folder / lora.ADAPTER_CONFIG) | hub.named_base(self._recipe.model)
        write_atomic(folder / lora.ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")
        record_training(folder, self._start, self._sources, base_name=self._recipe.model)

    def _check(self, folder: Path) -> None:
        """Refuse the adapter of another model. A run's first checkpoint is kept before it draws anything."""
        try:
            adapter, here = lora.load_adapter(folder, blank(self.config)), self.config.num_hidden_layers
            layers = {name.split(".")[2] for name in adapter.pairs}
            if len(layers) != here:
                raise ConfigError(f"it changes {len(layers)} layers, not {here}")
        except ConfigError as error:
            raise ConfigError(
                f"what the service calls {self._base_model!r} is not the model {self._recipe.model!r} of this disk: "
                f"the adapter that it trains does not fit ({error}). Let `model` and tinker.base_model name one model"
            ) from None

    def save_state(self, path: Path, metadata: dict[str, str]) -> None:
        """Save weights and moments at the service, then the file that names them; then the ones before may go."""
        self._num_saved += 1
        name = f"state-{self._num_saved:06d}"
        state = self._call("save a state", lambda: self.client.save_state(name)).path
        before = _state_named_in(path) if path.exists() else None
        write_atomic(path, save_bytes({}, metadata={**metadata, "tinker": state}))
        if before:
            with contextlib.suppress(ConfigError, ServiceLost):  # it expired, or it stays
                rest = self._call.checked("clean up", lambda: self._sdk.RestClient(base_url=self._base_url))
                self._call("clean up", lambda: rest.delete_checkpoint_from_tinker_path(before))

    def load_state(self, path: Path) -> None:
        """ConfigError where another backend saved the file, or the service has that state no longer."""
        state = _state_named_in(path)
        if state is None:
            raise ConfigError(f"{path} was not saved by backend = 'tinker': go on with the backend the run began with")
        try:
            ask = lambda: self._service.create_training_client_from_state_with_optimizer(state)
            self._client = self._call("go on", ask)
        except (ConfigError, ServiceLost) as error:
            gone = (self._sdk.NotFoundError, self._sdk.RequestFailedError, self._sdk.BadRequestError)
            if not isinstance(error.__cause__, gone):
                raise
            raise ConfigError(
                f"the service has no state {state} ({error}): it expired, was deleted, or lies at another address or "
                f"account. Point tinker.base_url to where it is, or delete {path.parent.parent} to start over"
            ) from error

    def tensors(self) -> dict[str, Tensor]:
        raise ConfigError("what Tinker trains stays there: save_state names it")

    def restore(self, tensor: Callable[[str], Tensor], names: Collection[str]) -> None:
        raise ConfigError("what Tinker trains stays there: load_state takes up what save_state named")


def _state_named_in(path: Path) -> str | None:
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("tinker")


def _download(httpx: Any, url: str, path: Path) -> None:
    with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response, path.open("wb") as file:
        response.raise_for_status()
        for part in response.iter_bytes():
            file.write(part)


class _Base:
    """The model before training."""

    def __init__(self, call: ServiceCalls, client: Any) -> None:
        self._call, self._client = call, client

    def logprobs(self, batches: Sequence[Batch], temperature: float) -> list[Tensor]:
        """One request a sequence, all at once."""
        sdk, rows = self._call.sdk, [rows_of(batch) for batch in batches]
        prompts = [sdk.ModelInput.from_ints([*row.prompt, *row.own]) for own in rows for row in own]
        asked = self._call.checked("score", lambda: [self._client.compute_logprobs(prompt) for prompt in prompts])
        logprobs = iter([self._call("score", lambda: each) for each in asked])  # noqa: B023 - called at once
        return [
            in_batch(batch, own, [torch.tensor([x or 0.0 for x in next(logprobs)[1:]]) for _ in own])
            for batch, own in zip(batches, rows, strict=True)
        ]


class TinkerSampler(PartsEngine):
    """A `Sampler` over the service's sampling clients, one a version."""

    capabilities = Capabilities(token_ids=True)

    def __init__(self, calls: ServiceCalls, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(tokenizer, config, closes_once=False, policy_version=0)
        self._call = calls
        self._client: Any = None

    def update_weights(self, weights: Any, *, version: int) -> None:
        """weights: a sampling client. What runs goes on with its own; what it asks for next is drawn from these."""
        self._client, self.policy_version = weights, version

    async def _ask(
        self, request: Request, sample: Sample, *, seed: int, limit: int, stops: Sequence[int | None], least: int = 0,
        ruled_out: Sequence[int] = (), enough: Enough | None = None,
    ) -> DrawnPart:  # fmt: skip
        """Marks cannot be ruled out at the service: an answer that they break off is drawn again, and then ends."""
        if least:
            raise ConfigError("Tinker has no least length: leave out min_reasoning_tokens")
        sdk, client, version = self._call.sdk, self._client, self.policy_version
        ends = [stop for stop in stops if stop is not None]
        params = sdk.SamplingParams(
            max_tokens=limit, temperature=request.params.temperature, top_p=request.params.top_p, stop=ends,
            seed=seed >> 32,  # 31 bits, which every service takes
        )  # fmt: skip
        prompt = sdk.ModelInput.from_ints([*request.prompt_ids, *sample.token_ids])
        reply = await self._call.again("sample", lambda: client.sample(prompt, 1, params))
        ids, logprobs = list(reply.sequences[0].tokens), list(reply.sequences[0].logprobs or ())
        if not ids or len(ids) != len(logprobs) or (ids[-1] not in ends and len(ids) < limit):
            raise ConfigError(
                f"Tinker drew {len(ids)} of {limit} tokens with {len(logprobs)} log-probabilities; a completion comes "
                "with one a token, and with the token that ended it. Is the tokenizer the service's?"
            )
        if enough is not None:
            n = next((n for n in range(1, len(ids) + 1) if enough(ids[:n])), len(ids))
            ids, logprobs = ids[:n], logprobs[:n]
        return DrawnPart(ids, logprobs, [(version, 0, len(ids))])
