"""What a run trains: a model reference becomes a model with reasoning marks, and an adapter where one is asked for.

    policy = open_policy("smollm2-135m", run.folder, dtype="bfloat16", lora_rank=32, seed=0, sources=[])

A run that starts from a checkpoint of an adapter run goes on with that adapter over its base: supervised fine-tuning
and the reinforcement learning after it leave one small adapter, not two.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ponder.config import ConfigError
from ponder.models import hub, lora
from ponder.models.cpu import fast_dtype
from ponder.models.lora import Adapter
from ponder.models.marks import add_marks
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer
from ponder.train.distributed import pick_device
from ponder.trained_on import Source

Precision = Literal["float32", "bfloat16"]
# keys of `ponder rl` that the other trainers' recipes have not
ONLY_RL = dict.fromkeys(
    ("backend", "cluster", "tinker"),
    "only `ponder rl` has other backends, a cluster or a service; this trains on the machine where it is started",
)


@dataclass(frozen=True)
class Policy:
    """The model that a run trains, and what it was made from."""

    model: Transformer
    tokenizer: Tokenizer
    adapter: Adapter | None
    base: str  # the reference of the model that the adapter belongs to; "" = made from nothing
    start: Path | None  # the folder of the model that training began from
    sources: tuple[Source, ...]  # what this run trains on


def open_policy(
    reference: str,
    run_folder: Path,
    *,
    dtype: Precision,
    lora_rank: int,
    seed: int,
    sources: Sequence[Source],
    thinks: bool = True,
) -> Policy:
    """The model a run starts from. lora_rank: 0 trains every weight. thinks: False = it has no room to reason in, so
    one without marks stays without: they would be nothing but untaught tokens before every answer."""
    start = hub.resolve(reference)
    folder = hub.adapter_of(reference)
    goes_on = bool(lora_rank) and lora.is_adapter(folder)
    base = lora.read_adapter_config(folder)["base_model_name_or_path"] if goes_on else reference
    wanted = getattr(torch, dtype)
    if fast_dtype(wanted, pick_device()) != wanted:
        warnings.warn("this CPU has no products of bfloat16: dtype=float32 trains several times as fast", stacklevel=2)
    model, unmarked = hub.load(base, dtype=wanted, device=pick_device())
    # an adapter's own rows are those of marks
    is_marked = thinks or (goes_on and bool(lora.read_adapter_config(folder).get("trainable_token_indices")))
    model, tokenizer = add_marks(model, unmarked, run_folder / "tokenizer") if is_marked else (model, unmarked)
    adapter = None
    if goes_on:
        lora.load_rows(folder, model)
        adapter = lora.load_adapter(folder, model)
        if adapter.rank != lora_rank:
            fix = f"set lora_rank={adapter.rank} to go on"
            raise ConfigError(f"{reference} has an adapter of rank {adapter.rank}; {fix}")
    elif lora_rank:
        adapter = lora.fresh(model, lora_rank, seed)
    if adapter and tokenizer is not unmarked:  # nothing ever taught the model what its marks mean
        marks = [mark for mark in (tokenizer.think_id, tokenizer.unthink_id) if mark is not None]
        adapter = replace(adapter, rows=lora.token_rows(model, sorted(marks)))
    return Policy(model, tokenizer, adapter, base, start, tuple(sources))
