"""vLLM as an engine: token ids in and out over its HTTP routes, from an environment of its own.

    PONDER_VLLM_PYTHON=~/vllm/bin/python ponder rl recipe.toml backend=vllm      # a server that ends with the run
    PONDER_VLLM_URL=http://gpu-machine:8000 ponder eval --engine vllm ...        # one that runs already

A completion is one or two requests (engine/parts.py). Every sample is a request with a seed of its own, so in float32
a completion is a function of weights, prompt, seed and index, as the local engine's is. New weights go through a
folder; keys and values of old ones are thrown away, and the prefix cache is salted with the version. docs/vllm.md has
what is promised and what is not.

This file, vllm_server.py, and what is in inside_vllm/, which runs in vLLM's environment, are all that knows vLLM. Its
interface for reinforcement learning moves fast: `make vllm-test` says whether another version does what is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.engine.parts import DrawnPart, Enough, PartsEngine
from ponder.engine.scheduler import Request, Sample
from ponder.engine.tokens import EngineError
from ponder.engine.vllm_server import TESTED, VllmServer, open_server
from ponder.files import write_atomic
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, blank
from ponder.models.weights import CONFIG, WEIGHTS, config_json, read_config, write_tensors
from ponder.types import Capabilities

_log = logging.getLogger("ponder.engine")
TRIES = 3  # of a request that got no answer, while the server lives: asked again, it is the same
MOST_REQUESTS = 256  # on their way at a time; the server queues what it has no room for


class VllmEngine(PartsEngine):
    """A Sampler over a vLLM server, which it closes. `closes_once` as in `TokenEngine`. timeout: seconds for a request.

    dtype: of the weights that are written for the server. folder: where; None = a temporary one on this machine.
    """

    capabilities = Capabilities(token_ids=True, streaming=True)

    def __init__(
        self, server: VllmServer, tokenizer: Tokenizer, config: ModelConfig, *, dtype: torch.dtype = torch.float32,
        closes_once: bool = True, policy_version: int = 0, timeout: float = 600.0, folder: Path | None = None,
    ) -> None:  # fmt: skip
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise EngineError('the vLLM engine needs httpx: pip install "ponder[vllm]"') from None
        super().__init__(tokenizer, config, closes_once=closes_once, policy_version=policy_version)
        self._server, self._dtype, self._timeout = server, dtype, timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="ponder-vllm-")
        self._folder = folder or Path(self._temporary.name)
        self._shapes = {name: tensor.shape for name, tensor in blank(config).state_dict().items()}
        self._server.control("/update_weight_version", {"new_version": str(policy_version)})

    @property
    def failure(self) -> str | None:  # type: ignore[override]
        return self._server.problem()

    # --------------------------------------------------------------------------------------------------- requests

    async def _ask(
        self, request: Request, sample: Sample, *, seed: int, limit: int, stops: Sequence[int | None], least: int = 0,
        ruled_out: Sequence[int] = (), enough: Enough | None = None,
    ) -> DrawnPart:  # fmt: skip
        """One request: what follows the prompt and the sample so far. At least one token comes."""
        params = request.params
        sampling: dict[str, Any] = {
            "temperature": params.temperature, "top_p": params.top_p, "seed": seed, "max_tokens": limit,
            "min_tokens": min(least, limit), "stop_token_ids": list(stops), "ignore_eos": True, "logprobs": 0,
            "detokenize": False,
        }  # fmt: skip
        if ruled_out:
            sampling["logit_bias"] = {str(token): -100.0 for token in ruled_out}
        if self.failure:
            raise EngineError(self.failure)
        for number in range(1, TRIES + 1):
            asked_at = self.policy_version
            body = {
                "token_ids": [*request.prompt_ids, *sample.token_ids], "sampling_params": sampling,
                "cache_salt": str(asked_at), "stream": enough is not None,
            }  # fmt: skip
            part = DrawnPart()
            try:
                async with (
                    self._slots(),
                    asyncio.timeout(self._timeout),
                    contextlib.aclosing(self._choices(body)) as choices,
                ):
                    async for choice in choices:
                        if _take(part, choice, self.config.vocab_size, limit, enough):
                            break
            except TimeoutError:
                raise EngineError(f"vLLM gave no answer within {self._timeout:g} s") from None
            except ConnectionError as error:
                if self.failure or number == TRIES or (part.token_ids and enough):
                    raise EngineError(self.failure or f"vLLM cannot be reached: {error}") from None
                await asyncio.sleep(0.2 * number)
                continue
            self._check(part, asked_at)
            return part
        raise AssertionError

    async def _choices(self, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """The choices of a response: one of a whole one, one a portion of a streamed one."""
        import httpx

        url = f"{self._server.url}/inference/v1/generate"
        try:
            async with self._client.stream("POST", url, json=body) as response:
                if response.status_code != 200:
                    text = (await response.aread()).decode(errors="replace")[:500]
                    if response.status_code >= 500:
                        raise ConnectionError(f"{response.status_code}: {text}")
                    raise EngineError(f"vLLM refused a request ({response.status_code}): {text}")
                if not body["stream"]:
                    yield _choices_of(await response.aread(), least=1)[0]
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        for choice in _choices_of(line[6:]):
                            yield choice
        except httpx.HTTPError as error:
            raise ConnectionError(str(error) or type(error).__name__) from None

    def _slots(self) -> asyncio.Semaphore:
        """A client for the running event loop: connections and semaphores cannot move to another one."""
        import httpx

        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            self._client = httpx.AsyncClient(limits=limits, timeout=None, trust_env=False)
            self._semaphore, self._loop = asyncio.Semaphore(MOST_REQUESTS), loop
        return self._semaphore

    def _check(self, part: DrawnPart, asked_at: int) -> None:
        """Whether what was drawn is of the weights that it was asked of, or of later ones."""
        # what was read only in part does not say
        part.versions = part.versions or [(asked_at, 0, len(part.token_ids))]
        strange = [version for version, _, _ in part.versions if not asked_at <= version <= self.policy_version]
        if not part.token_ids or strange:
            what = f"drew with weights of version {strange[0]}, not {asked_at}" if strange else "drew nothing"
            raise EngineError(f"the vLLM server {what}: was it restarted, or does another client update it?")

    # ---------------------------------------------------------------------------------------------------- weights

    def update_weights(self, weights: Mapping[str, Tensor] | Path, *, version: int) -> None:
        """weights: tensors, or a folder with a safetensors file that the server can read too.

        What runs stops between two tokens, is read again by the new weights, and goes on with them.
        """
        folder = weights if isinstance(weights, Path) else self._written(weights)
        try:
            self._server.control("/pause?mode=keep&clear_cache=true")  # one that gives no answer may have paused it
            self._load_folder(folder)
            self._server.control("/update_weight_version", {"new_version": str(version)})
            self.policy_version = version
        finally:
            self._server.control("/resume")

    def _written(self, weights: Mapping[str, Tensor]) -> Path:
        missing = [name for name in self._shapes if name not in weights]
        if missing:
            raise ValueError(f"the new weights lack {', '.join(missing[:3])}; give all of the model's")
        wrong = [name for name, shape in self._shapes.items() if weights[name].shape != shape]
        if wrong:
            raise ValueError(f"{wrong[0]} has another shape than the model's; give weights of this model")
        write_tensors({name: weights[name] for name in self._shapes}, self._folder / WEIGHTS, self._dtype)
        write_atomic(self._folder / CONFIG, json.dumps(config_json(self.config, self._dtype)))
        return self._folder

    def _load_folder(self, folder: Path) -> None:
        replies = self._server.rpc("ponder_load", str(folder.resolve()))
        if not all(isinstance(one, dict) and {"head", "changed"} <= set(one) for one in replies):
            raise EngineError(f"vLLM's workers answered {str(replies)[:200]}; do they have ponder_vllm.Extension?")
        heads = {one["head"] for one in replies}
        if "wrong" in heads:
            raise EngineError("vLLM's output head does not compute with the new weights, and could not be put right")
        if "right" in heads and all(one["changed"] for one in replies):
            _log.info("vLLM puts a tied head right by itself: the repair in inside_vllm/ponder_vllm.py can go")

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End the server, if it was started here, and delete the temporary folder; a `folder` that was given stays."""
        self._server.close()
        self._temporary.cleanup()

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _choices_of(text: str | bytes, *, least: int = 0) -> Sequence[Mapping[str, Any]]:
    """The choices of an answer or of an event; an EngineError quotes one that has none."""
    try:
        found = json.loads(text)["choices"] or ()
        if not isinstance(found, list | tuple) or len(found) < least:
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise EngineError(f"vLLM answered with {text[:200]!r}: another version? ({TESTED} was tested)") from None
    return found


