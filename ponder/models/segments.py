"""Who sees whom in a pack of sequences, and attention over it.

    Layout([Segment(0, 9), Segment(9, 14, prefix_end=9), Segment(14, 20, prefix_end=9)])    a prompt and two completions

A segment is a run of tokens that sees itself (causally) and all of its prefix, another run of the pack. On an x86 CPU
compiled C takes one after the other (`attention.py`). On other CPUs segments of similar shape are padded into blocks
small enough for the cache, for attention only, and a block is a handful of plain products in both directions: the fused
kernel's backward in bf16 is slower than those. On a GPU one kernel takes the whole pack, as many small launches would
leave it idle: a masked one, and FlexAttention (arXiv:2412.05496) for packs whose mask, N x N, would be large: its mask
of blocks is made from the segments, so that nothing has N x N numbers. Neither has run on a GPU yet (docs/gpu.md);
tests hold both to the others on a CPU.

Shapes: N packed tokens, H query heads, K key/value heads, G = H/K, E head width; in a block B segments, T own tokens
of the longest, S seen ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from ponder.models import attention
from ponder.models.rowwise import turned
from ponder.models.transformer import rotate

_SCORES = 2**20  # of a block, a key/value head at a time: 4 MB of float32
_CALLS = 2**15  # padded scores that take as long as the calls of one block more
_BLOCK = 128  # tokens of a block of FlexAttention's, on either side
_MASKED = 8192  # tokens, on a GPU: a larger pack is worth the seconds that compiling FlexAttention takes

# (batch, head, i, j) -> whether token i sees token j: a mask_mod of FlexAttention
Sees = Callable[[Any, Any, Tensor, Tensor], Tensor]


class Segment(NamedTuple):
    """Tokens start..end of the pack follow, and see, tokens prefix_start..prefix_end."""

    start: int
    end: int
    prefix_start: int = 0
    prefix_end: int = 0

    @property
    def own(self) -> int:
        """Tokens of the segment itself."""
        return self.end - self.start

    @property
    def prefix(self) -> int:
        """Tokens of the prefix that it sees; 0 = none."""
        return self.prefix_end - self.prefix_start


class PaddedBlock(NamedTuple):
    """Segments padded to one shape. Padded queries point at row N, which holds zeros; padded keys are masked."""

    rows_BT: Tensor
    seen_BS: Tensor
    bias_BTS: Tensor  # 0 or -inf, in the dtype of the scores


class Layout:
    """The segments of a pack; blocks and masks are made once and serve every layer."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = list(segments)
        self.num_tokens = max(s.end for s in segments)
        spans = torch.tensor([(s.start, s.own, s.prefix) for s in self.segments]).view(-1, 3)
        starts, own, prefix = spans.unbind(1)
        self.spans = torch.tensor([(s.start, s.own, s.prefix_start, s.prefix) for s in self.segments]).view(-1, 4)
        self.positions_N = torch.zeros(self.num_tokens, dtype=torch.long)
        within = torch.arange(int(own.sum())) - (own.cumsum(0) - own).repeat_interleave(own)
        self._order = starts.repeat_interleave(own) + within  # tokens, segment by segment
        self.positions_N[self._order] = prefix.repeat_interleave(own) + within
        self._blocks: dict[tuple[int | None, torch.dtype], list[PaddedBlock]] = {}
        self._masks: dict[tuple[int | None, torch.device], Tensor] = {}
        self._block_masks: dict[tuple[int | None, torch.device], BlockMask] = {}

    def blocks(self, window: int | None, dtype: torch.dtype) -> list[PaddedBlock]:
        """The segments, padded into blocks once for each window and dtype. window: tokens back that one sees; None =
        all."""
        if (window, dtype) not in self._blocks:
            made = [_block(part, self.num_tokens, window) for part in _parts(self.segments)]
            self._blocks[window, dtype] = [block._replace(bias_BTS=block.bias_BTS.to(dtype)) for block in made]
        return self._blocks[window, dtype]

    def _columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each token, where its segment begins, and where its prefix begins and ends, (N,) each."""
        own = self.spans[:, 1]
        start_N, prefix_start_N, prefix_end_N = (
            torch.zeros_like(self.positions_N).index_copy_(0, self._order, column.repeat_interleave(own))
            for column in (self.spans[:, 0], self.spans[:, 2], self.spans[:, 2] + self.spans[:, 3])
        )
        return start_N, prefix_start_N, prefix_end_N

    def sees(self, window: int | None, device: torch.device) -> Sees:
        """Who sees whom: a token sees its own segment up to itself, and the prefix, no further back than a window."""
        start_N, prefix_start_N, prefix_end_N = (column.to(device) for column in self._columns())
        positions_N = self.positions_N.to(device)

        def sees(batch: Any, head: Any, i: Tensor, j: Tensor) -> Tensor:
            in_own = (start_N[i] <= j) & (j <= i)
            return in_own | ((prefix_start_N[i] <= j) & (j < prefix_end_N[i]))

        def sees_near(batch: Any, head: Any, i: Tensor, j: Tensor) -> Tensor:
            return sees(batch, head, i, j) & (positions_N[j] > positions_N[i] - (window or 0))

        return sees_near if window else sees

    def mask(self, window: int | None, device: torch.device) -> Tensor:
        """(N N): True where a row's token sees a column's."""
        if (window, device) not in self._masks:
            index = torch.arange(self.num_tokens, device=device)
            self._masks[window, device] = self.sees(window, device)(0, 0, index[:, None], index[None, :])
        return self._masks[window, device]

    def block_mask(self, window: int | None, device: torch.device) -> BlockMask:
        """The same for FlexAttention: which blocks of 128 x 128 are seen in full, in part or not at all. From the ends
        of the runs that each token sees: N x N/128 numbers, where asking every pair would take N x N."""
        if (window, device) not in self._block_masks:
            some, full = self._seen_blocks(window)
            part = some & ~full
            self._block_masks[window, device] = BlockMask.from_kv_blocks(
                *_listed(part, device), *_listed(full, device), BLOCK_SIZE=_BLOCK,
                mask_mod=self.sees(window, device), seq_lengths=(self.num_tokens, self.num_tokens),
            )  # fmt: skip
        return self._block_masks[window, device]

    def _seen_blocks(self, window: int | None) -> tuple[Tensor, Tensor]:
        """Whether any token of a row's block sees any of a column's, and whether all see all, (blocks, blocks)."""
        N, count = self.num_tokens, -(-self.num_tokens // _BLOCK)
        own_start_N, prefix_start_N, prefix_end_N = self._columns()
        index_N = torch.arange(N)
        if window:  # positions go on by one within a segment, and within a prefix
            own_start_N = own_start_N.maximum(index_N - window + 1)
            first = self.positions_N[prefix_start_N.clamp(max=N - 1)]
            prefix_start_N = prefix_start_N.maximum(prefix_start_N + self.positions_N - window + 1 - first)
        starts_B = torch.arange(count) * _BLOCK
        # tokens of a block that each of the two runs holds, (N, blocks); they do not overlap
        held_NB = _overlap(own_start_N, index_N + 1, starts_B) + _overlap(prefix_start_N, prefix_end_N, starts_B)
        held_NB = F.pad(held_NB, (0, 0, 0, count * _BLOCK - N)).view(count, _BLOCK, count)
        return (held_NB > 0).any(1), (held_NB == _BLOCK).all(1)


def _overlap(start_N: Tensor, end_N: Tensor, starts_B: Tensor) -> Tensor:
    """How many of start..end lie in each block."""
    last = end_N[:, None].minimum(starts_B + _BLOCK)
    return (last - start_N[:, None].maximum(starts_B)).clamp_(min=0)


def _listed(blocks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """(rows, columns) bool -> how many each row has, and which, those first; with a batch and a head before them."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return tuple(x.to(torch.int32)[None, None].to(device) for x in (blocks.sum(-1), order))  # type: ignore[return-value]


