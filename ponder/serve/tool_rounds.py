"""Answers that call tools on the way: model, calls, results, model, until an answer calls nothing more.

    engine = ToolUsingEngine(engine, toolbox, rounds=8)
    completions = await engine.generate(messages, params, n=4)    # each with calls of its own; then vote, choose, ...

The tools stand in a developer message, as `tools.py` writes them; calls are read from answers alone, never from
reasoning. Within one sample the reasoning of earlier rounds goes back into the prompt where the model has marks for it,
as a server does it, and is hidden like all reasoning. In the last round calls are no longer run: what is left of the
answer counts. Limits of the params are those of each round. A sample's cost is of all its rounds.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ponder.config import ConfigError
from ponder.engine.base import RedrawingWrapper, gather_or_cancel
from ponder.serve.items import Thought, prompt_of
from ponder.serve.mcp import Toolbox, ToolResult
from ponder.serve.tools import TOOL_RESPONSE, Call, CallParser, tool_instructions
from ponder.types import Capabilities, Completion, Engine, Message, SamplingParams, Usage, text_seed

# may this call, of a tool with these arguments, be made?
Approve = Callable[[str, Mapping[str, Any]], Awaitable[bool]]
REFUSED = ToolResult(text="error: the call was not made: the user refused it", is_error=True)
ROUNDS = 8  # of calls
MOST_CALLS = 8  # in one round; more are not run


@dataclass(frozen=True, kw_only=True)
class MadeCall:
    """A call that was run, or refused, for who wants to see what happened."""

    sample: int
    round: int
    name: str
    arguments: Mapping[str, Any]
    result: ToolResult


class ToolUsingEngine(RedrawingWrapper):
    """An engine whose samples may use the tools of an open toolbox. Completions have no token ids: they are put
    together from several."""

    def __init__(
        self, engine: Engine, toolbox: Toolbox, *, rounds: int = ROUNDS, approve: Approve | None = None
    ) -> None:
        super().__init__(engine)
        self._toolbox, self._rounds, self._approve = toolbox, rounds, approve
        self.calls: list[MadeCall] = []

    @property
    def capabilities(self) -> Capabilities:
        """None of the inner engine's: a sample is put together from several completions."""
        return Capabilities()

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        """Samples are drawn side by side, and their calls appended to `calls`. Raises ConfigError for a prompt of token
        ids."""
        if not all(isinstance(part, Message) for part in prompt):
            raise ConfigError("this mode goes on from token ids, and answers that call tools have none")
        messages = cast("Sequence[Message]", prompt)
        return await gather_or_cancel([self._sample(messages, params, first + index) for index in range(n)])

    async def _sample(self, prompt: Sequence[Message], params: SamplingParams, index: int) -> Completion:
        tools = self._toolbox.functions()
        messages = [Message(role="developer", content=tool_instructions(tools)), *prompt]
        thoughts: dict[int, Thought] = {}
        drawn: list[Completion] = []
        for round_number in range(self._rounds + 1):
            asked = prompt_of(self.engine.tokenizer, messages, thoughts)
            own = params if round_number == 0 else replace(params, seed=text_seed(params.seed, "tools", round_number))
            completion = (await self.engine.generate(asked, own, n=1, first=index))[0]
            drawn.append(completion)
            parser = CallParser(tools)
            parts = parser.feed(completion.answer) + parser.finish()
            calls = [part for part in parts if isinstance(part, Call)][:MOST_CALLS]
            if not calls or completion.finish_reason != "stop" or round_number == self._rounds:
                return _joined(drawn, "".join(part for part in parts if isinstance(part, str)))
            if completion.reasoning:
                thoughts[len(messages)] = Thought(completion.reasoning)
            messages.append(Message(role="assistant", content=completion.answer))
            messages += await self._results(calls, index, round_number)
        raise AssertionError("the last round returns")

    async def _results(self, calls: Sequence[Call], sample: int, round_number: int) -> list[Message]:
        arguments = [json.loads(call.arguments) for call in calls]
        results = await gather_or_cancel(
            [self._called(call.name, given) for call, given in zip(calls, arguments, strict=True)]
        )
        self.calls += [
            MadeCall(sample=sample, round=round_number, name=call.name, arguments=given, result=result)
            for call, given, result in zip(calls, arguments, results, strict=True)
        ]
        return [response_message(result.text) for result in results]

    async def _called(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        if self._approve is not None and not await self._approve(name, arguments):
            return REFUSED
        return await self._toolbox.call(name, arguments)


def response_message(text: str) -> Message:
    """A result as the model is given it."""
    return Message(role="tool", content=f"{TOOL_RESPONSE[0]}\n{text}\n{TOOL_RESPONSE[1]}")


def _joined(drawn: Sequence[Completion], answer: str) -> Completion:
    """The rounds of a sample as one completion, as an engine without token ids gives it; its cost is of all."""
    last = drawn[-1]
    spent = sum(completion.num_prompt_tokens + completion.num_tokens for completion in drawn)
    own = drawn[0].num_prompt_tokens
    return replace(
        last, prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), versions=(), hidden=None,
        reasoning="\n\n".join(completion.reasoning for completion in drawn if completion.reasoning),
        answer=answer.strip() if len(drawn) > 1 else answer,
        num_reasoning_tokens=sum(completion.num_reasoning_tokens for completion in drawn),
        counted=Usage(prompt_tokens=own, completion_tokens=spent - own, samples=1),
    )  # fmt: skip


# a strategy's call with its engine left open -> what the strategy finds, with tools
Solve = Callable[..., Awaitable[Any]]


def with_tools(solve: Solve, engine: ToolUsingEngine, toolbox: Toolbox) -> Solve:
    """`solve(engine=..., ...)` while the servers of the toolbox run."""

    async def call(**named: Any) -> Any:
        async with toolbox:
            return await solve(engine=engine, **named)

    return call
