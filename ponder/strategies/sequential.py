"""Thinking longer instead of more often: budget forcing, and looking at one's own answer again.

forced   a minimum of reasoning: where the model wants to close before it, the closing mark is taken off, a word such as
         "Wait" is put there instead (forced tokens: `sampled` is False, so never trained on), and it goes on
         (arXiv:2501.19393). The maximum is the params' max_reasoning_tokens.
revise   the model is shown its former answer and asked to check it; the versions vote, or the best scored is kept

Both are serial: they cost time where parallel sampling costs width. An answer that was taken off is paid for too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ponder.strategies.base import Work, most_tokens, strategy
from ponder.strategies.sampling import classes
from ponder.strategies.select import best_of, weighted_vote
from ponder.types import Completion, Message

CHECK = "Check that answer step by step. If it is wrong, correct it. Then give the final answer."


@strategy
async def forced(
    work: Work, *, n: int | None = None, word: str = "", word_ids: Sequence[int] = (), minimum: int | None = None
) -> Completion:
    """One sample that thinks for at least `minimum` tokens; it is made to go on at most n times (2 unless told).

    word, word_ids: the continuation word and its token ids, which an engine's tokenizer knows. Without them the engine
    keeps the closing mark from being drawn before the minimum, which asks for no second call. minimum: the params'
    min_reasoning_tokens unless told, or half of the maximum where that is 0.
    """
    most = work.params.max_reasoning_tokens
    minimum = min(most, work.params.min_reasoning_tokens or most // 2 if minimum is None else minimum)
    if not word_ids:
        work.params = replace(work.params, min_reasoning_tokens=minimum)
        return (await work.draw(1))[0]
    work.params = replace(work.params, min_reasoning_tokens=0)
    chosen = (await work.draw(1))[0]
    for turn in range(2 if n is None else n):
        work.report(chosen)
        thought = chosen.num_reasoning_tokens
        # only a mark that the model drew itself can be taken off: at the maximum it was closed by force
        if thought >= minimum or thought + len(word_ids) >= most or not _closed_itself(chosen):
            break
        path = with_word(chosen, word, word_ids)
        rest = replace(work.params, max_reasoning_tokens=most - len(path.token_ids))
        if work.room(most_tokens(rest) + len(word_ids)) < 1:
            break
        (found,) = await work.extend([(path, 1)], salt=("wait", turn), spare=0)
        if not found:
            break
        work.charge(len(word_ids))
        chosen = found[0]
        work.finished.append(chosen)
    return chosen


def _closed_itself(completion: Completion) -> bool:
    place = completion.num_reasoning_tokens
    return len(completion.token_ids) > place and completion.sampled[place]


def with_word(completion: Completion, word: str, word_ids: Sequence[int]) -> Completion:
    """The reasoning alone, its mark and answer taken off, and the word after it."""
    kept, size = completion.num_reasoning_tokens, len(word_ids)
    return replace(
        completion,
        token_ids=(*completion.token_ids[:kept], *word_ids),
        sampler_logprobs=(*completion.sampler_logprobs[:kept], *[0.0] * size),
        sampled=(*completion.sampled[:kept], *[False] * size),
        finish_reason="pause",
        reasoning=completion.reasoning + word,
        answer="",
        num_reasoning_tokens=kept + size,
        hidden=None,
    )


@strategy
async def revise(work: Work, *, n: int | None = None, request: str = CHECK) -> Completion:
    """n versions in all (4 unless told, or what the budget's samples allow), each shown the answer before it.

    With a scorer the best scored version is kept; without one they vote, and a tie goes to the later version.
    """
    n = min(4, work.samples) if n is None else n
    versions = await work.draw(1)
    await work.read(versions)
    scores = list(await work.score(versions)) if work.scorer else [1.0]
    for turn in range(1, n):
        work.report(_kept(work, versions, scores))
        former = versions[-1].answer.strip() or "(no answer)"
        conversation = (
            *work.prompt,
            Message(role="assistant", content=former),
            Message(role="user", content=request),
        )
        version = await work.ask(conversation, replace(work.params, seed=work.params.seed + turn))
        if version is None:
            break
        await work.read([version])
        versions.append(version)
        work.finished.append(version)
        scores += list(await work.score([version], conversation)) if work.scorer else [1.0]
    return _kept(work, versions, scores)


def _kept(work: Work, versions: list[Completion], scores: list[float]) -> Completion:
    names = classes(work, versions)
    if work.scorer is not None:
        return versions[best_of(scores, names)]
    # later first, so that a tie is the later version's
    return versions[::-1][weighted_vote(names[::-1], np.ones(len(names)))]
