"""Low-rank adapters (LoRA, arXiv:2106.09685): W + alpha / r * B @ A, and only A and B are trained.

An adapter here is two things: the pairs that the trainer updates in float32, and the merged weight (`merge`), in the
dtype of the model, that trainer (`AdaptedLinear`) and sampler both compute with. So a step of training costs one
product a layer in the forward pass, as without an adapter, and sampler and trainer never differ by the order of a sum.

The files are those of PEFT (adapter_config.json, adapter_model.safetensors), so other programs read them. A change that
is much smaller than a bf16 weight's last bit vanishes when it is merged into one: merge into float32 to keep all of it.

Rows of the embeddings (and of a head of its own) that a base does not have, those of the reasoning marks, are trained
with the pairs: a model draws a mark only when its row has come to mean one. They are saved as PEFT's trainable tokens,
with the changed tokenizer: `PeftModel.from_pretrained` then gives the model that was trained.

Left out: DoRA, biases, adapters of embeddings other than by rows, several adapters in one folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ponder.config import ConfigError, nearest
from ponder.files import write_atomic
from ponder.models.files import read_json, remedy
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer
from ponder.models.weights import CODES, write_tensors

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PREFIX = "base_model.model."
_SUFFIXES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
_ROWS = ".token_adapter.trainable_tokens_delta"
# Of the size of a table's numbers: a step size that suits the pairs then suits the rows. After a cold start of 60 steps
# tiny models closed their reasoning in 0 to 5 % of samples with frozen rows, in 5 to 19 % with 1, 81 to 97 % with 4 and
# 97 to 100 % with 10 and with 20; this lies between (docs/log.md, 2026-11-29).
_ROWS_SCALE = 16.0
BASE = "ponder_base"  # our own key: the reference that ponder resolves, where PEFT needs a path

# keys of adapter_config.json with which W + scale * B @ A is the whole change, whatever they say ...
_HARMLESS = {
    "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "megatron_core", "qalora_group_size", "runtime_config", "trainable_token_indices",
    "ensure_weight_tying", "merged_dtype", "reasoning_marks", BASE,
}  # fmt: skip
# ... and with which it is where they say this. Every other key must be empty: what it means is not known here.
_PLAIN = {"bias": ("none",), "init_lora_weights": (True, "gaussian")}


@dataclass(frozen=True)
class TokenRows:
    """Rows of a table of tokens ("model.embed_tokens", "lm_head"): start + scale * delta, and delta is trained."""

    ids: tuple[int, ...]
    start: Tensor  # (k D) float32
    delta: Tensor  # (k D) float32
    scale: float

    def values(self) -> Tensor:
        """The rows as they are now (k D), with a gradient for `delta`."""
        return self.start + self.scale * self.delta


@dataclass(frozen=True)
class Adapter:
    """Name of a linear layer ("model.layers.0.self_attn.q_proj") -> A (r in) and B (out r), float32."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    alpha: float
    rows: dict[str, TokenRows] = field(default_factory=dict)  # by the name of the table

    @property
    def rank(self) -> int:
        return next(iter(self.pairs.values()))[0].shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def tensors(self) -> dict[str, Tensor]:
        """Every trained tensor by the PEFT name of what it changes."""
        named = {}
        for name, (a, b) in self.pairs.items():
            named[f"{_PREFIX}{name}.lora_A.weight"], named[f"{_PREFIX}{name}.lora_B.weight"] = a, b
        return named | {f"{_PREFIX}{name}{_ROWS}": rows.delta for name, rows in self.rows.items()}

    def over(self, tensors: Mapping[str, Tensor]) -> Adapter:
        """This adapter with the given tensors, not copied, as what is trained (the inverse of `tensors`)."""
        names = [key[len(_PREFIX) : -len(".lora_A.weight")] for key in tensors if key.endswith(".lora_A.weight")]
        pairs = {n: (tensors[f"{_PREFIX}{n}.lora_A.weight"], tensors[f"{_PREFIX}{n}.lora_B.weight"]) for n in names}
        rows = {name: replace(rows, delta=tensors[f"{_PREFIX}{name}{_ROWS}"]) for name, rows in self.rows.items()}
        return Adapter(pairs, self.alpha, rows)

    def frame(self) -> Adapter:
        """What `over` needs beside the tensors: small, for other processes."""
        return Adapter({}, self.alpha, {name: replace(rows, delta=rows.delta[:0]) for name, rows in self.rows.items()})


