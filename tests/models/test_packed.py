"""Packed training equals the readable forward pass: values and gradients, shared prompts, windows, adapters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from ponder.models import lora, packed
from ponder.models.segments import Layout, Segment, attend, attend_flex, attend_masked
from ponder.models.transformer import Transformer
from tests.helpers import tiny_model

FAMILIES = {
    "llama": {},
    "sliding window": {"model_type": "mistral", "sliding_window": 5},
    "norms and biases": {"model_type": "qwen3", "qk_norm": True, "attention_bias": True},
    "own head": {"tie_word_embeddings": False},
}


def pack(lengths: list[tuple[int, list[int]]], seed: int = 0) -> tuple[Tensor, Layout, list[Tensor]]:
    """Families of (prompt length, completion lengths) -> packed tokens, their layout, every sequence on its own."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.randint(200, (n,), generator=g)
    parts, segments, alone, at = [], [], [], 0
    for prompt_length, completions in lengths:
        prompt, begin = draw(prompt_length), at
        parts.append(prompt)
        segments.append(Segment(begin, begin + prompt_length))
        at += prompt_length
        alone.append(prompt)
        for length in completions:
            completion = draw(length)
            parts.append(completion)
            segments.append(Segment(at, at + length, begin, begin + prompt_length))
            alone.append(torch.cat((prompt, completion)))
            at += length
    return torch.cat(parts), Layout(segments), alone


def apart(model: Transformer, layout: Layout, alone: list[Tensor]) -> Tensor:
    """Hidden states of the pack, each sequence by itself through `Transformer.hidden`."""
    rows = [model.hidden(ids[None])[0][s.prefix :] for s, ids in zip(layout.segments, alone, strict=True)]
    return torch.cat(rows)


def gradients(model: Transformer, hidden: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys() and left
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5 * float(right[name].abs().max() + 1))


SHAPES = st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), max_size=4)), min_size=1, max_size=3)
LONG = st.lists(st.tuples(st.integers(1, 400), st.lists(st.integers(1, 300), max_size=3)), min_size=1, max_size=4)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@given(lengths=SHAPES)
@settings(max_examples=10, deadline=None)
def test_a_pack_gives_the_hidden_states_and_gradients_of_its_sequences(family, lengths):
    model = tiny_model(**family)
    tokens, layout, alone = pack(lengths)
    hidden, expected = packed.hidden(model, tokens, layout), apart(model, layout, alone)
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)
    assert_same(gradients(model, hidden), gradients(model, expected))


def test_recomputing_activations_changes_no_bit():
    model = tiny_model()
    tokens, layout, _ = pack([(9, [5, 1, 7]), (12, [])])
    plain = gradients(model, packed.hidden(model, tokens, layout))
    again = gradients(model, packed.hidden(model, tokens, layout, recompute=True))
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("recompute", [False, True])
def test_every_module_with_weights_is_called_so_that_its_hooks_fire(recompute):
    model = tiny_model(**FAMILIES["norms and biases"])
    tokens, layout, _ = pack([(9, [5, 7])])
    called = set()
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda module, args, name=name: called.add(name))
    packed.hidden(model, tokens, layout, recompute=recompute)
    assert called == {name for name, _ in model.named_modules()} - {"", "model.layers"}


def test_blocks_that_are_cut_for_the_cache_give_the_same(monkeypatch):
    model = tiny_model()
    tokens, layout, _ = pack([(9, [5, 1, 7, 7]), (12, [3, 3])])
    whole = packed.hidden(model, tokens, layout)
    monkeypatch.setattr("ponder.models.segments._SCORES", 1)
    cut = packed.hidden(model, tokens, Layout(layout.segments))
    torch.testing.assert_close(whole, cut)


