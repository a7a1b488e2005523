"""The preference term of deliberation with a trained scorer: what it buys and what it costs, on nano.

    python bench/deliberate_liked.py prepare --out runs/liked     cold start, samples, comparisons, reward model
    python bench/deliberate_liked.py learn --out runs/liked       without the term and with it; again = go on
    python bench/deliberate_liked.py table --out runs/liked

An answer of nano is a bare number, of which nobody can like anything, so the cold start's rows answer in two forms:
"34" (three in four) and "It is 34.". A taste that is written down stands in for people: the sentence is liked, whatever
it says. The reward model sees comparisons by it only, 15 % of them the wrong way round, and reads answers only. The
question is whether the term moves the form and leaves the truth alone: it may never outbid the verifier.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from itertools import chain
from pathlib import Path
from random import Random
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common  # noqa: F401 - this tree, whatever is installed

from ponder.evals.bank import Bank
from ponder.evals.exams import run_exam
from ponder.evals.overoptimisation import label
from ponder.evals.stats import Estimate, interval, paired_difference
from ponder.models import hub
from ponder.rollouts.deliberate import Deliberating
from ponder.runs import find_checkpoints, write_atomic
from ponder.strategies.deliberation_environment import Deliberation
from ponder.tasks import load_task
from ponder.train.deliberations import Faults, make_rows
from ponder.types import Completion, Problem, SamplingParams

TASK = "arithmetic:level=1-2"
PARAMS = SamplingParams(max_reasoning_tokens=128, max_answer_tokens=16)
M, TURNS = 2, 6
WEIGHTS = {"without": 0.0, "liked": 0.3}  # of the term, by run
SENTENCE = "It is {}."


def taste(problem: Problem, completion: Completion, is_correct: bool) -> float:
    """What is liked: a sentence."""
    return float(completion.answer.strip().startswith("It is"))


def rows(path: Path, count: int) -> None:
    made, _ = make_rows([TASK], "deliberate", Faults(choices=1), count=count, seed=3)
    for i, row in enumerate(made):
        if row.get("answer") and Random(f"form/{i}").random() < 0.25:
            row["answer"] = SENTENCE.format(row["answer"])
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in made))


def draw(out: Path, name: str, model: str, split: str, problems: int, samples: int) -> Bank:
    """Whole deliberations, kept as a bank."""
    from ponder.engine.local import LocalEngine

    folder = hub.resolve(model)
    loaded = hub.load(folder, dtype=None)
    with LocalEngine(*loaded, num_workers=0) as engine:
        whole = Deliberating(engine, Deliberation(m=M, turns=TURNS, turn_tokens=32, encode=engine.tokenizer.encode))
        asyncio.run(run_exam(
            load_task(TASK, split=split, seed=9), whole, name=TASK, model=Path(model).name,
            fingerprint=hub.fingerprint(folder), num_samples=samples, params=PARAMS, out=out / name, limit=problems,
        ))  # fmt: skip
    return Bank.read(out / name)


def prepare(out: Path, steps: int) -> None:
    from ponder.train.scorer import load_recipe, train_scorer
    from ponder.train.sft import SFTConfig, sft

    if not (out / "rows.jsonl").exists():
        rows(out / "rows.jsonl", 4000)
    if not find_checkpoints(out / "base"):
        sft(SFTConfig(
            out=str(out / "base"), model="nano", data=str(out / "rows.jsonl"), num_steps=steps, batch_size=48,
            lr=1.5e-3, warmup_steps=20, save_every=50, max_tokens_per_batch=2048, num_workers=0,
        ), on_step=lambda step, m: step % 20 or print("base", step, f"{m['loss']:.3f}", flush=True))  # fmt: skip
    bank = draw(out, "bank_rm", str(out / "base"), "train", 60, 10)
    found = label(bank, taste, size=500, noise=0.15)
    write_atomic(out / "votes.jsonl", "".join(json.dumps(row) + "\n" for row in found))
    if not (out / "rm" / "result.json").exists():
        train_scorer(load_recipe("rm_nano_cpu", [
            f"out={out / 'rm'}", f"model={out / 'base'}", f"comparisons=file:{out / 'votes.jsonl'}", "num_workers=0",
        ]))  # fmt: skip


def learn(out: Path, seeds: int, steps: int) -> None:
    from ponder.train.recipe import load_recipe
    from ponder.train.rl import rl

    for seed in range(seeds):
        for name, weight in WEIGHTS.items():
            liked = [f"deliberation.preference={out / 'rm'}", f"deliberation.preference_weight={weight}"]
            rl(load_recipe("deliberate_nano_cpu", [
                f"out={out / f'{name}_{seed}'}", f"model={out / 'base'}", f"task={TASK}", f"num_steps={steps}",
                "problems_per_step=8", "group_size=8", "max_reasoning_tokens=128", f"deliberation.m={M}",
                f"deliberation.turns={TURNS}", f"checkpoint_steps=[0, {steps}]", "save_every=5", "num_workers=0",
                f"seed={seed}", *(liked if weight else []),
            ]), on_step=lambda step, name=name, seed=seed: print(
                name, seed, step.step, " ".join(f"{key}={step.metrics[key]:.3f}" for key in (
                    "rollout/correct", "reward/preference", "deliberation/turns") if key in step.metrics), flush=True,
            ))  # fmt: skip


def shown(e: Estimate, sign: str = "") -> str:
    return f"{100 * e.value:{sign}.1f} % ({100 * e.low:{sign}.1f} to {100 * e.high:{sign}.1f})"


def table(out: Path, seeds: int, problems: int, samples: int) -> None:
    """Accuracy, form and length on problems that trained nothing."""
    runs = {"cold start": [str(out / "base")]}
    runs |= {name: [str(out / f"{name}_{seed}") for seed in range(seeds)] for name in WEIGHTS}
    right: dict[str, list[float]] = {}
    print("| policy | runs | right | in the liked form | of right answers | tokens | no answer |\n" + "|---" * 7 + "|")
    for name, models in runs.items():
        banks = [draw(out, f"bank_{Path(model).name}", model, "test", problems, samples) for model in models]
        listed = [[list(bank.rows(problem.id)) for problem in bank.problems] for bank in banks]
        together = [list(chain(*of_one)) for of_one in zip(*listed, strict=True)]  # a problem's samples of every run
        right[name] = [fmean(row.outcome == "correct" for row in rows) for rows in together]
        liked = [fmean(row.answer.startswith("It is") for row in rows) for rows in together]
        every = list(chain(*together))
        good = [row for row in every if row.outcome == "correct"]
        of_right = fmean(row.answer.startswith("It is") for row in good) if good else float("nan")
        n = samples * len(models)
        told = [shown(interval(shares, draws=n)) for shares in (right[name], liked)]
        print(f"| {name} | {len(models)} | {' | '.join(told)} | {of_right:.1%} | "
              f"{fmean(row.tokens for row in every):.0f} | "
              f"{fmean(not row.answer.strip() for row in every):.1%} |", flush=True)  # fmt: skip
    print(f"\nright, with the term less without it: {shown(paired_difference(right['without'], right['liked']), '+')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "learn", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/liked"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cold-steps", type=int, default=160)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--samples", type=int, default=4)
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if given.stage == "prepare":
        prepare(out, given.cold_steps)
    elif given.stage == "learn":
        learn(out, given.seeds, given.steps)
    else:
        table(out, given.seeds, given.problems, given.samples)


if __name__ == "__main__":
    main()
