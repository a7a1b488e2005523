"""Adapters over adapters as one. RL of `model = "qwen05-ponder"` leaves an adapter over a model that is itself an
adapter over Qwen2.5-Coder-0.5B; what others can load is one adapter over that.

    chain("runs/rl")                  # -> its adapters, the lowest first, and the model below them
    fold("runs/rl", "mine", rank=32)  # -> the share of the change that 32 directions keep

W + B1 A1 + B2 A2 = W + [B1 B2] [A1; A2]: of the sum of the ranks this is exact. Of a smaller rank it is the nearest
matrix there is (Eckart and Young, 1936), layer by layer, found from the factors without the whole matrix: measure what
it answers before you rely on it. PEFT calls both `add_weighted_adapter`, "cat" and "svd".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.lora import Adapter, is_adapter, load_adapter, read_adapter_config, save_adapter
from ponder.models.weights import DTYPES
from ponder.trained_on import record_training


def chain(reference: str | Path) -> tuple[list[Path], str]:
    """The folders of a model's adapters, the lowest first, and the reference of the model that they change."""
    folders, base = list[Path](), str(reference)
    folder = _adapter(hub.found(reference))
    while folder is not None:
        if folder in folders:
            raise ConfigError(f"{folder}: its base leads back to it, round in a circle")
        folders.insert(0, folder)
        base = read_adapter_config(folder)["base_model_name_or_path"]
        folder = _adapter(hub.base_of(folder))
    if not folders:
        raise ConfigError(f"{reference} has no adapter (lora_rank=0): name a run of an adapter, or an adapter's folder")
    return folders, base


def _adapter(model: Path) -> Path | None:
    return next((place for place in (model / "adapter", model) if is_adapter(place)), None)


def fold(reference: str | Path, out: str | Path, *, rank: int = 0, dtype: torch.dtype = torch.bfloat16) -> float:
    """Write a model's adapters as one over the model below them, in PEFT's layout; rank 0 = the sum of their ranks.

    Returns the share of the change that is kept, between 0 and 1: of the squares of its entries, over all layers.
    """
    folders, base = chain(reference)
    model, tokenizer = hub.load(reference, dtype=None)
    adapters = [load_adapter(folder, model) for folder in folders]
    pairs = {}
    kept = whole = 0.0
    for name in sorted(set().union(*(adapter.pairs for adapter in adapters))):
        pairs[name], part, all_of_it = cut(*_stacked(name, adapters), rank)
        kept, whole = kept + part, whole + all_of_it
    ranks = {a.shape[0] for a, _ in pairs.values()}
    if len(ranks) > 1:
        raise ConfigError(f"the adapters do not change the same layers: give one rank for all, up to {min(ranks)}")
    merged_dtype = DTYPES[read_adapter_config(folders[-1]).get("merged_dtype", "F32")]
    save_adapter(
        Adapter(pairs, alpha=float(ranks.pop())), out, base=hub.named_base(base), merged_dtype=merged_dtype,
        dtype=dtype, model=model, tokenizer=tokenizer,
    )  # fmt: skip
    record_training(out, hub.resolve(reference), (), base_name=base)
    return kept / whole if whole else 1.0


def _stacked(name: str, adapters: Sequence[Adapter]) -> tuple[Tensor, Tensor]:
    """[A1; A2; ...] (R in) and [s1 B1, s2 B2, ...] (out R) of one layer, R the sum of the ranks."""
    held = [(*adapter.pairs[name], adapter.scale) for adapter in adapters if name in adapter.pairs]
    return torch.cat([a for a, _, _ in held]), torch.cat([b * scale for _, b, scale in held], dim=1)


@torch.no_grad()
def cut(a: Tensor, b: Tensor, rank: int) -> tuple[tuple[Tensor, Tensor], float, float]:
    """(A, B) of the given rank nearest to B @ A; the squared Frobenius norms of their product and of B @ A.

    a: (R in), b: (out R). rank 0, or one that is not below R: A and B stay as they are.
    """
    a64, b64 = a.double(), b.double()
    if not 0 < rank < a.shape[0]:
        whole = ((b64.T @ b64) * (a64 @ a64.T)).sum().item()
        return (a, b), whole, whole
    left, right = torch.linalg.qr(b64), torch.linalg.qr(a64.T)
    u, s, v = torch.linalg.svd(left.R @ right.R.T)
    root, squares = s[:rank].sqrt(), s.square()
    pair = (root[:, None] * (v[:rank] @ right.Q.T)).float(), (left.Q @ u[:, :rank] * root).float()
    return pair, squares[:rank].sum().item(), squares.sum().item()
