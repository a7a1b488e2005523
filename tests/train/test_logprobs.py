"""Log-probabilities in chunks equal those of the full logits, with their gradients, whether the head learns or not."""

from __future__ import annotations

import pytest
import torch

from ponder.train import logprobs as module
from ponder.train.logprobs import token_logprobs


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("head_learns", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_chunks_equal_the_full_logits(temperature, head_learns, rows, room, monkeypatch):
    if not room:
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
        monkeypatch.setattr(module, "BYTES_AT_ONCE", 128 * 23 * 4)
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 6, generator=g).requires_grad_()
    weight = torch.randn(23, 6, generator=g).requires_grad_(head_learns)
    targets = torch.randint(23, (rows,), generator=g)
    logprobs, entropy = token_logprobs(hidden, weight, targets, temperature)
    full = (hidden @ weight.T / temperature).log_softmax(-1)
    torch.testing.assert_close(logprobs, full.gather(-1, targets[:, None])[:, 0])
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1), rtol=1e-4, atol=1e-4)
    assert not entropy.requires_grad
    leaves = [hidden, weight] if head_learns else [hidden]
    grad = torch.randn(rows, generator=g)
    found = torch.autograd.grad((logprobs * grad).sum(), leaves)
    wanted = torch.autograd.grad((full.gather(-1, targets[:, None])[:, 0] * grad).sum(), leaves)
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
