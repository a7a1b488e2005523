"""Rollouts -> tensors: one row a completion, with a mask over the tokens that are trained on.

Position t of the arrays speaks of token t+1 of the sequence, the one that position t predicts:

    tokens_BT         prompt and completion, padded on the right            (B, T+1)
    mask_BT           True where the next token was sampled by the policy   (B, T)
    sampler_logprobs  what the engine recorded, 0 elsewhere                 (B, T)

Ids go in as they were sampled; nothing is re-tokenised. Tokens that a budget forced are context, not targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.types import Completion, Group


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sequence to train on."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]  # one per token id
    sampler_logprobs: tuple[float, ...] = ()  # one per token id; empty in supervised fine-tuning
    advantage: float = 0.0
    weight: float = 1.0  # of each trained token in the loss, see losses.token_weights

    def __post_init__(self) -> None:
        n = len(self.token_ids)
        if not self.prompt_ids:
            raise ValueError("an example needs a prompt of at least one token: nothing predicts the first")
        if len(self.trained) != n or len(self.sampler_logprobs) not in (0, n):  # a mask of one would spread over all
            raise ValueError(
                f"an example of {n} tokens has {len(self.trained)} marks of what is trained and "
                f"{len(self.sampler_logprobs)} logprobs; give one of each a token (or no logprobs)"
            )

    @property
    def num_trained(self) -> int:
        return sum(self.trained)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.token_ids)


@dataclass(kw_only=True)
class Batch:
    """A micro-batch: what one forward pass needs. Plain tensors, so it travels between processes."""

    tokens_BT: Tensor
    mask_BT: Tensor
    sampler_logprobs_BT: Tensor
    advantages_B: Tensor
    weights_B: Tensor
    ref_logprobs_BT: Tensor | None = None
    old_logprobs_BT: Tensor | None = None
    index: list[int] = field(default_factory=list)  # where each row stood before sorting

    def __getstate__(self) -> dict[str, Any]:
        """Travels to workers as plain arrays: a tensor would take two file descriptors each, and there are many."""
        return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, torch.from_numpy(value) if isinstance(value, np.ndarray) else value)


def from_completion(completion: Completion, *, advantage: float, trained: bool = True) -> Example:
    return Example(
        prompt_ids=completion.prompt_ids,
        token_ids=completion.token_ids,
        trained=tuple(sampled and trained for sampled in completion.sampled),
        sampler_logprobs=completion.sampler_logprobs,
        advantage=advantage,
    )


def from_groups(groups: Sequence[Group], advantages: Sequence[Iterable[float]]) -> list[Example]:
    """One example a turn; every turn of a rollout carries the rollout's advantage."""
    return [
        from_completion(turn.completion, advantage=float(advantage), trained=turn.trained)
        for group, values in zip(groups, advantages, strict=True)
        for rollout, advantage in zip(group.rollouts, values, strict=True)
        for turn in rollout.turns
    ]


def collate(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """Pad examples to their longest and align them as the head of this file says."""
    B, T = len(examples), max(len(example) for example in examples) - 1
    tokens = torch.full((B, T + 1), pad_id, dtype=torch.long)
    mask = torch.zeros((B, T), dtype=torch.bool)
    logprobs = torch.zeros((B, T))
    for row, example in enumerate(examples):
        start, end = len(example.prompt_ids), len(example)
        tokens[row, :end] = torch.tensor(example.prompt_ids + example.token_ids)
        mask[row, start - 1 : end - 1] = torch.tensor(example.trained)
        if example.sampler_logprobs:
            logprobs[row, start - 1 : end - 1] = torch.tensor(example.sampler_logprobs)
    return Batch(
        tokens_BT=tokens,
        mask_BT=mask,
        sampler_logprobs_BT=logprobs,
        advantages_B=torch.tensor([example.advantage for example in examples]),
        weights_B=torch.tensor([example.weight for example in examples]),
    )


def micro_batches(examples: Sequence[Example], *, max_tokens: int, pad_id: int) -> list[Batch]:
    """Cut examples into batches of at most `max_tokens` padded tokens, similar lengths together."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]), i))
    batches: list[Batch] = []
    chosen: list[int] = []

    def close() -> None:
        batch = collate([examples[i] for i in chosen], pad_id=pad_id)
        batch.index = list(chosen)
        batches.append(batch)
        chosen.clear()

    for i in order:
        if chosen and len(examples[i]) * (len(chosen) + 1) > max_tokens:
            close()
        chosen.append(i)
    if chosen:
        close()
    return batches
