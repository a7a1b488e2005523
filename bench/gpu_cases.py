"""The cases of `bench/gpu.py` that check (attention, sampling, graphs, mismatch, a step), and all by name.

A case takes a `Place` and returns `Found`: numbers, and for each check what was found, the bound and whether it holds.
Sizes are those of a GPU; `toy` ones show on a CPU that every line runs. What a place lacks raises `Skipped` with why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_place import (
    Found,
    Place,
    Skipped,
    a_pack,
    as_json,
    drawn_examples,
    heads,
    off,
    peak_gb,
    reference,
    requests,
    reset_peak,
    runner,
    seconds,
    share_equal,
)
from gpu_speed import decoding, rl, training, vllm
from torch import Tensor

from ponder.engine.graphs import GraphNetwork
from ponder.engine.local import LocalEngine
from ponder.engine.runner import run_all
from ponder.models import hub
from ponder.models.segments import attend_flex, attend_masked
from ponder.train.batches import micro_batches
from ponder.train.distributed import Trainer
from ponder.train.replica import SupervisedLoss


def attention(place: Place) -> Found:
    """Both kernels of a GPU against float64, forward and backward."""
    found, layout = Found(), a_pack(place.sized(3000, 300))
    rows = torch.arange(layout.num_tokens)
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        plain = heads(layout, 8, 2, 64, dtype)
        leaves = [x.double().requires_grad_() for x in plain[:3]]
        wanted = reference([*leaves, *plain[3:]], layout, rows)
        weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
        slopes = torch.autograd.grad((wanted * weights).sum(), leaves)
        for name in ("masked", "flex"):
            has_backward = place.is_cuda or name == "masked"
            ours = [x.to(place.device).requires_grad_(has_backward) for x in plain[:3]]
            tables = [x.to(place.device, dtype) for x in plain[3:]]
            made = layout.mask if name == "masked" else layout.block_mask
            kernel: Any = attend_masked if name == "masked" else attend_flex
            with torch.set_grad_enabled(has_backward):
                out = kernel(*ours, *tables, made(None, place.device))
            kind = f"{name} {str(dtype).removeprefix('torch.')}"
            found.at_most(f"{kind} forward", off(out, wanted), bound)
            if not has_backward:
                found.notes = ["FlexAttention has no backward on a CPU"]
                continue
            grads = torch.autograd.grad((out.float() * weights.to(place.device)).sum(), ours)
            worst = max(off(a, b) for a, b in zip(grads, slopes, strict=True))
            found.at_most(f"{kind} backward", worst, bound)
    return found


def packs(place: Place) -> Found:
    """FlexAttention over long packs: a sample of rows against float64, time, memory, and compilations over lengths."""
    found, dtype = Found(), place.sized(torch.bfloat16, torch.float32)
    for tokens in place.sized((8192, 32_768), (256, 1024)):
        layout = a_pack(tokens)
        begun = time.perf_counter()
        mask = layout.block_mask(None, place.device)
        found.numbers[f"{tokens} block mask ms"] = (time.perf_counter() - begun) * 1e3
        found.numbers[f"{tokens} blocks skipped %"] = mask.sparsity()
        tensors = [x.to(place.device, dtype) for x in heads(layout, 14, 2, 64, torch.float32)]
        for x in tensors[:3] if place.is_cuda else ():
            x.requires_grad_()
        reset_peak(place)

        def once(tensors: list[Tensor] = tensors, mask: Any = mask) -> Tensor:
            out = attend_flex(*tensors, mask)
            if out.requires_grad:
                torch.autograd.grad(out.float().sum(), tensors[:3])
            return out

        rows = torch.linspace(0, layout.num_tokens - 1, 64).long()
        with torch.set_grad_enabled(place.is_cuda):
            bound = 2e-2 if dtype == torch.bfloat16 else 1e-4
            wanted = reference([x.detach() for x in tensors], layout, rows)
            found.at_most(f"{tokens} rows", off(once()[rows.to(place.device)], wanted), bound)
            found.numbers[f"{tokens} ms"] = seconds(place, once, 5) * 1e3
        found.numbers[f"{tokens} peak GB"] = peak_gb(place)
    if place.is_cuda:  # other lengths, each another shape: compiled again for the second, and then not
        from torch._dynamo.utils import counters

        counted = dict(counters["stats"])
        for tokens in (9000, 10_111, 11_222, 12_333):
            layout = a_pack(tokens)
            tensors = [x.to(place.device, dtype) for x in heads(layout, 14, 2, 64, torch.float32)]
            attend_flex(*tensors, layout.block_mask(None, place.device))
        more = counters["stats"].get("unique_graphs", 0) - counted.get("unique_graphs", 0)
        found.at_most("compilations of four more lengths", more, 3)
    return found


def sampling(place: Place) -> Found:
    """The shipped nano at temperature 0 in float32: the device's tokens and those of this machine's own engine."""
    found, (model, tokenizer) = Found(), hub.load("nano")
    asked = requests(tokenizer, place.sized(64, 6), n=1, tokens=place.sized(120, 24), temperature=0.0)

    async def here() -> list[list[Any]]:
        with LocalEngine(model, tokenizer, num_workers=0) as engine:
            return await asyncio.gather(*(engine.generate(one.prompt_ids, one.params) for one in asked))

    expected = asyncio.run(here())
    for graphs in (False, True):
        drawn = run_all(runner(place, model, tokenizer, graphs=graphs, dtype=torch.float32), asked)
        same = [a[0].token_ids == list(b[0].token_ids) for a, b in zip(drawn, expected, strict=True)]
        # products in another order may turn a tie: one completion of a hundred, not more
        found.at_least(f"same completions, {'graphs' if graphs else 'eager'}", sum(same) / len(same), 0.98)
    return found


def graphs(place: Place) -> Found:
    """Decoding in one recorded step against decoding kernel by kernel, drawn at temperature 1."""
    found, (model, tokenizer) = Found(), hub.load("nano")
    asked = requests(tokenizer, place.sized(48, 4), n=4, tokens=place.sized(120, 24), temperature=1.0)
    both = [runner(place, model, tokenizer, graphs=way, dtype=torch.float32) for way in (False, True)]
    eager, recorded = (run_all(one, asked) for one in both)
    found.at_least("same completions", share_equal(eager, recorded), 0.97)
    pairs = [
        abs(x - y)
        for a, b in zip(eager, recorded, strict=True)
        for left, right in zip(a, b, strict=True)
        if left.token_ids == right.token_ids
        for x, y in zip(left.logprobs, right.logprobs, strict=True)
    ]
    found.at_most("log-probabilities apart, largest", max(pairs), 1e-3)
    network = both[1].network
    assert isinstance(network, GraphNetwork)
    if place.is_cuda:
        found.at_least("graphs recorded", network.num_recorded, 1)
        again = run_all(both[1], asked)  # replayed from the start
        found.at_least("same completions when replayed", share_equal(recorded, again), 1.0)
    else:
        found.notes.append("a CPU runs the step without recording it")
    return found


def mismatch(place: Place) -> Found:
    """Log-probabilities that the sampler recorded against those that the trainer computes of the same tokens."""
    found = Found()
    for dtype, mean, most in ((torch.float32, 1e-4, 1e-2), (torch.bfloat16, 0.05, 3.0)):
        model, tokenizer = hub.load("nano", dtype=dtype, device=str(place.device))
        examples = drawn_examples(model, tokenizer, place, dtype)
        batches = micro_batches(examples, max_tokens=4096)
        with Trainer(model, num_workers=0) as trainer:
            told = trainer.logprobs(batches, 1.0)
        apart = torch.cat([
            (logprobs.cpu() - batch.sampler_logprobs_BT)[batch.mask_BT.bool()].abs()
            for logprobs, batch in zip(told, batches, strict=True)
        ])  # fmt: skip
        kind = str(dtype).removeprefix("torch.")
        found.numbers[f"{kind} tokens"] = len(apart)
        found.at_most(f"{kind} mean nats", float(apart.mean()), mean)
        found.at_most(f"{kind} largest nats", float(apart.max()), most)
    return found


def step(place: Place) -> Found:
    """Loss and gradient of one batch, and the weights after a step, against float32 on this machine's CPU."""
    found, (model, tokenizer) = Found(), hub.load("nano")
    cpu = Place(torch.device("cpu"), place.toy)
    examples = drawn_examples(model, tokenizer, cpu, torch.float32)
    batches = micro_batches(examples, max_tokens=2048)

    def stepped(device: torch.device, dtype: torch.dtype) -> tuple[float, float, Tensor, Tensor]:
        own, _ = hub.load("nano", dtype=dtype, device=str(device))
        with Trainer(own, num_workers=0) as trainer:
            loss = trainer.backward(batches, SupervisedLoss())["loss"]
            gradient = torch.cat([x.flatten() for x in trainer._gradients[0].views().values()]).double().cpu()
            norm = trainer.step(lr=1e-4, max_norm=1.0)
            weights = torch.cat([x.detach().flatten() for x in trainer.parameters.values()]).double().cpu()
        return loss, norm, gradient, weights

    loss, _, gradient, weights = stepped(cpu.device, torch.float32)
    here = stepped(cpu.device, torch.bfloat16)  # what bfloat16 itself costs, of a gradient that is small by now
    limits = {
        torch.float32: (1e-5, 1e-4),
        torch.bfloat16: (1.5 * abs(here[0] - loss) / abs(loss) + 1e-2, 1.5 * off(here[2], gradient) + 1e-2),
    }
    for dtype, bounds in limits.items():
        got = stepped(place.device, dtype)
        kind = str(dtype).removeprefix("torch.")
        found.at_most(f"{kind} loss", abs(got[0] - loss) / abs(loss), float(f"{bounds[0]:.3g}"))
        found.at_most(f"{kind} gradient", off(got[2], gradient), float(f"{bounds[1]:.3g}"))
        found.numbers[f"{kind} weights apart"] = float((got[3] - weights).abs().max())
    return found


CASES: dict[str, Callable[[Place], Found]] = {
    "attention": attention, "packs": packs, "sampling": sampling, "graphs": graphs, "mismatch": mismatch, "step": step,
    "training": training, "decoding": decoding, "rl": rl, "vllm": vllm,
}  # fmt: skip

__all__ = ["CASES", "Found", "Place", "Skipped", "as_json"]
