"""What a scorer learns from: every token of a completion predicts how it ends, and right ranks above wrong.

    loss = weighted mean of BCE over tokens  +  pairwise * mean over (right, wrong) pairs of softplus(wrong - right)

Targets are 1 and 0 at every token (outcome), or the share of continuations that ended correct at the ends of steps
(process). Right and wrong samples weigh the same in total; equal completions of a problem are computed once and count
as often as they were drawn. The pairs are those of one problem: a batch of easy and hard problems teaches which is
easy, and only the pairs insist on the difference that choosing needs.

Shapes: N packed tokens, B completions, P pairs, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ponder.models.segments import Segment
from ponder.scorers.outcome import embedding_bias, head_logits
from ponder.scorers.packing import CompletionGroup, Pack, packs
from ponder.train.replica import HiddenLoss
from ponder.train.scorer_rollouts import Drawn


@dataclass(frozen=True)
class ScorerExample:
    """One problem's different completions, and what is to be learnt of each."""

    group: CompletionGroup
    counts: NDArray[np.float64]  # (B,) how often it was drawn
    correct: NDArray[np.float64]  # (B,)
    targets: NDArray[np.float32]  # one per token id
    weights: NDArray[np.float32]  # one per token id, 1 in total a completion (0: nothing is known of it)
    inverse: NDArray[np.int64]  # of every sample that was drawn, the index of its completion


def outcome_example(drawn: Drawn, *, late: float) -> ScorerExample:
    """Every token predicts the outcome; token t of T weighs ((t + 1) / T) ** late."""
    group, inverse, counts, correct = _distinct(drawn)
    lengths = group.lengths
    ends = np.cumsum(lengths)
    position = np.arange(len(group.token_ids)) - np.repeat(ends - lengths, lengths) + 1
    raw = (position / np.repeat(lengths, lengths)) ** late
    sums = np.bincount(np.repeat(np.arange(len(lengths)), lengths), raw, minlength=len(lengths))
    weights = raw / np.repeat(sums, lengths)
    targets = np.repeat(correct, lengths)
    return ScorerExample(group, counts, correct, targets.astype(np.float32), weights.astype(np.float32), inverse)


def process_example(drawn: Drawn) -> ScorerExample:
    """The ends of labelled steps predict the share of continuations that end correct, the last token the outcome."""
    group, inverse, counts, correct = _distinct(drawn)
    starts = np.cumsum(group.lengths) - group.lengths
    targets = np.zeros(len(group.token_ids), np.float32)
    weights = np.zeros(len(group.token_ids), np.float32)
    for sample, position, share in drawn.steps:
        at = starts[inverse[sample]] + position - 1
        targets[at], weights[at] = share, 1.0
    some = group.lengths > 0
    last = (starts + group.lengths - 1)[some]
    targets[last], weights[last] = correct[some], 1.0
    sums = np.bincount(np.repeat(np.arange(len(group)), group.lengths), weights, minlength=len(group))
    weights /= np.repeat(np.maximum(sums, 1.0), group.lengths)
    return ScorerExample(group, counts, correct, targets, weights.astype(np.float32), inverse)