@pytest.mark.parametrize("window", [None, 4, 150])
def test_the_kernels_of_a_gpu_are_the_same_attention(window):
    _, layout, _ = pack([(140, [5, 1, 170]), (12, []), (3, [3])])
    N, model = layout.num_tokens, tiny_model(window=512)
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(N, heads, 16, generator=g, requires_grad=True) for heads in (4, 2, 2))
    cos, sin = (table[layout.positions_N][:, None] for table in (model.rope_cos, model.rope_sin))
    expected = attend(q, k, v, cos, sin, layout, window)
    masked = attend_masked(q, k, v, cos, sin, layout.mask(window, q.device))
    torch.testing.assert_close(masked, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(N, 4, 16, generator=g)
    wanted, found = (torch.autograd.grad((out * weights).sum(), (q, k, v)) for out in (expected, masked))
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # FlexAttention has no backward on a CPU
        flex = attend_flex(q.detach(), k.detach(), v.detach(), cos, sin, layout.block_mask(window, q.device))
    torch.testing.assert_close(flex, expected, rtol=1e-4, atol=1e-5)


def test_a_block_mask_skips_what_no_token_sees():
    _, layout, _ = pack([(300, [200]), (400, [])])
    device = torch.device("cpu")
    blocks = layout.block_mask(None, device).to_dense()[0, 0].bool()
    seen = torch.nn.functional.pad(layout.mask(None, device), (0, -900 % 128, 0, -900 % 128))
    assert torch.equal(blocks, seen.unflatten(1, (-1, 128)).unflatten(0, (-1, 128)).any(-1).any(1))
    assert not blocks.all()


@pytest.mark.parametrize("window", [None, 3, 130, 300])
@given(
    lengths=st.lists(st.tuples(st.integers(1, 400), st.lists(st.integers(1, 300), max_size=3)), min_size=1, max_size=4)
)
@settings(max_examples=15, deadline=None)
def test_a_block_mask_made_from_segments_is_the_one_made_by_asking_every_pair(window, lengths):
    _, layout, _ = pack(lengths)
    device, N = torch.device("cpu"), layout.num_tokens
    ours = layout.block_mask(window, device)
    asked = create_block_mask(layout.sees(window, device), None, None, N, N, device=device)
    assert ours.shape == asked.shape
    for of in ("kv", "full_kv", "q", "full_q"):
        counts, which = (getattr(ours, f"{of}_{name}") for name in ("num_blocks", "indices"))
        assert torch.equal(counts, getattr(asked, f"{of}_num_blocks")), of
        for row, count in enumerate(counts[0, 0].tolist()):
            wanted = getattr(asked, f"{of}_indices")[0, 0, row, :count]
            assert torch.equal(which[0, 0, row, :count].sort().values, wanted.sort().values)


def test_a_block_mask_of_32k_tokens_is_small_and_quick():
    segments = [Segment(0, 1000), *(Segment(1000 + i * 1000, 2000 + i * 1000, 0, 1000) for i in range(31))]
    layout = Layout(segments)
    mask = layout.block_mask(None, torch.device("cpu"))
    assert mask.shape == (1, 1, 32_000, 32_000)
    assert mask.sparsity() > 90  # percent of the blocks that are skipped
    assert sum(x.numel() for x in mask.as_tuple() if isinstance(x, torch.Tensor)) < 10 * 250 * 250


def test_an_adapter_has_the_gradient_of_the_two_products_it_stands_for():
    model = tiny_model()
    tokens, layout, _ = pack([(9, [5, 7])])
    adapter = lora.fresh(model, 4, seed=0)
    for _, b in adapter.pairs.values():
        b.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    base = {name: weight.clone() for name, weight in lora.targets(model).items()}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in adapter.tensors().items()}
    # the long way: the merged weights as a function of A and B, by automatic differentiation
    pairs = adapter.over(leaves)
    merged = {f"{name}.weight": base[name] + pairs.scale * b @ a for name, (a, b) in pairs.pairs.items()}
    weights = {name: p.detach() for name, p in model.named_parameters()} | merged
    weights = {f"model.{name}": weight for name, weight in weights.items()}
    expected = torch.func.functional_call(_Hidden(model), weights, (tokens, layout))
    grad = torch.linspace(-1, 1, expected.numel()).view_as(expected)
    wanted = torch.autograd.grad((expected * grad).sum(), list(leaves.values()))
    # the trainer's way
    lora.merge(base, adapter, lora.targets(model))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    lora.attach(model, pairs)
    hidden = packed.hidden(model, tokens, layout)
    torch.testing.assert_close(hidden, expected)
    found = torch.autograd.grad((hidden * grad).sum(), list(leaves.values()))
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


class _Hidden(torch.nn.Module):
    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        return packed.hidden(self.model, tokens, layout)
