"""Any OpenAI-compatible chat endpoint as an Engine: vLLM, llama.cpp, SGLang, Ollama, OpenAI, ponder's own server.

    engine = RemoteEngine("http://localhost:8000/v1", "Qwen/Qwen3-0.6B")        # pip install "ponder[remote]"
    completions = await engine.generate([Message(role="user", content="2+2?")], SamplingParams(), n=8)

What such a server does not tell is left empty, never made up: token ids, logprobs and `sampled` are (), so nothing
can be trained on these completions, and `counted` holds the server's own usage. Its total over n samples is divided by
the length of their texts, and so is the reasoning's share where the server does not count it. Reasoning of more tokens
than the completion has was counted beside it, and both make the total.

Many servers leave the reasoning in the text; it is taken out by its marks (marked.py), beside a field for it too. A
text without marks that a limit cut may be reasoning whose closing mark never came. It is taken for that until the model
has been seen to end an answer by itself, and never to think.

What such a server cannot promise: budgets are one limit on reasoning and answer together (an answer may be missing),
`min_reasoning_tokens` is refused, seeds are passed on but a completion may depend on the server's batch. Stop strings
cut the answer here, as a server would apply them to the reasoning too. A server that refuses n > 1, a seed or the name
`max_tokens` is asked without. The key is read from OPENAI_API_KEY and appears in no message.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ponder.engine.base import BaseEngine, gather_or_cancel, refuse_form
from ponder.engine.marked import has_marks, split_marked
from ponder.files import well_formed
from ponder.types import Completion, FinishReason, Message, SamplingParams, Usage, sample_seed

if TYPE_CHECKING:
    import httpx

# a tool's result is something the model is told; few servers know developer
_ROLES = {"system": "system", "developer": "system", "user": "user", "tool": "user", "assistant": "assistant"}
_RETRIED = (408, 409, 425, 429)  # and everything from 500
_REFUSED = (400, 422, 501)  # what servers say to a parameter that they do not know
_CUT_BY_LIMIT = ("length", "max_tokens", "model_length")  # what servers call it
_CUT = (*_CUT_BY_LIMIT, "content_filter", "abort", "error")  # it did not end by itself
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for


class RemoteError(RuntimeError):
    """The endpoint cannot be reached or refused; `status` is its HTTP status, 0 where it gave none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Habits:
    """What a model has been seen to do."""

    thinks: bool = False
    answers: bool = False  # by itself, and without a thought

    @property
    def is_plain(self) -> bool:
        return self.answers and not self.thinks

    def saw(self, choice: Mapping[str, Any]) -> None:
        message = _mapping(choice.get("message"))
        field, said = _fields(message)
        self.thinks = self.thinks or bool(field) or has_marks(said)
        self.answers = self.answers or (choice.get("finish_reason") not in _CUT and bool(said.strip()))


