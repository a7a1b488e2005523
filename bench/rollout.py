"""Sampling: ponder's engine, `generate` of transformers and vLLM's CPU build, 64 and 128 sequences at a time.

    python bench/rollout.py                         # the reference model; 15 minutes, with vLLM's loading
    python bench/rollout.py --without vLLM          # without the loading
    python bench/rollout.py --quick --model nano    # seconds: does it run

Every sequence has a prompt of 100 tokens and exactly 128 new ones, drawn at temperature 1 from the whole distribution,
no end of sequence (bench/sides/never_ends.py says how for ponder). Prompts are new in every repetition, so that no
cache of prompts carries over. ponder also records each token's log-probability and decodes the text; the others do not.

A peer's setting is the fastest of those listed here, found on a job of a quarter of the length before the measurement
(all rates are in the JSON under "tried"). Peers compute in the dtype that PyTorch multiplies fastest on this machine,
float32 on a CPU without products of bfloat16. Fractions of the ceiling: FLOPs over matrix products in it, where a new
token also carries its share of its prompt (read once for all samples, without the output head); and bytes over copied
bytes, where a decoding step reads every weight once and each sequence's own keys and values.
"""

from __future__ import annotations

from random import Random
from typing import Any

import common
from common import PEERS, VLLM, Contender, Job

from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.transformer import ModelConfig, flops_per_token
from ponder.models.weights import read_config

PROMPT, NEW = 100, 128


def settings(model: str, sequences: int) -> dict[str, list[Contender]]:
    """Every peer's settings. On a GPU both have one process, and `generate` takes all sequences at once."""
    shared = {"kind": "rollout", "model": model, "dtype": common.FAST_DTYPE, "slots": sequences, "window": 512}
    cores = common.num_devices()

    def hf(batch: int, **how: Any) -> Contender:
        config = shared | {"batch": batch}
        note = f"{common.FAST_DTYPE}, batch {batch}"
        return Contender(name="HF generate", side="hf.py", python=PEERS, config=config, note=note, **how)

    vllm = Contender(
        name="vLLM", side="vllm_cpu.py", python=VLLM, processes=cores, pinned=cores > 1, config=shared,
        note=common.FAST_DTYPE,
    )  # fmt: skip
    if cores == 1:
        return {"HF generate": [hf(sequences), hf(max(1, sequences // 4))], "vLLM": [vllm]}
    # the fastest of a quiet machine first: --no-tune takes it
    one_thread = [hf(32, processes=cores), hf(64, processes=cores), hf(64, processes=cores, pinned=True)]
    return {"HF generate": [*one_thread, hf(128, threads=cores), hf(64, threads=cores)], "vLLM": [vllm]}


def prompts(model: str, count: int, length: int, seed: int) -> list[list[int]]:
    """Token ids of `count` different texts of exactly `length` tokens."""
    tokenizer = load_tokenizer(model)
    rows = []
    for i in range(count):
        random = Random(f"prompts/{seed}/{i}")
        numbers = (str(random.randrange(1000)) for _ in range(length))
        rows.append(tokenizer.encode(f"Problem {seed}.{i}. Add: " + ", then ".join(numbers))[:length])
    return rows


def flops_each(config: ModelConfig, sequences: int, prompts: int, new: int) -> float:
    """Of one new token, with its share of the prompts."""
    head = 2 * config.vocab_size * config.hidden_size
    prompt = PROMPT * (flops_per_token(config, PROMPT / 2) - head)
    return flops_per_token(config, PROMPT + new / 2) + prompt * prompts / (sequences * new)


def bytes_per_token(config: ModelConfig, sequences: int, context: float) -> float:
    """Of one decoding step, a share of one sequence: bf16 weights over all sequences, and its own keys and values."""
    weights = flops_per_token(config)  # 2 FLOPs a weight, 2 bytes a weight
    cache = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * context
    return weights / sequences + cache


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--sequences", type=int, nargs="*", default=[64, 128], help="concurrent sequences")
    parser.add_argument("--dtype", default="bfloat16", help="of ponder's weights")
    arguments = parser.parse_args()
    new, repeats = (8, 1) if arguments.quick else (NEW, arguments.repeats)
    sizes = [8] if arguments.quick else arguments.sequences
    model = common.model_folder(arguments.model)
    config = read_config(model)

    def job(size: int, groups: int, length: int, repeat: int) -> Job:
        asked = prompts(model, groups, PROMPT, seed=repeat + 2)
        return {"prompts": asked, "n": size // groups, "new_tokens": length, "seed": repeat + 1}

    peers, tried = [], {}
    for name, each in common.chosen(settings(model, max(128, *sizes)), arguments).items():
        best, tried[name] = common.best_settings(
            each, job(sizes[0], sizes[0], max(4, new // 4), 0), common.even, "tokens"
        )
        peers.append(best)
    ours = Contender(
        name="ponder", side="ours.py", note=f"{arguments.dtype}, starts one worker a core",
        config={"kind": "rollout", "model": model, "dtype": arguments.dtype, "slots": max(128, *sizes)},
    )  # fmt: skip
    cases = []
    with common.start([ours, *peers, common.ceiling()]) as pool:
        for name, size, groups in [(f"{s} samples of one prompt", s, 1) for s in sizes] + [
            (f"{s} prompts, one sample each", s, s) for s in sizes
        ]:
            answers = common.measure(
                pool, lambda repeat, s=size, g=groups: job(s, g, new, repeat), common.even, repeats
            )
            cases.append(
                common.facts("rollout", model=arguments.model, dtype=arguments.dtype, new_tokens=new, tried=tried)
                | common.result(
                    name, "tokens", pool, answers, flops_each=flops_each(config, size, groups, new),
                    bytes_each=bytes_per_token(config, size, PROMPT + new / 2),
                )
            )  # fmt: skip
            common.publish(arguments, cases)


if __name__ == "__main__":
    common.run(main)
