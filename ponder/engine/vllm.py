"""vLLM as an engine: token ids in and out over its HTTP routes, from an environment of its own.

    PONDER_VLLM_PYTHON=~/vllm/bin/python ponder rl recipe.toml backend=vllm      # a server that ends with the run
    PONDER_VLLM_URL=http://gpu-machine:8000 ponder eval --engine vllm ...        # one that runs already

A completion is one or two requests: the reasoning until its closing mark, its end or its cap; then, with the mark in
the prompt (forced where the cap was reached, and recorded as not sampled), the answer. Every sample is a request with a
seed of its own, so in float32 a completion is a function of weights, prompt, seed and index, as the local engine's is.
New weights go through a folder; keys and values of old ones are thrown away, and the prefix cache is salted with the
version. docs/vllm.md has what is promised and what is not.

This file, vllm_server.py, and what is in inside_vllm/, which runs in vLLM's environment, are all that knows vLLM. Its
interface for reinforcement learning moves fast: `make vllm-test` says whether another version does what is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import math
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.engine.remote import gathered
from ponder.engine.scheduler import Request, Sample
from ponder.engine.stream import Stream
from ponder.engine.tokens import EngineError, TokenEngine
from ponder.engine.vllm_server import TESTED, VllmServer, open_server
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, blank
from ponder.models.weights import CONFIG, WEIGHTS, config_json, read_config, write_tensors
from ponder.runs import write_atomic
from ponder.types import Capabilities, SamplingParams, sample_seed

_log = logging.getLogger("ponder.engine")
REDRAWS = 4  # of an answer that a mark broke off; then marks are ruled out
TRIES = 3  # of a request that got no answer, while the server lives: asked again, it is the same
MOST_REQUESTS = 256  # on their way at a time; the server queues what it has no room for

Enough = Callable[[list[int]], bool]  # of the tokens of a request so far: whether no more are wanted


@dataclass
class _Told:
    """How a sample that is streamed is told, and what its reader has said."""

    tokens: Callable[[list[int]], None] | None = None
    answer_now: bool = False

    def say(self, ids: list[int]) -> None:
        if self.tokens is not None:
            self.tokens(ids)


@dataclass
class _Part:
    """What one request drew."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[tuple[int, int, int]] = field(default_factory=list)


