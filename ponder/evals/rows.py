"""One sample as a row of the bank: made from a completion and its verdict, and turned into a completion again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.evals.identity import GRADED_BY, graded
from ponder.strategies import select
from ponder.tasks.prompting import question
from ponder.types import Completion, FinishReason, Message, Outcome, Problem, Verdict


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """One stored sample: a field a column of DIR/samples, `answer_class` being `class` there.

    Columns that were not asked for have their defaults.
    """

    problem: str
    sample: int
    seed: int = 0
    policy_version: int = 0
    outcome: Outcome = "wrong"
    answer_class: str | None = None  # None = no answer
    extracted: str | None = None
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    reasoning_tokens: int = 0
    tokens: int = 0
    was_cut: bool = False
    mean_logprob: float = float("nan")
    worst_logprob: float = float("nan")
    note: str | None = None  # why it is undecided or failed
    error: str | None = None  # how the verifier failed
    reasoning: str = ""
    answer: str = ""
    token_ids: Sequence[int] = ()
    sampler_logprobs: Sequence[float] = ()
    forced: Sequence[int] = ()  # indices of tokens that a budget put there

    def columns(self) -> dict[str, Any]:
        """Its values by the names of the stored columns."""
        return {_column(name): value for name, value in vars(self).items()}

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> SampleRow:
        """A null is a field's default: there is nothing in it."""
        return cls(**{FIELDS.get(name, name): value for name, value in columns.items() if value is not None})


@dataclass(frozen=True)
class SampleArrays:
    """The columns of some samples that are held in memory, one value a sample."""

    outcome: NDArray[np.str_]
    answer_class: NDArray[np.object_]
    finish_reason: NDArray[np.str_]
    error: NDArray[np.bool_]  # whether there is one
    was_cut: NDArray[np.bool_]
    prompt_tokens: NDArray[np.int32]
    reasoning_tokens: NDArray[np.int32]
    tokens: NDArray[np.int32]
    mean_logprob: NDArray[np.float32]
    worst_logprob: NDArray[np.float32]

    @classmethod
    def column_names(cls) -> list[str]:
        """The stored columns that `of_columns` needs."""
        return [_column(field.name) for field in fields(cls)]

    @classmethod
    def of(cls, rows: Sequence[SampleRow]) -> SampleArrays:
        """In the order of the rows; texts and token ids are left out."""
        kinds: dict[str, Any] = {"answer_class": object, "mean_logprob": np.float32, "worst_logprob": np.float32}
        kinds |= dict.fromkeys(("prompt_tokens", "reasoning_tokens", "tokens"), np.int32)
        names = [field.name for field in fields(cls) if field.name != "error"]
        held = {name: np.array([getattr(row, name) for row in rows], dtype=kinds.get(name)) for name in names}
        return cls(**held, error=np.array([row.error is not None for row in rows]))

    @classmethod
    def of_columns(cls, columns: Mapping[str, Any], kept: NDArray[np.int64]) -> SampleArrays:
        """The kept rows of whole columns; a text column is codes, of which -1 is null, and what they mean."""
        held = {}
        for name, values in columns.items():
            if name == "error":
                held[name] = values[0][kept] >= 0
            elif isinstance(values, tuple):
                null = None if name == "class" else ""
                texts = np.array([*values[1], null], dtype=object if name == "class" else None)
                held[FIELDS.get(name, name)] = texts[values[0][kept]]
            else:
                held[name] = values[kept]
        return cls(**held)

    def __len__(self) -> int:
        return len(self.outcome)

    def __getitem__(self, part: slice) -> SampleArrays:
        return SampleArrays(*(values[part] for values in vars(self).values()))

    def __add__(self, later: SampleArrays) -> SampleArrays:
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return SampleArrays(*(np.concatenate(pair) for pair in pairs))


FIELDS = {"class": "answer_class"}  # column -> field, where the column's name is a word of Python


def _column(field: str) -> str:
    return "class" if field == "answer_class" else field


def sample_row(problem: Problem, index: int, completion: Completion, verdict: Verdict) -> SampleRow:
    """One sample as a row of the bank."""
    forced = [i for i, drawn in enumerate(completion.sampled) if not drawn]
    mean, worst = confidence(completion.sampler_logprobs, forced)
    return SampleRow(
        problem=problem.id,
        sample=index,
        seed=completion.seed,
        policy_version=completion.policy_version,
        outcome=verdict.outcome,
        answer_class=verdict.key,
        extracted=verdict.extracted,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.num_prompt_tokens,
        reasoning_tokens=completion.num_reasoning_tokens,
        tokens=completion.num_tokens,
        was_cut=completion.was_cut,
        mean_logprob=mean,
        worst_logprob=worst,
        note=verdict.note or None,
        error=verdict.note if verdict.outcome == "failed" else None,
        reasoning=completion.reasoning,
        answer=completion.answer,
        token_ids=completion.token_ids,
        sampler_logprobs=completion.sampler_logprobs,
        forced=forced,
    )


def confidence(logprobs: Sequence[float], forced: Sequence[int] = ()) -> tuple[float, float]:
    """How sure the policy was: the mean logprob, and the lowest mean of a window (`select.worst_window`).

    Of sampled tokens only, at the temperature they were sampled with; none give nan. (scorers/features.py, which a
    model is fitted on, takes all tokens, and 0 for none.)
    """
    drawn = np.delete(np.asarray(logprobs, dtype=np.float64), list(forced))
    return select.mean_logprob(drawn), select.worst_window(drawn)


def withheld(problem: Problem) -> Problem:
    """A problem of a gated benchmark as a bank may hold it: digests in place of its texts."""
    digest = hashlib.sha256(question(problem).encode()).hexdigest()
    meta = {name: value for name, value in graded(problem).meta.items() if name == GRADED_BY}
    return replace(problem, prompt=(Message(role="user", content=f"(withheld: {digest})"),), choices=(), meta=meta)


def withheld_row(row: SampleRow) -> SampleRow:
    """A sample without its texts, since they quote the problem: verdict, class and cost stay."""
    return replace(row, reasoning="", answer="", token_ids=(), sampler_logprobs=(), forced=())


def completion_of(row: SampleRow, prompt_ids: Sequence[int]) -> Completion:
    """The completion that a full row was made from, as a trainer or a scorer wants it."""
    forced = set(row.forced)
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(row.token_ids),
        sampler_logprobs=tuple(row.sampler_logprobs),
        sampled=tuple(i not in forced for i in range(len(row.token_ids))),
        finish_reason=row.finish_reason,
        reasoning=row.reasoning,
        answer=row.answer,
        num_reasoning_tokens=row.reasoning_tokens,
        policy_version=row.policy_version,
        seed=row.seed,
    )
