"""A model as the server offers it: an engine under a name, with all that is known of it and follows from both.

One server has several, each by its own name. Whatever depends on the model (window, tokenizer, modes, effort levels,
when two answers are the same) is asked of it here and nowhere else.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponder.config import ConfigError
from ponder.efforts import Efforts
from ponder.serve.modes import ComputePlan, compute_plan, offered_modes, published
from ponder.serve.schema import Compute
from ponder.serve.summary import ModelSummarizer, Summarizer
from ponder.strategies import STRATEGIES
from ponder.strategies.keys import answer_key
from ponder.strategies.submit import Testers
from ponder.types import Engine, Scorer, Strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A model under its name. temperature: of every sample, as clients cannot choose it."""

    name: str
    engine: Engine
    temperature: float = 1.0
    efforts: Efforts | None = None  # measured levels; None: caps that double
    key: Callable[[str], str | None] = field(default_factory=answer_key)  # when two answers are the same for a vote
    scorer: Scorer | None = None
    summarizer: Summarizer | None = None  # None: the model itself
    strategies: Mapping[str, Strategy] = field(default_factory=lambda: STRATEGIES)
    testers: Testers | None = None  # what runs programs, for mode submit; None: that mode is not offered

    @property
    def tokenizer(self) -> Any:
        """None where the engine has none here, as at a remote endpoint."""
        return self.engine.tokenizer

    @property
    def window(self) -> int | None:
        """Tokens that a prompt and its completion share; None where that is not known."""
        return self.engine.window

    @functools.cached_property
    def modes(self) -> dict[str, Strategy]:
        """Its strategies by the names of the modes; `standard` is not among them."""
        return offered_modes(self.strategies, self.scorer, self.testers)

    @property
    def longest_token(self) -> int | None:
        """Characters that one token covers at most; None where that is not known."""
        return getattr(self.tokenizer, "longest_token", None)

    @property
    def has_marks(self) -> bool:
        """Its tokens have marks for reasoning."""
        return self.tokenizer is not None and self.tokenizer.think_id is not None

    def fits(self, num_characters: int) -> bool:
        """False for a text that no tokenisation can fit into the window, which is known before any."""
        return self.window is None or self.longest_token is None or num_characters <= self.window * self.longest_token

    def summarize_with(self) -> Summarizer:
        return self.summarizer or ModelSummarizer(self.engine)

    def compute(
        self, *, effort: str | None, mode: str | None, compute: Compute | None, limit: int | None,
        num_prompt_tokens: int, **more: Any,
    ) -> ComputePlan:  # fmt: skip
        """`compute_plan` with this model's window, modes, effort levels and temperature. Raises ApiError for what
        cannot be had."""
        return compute_plan(
            effort=effort, mode=mode, compute=compute, limit=limit, num_prompt_tokens=num_prompt_tokens,
            window=self.window, offered=self.modes, efforts=self.efforts, temperature=self.temperature, **more,
        )  # fmt: skip

    def card(self, created: int) -> dict[str, Any]:
        """Its entry in /v1/models."""
        return {
            "id": self.name, "object": "model", "created": created, "owned_by": "ponder",
            "type": "model", "display_name": self.name,  # Anthropic's words for the same
            "lifecycle": "active", "max_input_tokens": self.window,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
            "context_window": self.window, "modes": ["standard", *sorted(self.modes)],
            "efforts": published(self.efforts),
        }  # fmt: skip


def by_name(models: Sequence[ServedModel]) -> dict[str, ServedModel]:
    """Models under their names, each of which is there once."""
    found = {model.name: model for model in models}
    if not models or len(found) < len(models) or "" in found:
        names = ", ".join(repr(model.name) for model in models) or "none"
        raise ConfigError(f"a server needs one model or more, each with a name of its own, and got {names}")
    return found
