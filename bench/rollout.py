"""Sampling, side by side: ponder's engine, the loop anyone would write, and `generate` of transformers.

    python bench/rollout.py --repeats 3                  # the shipped model, a few minutes
    python bench/rollout.py --quick                      # seconds: does it run, not how fast
    python bench/rollout.py --model path/to/folder       # any model that ponder loads

Two cases: 64 samples of one prompt (one group), and 16 prompts with 4 samples each. Every contestant has one process
of one thread; "ponder, N workers" uses more and says so. They run one after another in every repetition, each time in
another order; ratios are taken within a repetition, and their median is printed with the smallest and the largest.
A token counts once, up to and including the end mark; what a batch computes behind a row's end does not count.

    ponder         LocalEngine with one worker process: cache, shared prefill, a slot is free when its sample ends
    naive          no cache and no batch: the whole sequence through the model for every token. It works its samples one
                   by one, so it is given NAIVE_SAMPLES of them; with the engine's random numbers, so that its tokens
                   must be the engine's: `same_tokens` counts the samples that are
    transformers   generate(do_sample=True, num_return_sequences=n) of one left-padded batch, with its own cache and
                   random numbers. It is not made to close its reasoning at the cap, only to stop where ponder must

One JSON line a case, then a table. A peer that is not installed or cannot load the model is reported as missing, with
the reason, and has no ratio. Left out: GPUs, vLLM, continuous batching of transformers.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the workers
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a bench downloads nothing

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ponder import runs
from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.engine.sampling import draw, uniforms
from ponder.models import hub
from ponder.models.tokenizer import Tokenizer, reasoning_is_open
from ponder.models.transformer import Transformer
from ponder.tasks import load_task
from ponder.types import SamplingParams, sample_seed

NAIVE_SAMPLES = 16

Prompt = tuple[int, ...]
Outputs = dict[tuple[int, int], list[int]]  # (prompt, sample) -> the token ids of its completion
Contestant = Callable[[Sequence[Prompt], int, SamplingParams], Outputs]


class Missing(Exception):
    """A peer that cannot take part, and why."""


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    num_prompts: int
    num_samples: int  # of each prompt


CASES = (
    Case(name="64 samples of one prompt", num_prompts=1, num_samples=64),
    Case(name="16 prompts x 4 samples", num_prompts=16, num_samples=4),
)
QUICK = (
    Case(name="8 samples of one prompt", num_prompts=1, num_samples=8),
    Case(name="4 prompts x 2 samples", num_prompts=4, num_samples=2),
)


# ---- the contestants -----------------------------------------------------------------------------------------------


def ponder(engine: LocalEngine) -> Contestant:
    async def ask(prompts: Sequence[Prompt], n: int, params: SamplingParams) -> Outputs:
        groups = await asyncio.gather(*(engine.generate(prompt, params, n=n) for prompt in prompts))
        return {(i, j): list(group[j].token_ids) for i, group in enumerate(groups) for j in range(n)}

    return lambda prompts, n, params: asyncio.run(ask(prompts, n, params))


def naive(model: Transformer, tokenizer: Tokenizer) -> Contestant:
    def run(prompts: Sequence[Prompt], n: int, params: SamplingParams) -> Outputs:
        jobs = list(product(range(len(prompts)), range(n)))
        jobs = jobs[:: max(1, len(jobs) // NAIVE_SAMPLES)]  # some of every prompt
        return {(i, j): naive_sample(model, tokenizer, prompts[i], params, j) for i, j in jobs}

    return run


@torch.inference_mode()
def naive_sample(model: Transformer, tokenizer: Tokenizer, prompt: Prompt, params: SamplingParams, j: int) -> list[int]:
    """Sample j of a prompt by the rules of `SamplingParams`, one forward pass of everything for every token."""
    seed = np.array([sample_seed(params.seed, j)], np.uint64)
    temperature, top_p = torch.tensor([params.temperature]), torch.tensor([params.top_p])
    tokens: list[int] = []
    thinking, num_reasoning, num_answer = reasoning_is_open(tokenizer, prompt), 0, 0
    while True:
        if thinking and num_reasoning == params.max_reasoning_tokens and tokenizer.unthink_id is not None:
            token = tokenizer.unthink_id
        else:
            logits_V = model(torch.tensor([[*prompt, *tokens]]))[:, -1]
            uniform = torch.from_numpy(uniforms(seed, np.array([len(tokens)])))
            token = int(draw(logits_V, uniform, temperature, top_p)[0])
        tokens.append(token)
        num_answer += not thinking
        if token == tokenizer.end_id or num_answer == params.max_answer_tokens:
            return tokens
        if thinking and token == tokenizer.unthink_id:
            thinking = False
        elif thinking:
            num_reasoning += 1


def transformers_generate(folder: Path, tokenizer: Tokenizer) -> Contestant:
    try:
        import transformers
    except ImportError:
        raise Missing("transformers is not installed") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Missing(f"transformers {transformers.__version__} cannot load {folder.name}: {error!s:.200}") from None

    @torch.inference_mode()
    def run(prompts: Sequence[Prompt], n: int, params: SamplingParams) -> Outputs:
        torch.manual_seed(params.seed)
        longest = max(map(len, prompts))
        padded = [[tokenizer.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        rows = model.generate(
            input_ids=torch.tensor(padded), attention_mask=torch.tensor(seen), num_return_sequences=n, do_sample=True,
            temperature=params.temperature, top_p=params.top_p, top_k=0, eos_token_id=tokenizer.end_id,
            pad_token_id=tokenizer.pad_id, max_new_tokens=most_tokens(params),
        )[:, longest:].tolist()  # fmt: skip
        places = product(range(len(prompts)), range(n))
        return {place: _until(row, tokenizer.end_id) for place, row in zip(places, rows, strict=True)}

    return run


def _until(row: list[int], end_id: int) -> list[int]:
    return row[: row.index(end_id) + 1] if end_id in row else row


def most_tokens(params: SamplingParams) -> int:
    return params.max_reasoning_tokens + 1 + params.max_answer_tokens


# ---- measuring -----------------------------------------------------------------------------------------------------


def measure(
    case: Case, contestants: dict[str, Contestant], prompts: Sequence[Prompt], params: SamplingParams, repeats: int
) -> dict[str, Any]:
    """Every contestant `repeats` times, in alternation: its tokens a second, and how it compares with ponder."""
    prompts = prompts[: case.num_prompts]
    names = list(contestants)
    rates: dict[str, list[float]] = {name: [] for name in names}
    tokens: dict[str, list[int]] = {name: [] for name in names}
    samples: dict[str, int] = {}
    same = compared = 0
    for name in names:  # warm: processes up, memory taken
        contestants[name](prompts[:1], 2, params)
    for repeat in range(repeats):
        drawn: dict[str, Outputs] = {}
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            begun = time.perf_counter()
            drawn[name] = contestants[name](prompts, case.num_samples, replace(params, seed=repeat))
            seconds = time.perf_counter() - begun
            samples[name] = len(drawn[name])
            tokens[name].append(sum(map(len, drawn[name].values())))
            rates[name].append(tokens[name][-1] / seconds)
        compared += len(drawn["naive"])
        same += sum(drawn["ponder"][place] == ids for place, ids in drawn["naive"].items())
    return {
        "case": case.name,
        "tokens_per_second": {name: spread(rates[name]) | {"all": _rounded(rates[name])} for name in names},
        "ponder_over": {
            name: spread([ours / theirs for ours, theirs in zip(rates["ponder"], rates[name], strict=True)])
            for name in names
            if name != "ponder"
        },
        "samples": samples,
        "tokens": tokens,
        "same_tokens": {"samples": same, "of": compared},
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    low, middle, high = _rounded([min(values), statistics.median(values), max(values)])
    return {"median": middle, "low": low, "high": high}


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def show(result: dict[str, Any], workers: dict[str, int], missing: dict[str, str]) -> None:
    print(f"\n{result['case']}, up to {result['max_reasoning_tokens']} reasoning tokens, {result['model']}")
    print(f"{'':20} {'workers':>7} {'samples':>7}   {'tokens/s (low - high)':>26}   {'ponder is x times':>22}")
    for name, rate in result["tokens_per_second"].items():
        over = result["ponder_over"].get(name)
        ratio = f"{over['median']:.3g} ({over['low']:.3g} - {over['high']:.3g})" if over else ""
        speed = f"{rate['median']:,.0f} ({rate['low']:,.0f} - {rate['high']:,.0f})"
        print(f"{name:20} {workers[name]:>7} {result['samples'][name]:>7}   {speed:>26}   {ratio:>22}")
    for name, reason in missing.items():
        print(f"{name:20} missing: {reason}")
    same = result["same_tokens"]
    print(f"naive draws the tokens that ponder draws in {same['samples']} of {same['of']} samples")


def main() -> None:
    parser = argparse.ArgumentParser(description="Sampling speed beside a naive loop and transformers.")
    parser.add_argument("--model", default="nano", help="what `ponder ask --model` takes")
    parser.add_argument("--task", default="arithmetic:level=4-6", help="where the prompts come from")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of every case")
    parser.add_argument("--quick", action="store_true", help="two small cases, once: does it run")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        raise ConfigError(f"--repeats {arguments.repeats} measures nothing; use at least 1")
    torch.set_num_threads(1)

    cases, repeats = (QUICK, 1) if arguments.quick else (CASES, arguments.repeats)
    params = SamplingParams(max_reasoning_tokens=24 if arguments.quick else 96, max_answer_tokens=16)
    folder = hub.resolve(arguments.model)
    model, tokenizer = hub.load(arguments.model)
    task = load_task(arguments.task)
    prompts = [tuple(tokenizer.render(task[i].prompt)) for i in range(max(case.num_prompts for case in cases))]
    room = model.config.max_position_embeddings - max(map(len, prompts))
    if room < most_tokens(params):
        raise ConfigError(f"the window leaves {room} tokens behind the longest prompt, {most_tokens(params)} are asked")

    cores = os.cpu_count() or 1
    engines = {"ponder": LocalEngine(model, tokenizer, num_workers=1)}
    if cores > 1:
        engines[f"ponder, {cores} workers"] = LocalEngine(model, tokenizer, num_workers=cores)
    contestants = {name: ponder(engine) for name, engine in engines.items()}
    contestants["naive"] = naive(model, tokenizer)
    missing: dict[str, str] = {}
    try:
        contestants["transformers"] = transformers_generate(folder, tokenizer)
    except Missing as reason:
        missing["transformers"] = str(reason)
    workers = {name: len(engines[name].worker_processes) if name in engines else 1 for name in contestants}

    facts: dict[str, Any] = {
        "bench": "rollout", "model": arguments.model, "parameters": model.num_parameters, "task": arguments.task,
        "dtype": "float32", "max_reasoning_tokens": params.max_reasoning_tokens, "repeats": repeats,
        "threads_per_process": 1, "workers": workers, "missing": missing, "command": " ".join(sys.argv),
        "versions": {name: version(name) for name in ("torch", "transformers") if name not in missing},
        "load_before": _rounded(os.getloadavg()), "revision": runs.revision(), "machine": runs.machine(),
    }  # fmt: skip
    try:
        results = []
        for case in cases:
            results.append(facts | measure(case, contestants, prompts, params, repeats))
            print(json.dumps(results[-1]), flush=True)
        for result in results:
            show(result, workers, missing)
        if facts["load_before"][0] > 0.5:
            print(f"\nother work was running (load {facts['load_before'][0]} on {cores} cores): not figures to quote")
    finally:
        for engine in engines.values():
            engine.close()


if __name__ == "__main__":
    try:
        main()
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {error}")
