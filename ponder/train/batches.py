"""Rollouts -> tensors: sequences packed without padding, a shared prompt once, a mask over what is trained on.

    tokens_N     [ prompt | completion 1 | completion 2 | next prompt ... ]     what one forward pass runs over
    B, T         one row a completion, one column a completion token:
    mask_BT      True where the token was sampled by the policy
    predictor_BT which packed token's hidden state predicts it: the one before it; for the first, the prompt's last
    target_BT    its id

Ids go in as they were sampled; nothing is re-tokenised. Tokens that a budget forced are context, not targets. The last
token of a completion predicts nothing and stays out of the pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.models.segments import Segment
from ponder.types import Completion, Group, Rollout


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sequence to train on."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]  # one per token id
    sampler_logprobs: tuple[float, ...] = ()  # one per token id; empty in supervised fine-tuning
    advantage: float | tuple[float, ...] = 0.0  # of all tokens, or one a token id
    weight: float = 1.0  # of each trained token in the loss, see losses.token_weights
    ref_logprobs: tuple[float, ...] = ()  # one per token id, of the reference; empty where nothing needs them
    returns: tuple[float, ...] = ()  # one per token id: what a critic should have said before it; empty without one

    def __post_init__(self) -> None:
        n = len(self.token_ids)
        if not self.prompt_ids:
            raise ValueError("an example needs a prompt of at least one token: nothing predicts the first")
        if len(self.trained) != n or len(self.sampler_logprobs) not in (0, n):  # a mask of one would spread over all
            raise ValueError(
                f"an example of {n} tokens has {len(self.trained)} marks of what is trained and "
                f"{len(self.sampler_logprobs)} logprobs; give one of each a token (or no logprobs)"
            )
        if isinstance(self.advantage, tuple) and len(self.advantage) != n:
            raise ValueError(f"an example of {n} tokens has {len(self.advantage)} advantages; give one a token, or one")

    @property
    def num_trained(self) -> int:
        return sum(self.trained)

    @property
    def has_advantage(self) -> bool:
        """Without one there is no gradient, but for a KL term's."""
        return self.advantage != 0 if isinstance(self.advantage, float) else any(self.advantage)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.token_ids)


@dataclass(kw_only=True)
class Batch:
    """A micro-batch: what one forward pass needs. Plain tensors, so it travels between processes."""

    tokens_N: Tensor
    segments: list[Segment]
    predictor_BT: Tensor
    target_BT: Tensor
    mask_BT: Tensor
    sampler_logprobs_BT: Tensor  # what the engine recorded, 0 elsewhere
    advantages_BT: Tensor
    weights_B: Tensor
    returns_BT: Tensor | None = None  # of a critic
    ref_logprobs_BT: Tensor | None = None
    old_logprobs_BT: Tensor | None = None
    indices: list[int] = field(default_factory=list)  # of the example of each row

    def __getstate__(self) -> dict[str, Any]:
        """Travels to workers as plain arrays: a tensor would take two file descriptors each, and there are many."""
        return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, torch.from_numpy(value) if isinstance(value, np.ndarray) else value)


def from_completion(completion: Completion, *, advantage: float | tuple[float, ...], trained: bool = True) -> Example:
    """A completion to be learnt from. advantage: of every token, or one each. trained=False: of none."""
    return Example(
        prompt_ids=completion.prompt_ids,
        token_ids=completion.token_ids,
        trained=tuple(sampled and trained for sampled in completion.sampled),
        sampler_logprobs=completion.sampler_logprobs,
        advantage=advantage,
    )


def from_groups(
    groups: Sequence[Group], advantages: Sequence[Iterable[float | np.ndarray]], *, contrast: float = 0.0
) -> list[Example]:
    """One example a turn; every turn of a rollout carries the rollout's advantage.

    Of a rollout of several turns, what was chosen is one example, as one sequence, and each choice is another. What was
    drawn and not chosen carries minus `contrast` times the advantage; with 0 it is left out.
    """
    return [
        example
        for group, values in zip(groups, advantages, strict=True)
        for rollout, advantage in zip(group.rollouts, values, strict=True)
        for example in from_rollout(rollout, np.asarray(advantage), contrast=contrast)
    ]


def from_rollout(rollout: Rollout, advantage: np.ndarray, *, contrast: float = 0.0) -> list[Example]:
    """advantage: () for every token, or (T,), one each."""
    if not rollout.completion.prompt_ids:  # an environment that ended before anything was drawn
        return []
    if advantage.ndim:  # of the whole: what was drawn beside it has no numbers of its own and is left out
        is_trained = rollout.whole is not None or rollout.turns[-1].trained
        return [from_completion(rollout.completion, advantage=tuple(advantage.tolist()), trained=is_trained)]
    number = float(advantage)
    if rollout.whole is None:
        return [from_completion(t.completion, advantage=number, trained=t.trained) for t in rollout.turns]
    examples = [from_completion(rollout.whole, advantage=number)]
    chosen = {turn.completion.token_ids for turn in rollout.turns if turn.chosen}
    for turn in rollout.turns:
        if turn.kind == "choice" and turn.trained:
            examples.append(from_completion(turn.completion, advantage=number))
        elif contrast and not turn.chosen and turn.completion.token_ids not in chosen:  # an equal one is no contrast
            examples.append(from_completion(turn.completion, advantage=-contrast * number))
    return [example for example in examples if example.token_ids]