class VllmEngine(TokenEngine):
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
        self._load = 0
        self._temporary = tempfile.TemporaryDirectory(prefix="ponder-vllm-")
        self._folder = folder or Path(self._temporary.name)
        self._shapes = {name: tensor.shape for name, tensor in blank(config).state_dict().items()}
        self._server.control("/update_weight_version", {"new_version": str(policy_version)})

    @property
    def failure(self) -> str | None:  # type: ignore[override]
        return self._server.problem()

    @property
    def outstanding_tokens(self) -> int:
        return self._load

    # ---------------------------------------------------------------------------------------------------- samples

    async def _draw(self, request: Request) -> list[Sample]:
        if request.params.form:
            raise ValueError("answers of vLLM are not held to a form; leave it out and check what comes")
        indices = range(request.first, request.first + request.n)
        return await gathered([self._sample(request, index, _Told()) for index in indices])

    def _begin(self, stream: Stream, prompt_ids: tuple[int, ...], params: SamplingParams, first: int) -> None:
        request = self._request(prompt_ids, params, n=1, first=first, streamed=True)
        splitter = self._splitter(request)
        told = _Told(lambda ids: stream.emit(splitter.feed(ids)))

        async def work() -> None:
            try:
                sample = await self._sample(request, first, told)
            except Exception as error:  # whatever it is, it belongs to whoever reads the stream
                return stream.fail(error)
            stream.emit(splitter.finish(sample.token_ids[splitter.num_fed :]))
            stream.finish(self._completion(request, sample))

        def answer_now() -> None:
            told.answer_now = True

        stream.on_close = asyncio.ensure_future(work()).cancel
        stream.on_answer_now = answer_now

    async def _sample(self, request: Request, index: int, told: _Told) -> Sample:
        """One sample, under the rules of a completion that engine/scheduler.py has."""
        params, sample = request.params, Sample(index=index, finish_reason="window")
        room = self.config.max_position_embeddings - len(request.prompt_ids)
        if room < 1:
            return sample
        limit, seed = min(room, params.max_tokens or room), sample_seed(params.seed, index)
        load = min(params.max_reasoning_tokens + 1 + params.max_answer_tokens, limit)
        self._load += load
        try:
            is_open = request.opened and self.tokenizer.unthink_id is not None
            is_over = is_open and await self._reason(request, sample, told, seed=seed, room=room, limit=limit)
            begun = len(sample.token_ids)
            left = 0 if is_over else min(params.max_answer_tokens, limit - begun)
            if is_over:
                pass
            elif left and await self._answer(request, sample, told, seed=seed, left=left):
                sample.finish_reason = "stop"
            elif len(sample.token_ids) - begun >= params.max_answer_tokens or limit < room:
                sample.finish_reason = "length"
        finally:
            self._load -= load
        if sample.versions:  # a forced token at the end goes with what came before it
            sample.versions[-1] = *sample.versions[-1][:2], len(sample.token_ids)
        return sample

    async def _reason(self, request: Request, sample: Sample, told: _Told, *, seed: int, room: int, limit: int) -> bool:
        """Draw the reasoning and its closing mark; whether the completion ended with it."""
        params, close, ends = request.params, self.tokenizer.unthink_id, self.tokenizer.end_ids
        kept = 1 + min(params.max_answer_tokens, room // 2)  # of the window, for the mark and the answer
        cap = min(params.max_reasoning_tokens, room - kept, limit)

        def enough(ids: list[int]) -> bool:
            told.say(ids[-1:])
            if params.pause and ids[-1] not in (close, *ends):
                step = self.tokenizer.decode(ids).lstrip()  # a step has words before what ends it
                if any(pause in step for pause in params.pause):
                    sample.finish_reason = "pause"
            return told.answer_now or sample.finish_reason == "pause"

        if cap > 0 and not told.answer_now:
            part = await self._ask(
                request, sample, seed=seed, limit=cap, stops=(close, *ends), least=params.min_reasoning_tokens,
                enough=enough if told.tokens or params.pause else None,
            )  # fmt: skip
            _add(sample, part)
        last = sample.token_ids[-1] if sample.token_ids else None
        if last in ends:
            sample.finish_reason = "stop"
        if last in ends or sample.finish_reason == "pause":
            return True
        if last != close and len(sample.token_ids) < limit:  # the budget is spent
            assert close is not None
            told.say([close])
            sample.token_ids.append(close)
            sample.logprobs.append(0.0)
            sample.sampled.append(False)
        return False

    async def _answer(self, request: Request, sample: Sample, told: _Told, *, seed: int, left: int) -> bool:
        """Draw the answer; whether it ended by itself. What breaks off at a mark that no answer may hold goes on with
        another seed: that draws from all tokens but marks, and log-probabilities stay those of the whole vocabulary."""
        params, tokenizer, begun = request.params, self.tokenizer, len(sample.token_ids)
        marks = tuple(mark for mark in (tokenizer.think_id, tokenizer.unthink_id) if mark is not None)
        unwanted = () if not request.guarded else marks if self._closes_once else marks[:1]
        is_stopped = False

        def enough(ids: list[int]) -> bool:
            nonlocal is_stopped
            if ids[-1] in unwanted:
                return False  # the server stops there itself
            told.say(ids[-1:])
            if params.stop:
                answer = tokenizer.decode([*sample.token_ids[begun:], *ids])
                is_stopped = any(stop in answer for stop in params.stop)
            return is_stopped

        for number in itertools.count(1):
            part = await self._ask(
                request, sample, seed=sample_seed(seed, number), limit=begun + left - len(sample.token_ids),
                stops=(*tokenizer.end_ids, *unwanted), enough=enough if told.tokens or params.stop else None,
                ruled_out=marks if unwanted and number > 1 and (number > REDRAWS or params.temperature == 0) else (),
            )  # fmt: skip
            is_broken = part.token_ids[-1] in unwanted
            _add(sample, part, count=len(part.token_ids) - is_broken)
            if not is_broken or number > 2 * REDRAWS:
                break
        return is_stopped or sample.token_ids[-1] in tokenizer.end_ids

    # --------------------------------------------------------------------------------------------------- requests

    async def _ask(
        self, request: Request, sample: Sample, *, seed: int, limit: int, stops: Sequence[int | None], least: int = 0,
        ruled_out: Sequence[int] = (), enough: Enough | None = None,
    ) -> _Part:  # fmt: skip
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
            part = _Part()
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

    def _check(self, part: _Part, asked_at: int) -> None:
        """Whether what was drawn is of the weights that it was asked of, or of later ones."""
        # what was read only in part does not say
        part.versions = part.versions or [(asked_at, 0, len(part.token_ids))]
        strange = [version for version, _, _ in part.versions if not asked_at <= version <= self.policy_version]
        if not part.token_ids or strange:
            what = f"drew with weights of version {strange[0]}, not {asked_at}" if strange else "drew nothing"
            raise EngineError(f"the vLLM server {what}: was it started anew, or is it used by somebody else?")

    # ---------------------------------------------------------------------------------------------------- weights

    def update_weights(self, weights: Mapping[str, Tensor] | Path, *, version: int) -> None:
        """weights: tensors, or a folder with a safetensors file that the server can read too.

        What runs stops between two tokens, is read again by the new weights, and goes on with them.
        """
        folder = weights if isinstance(weights, Path) else self._written(weights)
        self._server.control("/pause?mode=keep&clear_cache=true")
        try:
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
        told = self._server.rpc("ponder_load", str(folder.resolve()))
        if not all(isinstance(one, dict) and {"head", "changed"} <= set(one) for one in told):
            raise EngineError(f"vLLM's workers answered {str(told)[:200]}; do they have ponder_vllm.Extension?")
        heads = {one["head"] for one in told}
        if "wrong" in heads:
            raise EngineError("vLLM's output head does not compute with the new weights, and could not be put right")
        if "right" in heads and all(one["changed"] for one in told):
            _log.info("vLLM puts a tied head right by itself: the repair in inside_vllm/ponder_vllm.py can go")

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
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


def _read(choice: Mapping[str, Any], vocab_size: int, most: int, left: int) -> _Part:
    """What a choice says, checked: what is trained on must not be another's mistake. left: tokens that may come."""
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
    return _Part(ids, [float(value) for value in logprobs], versions)


def _take(part: _Part, choice: Mapping[str, Any], vocab_size: int, most: int, enough: Enough | None) -> bool:
    """Add what a choice holds; whether that is enough. most: tokens that were asked for."""
    found = _read(choice, vocab_size, most, most - len(part.token_ids))
    part.versions += found.versions
    for token, logprob in zip(found.token_ids, found.logprobs, strict=True):
        part.token_ids.append(token)
        part.logprobs.append(logprob)
        if enough is not None and enough(part.token_ids):
            return True
    return False


def _add(sample: Sample, part: _Part, *, count: int | None = None) -> None:
    """The first `count` tokens of a part behind a sample, with who drew which."""
    count, begun = len(part.token_ids) if count is None else count, len(sample.token_ids)
    for version, _, end in part.versions:
        reached = sample.versions[-1][2] if sample.versions else 0  # a forced token goes with what follows it
        if sample.versions and sample.versions[-1][0] == version:
            sample.versions[-1] = version, sample.versions[-1][1], begun + min(end, count)
        elif begun + min(end, count) > reached:
            sample.versions.append((version, reached, begun + min(end, count)))
    sample.token_ids += part.token_ids[:count]
    sample.logprobs += part.logprobs[:count]
    sample.sampled += [True] * count


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
