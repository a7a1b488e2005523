"""The strategy `deliberate`: one trajectory of deliberation at test time, or several and a choice among their answers.

    solution = await deliberate(prompt, engine, params=params, key=key, m=4, turns=12, choice="vote")
    solution = await deliberate(prompt, engine, params=params, key=key, scorer=scorer, n=8, select="weighted")

n trajectories run at once, each with its share of the budget; `select` names the strategy that chooses among them as it
would among n samples (consensus, weighted, best_of_n, ...), so deliberation comes inside voting and re-ranking without
another line of code. max_reasoning_tokens limits the chosen turns of a trajectory together.

A model that was not trained on the format can be shown it (`teach`), with one worked example. Where it does not follow
the format, what it writes is used as far as possible: a chain of thought that closes itself is a final answer, so
deliberation then chooses between whole solutions; what cannot be parsed at all ends in a plain answer. A model without
reasoning marks writes its turns as plain text: see `PlainTextEngine`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ponder.config import ConfigError, lookup, nearest
from ponder.engine.base import RedrawingWrapper
from ponder.strategies import sampling
from ponder.strategies.base import Work, strategy
from ponder.strategies.deliberation_environment import PAUSE, Deliberation, encoder, render_step
from ponder.strategies.turns import Trajectory, run_episode
from ponder.types import Completion, Message, SamplingParams, Strategy

SELECTORS: dict[str, Strategy] = {
    "consensus": sampling.consensus,
    "adaptive": sampling.adaptive,
    "best_of_n": sampling.best_of_n,
    "weighted": sampling.weighted,
    "confident": sampling.confident,
    "rerank_vote": sampling.rerank,
    "judge": sampling.judge,
}
ANSWER = "Answer:"
FORMAT_INSTRUCTIONS = (
    "Solve the problem in small steps. Write each step as a question and its answer, in exactly this form, with an "
    f"empty line after it. When nothing is left to ask, write one line that begins with \"{ANSWER}\" and stop.\n\n"
    "For example, for the problem 'Ann has 4 boxes of 3 pens and finds 5 more pens. How many pens has she?':\n\n"
    + render_step("How many pens are in the boxes?", "4*3=12")
    + render_step("How many pens are there with those she finds?", "12+5=17")
    + f"{ANSWER} 17"
)  # fmt: skip


@strategy
async def deliberate(
    work: Work,
    *,
    n: int | None = None,
    select: str = "",
    teach: bool = False,
    record: Callable[[Trajectory], None] | None = None,
    **options: Any,
) -> Completion:
    """The answer of one trajectory, or of n, chosen by `select` (default: consensus; weighted where there is a scorer).

    teach: put the format with an example before the conversation. record: called with every trajectory, cancelled ones
    included. options: those of `Deliberation`: m, turns, choice, turn_tokens, force.
    """
    n = 1 if n is None else n
    environment = Deliberation(**_environment_options(work, options))
    if teach:
        work.prompt = with_instructions(work.prompt)
    allow_plain_text(work)

    async def rollout_fn(share: Work, index: int) -> Completion:
        return (await run_episode(environment, share, index=index, on_end=record)).completion

    work.rollout_fn = rollout_fn
    if n == 1:
        return (await work.draw(1))[0]
    selector = lookup(SELECTORS, select or ("weighted" if work.scorer is not None else "consensus"), what="select")
    chosen: Completion = await inspect.unwrap(selector)(work, n=n)  # its function of a Work, on this one
    return chosen


def _environment_options(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's options. By default a small budget of calls has few candidates but several turns."""
    known = {field.name for field in fields(Deliberation)}
    for name in options.keys() - known:
        raise ConfigError(f"deliberate has no option {name!r}{nearest(name, sorted(known))}")
    samples = work.budget.max_samples
    return {"m": 4 if samples is None else max(1, min(4, samples // 4))} | dict(options)


def with_instructions(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with the format explained in its system message, which is added where there is none."""
    if prompt and prompt[0].role == "system":
        return (replace(prompt[0], content=f"{prompt[0].content}\n\n{FORMAT_INSTRUCTIONS}"), *prompt[1:])
    return (Message(role="system", content=FORMAT_INSTRUCTIONS), *prompt)


def allow_plain_text(work: Work) -> None:
    """Where the model has no reasoning marks, its turns are plain text from here on."""
    tokenizer = work.engine.tokenizer
    if tokenizer is not None and tokenizer.think_id is None:
        work.engine = PlainTextEngine(work.engine)


class PlainTextEngine(RedrawingWrapper):
    """An engine for a model without reasoning marks, which writes answers only: here its turns become the reasoning.

    A turn that is to pause is requested with stop strings instead, and becomes reasoning unless the model ended it or
    began with "Answer:". Where the reasoning is to be closed by force, that word is the mark: inserted, not sampled.
    """

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        max_tokens = params.max_reasoning_tokens + params.max_answer_tokens
        plain = replace(params, pause=(), max_reasoning_tokens=0, min_reasoning_tokens=0, max_answer_tokens=max_tokens)
        if params.pause:
            drawn = await self.engine.generate(prompt, replace(plain, stop=params.pause), n=n, first=first)
            return [self._as_turn(completion, params.pause[0]) for completion in drawn]
        mark = encoder(self.engine)(ANSWER)
        if params.max_reasoning_tokens or isinstance(prompt[0], Message) or len(mark) > max_tokens:
            return await self.engine.generate(prompt, plain, n=n, first=first)
        plain = replace(plain, stop=(*params.stop, PAUSE), max_answer_tokens=max_tokens + 1 - len(mark))
        drawn = await self.engine.generate([*prompt, *mark], plain, n=n, first=first)  # type: ignore[list-item]
        return [_with_forced_mark(completion, mark) for completion in drawn]

    def _as_turn(self, completion: Completion, pause: str) -> Completion:
        """Plain text as unfinished reasoning, or as the answer where it is one."""
        text = completion.answer
        has_mark = text.lstrip().startswith(ANSWER)
        if has_mark or (completion.token_ids and completion.token_ids[-1] in self.tokenizer.end_ids):
            return replace(completion, answer=text.lstrip().removeprefix(ANSWER).lstrip() if has_mark else text)
        paused = completion.finish_reason == "stop"
        return replace(
            completion,
            finish_reason="pause" if paused else completion.finish_reason,
            reasoning=text + pause if paused else text,
            answer="",
            num_reasoning_tokens=len(completion.token_ids),
        )


def _with_forced_mark(completion: Completion, mark: Sequence[int]) -> Completion:
    """An answer that begins with the forced mark, which was sent as the end of its prompt."""
    size = len(mark)
    return replace(
        completion,
        prompt_ids=completion.prompt_ids[:-size],
        token_ids=(*mark, *completion.token_ids),
        sampler_logprobs=(*[0.0] * size, *completion.sampler_logprobs),
        sampled=(*[False] * size, *completion.sampled),
    )