def _parts(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of similar shape together, as many as a block may hold, or as padding is worth the calls it saves."""
    parts: list[list[Segment]] = []
    longest = area = 0
    for s in sorted((s for s in segments if s.own), key=lambda s: (s.prefix > 0, s.prefix + s.own, s.own, s.start)):
        longest = max(longest, s.own)
        alike = bool(parts) and (parts[-1][-1].prefix > 0) == (s.prefix > 0)
        own = s.own * (s.prefix + s.own)
        padded = (len(parts[-1]) + 1) * longest * (s.prefix + s.own) if alike else 0
        if not alike or padded > _SCORES or padded > 1.3 * (area + own) + _CALLS:
            parts.append([])
            longest, area = s.own, 0
        parts[-1].append(s)
        area += own
    return parts


def _block(segments: Sequence[Segment], num_tokens: int, window: int | None) -> PaddedBlock:
    """All segments at once: a pack may have thousands."""
    starts, own, prefix_starts, prefix = (
        x[:, None] for x in torch.tensor([(s.start, s.own, s.prefix_start, s.prefix) for s in segments]).unbind(1)
    )
    t, s = torch.arange(int(own.max())), torch.arange(int((prefix + own).max()))
    is_own, positions = t < own, (prefix + t)[:, :, None]  # (B T), (B T 1)
    rows = torch.where(is_own, starts + t, num_tokens)
    after = torch.where(s < prefix + own, starts + s - prefix, 0)
    seen = torch.where(s < prefix, prefix_starts + s, after)
    may = (s <= positions) & (s > positions - window) if window else s <= positions
    # a padded query sees something: a softmax over nothing is nan
    may = torch.where(is_own[:, :, None], may, s == 0)
    return PaddedBlock(rows, seen, torch.zeros(may.shape).masked_fill_(~may, float("-inf")))


def attend(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, layout: Layout, window: int | None) -> Tensor:
    """Rotary embedding and grouped-query attention. q (N H E), k and v (N K E), cos and sin (N 1 E) -> (N H E)."""
    if q.is_cuda and layout.num_tokens > _MASKED:
        return attend_flex(q, k, v, cos, sin, layout.block_mask(window, q.device))
    if q.is_cuda:
        return attend_masked(q, k, v, cos, sin, layout.mask(window, q.device))
    if attention.can_attend(q):
        return _CompiledAttention.apply(q, k, v, cos, sin, layout.spans, window)
    return _Attention.apply(q, k, v, cos, sin, layout.blocks(window, q.dtype))


def attend_masked(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
    """The same by one fused kernel, for a GPU. Its kernel that takes a mask knows no groups of queries, and the plain
    one would keep all scores: hence a copy of the keys for each query head."""
    copies = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(copies, 1) if copies > 1 else x for x in (rotate(k, cos, sin), v))
    q, k, v = (x.transpose(0, 1)[None] for x in (rotate(q, cos, sin), k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out[0].transpose(0, 1)


def attend_flex(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, mask: BlockMask) -> Tensor:
    """The same by FlexAttention, which skips blocks that nobody sees."""
    q, k, v = (x.transpose(0, 1)[None] for x in (rotate(q, cos, sin), rotate(k, cos, sin), v))
    flex = _compiled_for(q.device.type, flex_attention)
    out: Tensor = flex(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return out[0].transpose(0, 1)


@functools.cache
def _compiled_for(device: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """By torch's compiler on a GPU. A CPU, where only tests come here, makes all scores and the whole mask at once."""
    return torch.compile(function) if device == "cuda" else function


class _CompiledAttention(torch.autograd.Function):
    """By compiled C, segment for segment, without padding."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, spans: Tensor, window: int | None
    ) -> Tensor:
        q = turned(q, cos, sin, scale=1 / math.sqrt(q.shape[-1]))
        k, v = turned(k, cos, sin), v.contiguous()
        out, normaliser = attention.forward(q, k, v, spans, window)
        ctx.save_for_backward(q, k, v, cos, sin, out, normaliser, spans)
        ctx.window = window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, cos, sin, out, normaliser, spans = ctx.saved_tensors
        dq, dk, dv = attention.backward(q, k, v, out, normaliser, grads[0].contiguous(), spans, ctx.window)
        dq = turned(dq, cos, sin, scale=1 / math.sqrt(q.shape[-1]), back=True)
        return dq, turned(dk, cos, sin, back=True), dv, None, None, None, None


class _Attention(torch.autograd.Function):
    """The G query heads that share a key head are rows of one product. Gradients of keys and values are summed in
    float32: a shared prompt collects them from every completion."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, blocks: list[PaddedBlock]
    ) -> Tensor:
        N, K, scale = q.shape[0], k.shape[1], 1 / math.sqrt(q.shape[-1])
        q, k = _with_zero_row(turned(q, cos, sin, scale=scale)), turned(k, cos, sin)
        out = torch.empty_like(q)
        kept = []
        for block in blocks:
            rows, keys, values = _queries(q, block, K), _keys(k, block), _keys(v, block)
            scores = torch.bmm(rows, keys.transpose(1, 2))
            B, T, S = block.bias_BTS.shape
            scores.view(B, -1, T, S).add_(block.bias_BTS[:, None])
            weights = scores.softmax(-1)  # sums in float32 whatever it reads
            _put(out, torch.bmm(weights, values), block)
            kept.append(weights)
        ctx.save_for_backward(q, k, v, cos, sin, *kept)
        ctx.blocks = blocks
        return out[:N]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, cos, sin, *kept = ctx.saved_tensors
        K, scale, dout = k.shape[1], 1 / math.sqrt(q.shape[-1]), _with_zero_row(grads[0])
        dq = torch.empty_like(q)
        dk, dv = (torch.zeros(x.shape, dtype=torch.float32) for x in (k, v))
        for block, weights in zip(ctx.blocks, kept, strict=True):
            rows, keys, values = _queries(q, block, K), _keys(k, block), _keys(v, block)
            drows = _queries(dout, block, K)
            _add(dv, torch.bmm(weights.transpose(1, 2), drows), block)
            dweights = torch.bmm(drows, values.transpose(1, 2))
            dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
            _put(dq, torch.bmm(dscores, keys), block)
            _add(dk, torch.bmm(dscores.transpose(1, 2), rows), block)
        dq, dk = turned(dq[:-1], cos, sin, scale=scale, back=True), turned(dk.to(k.dtype), cos, sin, back=True)
        return dq, dk, dv.to(v.dtype), None, None, None


