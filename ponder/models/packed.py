"""The forward pass for training: sequences packed end to end without padding, prompts shared by their completions.

    tokens  [ prompt A | completion A1 | completion A2 | prompt B, completion B1 ]        (N,)

Every product runs over all N tokens at once; only attention (`models/segments.py`) looks at who sees whom. A prompt
that several completions share is computed once, forward and backward. The network is that of `models/transformer.py`,
module by module, so hooks of modules fire (FSDP2 gathers weights in them); tests hold it together with the dense pass.
What lies between the products has a backward pass of its own (`models/rowwise.py`): the automatic one is slow on a CPU.

Shapes: N packed tokens, D width, H query heads, K key/value heads, E head width.
"""

from __future__ import annotations

from torch import Tensor

from ponder.models import rowwise
from ponder.models.segments import Layout, attend
from ponder.models.transformer import Ops, Transformer


class PackedOps(Ops):
    """Over the tokens of one pack (N ...)."""

    def __init__(self, model: Transformer, layout: Layout) -> None:
        at = layout.positions_N.to(model.device)
        self._layout = layout
        self._cos, self._sin = (table[at].to(model.dtype)[:, None] for table in (model.rope_cos, model.rope_sin))

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rowwise.norm(x, weight, eps)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        return rowwise.gated(gate, up)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, window: int | None) -> Tensor:
        return attend(q, k, v, self._cos.to(q.dtype), self._sin.to(q.dtype), self._layout, window)


def hidden(
    model: Transformer,
    tokens_N: Tensor,
    layout: Layout,
    *,
    embedding_bias_ND: Tensor | None = None,
    recompute: bool = False,
) -> Tensor:
    """Final hidden states (N D). embedding_bias: what a scorer knows of each token beside its id. recompute:
    see `Transformer.hidden`."""
    return model.hidden(tokens_N, PackedOps(model, layout), embedding_bias=embedding_bias_ND, recompute=recompute)
