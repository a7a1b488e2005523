"""A model that writes programs, before and after RL: functions chosen from samples; GSM8K by programs and by chains.

    PONDER_DATA=... python bench/code_exams.py functions --model qwen2.5-coder-0.5b --model runs/rl_code_qwen05
    PONDER_DATA=... python bench/code_exams.py gsm8k --model qwen2.5-coder-0.5b --model runs/rl_programs_qwen05

functions: HumanEval, and MBPP's test set with one assert shown; pass@1 and pass@10, and what one and ten submissions
get when they are chosen by the public examples, by clusters of behaviour, and by both.

gsm8k: the report part; pass@1, the vote and the confidence-weighted vote of programs, and of the same model's chains
of thought (zero-shot, "Let's think step by step."), half as many, for they are twice as long; then both at equal FLOPs:
the vote of k programs against that of as many chains as the same FLOPs pay for, rounded up. A bank that `ponder score`
has scored gets its weighted vote too.

Every later model is compared with the first, problem by problem. Samples are kept under --out, and the same command
goes on where it stopped; more --samples or a larger --limit add to what is there. Intervals are 95 %, over problems.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from paired import Rates, compared, drawn, folder_of, span

from ponder.cli.choosing import run_programs
from ponder.evals.accuracy_at_compute import PlainVotes, ProblemCost, complete_scorers
from ponder.evals.bank import Bank, Samples
from ponder.evals.ladder import RUNGS, scores_by_problem
from ponder.evals.replay import CONFIDENT, SCORED, Replay, Rule
from ponder.evals.results import ExamResult
from ponder.evals.stats import interval, paired_difference, pass_at, powers_up_to
from ponder.evals.submissions import CODEFORCES
from ponder.runs import machine
from ponder.strategies.programs import NOTHING
from ponder.tasks import load_task
from ponder.tasks.parts import Part, with_part
from ponder.tasks.prompting import Prompted
from ponder.types import SamplingParams

SETS = ("humaneval", "mbpp:shown=1")
WAYS = {"random": NOTHING} | {name: RUNGS[name] for name in ("public examples", "clusters", "public + clusters")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exam", choices=("functions", "gsm8k"))
    parser.add_argument("--model", action="append", required=True, help="as for ponder eval; the first is the base")
    parser.add_argument("--samples", type=int, help="of every problem; default 20, gsm8k 64 programs")
    parser.add_argument("--limit", type=int, help="only the first problems; default all, gsm8k 100")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--int8", action="store_true", help="sample with int8 products: faster, not quite as exact")
    parser.add_argument("--out", type=Path, default=Path("runs/code_exams"))
    options = parser.parse_args()
    shown = functions(options) if options.exam == "functions" else gsm8k(options)
    for lines in shown:
        print("\n".join(lines) + "\n")
    facts = {"command": " ".join(sys.argv), "machine": machine(), "tables": shown}
    (options.out / f"{options.exam}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


# --- functions ---------------------------------------------------------------------------------------------------


def functions(options: argparse.Namespace) -> list[list[str]]:
    tables = []
    samples = options.samples or 20
    for task in SETS:
        rows = {}
        for model in options.model:
            bank, _ = exam(options, task, model, "functions", samples, max_reasoning_tokens=0, max_answer_tokens=400)
            _, entries = run_programs(bank, by_subtask=False)
            entries.sort(key=lambda entry: entry.id)
            budgets = [b for b in (1, 10) if b <= samples]
            rates: Rates = {}
            for name, way in WAYS.items():
                found = scores_by_problem(entries, way, rules=CODEFORCES, budgets=budgets)
                for b, column in zip(budgets, found.T, strict=True):
                    rates[f"{name}, b = {b}" if name != "random" else f"pass@{b}"] = column.tolist()
            rows[model] = rates
        title = f"{task}: {len(entries)} problems, {samples} samples at temperature {options.temperature:g}"
        tables.append([title, "", *compared(rows)])
    return tables


# --- GSM8K -------------------------------------------------------------------------------------------------------


def gsm8k(options: argparse.Namespace) -> list[list[str]]:
    options.limit = options.limit or 100
    samples = options.samples or 64
    drawn_of = {"programs": samples, "chains": -(-samples // 2)}
    rows: dict[str, Rates] = {}
    matched = []
    for model in options.model:
        own = {}
        for way, count in drawn_of.items():
            bank, result = exam(options, "gsm8k", model, way, count, max_reasoning_tokens=320, max_answer_tokens=320)
            tables = bank.tables()
            rows[f"{model}, {way}"] = votes_of(bank, tables, count)
            assert result.flops.per_token is not None, "a local model's FLOPs are known"
            own[way] = tables, [ProblemCost(table, result.flops.per_token) for table in tables]
        matched += at_equal_flops(model, own)
    counts = " and ".join(f"{count} {way}" for way, count in drawn_of.items())
    title = f"GSM8K, report part: {options.limit} problems, {counts} of each at temperature {options.temperature:g}"
    head = "| model | k | programs: vote of k | GFLOPs | chains for them | their vote | programs - chains |"
    return [[title, "", *compared(rows)], ["At equal FLOPs", "", head, "|---" * 7 + "|", *matched]]


def votes_of(bank: Bank, tables: Sequence[Samples], k: int) -> Rates:
    """pass@1, and the votes of k: plain, by the policy's own confidence, and by each scorer that has scored all."""
    rates: Rates = {"pass@1": [pass_at(len(t), int(t.correct.sum()), 1) for t in tables]}
    weighted: list[tuple[str, Rule, str]] = []
    if all(np.isfinite(t.mean_logprob[t.classes >= 0]).all() for t in tables):
        weighted.append((f"confidence-weighted vote of {k}", CONFIDENT["confidence-weighted vote"], ""))
    for scorer in complete_scorers(tables, bank.scorers)[0]:
        weighted.append((f"vote of {k} weighted by {scorer}", SCORED["weighted vote"], scorer))
    replays = [Replay(t) for t in tables]
    rates[f"cons@{k}"] = [replay.consensus(k) for replay in replays]
    for name, rule, scorer in weighted:
        scores = [t.scores[scorer] if scorer else np.empty(0) for t in tables]
        rates[name] = [float(rule(r, k, s).rates.mean()) for r, s in zip(replays, scores, strict=True)]
    rates["tokens"] = [float(t.tokens.mean()) for t in tables]
    return rates


