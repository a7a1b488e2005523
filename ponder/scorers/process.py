"""The process scorer: the outcome scorer's network, with predictions at the ends of steps.

It was trained on the outcomes of continuations of each step (Math-Shepherd, arXiv:2312.08935), so that it can score
unfinished completions, which a search needs. A completion's score is one number over its steps:

    last      the last step's probability (the default)
    min       the lowest of its steps' probabilities
    product   their product, as in arXiv:2305.20050

The end of an unfinished completion, and the last token of a finished one, count as a step's end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.config import ConfigError, lookup
from ponder.scorers import files
from ponder.scorers.outcome import OutcomeScorer, head_logits
from ponder.scorers.packing import Pack

AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {  # log-probabilities (S,) of the steps -> one
    "last": lambda steps: steps[-1],
    "min": lambda steps: steps.min(),
    "product": lambda steps: steps.sum(),
}


class ProcessScorer(OutcomeScorer):
    """The same network, read at the end of every step; `aggregate` makes one score of the steps (arXiv:2305.20050)."""

    kind = "process"

    def __init__(self, *args: Any, step_ids: list[int], aggregate: str = "last", **options: Any) -> None:
        """step_ids: the tokens that end a step."""
        super().__init__(*args, **options)
        self.step_ids, self.aggregate = list(step_ids), aggregate
        self._combine = lookup(AGGREGATES, aggregate, what="aggregate")

    def _values(self, pack: Pack) -> Tensor:
        if self.aggregate == "last":
            return super()._values(pack)
        is_end = np.isin(pack.tokens_N, self.step_ids)
        is_end[pack.last_B] = True
        logits = head_logits(self._hidden(pack), self.head)
        steps = torch.nn.functional.logsigmoid(self.scale * logits + self.shift).double()
        ends = torch.from_numpy(is_end).to(logits.device)
        rows = zip(np.minimum(pack.first_B, pack.last_B).tolist(), pack.last_B.tolist(), strict=True)
        values = torch.stack([self._combine(steps[a : b + 1][ends[a : b + 1]]) for a, b in rows])
        # the inverse of what `score` applies, so that it returns the combined probability
        return (values - torch.log(-torch.expm1(values.clamp(max=-1e-9))) - self.shift) / self.scale

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "step_ids": self.step_ids, "aggregate": self.aggregate}

    @classmethod
    def _options(cls, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
        ids = facts.get("step_ids")
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise ConfigError(f"{folder / files.FACTS}: step_ids must be a list of token ids; train the scorer again")
        return {"step_ids": ids, "aggregate": str(facts.get("aggregate", "last"))}
