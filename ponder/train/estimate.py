"""What a recipe will need, before it runs: memory from its shapes, time from a product measured here and now.

Rough by nature: lengths are not known before sampling, so rollouts are taken at half their cap, and a whole step is
taken to reach a quarter of the measured matrix speed. Within a factor of two is what to expect.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from ponder.models import hub
from ponder.models.memory import GIB, free_memory
from ponder.models.transformer import ModelConfig, Transformer, flops_per_token
from ponder.models.weights import read_config
from ponder.train.distributed import pick_device, resolve_workers
from ponder.train.rl import RLConfig
from ponder.train.sft import SFTConfig

_REACHED = 0.25  # of the matrix speed, by a whole training step of a small model
_PROMPT = 64  # tokens, where the prompts are not known


def estimate_rl(config: RLConfig) -> dict[str, Any]:
    """Memory and time of a whole run."""
    model = read_config(hub.resolve(config.model))
    length = _PROMPT + config.max_reasoning_tokens // 2 + config.max_answer_tokens // 2
    rollouts = config.problems_per_step * config.group_size
    # sampling is one forward pass, training another and a backward pass of twice its cost
    flops = config.num_steps * rollouts * length * 4 * flops_per_token(model, length / 2)
    workers = resolve_workers(config.num_workers)
    window = _PROMPT + config.max_reasoning_tokens + config.max_answer_tokens
    cache = max(1, workers) * config.num_slots * window * cache_bytes(model)
    return _summary(model, flops, workers, cache, config.max_tokens_per_batch, processes=2 * workers)


def estimate_sft(config: SFTConfig) -> dict[str, Any]:
    """Memory and time of a whole run; examples are taken to be 128 tokens long."""
    model = read_config(hub.resolve(config.model)) if config.model else config.architecture.build(0).config
    flops = config.num_steps * config.batch_size * 128 * 3 * flops_per_token(model, 64)
    workers = resolve_workers(config.num_workers)
    return _summary(model, flops, workers, 0, config.max_tokens_per_batch, processes=workers)


def cache_bytes(model: ModelConfig) -> int:
    """Keys and values of one token, float32."""
    return 2 * 4 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim


def _summary(
    model: ModelConfig, flops: float, workers: int, cache: int, batch_tokens: int, *, processes: int
) -> dict[str, Any]:
    with torch.device("meta"):
        parameters = Transformer(model).num_parameters
    weights = 4 * parameters
    # weights, Adam's two moments, the summed gradient; a buffer for each worker; the engine's copy
    state = weights * (5 + max(1, workers))
    # per token: what backward keeps of a block (about 14 widths and 3 inner widths) and the logits, twice
    kept = model.num_hidden_layers * (14 * model.hidden_size + 3 * model.intermediate_size) + 2 * model.vocab_size
    activations = max(1, workers) * batch_tokens * 4 * kept
    interpreters = 300e6 * (1 + processes)
    seconds = flops / (_REACHED * matrix_speed() * max(1, workers))
    needed, free = state + cache + activations + interpreters, free_memory(pick_device())
    facts: dict[str, Any] = {
        "parameters": parameters,
        "memory_gib": round(needed / GIB, 2),
        "minutes": round(seconds / 60, 1),
        "processes": processes or 1,
    }
    if free is not None:
        facts |= {"free_gib": round(free / GIB, 2), "fits": needed <= free}
    return facts


def matrix_speed() -> float:
    """FLOP/s of a float32 product on one thread here, or on the GPU."""
    device = pick_device()
    size = 4096 if device == "cuda" else 384
    a = torch.randn(size, size, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (a @ a).sum().item()
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < 0.2:
            (a @ a)[0, 0].item()
            count += 1
        return 2 * size**3 * count / (time.monotonic() - begun)
    finally:
        torch.set_num_threads(threads)
