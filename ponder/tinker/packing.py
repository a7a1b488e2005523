"""Data of a training request -> packs for the trainer: no padding, and what several sequences begin with only once.

Samples of one prompt come as a prompt's chunks and one more. Sequences that share all chunks but the last are one
family: the shared part is computed once, forward and backward, and its untrained log-probabilities too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.models.segments import Segment
from ponder.tinker.losses import LOSSES
from ponder.tinker.wire import Datum
from ponder.train.batches import Batch, pack


@dataclass(frozen=True, eq=False)
class Row:
    """A checked datum: what begins it, what follows, and three numbers a position."""

    prefix: tuple[int, ...]
    own: tuple[int, ...]
    target_T: np.ndarray
    weight_T: np.ndarray  # weights or advantages
    sampled_T: np.ndarray  # log-probabilities as recorded, 0 where the loss has none

    def __len__(self) -> int:
        return len(self.target_T)


@dataclass(frozen=True, eq=False)
class DataPack:
    """Rows for one forward pass, and which positions of them are computed once for several."""

    batch: Batch
    lengths: list[int]  # of each row
    copies: list[tuple[int, int, int]]  # (row, row it equals, in so many of its first positions)

    def logprobs(self, logprobs_BT: Tensor) -> list[np.ndarray]:
        """Each row's log-probabilities, from what the trainer computed."""
        found = logprobs_BT.numpy()
        for row, other, count in self.copies:
            found[row, :count] = found[other, :count]
        return [found[row, :length].copy() for row, length in enumerate(self.lengths)]


def check(datum: Datum, loss: str, *, number: int, vocab_size: int, window: int) -> Row:
    """ConfigError for a datum that this loss and this model cannot take, with its number in the request."""
    spec, where, T = LOSSES[loss], f"datum {number}", len(datum)
    if not T:
        raise ConfigError(f"{where} has no tokens")
    if window < T:
        raise ConfigError(f"{where} has {T} tokens; this model's window is {window}. Shorten it")
    if unknown := set(datum.inputs) - set(spec.inputs):
        raise ConfigError(f"{where}: {loss} takes no {sorted(unknown)[0]!r}; it takes {', '.join(spec.inputs)}")
    inputs = dict(datum.inputs)
    if loss == "cross_entropy":
        inputs.setdefault("weights", np.ones(T, np.float32))
    for name in spec.inputs:
        if name not in inputs:
            raise ConfigError(f"{where}: {loss} needs {', '.join(spec.inputs)}; {name} is missing")
        if inputs[name].shape != (T,):
            raise ConfigError(f"{where}: {name} has {inputs[name].size} values, its input {T} tokens; give one each")
        if inputs[name].dtype.kind == "f" and not np.isfinite(inputs[name]).all():
            raise ConfigError(f"{where}: {name} holds numbers that are not finite")
    ids, targets = np.concatenate(datum.chunks), inputs["target_tokens"].astype(np.int64)
    for what, tokens in (("model_input", ids), ("target_tokens", targets)):
        if ((tokens < 0) | (tokens >= vocab_size)).any():
            raise ConfigError(f"{where}: {what} must lie in 0 to {vocab_size - 1}; is the tokenizer this model's?")
    begun = datum.chunks[:-1]
    prefix = np.concatenate(begun) if begun else np.zeros(0, np.int64)
    return Row(
        tuple(prefix.tolist()),
        tuple(datum.chunks[-1].tolist()),
        targets,
        inputs[spec.weight].astype(np.float32),
        inputs.get("logprobs", np.zeros(T)).astype(np.float32),
    )


def packs(rows: Sequence[Row], *, max_tokens: int, num_shares: int) -> list[tuple[list[int], DataPack]]:
    """(indices of the rows, their pack); see `train.batches.pack`."""
    by_prefix: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_prefix.setdefault(row.prefix or (-1, index), []).append(index)  # nothing is shared without one
    groups = [(len(rows[indices[0]].prefix), indices) for indices in by_prefix.values()]
    cut = pack(groups, [len(row.own) for row in rows], max_tokens=max_tokens, num_shares=num_shares)
    return [(indices, collate([rows[i] for i in indices])) for indices in cut if indices]


def collate(rows: Sequence[Row]) -> DataPack:
    """One pack of checked rows, (B, T) with T the longest of them; the prompts that they share are computed once."""
    B, T = len(rows), max(len(row) for row in rows)
    tokens: list[int] = []
    segments: list[Segment] = []
    copies: list[tuple[int, int, int]] = []
    predictor, target = np.zeros((B, T), np.int64), np.zeros((B, T), np.int64)
    weight, sampled, mask = np.zeros((B, T), np.float32), np.zeros((B, T), np.float32), np.zeros((B, T), bool)
    families: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        families.setdefault(row.prefix, []).append(index)
    for prefix, members in families.items():
        begin = len(tokens)
        end = begin + len(prefix)
        tokens += prefix
        if prefix:
            segments.append(Segment(begin, end))
        for member in members:
            row, start, n = rows[member], len(tokens), len(rows[member])
            tokens += row.own
            if row.own:
                segments.append(Segment(start, len(tokens), begin, end))
            predictor[member, :n] = [*range(begin, end), *range(start, len(tokens))]
            target[member, :n], weight[member, :n], sampled[member, :n] = row.target_T, row.weight_T, row.sampled_T
            mask[member, :n] = True
            first, shared = rows[members[0]], max(0, len(prefix) - 1)  # the prefix's last predicts what differs
            is_repeated = member != members[0] and np.array_equal(row.target_T[:shared], first.target_T[:shared])
            if is_repeated and not row.weight_T[:shared].any():
                mask[member, :shared] = False
                copies.append((member, members[0], shared))
    batch = Batch(
        tokens_N=torch.tensor(tokens),
        segments=segments,
        predictor_BT=torch.from_numpy(predictor),
        target_BT=torch.from_numpy(target),
        mask_BT=torch.from_numpy(mask),
        sampler_logprobs_BT=torch.from_numpy(sampled),
        advantages_BT=torch.from_numpy(weight),
        weights_B=torch.ones(B),
    )
    return DataPack(batch, [len(row) for row in rows], copies)
