"""From the start of the process to the first sampled token: ponder, transformers, vLLM's CPU build.

    python bench/startup.py                  # the reference model; 15 minutes, nearly all of it vLLM's
    python bench/startup.py --without vLLM

Each repetition starts a fresh process for every contender: interpreter, imports, weights, engine, a prompt of 100
tokens, one token drawn. One start each warms up: the weights' file is then in the page cache for all, and vLLM's
compiled code in its cache on disk, which begins empty. That very first start is "first" in the table.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import common
from common import PEERS, VLLM, Contender
from rollout import PROMPT, prompts


def contenders(model: str) -> list[Contender]:
    shared = {"kind": "rollout", "model": model, "dtype": common.FAST_DTYPE, "slots": 128, "batch": 1, "window": 512}
    return [
        Contender(name="ponder", side="ours.py", config=shared, note="starts one worker a core"),
        Contender(name="HF generate", side="hf.py", python=PEERS, config=shared),
        Contender(name="vLLM", side="vllm_cpu.py", python=VLLM, config=shared),
        Contender(name="vLLM, eager", side="vllm_cpu.py", python=VLLM, config=shared | {"eager": True}),
    ]


def first_token(contender: Contender, prompt: list[int]) -> float:
    """Seconds. Raises Missing."""
    begun = time.perf_counter()
    with common.start([contender]) as pool:
        if contender.name in pool.missing:
            raise common.Missing(pool.missing[contender.name])
        pool.running[contender.name].ask([{"prompts": [prompt], "n": 1, "new_tokens": 1, "seed": 0}])
        return time.perf_counter() - begun


def main() -> None:
    arguments = common.arguments(__doc__ or "", repeats=3).parse_args()
    model = common.model_folder(arguments.model)
    prompt = prompts(model, 1, PROMPT, seed=0)[0]
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    os.environ["VLLM_CACHE_ROOT"] = tempfile.mkdtemp()
    wanted = [each for each in contenders(model) if each.name.partition(",")[0] not in arguments.without]
    for repeat in range(-1, 1 if arguments.quick else arguments.repeats):
        for contender in wanted:
            if contender.name in missing:
                continue
            try:
                taken = first_token(contender, prompt)
            except common.Missing as reason:
                missing[contender.name] = str(reason)
                continue
            if repeat < 0:
                first[contender.name] = common.rounded(taken)
            else:
                seconds.setdefault(contender.name, []).append(taken)
    seconds = {name: each for name, each in seconds.items() if name not in missing}
    rows: dict[str, Any] = {
        name: {"seconds": common.spread(each), "first": first[name]}
        | ({"times_ponder": common.spread(common.ratios(each, seconds["ponder"]))} if "ponder" in seconds else {})
        for name, each in seconds.items()
    }
    lines = [f"{'seconds to the first token':26} {'median (low - high)':>22} {'times ponder':>20} {'first':>8}"]
    for name, row in rows.items():
        over = common.text(row["times_ponder"]) if "times_ponder" in row and name != "ponder" else ""
        lines.append(f"{name:26} {common.text(row['seconds']):>22} {over:>20} {row['first']:>8.1f}")
    lines += [f"{name:26} missing: {reason}" for name, reason in missing.items()]
    case = common.facts("startup", case="first token", model=arguments.model, contestants=rows, missing=missing)
    common.publish(arguments, [case], show="\n".join(lines))


if __name__ == "__main__":
    common.run(main)