class RemoteEngine(BaseEngine):
    """Samples from a chat completions endpoint; `base_url` ends where /chat/completions is added."""

    # `failure` stays None: an endpoint that cannot be reached now may be back for the next request

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        max_concurrency: int = 16,
        max_retries: int = 5,
        timeout: float = 600.0,
        first_wait: float = 0.5,
    ) -> None:
        """timeout: seconds for one request. first_wait: seconds before the first retry; each next one waits twice."""
        try:
            import httpx
        except ImportError:
            raise RemoteError('a remote engine needs httpx: pip install "ponder[remote]"') from None
        try:
            is_url = httpx.URL(base_url).scheme in ("http", "https") and bool(httpx.URL(base_url).host)
        except httpx.InvalidURL:
            is_url = False
        if not is_url:
            raise ValueError(f"base_url={base_url!r} is no address; write it as http://localhost:8000/v1")
        self.model = model
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._key = (api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")).strip()
        if not all("!" <= char <= "~" for char in self._key):
            raise ValueError("the API key holds spaces or other characters that no key has; copy it again")
        self._max_concurrency, self._max_retries = max_concurrency, max_retries
        self._timeout, self._first_wait = timeout, first_wait
        self._loop: asyncio.AbstractEventLoop | None = None
        self._habits = _Habits()
        # what this server has been found to refuse
        self._limit_key, self._takes_seed, self._takes_n = "max_tokens", True, True

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        """n completions of a conversation, in order of their sample index."""
        if n < 1:
            raise ValueError(f"n={n} asks for no samples; use at least 1")
        if params.min_reasoning_tokens:
            raise ValueError("min_reasoning_tokens needs an engine that sees tokens; leave it 0 with a remote engine")
        refuse_form(params)
        messages = _messages(prompt)
        completions: list[Completion] = []
        if n > 1 and self._takes_n:
            try:
                completions = await self._request(messages, params, n, first)
            except RemoteError as error:
                if error.status not in _REFUSED:
                    raise
        missing = range(first + len(completions), first + n)  # all, or what a server that ignores n left out
        singles = await gather_or_cancel([self._request(messages, params, 1, index) for index in missing])
        if n > 1 and missing:
            self._takes_n = False  # known only now: what was refused above may have been the prompt
        return completions + [completion for single in singles for completion in single]

    async def _request(
        self, messages: list[dict[str, str]], params: SamplingParams, n: int, first: int
    ) -> list[Completion]:
        """One request of n samples, retried and adapted until the server answers or refuses for good."""
        self._connect()
        async with self._slots:
            tries = 0
            while True:
                body = self._body(messages, params, n, first)
                status, answer, wait = await self._post(body)
                if status == 200:
                    return _completions(answer, params, n, first, self._habits)
                if status in _REFUSED and self._adapt(body, answer):
                    continue
                message = self._explain(status, answer)
                if not (status == 0 or status in _RETRIED or (status >= 500 and status not in _REFUSED)):
                    raise RemoteError(message, status)
                if tries == self._max_retries:
                    raise RemoteError(f"{message} (tried {tries + 1} times)", status)
                backoff = self._first_wait * 2**tries * random.uniform(0.75, 1.25)  # not all clients at once
                await asyncio.sleep(min(_LONGEST_WAIT, max(backoff, wait)))
                tries += 1

    def _connect(self) -> None:
        """A client for the running event loop: connections and semaphores cannot move to another one."""
        import httpx

        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # a connection a request: beside a completion that costs nothing, and none is left open for anyone to close
            limits = httpx.Limits(max_connections=self._max_concurrency, max_keepalive_connections=0)
            timeout = httpx.Timeout(self._timeout, connect=min(20.0, self._timeout))
            self._client: httpx.AsyncClient = httpx.AsyncClient(limits=limits, timeout=timeout)
            self._slots = asyncio.Semaphore(self._max_concurrency)
            self._loop = loop

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Any, float]:
        """(status, decoded body or text, seconds the server asks to wait); status 0 = no answer."""
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            async with asyncio.timeout(self._timeout):  # httpx counts the time between two bytes only
                response = await self._client.post(self._url, json=body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            return 0, f"no answer within {self._timeout:g} s", 0.0
        except httpx.HTTPError as error:
            return 0, str(error) or type(error).__name__, 0.0
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = response.text
        return response.status_code, answer, _retry_after(response.headers.get("retry-after", ""))

    def _body(self, messages: list[dict[str, str]], params: SamplingParams, n: int, first: int) -> dict[str, Any]:
        limit = params.max_reasoning_tokens + params.max_answer_tokens
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": params.temperature,
            "top_p": params.top_p,
            self._limit_key: min(limit, params.max_tokens or limit),
        }
        if n > 1:
            body["n"] = n
        if self._takes_seed:
            body["seed"] = sample_seed(params.seed, first) >> 32  # some servers take 32 bits
        return body

    def _adapt(self, body: Mapping[str, Any], answer: Any) -> bool:
        """Whether the server named a parameter that can be sent otherwise; the next request then is."""
        message = _error_message(answer)
        if "max_tokens" in body and "max_completion_tokens" in message:
            self._limit_key = "max_completion_tokens"
            return True
        if "seed" in body and "seed" in message:
            self._takes_seed = False
            return True
        return False

    def _explain(self, status: int, answer: Any) -> str:
        """What went wrong and the fix, in a line without secrets."""
        fixes = {
            401: "; set OPENAI_API_KEY, or pass api_key",
            403: "; set OPENAI_API_KEY, or pass api_key",
            404: f"; check base_url (it usually ends in /v1) and the model's name {self.model!r}",
        }
        message = _error_message(answer)[:300] or "no reason given"
        what = f"{self._url} answered {status}" if status else f"{self._url} cannot be reached"
        return self._hide(f"{what}: {message}{fixes.get(status, '')}")

    def _hide(self, message: str) -> str:
        if len(self._key) > 5:  # a shorter one is no secret ("none", "x"), and would turn up in any text
            message = message.replace(self._key, "***")
        _, _, rest = self._url.partition("://")
        user, at, _ = rest.partition("/")[0].rpartition("@")
        return message.replace(user + at, "") if user else message