def fresh(model: Transformer, rank: int, seed: int, alpha: float = 32.0) -> Adapter:
    """An adapter on every linear layer of the blocks that changes nothing yet: A uniform (Kaiming), B zero.

    alpha is the same for any rank, so that a good step size stays one (https://thinkingmachines.ai/blog/lora).
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, weight in targets(model).items():
        bound = 1 / math.sqrt(weight.shape[1])
        a = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
        pairs[name] = (a, torch.zeros(weight.shape[0], rank))
    return Adapter(pairs, alpha)


@torch.no_grad()
def token_rows(model: Transformer, ids: Sequence[int]) -> dict[str, TokenRows]:
    """The rows of these tokens, to be trained from what they are."""
    found = {}
    for name in tables(model):
        weight = model.get_parameter(f"{name}.weight")
        start = weight[list(ids)].float()
        scale = _ROWS_SCALE * weight.float().pow(2).mean().sqrt().item()
        found[name] = TokenRows(tuple(ids), start, torch.zeros_like(start), scale)
    return found


def tables(model: Transformer) -> list[str]:
    """Names of the embeddings, and of the head where it is another tensor."""
    return ["model.embed_tokens"] + ([] if model.config.tie_word_embeddings else ["lm_head"])


def targets(model: Transformer) -> dict[str, Tensor]:
    """The weights that adapters apply to, by the name of their layer."""
    return {
        name.removesuffix(".weight"): parameter.data
        for name, parameter in model.named_parameters()
        if name.removesuffix(".weight").rpartition(".")[2] in TARGETS and name.endswith(".weight")
    }


@torch.no_grad()
def merge(base: Mapping[str, Tensor], adapter: Adapter, into: Mapping[str, Tensor]) -> None:
    """Write base + scale * B @ A into the weights of `into`, rounded once, to their dtype."""
    for name, (a, b) in adapter.pairs.items():
        change = torch.mm(b, a).mul_(adapter.scale)
        into[name].copy_(change.add_(base[name].to(change)))


@torch.no_grad()
def write_rows(adapter: Adapter, model: Transformer) -> None:
    """Write an adapter's rows into the tables of a model, in place and in their dtype."""
    for name, rows in adapter.rows.items():
        table = model.get_parameter(f"{name}.weight").data
        table[list(rows.ids)] = rows.values().to(table)


class _AdaptedProduct(torch.autograd.Function):
    """x (N in) times a weight (out in) that already holds scale * B @ A; gradients for A (r in) and B (out r)."""

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


class AdaptedLinear(nn.Module):
    """A linear layer whose weight already holds scale * B @ A, for packed training: gradients go to A and B."""

    def __init__(self, layer: nn.Linear, pair: tuple[Tensor, Tensor], scale: float) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._pair, self._scale = pair, scale  # in a tuple: no parameters of the model, whoever owns them

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _AdaptedProduct.apply(x, self.weight, *self._pair, self._scale)
        return y if self.bias is None else y + self.bias


class AdaptedEmbedding(nn.Module):
    """Embeddings of which some rows are trained; the table holds them already. Gradients go to the rows' delta."""

    def __init__(self, table: nn.Embedding, rows: TokenRows) -> None:
        super().__init__()
        self.weight = table.weight
        self.rows = rows

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.weight)
        values = self.rows.values().to(x.dtype)
        ids = torch.tensor(self.rows.ids, device=tokens.device)
        return x + (tokens[..., None] == ids).to(x.dtype) @ (values - values.detach())  # 0, with a gradient


def attach(model: Transformer, adapter: Adapter) -> None:
    """Train the adapter's pairs and rows through a model whose weights hold them already (`merge`, `write_rows`).
    The gradient of a head's rows is `head_rows`'s to give."""
    for name, rows in adapter.rows.items():
        table = model.get_submodule(name)
        if isinstance(table, nn.Embedding):
            model.set_submodule(name, AdaptedEmbedding(table, rows))
    for name, pair in adapter.pairs.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear), name
        model.set_submodule(name, AdaptedLinear(layer, pair, adapter.scale))


