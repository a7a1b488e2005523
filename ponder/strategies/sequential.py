"""Reasoning longer instead of sampling more: budget forcing, and revision of one's own answer.

forced   a minimum of reasoning: where the model closes it earlier, the closing mark is removed, a word such as "Wait"
         is inserted instead (forced tokens: `sampled` is False, so never trained on), and it continues
         (arXiv:2501.19393). The maximum is the params' max_reasoning_tokens.
revise   the model is shown its former answer and asked to check it; the versions vote, or the best scored is kept

Both are serial: they cost time where parallel sampling costs width. A removed answer is paid for too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ponder.strategies.base import Work, max_sample_tokens, strategy
from ponder.strategies.sampling import answer_classes
from ponder.strategies.select import best_of, weighted_vote
from ponder.types import Completion, Message

CHECK = "Check that answer step by step. If it is wrong, correct it. Then give the final answer."


@strategy
async def forced(
    work: Work, *, n: int | None = None, word: str = "", word_ids: Sequence[int] = (), minimum: int | None = None
) -> Completion:
    """One sample that reasons for at least `minimum` tokens; it is continued at most n times (default 2).

    word, word_ids: the inserted word and its token ids, by the engine's tokenizer. Without them the engine keeps the
    closing mark from being drawn before the minimum, which needs no second call. minimum: by default the params'
    min_reasoning_tokens, or half of the maximum where that is 0.
    """
    maximum = work.params.max_reasoning_tokens
    minimum = min(maximum, work.params.min_reasoning_tokens or maximum // 2 if minimum is None else minimum)
    if not word_ids:
        work.params = replace(work.params, min_reasoning_tokens=minimum)
        return (await work.draw(1))[0]
    work.params = replace(work.params, min_reasoning_tokens=0)
    chosen = (await work.draw(1))[0]
    for turn in range(2 if n is None else n):
        work.report(chosen)
        length = chosen.num_reasoning_tokens
        # only a mark that the model drew itself may be removed: at the maximum it was closed by force
        if length >= minimum or length + len(word_ids) >= maximum or not _closed_itself(chosen):
            break
        prefix = with_forced_word(chosen, word, word_ids)
        rest = replace(work.params, max_reasoning_tokens=maximum - len(prefix.token_ids))
        if work.num_affordable(max_sample_tokens(rest) + len(word_ids)) < 1:
            break
        (found,) = await work.extend([(prefix, 1)], salt=("wait", turn), reserve=0)
        if not found:
            break
        work.charge(len(word_ids))
        chosen = found[0]
        work.finished.append(chosen)
    return chosen


def _closed_itself(completion: Completion) -> bool:
    mark = completion.num_reasoning_tokens  # the index of the closing mark
    return len(completion.token_ids) > mark and completion.sampled[mark]


def with_forced_word(completion: Completion, word: str, word_ids: Sequence[int]) -> Completion:
    """The reasoning without its mark and answer, and the word after it."""
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
    """n versions in all (default 4, or what the budget's samples allow), each made after the answer of the one before.

    With a scorer the best scored version is kept; without one they vote, and a tie goes to the later version.
    """
    n = min(4, work.samples) if n is None else n
    versions = await work.draw(1)
    await work.compute_keys(versions)
    scores = list(await work.score(versions)) if work.scorer else [1.0]
    for turn in range(1, n):
        work.report(_choose_version(work, versions, scores))
        former = versions[-1].answer.strip() or "(no answer)"
        conversation = (
            *work.prompt,
            Message(role="assistant", content=former),
            Message(role="user", content=request),
        )
        version = await work.draw_from(conversation, replace(work.params, seed=work.params.seed + turn))
        if version is None:
            break
        await work.compute_keys([version])
        versions.append(version)
        work.finished.append(version)
        scores += list(await work.score([version], conversation)) if work.scorer else [1.0]
    return _choose_version(work, versions, scores)


def _choose_version(work: Work, versions: list[Completion], scores: list[float]) -> Completion:
    classes = answer_classes(work, versions)
    if work.scorer is not None:
        return versions[best_of(scores, classes)]
    # in reverse, so that a tie goes to the later version
    return versions[::-1][weighted_vote(classes[::-1], np.ones(len(classes)))]