def at_equal_flops(model: str, own: dict[str, tuple[list[Samples], list[ProblemCost]]]) -> list[str]:
    """Rows: the vote of k programs beside that of the chains that the same FLOPs pay for."""
    votes = {way: PlainVotes([Replay(t) for t in tables], costs, "flops") for way, (tables, costs) in own.items()}
    programs, chains = votes["programs"], votes["chains"]
    lines = []
    for k in powers_up_to(programs.max):
        cost = programs.prompt + k * programs.sample
        same = chains.affordable(cost)
        mine, theirs = programs.rates(k), chains.rates(same)
        all_ = " (all)" if same == chains.max else ""
        lines.append(
            f"| {model} | {k} | {span(interval(mine))} | {cost / 1e9:.0f} | {same}{all_} | {span(interval(theirs))} | "
            f"{span(paired_difference(theirs, mine), '+')} |"
        )
    return lines


def exam(
    options: argparse.Namespace, task: str, model: str, way: str, samples: int, **params: int
) -> tuple[Bank, ExamResult]:
    problems, name = load_task(task, split="test"), task
    if task == "gsm8k":
        problems, name = Part(problems, "report"), with_part(task, "report")
    if way == "chains":
        problems = Prompted(problems, "zero_shot_cot")
    return drawn(
        problems, model, folder_of(options.out, task, model, way), name=name, samples=samples, limit=options.limit,
        params=SamplingParams(temperature=options.temperature, **params), int8=options.int8,
        environment=way if way == "programs" else None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
