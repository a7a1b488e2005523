"""What the scorers that read token ids share: one way to be called live, one way to be called on a whole bank.

    await scorer(prompt, completions)    a few completions, from a strategy; the work is done in a thread
    scorer.score(families)               many problems at once, as arrays (`packing.Family`)

No torch here: strategies import this room and stay light.
"""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ponder.types import Completion, Message, Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ponder.scorers.packing import Family


Key = Callable[[str], str | None]
CONFIDENCE_WINDOW = 8  # tokens in a row whose mean logprob says how sure the policy was where it was least sure


class TokenScorer(ABC):
    """A scorer of token ids; `score` is all that a kind of scorer has to say."""

    kind: ClassVar[str]
    reads: bool = True  # a forward pass over prompt and completions; False = nearly free
    flops_per_token: float | None = None  # of that pass; None = as much as the policy's
    needs: frozenset[str] = frozenset()

    def __init__(self, *, name: str, policy: str, key: Key | None = None) -> None:
        """key: when two answers are the same; None: when their texts are."""
        self.name, self.policy = name, policy
        self._key: Key = key or (lambda answer: answer.strip() or None)

    @abstractmethod
    def score(self, families: Sequence[Family]) -> list[NDArray[np.float64]]:
        """The scores of every family's completions, in their order. The same whatever they are scored beside."""

    @abstractmethod
    def save(self, folder: str | Path) -> None: ...

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> TokenScorer:
        """From a folder whose scorer.json was read and checked (scorers/files.py)."""

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return await asyncio.to_thread(self._live, completions)

    def _live(self, completions: Sequence[Completion]) -> list[float]:
        from ponder.scorers.packing import Family

        groups: dict[tuple[int, ...], list[int]] = {}  # a search continues one question from several states
        for index, completion in enumerate(completions):
            groups.setdefault(completion.prompt_ids, []).append(index)
        families = [Family.of_completions([completions[i] for i in indices], self._key) for indices in groups.values()]
        scores = [0.0] * len(completions)
        for indices, found in zip(groups.values(), self.score(families), strict=True):
            for index, score in zip(indices, found.tolist(), strict=True):
                scores[index] = score
        return scores

    def cost(self, completions: Sequence[Completion]) -> int:
        if not self.reads:
            return 0
        prompts = {completion.prompt_ids for completion in completions}
        return sum(map(len, prompts)) + sum(completion.num_tokens for completion in completions)


def check_policy(scorer: Scorer, fingerprint: str) -> bool:
    """Whether a scorer was trained for the policy with this fingerprint (`models/hub.fingerprint`); warns if not.

    Either may be "", unknown: then nothing can be said.
    """
    fits = not scorer.policy or not fingerprint or scorer.policy == fingerprint
    if not fits:
        warnings.warn(
            f"the scorer {scorer.name!r} was trained for the policy {scorer.policy}, not for {fingerprint}: its scores "
            "may mislead; train one for this policy (ponder scorer)",
            stacklevel=2,
        )
    return fits
