"""Sampling: ponder's engine beside transformers, vLLM's CPU build, llama.cpp and OpenVINO, 64 and 128 sequences.

    python bench/rollout.py                         # the reference model, every peer
    python bench/rollout.py --without vLLM          # without its loading
    python bench/rollout.py --only llama.cpp "ponder int8" --no-tune       # two, each at its first setting
    python bench/rollout.py --quick --model nano    # seconds: does it run

Every sequence has a prompt of 100 tokens and exactly 128 new ones, drawn at temperature 1 from the whole distribution,
no end of sequence (bench/sides/never_ends.py says how for ponder). Prompts are new in every repetition, so that no
cache of prompts carries over. ponder also records each token's log-probability and decodes the text; the others do not.

A peer's setting is the fastest of those listed here, found on a job of a quarter of the length before the measurement
(all rates are in the JSON under "tried"). transformers and vLLM compute in the dtype that PyTorch multiplies fastest on
this machine, float32 on a CPU without products of bfloat16. llama.cpp reads F16 or Q8_0 (then activations are in 8 bits
too), OpenVINO weights in 16 or 8 bits. The fastest of their settings may so be less exact than the model; what they
then compare with is "ponder int8", weights and activations in 8 bits. Their copies of the model are made before the
measurement and kept in runs/bench/models.

Fractions of the ceiling: FLOPs over matrix products in PyTorch's fastest dtype, where a new token also carries its
share of its prompt (read once for all samples, without the output head); and bytes over copied bytes, where a decoding
step reads every weight once, in bfloat16, and each sequence's own keys and values. Of products in int8 they say little.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import common
from common import LLAMA_CPP, OPENVINO, OURS, PEERS, ROOT, VLLM, Contender, Job

from ponder.models import hub
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.transformer import ModelConfig, flops_per_token
from ponder.models.weights import read_config

PROMPT, NEW = 100, 128
MODELS = ROOT / "runs" / "bench" / "models"  # the model in the forms of other engines


def settings(model: str, sequences: int, dtype: str) -> dict[str, list[Contender]]:
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
    copies = MODELS / hub.fingerprint(model)
    int8 = Contender(
        name="ponder int8", side="ours.py", note="int8 products, starts one worker a core",
        config={"kind": "rollout", "model": model, "dtype": dtype, "slots": sequences, "int8": True},
    )  # fmt: skip
    # the fastest of a quiet machine first: --no-tune takes it
    one_thread = [hf(32, processes=cores), hf(64, processes=cores), hf(64, processes=cores, pinned=True)]
    return {
        "ponder int8": [int8], "HF generate": [*one_thread, hf(128, threads=cores), hf(64, threads=cores)],
        "vLLM": [vllm], "llama.cpp": llama_cpp(model, copies, sequences, cores),
        "OpenVINO": openvino(model, copies, sequences, cores),
    }  # fmt: skip


def llama_cpp(model: str, copies: Path, sequences: int, cores: int) -> list[Contender]:
    window = -(-(PROMPT + NEW) // 256) * 256  # places of a sequence; llama.cpp rounds up like this
    found = []
    for kind in ("Q8_0", "F16"):
        file = copies / f"{kind}.gguf"
        config = {"kind": "rollout", "model": str(file), "slots": sequences, "window": window}
        export = (str(OURS), "-m", "ponder.cli", "export", model, "--type", kind)
        shared = {"name": "llama.cpp", "side": "llamacpp.py", "python": LLAMA_CPP, "config": config, "note": kind}
        found += [Contender(**shared, reads=file, made_by=export, **how) for how in _spread_over(cores)]
    return found


def openvino(model: str, copies: Path, sequences: int, cores: int) -> list[Contender]:
    found = []
    for weights in ("int8", "fp16"):
        folder, note = copies / f"openvino_{weights}", f"weights in {weights}"
        config = {"kind": "rollout", "model": str(folder), "slots": sequences}
        export = (
            str(OPENVINO.with_name("optimum-cli")), "export", "openvino", "--model", model,
            "--task", "text-generation-with-past", "--weight-format", weights,
        )  # fmt: skip
        shared = {"name": "OpenVINO", "side": "openvino_side.py", "python": OPENVINO, "config": config, "note": note}
        found += [Contender(**shared, reads=folder, made_by=export, **how) for how in _spread_over(cores)]
    return found


def _spread_over(cores: int) -> list[dict[str, Any]]:
    """A process a core, or one of all cores."""
    return [{"processes": cores, "pinned": True}, {"threads": cores}]


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
    parser.add_argument("--tune-tokens", type=int, default=NEW // 4, help="new tokens of the jobs that try settings")
    arguments = parser.parse_args()
    new, repeats = (8, 1) if arguments.quick else (NEW, arguments.repeats)
    sizes = [8] if arguments.quick else arguments.sequences
    model = common.model_folder(arguments.model)
    config = read_config(model)

    def job(size: int, groups: int, length: int, repeat: int) -> Job:
        asked = prompts(model, groups, PROMPT, seed=repeat + 2)
        return {"prompts": asked, "n": size // groups, "new_tokens": length, "seed": repeat + 1}

    peers, tried = [], {}
    for name, each in common.chosen(settings(model, max(128, *sizes), arguments.dtype), arguments).items():
        best, tried[name] = common.best_settings(
            each, job(sizes[0], sizes[0], min(new, arguments.tune_tokens), 0), common.even, "tokens"
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
