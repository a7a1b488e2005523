"""A reasoning parser for vLLM's own chat API, by ponder's rule; it runs in vLLM's environment.

    python -m vllm.entrypoints.openai.api_server --model CHECKPOINT \
        --reasoning-parser-plugin .../ponder_reasoning.py --reasoning-parser ponder

The prompt leaves the reasoning open. Reasoning is what stands before the last closing mark, and what an opening mark in
the answer begins, up to the next closing mark or to the end; the answer is the rest. So unclosed thinking is thinking.

In a stream an answer is told as it comes, and cannot be taken back where a closing mark follows it. The parser reads a
stream to its end, so vLLM's parsers of tool calls, which take over after the reasoning, see no stream of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParserManager
from vllm.reasoning.basic_parsers import BaseThinkingReasoningParser

THINK, UNTHINK = "<think>", "</think>"
_MARKS = re.compile(f"({THINK}|{UNTHINK})")


def split(text: str) -> tuple[str, str]:
    """(reasoning, answer) of the text so far after an open mark."""
    reasoning, answer, is_thinking = "", "", True
    for part in _MARKS.split(text):
        if part == UNTHINK:
            if not is_thinking:
                reasoning, answer = reasoning + answer, ""
            is_thinking = False
        elif part == THINK:
            is_thinking = True
        elif is_thinking:
            reasoning += part
        else:
            answer += part
    return reasoning, answer


@ReasoningParserManager.register_module("ponder")
class PonderReasoningParser(BaseThinkingReasoningParser):
    _is_streaming = False  # this instance tells a stream; the one that watches over grammars does not

    @property
    def start_token(self) -> str:
        return THINK

    @property
    def end_token(self) -> str:
        return UNTHINK

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        reasoning, answer = split(model_output)
        return reasoning or None, answer or None

    def extract_reasoning_streaming(
        self, previous_text: str, current_text: str, delta_text: str, previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int], delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:  # fmt: skip
        self._is_streaming = True
        (thought, said), (reasoning, answer) = split(previous_text), split(current_text)
        new_reasoning, new_answer = reasoning[len(thought) :], answer[len(said) :]
        if not new_reasoning and not new_answer:
            return None
        return DeltaMessage(reasoning=new_reasoning or None, content=new_answer or None)

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        return not self._is_streaming and self.end_token_id in delta_ids

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Of a completion after an open mark: by ids, as ponder counts."""
        reasoning, answer, is_thinking = 0, 0, True
        for token in token_ids:
            if token == self.end_token_id:
                if not is_thinking:
                    reasoning, answer = reasoning + 1 + answer, 0
                is_thinking = False
            elif token == self.start_token_id and not is_thinking:
                is_thinking = True
            elif is_thinking:
                reasoning += 1
            else:
                answer += 1
        return reasoning