def collate(examples: Sequence[Example]) -> Batch:
    """Pack examples; those of one prompt share it. Rows of the batch are in the order of the examples."""
    B, T = len(examples), max(1, max(len(example.token_ids) for example in examples))
    tokens: list[int] = []
    segments: list[Segment] = []
    mask = torch.zeros((B, T), dtype=torch.bool)
    logprobs, advantages = torch.zeros((B, T)), torch.zeros((B, T))
    more = [name for name in ("ref_logprobs", "returns") if any(getattr(example, name) for example in examples)]
    extra = {name: torch.zeros((B, T)) for name in more}
    predictor, target = torch.zeros((B, T), dtype=torch.long), torch.zeros((B, T), dtype=torch.long)
    for prompt, rows in by_prompt(examples).items():
        begin = len(tokens)
        end = begin + len(prompt)
        tokens += prompt
        if len(rows) > 1:
            segments.append(Segment(begin, end))
        for row in rows:
            example, start = examples[row], len(tokens)
            n = len(example.token_ids)
            tokens += example.token_ids[:-1]
            if len(rows) == 1:
                segments.append(Segment(begin, len(tokens)))
            elif n > 1:
                segments.append(Segment(start, len(tokens), begin, end))
            if n:
                predictor[row, :n] = torch.tensor([end - 1, *range(start, len(tokens))])
                target[row, :n] = torch.tensor(example.token_ids)
                mask[row, :n] = torch.tensor(example.trained)
                advantages[row, :n] = torch.tensor(example.advantage)
            if example.sampler_logprobs:
                logprobs[row, :n] = torch.tensor(example.sampler_logprobs)
            for name, values_BT in extra.items():
                values_BT[row, :n] = torch.tensor(getattr(example, name) or (0.0,) * n)
    return Batch(
        tokens_N=torch.tensor(tokens),
        segments=segments,
        predictor_BT=predictor,
        target_BT=target,
        mask_BT=mask,
        sampler_logprobs_BT=logprobs,
        advantages_BT=advantages,
        weights_B=torch.tensor([example.weight for example in examples]),
        returns_BT=extra.get("returns"),
        ref_logprobs_BT=extra.get("ref_logprobs"),
    )


def by_prompt(examples: Sequence[Example]) -> dict[tuple[int, ...], list[int]]:
    """Prompt -> indices of the examples that have it."""
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, example in enumerate(examples):
        indices.setdefault(example.prompt_ids, []).append(index)
    return indices


def micro_batches(examples: Sequence[Example], *, max_tokens: int, num_shares: int = 1) -> list[Batch]:
    """Cut examples into packs of at most `max_tokens` tokens, of nearly equal size, completions beside their prompt.

    There are a multiple of `num_shares` packs where the examples allow it, so that as many workers are kept busy.
    """
    sizes = [max(0, len(example.token_ids) - 1) for example in examples]
    groups = [(len(prompt), indices) for prompt, indices in by_prompt(examples).items()]
    batches = []
    for indices in pack(groups, sizes, max_tokens=max_tokens, num_shares=num_shares):
        batch = collate([examples[i] for i in indices])
        batch.indices = indices
        batches.append(batch)
    return batches


def pack(
    groups: Iterable[tuple[int, Sequence[int]]], sizes: Sequence[int], *, max_tokens: int, num_shares: int
) -> list[list[int]]:
    """Indices of sequences, a list a pack: of nearly equal size and at most `max_tokens` tokens, but where one sequence
    is longer; a multiple of `num_shares` packs where the sequences allow it.

    groups: (tokens of what several sequences begin with, which is computed once a pack; their indices). sizes: of each
    sequence without that.
    """
    families = [family for shared, indices in groups for family in _cut(shared, indices, sizes, max_tokens)]
    total = sum(size for size, _ in families)
    count = max(1, -(-total // max_tokens))
    count = min(len(families), -(-count // num_shares) * num_shares)
    packs: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for size, family in sorted(families, key=lambda family: (-family[0], family[1])):
        at = loads.index(min(loads))
        if packs[at] and loads[at] + size > max_tokens:
            packs.append([])
            loads.append(0)
            at = len(packs) - 1
        packs[at] += family
        loads[at] += size
    return packs


def _cut(shared: int, indices: Sequence[int], sizes: Sequence[int], max_tokens: int) -> Iterator[tuple[int, list[int]]]:
    """(tokens, indices): one group, in parts of at most `max_tokens`."""
    size, chosen = shared, list[int]()
    for index in indices:
        if chosen and size + sizes[index] > max_tokens:
            yield size, chosen
            size, chosen = shared, []
        chosen.append(index)
        size += sizes[index]
    yield size, chosen
