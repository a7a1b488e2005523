"""The definition of the Llama and Qwen families (Llama, SmolLM2, Mistral, Qwen2, Qwen2.5, Qwen3), once for every pass.

They differ in four places only: a bias on the attention projections (Qwen2), a norm on queries and keys (Qwen3), a
sliding window (Mistral v0.1), and how rotary frequencies are scaled (Llama 3). Parameter names are those of
Hugging Face, so `state_dict()` is a checkpoint that `transformers` and vLLM load as it is.

The modules say what is computed and in which order; an `Ops` says how, and over which tokens:

    model.hidden(tokens_BT)                        # Dense, here: whole sequences, readable, the oracle of the others
    model.hidden(tokens_N, PackedOps(...))         # training: packed sequences with prompts shared (models/packed.py)
    FusedDecoder(...).hidden(tokens_N, ...)        # sampling: fused weights over a cache (engine/decoder.py)

Compiled C (engine/native.py) is the one pass that defines the network again; it declares what it supports.

Shapes: B sequences, T tokens, D width, H query heads, K key/value heads, E head width, V vocabulary.
Left out: mixture of experts, attention with a logit soft-cap, vision.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from ponder.models.memory import GIB, check_memory


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What config.json says, under its own names. `models/weights.py` reads and checks the file."""

    model_type: str = "llama"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 1024  # the context window, prompt + reasoning + answer
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool = True
    attention_bias: bool = False  # bias on q, k, v
    attention_out_bias: bool = False  # bias on o too (Llama's own attention_bias)
    mlp_bias: bool = False
    qk_norm: bool = False  # Qwen3
    sliding_window: int | None = None  # a token sees this many tokens back, itself included
    full_attention_layers: tuple[int, ...] = ()  # these see everything all the same (Qwen's max_window_layers)
    extra: dict[str, Any] = field(default_factory=dict)  # keys of config.json that are kept but not used

    def window(self, layer: int) -> int | None:
        """How many tokens back a layer sees, itself included; None = all."""
        return None if layer in self.full_attention_layers else self.sliding_window


class Ops(ABC):
    """How one pass computes what the modules below ask for. Heads come apart: q is (... H E), k and v are (... K E)."""

    def project(self, x: Tensor, *layers: nn.Module) -> Sequence[Tensor]:
        """Linear layers that have one input."""
        return [layer(x) for layer in layers]

    def heads(self, x: Tensor, width: int, *layers: nn.Module) -> Sequence[Tensor]:
        """The same, cut into heads (... H E)."""
        return [y.view(*y.shape[:-1], -1, width) for y in self.project(x, *layers)]

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """RMS norm over the last dimension (arXiv:1910.07467)."""
        # the mean square in float32, as transformers does: bf16 loses it for wide models
        x32 = x.float()
        return weight * (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """SwiGLU (arXiv:2002.05202)."""
        return F.silu(gate) * up

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, window: int | None) -> Tensor:
        """Turn q and k to their positions (`rotate`); what each token reads from those it sees, (... H E)."""


def rope_frequencies(config: ModelConfig) -> Tensor:
    """Inverse frequencies (E/2,), float32. Scaling: none, linear, or llama3 (bands by wavelength)."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu") / config.head_dim
    inverse = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return inverse
    if kind == "linear":
        return inverse / scaling["factor"]
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = scaling["original_max_position_embeddings"] * inverse / (2 * math.pi)
        smooth = ((turns - low) / (high - low)).clamp(0, 1)  # 0: long waves, divided; 1: short waves, kept
        return inverse / scaling["factor"] * (1 - smooth) + inverse * smooth
    raise ValueError(f"rope scaling {kind!r} is not supported; known: default, linear, llama3")


def rope_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position of the window, each (window, E), float32."""
    needed = 12 * config.max_position_embeddings * config.head_dim  # with the angles
    if needed > GIB:
        check_memory(needed, f"a table of {config.max_position_embeddings:,} positions (max_position_embeddings)")
    positions = torch.arange(config.max_position_embeddings, dtype=torch.float32, device="cpu")
    angles = torch.outer(positions, rope_frequencies(config)).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv:2104.09864), the two halves of a head as pairs. x (B H T E) with cos and sin (T E), or
    x (N H E) with (N 1 E)."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Grouped-query attention. q (B H T E), k and v (B K S E), bias (B T S) or None = causal with S == T.

    Keys are not repeated: the H/K query heads of a group are rows of one product. The fused kernel serves causal
    attention, except in bf16 on a CPU, where its backward is slower than plain products.
    """
    B, H, T, E = q.shape
    K, S = k.shape[1], k.shape[2]
    if bias is None and (q.is_cuda or q.dtype == torch.float32):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=H != K)
    if bias is None:
        bias = causal_bias(T, q.dtype, q.device)
    rows = q.reshape(B, K, H // K * T, E) * (1 / math.sqrt(E))
    scores = (rows @ k.transpose(-1, -2)).view(B, K, H // K, T, S) + bias[:, None, None]
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    return (weights.view(B, K, H // K * T, S) @ v).view(B, H, T, E)


def causal_bias(length: int, dtype: torch.dtype, device: torch.device, window: int | None = None) -> Tensor:
    """(1 T T): 0 where a token may attend, -inf elsewhere."""
    may = torch.ones(length, length, dtype=torch.bool, device=device).tril_()
    if window:
        may.triu_(1 - window)
    return bias_of(may, dtype)[None]


def bias_of(may_attend: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where a token may attend (True), -inf elsewhere."""
    return torch.zeros(may_attend.shape, dtype=dtype, device=may_attend.device).masked_fill_(~may_attend, float("-inf"))