def _read(choice: Mapping[str, Any], vocab_size: int, most: int, left: int) -> DrawnPart:
    """The content of a choice, checked: no mistake of another program is trained on. left: tokens that may come."""
    try:
        ids, logprobs = list(choice["token_ids"]), [one["logprob"] for one in choice["logprobs"]["content"]]
        spans = choice.get("weight_versions") or ()
        versions = [(int(span["version"]), span["start"], span["end"]) for span in spans]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise EngineError(f"vLLM answered with {str(choice)[:200]}: another version? ({TESTED} was tested)") from None
    places = [place for _, *ends in versions for place in ends]
    if (
        not all(type(token) is int and 0 <= token < vocab_size for token in ids)
        or not all(isinstance(value, int | float) and -math.inf < value <= 1e-3 for value in logprobs)
        or not all(type(place) is int and 0 <= place <= most for place in places)
        or not len(ids) == len(logprobs) <= left
    ):
        raise EngineError(f"vLLM drew what this model cannot: {str(choice)[:200]}; does it serve another one?")
    return DrawnPart(ids, [float(value) for value in logprobs], versions)


def _take(part: DrawnPart, choice: Mapping[str, Any], vocab_size: int, most: int, enough: Enough | None) -> bool:
    """Add what a choice holds; whether that is enough. most: tokens that were asked for."""
    found = _read(choice, vocab_size, most, most - len(part.token_ids))
    part.versions += found.versions
    for token, logprob in zip(found.token_ids, found.logprobs, strict=True):
        part.token_ids.append(token)
        part.logprobs.append(logprob)
        if enough is not None and enough(part.token_ids):
            return True
    return False


def open_vllm(
    folder: Path, tokenizer: Tokenizer, *, dtype: torch.dtype, num_slots: int = 128, closes_once: bool = True,
    weights_folder: Path | None = None,
) -> VllmEngine:  # fmt: skip
    """An engine over a model folder. weights_folder: where new weights are written; a server on another machine must
    see it, and the model folder, under the same path."""
    config = read_config(folder)
    server = open_server(
        folder, dtype=str(dtype).removeprefix("torch."), window=config.max_position_embeddings, num_slots=num_slots
    )
    try:
        engine = VllmEngine(server, tokenizer, config, dtype=dtype, closes_once=closes_once, folder=weights_folder)
        if server.process is None:
            engine.update_weights(folder, version=0)  # what it holds is not known
    except BaseException:
        server.close()
        raise
    return engine
