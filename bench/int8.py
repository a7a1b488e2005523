"""Sampling with products in int8 against those of the model's dtype: how fast, and how far apart.

    python bench/int8.py qwen2.5-coder-0.5b --texts gsm8k/train.jsonl.gz

One thread and its CPU time, both ways in turn, so a machine that does other work changes the ratio little. Texts are
JSON lines with a problem and a solution. Printed: what arranging weights costs; the rates of products alone; tokens a
CPU second of decoding, and where a step's time goes; log-probabilities of the tokens of texts against float32; and, of
tokens sampled at temperature 1, what training makes of them: the readable model in bf16 against what the sampler
recorded. Left out: two workers at a time, which share the memory that weights are read from.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.engine import native
from ponder.engine.arranging import in_memory
from ponder.engine.native import NativeNetwork
from ponder.engine.network import Network, WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request
from ponder.models import hub
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.types import Message, SamplingParams

WAYS = ("bf16", "int8")
STEPS, REPEATS = 12, 6  # of decoding, and how often; the first is not counted
Arranged = tuple[WeightLayout, Mapping[str, Tensor]]


def arranged(model: Transformer, dtype: torch.dtype, *, int8: bool = False) -> Arranged:
    layout = WeightLayout.of(model.config, dtype, torch.device("cpu"), int8=int8)
    return layout, layout.in_memory(model.state_dict(), model.device).views()


def runner(weights: Arranged, num_slots: int, *, end_id: int = -1) -> Runner:
    return Runner(*weights, end_id=end_id, unthink_id=None, pad_id=0, decode=str, num_slots=num_slots)


def request(id: int, ids: list[int], *, n: int = 1, tokens: int = 400) -> Request:
    params = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=tokens, temperature=1.0, seed=id)
    return Request(id=id, prompt_ids=tuple(ids), params=params, n=n, first=0, opened=False)


def products(config: ModelConfig) -> None:
    """GFLOP a CPU second of products alone, the best of some tries in turn."""
    D, inner = config.hidden_size, config.intermediate_size
    for size, columns in ((D, D), (D, inner), (inner, D)):
        weight, calls = torch.randn(columns, size).bfloat16(), {}
        for way in WAYS:
            path = native.library(torch.bfloat16, int8=way == "int8")
            assert path is not None
            library = native._load(path)
            made = native._matrix(path, "weight", [weight], weight.dtype)
            kept = list(in_memory([made], torch.int32, weight.device).views().values())
            matrix = native._Matrix(kept[0].data_ptr(), kept[-1].data_ptr(), None, size, columns)
            calls[way] = library.logits, native._Model(D=size, vocabulary=columns, head=matrix), kept
        for rows in (1, 8, 16, 32, 64, 128):
            x, out, best = torch.randn(rows, size), torch.empty(rows, columns), dict.fromkeys(WAYS, 1e9)
            for _ in range(30):
                for way, (multiply, model, _) in calls.items():
                    begun = time.thread_time()
                    multiply(ctypes.byref(model), x.data_ptr(), rows, out.data_ptr())
                    best[way] = min(best[way], time.thread_time() - begun)
            rates = ", ".join(f"{way} {2e-9 * rows * size * columns / best[way]:.0f}" for way in WAYS)
            print(f"{rows} x {size} x {columns}, GFLOP a CPU second: {rates}", flush=True)


def watch(holder: Any, name: str, spent: dict[str, float]) -> None:
    """Add up the CPU time of a method."""
    method: Callable[..., Any] = getattr(holder, name)

    def timed(*arguments: Any) -> Any:
        begun = time.thread_time()
        result = method(*arguments)
        spent[name] = spent.get(name, 0.0) + time.thread_time() - begun
        return result

    setattr(holder, name, timed)


def rate(both: Mapping[str, Arranged], prompt: list[int], n: int, *, own_prompts: bool) -> None:
    """n sequences, samples of one prompt or each of its own, 12 steps at a time."""
    runners, prefill, spent = {}, {}, {way: dict[str, float]() for way in WAYS}
    for way, weights in both.items():
        one = runners[way] = runner(weights, n)
        for i in range(n if own_prompts else 1):
            one.add(request(i, [*prompt, i] if own_prompts else prompt, n=1 if own_prompts else n))
        begun = time.thread_time()
        one.step()
        prefill[way] = time.thread_time() - begun
        for holder, name in ((one.network, "_forward"), (one.network, "_logits"), (one, "_draw")):
            watch(holder, name, spent[way])
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(REPEATS):
        for way in WAYS if repeat % 2 else WAYS[::-1]:
            begun = time.thread_time()
            for _ in range(STEPS):
                runners[way].step()
            seconds[way].append((time.thread_time() - begun) / STEPS)
    ratios = sorted(old / new for old, new in zip(*(seconds[way][1:] for way in WAYS), strict=True))
    print(f"{n} {'prompts' if own_prompts else 'samples of a prompt'}: {median(ratios):.2f} times ({ratios[0]:.2f} to "
          f"{ratios[-1]:.2f}), reading prompts {prefill['bf16'] / prefill['int8']:.2f} times")  # fmt: skip
    for way in WAYS:
        parts = ", ".join(f"{part[1:]} {1e3 * took / STEPS / REPEATS:.0f}" for part, took in spent[way].items())
        print(f"  {way}: {n / median(seconds[way][1:]):.0f} tokens a CPU second; ms a step: {parts}", flush=True)


def text_logprobs(network: Network, ids: list[int]) -> Tensor:
    """(T - 1, V)"""
    assert isinstance(network, NativeNetwork)
    strip, rows = network._strip(-(-len(ids) // 32) * 32), np.zeros((len(ids), 8), np.int64)
    rows[:, 0], rows[:, 1], rows[:, 4] = ids, range(len(ids)), range(len(ids))
    rows[:, 2], rows[:, 3] = strip.memory.ctypes.data, strip.capacity
    return network._logits(network._forward(rows))[:-1].log_softmax(-1)


def compare(weights: Mapping[str, Arranged], exact: Arranged, texts: list[list[int]]) -> None:
    """What is said of the tokens of the texts, against what float32 says."""
    told: dict[str, list[Tensor]] = {way: [] for way in weights}
    networks = {way: layout.network(tensors, num_slots=1, pad_id=0) for way, (layout, tensors) in weights.items()}
    reference = exact[0].network(exact[1], num_slots=1, pad_id=0)
    for ids in texts:
        right, said = text_logprobs(reference, ids), torch.tensor(ids[1:])[:, None]
        for way, network in networks.items():
            found = text_logprobs(network, ids)
            apart = (found.gather(1, said) - right.gather(1, said))[:, 0].abs()
            kl = (right.exp() * (right - found)).sum(-1)
            told[way].append(torch.stack((apart, kl, (found.argmax(-1) == right.argmax(-1)).float())))
    for way, parts in told.items():
        apart, kl, same = torch.cat(parts, 1)
        print(f"{way} against float32, {len(apart)} tokens: mean {apart.mean():.4f}, 99th percentile "
              f"{apart.quantile(0.99):.3f}, largest {apart.max():.3f}; KL {kl.mean():.5f}; the same likeliest token "
              f"{same.mean():.2%}", flush=True)  # fmt: skip


@torch.no_grad()
def mismatch(way: str, weights: Arranged, model: Transformer, tokenizer: Tokenizer, problems: list[str]) -> None:
    asked = [tokenizer.render((Message(role="user", content=text),)) for text in problems]
    requests = [request(i, ids, tokens=160) for i, ids in enumerate(asked)]
    apart = []
    for ids, (sample,) in zip(asked, run_all(runner(weights, 32, end_id=tokenizer.end_id), requests), strict=True):
        logits = model(torch.tensor([[*ids, *sample.token_ids]]))[0, len(ids) - 1 : -1]
        trained = logits.float().log_softmax(-1).gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
        apart.append(trained - torch.tensor(sample.logprobs))
    d = torch.cat(apart)
    size = d.exp().sum() ** 2 / (2 * d).exp().sum() / len(d)
    print(f"sampled in {way}, {len(d)} tokens: mean {d.abs().mean():.4f}, largest {d.abs().max():.2f}; mismatch_kl "
          f"{(d.exp() - 1 - d).mean():.5f}; ratio above 2 in {(d.exp() > 2).float().mean():.3%}; effective sample size "
          f"{size:.1%} a token", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--num-texts", type=int, default=20)
    parser.add_argument("--sequences", type=int, nargs="*", default=[16, 32, 64])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = hub.load(args.model, dtype=torch.bfloat16)
    with gzip.open(args.texts, "rt") if args.texts.suffix == ".gz" else args.texts.open() as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(args.num_texts), strict=False)]
    texts = [list(tokenizer.encode(f"{row['problem']}\n{row['solution']}"))[:300] for row in rows]
    both: dict[str, Arranged] = {}
    for way in WAYS:
        begun = time.process_time()
        both[way] = arranged(model, torch.bfloat16, int8=way == "int8")
        size = sum(tensor.numel() * 4 for tensor in both[way][1].values()) / 2**20
        print(f"{way}: arranged in {time.process_time() - begun:.2f} CPU seconds, {size:.0f} MiB")
    products(model.config)
    prompt = (texts[0] * 20)[:100]
    for own_prompts in (False, True):
        for n in args.sequences:
            rate(both, prompt, n, own_prompts=own_prompts)
    compare(both, arranged(model, torch.float32), texts)
    for way in WAYS:
        mismatch(way, both[way], model, tokenizer, [row["problem"] for row in rows])


if __name__ == "__main__":
    main()