def _with_zero_row(x: Tensor) -> Tensor:
    padded = x.new_empty((x.shape[0] + 1, *x.shape[1:]))
    padded[:-1] = x
    padded[-1] = 0
    return padded


def _queries(x: Tensor, block: PaddedBlock, K: int) -> Tensor:
    """(N+1 H E) -> (B K, G T, E)."""
    B, T = block.rows_BT.shape
    E = x.shape[-1]
    picked = x.index_select(0, block.rows_BT.view(-1)).view(B, T, K, -1, E)
    return picked.permute(0, 2, 3, 1, 4).reshape(B * K, -1, E)


def _keys(x: Tensor, block: PaddedBlock) -> Tensor:
    """(N K E) -> (B K, S, E)."""
    B, S = block.seen_BS.shape
    picked = x.index_select(0, block.seen_BS.view(-1)).view(B, S, *x.shape[1:])
    return picked.transpose(1, 2).reshape(-1, S, x.shape[-1])


def _put(out: Tensor, rows: Tensor, block: PaddedBlock) -> None:
    """(B K, G T, E) into (N+1 H E)."""
    B, T = block.rows_BT.shape
    heads = rows.view(B, -1, T, out.shape[-1]).permute(0, 2, 1, 3).reshape(B * T, *out.shape[1:])
    out.index_copy_(0, block.rows_BT.view(-1), heads)


def _add(total: Tensor, part: Tensor, block: PaddedBlock) -> None:
    """Add gradients (B K, S, E) to (N K E), float32; padded ones are zero."""
    B, S = block.seen_BS.shape
    K, E = total.shape[1:]
    spread = part.view(B, K, S, E).transpose(1, 2).reshape(B * S, K, E)
    total.index_add_(0, block.seen_BS.view(-1), spread.float())
