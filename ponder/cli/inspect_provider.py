"""ponder's models in Inspect, which finds this file by its entry point (pyproject.toml).

    inspect eval my_task.py --model ponder/nano --reasoning-tokens 256 --max-tokens 64 --epochs 8
    inspect eval my_task.py --model ponder/runs/my_rl -M temperature=0.7

The model is opened in Inspect's process; an answer is the visible part, the reasoning stays hidden and is counted.
`reasoning_tokens` (256) and `max_tokens` (64) are the limits of reasoning and answer, `num_choices`, `seed` and
`temperature` (1) are taken too; without a seed every sample has its own, with one all epochs are copies. Refused, as
nothing here would keep to it: tools, other sampling settings, messages of tools, pictures. To measure with ponder's own
intervals, `ponder import` the log.
"""

from __future__ import annotations

import secrets
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)

from ponder.config import ConfigError
from ponder.types import Completion, Message, Role, SamplingParams

REFUSED = ("top_p", "top_k", "stop_seqs", "frequency_penalty", "presence_penalty", "logit_bias", "response_schema")
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_REASONS: dict[str, Any] = {"stop": "stop", "length": "max_tokens", "window": "model_length"}


@modelapi(name="ponder")
def ponder() -> type[ModelAPI]:
    """The provider, by the name before the slash."""
    return PonderModel


class PonderModel(ModelAPI):
    """One model, opened here."""

    def __init__(
        self, model_name: str, base_url: str | None = None, api_key: str | None = None,
        config: GenerateConfig | None = None, temperature: float = 1.0, **unknown: Any,
    ) -> None:  # fmt: skip
        config = config or GenerateConfig()
        super().__init__(model_name, base_url, api_key, [], config)
        if unknown:
            raise ConfigError(f"ponder's models take no -M {next(iter(unknown))}; there is -M temperature=...")
        from ponder.cli.loading import open_engine

        self._temperature = temperature
        self._engine = open_engine(model_name, base_url, api_key=api_key, num_workers=0)  # the process is Inspect's

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: GenerateConfig) -> ModelOutput:
        drawn = await self._engine.generate(
            messages_of(input, tools), params_of(config, self._temperature), n=config.num_choices or 1
        )
        return output_of(drawn, self.model_name)

    def max_connections(self) -> int:
        return 64  # samples of one batch

    def connection_key(self) -> str:
        return self.model_name

    async def aclose(self) -> None:
        await self._engine.aclose()


def messages_of(given: Any, tools: Any) -> tuple[Message, ...]:
    """Inspect's messages as ponder's; refused where they hold more than text."""
    if tools:
        raise ConfigError("ponder's models are not offered Inspect's tools; `ponder serve` takes functions of a client")
    found = []
    for message in given:
        if message.role not in _ROLES:
            raise ConfigError(f"a message of a {message.role} is not taken; there is {', '.join(_ROLES)}")
        parts = () if isinstance(message.content, str) else message.content
        if any(part.type not in ("text", "reasoning") for part in parts):
            raise ConfigError("a message holds more than text")
        found.append(Message(role=_ROLES[message.role], content=message.text))
    return tuple(found)


def params_of(config: GenerateConfig, temperature: float) -> SamplingParams:
    """How Inspect wants it drawn."""
    for name in REFUSED:
        if getattr(config, name, None) is not None:
            raise ConfigError(f"{name} is not taken by ponder's models: they sample as they were trained")
    wished = config.temperature
    return SamplingParams(
        temperature=temperature if wished is None else wished,
        max_reasoning_tokens=256 if config.reasoning_tokens is None else config.reasoning_tokens,
        max_answer_tokens=config.max_tokens or 64,
        seed=secrets.randbits(63) if config.seed is None else abs(config.seed),
    )  # fmt: skip


def output_of(drawn: list[Completion], model: str) -> ModelOutput:
    """Completions as Inspect keeps them: the answers, and what all of it cost."""
    prompt = drawn[0].num_prompt_tokens
    spent, thought = sum(c.num_tokens for c in drawn), sum(c.num_reasoning_tokens for c in drawn)
    choices = [
        ChatCompletionChoice(
            message=ChatMessageAssistant(content=completion.answer, model=model, source="generate"),
            stop_reason=_REASONS.get(completion.finish_reason, "unknown"),
        )
        for completion in drawn
    ]
    usage = ModelUsage(input_tokens=prompt, output_tokens=spent, total_tokens=prompt + spent, reasoning_tokens=thought)
    return ModelOutput(model=model, choices=choices, usage=usage)
