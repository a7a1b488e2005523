"""Over-optimisation of a learned reward on nano, from nothing: a base that shows its work, a gold reward that is
written down, reward models that see comparisons only, GRPO and PPO against one of them and the lowest of four.

    python bench/rlhf.py prepare --out runs/rlhf        base, banks, comparisons, reward models
    python bench/rlhf.py learn --out runs/rlhf          12 runs (2 algorithms, 2 rewards, 3 seeds); again = go on
    python bench/rlhf.py learn --out runs/rlhf --only kl05_1_0 grpo_trunks_0       a KL in the reward; networks apart
    python bench/rlhf.py draw --out runs/rlhf           curves.json and figure.png

One process, one thread. docs/rlhf.md has the tables. The base's rows are made here: work shown in the answer, since a
reward may read answers only; 0.2 guess, 0.45 write steps, 0.35 check each, a third of those twice; a step slips in 0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ponder.evals.bank import Bank
from ponder.evals.codec import encode
from ponder.evals.exams import run_exam
from ponder.evals.overoptimisation import PressedCurve, PressedPoint, bank_curve, label, score_bank, shown_work
from ponder.evals.preference import trained_on
from ponder.files import append_jsonl, read_jsonl, write_atomic
from ponder.intervals import student
from ponder.models import hub
from ponder.runs import find_checkpoints
from ponder.scorers import load_scorer
from ponder.strategies.turns import Trajectory
from ponder.tasks import load_task
from ponder.tasks.ways import demonstrate
from ponder.train.ledger import Step
from ponder.types import Problem, SamplingParams, Verdict

TASK = "arithmetic:level=2"
PARAMS = SamplingParams(max_reasoning_tokens=8, max_answer_tokens=128)
COMPARISONS, NOISE = 1000, 0.15
RECIPES = {"grpo": "rlhf_nano_cpu", "ppo": "ppo_nano_cpu"}
KEYS = {"grpo": ["advantage='grpo'"]} | {  # klNN: as the recipe has it, k1 in the reward and no division by the spread
    f"kl{name}": [f"loss.kl={weight}"] for name, weight in (("00", 0), ("02", 0.02), ("05", 0.05))
}
SEEDS = (0, 1, 2)
MEMBERS = (1, 4)
REWARDS = {"1": "one model", "4": "min of 4", "trunks": "min of 4 networks"}  # rmKIND_SEED


def rows(path: Path, count: int = 8000, seed: int = 11) -> None:
    """Work shown in the answer, for `ponder sft`."""
    task, found = load_task("arithmetic:level=2-4", split="train", seed=seed, size=count), []
    for i in range(count):
        problem, rng = task[i], Random(f"shown/{i}" if seed == 11 else f"shown/{seed}/{i}")
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


# ---- learning, with gold watched: every rollout is judged by it and none is paid by it -----------------------------

WATCHED: list[tuple[str, float, float, bool]] = []  # problem, gold, tokens, right: of the rollouts of the step


def watch(problem: Problem, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> list[float]:
    """A reward term of 0 that keeps what gold says."""
    for trajectory, verdict in zip(trajectories, verdicts, strict=True):
        done = trajectory.completion
        gold = shown_work(problem, done, verdict.is_correct)
        WATCHED.append((problem.id, gold, done.num_tokens, verdict.is_correct))
    return [0.0] * len(trajectories)


def keep(target: Path, step: Step) -> None:
    import rlhf  # this file as a recipe names it

    gold, tokens, right = (fmean(column) for column in list(zip(*rlhf.WATCHED, strict=True))[1:])
    of_problem: dict[str, list[float]] = {}
    for problem, own, *_ in rlhf.WATCHED:
        of_problem.setdefault(problem, []).append(own)
    m = step.metrics
    row = {"step": step.step - 1, "gold": gold, "tokens": tokens, "correct": right, "rollouts": len(rlhf.WATCHED),
           "gold_of_problems": [fmean(own) for own in of_problem.values()],
           "proxy": m["reward/preference"], "kl": m["kl/k1"], "k3": m["kl/k3"],
           "explained": m.get("critic/explained")}  # fmt: skip
    append_jsonl(target / "gold.jsonl", [row])
    shown = {name: value for name, value in row.items() if isinstance(value, int | float)}
    print(target.name, " ".join(f"{name}={value:.3g}" for name, value in shown.items()), flush=True)
    rlhf.WATCHED.clear()


WARMUP = {"ppo": 1}  # steps in which the policy stands still
NEAR = 2  # a point is of the rollouts of five steps (other problems each), drawn by nearly the same weights


def steps_of(target: Path) -> dict[int, dict[str, Any]]:
    """The lines of a run by step; of a step that was taken again the last."""
    rows = {row["step"]: row for row in read_jsonl(target / "gold.jsonl")}
    return {step: row for step, row in rows.items() if step >= WARMUP.get(target.name[:3], 0)}


def near(rows: dict[int, dict[str, Any]], step: int) -> list[dict[str, Any]]:
    return [rows[s] for s in range(step - NEAR, step + NEAR + 1) if s in rows]


def curve(target: Path) -> PressedCurve:
    rows, points = steps_of(target), []
    for step in sorted(rows):
        around = near(rows, step)
        mean = {name: fmean(row[name] for row in around) for name in ("gold", "proxy", "tokens", "correct")}
        points.append(PressedPoint(at=step, kl=max(0.0, fmean(row["kl"] for row in around)), **mean))
    name, members, _ = target.name.split("_")
    return PressedCurve(
        label=f"{name}, {REWARDS[members]}", proxy=target.name, points=tuple(points), problems=len(rows),
        samples=(2 * NEAR + 1) * rows[max(rows)]["rollouts"],
    )  # fmt: skip


def gold_interval(target: Path, step: int) -> str:
    """95 % of gold at a point, by Student's t over its problems."""
    values = [value for row in near(steps_of(target), step) for value in row.get("gold_of_problems", [])]
    if len(values) < 2:
        return ""
    half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f" ({fmean(values) - half:+.2f} to {fmean(values) + half:+.2f})"