def _distinct(drawn: Drawn) -> tuple[CompletionGroup, NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    group, inverse = drawn.group.unique()
    counts = np.bincount(inverse, minlength=len(group)).astype(np.float64)
    correct = np.zeros(len(group))
    correct[inverse] = drawn.correct
    return group, inverse, counts, correct


@dataclass(frozen=True)
class Balance:
    """What one sample weighs, so that right and wrong ones weigh the same in total."""

    right: float
    wrong: float

    @classmethod
    def of(cls, examples: Sequence[ScorerExample]) -> Balance:
        """Of samples among which there are right and wrong ones, each counted as often as it was drawn."""
        share = sum(float(x.counts @ x.correct) for x in examples) / sum(float(x.counts.sum()) for x in examples)
        return cls(0.5 / share, 0.5 / (1 - share))


@dataclass(kw_only=True)
class ScoreBatch:
    """A micro-batch as plain arrays: it travels to workers."""

    tokens_N: NDArray[np.int64]
    logprob_features_NC: NDArray[np.float32]
    segments: list[Segment]
    last_B: NDArray[np.int64]
    targets_N: NDArray[np.float32]
    weights_N: NDArray[np.float32]  # 0 on prompts
    right_P: NDArray[np.int64]  # rows of B
    wrong_P: NDArray[np.int64]
    weights_P: NDArray[np.float32]
    seed: int  # of the dropout


def batches(examples: Sequence[ScorerExample], balance: Balance, *, max_tokens: int, seed: int) -> list[ScoreBatch]:
    """Packs of the examples of one step; the weights of all tokens add up to about 1, and so do those of all pairs."""
    found = list(packs([example.group for example in examples], max_tokens=max_tokens))
    total = sum(float(example.counts.sum()) for example in examples)
    mixed = max(1, sum(0 < example.correct.mean() < 1 for example in examples))
    return [_batch(pack, examples, balance, total, mixed, seed + i) for i, pack in enumerate(found)]


def _batch(
    pack: Pack, examples: Sequence[ScorerExample], balance: Balance, total: float, mixed: int, seed: int
) -> ScoreBatch:
    targets, weights = (np.zeros(len(pack.tokens_N), np.float32) for _ in range(2))
    right, wrong, pair_weights = [], [], []
    row = 0
    for index, first, end in pack.slices:
        example = examples[index]
        lengths = example.group.lengths[first:end]
        skipped, size = int(example.group.lengths[:first].sum()), int(lengths.sum())
        begin = int(pack.first_B[row])
        targets[begin : begin + size] = example.targets[skipped : skipped + size]
        of_row = example.counts[first:end] * np.where(example.correct[first:end] > 0.5, balance.right, balance.wrong)
        own = example.weights[skipped : skipped + size]
        weights[begin : begin + size] = own * np.repeat(of_row, lengths) / total
        good = np.flatnonzero(example.correct[first:end] > 0.5)
        bad = np.flatnonzero(example.correct[first:end] <= 0.5)
        if len(good) and len(bad):
            counts = example.counts[first:end]
            pairs = np.outer(counts[good], counts[bad])
            share = counts.sum() / example.counts.sum()  # of a problem that is cut over several packs
            right.append(np.repeat(good + row, len(bad)))
            wrong.append(np.tile(bad + row, len(good)))
            pair_weights.append((pairs / pairs.sum() * share / mixed).ravel())
        row += end - first
    return ScoreBatch(
        tokens_N=pack.tokens_N,
        logprob_features_NC=pack.logprob_features_NC,
        segments=pack.segments,
        last_B=pack.last_B,
        targets_N=targets,
        weights_N=weights,
        right_P=np.concatenate(right) if right else np.zeros(0, np.int64),
        wrong_P=np.concatenate(wrong) if wrong else np.zeros(0, np.int64),
        weights_P=np.concatenate(pair_weights).astype(np.float32) if pair_weights else np.zeros(0, np.float32),
        seed=seed,
    )


@dataclass(frozen=True)
class ScoreLoss(HiddenLoss):
    """See the head of this file. Dropout is on what the head reads of every token, not of pairs, and drawn from the
    batch's own seed."""

    dropout: float
    pairwise: float

    def embedding_bias(self, head: dict[str, Tensor], batch: ScoreBatch) -> Tensor | None:
        return embedding_bias(batch.logprob_features_NC, head)

    def loss(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: ScoreBatch) -> tuple[Tensor, dict[str, Tensor]]:
        device = hidden_ND.device
        kept = hidden_ND
        if self.dropout:
            generator = torch.Generator().manual_seed(batch.seed)
            mask = torch.rand(hidden_ND.shape, generator=generator) >= self.dropout
            kept = hidden_ND * (mask / (1 - self.dropout)).to(hidden_ND)
        targets, weights = (torch.from_numpy(x).to(device) for x in (batch.targets_N, batch.weights_N))
        tokens = F.binary_cross_entropy_with_logits(head_logits(kept, head), targets, weight=weights, reduction="sum")
        right, wrong = (torch.from_numpy(batch.last_B[x]).to(device) for x in (batch.right_P, batch.wrong_P))
        pairs = torch.zeros((), device=device)
        if len(batch.right_P):
            logits = head_logits(hidden_ND, head)
            pairs = F.softplus(logits[wrong] - logits[right]) @ torch.from_numpy(batch.weights_P).to(device)
        return tokens + self.pairwise * pairs, {"bce": tokens.detach(), "pairs": pairs.detach()}

    def values(self, hidden_ND: Tensor, head: dict[str, Tensor], batch: ScoreBatch) -> Tensor:
        """Logits (B,) at the completions' last tokens."""
        return head_logits(hidden_ND[torch.from_numpy(batch.last_B).to(hidden_ND.device)], head)
