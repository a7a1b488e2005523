"""Attention in C over packs: what PyTorch's plain products give, forward and backward, whatever the shapes."""

from __future__ import annotations

import ctypes
import math

import pytest
import torch

from ponder.models import attention, compiled
from ponder.models.segments import Layout, Segment, _Attention, _CompiledAttention, attend
from tests.helpers import C_WAYS

if not attention.can_attend(torch.zeros(1, 1, 16)):
    pytest.skip("no compiled attention here: it needs an x86 CPU with AVX2 and a C compiler", allow_module_level=True)

DTYPES = [torch.float32, torch.bfloat16]
PACKS = {
    "one token": [Segment(0, 1)],
    "one sequence": [Segment(0, 70)],
    "a prompt and completions": [Segment(0, 37), *(Segment(a, b, 0, 37) for a, b in ((37, 50), (50, 51), (51, 99)))],
    "prompts of their own": [Segment(0, 32), Segment(32, 64), Segment(64, 97, 32, 64)],
    "completions before their prompt": [Segment(40, 60), Segment(0, 40, 40, 60)],
    "nothing of its own": [Segment(0, 9), Segment(9, 9, 0, 9), Segment(9, 12, 0, 9)],
}
HEADS = {
    "one": (1, 1, 16), "groups": (4, 2, 32), "five queries a key": (5, 1, 16), "nine": (9, 3, 64), "many": (14, 1, 48),
    "wide": (2, 1, 128),
}  # fmt: skip


def inputs(tokens: int, H: int, K: int, E: int, seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(tokens, heads, E, generator=g) for heads in (H, K, K))
    angles = torch.rand(tokens, 1, E // 2, generator=g).repeat(1, 1, 2) * 6
    return [q, k, v, angles.cos(), angles.sin()]


def gradients(apply, tensors: list[torch.Tensor], *rest: object) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in tensors[:3]]
    out = apply(*leaves, *tensors[3:], *rest)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    (out * weight).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_near(ours: list[torch.Tensor], plain: list[torch.Tensor], dtype: torch.dtype) -> None:
    """bfloat16 keeps 8 bits of q and k turned, of weights, of their slopes, and of the result. Gradients of q and k are
    differences, which may be nothing: hence the second term."""
    for name, a, b in zip(("out", "dq", "dk", "dv"), ours, plain, strict=True):
        assert a.dtype == dtype
        if dtype == torch.float32:
            torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
        else:
            off, usual = (float(x.float().pow(2).mean().sqrt()) for x in (a - b, b))
            assert off < 0.008 * usual + 0.004, f"{name}: {off} of {usual}"
            assert float((a - b).abs().max()) < 0.05 * usual + 0.05, f"{name}: one number"


@pytest.mark.parametrize("way", C_WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("window", [None, 1, 5, 40])
def test_forward_and_backward_are_those_of_plain_products(pack, heads, window, dtype, way, monkeypatch):
    library = ctypes.CDLL(C_WAYS[way](attention.SOURCE, dtype))
    layout = Layout(PACKS[pack])
    rounded = [x.to(dtype) for x in inputs(layout.num_tokens, *HEADS[heads])]
    plain = gradients(_Attention.apply, [x.float() for x in rounded], layout.blocks(window, torch.float32))
    loaded = compiled.loaded
    monkeypatch.setattr(compiled, "loaded", lambda of, dtype: library if of == attention.SOURCE else loaded(of, dtype))
    assert_near(gradients(_CompiledAttention.apply, rounded, layout.spans, window), plain, dtype)


def test_scores_far_apart_neither_overflow_nor_give_nan():
    layout = Layout(PACKS["a prompt and completions"])
    tensors = inputs(layout.num_tokens, 4, 2, 32)
    tensors[0] = tensors[0] * 1000
    for ours, plain in zip(
        gradients(_CompiledAttention.apply, tensors, layout.spans, None),
        gradients(_Attention.apply, tensors, layout.blocks(None, torch.float32)),
        strict=True,
    ):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, plain, rtol=1e-2, atol=1e-2 * math.sqrt(1000))


def test_tensors_that_do_not_lie_in_one_piece_are_read_as_they_are():
    layout = Layout(PACKS["one sequence"])
    q, k, v, cos, sin = inputs(layout.num_tokens, 4, 2, 32)
    apart = [torch.stack((x, x), dim=-1)[..., 0] for x in (q, k, v)]
    assert not apart[0].is_contiguous()
    torch.testing.assert_close(attend(*apart, cos, sin, layout, None), attend(q, k, v, cos, sin, layout, None))


def test_other_dtypes_and_widths_are_left_to_pytorch():
    assert not attention.can_attend(torch.zeros(1, 1, 16, dtype=torch.float16))
    assert not attention.can_attend(torch.zeros(1, 1, 8))
