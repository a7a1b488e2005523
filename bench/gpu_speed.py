"""The cases of `bench/gpu.py` that time: training, decoding, a run of the demo, and vLLM where it is installed."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from gpu_place import BYTES, Found, Place, Skipped, peak_gb, requests, reset_peak, seconds

from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request
from ponder.models import hub
from ponder.models.transformer import ModelConfig, Transformer, flops_per_token, rope_tables
from ponder.models.weights import save_model
from ponder.train.batches import Example, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.hardware import HARDWARE
from ponder.train.replica import SupervisedLoss
from ponder.types import SamplingParams

HALF_B = ModelConfig(  # the shape of Qwen2.5-0.5B, with random weights: nothing is downloaded
    model_type="qwen2", vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
    num_attention_heads=14, num_key_value_heads=2, head_dim=64, max_position_embeddings=32_768, attention_bias=True,
)  # fmt: skip


def random_model(place: Place, dtype: torch.dtype) -> Transformer:
    """0.5 B weights, or nano."""
    if place.toy:
        return hub.load("nano", dtype=dtype, device=str(place.device))[0]
    with torch.device(place.device):
        model = Transformer(HALF_B).to(dtype)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.02)
    model.rope_cos, model.rope_sin = (table.to(place.device) for table in rope_tables(HALF_B))
    return model


def training(place: Place) -> Found:
    """Forward and backward of packs of a 0.5 B model in bf16: tokens a second, MFU, memory against the estimate."""
    from ponder.train.estimate import _kept_numbers

    found, dtype = Found(), place.sized(torch.bfloat16, torch.float32)
    model = random_model(place, dtype)
    config, kind = model.config, gpu_kind(place)
    for tokens in place.sized((8192, 32_768), (256, 512)):
        for recompute in (False, True):
            if not place.toy and tokens > 8192 and not recompute:
                continue  # 24 layers keep 32 K tokens' activations: more than most GPUs have
            length = place.sized(2048, 64)
            examples = [
                Example(prompt_ids=(1,), token_ids=tuple((7 * i + j) % 200 for j in range(length)),
                        trained=(True,) * length, weight=1 / length)
                for i in range(tokens // length)
            ]  # fmt: skip
            batches = micro_batches(examples, max_tokens=tokens + len(examples))
            reset_peak(place)
            with Trainer(model, num_workers=0, recompute=recompute) as trainer:
                taken = seconds(place, lambda: trainer.backward(batches, SupervisedLoss()), place.sized(3, 1))  # noqa: B023
            name = f"{tokens}{' recomputed' if recompute else ''}"
            found.numbers[f"{name} tokens/s"] = tokens / taken
            found.numbers[f"{name} peak GB"] = peak_gb(place)
            if not recompute:
                kept = tokens * model.dtype.itemsize * _kept_numbers(config)
                found.numbers[f"{name} kept by backward GB, estimated"] = kept / BYTES
            if kind:
                flops = 3 * flops_per_token(config, length / 2) * tokens / taken
                found.numbers[f"{name} MFU %"] = 100 * flops / HARDWARE[kind].flops
    return found


def gpu_kind(place: Place) -> str:
    """A key of HARDWARE, or nothing."""
    name = torch.cuda.get_device_name().lower().replace(" ", "") if place.is_cuda else ""
    return next((kind for kind in sorted(HARDWARE, key=len, reverse=True) if kind in name), "")


def decoding(place: Place) -> Found:
    """Tokens a second of a 0.5 B model in bf16 at several numbers of sequences, eager and as graphs."""
    found, dtype = Found(), place.sized(torch.bfloat16, torch.float32)
    model, new = random_model(place, dtype), place.sized(128, 8)
    for sequences in place.sized((1, 16, 64, 256), (1, 4)):
        rates = {}
        for way in ("eager", "graphs"):
            layout = WeightLayout(model.config, dtype, None, way == "graphs")
            params = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=new, seed=0)
            asked = [
                Request(id=i, prompt_ids=tuple(range(5, 69)), params=params, n=1, first=i, opened=False)
                for i in range(sequences)
            ]
            with torch.inference_mode():
                weights = layout.in_memory(model.state_dict(), model.device).views()
            one = Runner(layout, weights, end_id=-1, unthink_id=None, pad_id=0, decode=str, num_slots=sequences)
            rates[way] = sequences * new / seconds(place, lambda: run_all(one, asked), place.sized(3, 1))  # noqa: B023
            found.numbers[f"{sequences} {way} tokens/s"] = rates[way]
        found.numbers[f"{sequences} graphs over eager"] = rates["graphs"] / rates["eager"]
    found.numbers["peak GB"] = peak_gb(place)
    return found


def rl(place: Place) -> Found:
    """The demo's recipe through `ponder rl`: it runs, sampler and trainer agree, and at size it learns."""
    from ponder.files import read_jsonl
    from ponder.train.recipe import load_recipe
    from ponder.train.rl import rl as run

    with tempfile.TemporaryDirectory() as folder:
        keys = [f"out={folder}/run", "num_workers=0", f"num_steps={place.sized(40, 2)}"]
        keys += place.sized([], ["problems_per_step=4", "group_size=4", "pool_size=64", "max_reasoning_tokens=48"])
        begun = time.perf_counter()
        run(load_recipe("demo_nano_cpu", keys))
        taken = time.perf_counter() - begun
        rows = list(read_jsonl(Path(folder) / "run" / "metrics.jsonl"))
    found = Found(numbers={"seconds a step": taken / len(rows)})
    found.numbers |= {f"{key}, last": rows[-1][key] for key in ("time/rollout", "time/train") if key in rows[-1]}
    found.at_most("policy/mismatch_max", max(row.get("policy/mismatch_max", 0.0) for row in rows), 1e-2)
    first, last = (statistics.fmean(row["reward/mean"] for row in part) for part in (rows[:5], rows[-5:]))
    found.numbers |= {"reward, first steps": first, "reward, last steps": last}
    if not place.toy:
        found.at_least("reward gained", last - first, 0.1)
    return found