def learn(out: Path, only: Sequence[str], more: Sequence[str] = ()) -> None:
    from ponder.train.recipe import load_recipe
    from ponder.train.rl import rl

    every = [f"{name}_{members}_{seed}" for seed in SEEDS for members in MEMBERS for name in RECIPES]
    for run in only or every:
        name, members, seed = run.split("_")
        target, begun = out / run, time.monotonic()
        rl(load_recipe(RECIPES.get(name, RECIPES["grpo"]), [
            f"out={target}", f"model={out / 'base'}", f"reward.preference={out / f'rm{members}_{seed}'}",
            "loss.kl=0", f"seed={seed}", "num_workers=0", "reward_terms=['rlhf:watch']", *KEYS.get(name, []), *more,
        ]), on_step=lambda step, target=target: keep(target, step))  # fmt: skip
        print(f"{run}: {time.monotonic() - begun:.0f} s", flush=True)


def draw(out: Path) -> None:
    """curves.json, figure.png."""
    from ponder.evals.overoptimisation_plots import BEST_OF, save_figure

    labels = {f"rm{kind}_{seed}": told for kind, told in REWARDS.items() for seed in SEEDS}
    opened = {name: load_scorer(out / name) for name in labels if (out / name).exists()}
    seen = frozenset().union(*(trained_on(out / name) for name in opened))
    scored, unread = score_bank(Bank.read(out / "bank_exam"), shown_work, opened, seen=seen)
    found = [bank_curve(scored, name, label=f"{BEST_OF}, {labels[name]}", unread=unread) for name in opened]
    found += [curve(path.parent) for path in sorted(out.glob("*/gold.jsonl")) if path.parent.name[:2] != "kl"]
    write_atomic(out / "curves.json", json.dumps([encode(one) for one in found], indent=1) + "\n")
    save_figure(found, out / "figure.png")
    for one in found:
        first, peak, last = one.points[0], one.peak, one.points[-1]
        own = out / one.proxy if (out / one.proxy / "gold.jsonl").exists() else None  # of a run, not of a bank
        told = [
            f"{p.gold:+.3f}{gold_interval(own, p.at) if own else ''} at {p.at} "
            f"({p.kl:.2f} nats, proxy {p.proxy:.2f}, right {p.correct:.2f})"
            for p in (first, peak, last)
        ]
        print(f"{one.label:24} {one.proxy:10} {'   '.join(told)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "learn", "draw"])
    parser.add_argument("--out", type=Path, default=Path("runs/rlhf"))
    parser.add_argument("--only", nargs="+", default=[], help="these runs, in this order: grpo_1_0 ppo_4_1 ...")
    parser.add_argument("--key", action="append", default=[], help="KEY=VALUE of every run")
    given = parser.parse_args()
    out = given.out.resolve()
    if given.stage == "prepare":
        if not find_checkpoints(out / "base"):
            teach(out)
        draw_bank(out, "bank_rm", "train", 100, 10)
        fit_rewards(out)
        draw_bank(out, "bank_exam", "test", 24, 96)
    elif given.stage == "learn":
        learn(out, given.only, given.key)
    else:
        draw(out)


if __name__ == "__main__":
    main()
