"""What `bench/gpu.py` checks and times, a function a case. Each says what it found; `gpu.py` runs, limits and prints.

A case takes a `Place` and returns `Found`: numbers, and for each check what was found, the bound and whether it holds.
Sizes are those of a GPU; `toy` ones show on a CPU that every line runs. What a place lacks raises `Skipped` with why.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.engine.graphs import GraphNetwork
from ponder.engine.local import LocalEngine
from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request, Sample
from ponder.models import hub
from ponder.models.segments import Layout, Segment, attend_flex, attend_masked
from ponder.models.transformer import ModelConfig, Transformer, flops_per_token, rope_tables, rotate
from ponder.models.weights import save_model
from ponder.train.batches import Example, micro_batches
from ponder.train.distributed import SupervisedLoss, Trainer
from ponder.train.hardware import HARDWARE
from ponder.types import Message, SamplingParams

HALF_B = ModelConfig(  # the shape of Qwen2.5-0.5B, with random weights: nothing is downloaded
    model_type="qwen2", vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
    num_attention_heads=14, num_key_value_heads=2, head_dim=64, max_position_embeddings=32_768, attention_bias=True,
)  # fmt: skip
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
    wanted = wanted.double().cpu()
    return float((found.detach().double().cpu() - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())


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
            ours = [x.to(place.device).requires_grad_() for x in plain[:3]]
            tables = [x.to(place.device, dtype) for x in plain[3:]]
            made = layout.mask if name == "masked" else layout.block_mask
            kernel: Any = attend_masked if name == "masked" else attend_flex
            has_backward = place.is_cuda or name == "masked"
            with torch.set_grad_enabled(has_backward):
                out = kernel(*ours, *tables, made(None, place.device))
            kind = f"{name} {str(dtype).removeprefix('torch.')}"
            found.at_most(f"{kind} forward", off(out, wanted), bound)
            if not has_backward:
                found.notes.append("FlexAttention has no backward on a CPU")
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


def runner(place: Place, model: Transformer, tokenizer: Any, *, graphs: bool, dtype: torch.dtype) -> Runner:
    """PyTorch's network on the place's device, also on a CPU where the engine would take compiled C."""
    layout = WeightLayout(model.config, dtype, None, graphs)
    weights = {name: x.to(place.device) for name, x in layout.arranged(model.state_dict())}
    return Runner(
        layout, weights, end_id=tokenizer.end_id, unthink_id=tokenizer.unthink_id, pad_id=tokenizer.pad_id,
        decode=tokenizer.decode, end_ids=tokenizer.end_ids, think_id=tokenizer.think_id, num_slots=64,
    )  # fmt: skip


def requests(tokenizer: Any, count: int, *, n: int, tokens: int, temperature: float) -> list[Request]:
    params = SamplingParams(
        max_reasoning_tokens=tokens, max_answer_tokens=8, temperature=temperature, seed=0
    )  # fmt: skip
    asked = [[Message(role="user", content=f"What is {17 * i}+{5 * i + 3}*2?")] for i in range(1, count + 1)]
    return [
        Request(id=i, prompt_ids=tuple(tokenizer.render(messages)), params=params, n=n, opened=True)
        for i, messages in enumerate(asked)
    ]


def share_equal(left: list[list[Sample]], right: list[list[Sample]]) -> float:
    pairs = [pair for a, b in zip(left, right, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a.token_ids == b.token_ids for a, b in pairs) / len(pairs)


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
    for dtype, bounds in ((torch.float32, (1e-5, 1e-4)), (torch.bfloat16, (2e-2, 6e-2))):
        got = stepped(place.device, dtype)
        kind = str(dtype).removeprefix("torch.")
        found.at_most(f"{kind} loss", abs(got[0] - loss) / abs(loss), bounds[0])
        found.at_most(f"{kind} gradient", off(got[2], gradient), bounds[1])
        found.numbers[f"{kind} weights apart"] = float((got[3] - weights).abs().max())
    return found


def random_model(place: Place, dtype: torch.dtype) -> Transformer:
    """0.5 B weights, or nano."""
    if place.toy:
        return hub.load("nano", dtype=dtype, device=str(place.device))[0]
    with torch.device(place.device):
        model = Transformer(HALF_B).to(dtype)
    for name, parameter in model.named_parameters():
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
                weights = dict(layout.arranged(model.state_dict()))
            one = Runner(layout, weights, end_id=-1, unthink_id=None, pad_id=0, decode=str, num_slots=sequences)
            rates[way] = sequences * new / seconds(place, lambda: run_all(one, asked), place.sized(3, 1))  # noqa: B023
            found.numbers[f"{sequences} {way} tokens/s"] = rates[way]
        found.numbers[f"{sequences} graphs over eager"] = rates["graphs"] / rates["eager"]
    found.numbers["peak GB"] = peak_gb(place)
    return found


def rl(place: Place) -> Found:
    """The demo's recipe through `ponder rl`: it runs, sampler and trainer agree, and at size it learns."""
    from ponder.runs import read_jsonl
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
    """vLLM, where it is installed: decoding a model of the same size, and its log-probabilities against the trainer's."""
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


CASES: dict[str, Callable[[Place], Found]] = {
    "attention": attention, "packs": packs, "sampling": sampling, "graphs": graphs, "mismatch": mismatch, "step": step,
    "training": training, "decoding": decoding, "rl": rl, "vllm": vllm,
}  # fmt: skip


def as_json(found: Found) -> str:
    return json.dumps({"numbers": {k: float(f"{v:.4g}") for k, v in found.numbers.items()}, "checks": found.checks,
                       "notes": found.notes})  # fmt: skip
