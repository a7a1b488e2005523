"""Attention of the fast decoder: causal over prompts, and of one new token a running sequence.

A new token attends to its prompt and to its sequence's own tokens. Samples of one prompt read the same keys, so
their queries are rows of one product with it; only the own part is a product a sequence. The scores of both lie side by
side in one row, under one softmax.

The order of a sum depends on the shape of its product. Every length here is a function of the sequence alone (buckets,
blocks), or pads with zeros after what is summed, so a completion has the same bits in every batch;
tests/engine/test_decoder.py holds that down.

Shapes: N rows, G prompts, m samples a prompt, K key/value heads, r query heads a key/value head, E head width,
P prompt tokens (padded), C own tokens (capacity).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.engine.cache import Cache, CachedPrompt, LengthBucket
from ponder.engine.decoder import FusedDecoder

# own tokens in one product with the values: longer sums would be split by their length, so they are split here
_BLOCK = {torch.float32: 128}
_OTHER_BLOCK = 1024


class PromptAttention:
    """Causal attention within each of B prompts of T tokens (padded); keeps keys and values, (B K T E) a layer."""

    def __init__(self, decoder: FusedDecoder, num_prompts: int, length: int) -> None:
        self._config, self._B, self._T = decoder.config, num_prompts, length
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._biases: dict[int | None, Tensor] = {}  # a window -> (T T), 0 or -inf

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.view(self._B, self._T, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        self.keys.append(k)
        self.values.append(v)
        attend = self.by_products if q.device.type == "cpu" else self.by_kernel
        return attend(q, k, v, self._config.window(layer)).transpose(1, 2).flatten(0, 1)

    def by_kernel(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """One fused kernel, for a GPU. q (B H T E), k and v (B K T E)."""
        bias = self._bias(window, q) if window and window < self._T else None
        gqa = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, enable_gqa=gqa)

    def by_products(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """Three plain steps: on a CPU the fused kernel takes twice as long for prompts of a few hundred tokens."""
        B, K, T, E = k.shape
        q = (q * (1 / math.sqrt(E))).reshape(B * K, -1, E)  # query heads of a key head lie side by side
        scores = torch.bmm(q, k.reshape(B * K, T, E).transpose(1, 2))
        scores.view(B * K, -1, T, T).add_(self._bias(window, q))
        return torch.bmm(scores.softmax(-1), v.reshape(B * K, T, E)).view(B, -1, T, E)

    def _bias(self, window: int | None, like: Tensor) -> Tensor:
        if window not in self._biases:
            may = torch.ones(self._T, self._T, dtype=torch.bool, device=like.device).tril_()
            may = may.triu_(1 - window) if window else may
            bias = torch.zeros(self._T, self._T, dtype=like.dtype, device=like.device)
            self._biases[window] = bias.masked_fill_(~may, float("-inf"))
        return self._biases[window]


@dataclass(frozen=True)
class _Block:
    """One batch of products: prompts first..first+G-1 of a bucket, m rows of queries each, from sorted row `start`."""

    bucket: LengthBucket
    first: int
    G: int
    m: int
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.G * self.m


class _Plan:
    """Which rows share which prompts. `order` sorts rows by prompt (None: they are sorted), `inverse` undoes it."""

    def __init__(self, prompts: list[CachedPrompt], min_rows: int, device: torch.device) -> None:
        members: dict[CachedPrompt, list[int]] = {}
        buckets: dict[LengthBucket, None] = {}
        for row, prompt in enumerate(prompts):
            members.setdefault(prompt, []).append(row)
            buckets[prompt.bucket] = None
        self.blocks: list[_Block] = []
        order: list[int] = []
        inverse = [0] * len(prompts)
        for bucket in buckets:
            for first, groups in _batches([members.get(prompt, []) for prompt in bucket.prompts]):
                m = max(min_rows, *map(len, groups))
                self.blocks.append(_Block(bucket, first, len(groups), m, len(order)))
                for group in groups:
                    for j, row in enumerate(group):
                        inverse[row] = len(order) + j
                    order += group + [0] * (m - len(group))  # padding: any row will do
        self.width = max(bucket.length for bucket in buckets)
        self.num_sorted = len(order)
        self.order = self.inverse = None
        if order != list(range(len(prompts))):
            self.order, self.inverse = torch.tensor(order, device=device), torch.tensor(inverse, device=device)
        self.lengths = torch.tensor([len(prompt.ids) for prompt in prompts], device=device)


def _batches(groups: list[list[int]]) -> list[tuple[int, list[list[int]]]]:
    """The groups of a bucket as (first, groups) batches that are padded to their largest: a group so large that more
    than half would be padding is a batch of its own."""
    batches, rest = [], list(groups)
    for first in sorted(range(len(groups)), key=lambda i: -len(groups[i])):
        if len(groups) * max(map(len, rest)) <= 2 * sum(map(len, rest)):
            break
        batches.append((first, [groups[first]]))
        rest[first] = []
    if any(rest):
        batches.append((0, rest))
    return batches


class SlotAttention:
    """Attention of the next token of every running sequence. `begin` once a step, then a call a layer."""

    def __init__(self, decoder: FusedDecoder, cache: Cache) -> None:
        config = self._config = decoder.config
        self._decoder, self._cache = decoder, cache
        self._K, self._E = config.num_key_value_heads, config.head_dim
        self._r = config.num_attention_heads // self._K
        self._scale = 1 / math.sqrt(self._E)
        self._block = _BLOCK.get(decoder.dtype, _OTHER_BLOCK)
        self._seen = -1

    def begin(self, own_N: Tensor) -> Tensor:
        """The next token of row j is number own_N[j] (from 0) of its own tokens; returns its positions."""
        cache, device = self._cache, own_N.device
        N = self._N = len(own_N)
        cache.make_room(N, int(own_N.max()) + 1)
        if self._seen != cache.version:
            self._arrange()
        heads = torch.arange(N * self._K, device=device).view(N, self._K)
        self._rows = (heads * cache.capacity + own_N[:, None]).flatten()  # rows of (slots * K * C E)
        lengths = self._plan.lengths
        columns, own_columns = torch.arange(self._P, device=device), torch.arange(cache.capacity, device=device)
        self._biases = {}
        for window in {self._config.window(layer) for layer in range(self._config.num_hidden_layers)}:
            prompt, own = columns < lengths[:, None], own_columns <= own_N[:, None]
            if window:
                prompt &= columns > (lengths + own_N)[:, None] - window
                own &= own_columns > own_N[:, None] - window
            self._biases[window] = self._bias(prompt), self._bias(own)
        return lengths + own_N

    def _arrange(self) -> None:
        cache, decoder, N = self._cache, self._decoder, self._N
        self._seen = cache.version
        prompts = cache.prompt_of + cache.prompt_of[-1:] * (N - len(cache.prompt_of))
        plan = self._plan = _Plan(prompts, -(-decoder.min_rows // self._r), decoder.device)
        self._P = plan.width
        shape = (self._K, self._r)
        columns = plan.width + cache.capacity
        self._scores = torch.full((N, *shape, columns), float("-inf"), dtype=torch.float32, device=decoder.device)
        if plan.order is not None:
            self._sorted_scores = decoder.embed.new_zeros((plan.num_sorted, *shape, plan.width))
            self._sorted_read = decoder.embed.new_empty((plan.num_sorted, *shape, self._E))

    def _bias(self, may_attend: Tensor) -> Tensor:
        zeros = torch.zeros(may_attend.shape, dtype=torch.float32, device=may_attend.device)
        return zeros.masked_fill_(~may_attend, float("-inf"))[:, None, None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        N, K, r, E, P, plan = self._N, self._K, self._r, self._E, self._P, self._plan
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys.view(-1, E).index_copy_(0, self._rows, k.reshape(N * K, E))
        values.view(-1, E).index_copy_(0, self._rows, v.reshape(N * K, E))
        keys, values = keys[:N].flatten(0, 1), values[:N].flatten(0, 1)  # (N*K C E)
        prompt_bias, own_bias = self._biases[self._config.window(layer)]
        q = (q * self._scale).view(N, K, r, E)

        scores = self._scores
        own = torch.bmm(q.view(N * K, r, E), keys.transpose(1, 2)).view(N, K, r, -1)
        torch.add(own, own_bias, out=scores[..., P:])
        sorted_q = q if plan.order is None else q.index_select(0, plan.order)
        for block in plan.blocks:
            G, m, width = block.G, block.m, block.bucket.length
            rows = sorted_q[block.start : block.stop].view(G, m, K, r, E).transpose(1, 2).reshape(G * K, m * r, E)
            prompt = block.bucket.keys[layer][block.first : block.first + G].view(G * K, width, E)
            product = torch.bmm(rows, prompt.transpose(1, 2)).view(G, K, m, r, width).transpose(1, 2)
            target = scores if plan.order is None else self._sorted_scores
            target = target[block.start : block.stop, ..., :width].unflatten(0, (G, m))
            if plan.order is None:
                bias = prompt_bias[block.start : block.stop, ..., :width].unflatten(0, (G, m))
                torch.add(product, bias, out=target)
            else:
                target.copy_(product)
        if plan.inverse is not None:
            torch.add(self._sorted_scores.index_select(0, plan.inverse), prompt_bias, out=scores[..., :P])

        weights = scores.softmax(-1)
        read = self._read_own(weights[..., P:].to(v.dtype).reshape(N * K, r, -1), values).view(N, K, r, E)
        shared = weights if plan.order is None else weights.index_select(0, plan.order)
        for block in plan.blocks:
            G, m, width = block.G, block.m, block.bucket.length
            rows = shared[block.start : block.stop, ..., :width].unflatten(0, (G, m)).transpose(1, 2)
            prompt = block.bucket.values[layer][block.first : block.first + G].view(G * K, width, E)
            product = torch.bmm(rows.to(v.dtype).reshape(G * K, m * r, width), prompt)
            product = product.view(G, K, m, r, E).transpose(1, 2)
            if plan.order is None:
                read[block.start : block.stop].unflatten(0, (G, m)).add_(product)
            else:
                self._sorted_read[block.start : block.stop].unflatten(0, (G, m)).copy_(product)
        if plan.inverse is not None:
            read += self._sorted_read.index_select(0, plan.inverse)
        return read.view(N, K * r, E)

    def _read_own(self, weights: Tensor, values: Tensor) -> Tensor:
        size = self._block
        read = torch.bmm(weights[..., :size], values[:, :size])
        for start in range(size, values.shape[1], size):
            read.baddbmm_(weights[..., start : start + size], values[:, start : start + size])
        return read
