"""What the cases of `bench/gpu.py` share: where they run, what they find, packs, runners and what is asked of them."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request, Sample
from ponder.models.segments import Layout, Segment
from ponder.models.tokenizer import reasoning_is_open
from ponder.models.transformer import ModelConfig, Transformer, rope_tables, rotate
from ponder.train.batches import Example
from ponder.types import Message, SamplingParams

BYTES = 1e9


class Skipped(Exception):
    """A case cannot run here; the message says why."""


@dataclass(frozen=True)
class Place:
    device: torch.device
    toy: bool

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def sized(self, full: Any, toy: Any) -> Any:
        return toy if self.toy else full


@dataclass
class Found:
    numbers: dict[str, float] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def at_most(self, name: str, value: float, bound: float) -> None:
        self.checks[name] = {"found": float(f"{value:.3g}"), "bound": bound, "holds": bool(value <= bound)}

    def at_least(self, name: str, value: float, bound: float) -> None:
        self.checks[name] = {"found": float(f"{value:.3g}"), "at least": bound, "holds": bool(value >= bound)}


def seconds(place: Place, work: Callable[[], Any], repeats: int) -> float:
    """Median of several, after one that warms up; the device has finished when the clock is read."""
    taken = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        if place.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def peak_gb(place: Place) -> float:
    """Since the process began, or since it was reset."""
    if place.is_cuda:
        return torch.cuda.max_memory_allocated() / BYTES
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / BYTES


def reset_peak(place: Place) -> None:
    if place.is_cuda:
        torch.cuda.reset_peak_memory_stats()


def a_pack(tokens: int) -> Layout:
    """Prompts of a tenth of the pack's half, each with completions of several lengths, up to `tokens` in all."""
    segments, at, turn = list[Segment](), 0, 0
    prompt = max(3, tokens // 20)
    while at + prompt < tokens:
        begin, at = at, at + prompt
        segments.append(Segment(begin, at))
        for share in ((1, 3), (2, 1, 1))[turn % 2]:
            own = min(prompt * share, tokens - at)
            if own > 0:
                segments.append(Segment(at, at + own, begin, begin + prompt))
                at += own
        turn += 1
    return Layout(segments)


def heads(layout: Layout, H: int, K: int, E: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v, and cosines and sines of their positions; from the same numbers whatever the dtype."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(layout.num_tokens, n, E, generator=g).to(dtype) for n in (H, K, K))
    config = ModelConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=H,
        num_key_value_heads=K, head_dim=E, max_position_embeddings=layout.num_tokens,
    )  # fmt: skip
    return [q, k, v, *(table[layout.positions_N][:, None] for table in rope_tables(config))]


def reference(tensors: Sequence[Tensor], layout: Layout, rows: Tensor) -> Tensor:
    """Attention of some rows in float64 on a CPU, from scores and a mask. Written out: the others share no line."""
    q, k, v, cos, sin = (x.double().cpu() for x in tensors)
    q, k = rotate(q, cos, sin)[rows], rotate(k, cos, sin)
    sees = layout.sees(None, torch.device("cpu"))(0, 0, rows[:, None], torch.arange(len(k))[None])
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("rhe,nhe->hrn", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hrn,nhe->rhe", scores.masked_fill(~sees, float("-inf")).softmax(-1), v)


def off(found: Tensor, wanted: Tensor) -> float:
    """Root mean square of the difference over that of what is wanted."""
    wanted = wanted.detach().double().cpu()
    return float((found.detach().double().cpu() - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())


def runner(place: Place, model: Transformer, tokenizer: Any, *, graphs: bool, dtype: torch.dtype) -> Runner:
    """PyTorch's network on the place's device, also on a CPU where the engine would take compiled C."""
    layout = WeightLayout(model.config, dtype, None, graphs)
    weights = layout.in_memory(model.state_dict(), place.device).views()
    return Runner(
        layout, weights, end_id=tokenizer.end_id, unthink_id=tokenizer.unthink_id, pad_id=tokenizer.pad_id,
        decode=tokenizer.decode, end_ids=tokenizer.end_ids, think_id=tokenizer.think_id, num_slots=64,
        closes_once=True,
    )  # fmt: skip


def requests(tokenizer: Any, count: int, *, n: int, tokens: int, temperature: float) -> list[Request]:
    params = SamplingParams(max_reasoning_tokens=tokens, max_answer_tokens=8, temperature=temperature, seed=0)
    asked = [[Message(role="user", content=f"What is {17 * i}+{5 * i + 3}*2?")] for i in range(1, count + 1)]
    marks = {tokenizer.think_id, tokenizer.unthink_id}
    return [
        Request(
            id=i, prompt_ids=ids, params=params, n=n, opened=reasoning_is_open(tokenizer, ids),
            guarded=not marks.isdisjoint(ids),
        )
        for i, ids in enumerate(tuple(tokenizer.render(messages)) for messages in asked)
    ]  # fmt: skip


def share_equal(left: list[list[Sample]], right: list[list[Sample]]) -> float:
    pairs = [pair for a, b in zip(left, right, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a.token_ids == b.token_ids for a, b in pairs) / len(pairs)


def drawn_examples(model: Transformer, tokenizer: Any, place: Place, dtype: torch.dtype) -> list[Example]:
    asked = requests(tokenizer, place.sized(32, 4), n=4, tokens=place.sized(120, 24), temperature=1.0)
    drawn = run_all(runner(place, model, tokenizer, graphs=False, dtype=dtype), asked)
    return [
        Example(
            prompt_ids=one.prompt_ids, token_ids=tuple(sample.token_ids), trained=tuple(sample.sampled),
            sampler_logprobs=tuple(sample.logprobs), weight=1 / len(sample.token_ids),
        )
        for one, samples in zip(asked, drawn, strict=True)
        for sample in samples
    ]  # fmt: skip


def as_json(found: Found) -> str:
    return json.dumps({"numbers": {k: float(f"{v:.4g}") for k, v in found.numbers.items()}, "checks": found.checks,
                       "notes": found.notes})  # fmt: skip
