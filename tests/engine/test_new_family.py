"""A variation of the architecture is written once, in the definition; training and sampling follow, and the compiled
network, which knows nothing of it, leaves it to PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ponder.engine import native
from ponder.engine.network import TorchNetwork, WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.models import packed, transformer
from ponder.models.transformer import ModelConfig, Ops, RMSNorm, Transformer
from tests.engine.test_decoder import CLOSE, END, dense_logprobs, request
from tests.helpers import tiny_model
from tests.models.test_packed import apart, assert_same, gradients, pack


@dataclass(frozen=True, kw_only=True)
class NewConfig(ModelConfig):
    norm_after_attention: bool = False


class NewBlock(transformer.Block):
    """A norm after attention, and two more linear layers of one input."""

    def __init__(self, config: NewConfig, layer: int) -> None:
        super().__init__(config, layer)
        D = config.hidden_size
        self.after_attention = RMSNorm(D, config.rms_norm_eps)
        self.left_proj, self.right_proj = nn.Linear(D, D), nn.Linear(D, D, bias=False)

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        x = x + self.after_attention(self.self_attn(self.input_layernorm(x, ops), ops), ops)
        left, right = ops.project(x, self.left_proj, self.right_proj)
        return x + left * right + self.mlp(self.post_attention_layernorm(x, ops), ops)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Transformer:
    plain: dict[str, Any] = vars(tiny_model().config)
    monkeypatch.setattr(transformer, "Block", NewBlock)
    model = Transformer(NewConfig(**plain, norm_after_attention=True))
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def test_training_follows_the_definition(model: Transformer):
    tokens, layout, alone = pack([(9, [5, 7]), (4, [])])
    hidden, expected = packed.hidden(model, tokens, layout), apart(model, layout, alone)
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
    assert_same(gradients(model, hidden), gradients(model, expected))


def test_sampling_follows_the_definition(model: Transformer):
    layout = WeightLayout.of(model.config, torch.float32, torch.device("cpu"))
    weights = layout.in_memory(model.state_dict(), model.device).views()
    runner = Runner(layout, weights, end_id=END, unthink_id=CLOSE, pad_id=0, decode=str)
    assert isinstance(runner.network, TorchNetwork)
    requests = [request(0, length=20, n=3), request(1, length=7)]
    for one, samples in zip(requests, run_all(runner, requests), strict=True):
        for sample in samples:
            slow = dense_logprobs(model, one, sample)
            assert sample.logprobs == pytest.approx(slow, abs=5e-5)


def test_the_compiled_network_says_what_it_does_not_know(model: Transformer):
    plain: dict[str, Any] = vars(tiny_model().config)
    assert native.supports(NewConfig(**plain)) and not native.supports(model.config)
