"""The forward pass for training: sequences packed end to end without padding, prompts shared by their completions.

    tokens  [ prompt A | completion A1 | completion A2 | prompt B, completion B1 ]        (N,)

Every product runs over all N tokens at once; only attention (`models/segments.py`) looks at who sees whom. A prompt
that several completions share is computed once, forward and backward. The readable twin is `Transformer.forward`;
tests hold the two together. What lies between the products has a backward pass of its own (`models/rowwise.py`): the
automatic one is slow on a CPU. So has the linear layer with an adapter, whose forward pass uses the merged weight that
the sampler uses too (`models/lora.py`).

Shapes: N packed tokens, D width, H query heads, K key/value heads, E head width, r rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ponder.models import rowwise
from ponder.models.lora import Adapter
from ponder.models.segments import Layout, attend
from ponder.models.transformer import Attention, Block, RMSNorm, Transformer


def hidden(
    model: Transformer,
    tokens_N: Tensor,
    layout: Layout,
    *,
    adapter: Adapter | None = None,
    added_ND: Tensor | None = None,
    recompute: bool = False,
) -> Tensor:
    """Final hidden states (N D).

    added: to the embeddings, what a scorer knows of each token beside its id. recompute: keep one activation a layer
    and compute the rest again in backward (gradient checkpointing, arXiv:1604.06174): a third more time for a fraction
    of the memory.
    """
    x = model.model.embed_tokens(tokens_N)
    x = x if added_ND is None else x + added_ND.to(x.dtype)
    at = layout.positions_N.to(x.device)
    cos, sin = model.rope_cos[at].to(x.dtype)[:, None], model.rope_sin[at].to(x.dtype)[:, None]  # (N 1 E)
    for index, layer in enumerate(cast("Iterable[Block]", model.model.layers)):
        name = f"model.layers.{index}"
        if recompute and torch.is_grad_enabled():
            x = checkpoint(_block, layer, x, cos, sin, layout, name, adapter, use_reentrant=False)
        else:
            x = _block(layer, x, cos, sin, layout, name, adapter)
    return _norm(x, model.model.norm)


def _block(
    block: Block, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, name: str, adapter: Adapter | None
) -> Tensor:
    x = x + _attention(block.self_attn, _norm(x, block.input_layernorm), cos, sin, layout, name, adapter)
    h = _norm(x, block.post_attention_layernorm)
    mlp, at = block.mlp, f"{name}.mlp"
    gate, up = (linear(h, getattr(mlp, name), f"{at}.{name}", adapter) for name in ("gate_proj", "up_proj"))
    return x + linear(rowwise.gated(gate, up), mlp.down_proj, f"{at}.down_proj", adapter)


def _attention(
    layer: Attention,
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: Layout,
    name: str,
    adapter: Adapter | None,
) -> Tensor:
    N, E, at = x.shape[0], layer.head_dim, f"{name}.self_attn"
    q = linear(x, layer.q_proj, f"{at}.q_proj", adapter).view(N, -1, E)
    k = linear(x, layer.k_proj, f"{at}.k_proj", adapter).view(N, -1, E)
    v = linear(x, layer.v_proj, f"{at}.v_proj", adapter).view(N, -1, E)
    if layer.has_qk_norm:
        q, k = _norm(q, layer.q_norm), _norm(k, layer.k_norm)
    out = attend(q, k, v, cos, sin, layout, layer.window)
    return linear(out.reshape(N, -1), layer.o_proj, f"{at}.o_proj", adapter)


def _norm(x: Tensor, layer: RMSNorm) -> Tensor:
    return rowwise.norm(x, layer.weight, layer.eps)


def linear(x: Tensor, layer: nn.Linear, name: str, adapter: Adapter | None) -> Tensor:
    if adapter is None or name not in adapter.pairs:
        return F.linear(x, layer.weight, layer.bias)
    a, b = adapter.pairs[name]
    y = _AdaptedLinear.apply(x, layer.weight, a, b, adapter.scale)
    return y if layer.bias is None else y + layer.bias


class _AdaptedLinear(torch.autograd.Function):
    """x (N in) times a weight (out in) that already contains scale * B @ A; gradients for A (r in) and B (out r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return F.linear(x, merged)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, merged, a, b = ctx.saved_tensors
        (grad,) = grads
        down, up = F.linear(x, a.to(x.dtype)), grad @ b.to(x.dtype)  # (N r) each
        da = (up.T @ x).to(a.dtype).mul_(ctx.scale)
        db = (grad.T @ down).to(b.dtype).mul_(ctx.scale)
        return grad @ merged if ctx.needs_input_grad[0] else None, None, da, db, None
