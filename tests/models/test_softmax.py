"""Softmax in C says what PyTorch says."""

from __future__ import annotations

import pytest
import torch

from ponder.models import compiled
from ponder.models.softmax import SOURCE, softmax_


@pytest.fixture(params=["C", "PyTorch"])
def way(request, monkeypatch):
    if request.param == "PyTorch":
        monkeypatch.setattr(compiled, "loaded", lambda source, dtype: None)
    elif compiled.loaded(SOURCE, torch.float32) is None:
        pytest.skip("no compiled softmax here: it needs an x86 CPU with AVX2 and a C compiler")
    return request.param


def softmax(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    probs = logits.clone()
    return probs, *softmax_(probs, temperature)


def rows_of_logits(rows: int, V: int) -> torch.Tensor:
    return 5 * torch.randn(rows, V, generator=torch.Generator().manual_seed(V))


@pytest.mark.parametrize("V", [1, 7, 16, 23, 261, 4096])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_normaliser_and_entropy_are_those_of_the_definition(V, temperature, dtype, way):
    logits = rows_of_logits(9, V).to(dtype)
    probs, normaliser, entropy = softmax(logits, temperature)
    exact = (logits.double() / temperature).log_softmax(-1)
    assert probs.dtype == dtype
    torch.testing.assert_close(probs.double(), exact.exp(), atol=1e-6, rtol=1e-4 if dtype == torch.float32 else 4e-3)
    torch.testing.assert_close(normaliser.double(), (logits.double() / temperature).logsumexp(-1), atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), -(exact.exp() * exact).sum(-1), atol=1e-4, rtol=1e-4)


def test_columns_of_a_larger_tensor_are_taken_too(way):
    logits = rows_of_logits(4, 60)
    wanted = logits.clone()
    wanted[:, 3:47] = logits[:, 3:47].softmax(-1)
    softmax_(logits[:, 3:47], 1.0)
    torch.testing.assert_close(logits, wanted)


def test_many_rows_are_as_one_by_one(way):
    logits = rows_of_logits(300, 33)
    probs, normaliser, entropy = softmax(logits, 0.7)
    for i in (0, 127, 128, 299):
        one = softmax(logits[i : i + 1], 0.7)
        assert torch.equal(one[0][0], probs[i]) and one[1][0] == normaliser[i] and one[2][0] == entropy[i]


def test_what_is_ruled_out_has_no_probability(way):
    logits = rows_of_logits(3, 40)
    logits[:, 5:] = float("-inf")
    probs, normaliser, entropy = softmax(logits, 1.0)
    assert (probs[:, 5:] == 0).all()
    torch.testing.assert_close(entropy, softmax(logits[:, :5].contiguous(), 1.0)[2])
    torch.testing.assert_close(normaliser, logits.logsumexp(-1))


@pytest.mark.parametrize("where", [0, 17, 39])
def test_one_nan_makes_its_row_nan_and_no_other(where, way):
    logits = rows_of_logits(3, 40)
    logits[1, where] = float("nan")
    probs, normaliser, _ = softmax(logits, 1.0)
    assert probs[1].isnan().all() and normaliser[1].isnan()
    assert probs[[0, 2]].isfinite().all() and normaliser[[0, 2]].isfinite().all()
