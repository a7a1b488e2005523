"""Completions of many problems as packs for one forward pass: a prompt once, all of its completions after it.

    family = Family.of(prompt_ids, [completion.token_ids for completion in completions])
    for pack in packs([family, ...], max_tokens=2048): ...

A family keeps its completions end to end in one array, so that a bank of a million samples costs no Python object a
sample. Equal completions of a prompt have equal scores: `unique` keeps one of each.

Shapes: N packed tokens, B completions of a pack, C = 4 figures of surprise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ponder.grading import counted_answer
from ponder.models.segments import Segment
from ponder.types import Completion

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Family:
    """One prompt and its completions, in arrays. Networks read the ids only, `features.py` the rest too."""

    prompt_ids: Ids
    token_ids: Ids  # of all completions, end to end
    lengths: NDArray[np.int64]  # (B,) ids of each completion; 0 = nothing was said yet
    logprobs: NDArray[np.float32] | None = None  # one per token id, as the sampler recorded them
    was_cut: NDArray[np.bool_] | None = None  # (B,)
    classes: NDArray[np.int64] | None = None  # (B,) equal numbers = the same answer, -1 = no answer

    @classmethod
    def of(cls, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> Family:
        flat = np.fromiter(itertools.chain.from_iterable(completions), np.int32)
        lengths = np.array([len(ids) for ids in completions], dtype=np.int64)
        return cls(np.array(prompt_ids, np.int32), flat, lengths)

    @classmethod
    def of_completions(
        cls, completions: Sequence[Completion], key: Callable[[str], str | None] = lambda answer: answer.strip() or None
    ) -> Family:
        """Completions of one prompt; `key` says which answers are the same."""
        plain = cls.of(completions[0].prompt_ids, [c.token_ids for c in completions])
        keys = [key(counted_answer(c)) for c in completions]
        indices = {k: i for i, k in enumerate(dict.fromkeys(k for k in keys if k is not None))}
        logprobs = np.fromiter(itertools.chain.from_iterable(c.sampler_logprobs for c in completions), np.float32)
        return replace(
            plain,
            logprobs=logprobs if len(logprobs) == len(plain.token_ids) else None,  # some engines give none
            was_cut=np.array([c.was_cut for c in completions]),
            classes=np.array([-1 if k is None else indices[k] for k in keys], dtype=np.int64),
        )

    def __post_init__(self) -> None:
        if not len(self.prompt_ids):
            raise ValueError(
                "the completions carry no token ids, as those of a remote engine and of a gated benchmark's bank do "
                "not; a judge can read their texts instead"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """What a pass over it reads."""
        return len(self.prompt_ids) + len(self.token_ids)

    def unique(self) -> tuple[Family, NDArray[np.int64]]:
        """The different completions in the order they appear, and which of them each completion is.

        Logprobs are those of the first of equals; what is known of a sample beside is left out.
        """
        ends = np.cumsum(self.lengths)
        indices: dict[bytes, int] = {}
        first: list[tuple[int, int, int]] = []
        which = np.empty(len(self.lengths), np.int64)
        for row, (start, end) in enumerate(zip((ends - self.lengths).tolist(), ends.tolist(), strict=True)):
            ids = self.token_ids[start:end].tobytes()
            which[row] = indices.setdefault(ids, len(indices))
            if which[row] == len(first):
                first.append((row, start, end))
        lengths = self.lengths[[row for row, _, _ in first]]
        token_ids, logprobs = (
            None if ids is None else np.concatenate([ids[:0], *(ids[start:end] for _, start, end in first)])
            for ids in (self.token_ids, self.logprobs)
        )
        assert token_ids is not None
        return Family(self.prompt_ids, token_ids, lengths, logprobs), which


class FamilySlice(NamedTuple):
    """Completions first..end of a family: what of it lies in one pack."""

    family: int
    first: int
    end: int


@dataclass(kw_only=True)
class Pack:
    """What one forward pass runs over."""

    tokens_N: NDArray[np.int64]
    surprise_NC: NDArray[np.float32]  # see `surprise`; 0 where nothing is known: prompts, families without logprobs
    segments: list[Segment]
    first_B: NDArray[np.int64]  # where each completion begins
    last_B: NDArray[np.int64]  # its last token; of an empty one the prompt's last
    prompt_last_B: NDArray[np.int64]  # the last token of its prompt
    pieces: list[FamilySlice]

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        return self.first_B, self.last_B, self.prompt_last_B


def packs(families: Sequence[Family], *, max_tokens: int) -> Iterator[Pack]:
    """Packs of at most `max_tokens` tokens, unless a single completion with its prompt has more."""
    pieces: list[FamilySlice] = []
    load = 0
    for piece, size in _pieces(families, max_tokens):
        if pieces and load + size > max_tokens:
            yield pack(families, pieces)
            pieces, load = [], 0
        pieces.append(piece)
        load += size
    if pieces:
        yield pack(families, pieces)


def _pieces(families: Sequence[Family], max_tokens: int) -> Iterator[tuple[FamilySlice, int]]:
    """Families cut where they are too long, with the tokens of each piece."""
    for index, family in enumerate(families):
        ends, prompt = np.cumsum(family.lengths), len(family.prompt_ids)
        first = done = 0
        while first < len(family):
            end = max(first + 1, int(np.searchsorted(ends, done + max_tokens - prompt, side="right")))
            yield FamilySlice(index, first, end), prompt + int(ends[end - 1]) - done
            first, done = end, int(ends[end - 1])


def pack(families: Sequence[Family], pieces: Sequence[FamilySlice]) -> Pack:
    tokens: list[Ids] = []
    figures: list[NDArray[np.float32]] = []
    segments: list[Segment] = []
    firsts, lasts, prompts = [], [], []
    at = 0
    for index, first, end in pieces:
        family, begin = families[index], at
        lengths = family.lengths[first:end]
        skipped, prompt = int(family.lengths[:first].sum()), len(family.prompt_ids)
        own = slice(skipped, skipped + int(lengths.sum()))
        size = own.stop - own.start
        figures.append(np.zeros((prompt, SURPRISES), np.float32))
        figures.append(
            np.zeros((size, SURPRISES), np.float32)
            if family.logprobs is None
            else surprise(family.logprobs[own], lengths)
        )
        tokens += [family.prompt_ids, family.token_ids[own]]
        at += prompt + size
        ends = begin + prompt + np.cumsum(lengths)
        starts = ends - lengths
        segments.append(Segment(begin, begin + prompt))
        segments += [
            Segment(start, stop, begin, begin + prompt)
            for start, stop in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        firsts.append(starts)
        lasts.append(np.where(lengths > 0, ends - 1, begin + prompt - 1))
        prompts.append(np.full(len(lengths), begin + prompt - 1))
    return Pack(
        tokens_N=np.concatenate(tokens).astype(np.int64),
        surprise_NC=np.concatenate(figures),
        segments=segments,
        first_B=np.concatenate(firsts),
        last_B=np.concatenate(lasts),
        prompt_last_B=np.concatenate(prompts),
        pieces=list(pieces),
    )


SURPRISES = 4


def surprise(logprobs_N: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N C) of completions end to end: each token's log-probability, the lowest and the mean so far, and a 1 that says
    that these are known.

        surprise([-1, -3, -2], [2, 1])    -> [[-1, -1, -1, 1], [-3, -3, -2, 1], [-2, -2, -2, 1]]
    """
    values = np.clip(np.nan_to_num(logprobs_N.astype(np.float64), neginf=-10.0), -10.0, 0.0)
    row = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    sums = np.r_[0.0, np.cumsum(values)]
    at = np.arange(len(values)) + 1
    # every row lies below all before it, so one running minimum serves them all
    lowest = np.minimum.accumulate(values - 20.0 * row) + 20.0 * row
    mean = (sums[at] - sums[starts]) / (at - starts)
    return np.column_stack([values, lowest, mean, np.ones(len(values))]).astype(np.float32)
