"""Rollouts -> tensors: every sampled token is a target exactly once, in the right place, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.train.batches import Batch, Example, collate, from_completion, from_groups, micro_batches
from ponder.types import Completion, Group, Message, Problem, Rollout, Turn, Verdict

PAD = 99


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    """Examples whose token ids, logprobs and weights say where they came from."""
    result = []
    for number in range(draw(st.integers(1, 8))):
        prompt, length = draw(st.integers(1, 6)), draw(st.integers(0, 9))
        trained = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        result.append(
            Example(
                prompt_ids=tuple(range(prompt)),
                token_ids=tuple(range(10, 10 + length)),
                trained=tuple(trained),
                sampler_logprobs=tuple(-(10.0 + i) for i in range(length)),  # minus the token's id
                advantage=float(number),
                weight=number + 0.5,
            )
        )
    return result


def check_row(batch: Batch, row: int, example: Example) -> None:
    tokens, mask = batch.tokens_BT[row], batch.mask_BT[row]
    assert tokens[: len(example)].tolist() == [*example.prompt_ids, *example.token_ids]
    assert (tokens[len(example) :] == PAD).all()
    # position t speaks of token t + 1
    targets = tokens[1:][mask].tolist()
    assert targets == [t for t, is_trained in zip(example.token_ids, example.trained, strict=True) if is_trained]
    assert batch.sampler_logprobs_BT[row][mask].tolist() == [-float(t) for t in targets]
    assert batch.advantages_B[row] == example.advantage
    assert batch.weights_B[row] == example.weight


@given(rows=examples())
@settings(max_examples=100, deadline=None)
def test_masked_positions_are_exactly_the_sampled_tokens_and_carry_their_logprobs(rows: list[Example]) -> None:
    batch = collate(rows, pad_id=PAD)
    assert batch.tokens_BT.shape == (len(rows), max(map(len, rows)))
    assert batch.mask_BT.shape == batch.sampler_logprobs_BT.shape == (len(rows), max(map(len, rows)) - 1)
    for row, example in enumerate(rows):
        check_row(batch, row, example)


@given(rows=examples(), max_tokens=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_micro_batches_hold_every_example_once_within_the_limit(rows: list[Example], max_tokens: int) -> None:
    batches = micro_batches(rows, max_tokens=max_tokens, pad_id=PAD)
    assert sorted(i for batch in batches for i in batch.index) == list(range(len(rows)))
    for batch in batches:
        # one example longer than the limit still goes, alone
        assert batch.tokens_BT.numel() <= max_tokens or len(batch.index) == 1
        for row, i in enumerate(batch.index):
            check_row(batch, row, rows[i])


def test_similar_lengths_share_a_batch() -> None:
    rows = [Example(prompt_ids=(1,) * n, token_ids=(2,), trained=(True,)) for n in (3, 90, 3, 90, 3, 90)]
    batches = micro_batches(rows, max_tokens=300, pad_id=PAD)
    padding = sum(int((batch.tokens_BT == PAD).sum()) for batch in batches)
    assert (len(batches), padding) == (2, 0)


def test_no_examples_make_no_batches() -> None:
    assert micro_batches([], max_tokens=10, pad_id=PAD) == []


COMPLETION = Completion(
    prompt_ids=(1, 2, 3), token_ids=(10, 11, 12, 13), sampler_logprobs=(-1.0, -2.0, 0.0, -4.0),
    sampled=(True, True, False, True), finish_reason="stop", reasoning="a", answer="b", num_reasoning_tokens=2,
)  # fmt: skip
PROBLEM = Problem(id="p", prompt=(Message(role="user", content="?"),), target="b", task="t")
RIGHT = Verdict(outcome="correct", reward=1.0)


def test_tokens_that_a_budget_forced_are_context_and_not_targets() -> None:
    batch = collate([from_completion(COMPLETION, advantage=1.0)], pad_id=PAD)
    assert batch.tokens_BT[0].tolist() == [1, 2, 3, 10, 11, 12, 13]
    assert batch.tokens_BT[0, 1:][batch.mask_BT[0]].tolist() == [10, 11, 13]


def test_every_turn_carries_its_rollouts_advantage_and_untrained_turns_have_no_targets() -> None:
    told = Turn(completion=replace(COMPLETION, token_ids=(20, 21, 22, 23)), trained=False)
    two_turns = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION), told), verdict=RIGHT, reward=1.0)
    one_turn = Rollout(problem=PROBLEM, turns=(Turn(completion=COMPLETION),), verdict=RIGHT, reward=0.0)
    rows = from_groups([Group(problem=PROBLEM, rollouts=(two_turns, one_turn))], [[0.5, -0.5]])
    assert [row.advantage for row in rows] == [0.5, 0.5, -0.5]
    assert [row.num_trained for row in rows] == [3, 0, 3]


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
    batch = collate([from_completion(COMPLETION, advantage=1.0)], pad_id=PAD)
    assert batch.sampler_logprobs_BT.dtype == batch.weights_B.dtype == batch.advantages_B.dtype == torch.float32
    assert (batch.tokens_BT.dtype, batch.mask_BT.dtype) == (torch.int64, torch.bool)