def _messages(prompt: Sequence[Message] | Sequence[int]) -> list[dict[str, str]]:
    messages = [message for message in prompt if isinstance(message, Message)]
    if not messages or len(messages) != len(prompt):
        raise ValueError("a chat endpoint takes messages, not token ids; use a local engine for token ids")
    return [{"role": _ROLES[message.role], "content": well_formed(message.content)} for message in messages]


def _completions(answer: Any, params: SamplingParams, n: int, first: int, habits: _Habits) -> list[Completion]:
    """The choices of a response, at most n; a server may return fewer."""
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, Mapping) for choice in choices):
        raise RemoteError(f"the endpoint answered without choices: {_error_message(answer)[:300]!r}; check base_url")
    choices = sorted(choices, key=lambda choice: _count(choice.get("index")))[:n]
    for choice in choices:
        habits.saw(choice)
    texts = [
        _read(choice.get("message"), params.stop, may_think=choice.get("finish_reason") in _CUT and not habits.is_plain)
        for choice in choices
    ]
    usage = _mapping(answer.get("usage"))
    lengths = [len(reasoning) + len(said) + 1 for reasoning, said, _ in texts]
    total, details = _count(usage.get("completion_tokens")), _mapping(usage.get("completion_tokens_details"))
    if "reasoning_tokens" in details:
        thought = _count(details["reasoning_tokens"])
        rest = total if thought > total else total - thought  # some servers count the reasoning beside the completion
        shown = [len(reasoning) for reasoning, _, _ in texts]  # one that hides its reasoning counts it all the same
        reasoned = _divide(thought, shown if any(shown) else lengths)
        others = _divide(rest, [len(said) + 1 for _, said, _ in texts])
        counts = [sum(parts) for parts in zip(reasoned, others, strict=True)]
    else:
        counts = _divide(total, lengths)
        shares = zip(counts, texts, lengths, strict=True)
        reasoned = [count * len(reasoning) // length for count, (reasoning, _, _), length in shares]
    return [
        Completion(
            prompt_ids=(),
            token_ids=(),
            sampler_logprobs=(),
            sampled=(),
            finish_reason=_finish(choice, is_stopped),
            reasoning=reasoning,
            answer=said,
            num_reasoning_tokens=num_reasoning,
            seed=sample_seed(params.seed, first + index),
            counted=Usage(
                prompt_tokens=_count(usage.get("prompt_tokens")),
                reasoning_tokens=num_reasoning,
                completion_tokens=count,
                samples=1,
            ),
        )
        for index, (choice, (reasoning, said, is_stopped), count, num_reasoning) in enumerate(
            zip(choices, texts, counts, reasoned, strict=True)
        )
    ]


def _read(message: Any, stop: Sequence[str], *, may_think: bool = False) -> tuple[str, str, bool]:
    """(reasoning, answer, whether a stop string ended it) of a choice's message. may_think: where nothing in it says
    what is what, it is reasoning."""
    field, said = _fields(_mapping(message))
    if may_think and not field and not has_marks(said):
        return said, "", False
    marked, said = split_marked(said)
    cuts = [index for index in (said.find(text) for text in stop if text) if index >= 0]
    reasoning = "\n\n".join(filter(None, (field, marked)))
    return reasoning, said[: min(cuts)] if cuts else said, bool(cuts)


def _fields(message: Mapping[str, Any]) -> tuple[str, str]:
    """(what a field for it says of the reasoning, the text) as the server gave them."""
    return _text(message.get("reasoning_content")) or _text(message.get("reasoning")), _text(message.get("content"))


def _finish(choice: Mapping[str, Any], is_stopped: bool) -> FinishReason:
    return "length" if choice.get("finish_reason") in _CUT_BY_LIMIT and not is_stopped else "stop"


def _text(content: Any) -> str:
    """A string, or the text parts of a list of parts."""
    if isinstance(content, list):
        return "".join(_text(_mapping(part).get("text")) for part in content)
    return content if isinstance(content, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _divide(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number divided by weights into whole numbers that add up to it."""
    whole, parts, so_far, given = sum(weights), [], 0, 0
    for weight in weights:
        so_far += weight
        until = total * so_far // whole if whole else 0
        parts.append(until - given)
        given = until
    return parts


def _error_message(answer: Any) -> str:
    """The message in an error body, whose form every server chooses for itself; one line."""
    while isinstance(answer, Mapping):
        answer = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), str(dict(answer)))
    return " ".join(str(answer).split())


def _retry_after(value: str) -> float:
    """Seconds in a retry-after header: a number, or a date."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
