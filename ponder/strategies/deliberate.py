"""The strategy `deliberate`: one trajectory of deliberation at test time, or several and a choice among their answers.

    solution = await deliberate(prompt, engine, params=params, key=key, m=4, turns=12, choice="vote")
    solution = await deliberate(prompt, engine, params=params, key=key, scorer=scorer, n=8, select="weighted")

n trajectories run at once, each with its share of the budget; `select` names the strategy that chooses among them as it
would among n samples (consensus, weighted, best_of_n, ...), so deliberation comes inside voting and re-ranking without
another line of code. max_reasoning_tokens is of a whole trajectory's chosen turns.

A model that was never taught the format can be told it (`teach`), with one worked example. One that does not follow
it is read as far as it goes: a chain of thought that closes itself is a final answer, and so deliberation between
whole solutions; what cannot be read at all ends in a plain answer. A model without reasoning marks says its turns
aloud: see `Aloud`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ponder.config import ConfigError, lookup, nearest
from ponder.engine.base import RedrawingWrapper
from ponder.strategies import sampling
from ponder.strategies.base import Named, Work, strategy
from ponder.strategies.deliberation import PAUSE, Deliberation, encoder, render_step
from ponder.strategies.turns import Trajectory, run
from ponder.types import Completion, Message, SamplingParams

SELECTORS: dict[str, Named] = {
    "consensus": sampling.consensus,
    "adaptive": sampling.adaptive,
    "best_of_n": sampling.best_of_n,
    "weighted": sampling.weighted,
    "confident": sampling.confident,
    "rerank_vote": sampling.rerank,
    "judge": sampling.judge,
}
ANSWER = "Answer:"
TEACH = (
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
    """The answer of one trajectory, or of n (chosen by `select`: consensus, with a scorer weighted, unless told).

    teach: put the format with an example before the conversation. record: hears of every trajectory, those that were
    cancelled included. options: those of `Deliberation`: m, turns, choice, turn_tokens, force.
    """
    n = 1 if n is None else n
    environment = Deliberation(**_fitting(work, options))
    if teach:
        work.prompt = taught(work.prompt)
    tokenizer = work.engine.tokenizer
    if tokenizer is not None and tokenizer.think_id is None:
        work.engine = Aloud(work.engine)

    async def rollout(share: Work, index: int) -> Completion:
        return (await run(environment, share, index=index, told=record)).whole

    work.rollout = rollout
    if n == 1:
        return (await work.draw(1))[0]
    chooser = lookup(SELECTORS, select or ("weighted" if work.scorer is not None else "consensus"), what="select")
    return await chooser.__wrapped__(work, n=n)  # type: ignore[attr-defined, no-any-return]


def _fitting(work: Work, options: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's options. Unless told, a small budget of calls has few candidates but several turns."""
    known = {field.name for field in fields(Deliberation)}
    for name in options.keys() - known:
        raise ConfigError(f"deliberate has no option {name!r}{nearest(name, sorted(known))}")
    samples = work.budget.max_samples
    return {"m": 4 if samples is None else max(1, min(4, samples // 4))} | dict(options)


def taught(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with the format explained before it, in a system message that may be there already."""
    if prompt and prompt[0].role == "system":
        return (replace(prompt[0], content=f"{prompt[0].content}\n\n{TEACH}"), *prompt[1:])
    return (Message(role="system", content=TEACH), *prompt)


class Aloud(RedrawingWrapper):
    """An engine whose model has no reasoning marks, so that all it says is answer: here its turns are the reasoning.

    A piece that is to pause is asked for with stop strings instead, and is reasoning unless the model ended by itself
    or began with "Answer:". Where the reasoning is to be closed by force, that word is the mark: put in, not sampled.
    """

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        most = params.max_reasoning_tokens + params.max_answer_tokens
        asked = replace(params, pause=(), max_reasoning_tokens=0, min_reasoning_tokens=0, max_answer_tokens=most)
        if params.pause:
            drawn = await self.engine.generate(prompt, replace(asked, stop=params.pause), n=n, first=first)
            return [self._said(piece, params.pause[0]) for piece in drawn]
        mark = encoder(self.engine)(ANSWER)
        if params.max_reasoning_tokens or isinstance(prompt[0], Message) or len(mark) > most:
            return await self.engine.generate(prompt, asked, n=n, first=first)
        asked = replace(asked, stop=(*params.stop, PAUSE), max_answer_tokens=most + 1 - len(mark))
        drawn = await self.engine.generate([*prompt, *mark], asked, n=n, first=first)  # type: ignore[list-item]
        return [_marked(piece, mark) for piece in drawn]

    def _said(self, piece: Completion, pause: str) -> Completion:
        """A spoken piece as reasoning that goes on, or as the answer that it is."""
        text = piece.answer
        is_named = text.lstrip().startswith(ANSWER)
        if is_named or (piece.token_ids and piece.token_ids[-1] in self.tokenizer.end_ids):
            return replace(piece, answer=text.lstrip().removeprefix(ANSWER).lstrip() if is_named else text)
        paused = piece.finish_reason == "stop"
        return replace(
            piece,
            finish_reason="pause" if paused else piece.finish_reason,
            reasoning=text + pause if paused else text,
            answer="",
            num_reasoning_tokens=len(piece.token_ids),
        )


def _marked(piece: Completion, mark: Sequence[int]) -> Completion:
    """An answer whose forced beginning belongs to it, not to its prompt."""
    size = len(mark)
    return replace(
        piece,
        prompt_ids=piece.prompt_ids[:-size],
        token_ids=(*mark, *piece.token_ids),
        sampler_logprobs=(*[0.0] * size, *piece.sampler_logprobs),
        sampled=(*[False] * size, *piece.sampled),
    )
