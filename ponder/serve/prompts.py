"""From a conversation to what an engine is asked, away from the event loop and within the model's window."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.serve.errors import ApiError, overloaded
from ponder.serve.items import Item, Thought, conversation, prompt_of
from ponder.serve.limits import Charge
from ponder.serve.served import ServedModel
from ponder.types import Message

_LONG = 20_000  # characters of a prompt that takes its time to be tokenised
_MOST_WAITING = 64  # long prompts that wait to be; more are refused


@dataclass(frozen=True)
class EncodedPrompt:
    """A conversation as the engine is asked, the same as messages, and its tokens."""

    asked: Sequence[Message] | Sequence[int]
    messages: list[Message]
    num_tokens: int


class PromptEncoder:
    """Tokenises for all models of a server: a thread for short prompts and one for long ones, which take a core at
    most and hold up nobody else.

    policy: the server's own system message, before everything that a client says. It is put here, after the client's
    items have become messages, so that nothing in a request can take it away, change it or push it out of the window.
    """

    def __init__(self, policy: str = "") -> None:
        self._policy = (Message(role="system", content=policy),) if policy else ()
        self._threads = [concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ponder-tokenize") for _ in "12"]
        self._num_long = 0

    @property
    def is_full(self) -> bool:
        """As many long prompts wait as are allowed; the next one is refused."""
        return self._num_long >= _MOST_WAITING

    def close(self) -> None:
        """Drop the prompts that wait; one that is being encoded is not waited for."""
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)

    async def encode(
        self, model: ServedModel, prompt: Any, placed: Mapping[int, Thought] | None = None
    ) -> tuple[Any, int]:
        """(a prompt as the engine wants it, its tokens): ids, where the engine has a tokenizer. One prompt is encoded
        after the other; raises ApiError where too many long ones wait."""
        if not model.engine.capabilities.token_ids:
            return prompt, 0  # a remote engine counts itself
        is_long = sum(len(part.content) for part in prompt if isinstance(part, Message)) > _LONG
        if is_long and self.is_full:
            raise overloaded("The server is reading as many long prompts as it takes. Please try again later.")
        self._num_long += is_long
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads[is_long], _encode, model, prompt, placed or {})
        finally:
            self._num_long -= is_long

    async def ids(self, model: ServedModel, prompt: Any) -> Any:
        """What a strategy made up on the way, for the engine."""
        is_text = model.tokenizer is not None and prompt and isinstance(prompt[0], Message)
        return (await self.encode(model, prompt))[0] if is_text else prompt

    async def prompt(
        self, model: ServedModel, items: list[Item], thoughts: Mapping[str, Thought], *, param: str, truncate: bool,
        charge: Charge, **parts: Any,
    ) -> EncodedPrompt:  # fmt: skip
        """A conversation that does not fit is refused, or loses its oldest items if the request said so. Reading is
        charged before it is done."""
        while True:
            messages, placed = conversation(items, thoughts, **parts)
            if not messages:
                raise ApiError(400, f"Missing required parameter: '{param}'.",
                               code="missing_required_parameter", param=param)  # fmt: skip
            messages = [*self._policy, *messages]
            placed = {index + len(self._policy): thought for index, thought in placed.items()}
            size = sum(len(message.content) for message in messages)
            if model.fits(size):
                charge.cover(size)
                try:
                    prompt, count = await self.encode(model, messages, placed)
                except ConfigError as error:  # the chat template refuses the conversation
                    raise ApiError(400, str(error)[:500], code="invalid_value", param=param) from None
                if model.window is None or count <= model.window - 2:
                    return EncodedPrompt(prompt, messages, count)
                length = f"your messages resulted in {count} tokens"
            else:
                assert model.window is not None and model.longest_token is not None
                count = max(model.window, size // model.longest_token)
                length = f"your messages have {size} characters, at least {count} tokens"
            if not truncate or len(items) < 2:
                raise ApiError(
                    400,
                    f"This model's maximum context length is {model.window} tokens. However, {length}. "
                    "Please reduce the length of the messages.",
                    code="context_length_exceeded",
                    param=param,
                )
            items = _without_oldest(items, count, count - model.window + 2)


def read_policy_file(path: Path) -> str:
    """The text of a policy file, for `ponder serve --policy`."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--policy {path} cannot be read as text ({type(error).__name__})") from None
    if not text:
        raise ConfigError(f"--policy {path} is empty; write the rules into it, one a line, or leave the option out")
    return text


def _encode(model: ServedModel, prompt: Any, placed: Mapping[int, Thought]) -> tuple[Any, int]:
    prompt = prompt_of(model.tokenizer, prompt, placed) if placed else prompt
    ids = model.engine.prompt_ids(prompt)
    return (prompt if model.tokenizer is None else ids), len(ids)


def _without_oldest(items: list[Item], num_tokens: int, excess: int) -> list[Item]:
    """Drop the oldest items until about `excess` of the tokens are gone, one at least."""
    sizes = [len(json.dumps(item)) for item in items]
    dropped, wanted = 0, excess / num_tokens * sum(sizes)
    index = 0
    while index < len(items) - 1 and (index == 0 or dropped < wanted):
        dropped += sizes[index]
        index += 1
    return items[index:]
