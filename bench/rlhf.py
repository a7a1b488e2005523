"""Over-optimisation of a learned reward on nano, from nothing: a base that shows its work, a gold reward that is
written down, reward models that see comparisons only, GRPO and PPO against one of them and the lowest of four.

    python bench/rlhf.py prepare --out runs/rlhf        base, banks, comparisons, reward models
    python bench/rlhf.py learn --out runs/rlhf          8 runs (2 algorithms, 2 rewards, 2 seeds); again = go on
    python bench/rlhf.py draw --out runs/rlhf           curves.json and figure.png

One process, one thread. docs/rlhf.md has the tables. The base's rows are made here: work shown in the answer, since a
reward may read answers only; 0.2 guess, 0.45 write steps, 0.35 check each, a third of those twice; a step slips in 0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ponder.evals.bank import Bank
from ponder.evals.exams import run_exam
from ponder.evals.overoptimisation import label, shown_work
from ponder.models import hub
from ponder.runs import find_checkpoints, write_atomic
from ponder.tasks import load_task
from ponder.tasks.ways import demonstrate
from ponder.types import SamplingParams

TASK = "arithmetic:level=2"
PARAMS = SamplingParams(max_reasoning_tokens=8, max_answer_tokens=128)
COMPARISONS, NOISE = 1000, 0.15
SEEDS = (0, 1)
MEMBERS = (1, 4)


def rows(path: Path, count: int = 8000) -> None:
    """Work shown in the answer, for `ponder sft`."""
    task, found = load_task("arithmetic:level=2-4", split="train", seed=11, size=count), []
    for i in range(count):
        problem, rng = task[i], Random(f"shown/{i}")
        way = rng.choices(["guess", "steps", "checked"], [0.2, 0.45, 0.35])[0]
        work, answer = demonstrate(problem, way, rng, slip=0.1)
        if way == "checked" and rng.random() < 0.35:  # the check is said twice
            lines = work.splitlines()
            work = "\n".join(line + line[line.index(" ") :] if line.endswith(" ok") else line for line in lines)
        text = f"{work}\n{answer}" if work else answer
        found.append(json.dumps({"problem": problem.text, "reasoning": "", "answer": text}) + "\n")
    write_atomic(path, "".join(found))


def teach(out: Path) -> None:
    """The base."""
    from ponder.train.sft import SFTConfig, sft

    if not (out / "rows_train.jsonl").exists():
        rows(out / "rows_train.jsonl")
    sft(SFTConfig(
        out=str(out / "base"), model="nano", data=str(out / "rows_train.jsonl"), num_steps=142, batch_size=64, lr=1e-3,
        warmup_steps=20, save_every=50, max_tokens_per_batch=2048, num_workers=0,
    ))  # fmt: skip


def draw_bank(out: Path, name: str, split: str, problems: int, samples: int) -> None:
    from ponder.engine.local import LocalEngine

    folder = hub.resolve(str(out / "base"))
    model, tokenizer = hub.load(folder, dtype=None)
    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        asyncio.run(run_exam(
            load_task(TASK, split=split, seed=5), engine, name=TASK, model="base", fingerprint=hub.fingerprint(folder),
            num_samples=samples, params=PARAMS, out=out / name, limit=problems,
        ))  # fmt: skip


def fit_rewards(out: Path) -> None:
    """Comparisons of each seed, and a reward model and four from them."""
    from ponder.train.scorer import load_recipe, train_scorer

    bank = Bank.read(out / "bank_rm")
    for seed in SEEDS:
        votes = out / f"votes_{seed}.jsonl"
        found = label(bank, shown_work, size=COMPARISONS, noise=NOISE, seed=seed)
        write_atomic(votes, "".join(json.dumps(row) + "\n" for row in found))
        for members in MEMBERS:
            target = out / f"rm{members}_{seed}"
            if not (target / "result.json").exists():
                train_scorer(load_recipe("rm_nano_cpu", [
                    f"out={target}", f"model={out / 'base'}", f"comparisons=file:{votes}", f"members={members}",
                    f"seed={seed}", "num_workers=0",
                ]))  # fmt: skip


def learn(out: Path, only: str) -> None:
    from ponder.train.recipe import load_recipe
    from ponder.train.rl import rl

    for seed in SEEDS:
        for members in MEMBERS:
            for name, recipe in (("grpo", "rlhf_nano_cpu"), ("ppo", "ppo_nano_cpu")):
                target = out / f"{name}_{members}_{seed}"
                if only not in target.name:
                    continue
                begun = time.monotonic()
                rl(load_recipe(recipe, [
                    f"out={target}", f"model={out / 'base'}", f"reward.preference={out / f'rm{members}_{seed}'}",
                    "loss.kl=0", f"seed={seed}", "num_workers=0",
                ]))  # fmt: skip
                print(f"{target.name}: {time.monotonic() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "learn", "draw"])
    parser.add_argument("--out", type=Path, default=Path("runs/rlhf"))
    parser.add_argument("--only", default="", help="runs whose name holds this")
    given = parser.parse_args()
    out = given.out.resolve()
    if given.stage == "prepare":
        if not find_checkpoints(out / "base"):
            teach(out)
        draw_bank(out, "bank_rm", "train", 100, 10)
        fit_rewards(out)
        draw_bank(out, "bank_exam", "test", 24, 96)
    elif given.stage == "learn":
        learn(out, given.only)
    else:
        from ponder.cli.overoptimisation import curves_

        proxies = [out / f"rm{members}_{seed}" for seed in SEEDS for members in MEMBERS]
        runs = sorted(p.parent for p in out.glob("*_*_*/metrics.jsonl") if given.only in p.parent.name)
        curves_(
            out=out / "curves", bank=out / "bank_exam", proxy=proxies, run=runs,
            gold="ponder.evals.overoptimisation:shown_work", limit=24, samples=6, seed=0, as_json=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()


