"""Norm, gate and rotary embedding of training: what their definitions give, forward and backward, in C and PyTorch."""

from __future__ import annotations

import ctypes

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models import compiled, rowwise
from ponder.models.transformer import rotate
from tests.helpers import C_WAYS

DTYPES = [torch.float32, torch.bfloat16]
WAYS = ["PyTorch", *C_WAYS]


@pytest.fixture
def take(monkeypatch):
    """take(way, dtype): compute so."""

    def set_way(way: str, dtype: torch.dtype) -> None:
        library = ctypes.CDLL(C_WAYS[way](rowwise.SOURCE, dtype)) if way in C_WAYS else None
        monkeypatch.setattr(compiled, "loaded", lambda source, dtype: library)

    return set_way


def random(*shape: int, dtype: torch.dtype, seed: int = 0, size: float = 1.0) -> Tensor:
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def with_gradients(function, *tensors: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in tensors]
    out = function(*leaves)
    out.backward(random(*out.shape, dtype=out.dtype, seed=9))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_near(ours: list[Tensor], exact: list[Tensor], dtype: torch.dtype) -> None:
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == dtype
        scale = float(b.abs().max()) + 1e-6
        torch.testing.assert_close(a.double(), b, rtol=0, atol=scale * (2e-6 if dtype == torch.float32 else 8e-3))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 16), (7, 96), (5, 3, 64), (3, 576)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_a_norm_and_its_gradients_are_those_of_the_definition(way, dtype, shape, size, take):
    take(way, dtype)
    x, weight = random(*shape, dtype=dtype, size=size), random(shape[-1], dtype=dtype, seed=1)
    exact = with_gradients(
        lambda x, w: x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * w, x.double(), weight.double()
    )
    assert_near(with_gradients(lambda x, w: rowwise.norm(x, w, 1e-5), x, weight), exact, dtype)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 40.0, 500.0])
def test_a_gate_and_its_gradients_are_those_of_the_definition(way, dtype, size, take):
    take(way, dtype)
    gate, up = random(9, 48, dtype=dtype, size=size), random(9, 48, dtype=dtype, seed=1)
    exact = with_gradients(lambda gate, up: F.silu(gate) * up, gate.double(), up.double())
    assert_near(with_gradients(rowwise.gated, gate, up), exact, dtype)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(1, 16), (3, 32), (9, 64), (2, 48)])
def test_turning_is_the_rotary_embedding_and_turning_back_undoes_it(way, dtype, heads, take):
    take(way, dtype)
    H, E = heads
    x, angles = random(5, H, E, dtype=dtype), random(5, 1, E // 2, dtype=torch.float32, seed=1, size=3).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    turned = rowwise.turned(x, cos, sin, scale=0.5)
    assert_near([turned], [0.5 * rotate(x.double(), cos.double(), sin.double())], dtype)
    back = rowwise.turned(turned, cos, sin, scale=2.0, back=True)
    torch.testing.assert_close(back.double(), x.double(), rtol=0, atol=1e-5 if dtype == torch.float32 else 0.06)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (64,), (7, 33)])
def test_a_gradient_is_added_to_the_float32_sum(way, dtype, shape, take):
    take(way, dtype)
    total, x = random(*shape, dtype=torch.float32), random(*shape, dtype=dtype, seed=1)
    expected = total + x.float()
    rowwise.add_to(total, x)
    assert torch.equal(total, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_widths_and_tensors_in_pieces_are_computed_all_the_same(dtype):
    x, weight = random(4, 10, dtype=dtype), random(10, dtype=dtype, seed=1)
    exact = x.double() * (x.double().pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double()
    assert_near([rowwise.norm(x, weight, 1e-5)], [exact], dtype)
    gate, up = random(6, 64, dtype=dtype)[:, ::2], random(6, 32, dtype=dtype, seed=1)
    assert not gate.is_contiguous()
    assert_near([rowwise.gated(gate, up)], [F.silu(gate.double()) * up.double()], dtype)
    apart = random(6, 64, dtype=dtype)[:, ::2]
    exact = apart.double() * (apart.double().pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
    assert_near([rowwise.norm(apart, torch.ones(32, dtype=dtype), 1e-5)], [exact], dtype)


@pytest.mark.parametrize("way", ["PyTorch", "C"])
def test_what_is_not_a_number_stays_so(way, take):
    take(way, torch.float32)
    x = random(3, 32, dtype=torch.float32)
    x[1, 5] = float("nan")
    assert rowwise.norm(x, torch.ones(32), 1e-5)[1].isnan().all()
    assert rowwise.gated(x, x).isnan().sum() == 1
    turned = rowwise.turned(x[:, None], torch.ones(3, 1, 32), torch.zeros(3, 1, 32))
    assert turned[1].isnan().any() and not turned[0].isnan().any()
