"""Tokens: text <-> ids, conversations -> prompts, and the marks that separate reasoning from answer.

The marks are token *ids* that no text can encode to: a user who types "</think>" types eight characters. Tokens go in,
tokens come out; only `decode` turns ids into text, once, for people. `ByteTokenizer` needs no files and serves `nano`
and the tests; `HFTokenizer` (models/hf_tokenizer.py) reads tokenizer.json with the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ponder.types import Message


class Tokenizer(Protocol):
    """Text <-> ids of one model. The marks of reasoning are ids of their own, which no text encodes to."""

    vocab_size: int
    end_id: int  # ends a message: what a completion ends with, in training too
    pad_id: int

    @property
    def think_id(self) -> int | None:
        """Opens reasoning; None = the model has no reasoning marks and all of its text is answer."""
        ...

    @property
    def unthink_id(self) -> int | None:
        """Closes reasoning."""
        ...

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Sampling any of them ends the completion; `end_id` is the first."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a special token, whatever the text says."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out, broken UTF-8 becomes U+FFFD."""
        ...

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt for the next assistant message, its reasoning already opened where there are marks."""
        ...

    def save(self, folder: str) -> None:
        """Write what `load_tokenizer` needs into a model folder."""
        ...


def is_byte_level(tokenizer: object) -> bool:
    """Whether its tokens spell bytes, which `byte_pieces` says and a form of answers needs. It may then know its
    `longest_token`, too: the characters that one covers at most."""
    return getattr(tokenizer, "is_byte_level", False)


class ByteTokenizer:
    """256 bytes and eight marks: 264 ids, no files.

    [user] text [end] [assistant] [think] reasoning [/think] answer [end]
    """

    MARKS = ("bos", "user", "assistant", "end", "think", "/think", "system", "pad")
    vocab_size = 256 + len(MARKS)
    is_byte_level = True
    longest_token = 1
    bos_id, user_id, assistant_id, end_id, think_id, unthink_id, system_id, pad_id = range(256, 264)
    # a tool's result is something the model is told: it reads as a user message
    _ROLES = {
        "system": system_id, "developer": system_id, "user": user_id, "tool": user_id, "assistant": assistant_id,
    }  # fmt: skip

    @property
    def end_ids(self) -> tuple[int, ...]:
        return (self.end_id,)

    def byte_pieces(self) -> list[bytes | None]:
        """The bytes of every token; None for marks."""
        return [bytes([token]) if token < 256 else None for token in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", errors="surrogatepass"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")

    def render(self, messages: Sequence[Message]) -> list[int]:
        ids = [self.bos_id]
        for message in messages:
            ids += [self._ROLES[message.role], *self.encode(message.content), self.end_id]
        return [*ids, self.assistant_id, self.think_id]

    def save(self, folder: str) -> None:
        import json
        from pathlib import Path

        from ponder.files import write_atomic

        text = json.dumps({"tokenizer_class": "PonderByteTokenizer", "model_max_length": 1_000_000}, indent=1)
        write_atomic(Path(folder) / "tokenizer_config.json", text + "\n")


class ReasoningParser:
    """Which tokens of a completion are reasoning and which are its answer: the one rule, for tokens as they come.

    Reasoning is what stands before a closing mark, and what an opening mark in the answer begins, up to the next
    closing mark or to the end. So a closing mark in an answer makes all that was answer before it reasoning. An opening
    mark inside reasoning means nothing. End marks, and marks that open or close a block, are neither.
    """

    def __init__(self, *, think_id: int | None, unthink_id: int | None, end_ids: Sequence[int], opened: bool) -> None:
        """opened: the prompt left the reasoning open."""
        self._think_id, self._unthink_id, self._end_ids = think_id, unthink_id, frozenset(end_ids)
        self.is_thinking = opened
        self.reasoning: list[int] = []
        self.answer: list[int] = []

    def take(self, ids: Sequence[int]) -> None:
        """Sort further ids into `reasoning` and `answer`; a closing mark may move all of the answer into the
        reasoning."""
        for token in ids:
            if token in self._end_ids:
                continue
            if token == self._unthink_id:
                if not self.is_thinking:
                    # with the mark that seemed to end it, so that the reasoning stays what stands before the last one
                    self.reasoning += [token, *self.answer]
                    self.answer = []
                self.is_thinking = False
            elif token == self._think_id and not self.is_thinking:
                self.is_thinking = True
            else:
                (self.reasoning if self.is_thinking else self.answer).append(token)


def split_reasoning(tokenizer: Tokenizer, token_ids: Sequence[int], *, opened: bool) -> tuple[list[int], list[int]]:
    """A whole completion's ids -> (reasoning ids, answer ids), by the rule of `ReasoningParser`."""
    parser = ReasoningParser(
        think_id=tokenizer.think_id, unthink_id=tokenizer.unthink_id, end_ids=tokenizer.end_ids, opened=opened
    )
    parser.take(token_ids)
    return parser.reasoning, parser.answer


def reasoning_is_open(tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> bool:
    """Whether a prompt ends inside reasoning: its last mark opens."""
    for token in reversed(prompt_ids):
        if token == tokenizer.think_id:
            return True
        if token == tokenizer.unthink_id or token in tokenizer.end_ids:
            return False
    return False
