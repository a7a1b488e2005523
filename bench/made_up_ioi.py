"""A made-up olympiad: six problems of `pipes` with subtasks, 50 submissions each, chosen from many samples.

    python bench/made_up_ioi.py --model runs/pipes_2_base --model runs/pipes_rl --samples 1000 --years 5

As o1's announcement tells of IOI 2024 (213 points of 600 with 50 chosen submissions, 156 with 50 random ones, 362 with
10,000). Every year has six problems of 100 points in three subtasks; scores are the best of each subtask over the
submissions. The contest's system tells the points of every submission and nothing else (ponder/evals/submissions.py).

Rows: 50 at random in closed form; the filter by public examples; the whole procedure; what all samples together get,
which is the 10,000 row where that many are drawn, and the oracle that knows which 50 to take, since three would do.
Intervals are over problems, times six; the differences are paired. Samples are kept: the same command goes on, and more
samples, years or models add to what is there. Ten thousand samples of a problem are drawn in parts.

It does not measure how hard an olympiad this is: nobody has taken part in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from ponder.cli.loading import close, describe, open_engine
from ponder.evals.bank import Bank
from ponder.evals.entries import Entry, entries_of
from ponder.evals.exams import run_exam
from ponder.evals.executions import execute_bank
from ponder.evals.ladder import DRAWS, RUNGS
from ponder.evals.program_runners import open_runner
from ponder.evals.replay import random_orders
from ponder.evals.stats import Estimate, interval, paired_difference
from ponder.evals.submissions import IOI, coverage, random_score, scores_of
from ponder.live import Bar
from ponder.runs import machine
from ponder.strategies.programs import Choosing, prepare
from ponder.tasks import load_task
from ponder.types import SamplingParams

PROBLEMS = 6  # of a year
FULL = 100.0  # points of a problem
WAYS = {"public examples": RUNGS["public examples"], "public + clusters": RUNGS["public + clusters"], "all": Choosing()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="as for ponder eval; several, to compare")
    parser.add_argument("--task", default="pipes:level=1-3,examples=2", help="a task of the family pipes")
    parser.add_argument("--samples", type=int, default=1000, help="of every problem")
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--submissions", type=int, default=IOI.limit)
    parser.add_argument("--max-reasoning-tokens", type=int, default=224)
    parser.add_argument("--draws", type=int, default=DRAWS, help="orders of the samples, by which ties are broken")
    parser.add_argument("--out", type=Path, default=Path("runs/made_up_ioi"))
    options = parser.parse_args()
    found = {}
    for model in options.model:
        bank = sampled(model, options)
        runner, points_of = open_runner(options.task)
        entries = entries_of(bank, execute_bank(bank, runner, "pipes").table, runner, points_of=points_of)
        entries.sort(key=lambda entry: int(entry.id.rpartition("/")[2]))  # a year is six in a row
        entries = entries[: PROBLEMS * options.years]  # a bank may hold more years, of fewer samples
        assert all(len(entry.hidden) >= options.samples for entry in entries), "problems without all of their samples"
        found[model] = by_problem(entries, options)
    print(table(found, options))
    result = {"command": " ".join(sys.argv), "machine": machine(), "points": {m: f for m, f in found.items()}}
    (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def sampled(model: str, options: argparse.Namespace) -> Bank:
    """The samples of all years, drawn or continued."""
    facts, out = describe(model, None), options.out / Path(model).name
    engine = open_engine(model, None)
    try:
        with Bar(Console(stderr=True), "draw") as bar:
            exam = run_exam(
                load_task(options.task, split="test"), engine, model=facts.name, fingerprint=facts.fingerprint,
                name=options.task, num_samples=options.samples, limit=PROBLEMS * options.years, out=out,
                params=SamplingParams(max_reasoning_tokens=options.max_reasoning_tokens), training=facts.training,
                on_progress=lambda done, total, share: bar("", done, total, share),
            )  # fmt: skip
            asyncio.run(exam)
    finally:
        close(engine)
    return Bank.read(out)


def by_problem(entries: list[Entry], options: argparse.Namespace) -> dict[str, list[float]]:
    """A row of the table -> the points of every problem, of 100; a year is six in a row."""
    b, rules = options.submissions, replace(IOI, limit=options.submissions)
    rows: dict[str, list[float]] = {f"{b} at random": [random_score(e.hidden, min(b, len(e.hidden))) for e in entries]}
    for name, way in WAYS.items():
        scores = []
        for number, entry in enumerate(entries):
            print(f"{name}: problem {number + 1} of {len(entries)}", file=sys.stderr, flush=True)
            contest, prepared = entry.contest(rules), prepare(entry.pools[""], way, entry.goals)
            orders = random_orders(entry.id, len(entry.hidden), options.draws)
            scores.append(float(np.mean([scores_of(prepared, contest, entry.id, b, order)[0][-1] for order in orders])))
        rows[f"{b} by {name}"] = scores
    rows[f"all {options.samples} (and the oracle)"] = [coverage(entry.hidden) for entry in entries]
    return rows


def table(found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> str:
    """Markdown: points of 600, means over years with intervals; and how much more than at random."""
    lines = ["| submissions | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in next(iter(found.values())):
        cells = []
        for rows in found.values():
            floor, own = ([value / FULL for value in each] for each in (next(iter(rows.values())), rows[name]))
            more = "" if own == floor else f"; {span(paired_difference(floor, own), sign='+')} to random"
            cells.append(span(interval(own)) + more)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    sizes = f"{options.years * PROBLEMS} problems ({options.task}), {options.samples} samples a problem"
    return "\n".join([*lines, f"\nPoints of 600, mean and 95 % interval over {sizes}; {options.draws} orders."])


def span(share: Estimate, sign: str = "") -> str:
    """A share of the points as points of a year, with its interval."""
    value, low, high = (f"{PROBLEMS * FULL * each:{sign}.0f}" for each in (share.value, share.low, share.high))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
