"""What a recipe will need, before it runs: memory from its shapes, time from a product measured here and now.

Rough by nature: lengths are not known before sampling, so completions are taken at half their cap, and a whole step is
taken to reach a third of the measured matrix speed. Within a factor of two is what to expect.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from ponder.models import hub
from ponder.models.memory import GIB, free_memory
from ponder.models.transformer import ModelConfig, blank, flops_per_token
from ponder.models.weights import read_config
from ponder.train.distributed import pick_device, resolve_workers
from ponder.train.hardware import Shape, known_shape
from ponder.train.logprobs import BYTES_AT_ONCE, KEPT_BYTES
from ponder.train.plan import Job
from ponder.train.recipe import RLConfig
from ponder.train.scorer import recipe_of
from ponder.train.scorer_recipe import CommonConfig
from ponder.train.sft import SFTConfig

_REACHED = 0.33  # of the matrix speed, by a whole training step of a small model
_PROMPT = 64  # tokens, where the prompts are not known


def estimate_rl(config: RLConfig) -> dict[str, Any]:
    """Memory and time of a whole run."""
    model = read_config(hub.resolve(config.model))
    own = config.max_reasoning_tokens // 2 + config.max_answer_tokens // 2
    # a prompt is computed once for its group; sampling is one forward pass, training `passes`
    drawn = config.problems_per_step * (_PROMPT + config.group_size * own)
    trained = config.problems_per_step * (_PROMPT + _trained_of_group(config) * own)
    passes = config.num_steps * (drawn + trained * _passes(config)) + _evaluated(config, own)
    flops = passes * flops_per_token(model, _PROMPT + own / 2)
    workers = resolve_workers(config.num_workers)
    window = _PROMPT + config.max_reasoning_tokens + config.max_answer_tokens
    cache = max(1, workers) * config.num_slots * window * cache_bytes(model, _size(config))
    # the engine has weights of its own
    return _summary(model, config, flops, workers, cache + _size(config) * _count(model), processes=2 * workers)


def _evaluated(config: RLConfig, own: int) -> int:
    """Tokens of the evaluations on the way (`eval.every`)."""
    if not config.eval.every:
        return 0
    times = 1 + -(-config.num_steps // config.eval.every)
    return times * config.eval.num_problems * (_PROMPT + config.eval.num_samples * own)


def estimate_sft(config: SFTConfig) -> dict[str, Any]:
    """Memory and time of a whole run; examples are taken to be 128 tokens long."""
    model = read_config(hub.resolve(config.model)) if config.model else config.architecture.build(0).config
    flops = config.num_steps * config.batch_size * 128 * _passes(config) * flops_per_token(model, 64)
    workers = resolve_workers(config.num_workers)
    return _summary(model, config, flops, workers, 0, processes=workers)


def estimate_scorer(config: CommonConfig) -> dict[str, Any]:
    """Memory and time of drawing and training, of what the kind declares that it reads."""
    model = read_config(hub.resolve(config.model))
    cost = recipe_of(config.kind).cost(config)
    tokens = cost.prompts * _PROMPT + cost.completions * cost.length
    passes = cost.drawn + cost.read + cost.trained * _passes(config)
    flops = tokens * passes * flops_per_token(model, _PROMPT + cost.length / 2)
    workers = resolve_workers(config.num_workers)
    kept = cost.num_slots * (_PROMPT + cost.window)  # tokens that an engine holds
    cache = max(1, workers) * kept * cache_bytes(model, _size(config))
    return _summary(model, config, flops, workers, cache, processes=workers, trains=cost.trained > 0)


def cluster_job(config: RLConfig) -> Job:
    """What a recipe asks of a cluster, for `train/plan.py`: in bfloat16, with masters and moments in float32. A model
    that is not on this disk may be one whose sizes are known."""
    known, mean = known_shape(config.model), config.max_reasoning_tokens // 2 + config.max_answer_tokens // 2
    if known and not Path(config.model).exists():
        shape, forward, trained = known, 2 * known.active, 0.02 * known.total if config.lora_rank else known.total
    else:
        model = read_config(hub.resolve(config.model))
        forward, total, kept = flops_per_token(model, _PROMPT + mean / 2), _count(model), 2 * _kept_numbers(model)
        kept = 2 * model.num_hidden_layers * model.hidden_size if config.recompute else kept
        trained = _trained(model, config)
        shape = Shape(
            name=config.model, active=flops_per_token(model) / 2, total=total, kv_bytes=cache_bytes(model, 2),
            kept_bytes=kept,
        )  # fmt: skip
    return Job(
        shape=shape, groups=config.problems_per_step, group_size=config.group_size, mean_tokens=max(1, mean),
        max_tokens=config.max_reasoning_tokens + 1 + config.max_answer_tokens, prompt_tokens=_PROMPT,
        forward_flops=forward,
        passes=(_passes(config) + config.recompute) * _trained_of_group(config) / config.group_size,
        state_bytes=2 * shape.total + 16 * trained, batch_tokens=config.max_tokens_per_batch,
        save_every=config.save_every, max_lag=config.max_lag,
    )  # fmt: skip


def cache_bytes(model: ModelConfig, size: int) -> int:
    """Keys and values of one token."""
    return 2 * size * model.num_hidden_layers * model.num_key_value_heads * model.head_dim


def _passes(config: RLConfig | SFTConfig | CommonConfig) -> int:
    """Forward and backward in forward passes, see `Trainer.passes`."""
    return 2 if config.lora_rank else 3


def _trained_of_group(config: RLConfig) -> int:
    """Completions."""
    return config.trained_per_group or config.group_size


def _size(config: RLConfig | SFTConfig | CommonConfig) -> int:
    """Bytes of a number that is computed with."""
    return 2 if config.dtype == "bfloat16" else 4


def _count(model: ModelConfig) -> int:
    return blank(model).num_parameters


def _trained(model: ModelConfig, config: RLConfig | SFTConfig | CommonConfig) -> int:
    """Weights that a gradient changes."""
    if not config.lora_rank:
        return _count(model)
    block = 2 * (model.num_attention_heads + model.num_key_value_heads) * model.head_dim + 3 * model.intermediate_size
    per_rank = model.num_hidden_layers * (block + 5 * model.hidden_size)  # inputs and outputs of the seven layers
    return config.lora_rank * per_rank


def _kept_numbers(model: ModelConfig) -> int:
    """Of each token, what backward keeps of its blocks: about 14 widths and 3 inner widths."""
    return model.num_hidden_layers * (14 * model.hidden_size + 3 * model.intermediate_size)


def _summary(
    model: ModelConfig,
    config: RLConfig | SFTConfig | CommonConfig,
    flops: float,
    workers: int,
    other: float,
    *,
    processes: int,
    trains: bool = True,
) -> dict[str, Any]:
    parameters, size = _count(model), _size(config)
    trained = _trained(model, config)
    # weights, a frozen copy below an adapter; in float32 what is trained, two moments, a gradient a worker, the sum
    state = size * parameters * (2 if config.lora_rank else 1) + 4 * trained * (4 + max(1, workers))
    kept = _kept_numbers(model)
    # probabilities that wait for backward (of a frozen head none do: those of some rows at once), and some rows of
    # logits, three times (train/logprobs.py, models/softmax.py)
    most = BYTES_AT_ONCE if config.lora_rank else KEPT_BYTES
    logits = min(config.max_tokens_per_batch * size * model.vocab_size, most) + 128 * 4 * 3 * model.vocab_size
    activations = max(1, workers) * (config.max_tokens_per_batch * size * kept + logits)
    if not trains:  # the network is only read: its weights alone
        state, activations = size * parameters, 0
    interpreters = 300e6 * (1 + processes)
    seconds = flops / (_REACHED * matrix_speed(getattr(torch, config.dtype)) * max(1, workers))
    needed, free = state + other + activations + interpreters, free_memory(pick_device())
    facts: dict[str, Any] = {
        "parameters": parameters,
        "memory_gib": round(needed / GIB, 2),
        "minutes": round(seconds / 60, 1),
        "processes": processes or 1,
    }
    if free is not None:
        facts |= {"free_gib": round(free / GIB, 2), "fits": needed <= free}
    return facts


def matrix_speed(dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of a product on one thread here, or on the GPU."""
    device = pick_device()
    size = 4096 if device == "cuda" else 384
    a = torch.randn(size, size, device=device, dtype=dtype)
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
