"""The loss of a reward model whose network is trained: Bradley-Terry over the pairs of each prompt.

    loss = sum over pairs of  weight * ( -[y log s(D - m) + (1 - y) log s(m - D)]  +  centre (r_i + r_j)^2 )

(scorers/bradley_terry.py says what the letters are.) The weights of a step's pairs add up to 1, a prompt's to as much
as any other's. A prompt is never divided over two packs: its pairs need all of its answers.

Shapes: N packed tokens, B answers, P pairs, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ponder.scorers.outcome import head_logits
from ponder.scorers.packing import CompletionGroup, Pack, PackSlice, pack
from ponder.scorers.reader import Pool, pooled
from ponder.train.preference_examples import JudgedPrompt, Judgements
from ponder.train.replica import HiddenLoss


@dataclass(kw_only=True)
class PairBatch(Pack):
    """A pack of whole prompts, and the pairs of its answers."""

    pairs_2P: NDArray[np.int64]  # rows of B
    target_P: NDArray[np.float32]
    weight_P: NDArray[np.float32]
    margin_P: NDArray[np.float32]


def pair_batches(
    examples: Sequence[JudgedPrompt],
    groups: Sequence[CompletionGroup],
    *,
    max_tokens: int,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
) -> list[PairBatch]:
    """The micro-batches of one step, in the order of the examples."""
    parts: list[list[int]] = []
    load = 0
    for index, group in enumerate(groups):
        if not parts or load + group.num_tokens > max_tokens:
            parts.append([])
            load = 0
        parts[-1].append(index)
        load += group.num_tokens
    found = []
    for part in parts:
        whole = pack(groups, [PackSlice(i, 0, len(groups[i])) for i in part])
        own = Judgements.of([examples[i] for i in part], label_smoothing=label_smoothing, margin=margin).pairs
        found.append(
            PairBatch(
                **vars(whole), pairs_2P=np.stack([own.first, own.second]), target_P=own.target.astype(np.float32),
                weight_P=(own.weight / len(examples)).astype(np.float32), margin_P=own.margin.astype(np.float32),
            )
        )  # fmt: skip
    return found


def preference_loss(
    rewards_B: Tensor, pairs_2P: Tensor, target_P: Tensor, weight_P: Tensor, margin_P: Tensor, *, centre: float
) -> tuple[Tensor, Tensor]:
    """(the Bradley-Terry part, the centring part), both summed over pairs by weight."""
    first, second = rewards_B[pairs_2P[0]], rewards_B[pairs_2P[1]]
    difference = first - second - torch.sign(2 * target_P - 1) * margin_P
    fit = F.binary_cross_entropy_with_logits(difference, target_P, weight=weight_P, reduction="sum")
    return fit, centre * ((first + second) ** 2) @ weight_P


@dataclass(frozen=True)
class PreferenceLoss(HiddenLoss):
    """What a step sums for each pack. centre: the weight that pulls the rewards of a pair towards a sum of 0."""

    pool: Pool
    centre: float

    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        arrays = (batch.pairs_2P, batch.target_P, batch.weight_P, batch.margin_P)
        pairs, target, weight, margin = (torch.from_numpy(x).to(hidden_ND.device) for x in arrays)
        rewards = self.values(hidden_ND, head, batch)
        fit, centring = preference_loss(rewards, pairs, target, weight, margin, centre=self.centre)
        return fit + centring, {"pairs": fit.detach(), "centring": centring.detach()}

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: Pack) -> Tensor:
        """r (B,) of the answers."""
        return head_logits(pooled(hidden_ND, batch, self.pool), head)
