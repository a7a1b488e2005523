"""Drawing: the right distribution, one row at a time, whatever the size of the vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ponder.engine import sampling
from ponder.engine.sampling import draw, uniforms


def rows(num: int, vocab: int, *, sharp: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, vocab, generator=torch.Generator().manual_seed(seed)).mul(sharp).expand(num, vocab)


def ones(num: int, value: float = 1.0) -> torch.Tensor:
    return torch.full((num,), value)


def evenly(num: int) -> torch.Tensor:
    """num uniform numbers, equally far apart: the counts of what they draw are the probabilities, to 1/num."""
    return (torch.arange(num) + 0.5) / num


@pytest.mark.parametrize("vocab", [2, 7, 264, 1000, 1025, 2048, 5003, 6144])
def test_tokens_are_drawn_as_often_as_they_are_likely(vocab):
    num = 4000
    logits = rows(num, vocab)
    tokens, _ = draw(logits, evenly(num), ones(num), ones(num))
    counted = torch.bincount(tokens, minlength=vocab) / num
    assert (counted - logits[0].softmax(-1)).abs().max() <= 1.01 / num + 1e-5


def test_the_log_probability_is_that_of_the_softmax_at_the_temperature():
    logits = torch.randn(50, 3000, generator=torch.Generator().manual_seed(1)) * 4
    for temperature in (0.5, 1.0, 1.7):
        tokens, logprobs = draw(logits, evenly(50), ones(50, temperature), ones(50))
        expected = (logits / temperature).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        assert torch.allclose(logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("vocab", [300, 5000])
@pytest.mark.parametrize("sharp", [3.0, 0.1])  # a nucleus of few tokens, and one wider than what is looked at first
def test_top_p_keeps_the_smallest_set_that_reaches_its_mass(vocab, sharp):
    num, top_p = 3000, 0.9
    logits = rows(num, vocab, sharp=sharp)
    tokens, _ = draw(logits, evenly(num), ones(num), ones(num, top_p))
    ordered = logits[0].softmax(-1).sort(descending=True)
    kept = ordered.indices[: int((ordered.values.cumsum(-1) < top_p).sum()) + 1]
    assert torch.isin(tokens, kept).all()
    counted = torch.bincount(tokens, minlength=vocab)[kept] / num
    probs = ordered.values[: len(kept)]
    assert (counted - probs / probs.sum()).abs().max() <= 1.01 / num + 1e-5


def test_what_may_not_be_drawn_is_not_even_where_nothing_else_is_likely():
    logits = torch.zeros(8, 700)
    logits[:, 5] = 200.0  # every other probability is 0 in float32
    held = torch.tensor([True, False] * 4)
    tokens, logprobs = draw(logits, evenly(8), ones(8), ones(8), forbidden_N=held, forbidden_ids=(5, 6))
    assert not torch.isin(tokens[held], torch.tensor([5, 6])).any()
    assert (tokens[~held] == 5).all()
    assert torch.allclose(logprobs[held], torch.tensor(-200.0)) and torch.allclose(logprobs[~held], torch.zeros(4))


def test_a_forced_token_keeps_its_own_log_probability_however_small():
    logits = torch.zeros(4, 700)
    logits[:, 9] = -300.0
    forced = torch.tensor([True, False, True, False])
    tokens, logprobs = draw(logits, evenly(4), ones(4), ones(4), forced_N=forced, forced_id=9)
    assert tokens[0] == tokens[2] == 9
    expected = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    assert torch.allclose(logprobs, expected, atol=1e-4)


def test_a_large_table_is_drawn_from_in_pieces_with_the_same_tokens(monkeypatch):
    logits = torch.randn(13, 600, generator=torch.Generator().manual_seed(3)) * 3
    temperature, top_p = torch.tensor([0.0, 1.0, 0.7] * 5)[:13], torch.tensor([1.0, 0.8] * 7)[:13]
    held, forced = torch.arange(13) % 4 == 1, torch.arange(13) % 5 == 2

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        return draw(
            logits, evenly(13), temperature, top_p,
            forbidden_N=held, forbidden_ids=(5, 6), forced_N=forced, forced_id=9,
        )  # fmt: skip

    tokens, logprobs = drawn()
    for rows in (1, 4):
        monkeypatch.setattr(sampling, "_AT_ONCE", 600 * rows)
        assert torch.equal(drawn()[0], tokens) and torch.equal(drawn()[1], logprobs)
    assert len(set(tokens.tolist())) > 5


def test_greedy_rows_and_sampled_rows_share_a_batch():
    logits = torch.randn(6, 600, generator=torch.Generator().manual_seed(2))
    temperature = torch.tensor([0.0, 1.0] * 3)
    tokens, logprobs = draw(logits, evenly(6), temperature, ones(6))
    assert (tokens[::2] == logits[::2].argmax(-1)).all()
    assert torch.allclose(logprobs, logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0], atol=1e-5)


def test_the_largest_uniform_number_draws_a_possible_token():
    logits = torch.full((1, 4096), -200.0)
    logits[0, 17] = 0.0
    largest = torch.tensor([1 - 2.0**-23])
    assert draw(logits, largest, ones(1), ones(1))[0] == 17
    assert draw(logits, torch.zeros(1), ones(1), ones(1))[0] == 17


def test_uniform_numbers_depend_on_seed_and_position_and_lie_below_one():
    seeds, positions = np.arange(2000, dtype=np.uint64), np.arange(2000) % 50
    numbers = uniforms(seeds, positions)
    assert numbers.dtype == np.float32 and numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.03 and len(set(numbers.tolist())) > 1990
