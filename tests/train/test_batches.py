"""Rollouts -> tensors: every sampled token is a target exactly once, its predictor sees just what came before it, and a
shared prompt is there once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.models.segments import Layout
from ponder.train.batches import Batch, Example, collate, from_completion, from_groups, micro_batches
from ponder.types import Completion, Group, Message, Problem, Rollout, Turn, Verdict


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    """Examples whose token ids, logprobs and weights say where they came from; several may share a prompt."""
    result = []
    for number in range(draw(st.integers(1, 8))):
        prompt, length = draw(st.integers(1, 6)), draw(st.integers(0, 9))
        trained = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        first = draw(st.sampled_from([0, 1]))
        result.append(
            Example(
                prompt_ids=(first, *range(1, prompt)),
                token_ids=tuple(range(10, 10 + length)),
                trained=tuple(trained),
                sampler_logprobs=tuple(-(10.0 + i) for i in range(length)),  # minus the token's id
                advantage=float(number),
                weight=number + 0.5,
            )
        )
    return result


def check_row(batch: Batch, row: int, example: Example) -> None:
    mask = batch.mask_BT[row]
    seen = Layout(batch.segments).mask(None, torch.device("cpu"))
    for column in range(len(example.token_ids)):
        predictor = int(batch.predictor_BT[row, column])
        context = batch.tokens_N[seen[predictor]].tolist()
        assert context == [*example.prompt_ids, *example.token_ids[:column]]
    n = len(example.token_ids)
    assert batch.target_BT[row, :n].tolist() == list(example.token_ids)
    assert mask[:n].tolist() == list(example.trained) and not mask[n:].any()
    assert batch.sampler_logprobs_BT[row][mask].tolist() == [-float(t) for t in batch.target_BT[row][mask]]
    assert batch.advantages_BT[row].tolist() == [example.advantage] * n + [0.0] * (len(mask) - n)
    assert batch.weights_B[row] == example.weight


@given(rows=examples())
@settings(max_examples=100, deadline=None)
def test_masked_positions_are_exactly_the_sampled_tokens_and_their_predictors_see_what_came_before(
    rows: list[Example],
) -> None:
    batch = collate(rows)
    longest = max(1, max(len(row.token_ids) for row in rows))
    assert batch.mask_BT.shape == batch.sampler_logprobs_BT.shape == (len(rows), longest)
    for row, example in enumerate(rows):
        check_row(batch, row, example)


@given(rows=examples(), max_tokens=st.integers(1, 60), num_shares=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_micro_batches_hold_every_example_once_within_the_limit(
    rows: list[Example], max_tokens: int, num_shares: int
) -> None:
    batches = micro_batches(rows, max_tokens=max_tokens, num_shares=num_shares)
    assert sorted(i for batch in batches for i in batch.indices) == list(range(len(rows)))
    for batch in batches:
        # one example longer than the limit still goes, alone
        assert len(batch.tokens_N) <= max_tokens or len(batch.indices) == 1
        for row, i in enumerate(batch.indices):
            check_row(batch, row, rows[i])


@given(rows=examples())
@settings(max_examples=50, deadline=None)
def test_a_pack_holds_each_prompt_once_and_no_padding(rows: list[Example]) -> None:
    batch = collate(rows)
    prompts = {row.prompt_ids for row in rows}
    own = sum(max(0, len(row.token_ids) - 1) for row in rows)  # a last token predicts nothing
    assert len(batch.tokens_N) == sum(map(len, prompts)) + own


def test_work_is_cut_evenly_for_the_workers() -> None:
    rows = [Example(prompt_ids=(i, 1), token_ids=(2,) * 9, trained=(True,) * 9) for i in range(8)]
    assert [len(b.tokens_N) for b in micro_batches(rows, max_tokens=1000, num_shares=2)] == [40, 40]


def test_no_examples_make_no_batches() -> None:
    assert micro_batches([], max_tokens=10) == []


COMPLETION = Completion(
    prompt_ids=(1, 2, 3), token_ids=(10, 11, 12, 13), sampler_logprobs=(-1.0, -2.0, 0.0, -4.0),
    sampled=(True, True, False, True), finish_reason="stop", reasoning="a", answer="b", num_reasoning_tokens=2,
)  # fmt: skip
PROBLEM = Problem(id="p", prompt=(Message(role="user", content="?"),), target="b", task="t")
RIGHT = Verdict(outcome="correct", reward=1.0)


def test_tokens_that_a_budget_forced_are_context_and_not_targets() -> None:
    batch = collate([from_completion(COMPLETION, advantage=1.0)])
    assert batch.tokens_N.tolist() == [1, 2, 3, 10, 11, 12]
    assert batch.target_BT[batch.mask_BT].tolist() == [10, 11, 13]


def test_every_turn_carries_its_rollouts_advantage_and_untrained_turns_have_no_targets() -> None:
    told = Turn(completion=replace(COMPLETION, token_ids=(20, 21, 22, 23)), trained=False)
    two_turns = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION), told), verdict=RIGHT, reward=1.0)
    one_turn = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION),), verdict=RIGHT, reward=0.0)
    rows = from_groups([Group(problem=PROBLEM, rollouts=(two_turns, one_turn))], [[0.5, -0.5]])
    assert [row.advantage for row in rows] == [0.5, 0.5, -0.5]
    assert [row.num_trained for row in rows] == [3, 0, 3]


def test_a_rollout_that_ended_before_anything_was_drawn_teaches_nothing() -> None:
    nothing = Completion(
        prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), finish_reason="window", reasoning="", answer="",
        num_reasoning_tokens=0,
    )  # fmt: skip
    wrong = Rollout(problem=PROBLEM, turns=(), verdict=RIGHT, reward=0.0, ended="window", whole=nothing)
    right = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION),), verdict=RIGHT, reward=1.0, whole=COMPLETION)
    for values in ([-0.5, 0.5], [np.zeros(0), np.full(4, 0.5)]):
        rows = from_groups([Group(problem=PROBLEM, rollouts=(wrong, right))], [values])
        assert [row.token_ids for row in rows] == [COMPLETION.token_ids]


def test_a_missing_advantage_is_an_error_and_not_a_shift() -> None:
    rollout = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION),), verdict=RIGHT, reward=0.0)
    with pytest.raises(ValueError):
        from_groups([Group(problem=PROBLEM, rollouts=(rollout, rollout))], [[0.5]])


def test_an_example_that_does_not_fit_together_is_refused() -> None:
    good = Example(prompt_ids=(1,), token_ids=(2, 3, 4), trained=(True,) * 3, sampler_logprobs=(-1.0,) * 3)
    for change in ({"trained": (True,)}, {"sampler_logprobs": (-1.0,)}, {"prompt_ids": ()}):
        with pytest.raises(ValueError, match="an example"):
            replace(good, **change)  # type: ignore[arg-type]


def test_logprobs_travel_as_float32_and_ids_as_integers() -> None:
    batch = collate([from_completion(COMPLETION, advantage=1.0)])
    assert batch.sampler_logprobs_BT.dtype == batch.weights_B.dtype == batch.advantages_BT.dtype == torch.float32
    assert (batch.tokens_N.dtype, batch.target_BT.dtype, batch.mask_BT.dtype) == (torch.int64, torch.int64, torch.bool)


def test_an_advantage_a_token_stands_at_its_token_and_equal_ones_are_as_one() -> None:
    one, each = (collate([from_completion(COMPLETION, advantage=a)]) for a in (0.5, (0.5,) * len(COMPLETION.token_ids)))
    assert torch.equal(one.advantages_BT, each.advantages_BT)
    rising = tuple(map(float, range(len(COMPLETION.token_ids))))
    assert collate([from_completion(COMPLETION, advantage=rising)]).advantages_BT[0].tolist() == list(rising)
    with pytest.raises(ValueError, match="give one a token, or one"):
        from_completion(COMPLETION, advantage=rising[1:])