def vllm(place: Place) -> Found:
    """vLLM, where it is installed: decoding nano, and its log-probabilities against the model's."""
    try:
        from vllm import LLM
        from vllm import SamplingParams as Params
    except ImportError as error:
        raise Skipped(f"vLLM is not installed ({error})") from None
    found, (nano, tokenizer) = Found(), hub.load("nano")
    with tempfile.TemporaryDirectory() as folder:
        save_model(nano, Path(folder))
        engine = LLM(
            model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=512, seed=0,
            logprobs_mode="processed_logprobs", enforce_eager=place.toy,
        )  # fmt: skip
        asked = requests(tokenizer, place.sized(64, 4), n=1, tokens=1, temperature=1.0)
        params = Params(temperature=1.0, max_tokens=place.sized(128, 8), logprobs=0, ignore_eos=True, detokenize=False)
        prompts = [{"prompt_token_ids": list(one.prompt_ids)} for one in asked]
        begun = time.perf_counter()
        outputs = [output.outputs[0] for output in engine.generate(prompts, params, use_tqdm=False)]
        taken = time.perf_counter() - begun
    found.numbers["tokens/s"] = sum(len(one.token_ids) for one in outputs) / taken
    worst = 0.0
    for one, output in zip(asked, outputs, strict=True):
        ids = torch.tensor([[*one.prompt_ids, *output.token_ids]])
        with torch.no_grad():
            plain = nano(ids)[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
        told = [entry[token].logprob for entry, token in zip(output.logprobs, output.token_ids, strict=True)]
        worst = max(
            worst, max(abs(plain[i, t] - x) for i, (t, x) in enumerate(zip(output.token_ids, told, strict=True)))
        )
    found.at_most("log-probabilities apart, largest", float(worst), 1e-2)
    return found
