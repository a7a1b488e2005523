"""What strategies share: `Work`, the state and costs of a call, and `strategy`, which turns a function into a Strategy.

    @strategy
    async def best(work: Work, *, n: int | None = None) -> Completion:      # work.prompt, work.engine, work.score, ...
        drawn = await work.draw(n or work.samples)
        return drawn[best_of(await work.score(drawn))]

Everything that a strategy requests of an engine or a scorer goes through its Work. So four things hold for all of them:

* No budget is ever exceeded, in the worst case. A sample costs at most max_reasoning_tokens + 1 (the closing mark) +
  max_answer_tokens; no more is requested at a time than surely fits into what is left, so short samples allow for
  further ones. If not even one full sample fits, one with less reasoning is drawn: a small budget still gets an answer.
* Everything is counted: completions that were discarded, prefixes that were processed again, the scorer's tokens.
* No key of an answer is computed on the event loop: `compute_keys` does it in a thread, and `key` looks it up.
* Cancelling the call cancels what it requested, and `watch` has the best answer so far.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Concatenate

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.engine.base import gather_or_cancel
from ponder.grading import counted_answer
from ponder.scorers.base import floats
from ponder.strategies.keys import Key, keys_of
from ponder.strategies.select import mean_logprob
from ponder.types import (
    Budget,
    Completion,
    Engine,
    Message,
    SamplingParams,
    Scorer,
    Solution,
    Strategy,
    Usage,
    text_seed,
)

DEFAULT_SAMPLES = 8  # where neither the call nor the budget says how many
ChooseSample = Callable[[Sequence[Completion]], Completion]  # the best of what was drawn so far
RolloutFunction = Callable[["Work", int], Awaitable[Completion]]  # plays rollout number i of a prompt, in several calls


class Work:
    """One call of a strategy: its arguments, what it has drawn, and what that cost."""

    def __init__(
        self,
        prompt: Sequence[Message],
        engine: Engine,
        *,
        params: SamplingParams,
        key: Key,
        scorer: Scorer | None = None,
        budget: Budget | None = None,
        watch: Callable[[Solution], None] | None = None,
    ) -> None:
        self.prompt, self.engine, self.scorer, self.watch = prompt, engine, scorer, watch
        self._key_of, self._keys = key, dict[str, str | None]()  # the keys that were computed
        self.budget = budget or Budget()
        if self.budget.max_samples is not None and self.budget.max_samples < 1:
            raise ConfigError(f"a budget of {self.budget} allows no sample; allow at least 1")
        self.params = params if self.budget.max_tokens is None else fit_params(params, self.budget.max_tokens)
        self.usage = Usage()
        self.finished: list[Completion] = []  # whole samples, in the order of their index
        self.rollout_fn: RolloutFunction | None = None  # how a sample of several calls is made; None = it is one call
        self._num_drawn = 0  # samples of the plain prompt, so that asking for more never repeats one
        self._parent: Work | None = None  # the call that this one has a share of

    def key(self, answer: str) -> str | None:
        """The equivalence class of an answer. On an event loop, call `compute_keys` first."""
        if answer not in self._keys:
            self._keys[answer] = self._key_of(answer)
        return self._keys[answer]

    async def compute_keys(self, completions: Sequence[Completion]) -> None:
        """Compute the keys of new answers in a thread: one may take seconds, and others wait for the event loop."""
        new = {counted_answer(completion) for completion in completions} - self._keys.keys()
        if new:
            self._keys |= await keys_of(self._key_of, new)

    @property
    def samples(self) -> int:
        """How many samples to draw where the call does not say."""
        return DEFAULT_SAMPLES if self.budget.max_samples is None else self.budget.max_samples

    def num_affordable(self, max_tokens: int, reserve: int = 0) -> int:
        """How many samples of at most `max_tokens` tokens surely fit into what is left of the budget. reserve: tokens,
        and one sample, that are left unspent."""
        left = 1 << 30
        if self.budget.max_samples is not None:
            left = self.budget.max_samples - self.usage.samples - bool(reserve)
        if self.budget.max_tokens is not None:
            left = min(left, (self.budget.max_tokens - self.usage.completion_tokens - reserve) // max_tokens)
        return max(0, left)

    async def draw(self, n: int, choose: ChooseSample | None = None) -> list[Completion]:
        """Up to n more whole samples, as many as fit. `choose` picks what is reported to `watch` as they arrive."""
        if n < 1:
            raise ConfigError(f"n={n} allows no sample; allow at least 1")
        if self.rollout_fn is not None:
            return await self._draw_rollouts(self.rollout_fn, n, choose)
        end = self._num_drawn + n
        before = len(self.finished)
        while (wave := min(end - self._num_drawn, self.num_affordable(max_sample_tokens(self.params)))) > 0:
            first, self._num_drawn = self._num_drawn, self._num_drawn + wave
            await self._draw_wave(first, wave, choose)
        return self.finished[before:]

    async def _draw_wave(self, first: int, n: int, choose: ChooseSample | None) -> None:
        """Samples first, first + 1, ... With `watch` in up to 8 requests, sent at once, each reported as it returns."""
        size = n if self.watch is None or choose is None else -(-n // 8)
        earlier, parts = self.finished, dict[int, list[Completion]]()

        async def part(start: int) -> None:
            drawn = await self._generate(self.prompt, self.params, n=min(size, first + n - start), first=start)
            if choose is not None:
                await self.compute_keys(drawn)
            parts[start] = drawn
            self.finished = [*earlier, *(sample for index in sorted(parts) for sample in parts[index])]
            if choose is not None:
                self.report(choose(self.finished))

        await gather_or_cancel([part(start) for start in range(first, first + n, size)])

    async def _draw_rollouts(
        self, rollout_fn: RolloutFunction, n: int, choose: ChooseSample | None
    ) -> list[Completion]:
        """Up to n more samples of several turns each, all at once. Each has its own share of what is left, so that none
        depends on how fast the others are."""
        first, earlier, done = self._num_drawn, self.finished, dict[int, Completion]()

        async def one(index: int, share: Work) -> None:
            completion = await rollout_fn(share, first + index)
            if choose is not None:
                await self.compute_keys([completion])
            done[index] = completion
            self.finished = [*earlier, *(done[i] for i in sorted(done))]
            if choose is not None:
                self.report(choose(self.finished))

        shares = self._split_budget(n)
        self._num_drawn += len(shares)
        await gather_or_cancel([one(index, share) for index, share in enumerate(shares)])
        return self.finished[len(earlier) :]

    def _split_budget(self, n: int) -> list[Work]:
        """What is left of the budget in up to n equal shares, each large enough for a whole sample."""
        n = min(n, self.num_affordable(max_sample_tokens(self.params)))
        tokens, samples = self.budget.max_tokens, self.budget.max_samples
        budget = Budget(
            max_tokens=None if tokens is None else (tokens - self.usage.completion_tokens) // max(1, n),
            max_samples=None if samples is None else (samples - self.usage.samples) // max(1, n),
        )
        shares = [
            Work(self.prompt, self.engine, params=self.params, key=self.key, scorer=self.scorer, budget=budget)
            for _ in range(n)
        ]
        for share in shares:
            share._parent = self
        return shares

    async def draw_continuations(
        self,
        prefix: Completion | None,
        n: int,
        *,
        prompt_ids: Sequence[int] = (),
        reserve: int = 0,
        **overrides: Any,
    ) -> list[Completion]:
        """Up to n continuations of an unfinished completion (None = the prompt), not joined to it.

        prompt_ids: what to continue instead, where it is not the prefix alone. reserve: tokens, and one sample, that
        are left unspent. overrides: of the sampling params.
        """
        params = self._params_after(prefix, **overrides)
        n = min(n, self.num_affordable(max_sample_tokens(params), reserve))
        return await self._generate(prompt_ids or self._prompt_after(prefix), params, n=n) if n > 0 else []

    async def draw_ending(self, prefix: Completion | None, **overrides: Any) -> Completion | None:
        """The rest of an unfinished completion, not joined to it: shorter where the budget is short, None where nothing
        fits."""
        params = self._params_after(prefix, **{"pause": (), **overrides})
        return await self.draw_from(self._prompt_after(prefix), params)

    async def extend(
        self, requests: Sequence[tuple[Completion | None, int]], *, salt: object, reserve: int = 0, **overrides: Any
    ) -> list[list[Completion]]:
        """Continue unfinished completions (None = the prompt), each request with as many of its n as surely fit: all at
        once, so the engine has them in one batch. Returns them joined, from the prompt on.

        salt: distinguishes the rounds, since the same prefix must not get the same continuations twice. reserve:
        tokens, and one sample, that are left unspent. overrides: of the sampling params, e.g. pause.
        """
        calls: list[Coroutine[Any, Any, list[Completion]]] = []
        samples_left, max_tokens = self.num_affordable(1) - bool(reserve), self.budget.max_tokens
        tokens_left = None if max_tokens is None else max_tokens - self.usage.completion_tokens - reserve
        for index, (prefix, n) in enumerate(requests):
            params = self._params_after(prefix, seed=text_seed(self.params.seed, salt, index), **overrides)
            if tokens_left is not None:
                n = min(n, max(0, tokens_left) // max_sample_tokens(params))
                tokens_left -= n * max_sample_tokens(params)
            n = max(0, min(n, samples_left))
            samples_left -= n
            calls.append(self._continue(prefix, params, n))
        return await gather_or_cancel(calls)

    async def finish(self, prefix: Completion | None, *, salt: object) -> Completion | None:
        """An unfinished completion with its rest: shorter where the budget is short, None where nothing fits."""
        ending = await self.draw_ending(prefix, seed=text_seed(self.params.seed, salt))
        return ending if prefix is None or ending is None else joined(prefix, ending)

    def _params_after(self, prefix: Completion | None, **overrides: Any) -> SamplingParams:
        """The params of a continuation: the limits are those of the completion that the two make."""
        params = self.params
        if prefix is not None:
            used, max_tokens = prefix.num_reasoning_tokens, params.max_tokens
            params = replace(
                params,
                max_reasoning_tokens=max(0, params.max_reasoning_tokens - used),
                min_reasoning_tokens=max(0, params.min_reasoning_tokens - used),
                max_tokens=None if max_tokens is None else max(1, max_tokens - len(prefix.token_ids)),
            )
        if "max_reasoning_tokens" in overrides:
            minimum = min(params.min_reasoning_tokens, overrides["max_reasoning_tokens"])
            overrides = {"min_reasoning_tokens": minimum} | overrides
        return replace(params, **overrides)

    def _prompt_after(self, prefix: Completion | None) -> Sequence[Message] | Sequence[int]:
        return self.prompt if prefix is None else [*prefix.prompt_ids, *prefix.token_ids]

    async def _continue(self, prefix: Completion | None, params: SamplingParams, n: int) -> list[Completion]:
        if n < 1:
            return []
        continuations = await self._generate(self._prompt_after(prefix), params, n=n)
        return continuations if prefix is None else [joined(prefix, continuation) for continuation in continuations]

    async def draw_from(self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams) -> Completion | None:
        """One sample of another prompt: shorter where the budget is short, None where nothing fits."""
        if self.budget.max_tokens is not None:
            left = self.budget.max_tokens - self.usage.completion_tokens
            if left < 2:
                return None
            params = fit_params(params, left)
        if not self.num_affordable(max_sample_tokens(params)):
            return None
        return (await self._generate(prompt, params, n=1))[0]

    async def _generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int, first: int = 0
    ) -> list[Completion]:
        drawn = await self.engine.generate(prompt, params, n=n, first=first)
        self._add_cost(Usage.of(drawn))
        return drawn

    def _add_cost(self, cost: Usage) -> None:
        self.usage += cost
        if self._parent is not None:
            self._parent._add_cost(cost)

    def charge(self, num_forced: int) -> None:
        """Count tokens that were put into a completion, not drawn: they are part of it, and of the budget."""
        self._add_cost(Usage(reasoning_tokens=num_forced, completion_tokens=num_forced))

    async def score(
        self, completions: Sequence[Completion], prompt: Sequence[Message] | None = None
    ) -> NDArray[np.float64]:
        """The scorer's scores, nan included; without a scorer, the policy's confidence (mean logprob)."""
        if self.scorer is None or not completions:
            return mean_logprobs(completions)
        scores = np.asarray(floats(await self.scorer(prompt or self.prompt, completions), self.scorer.name))
        self._add_cost(Usage(scorer_tokens=self.scorer.cost(completions)))
        if scores.shape != (len(completions),):
            raise ValueError(
                f"the scorer {self.scorer.name!r} gave {scores.size} scores for {len(completions)} completions; it "
                "must give one for each"
            )
        return scores

    def report(self, chosen: Completion) -> None:
        """Report the best answer so far, with its cost, to `watch`; a share reports to its parent, as long as that has
        no finished sample."""
        if self._parent is not None and not self._parent.finished:
            self._parent.report(chosen)
        if self.watch is not None:
            self.watch(self.solution(chosen))

    def solution(self, chosen: Completion) -> Solution:
        """What the strategy returns if this one is chosen: its answer, the usage so far, and all finished samples."""
        return Solution(
            answer=chosen.answer, reasoning=chosen.reasoning, usage=self.usage, completions=tuple(self.finished)
        )


def strategy(function: Callable[Concatenate[Work, ...], Awaitable[Completion]]) -> Strategy:
    """A function of a Work (and options of its own) that returns the chosen completion -> a Strategy.

    The arguments of a Strategy are those of Work; whatever else is given by name is an option of the function.
    """
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"the strategy {getattr(function, '__name__', function)} must be an async function")

    @functools.wraps(function)
    async def call(*arguments: Any, **named: Any) -> Solution:
        of_work = {name: named.pop(name) for name in inspect.signature(Work).parameters if name in named}
        work = Work(*arguments, **of_work)
        chosen = await function(work, **named)
        work.report(chosen)
        return work.solution(chosen)

    return call


def parse_options(parts: Sequence[str]) -> dict[str, int | bool | str]:
    """["m=4", "choice=vote", "teach=true"] -> {"m": 4, "choice": "vote", "teach": True}"""
    options: dict[str, int | bool | str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ConfigError(f"{part!r} is no option; write NAME=VALUE")
        booleans: dict[str, bool] = {"true": True, "false": False}
        options[name] = int(value) if value.isascii() and value.isdecimal() else booleans.get(value.lower(), value)
    return options


def joined(prefix: Completion, continuation: Completion) -> Completion:
    """An unfinished completion and its continuation, as one completion."""
    return replace(
        continuation,
        prompt_ids=prefix.prompt_ids,
        token_ids=prefix.token_ids + continuation.token_ids,
        sampler_logprobs=prefix.sampler_logprobs + continuation.sampler_logprobs,
        sampled=prefix.sampled + continuation.sampled,
        reasoning=prefix.reasoning + continuation.reasoning,
        num_reasoning_tokens=prefix.num_reasoning_tokens + continuation.num_reasoning_tokens,
        policy_version=min(prefix.policy_version, continuation.policy_version),
        versions=_joined_versions(prefix, continuation),
        hidden=_joined_hidden(prefix, continuation),
    )


def _joined_versions(prefix: Completion, continuation: Completion) -> tuple[tuple[int, int, int], ...]:
    """(version, start, end) of both; empty where all is of one version."""
    size, joined_up = len(prefix.token_ids), list[tuple[int, int, int]]()
    moved = ((version, start + size, end + size) for version, start, end in continuation.version_spans)
    for version, start, end in (*prefix.version_spans, *moved):
        if joined_up and joined_up[-1][0] == version:
            joined_up[-1] = (version, joined_up[-1][1], end)
        elif start < end:
            joined_up.append((version, start, end))
    return tuple(joined_up) if len(joined_up) > 1 else ()


def _joined_hidden(prefix: Completion, continuation: Completion) -> Any:
    if prefix.hidden is None or continuation.hidden is None:
        return None
    width, before, after = len(continuation.hidden) // 2, len(prefix.token_ids), len(continuation.token_ids)
    mean = (prefix.hidden[width:] * before + continuation.hidden[width:] * after) / max(1, before + after)
    return np.concatenate([continuation.hidden[:width], mean]).astype(np.float32)


def mean_logprobs(completions: Sequence[Completion]) -> NDArray[np.float64]:
    """The mean logprob of the sampled tokens of each, nats a token; nan where logprobs are not known."""
    return np.array([mean_logprob(c.sampler_logprobs, c.sampled) for c in completions], dtype=float)


def flops(usage: Usage, *, per_token: float, scorer_per_token: float = 0.0) -> float:
    """The floating point operations of a usage, from the cost of one token of the policy and one of the scorer."""
    return (usage.prompt_tokens + usage.completion_tokens) * per_token + usage.scorer_tokens * scorer_per_token


def max_sample_tokens(params: SamplingParams) -> int:
    """The most completion tokens that one sample can take."""
    total = params.max_reasoning_tokens + 1 + params.max_answer_tokens
    return total if params.max_tokens is None else min(total, params.max_tokens)


def fit_params(params: SamplingParams, max_tokens: int) -> SamplingParams:
    """The params with limits lowered so that one sample surely fits. The answer gets a quarter of the tokens and what
    the reasoning leaves, so that a limit shortens the reasoning and never ends it."""
    if max_tokens < 2:
        raise ConfigError(f"max_tokens={max_tokens} has no room for the closing mark and an answer; allow at least 2")
    if max_sample_tokens(params) <= max_tokens:
        return params
    answer = min(params.max_answer_tokens, max(1, max_tokens // 4, max_tokens - 1 - params.max_reasoning_tokens))
    reasoning = min(params.max_reasoning_tokens, max_tokens - 1 - answer)
    return replace(
        params,
        max_answer_tokens=answer,
        max_reasoning_tokens=reasoning,
        min_reasoning_tokens=min(params.min_reasoning_tokens, reasoning),
    )
