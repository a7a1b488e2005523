"""What the scorers of token ids share: one way to be called by a strategy, one way to be called on a whole bank.

    await scorer(prompt, completions)    a few completions, by a strategy; computed in a thread
    scorer.score(groups)                 many problems at once, as arrays (`packing.CompletionGroup`)

No torch here: strategies import this package and stay light.
"""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ponder.types import Completion, Message, Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ponder.scorers.packing import CompletionGroup


Key = Callable[[str], str | None]
INT8 = "-int8"  # ends the fingerprint of a policy that multiplies so
CONFIDENCE_WINDOW = 8  # neighbouring tokens, whose lowest mean logprob is the confidence of the least confident part


class TokenScorer(ABC):
    """A scorer of token ids. A kind of scorer defines `score`, `save` and `load`."""

    kind: ClassVar[str]
    needs_forward_pass: bool = True  # over prompt and completions; False = nearly free
    flops_per_token: float | None = None  # of that pass; None = as much as the policy's
    needs: frozenset[str] = frozenset()
    reads_reasoning: ClassVar[bool] = True  # then it must not be the reward of a policy whose reasoning is monitored

    def __init__(self, *, name: str, policy: str, key: Key | None = None) -> None:
        """key: when two answers are the same; None = when their texts are."""
        self.name, self.policy = name, policy
        self._key: Key = key or (lambda answer: answer.strip() or None)

    @abstractmethod
    def score(self, groups: Sequence[CompletionGroup]) -> list[NDArray[np.float64]]:
        """The scores of each group's completions, in their order; they do not depend on the other groups."""

    def group_of_answers(
        self, prompt: Sequence[Message], answers: Sequence[str], finished: Sequence[bool]
    ) -> CompletionGroup | None:
        """For `score`, in ids of its own, where it reads visible answers; None = it reads the sampler's ids."""
        return None

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write scorer.json, and the weights beside it, so that `load` can read the folder."""
        ...

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> TokenScorer:
        """From a folder whose scorer.json was loaded and checked (scorers/files.py)."""

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return await asyncio.to_thread(self._score_completions, completions)

    def _score_completions(self, completions: Sequence[Completion]) -> list[float]:
        return by_prompt(completions, self._key, self.score)

    def cost(self, completions: Sequence[Completion]) -> int:
        """Tokens of the forward pass: each different prompt once, and every completion; 0 where no pass is needed."""
        if not self.needs_forward_pass:
            return 0
        prompts = {completion.prompt_ids for completion in completions}
        return sum(map(len, prompts)) + sum(completion.num_tokens for completion in completions)


def by_prompt(
    completions: Sequence[Completion],
    key: Key,
    score: Callable[[Sequence[CompletionGroup]], Sequence[NDArray[np.float64]]],
) -> list[float]:
    """Scores of completions in their order, from a function of groups: each prompt is processed once."""
    from ponder.scorers.packing import CompletionGroup

    indices_of: dict[tuple[int, ...], list[int]] = {}
    for index, completion in enumerate(completions):
        indices_of.setdefault(completion.prompt_ids, []).append(index)
    groups = [CompletionGroup.of_completions([completions[i] for i in at], key) for at in indices_of.values()]
    scores = [0.0] * len(completions)
    for indices, found in zip(indices_of.values(), score(groups), strict=True):
        for index, value in zip(indices, found.tolist(), strict=True):
            scores[index] = value
    return scores


def floats(scores: Sequence[object], name: str) -> list[float]:
    """A scorer's scores; TypeError for anything that is no number, such as a monitor's judgement."""
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, Real):
            raise TypeError(f"the scorer {name!r} returned {type(score).__name__}, where each score must be a float")
    return [float(score) for score in scores]  # type: ignore[arg-type]


def same_weights(policy: str, fingerprint: str) -> bool:
    """Whether both may be of one policy: "" is unknown, and products in int8 (`-int8`) are of the same weights."""
    return not policy or not fingerprint or policy.removesuffix(INT8) == fingerprint.removesuffix(INT8)


def check_policy(scorer: Scorer, fingerprint: str) -> bool:
    """Whether a scorer was trained for the policy with this fingerprint (`models/hub.fingerprint`); warns if not.

    Either may be "", unknown: then nothing can be said.
    """
    fits = same_weights(scorer.policy, fingerprint)
    if not fits:
        warnings.warn(
            f"the scorer {scorer.name!r} was trained for the policy {scorer.policy}, not for {fingerprint}: its scores "
            "may mislead; train one for this policy (ponder scorer)",
            stacklevel=2,
        )
    return fits
