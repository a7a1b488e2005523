"""The planner against published step times, and plans for 8, 64 and 1,000 GPUs.

    python bench/plan.py                 # two minutes; the tables of docs/plan.md
    python bench/plan.py --published     # only the comparison

One set of constants for all cases; what differs by case is what the source says (model, GPUs, batch, cap, mode) and, of
what it does not say, MFU of mixtures of experts, lengths and the bandwidth between GPUs of one machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from ponder.train.hardware import SHAPES
from ponder.train.plan import Job, PlanConfig, plan, plans, table


class Published(NamedTuple):
    name: str
    seconds: float  # of a step, as published
    job: Job
    cluster: PlanConfig
    num_gpus: int
    max_lag: int


def job(model: str, groups: int, mean: int, cap: int, **more: float) -> Job:
    """16 completions of a problem, prompts of 200 tokens, all weights trained."""
    shape = SHAPES[model]
    values = {"passes": 3, "save_every": 10} | more
    return Job(
        shape=shape, groups=groups, group_size=16, mean_tokens=mean, max_tokens=cap, prompt_tokens=200,
        forward_flops=2 * shape.active, state_bytes=18 * shape.total, batch_tokens=0, **values,
    )  # fmt: skip


# verl docs/advance/fully_async.md (Qwen2.5-Math-7B, DAPO; it gives no lengths, 1,200 tokens on average are assumed)
VERL = job("qwen2.5-7b", 512, 1200, 28_000)
H20 = PlanConfig(hardware="h20", tensor=1, spread=1.2, window=1e9, sync_bandwidth=60e9, sample_share=0.5)
# NeMo-RL docs/about/performance-summary.md (v0.6)
NEMO = job("qwen3-30b-a3b", 128, 3300, 4096)
NEMO_LARGE = job("qwen3-235b-a22b", 32, 6000, 8192)
H100 = PlanConfig(tensor=2, spread=0.5, window=1e9, mfu=0.15, sample_share=0.5)


def in_turn(asked: Job) -> Job:
    """Both compute the old log-probabilities once more where they sample and train in turn."""
    return replace(asked, passes=4)


PUBLISHED = [
    Published("7B, 8,192 x <28 K, 32 H20, in turn", 790, in_turn(VERL), H20, 32, 0),
    Published("64 H20", 365, in_turn(VERL), H20, 64, 0),
    Published("128 H20", 356, in_turn(VERL), H20, 128, 0),
    Published("16 + 16 H20, in flight", 295, VERL, H20, 32, 1),
    Published("32 + 32 H20", 189, VERL, H20, 64, 1),
    Published("64 + 64 H20", 151, VERL, H20, 128, 1),
    Published("30B-A3B, 2,048 x <4 K, 32 H100, in turn", 192, in_turn(NEMO), H100, 32, 0),
    Published("32 H100, 1 step off", 152, NEMO, H100, 32, 1),
    Published("192 H100, 8 steps off", 34.5, NEMO, H100, 192, 8),
    Published("235B-A22B, 512 x <8 K, 128 H100, in turn", 395, in_turn(NEMO_LARGE), replace(H100, tensor=16), 128, 0),
    Published("256 H100", 312, in_turn(NEMO_LARGE), replace(H100, tensor=16), 256, 0),
    Published("256 H100, 1 step off", 231, NEMO_LARGE, replace(H100, tensor=8), 256, 1),
]
FAST = PlanConfig(sync_bandwidth=20e9)
PLANS = [
    ("7B, 64 x 16, 2 K on average, 16 K at most", job("qwen2.5-7b", 64, 2000, 16_000), PlanConfig(), 8),
    ("32B, 256 x 16, 6 K, 32 K", job("qwen2.5-32b", 256, 6000, 32_000), PlanConfig(), 64),
    ("70B, 512 x 16, 10 K, 64 K", job("llama-3.1-70b", 512, 10_000, 64_000), FAST, 1000),
]  # fmt: skip


def predicted(case: Published) -> float:
    return plan(case.job, case.cluster, case.num_gpus, case.max_lag, drains=False).step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--published", action="store_true", help="only the comparison with published steps")
    arguments = parser.parse_args()
    print("| case | published s | planned s | planned / published |\n|---|---|---|---|")
    ratios = []
    for case in PUBLISHED:
        found = predicted(case)
        ratios.append(found / case.seconds)
        print(f"| {case.name} | {case.seconds:g} | {found:.0f} | {ratios[-1]:.2f} |", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"\ngeometric mean {mean:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}\n")
    for name, asked, cluster, num_gpus in [] if arguments.published else PLANS:
        begun = time.monotonic()
        made, words = plans(asked, cluster, num_gpus)
        print(f"{name}; {num_gpus:,} {cluster.hardware.upper()}; engines of {made[0].tensor}")
        print("\n".join([table(made), *words]))
        print(f"({time.monotonic() - begun:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
