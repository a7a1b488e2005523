"""The three terms of a deliberation's reward, each left out in turn; the preference comes from a trained reward model.

    python bench/deliberate_reward.py --out runs/deliberate_reward --seeds 3
    python bench/deliberate_reward.py --out runs/deliberate_reward --arms all,preference --seeds 3     some arms only

A final answer may be a number ("59") or a sentence ("It is 59."). The verifier takes both, and each is in half of the
cold start's rows. People here prefer sentences: 1,000 comparisons of the cold start's own answers say so, 15 % of them
the wrong way round, and a reward model (`ponder scorer`, kind preference) is fitted on these. So what the term does can
be seen: the share of sentences should rise with it and stay without it, at the same accuracy.

Arms: all (step cost 0.1, window penalty 1, preference 0.2), and the same without one term each. At most five turns, so
that the limit binds. 45 steps of GRPO as in recipes/deliberate_nano_cpu.toml; 200 test problems x 8 deliberations an
arm and seed. Everything goes on where it stopped, and OUT/table.md is written after each measurement. One process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ponder.engine.local import LocalEngine
from ponder.evals.bank import Bank
from ponder.evals.exams import run_exam
from ponder.evals.overoptimisation import completion_of_text, label
from ponder.evals.stats import interval
from ponder.files import write_atomic
from ponder.models import hub
from ponder.rollouts.deliberate import Deliberating, DeliberationConfig
from ponder.rollouts.preferences import visible
from ponder.runs import find_checkpoints
from ponder.scorers import load_scorer
from ponder.tasks import load_task
from ponder.train.deliberations import Faults, make_rows
from ponder.train.recipe import load_recipe as rl_recipe
from ponder.train.rl import rl
from ponder.train.scorer import load_recipe as scorer_recipe
from ponder.train.scorer import train_scorer
from ponder.train.sft import SFTConfig, sft
from ponder.types import Completion, Engine, Problem, SamplingParams, Scorer

TASK = "arithmetic:level=1-4"
TURNS = 5
TERMS = {"step_cost": 0.1, "window_penalty": 1.0, "preference_weight": 0.2}
ARMS = {"all": (), "preference": ("preference_weight",), "steps": ("step_cost",), "window": ("window_penalty",)}
NAMES = {"all": "all three", "preference": "without the preference", "steps": "without the step cost",
         "window": "without the window penalty"}  # fmt: skip
COLUMNS = ("right", "turns", "none", "sentences", "liked")
PARAMS = SamplingParams(max_reasoning_tokens=192, max_answer_tokens=16)
_ANSWER_LINE = re.compile(r"(?m)^(\d+\. Answer: )(\S+)$")  # in a list of candidates


def in_words(answer: str) -> str:
    return f"It is {answer}."


def is_sentence(answer: str) -> bool:
    return answer.strip().startswith("It is ")


def prefers_sentences(problem: Problem, completion: Completion, is_correct: bool) -> float:
    """What people like, here. Whether the answer is right they do not know."""
    return float(is_sentence(completion.answer))


def rows() -> list[dict[str, Any]]:
    """The rows of `ponder data --style deliberate`, every second one with its final answers in words."""
    found, _ = make_rows([TASK], "deliberate", Faults(), count=10000)
    spoken: list[dict[str, Any]] = []
    for number, row in enumerate(found):
        row = dict(row)
        if number % 2:
            if "answer" in row:
                row["answer"] = in_words(row["answer"])
            if "given" in row:
                row["given"] = _ANSWER_LINE.sub(lambda line: line[1] + in_words(line[2]), row["given"])
        spoken.append(row)
    return spoken


def prepare(out: Path) -> None:
    """The cold start, a bank of its answers, comparisons of them, and the reward model."""
    base, data, votes = out / "base", out / "rows.jsonl", out / "votes.jsonl"
    if not find_checkpoints(base):
        write_atomic(data, "".join(json.dumps(row) + "\n" for row in rows()))
        sft(SFTConfig(out=str(base), model="nano", data=str(data), num_steps=350, batch_size=64, lr=1.5e-3,
                      warmup_steps=20, save_every=50, max_tokens_per_batch=2048, num_workers=0))  # fmt: skip
    if not (out / "rm" / "result.json").exists():
        draw(base, out / "bank_rm", split="dev", problems=100, samples=10, deliberates=False)
        found = label(Bank.read(out / "bank_rm"), prefers_sentences, size=1000, noise=0.15)
        write_atomic(votes, "".join(json.dumps(row) + "\n" for row in found))
        train_scorer(scorer_recipe(
            "rm_nano_cpu", [f"out={out / 'rm'}", f"model={base}", f"comparisons=file:{votes}", "num_workers=0"],
        ))  # fmt: skip


def draw(model: Path, folder: Path, *, split: str, problems: int, samples: int, deliberates: bool = True) -> Bank:
    """`samples` of each problem by the model, whole deliberations or plain samples of the same form."""
    found = hub.resolve(str(model))
    network, tokenizer = hub.load(found, dtype=None)
    with closing(LocalEngine(network, tokenizer, num_workers=0)) as local:
        engine: Engine = local
        if deliberates:
            engine = Deliberating(local, DeliberationConfig(m=4, turns=TURNS).environment(tokenizer))
        asyncio.run(run_exam(
            load_task(TASK, split=split), engine, name=TASK, model=model.name, fingerprint=hub.fingerprint(found),
            num_samples=samples, params=PARAMS, out=folder, limit=problems,
        ))  # fmt: skip
    return Bank.read(folder)


def train(out: Path, arm: str, seed: int) -> Path:
    """RL of one arm; its run."""
    run = out / f"{arm}_{seed}"
    terms = {name: 0.0 if name in ARMS[arm] else value for name, value in TERMS.items()}
    keys = [f"deliberation.{name}={value}" for name, value in terms.items()]
    if terms["preference_weight"]:
        keys.append(f"deliberation.preference={out / 'rm' / 'scorer'}")
    begun = time.monotonic()
    rl(rl_recipe("deliberate_nano_cpu", [
        f"out={run}", f"model={out / 'base'}", f"deliberation.turns={TURNS}", f"seed={seed}", "num_workers=0", *keys,
    ]))  # fmt: skip
    print(f"{run.name}: {time.monotonic() - begun:.0f} s", flush=True)
    return run


def measured(bank: Bank, liked: Scorer) -> dict[str, list[float]]:
    """Numbers of every problem, by COLUMNS. none: without an answer; sentences, liked: of the answers there are."""
    columns: dict[str, list[float]] = defaultdict(list)
    for problem in bank.problems:
        drawn = bank.rows(problem.id)
        answered = [row for row in drawn if row.answer.strip()]
        columns["right"].append(fmean(row.outcome == "correct" for row in drawn))
        columns["none"].append(1 - len(answered) / len(drawn))
        columns["turns"].append(fmean(row.reasoning.count("Q: ") + bool(row.answer.strip()) for row in drawn))
        if answered:
            columns["sentences"].append(fmean(is_sentence(row.answer) for row in answered))
            shown_to_it = [visible(completion_of_text(row)) for row in answered]
            columns["liked"].append(fmean(map(float, asyncio.run(liked(problem.prompt, shown_to_it)))))
    return dict(columns)


def table(out: Path) -> str:
    """Every arm that is measured: means over seeds, in brackets 95 % over problems (each its mean over the seeds)."""
    liked = load_scorer(out / "rm" / "scorer")
    lines = ["| | seeds | right | turns | without an answer | sentences | the reward model says |", "|---" * 7 + "|"]
    for name, folders in [("the cold start", [out / "exam_base"])] + [
        (NAMES[arm], sorted(out.glob(f"exam_{arm}_*"))) for arm in ARMS
    ]:
        banks = [measured(Bank.read(folder), liked) for folder in folders if (folder / "result.json").exists()]
        if banks:
            cells = [over_seeds([bank[column] for bank in banks], column) for column in COLUMNS]
            lines.append(f"| {name} | {len(banks)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def over_seeds(seeds: Sequence[Sequence[float]], column: str) -> str:
    """The mean, its interval where it is a share of all problems, and the mean of every seed."""
    means = [fmean(values) for values in seeds]
    spread = f" [{', '.join(shown(mean, column) for mean in means)}]" if len(means) > 1 else ""
    if column in ("turns", "liked") or len({len(values) for values in seeds}) > 1:
        return shown(fmean(means), column) + spread
    found = interval([fmean(values) for values in zip(*seeds, strict=True)])
    return f"{shown(found.value, column)} ({shown(found.low, column)} to {shown(found.high, column)}){spread}"


def shown(value: float, column: str) -> str:
    return f"{value:.2f}" if column in ("turns", "liked") else f"{100 * value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/deliberate_reward"))
    parser.add_argument("--arms", default=",".join(ARMS), help="all, preference, steps, window")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=8)
    given = parser.parse_args()
    out = given.out.resolve()
    prepare(out)
    size = {"split": "test", "problems": given.problems, "samples": given.samples}
    draw(out / "base", out / "exam_base", **size)
    for seed in range(given.seeds):
        for arm in given.arms.split(","):
            run = train(out, arm, seed)
            draw(run, out / f"exam_{run.name}", **size)
            write_atomic(out / "table.md", table(out) + "\n")
            print(table(out), flush=True)


if __name__ == "__main__":
    main()
