"""What reward models share: a number r a completion, its shift and scale, and the same number bounded.

    scorer = load_scorer("runs/rm_hh")
    await scorer(prompt, completions)             # [0.71, 0.22]    bounded: expit((r - shift) / scale), in [0, 1]
    await scorer.rewards(prompt, completions)     # [0.90, -1.27]   (r - shift) / scale: 0 and 1 are mean and spread

r of a Bradley-Terry model has no zero and no unit (arXiv:2203.02155 shifts it so that demonstrations average 0).
`shift` and `scale` are its mean and standard deviation over held-out completions and live in scorer.json: nobody types
them in.
`calibrated` fits them again, on completions of the policy that is about to be rewarded.

A completion that the model cannot read (it does not fit into its window) is nan: undecided, never 0 and never 1/2.
No torch here.
"""

from __future__ import annotations

import asyncio
import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ponder.scorers.base import Key, TokenScorer
from ponder.scorers.logistic import expit
from ponder.types import Completion, Message

Floats = NDArray[np.float64]
TRAINED_ON = "trained_on.txt"  # in a scorer's folder: hashes of openings, a line each (tasks/preferences.py: opening)


class RewardModel(TokenScorer):
    """A TokenScorer with a reward in front of the bound. A subclass implements `raw`."""

    reads_reasoning: ClassVar[bool] = False

    def __init__(
        self, *, name: str, policy: str = "", shift: float = 0.0, scale: float = 1.0, key: Key | None = None
    ) -> None:
        super().__init__(name=name, policy=policy, key=key)
        if not (math.isfinite(shift) and math.isfinite(scale) and scale > 0):
            raise ValueError(f"shift={shift} must be finite and scale={scale} positive; fit them on other completions")
        self.shift, self.scale = shift, scale

    @abstractmethod
    def raw(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> Floats:
        """r of every completion; nan = it cannot be read."""

    def standard(self, raw: Floats) -> Floats:
        """(r - shift) / scale, unbounded; nan stays nan."""
        return (raw - self.shift) / self.scale

    def bounded(self, raw: Floats) -> Floats:
        """Within (0, 1), monotone in r; nan stays nan."""
        return expit(self.standard(raw))

    async def rewards(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        """(r - shift) / scale: for a reward of its own, unbounded."""
        return self.standard(await asyncio.to_thread(self.raw, prompt, completions)).tolist()

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return self.bounded(await asyncio.to_thread(self.raw, prompt, completions)).tolist()

    def calibrated(self, raw: Sequence[float]) -> Self:
        """The same with shift and scale of these r, of completions that it was not trained on."""
        known = np.asarray(raw, float)
        known = known[np.isfinite(known)]
        if len(known) < 2 or known.std() == 0:
            raise ValueError(f"{len(known)} different rewards give no scale; score more completions")
        other = copy.copy(self)
        other.shift, other.scale = float(known.mean()), float(known.std())
        return other