class Dense(Ops):
    """Whole sequences (B T ...) from position 0, each token seeing those before it."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self._cos, self._sin = cos, sin  # (T E)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, window: int | None) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        q, k = rotate(q, self._cos, self._sin), rotate(k, self._cos, self._sin)
        T = q.shape[2]
        bias = causal_bias(T, q.dtype, q.device, window) if window and window < T else None
        return attend(q, k, v, bias).transpose(1, 2)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        return ops.norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245): H query heads on K key/value heads; `ops` says what is seen."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        D, E = config.hidden_size, config.head_dim
        self.layer, self.head_dim, self.window = layer, E, config.window(layer)
        self.q_proj = nn.Linear(D, config.num_attention_heads * E, bias=config.attention_bias)
        self.k_proj = nn.Linear(D, config.num_key_value_heads * E, bias=config.attention_bias)
        self.v_proj = nn.Linear(D, config.num_key_value_heads * E, bias=config.attention_bias)
        self.o_proj = nn.Linear(config.num_attention_heads * E, D, bias=config.attention_out_bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(E, config.rms_norm_eps)
            self.k_norm = RMSNorm(E, config.rms_norm_eps)
        self.has_qk_norm = config.qk_norm

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        q, k, v = ops.heads(x, self.head_dim, self.q_proj, self.k_proj, self.v_proj)
        if self.has_qk_norm:
            q, k = self.q_norm(q, ops), self.k_norm(k, ops)
        return self.o_proj(ops.attend(q, k, v, layer=self.layer, window=self.window).flatten(-2))


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)): SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(D, inner, bias=bias)
        self.up_proj = nn.Linear(D, inner, bias=bias)
        self.down_proj = nn.Linear(inner, D, bias=bias)

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        gate, up = ops.project(x, self.gate_proj, self.up_proj)
        return self.down_proj(ops.gate(gate, up))


class Block(nn.Module):
    """One layer: attention and MLP, each behind a norm and added to its input."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x, ops), ops)
        return x + self.mlp(self.post_attention_layernorm(x, ops), ops)


class Decoder(nn.Module):
    """Everything below the output head; its own module only so that names match Hugging Face's `model.*`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, tokens: Tensor, ops: Ops, *, embedding_bias: Tensor | None = None, recompute: bool = False
    ) -> Tensor:
        x = self.embed_tokens(tokens)
        x = x if embedding_bias is None else x + embedding_bias.to(x.dtype)
        for layer in self.layers:
            if recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, ops, use_reentrant=False)
            else:
                x = layer(x, ops)
        return self.norm(x, ops)


class Transformer(nn.Module):
    """tokens (B T) -> logits (B T V). Weights are tied where the config says so: `lm_head` then does not exist."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("rope_cos", None, persistent=False)
        self.register_buffer("rope_sin", None, persistent=False)
        self.rope_cos, self.rope_sin = rope_tables(config)

    @classmethod
    def over(cls, config: ModelConfig, weights: Mapping[str, Tensor]) -> Transformer:
        """A model whose parameters *are* the given tensors, not copies of them."""
        model = blank(config)
        model.load_state_dict(weights, assign=True)
        model.rope_cos, model.rope_sin = (table.to(model.device) for table in rope_tables(config))
        return model

    def init_weights(self, seed: int) -> None:
        """A fresh model: normal(0, 0.02), output projections scaled down by depth (GPT-2's rule)."""
        generator = torch.Generator().manual_seed(seed)
        depth_scale = 1 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.data.fill_(1.0)
            elif parameter.dim() == 1:
                parameter.data.zero_()
            else:
                parameter.data.normal_(0, 0.02, generator=generator)
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    parameter.data.mul_(depth_scale)

    def hidden(
        self,
        tokens: Tensor,
        ops: Ops | None = None,
        *,
        embedding_bias: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Final hidden states of every token, by `Dense` where no other ops are given.

        embedding_bias: added to the embeddings. recompute: keep one activation a layer and compute the rest again in
        backward (gradient checkpointing, arXiv:1604.06174): a third more time for a fraction of the memory.
        """
        if ops is None:
            tables = (table[: tokens.shape[1]].to(self.dtype) for table in (self.rope_cos, self.rope_sin))
            ops = Dense(*tables)
        return self.model(tokens, ops, embedding_bias=embedding_bias, recompute=recompute)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, in the weights' dtype."""
        return F.linear(hidden, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """(V D)."""
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(tokens))

    @property
    def num_parameters(self) -> int:
        """Weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype


class _NoInitialValues(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def blank(config: ModelConfig) -> Transformer:
    """Names and shapes only: no memory, and no initial values, which on the meta device would first import torch's
    compiler, most of a second."""
    with torch.device("meta"), _NoInitialValues():
        return Transformer(config)


def flops_per_token(config: ModelConfig, context: float = 0) -> float:
    """Forward FLOPs of one token that attends to `context` tokens: 2 a weight used in a product, 4 a head
    dimension, head and context token (arXiv:2001.08361, appendix B). Training costs three times as much."""
    D, E, H, K = config.hidden_size, config.head_dim, config.num_attention_heads, config.num_key_value_heads
    per_layer = 2 * D * E * (H + K) + 3 * D * config.intermediate_size
    weights = config.num_hidden_layers * per_layer + config.vocab_size * D
    return 2.0 * weights + 4.0 * config.num_hidden_layers * H * E * context


def sequence_flops(config: ModelConfig, lengths: Sequence[tuple[int, int]]) -> float:
    """Forward FLOPs over (start, end) spans of positions, e.g. a prompt once and each completion after it."""
    return sum((end - start) * flops_per_token(config, (start + end) / 2) for start, end in lengths)
