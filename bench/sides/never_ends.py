"""A tokenizer whose end mark no model can draw, so that a completion is exactly as long as its cap.

vLLM has `ignore_eos`, transformers takes `eos_token_id=None`; ponder has no such knob, because nobody but a bench needs
it. Nothing is forbidden and nothing is computed for it: no drawn token equals -1. A prompt of plain ids has no open
reasoning, so everything is answer and `max_answer_tokens` is the length. In a file of its own, so that the engine's
workers can import it.
"""

from __future__ import annotations

from typing import Any


class NeverEnds:
    end_id, end_ids = -1, (-1,)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # asked while unpickling, before it is there
            raise AttributeError(name)
        return getattr(self.inner, name)
