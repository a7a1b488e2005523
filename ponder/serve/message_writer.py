"""Writes a message of Anthropic's Messages API: blocks into `content`, events in that API's order.

    message_start, ping, then a block at a time: content_block_start, content_block_delta ..., content_block_stop,
    and message_delta (why it ended, the tokens), message_stop

A `thinking` block holds the summary, or nothing, and a signature: the sealed reasoning. Where the client did not ask
for thinking there is no such block. Stop sequences are found here, in the text, as no engine tells which one ended it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ponder.serve.items import new_id
from ponder.serve.thoughts import Thoughts
from ponder.serve.tools import Call


class StopFound(Exception):
    """A stop sequence was written: nothing more is to be drawn."""


class StopScanner:
    """Text in any portions -> text up to the first stop sequence; what may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """What may be sent now. Once a stop sequence is complete this is the text before it, and `found` is set."""
        text, self._held = self._held + text, ""
        ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if ends:  # the one that was complete first, as for an engine that stops there
            end, _, self.found = min(ends)
            return text[: end - len(self.found)]
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                text, self._held = text[:-size], text[-size:]
                break
        return text

    def finish(self) -> str:
        """What was held back and turned out to be no stop sequence."""
        text, self._held = self._held, ""
        return text


class MessageWriter:
    """A `ResponseWriter`; `content` holds the blocks of the message so far."""

    def __init__(
        self, emit: Callable[[str, Mapping[str, Any]], None], *, seal: Callable[[str, Thoughts], str],
        shows_thinking: bool, stops: Sequence[str],
    ) -> None:  # fmt: skip
        """seal: (the text of the block, the thoughts) -> its signature."""
        self._emit, self._seal, self._shows_thinking = emit, seal, shows_thinking
        self.scanner = StopScanner(stops)
        self.content: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._has_thought = False
        self.first_visible: float | None = None

    # --- what is generated, as ResponseWriter -------------------------------------------------------------------------

    def begin_reasoning(self) -> None:
        """Open the message's one thinking block, if the client asked for thinking; later calls do nothing."""
        if self._shows_thinking and not self._has_thought:
            self._has_thought = True
            self._begin({"type": "thinking", "thinking": "", "signature": ""})

    def add_summary(self, text: str) -> None:
        """Add a paragraph to the open thinking block; without one the summary is dropped."""
        block = self._open
        if block is not None and block["type"] == "thinking":
            text = ("\n\n" if block["thinking"] else "") + text
            block["thinking"] += text
            self._delta({"type": "thinking_delta", "thinking": text})

    def end_reasoning(self, thoughts: Thoughts, *, cut: bool) -> None:
        """Sign and close the open thinking block; without one nothing is sealed."""
        block = self._open
        if block is not None and block["type"] == "thinking":
            block["signature"] = self._seal(block["thinking"], thoughts)
            self._delta({"type": "signature_delta", "signature": block["signature"]})
            self._end()

    def add_text(self, text: str) -> None:
        """Raises StopFound at a stop sequence, once the text before it is written."""
        if self.first_visible is None:
            self.first_visible = time.monotonic()
        self._write_text(self.scanner.feed(text))
        if self.scanner.found is not None:
            raise StopFound

    def add_call(self, call: Call) -> None:
        """Write a call as a block of its own; the text before it ends."""
        self.finish()
        block = {"type": "tool_use", "id": "toolu_" + new_id("t")[2:26], "name": call.name, "input": {}}
        self._begin(block)
        self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        block["input"] = json.loads(call.arguments)
        self._end()

    def finish(self) -> None:
        """What was held back, and the end of the block that is open."""
        if self.scanner.found is None:
            self._write_text(self.scanner.finish())
        self._end()

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _write_text(self, text: str) -> None:
        if not text:
            return
        if self._open is None or self._open["type"] != "text":
            self._end()
            self._begin({"type": "text", "text": ""})
        assert self._open is not None
        self._open["text"] += text
        self._delta({"type": "text_delta", "text": text})

    def _begin(self, block: dict[str, Any]) -> None:
        self.content.append(block)
        self._open = block
        self._emit("content_block_start", {"index": len(self.content) - 1, "content_block": dict(block)})

    def _delta(self, delta: Mapping[str, Any]) -> None:
        self._emit("content_block_delta", {"index": len(self.content) - 1, "delta": delta})

    def _end(self) -> None:
        if self._open is not None:
            self._open = None
            self._emit("content_block_stop", {"index": len(self.content) - 1})