def head_rows(adapter: Adapter | None) -> TokenRows | None:
    """The rows of the output head that are trained: its own, or those of the embeddings where they are one."""
    if adapter is None:
        return None
    return adapter.rows.get("lm_head") or adapter.rows.get("model.embed_tokens")


def save_adapter(
    adapter: Adapter,
    folder: str | Path,
    *,
    base: Mapping[str, str],
    merged_dtype: torch.dtype = torch.float32,
    dtype: torch.dtype = torch.float32,
    model: Transformer | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write an adapter in PEFT's layout.

    base: the model it belongs to, from `hub.named_base`. merged_dtype: of the weights it was trained through; a key of
    our own in adapter_config.json, which other programs leave alone. model, tokenizer: what was trained; the rows of
    its reasoning marks and the tokenizer's files are written too.
    """
    folder = Path(folder)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        **base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in adapter.pairs}),
        "fan_in_fan_out": False,
        "inference_mode": True,
        "merged_dtype": CODES[merged_dtype],
    }
    tensors = adapter.tensors() | {f"{_PREFIX}{name}{_ROWS}": rows.values() for name, rows in adapter.rows.items()}
    if model is not None and isinstance(tokenizer, HFTokenizer):
        if tokenizer.think_id is not None and tokenizer.unthink_id is not None:
            ids = sorted((tokenizer.think_id, tokenizer.unthink_id))
            if not adapter.rows:  # of a base that had marks, or that was trained without
                tensors |= {f"{_PREFIX}{n}{_ROWS}": rows.start for n, rows in token_rows(model, ids).items()}
            config["trainable_token_indices"] = {name.rpartition(".")[2]: ids for name in tables(model)}
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(folder)
    write_tensors(tensors, folder / ADAPTER_WEIGHTS, dtype)
    write_atomic(folder / ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter, by its adapter_config.json alone."""
    return (Path(folder) / ADAPTER_CONFIG).exists()


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """adapter_config.json, refused where it asks for what is not done here."""
    path = Path(folder) / ADAPTER_CONFIG
    config = read_json(path, missing=f"an adapter folder holds {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    if config.get("peft_type", "LORA") != "LORA":
        raise ConfigError(f"{path}: an adapter of kind {config['peft_type']!r} is not supported; only LORA is")
    for key, value in config.items():
        if value and key not in _HARMLESS and value not in _PLAIN.get(key, ()):
            raise ConfigError(f"{path}: {key} = {value!r} is not supported; merge it with PEFT and save the model")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or not 0 < config[key] < math.inf:  # nan is refused too
            raise ConfigError(f"{path}: {key} = {config.get(key)!r} must be a positive number")
    if not isinstance(config.get("base_model_name_or_path"), str):
        raise ConfigError(f"{path} does not say which model it changes (base_model_name_or_path)")
    return config | {"base_model_name_or_path": config.get(BASE) or config["base_model_name_or_path"]}


def load_adapter(folder: str | Path, model: Transformer) -> Adapter:
    """The pairs of an adapter in PEFT's layout, checked against the model they are for. (Rows of tokens that it holds
    are part of the model: `load_rows`.)"""
    config = read_adapter_config(folder)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs, _ = _read(Path(folder) / ADAPTER_WEIGHTS, int(config["r"]), layers)
    root = config["r"] ** 0.5 if config.get("use_rslora") else 1.0  # alpha / sqrt(r): arXiv:2312.03732
    return Adapter({name: pairs[name] for name in sorted(pairs)}, float(config["lora_alpha"]) * root)


def merge_adapter(model: Transformer, folder: str | Path) -> None:
    """Add an adapter to a model's weights, in place; all is checked before the first weight changes."""
    adapter, rows = load_adapter(folder, model), _read_rows(folder, model)
    weights = {name: model.get_parameter(f"{name}.weight").data for name in adapter.pairs}
    on_device = {n: (a.to(weights[n].device), b.to(weights[n].device)) for n, (a, b) in adapter.pairs.items()}
    merge(weights, Adapter(on_device, adapter.alpha), weights)
    _write(rows)


@torch.no_grad()
def load_rows(folder: str | Path, model: Transformer) -> None:
    """Write the rows of tokens that an adapter holds into a model."""
    _write(_read_rows(folder, model))


def _write(rows: Iterable[tuple[Tensor, list[int], Tensor]]) -> None:
    for table, ids, values in rows:
        table.data[ids] = values.to(table)


def _read_rows(folder: str | Path, model: Transformer) -> list[tuple[Tensor, list[int], Tensor]]:
    """(table, token ids, their new rows) of PEFT's trainable tokens."""
    config, path = read_adapter_config(folder), Path(folder) / ADAPTER_WEIGHTS
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    _, rows = _read(path, int(config["r"]), layers)
    indices = config.get("trainable_token_indices") or {}
    indices = {"embed_tokens": indices} if isinstance(indices, list) else indices
    found: list[tuple[Tensor, list[int], Tensor]] = []
    for name, values in rows.items():
        ids = indices.get(name.rpartition(".")[2], indices.get(name)) if isinstance(indices, dict) else None
        table = dict(model.named_parameters()).get(f"{name}.weight")
        if table is None or not isinstance(ids, list) or not all(type(token) is int for token in ids):
            raise ConfigError(f"{path} changes rows of {name}, and {ADAPTER_CONFIG} or the base has no place for them")
        if tuple(values.shape) != (len(ids), table.shape[1]) or not all(0 <= token < len(table) for token in ids):
            raise ConfigError(
                f"{path}: rows {ids} of {name}, which has shape {tuple(table.shape)}, cannot be {tuple(values.shape)}; "
                "is it an adapter of this model?"
            )
        found.append((table, ids, values))
    missing = set(indices) - {name.rpartition(".")[2] for name in rows} - set(rows)
    if missing - ({"lm_head"} if model.config.tie_word_embeddings else set()):
        raise ConfigError(f"{path} misses the rows of {', '.join(sorted(missing))} (trainable_token_indices)")
    return found


def _read(
    path: Path, rank: int, layers: dict[str, nn.Linear]
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Layer -> (A, B), of the right shapes, and layer -> rows of tokens; float32 and finite."""
    found: dict[str, dict[str, Tensor]] = {}
    rows: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                if key.startswith(_PREFIX) and key.endswith(_ROWS):
                    rows[key.removeprefix(_PREFIX).removesuffix(_ROWS)] = file.get_tensor(key).float()
                    continue
                suffix = next((suffix for suffix in _SUFFIXES if key.endswith(suffix)), None)
                if suffix is None or not key.startswith(_PREFIX):
                    raise ConfigError(f"{path} holds {key}, which is no part of a LoRA adapter of linear layers")
                layer = key.removeprefix(_PREFIX).removesuffix(suffix)
                found.setdefault(layer, {})[_SUFFIXES[suffix]] = file.get_tensor(key).float()
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is missing, damaged or cut off ({error}); {remedy(path)}") from None
    if not found:
        raise ConfigError(f"{path} holds no adapter at all")
    for layer, parts in found.items():
        if layer not in layers:
            raise ConfigError(
                f"{path} changes {layer}, which the base model does not have{nearest(layer, list(layers))}; "
                "is it an adapter of this model?"
            )
        out_size, in_size = layers[layer].weight.shape
        for part, shape in (("A", (rank, in_size)), ("B", (out_size, rank))):
            tensor = parts.get(part)
            if tensor is None or tuple(tensor.shape) != shape:
                has = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise ConfigError(
                    f"{path}: lora_{part} of {layer} {has}, it must be {shape}; is r right, and the base?"
                )
            if not torch.isfinite(tensor).all():
                raise ConfigError(f"{path}: lora_{part} of {layer} holds numbers that are not finite; fetch it again")
    strange = [layer for layer, values in rows.items() if not torch.isfinite(values).all()]
    if strange:
        raise ConfigError(f"{path}: the rows of {strange[0]} hold numbers that are not finite; fetch it again")
    return {layer: (parts["A"], parts["B"]) for layer, parts in found.items()}, rows
