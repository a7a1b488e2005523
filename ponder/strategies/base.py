"""What strategies share: `Work`, the ledger of one call, and `strategy`, which makes a function of it a Strategy.

    @strategy
    async def best(work: Work, *, n: int | None = None) -> Completion:      # work.prompt, work.engine, work.score, ...
        drawn = await work.draw(n or work.samples)
        return drawn[best_of(await work.score(drawn))]

Everything a strategy asks of an engine or a scorer goes through its Work, so that three things hold for all of them:

* No budget is ever passed, in the worst case. A sample costs at most max_reasoning_tokens + 1 (the closing mark) +
  max_answer_tokens; what may be asked at one time is what surely fits into what is left, so short samples make room for
  more. If not even one full sample fits, one is drawn with less room to reason: a small budget still gets an answer.
* Everything is paid for: pieces that were thrown away, prefixes that were read again, the scorer's tokens.
* No key of an answer is computed on the event loop: `read` finds those of new answers in a thread, `key` has them then.
* Cancelling the call cancels what it asked for, and `watch` has the best answer so far.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Concatenate, Protocol

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.grading import counted_answer
from ponder.strategies.keys import Key, keys_of
from ponder.strategies.select import mean_logprob
from ponder.types import Budget, Completion, Engine, Message, SamplingParams, Scorer, Solution, Usage, text_seed

SAMPLES = 8  # where neither the call nor the budget says how many
Choice = Callable[[Sequence[Completion]], Completion]  # the best of what was drawn so far
Rollout = Callable[["Work", int], Awaitable[Completion]]  # a whole solution in several turns, and which of n it is


class Work:
    """One call of a strategy: what it was given, what it has drawn, what that cost."""

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
        self._key_of, self._keys = key, dict[str, str | None]()  # of the answers that were read
        self.budget = budget or Budget()
        if self.budget.max_samples is not None and self.budget.max_samples < 1:
            raise ConfigError(f"a budget of {self.budget} allows no sample; allow at least 1")
        self.params = params if self.budget.max_tokens is None else fit(params, self.budget.max_tokens)
        self.usage = Usage()
        self.finished: list[Completion] = []  # whole samples, in the order of their index
        self.rollout: Rollout | None = None  # makes one whole solution in several calls; None = one call makes it
        self._drawn = 0  # samples of the plain prompt, so that asking for more never repeats one
        self._whole: Work | None = None  # the call that this is a share of

    def key(self, answer: str) -> str | None:
        """The equivalence class of an answer; `read` it before, on an event loop."""
        if answer not in self._keys:
            self._keys[answer] = self._key_of(answer)
        return self._keys[answer]

    async def read(self, completions: Sequence[Completion]) -> None:
        """Find the keys of answers that are not known yet: one may take seconds, and others wait for the loop."""
        new = {counted_answer(completion) for completion in completions} - self._keys.keys()
        if new:
            self._keys |= await keys_of(self._key_of, new)

    @property
    def samples(self) -> int:
        """How many samples to draw where the call does not say."""
        return SAMPLES if self.budget.max_samples is None else self.budget.max_samples

    def room(self, most: int, spare: int = 0) -> int:
        """How many samples of at most `most` tokens surely fit into what is left of the budget. spare: tokens and one
        sample that are kept back."""
        room = 1 << 30
        if self.budget.max_samples is not None:
            room = self.budget.max_samples - self.usage.samples - bool(spare)
        if self.budget.max_tokens is not None:
            room = min(room, (self.budget.max_tokens - self.usage.completion_tokens - spare) // most)
        return max(0, room)

    async def draw(self, n: int, leader: Choice | None = None) -> list[Completion]:
        """Up to n more whole samples, as many as fit. `leader` chooses what `watch` is told as they come in."""
        if n < 1:
            raise ConfigError(f"n={n} allows no sample; allow at least 1")
        if self.rollout is not None:
            return await self._roll_out(self.rollout, n, leader)
        end = self._drawn + n
        before = len(self.finished)
        while (wave := min(end - self._drawn, self.room(most_tokens(self.params)))) > 0:
            first, self._drawn = self._drawn, self._drawn + wave
            await self._wave(first, wave, leader)
        return self.finished[before:]

    async def _wave(self, first: int, n: int, leader: Choice | None) -> None:
        """Samples first, first + 1, ... in parts that travel to the engine together but come back one by one, if anyone
        watches: then each is a chance to tell who leads."""
        size = n if self.watch is None or leader is None else -(-n // 8)
        known, parts = self.finished, dict[int, list[Completion]]()

        async def part(start: int) -> None:
            drawn = await self._ask(self.prompt, self.params, n=min(size, first + n - start), first=start)
            if leader is not None:
                await self.read(drawn)
            parts[start] = drawn
            self.finished = [*known, *(sample for place in sorted(parts) for sample in parts[place])]
            if leader is not None:
                self.report(leader(self.finished))

        await together([part(start) for start in range(first, first + n, size)])

    async def _roll_out(self, rollout: Rollout, n: int, leader: Choice | None) -> list[Completion]:
        """Up to n more whole solutions of several turns each, at once. Each has its own share of what is left, so that
        none depends on how fast the others are."""
        first, known, done = self._drawn, self.finished, dict[int, Completion]()

        async def one(place: int, share: Work) -> None:
            whole = await rollout(share, first + place)
            if leader is not None:
                await self.read([whole])
            done[place] = whole
            self.finished = [*known, *(done[i] for i in sorted(done))]
            if leader is not None:
                self.report(leader(self.finished))

        shares = self._shares(n)
        self._drawn += len(shares)
        await together([one(place, share) for place, share in enumerate(shares)])
        return self.finished[len(known) :]

    def _shares(self, n: int) -> list[Work]:
        """What is left of the budget in up to n equal parts, each with room for a whole sample."""
        n = min(n, self.room(most_tokens(self.params)))
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
            share._whole = self
        return shares

    async def piece(
        self, path: Completion | None, n: int, *, shown: Sequence[int] = (), spare: int = 0, **changes: Any
    ) -> list[Completion]:
        """Up to n pieces after an unfinished completion (None = the prompt), as they are drawn: not joined to it.

        shown: ids to draw after in place of the state. spare: tokens and one sample kept back. changes: of the
        sampling.
        """
        params = self._onward(path, **changes)
        n = min(n, self.room(most_tokens(params), spare))
        return await self._ask(shown or self._state(path), params, n=n) if n > 0 else []

    async def last_piece(self, path: Completion | None, **changes: Any) -> Completion | None:
        """What ends an unfinished completion, with less room where the budget is short; None without any."""
        params = self._onward(path, **{"pause": (), **changes})
        if self.budget.max_tokens is not None:
            left = self.budget.max_tokens - self.usage.completion_tokens
            if left < 2:
                return None
            params = fit(params, left)
        return (await self._ask(self._state(path), params, n=1))[0] if self.room(most_tokens(params)) else None

    async def extend(
        self, asks: Sequence[tuple[Completion | None, int]], *, salt: object, spare: int = 0, **changes: Any
    ) -> list[list[Completion]]:
        """Continue unfinished completions (None = the prompt), each ask with as many of its n as surely fit: all in one
        turn, so the engine has them in one batch. Returns whole completions, from the prompt on.

        salt: sets this round apart, since the same place asked again is to say something else. spare: tokens and one
        sample kept back. changes: of the sampling, e.g. pause.
        """
        calls: list[Coroutine[Any, Any, list[Completion]]] = []
        left, tokens = self.room(1) - bool(spare), self.budget.max_tokens
        unspent = None if tokens is None else tokens - self.usage.completion_tokens - spare
        for place, (path, n) in enumerate(asks):
            params = self._onward(path, seed=text_seed(self.params.seed, salt, place), **changes)
            if unspent is not None:
                n = min(n, max(0, unspent) // most_tokens(params))
                unspent -= n * most_tokens(params)
            n = max(0, min(n, left))
            left -= n
            calls.append(self._continue(path, params, n))
        return await together(calls)

    async def finish(self, path: Completion | None, *, salt: object) -> Completion | None:
        """One whole completion from an unfinished one, with less room where the budget is short; None without any."""
        piece = await self.last_piece(path, seed=text_seed(self.params.seed, salt))
        return piece if path is None or piece is None else joined(path, piece)

    def _onward(self, path: Completion | None, **changes: Any) -> SamplingParams:
        """The sampling of what follows a piece of reasoning: the limits are those of the whole."""
        params = self.params
        if path is not None:
            thought, most = path.num_reasoning_tokens, params.max_tokens
            params = replace(
                params,
                max_reasoning_tokens=max(0, params.max_reasoning_tokens - thought),
                min_reasoning_tokens=max(0, params.min_reasoning_tokens - thought),
                max_tokens=None if most is None else max(1, most - len(path.token_ids)),
            )
        if "max_reasoning_tokens" in changes:
            least = min(params.min_reasoning_tokens, changes["max_reasoning_tokens"])
            changes = {"min_reasoning_tokens": least} | changes
        return replace(params, **changes)

    def _state(self, path: Completion | None) -> Sequence[Message] | Sequence[int]:
        return self.prompt if path is None else [*path.prompt_ids, *path.token_ids]

    async def _continue(self, path: Completion | None, params: SamplingParams, n: int) -> list[Completion]:
        if n < 1:
            return []
        pieces = await self._ask(self._state(path), params, n=n)
        return pieces if path is None else [joined(path, piece) for piece in pieces]

    async def ask(self, prompt: Sequence[Message], params: SamplingParams) -> Completion | None:
        """One whole sample of another prompt, with less room where the budget is short; None if nothing fits."""
        if self.budget.max_tokens is not None:
            left = self.budget.max_tokens - self.usage.completion_tokens
            if left < 2:
                return None
            params = fit(params, left)
        return (await self._ask(prompt, params, n=1))[0] if self.room(most_tokens(params)) else None

    async def _ask(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int, first: int = 0
    ) -> list[Completion]:
        drawn = await self.engine.generate(prompt, params, n=n, first=first)
        self._pay(Usage.of(drawn))
        return drawn

    def _pay(self, cost: Usage) -> None:
        self.usage += cost
        if self._whole is not None:
            self._whole._pay(cost)

    def charge(self, forced: int) -> None:
        """Tokens that were put into a completion, not drawn: they are part of it, and the budget counts them."""
        self._pay(Usage(reasoning_tokens=forced, completion_tokens=forced))

    async def score(
        self, completions: Sequence[Completion], prompt: Sequence[Message] | None = None
    ) -> NDArray[np.float64]:
        """What the scorer says, nan included; without a scorer, how sure the policy was (mean logprob)."""
        if self.scorer is None or not completions:
            return certainty(completions)
        scores = np.asarray(await self.scorer(prompt or self.prompt, completions), dtype=float)
        self._pay(Usage(scorer_tokens=self.scorer.cost(completions)))
        if scores.shape != (len(completions),):
            raise ValueError(
                f"the scorer {self.scorer.name!r} gave {scores.size} scores for {len(completions)} completions; it "
                "must give one for each"
            )
        return scores

    def report(self, chosen: Completion) -> None:
        """Tell whoever watches the best answer so far and its cost; of a share, as long as no other is finished."""
        if self._whole is not None and not self._whole.finished:
            self._whole.report(chosen)
        if self.watch is not None:
            self.watch(self.solution(chosen))

    def solution(self, chosen: Completion) -> Solution:
        return Solution(
            answer=chosen.answer, reasoning=chosen.reasoning, usage=self.usage, completions=tuple(self.finished)
        )


class Named(Protocol):
    """A Strategy that takes options of its own."""

    __name__: str

    async def __call__(
        self,
        prompt: Sequence[Message],
        engine: Engine,
        *,
        params: SamplingParams,
        key: Key,
        scorer: Scorer | None = None,
        budget: Budget | None = None,
        watch: Callable[[Solution], None] | None = None,
        **options: Any,
    ) -> Solution: ...


def strategy(function: Callable[Concatenate[Work, ...], Awaitable[Completion]]) -> Named:
    """A function of a Work (and options of its own) that returns the chosen completion -> a Strategy."""

    @functools.wraps(function)
    async def call(
        prompt: Sequence[Message],
        engine: Engine,
        *,
        params: SamplingParams,
        key: Key,
        scorer: Scorer | None = None,
        budget: Budget | None = None,
        watch: Callable[[Solution], None] | None = None,
        **options: Any,
    ) -> Solution:
        work = Work(prompt, engine, params=params, key=key, scorer=scorer, budget=budget, watch=watch)
        chosen = await function(work, **options)
        work.report(chosen)
        return work.solution(chosen)

    return call  # type: ignore[return-value]


def parse_options(parts: Sequence[str]) -> dict[str, int | bool | str]:
    """["m=4", "choice=vote", "teach=true"] -> {"m": 4, "choice": "vote", "teach": True}"""
    options: dict[str, int | bool | str] = {}
    for part in parts:
        name, given, value = part.partition("=")
        if not given or not name:
            raise ConfigError(f"{part!r} is no option; write NAME=VALUE")
        words: dict[str, bool] = {"true": True, "false": False}
        options[name] = int(value) if value.isascii() and value.isdecimal() else words.get(value.lower(), value)
    return options


async def together(calls: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All results in order; whatever ends this early, an error of one or a cancellation, ends all of them."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def joined(path: Completion, piece: Completion) -> Completion:
    """An unfinished completion and what was drawn after it, as one."""
    return replace(
        piece,
        prompt_ids=path.prompt_ids,
        token_ids=path.token_ids + piece.token_ids,
        sampler_logprobs=path.sampler_logprobs + piece.sampler_logprobs,
        sampled=path.sampled + piece.sampled,
        reasoning=path.reasoning + piece.reasoning,
        num_reasoning_tokens=path.num_reasoning_tokens + piece.num_reasoning_tokens,
        hidden=_joined_hidden(path, piece),
    )


def _joined_hidden(path: Completion, piece: Completion) -> Any:
    if path.hidden is None or piece.hidden is None:
        return None
    width, before, after = len(piece.hidden) // 2, len(path.token_ids), len(piece.token_ids)
    mean = (path.hidden[width:] * before + piece.hidden[width:] * after) / max(1, before + after)
    return np.concatenate([piece.hidden[:width], mean]).astype(np.float32)


def certainty(completions: Sequence[Completion]) -> NDArray[np.float64]:
    """Mean logprob of the tokens that each drew itself, nats a token; nan where they are not known."""
    return np.array([mean_logprob(c.sampler_logprobs, c.sampled) for c in completions], dtype=float)


def flops(usage: Usage, *, per_token: float, scorer_per_token: float = 0.0) -> float:
    """The floating point operations of a usage, from the cost of one token of the policy and one of the scorer."""
    return (usage.prompt_tokens + usage.completion_tokens) * per_token + usage.scorer_tokens * scorer_per_token


def most_tokens(params: SamplingParams) -> int:
    """The most completion tokens that one sample can take."""
    most = params.max_reasoning_tokens + 1 + params.max_answer_tokens
    return most if params.max_tokens is None else min(most, params.max_tokens)


def fit(params: SamplingParams, max_tokens: int) -> SamplingParams:
    """The same sampling, with less room where one sample might not fit: the answer has a quarter of what there is and
    what the reasoning leaves, so that a limit shortens the thinking and never ends it."""
    if max_tokens < 2:
        raise ConfigError(f"max_tokens={max_tokens} has no room for the closing mark and an answer; allow at least 2")
    if most_tokens(params) <= max_tokens:
        return params
    answer = min(params.max_answer_tokens, max(1, max_tokens // 4, max_tokens - 1 - params.max_reasoning_tokens))
    reasoning = min(params.max_reasoning_tokens, max_tokens - 1 - answer)
    return replace(
        params,
        max_answer_tokens=answer,
        max_reasoning_tokens=reasoning,
        min_reasoning_tokens=min(params.min_reasoning_tokens, reasoning),
    )
