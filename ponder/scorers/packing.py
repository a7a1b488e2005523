"""Completions of many problems as packs for one forward pass: each prompt once, followed by all of its completions.

    group = CompletionGroup.of(prompt_ids, [completion.token_ids for completion in completions])
    for pack in packs([group, ...], max_tokens=2048): ...

A group keeps its completions end to end in one array, so that a bank of a million samples needs no Python object for
each sample. Equal completions of a prompt have equal scores: `unique` keeps one of each.

Shapes: N packed tokens, B completions of a pack, C = 4 logprob features.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ponder.grading import counted_answer
from ponder.models.segments import Segment
from ponder.types import Completion

Ids = NDArray[np.int32]
NUM_LOGPROB_FEATURES = 4  # see `logprob_features`


@dataclass(frozen=True)
class CompletionGroup:
    """One prompt and its completions, as arrays. Networks use the ids, `features.py` the rest too."""

    prompt_ids: Ids
    token_ids: Ids  # of all completions, end to end
    lengths: NDArray[np.int64]  # (B,) ids of each completion; 0 = none yet
    logprobs: NDArray[np.float32] | None = None  # one per token id, as the sampler recorded them
    was_cut: NDArray[np.bool_] | None = None  # (B,)
    classes: NDArray[np.int64] | None = None  # (B,) equal numbers = the same answer, -1 = no answer

    @classmethod
    def of(cls, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> CompletionGroup:
        """From ids alone: `logprobs`, `was_cut` and `classes` stay None. ValueError where the prompt has no ids."""
        flat = np.fromiter(itertools.chain.from_iterable(completions), np.int32)
        lengths = np.array([len(ids) for ids in completions], dtype=np.int64)
        return cls(np.array(prompt_ids, np.int32), flat, lengths)

    @classmethod
    def of_completions(
        cls, completions: Sequence[Completion], key: Callable[[str], str | None] = lambda answer: answer.strip() or None
    ) -> CompletionGroup:
        """From completions of one prompt; answers with equal keys are the same."""
        plain = cls.of(completions[0].prompt_ids, [c.token_ids for c in completions])
        keys = [key(counted_answer(c)) for c in completions]
        numbers = {k: i for i, k in enumerate(dict.fromkeys(k for k in keys if k is not None))}
        logprobs = np.fromiter(itertools.chain.from_iterable(c.sampler_logprobs for c in completions), np.float32)
        return replace(
            plain,
            logprobs=logprobs if len(logprobs) == len(plain.token_ids) else None,  # some engines return none
            was_cut=np.array([c.was_cut for c in completions]),
            classes=np.array([-1 if k is None else numbers[k] for k in keys], dtype=np.int64),
        )

    def __post_init__(self) -> None:
        if not len(self.prompt_ids):
            raise ValueError(
                "the completions have no token ids, as those of a remote engine and of a gated benchmark's bank do "
                "not; a judge can read their texts instead"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """The tokens of one forward pass over the group."""
        return len(self.prompt_ids) + len(self.token_ids)

    def take(self, rows: Sequence[int]) -> CompletionGroup:
        """These completions alone, in this order; `was_cut` and `classes` are left out."""
        ends = np.cumsum(self.lengths)
        parts = [slice(ends[row] - self.lengths[row], ends[row]) for row in rows]
        token_ids, logprobs = (
            None if ids is None else np.concatenate([ids[:0], *(ids[part] for part in parts)])
            for ids in (self.token_ids, self.logprobs)
        )
        assert token_ids is not None
        return CompletionGroup(self.prompt_ids, token_ids, self.lengths[list(rows)], logprobs)

    def unique(self) -> tuple[CompletionGroup, NDArray[np.int64]]:
        """(the distinct completions in the order they appear, the index of each completion among them).

        Logprobs are those of the first of equals; `was_cut` and `classes` are left out.
        """
        ends = np.cumsum(self.lengths)
        index_of: dict[bytes, int] = {}
        first: list[int] = []
        inverse = np.empty(len(self.lengths), np.int64)
        for row, (start, end) in enumerate(zip((ends - self.lengths).tolist(), ends.tolist(), strict=True)):
            ids = self.token_ids[start:end].tobytes()
            inverse[row] = index_of.setdefault(ids, len(index_of))
            if inverse[row] == len(first):
                first.append(row)
        return self.take(first), inverse


class PackSlice(NamedTuple):
    """Completions first..end of a group: the part of it that is in one pack."""

    group: int  # its index
    first: int
    end: int


@dataclass(kw_only=True)
class Pack:
    """The input of one forward pass."""

    tokens_N: NDArray[np.int64]
    logprob_features_NC: NDArray[np.float32]  # see `logprob_features`; 0 for prompts and groups without logprobs
    segments: list[Segment]
    first_B: NDArray[np.int64]  # where each completion begins
    last_B: NDArray[np.int64]  # its last token; for an empty one the prompt's last
    prompt_last_B: NDArray[np.int64]  # the last token of its prompt
    slices: list[PackSlice]

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """`first_B`, `last_B` and `prompt_last_B`, in the order in which `probe.completion_states` takes them."""
        return self.first_B, self.last_B, self.prompt_last_B


def packs(groups: Sequence[CompletionGroup], *, max_tokens: int) -> Iterator[Pack]:
    """Packs of at most `max_tokens` tokens, unless a single completion with its prompt has more."""
    slices: list[PackSlice] = []
    load = 0
    for part, size in _slices(groups, max_tokens):
        if slices and load + size > max_tokens:
            yield pack(groups, slices)
            slices, load = [], 0
        slices.append(part)
        load += size
    if slices:
        yield pack(groups, slices)


def read_packed(
    groups: Sequence[CompletionGroup], read: Callable[[Pack], NDArray[Any]], *, width: tuple[int, ...] = (),
    dtype: type[np.floating[Any]], max_tokens: int,
) -> list[NDArray[Any]]:  # fmt: skip
    """What `read` gives of each completion (B ...) of every group; equal ones are read once. width: of a row."""
    unique = [group.unique() for group in groups]
    found = [np.zeros((len(group), *width), dtype) for group, _ in unique]
    for pack in packs([group for group, _ in unique], max_tokens=max_tokens):
        values, done = read(pack), 0
        for index, first, end in pack.slices:
            found[index][first:end] = values[done : done + end - first]
            done += end - first
    return [rows[inverse] for rows, (_, inverse) in zip(found, unique, strict=True)]


def _slices(groups: Sequence[CompletionGroup], max_tokens: int) -> Iterator[tuple[PackSlice, int]]:
    """The groups, cut where they are too long, with the tokens of each slice."""
    for index, group in enumerate(groups):
        ends, prompt = np.cumsum(group.lengths), len(group.prompt_ids)
        first = done = 0
        while first < len(group):
            end = max(first + 1, int(np.searchsorted(ends, done + max_tokens - prompt, side="right")))
            yield PackSlice(index, first, end), prompt + int(ends[end - 1]) - done
            first, done = end, int(ends[end - 1])


def pack(groups: Sequence[CompletionGroup], slices: Sequence[PackSlice]) -> Pack:
    """One pack of the slices, in their order."""
    tokens: list[Ids] = []
    features: list[NDArray[np.float32]] = []
    segments: list[Segment] = []
    firsts, lasts, prompts = [], [], []
    offset = 0
    for index, first, end in slices:
        group, begin = groups[index], offset
        lengths = group.lengths[first:end]
        skipped, prompt_size = int(group.lengths[:first].sum()), len(group.prompt_ids)
        own = slice(skipped, skipped + int(lengths.sum()))
        size = own.stop - own.start
        features.append(np.zeros((prompt_size, NUM_LOGPROB_FEATURES), np.float32))
        features.append(
            np.zeros((size, NUM_LOGPROB_FEATURES), np.float32)
            if group.logprobs is None
            else logprob_features(group.logprobs[own], lengths)
        )
        tokens += [group.prompt_ids, group.token_ids[own]]
        offset += prompt_size + size
        ends = begin + prompt_size + np.cumsum(lengths)
        starts = ends - lengths
        segments.append(Segment(begin, begin + prompt_size))
        segments += [
            Segment(start, stop, begin, begin + prompt_size)
            for start, stop in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        firsts.append(starts)
        lasts.append(np.where(lengths > 0, ends - 1, begin + prompt_size - 1))
        prompts.append(np.full(len(lengths), begin + prompt_size - 1))
    return Pack(
        tokens_N=np.concatenate(tokens).astype(np.int64),
        logprob_features_NC=np.concatenate(features),
        segments=segments,
        first_B=np.concatenate(firsts),
        last_B=np.concatenate(lasts),
        prompt_last_B=np.concatenate(prompts),
        slices=list(slices),
    )


def logprob_features(logprobs_N: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N C) of completions end to end: each token's log-probability, the lowest and the mean of its completion so far,
    and a 1, which means that they are known.

        logprob_features([-1, -3, -2], [2, 1])    -> [[-1, -1, -1, 1], [-3, -3, -2, 1], [-2, -2, -2, 1]]
    """
    values = np.clip(np.nan_to_num(logprobs_N.astype(np.float64), neginf=-10.0), -10.0, 0.0)
    row = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    sums = np.r_[0.0, np.cumsum(values)]
    ends = np.arange(len(values)) + 1
    # each row is shifted below all rows before it, so that one running minimum is enough for all
    lowest = np.minimum.accumulate(values - 20.0 * row) + 20.0 * row
    mean = (sums[ends] - sums[starts]) / (ends - starts)
    return np.column_stack([values, lowest, mean, np.ones(len(values))]).astype(np.float32)
