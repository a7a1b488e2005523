"""The hidden states after the tokens of each slot, for scorers that read them: the sampler has them anyway.

Kept a slot: the state (after the final norm) from which its last token was drawn, and the sum over its tokens. Rows
follow the slots exactly as logits and the cache do. Off unless asked for: they double what travels back for a sample.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class HiddenStates:
    """Shapes: n occupied slots, D width; float32 sums, whatever the model computes in."""

    def __init__(self, num_slots: int, width: int, device: torch.device) -> None:
        self._next = torch.zeros(num_slots, width, device=device)  # after the token that is drawn next
        self._last = torch.zeros(num_slots, width, device=device)  # after the one drawn last
        self._sum = torch.zeros(num_slots, width, device=device)

    def admit(self, slot: int, hidden_D: Tensor) -> None:
        """A new sample takes a slot; its first token is drawn from the last state of its prompt."""
        self._next[slot] = hidden_D.float()
        self._sum[slot] = 0

    def decoded(self, hidden_ND: Tensor, n: int) -> None:
        """States (N D) after a step of decoding; the next tokens of the n slots are drawn from the first n."""
        self._next[:n] = hidden_ND[:n].float()

    def drew(self, n: int) -> None:
        """Every slot has drawn a token."""
        self._last[:n] = self._next[:n]
        self._sum[:n] += self._next[:n]

    def move(self, source: int, target: int) -> None:
        """Give what one slot holds to another, as the cache does."""
        for rows in (self._next, self._last, self._sum):
            rows[target] = rows[source]

    def read(self, slot: int, num_tokens: int) -> NDArray[np.float32]:
        """(2 D,): the state after the last token, then the mean over all."""
        both = torch.cat((self._last[slot], self._sum[slot] / max(1, num_tokens)))
        return both.cpu().numpy()
