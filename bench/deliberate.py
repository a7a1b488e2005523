"""Deliberation against one chain of thought, at equal FLOPs of test time: each a policy of its own, by checkpoints.

    python bench/deliberate.py --task arithmetic:level=1-4 --out runs/bench/deliberate.jsonl \\
        --chain "chain, cold start=runs/chain_sft" --chain "chain, RL=runs/chain" \\
        --deliberate "cold start=runs/deliberate_sft" --deliberate "RL=runs/deliberate" --m 1 2 4 8

A chain is sampled --chain-samples times a problem, a deliberation --samples times with each m; the answers are kept in
--out, a line a case, and a case that is there is not drawn again. What is computed from them:

    accuracy of one sample and of votes of k, with what they cost (FLOPs of every token read and drawn, by its place;
    candidates of a turn read their state once), and the FLOPs of training up to the checkpoint, cold start included
    equal FLOPs: against each deliberation the largest vote of each chain that costs no more, paired over problems
    of deliberations: turns, how they ended, distinct candidates, how often a choice between a true and a false
    candidate took a true one (a calculation that comes out; a letter that lies half-way; a right answer)

Intervals are 95 %, over problems and samples. All trajectories of a case run at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import common  # noqa: F401 - this tree, whatever is installed

from ponder.engine.local import LocalEngine
from ponder.evals.stats import Estimate, cons_at, interval, paired_difference, powers_up_to
from ponder.models import hub
from ponder.rollouts.collect import environment as rollouts_of
from ponder.runs import revision
from ponder.strategies.deliberation_environment import Deliberation, distinct, parse_candidate
from ponder.strategies.turns import Trajectory, diversity
from ponder.tasks import load_task
from ponder.train.deliberations import is_true
from ponder.train.metrics import draws_of, forward_flops
from ponder.types import Problem, Rollout, SamplingParams, Verdict, text_seed

Row = dict[str, Any]


async def chain(engine: LocalEngine, task: Any, problem: Problem, params: SamplingParams, n: int) -> Row:
    """n chains of one problem: their answers, and what each costs alone."""
    drawn = await engine.generate(problem.prompt, params, n=n)
    prompt = forward_flops(engine.config, {drawn[0].prompt_ids: []})
    own = [forward_flops(engine.config, {c.prompt_ids: [len(c.token_ids)]}) - prompt for c in drawn]
    return judged(task, problem, [c.answer for c in drawn]) | {
        "prompt": prompt, "sample": fmean(own), "tokens": fmean(len(c.token_ids) for c in drawn)
    }  # fmt: skip


async def deliberation(
    engine: LocalEngine, task: Any, problem: Problem, params: SamplingParams, n: int, environment: Deliberation
) -> Row:
    """n trajectories of one problem; each reads its prompt for itself."""
    found = await rollouts_of(engine, environment, task)(problem, params, n)
    cost = [forward_flops(engine.config, draws_of(_rollout(problem, one))) for one in found]
    choices = [good for one in found for good in judged_choices(task, problem, one)]
    shares = [share for one in found if not math.isnan(share := diversity(one.turns))]
    return judged(task, problem, [one.answer for one in found]) | {
        "prompt": 0.0, "sample": fmean(cost),
        "tokens": fmean(sum(t.completion.num_tokens for t in one.turns) for one in found),
        "turns": fmean(one.num_turns for one in found),
        "ended": dict(Counter(one.ended for one in found)), "blank": sum(not one.answer.strip() for one in found),
        "choices": len(choices), "choices_right": sum(choices), "distinct": fmean(shares) if shares else None,
        "asked": sum(one.counts.get("choices", 0) for one in found),
        "unparsed": sum(one.counts.get("choice_unparsed", 0) for one in found),
    }  # fmt: skip


def _rollout(problem: Problem, one: Trajectory) -> Rollout:
    verdict = Verdict(outcome="wrong", reward=0.0)
    return Rollout(problem=problem, turns=one.turns, verdict=verdict, reward=0.0, ended=one.ended, whole=one.completion)


def judged(task: Any, problem: Problem, answers: Sequence[str]) -> Row:
    """Answer class -> samples, right samples; those without an answer apart."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    blank = 0
    for answer in answers:
        key = task.key(problem, answer) if answer.strip() else None
        if key is None:
            blank += 1
            continue
        counts[key][0] += 1
        counts[key][1] += task.verify(problem, answer).is_correct
    return {"id": problem.id, "classes": list(counts.values()), "none": blank}


def judged_choices(task: Any, problem: Problem, one: Trajectory) -> list[bool]:
    """Of each choice between true and false candidates: whether it took a true one."""
    result = []
    for choice in one.choices:
        turns = [turn for turn in one.turns if turn.kind == "candidate" and turn.number == choice.number]
        chosen = {step.line for step in distinct([parse_candidate(turn) for turn in turns if turn.chosen])}
        good = {
            step.line: task.verify(problem, step.answer).is_correct
            if step.kind == "answer" else is_true(problem, step.question, step.answer)
            for step in distinct([parse_candidate(turn) for turn in turns])
        }  # fmt: skip
        if len(set(good.values())) == 2:
            result += [good[line] for line in chosen]
    return result


async def draw(case: Row, engine: LocalEngine, task: Any, problems: Sequence[Problem], a: Any) -> list[Row]:
    """All problems of a case at once."""

    def params(problem: Problem) -> SamplingParams:
        seed = text_seed(a.seed, case["kind"], case["m"], problem.id)
        return SamplingParams(max_reasoning_tokens=a.reasoning, max_answer_tokens=16, seed=seed)

    environment = Deliberation(m=case["m"] or 1, turns=a.turns, choice=a.choice, turn_tokens=32, force=a.force,
                               encode=engine.tokenizer.encode)  # fmt: skip
    begun, done = time.monotonic(), 0

    async def one(problem: Problem) -> Row:
        nonlocal done
        if case["kind"] == "chain":
            row = await chain(engine, task, problem, params(problem), case["samples"])
        else:
            row = await deliberation(engine, task, problem, params(problem), case["samples"], environment)
        done += 1
        if done % 20 == 0 or done == len(problems):
            line = f"{case['label']} m={case['m']}: {done}/{len(problems)} problems, {time.monotonic() - begun:.0f} s"
            print(line, file=sys.stderr, flush=True)
        return row

    return list(await asyncio.gather(*(one(problem) for problem in problems)))


# ---- numbers -------------------------------------------------------------------------------------------------------


def rates(case: Row, k: int) -> list[float]:
    """The chance that a vote of k is right, a problem."""
    return [
        cons_at([c for c, _ in p["classes"]], [good for _, good in p["classes"]], k, blank=p["none"])
        for p in case["problems"]
    ]


def cost(case: Row, k: int) -> float:
    """Mean FLOPs a problem of k samples."""
    return fmean(p["prompt"] + k * p["sample"] for p in case["problems"])


def affordable(case: Row, flops: float) -> int:
    """The largest vote that costs no more than `flops`; at least 1."""
    return max([1, *(k for k in range(1, case["samples"] + 1) if cost(case, k) <= flops)])


def shown(e: Estimate, sign: str = "") -> str:
    return f"{100 * e.value:{sign}.1f} % ({100 * e.low:{sign}.1f} to {100 * e.high:{sign}.1f})"


def train_flops(reference: str) -> float:
    """Of a checkpoint, and of the runs that it began from."""
    folder = hub.resolve(reference)
    own = folder / "checkpoint.json"
    if not own.exists():
        return 0.0
    recipe = tomllib.loads((folder.parent.parent / "config.toml").read_text())
    before = train_flops(recipe["model"]) if recipe.get("model") else 0.0
    return before + float(json.loads(own.read_text()).get("train_flops", 0.0))


def tables(cases: Sequence[Row]) -> str:
    lines = [
        "| policy | m | train FLOPs | votes k | accuracy | FLOPs a problem | tokens a sample |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        for k in powers_up_to(case["samples"]):
            found = interval(rates(case, k), draws=case["samples"] // k)
            tokens = fmean(p["tokens"] for p in case["problems"])
            lines.append(f"| {case['label']} | {case['m'] or ''} | {case['train_flops']:.2g} | {k} | {shown(found)} | "
                         f"{cost(case, k):.2e} | {tokens:.0f} |")  # fmt: skip
    lines += [
        "",
        "| deliberation | m | turns | no answer | ended | distinct | choices | unparsed | true one taken |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours = [case for case in cases if case["kind"] == "deliberate"]
    for case in ours:
        rows = case["problems"]
        drawn = len(rows) * case["samples"]
        ended: Counter[str] = Counter()
        for p in rows:
            ended.update(p["ended"])
        shares = [p["distinct"] for p in rows if p["distinct"] is not None]
        asked, between = sum(p["asked"] for p in rows), sum(p["choices"] for p in rows)
        right = f"{sum(p['choices_right'] for p in rows) / between:.0%} of {between}" if between else ""
        lines.append(
            f"| {case['label']} | {case['m']} | {fmean(p['turns'] for p in rows):.2f} | "
            f"{sum(p['blank'] for p in rows) / drawn:.1%} | "
            f"{', '.join(f'{name} {count / drawn:.1%}' for name, count in sorted(ended.items()))} | "
            f"{fmean(shares) if shares else 1:.2f} | {asked / drawn:.2f} | "
            f"{sum(p['unparsed'] for p in rows) / asked if asked else 0:.1%} | {right} |"
        )
    lines += [
        "",
        "| at equal FLOPs | m | accuracy | against | votes k | its accuracy | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in ours:
        for other in cases:
            if other is case or (
                other["kind"] == "deliberate" and (other["label"] != case["label"] or other["m"] != 1)
            ):
                continue
            k = affordable(other, cost(case, 1))
            mine, theirs = rates(case, 1), rates(other, k)
            lines.append(
                f"| {case['label']} | {case['m']} | {shown(interval(mine, draws=case['samples']))} | {other['label']}"
                f"{', m=1' if other['m'] else ''} | {k}{' (all drawn)' if k == other['samples'] else ''} | "
                f"{shown(interval(theirs, draws=other['samples'] // k))} | "
                f"{shown(paired_difference(theirs, mine), '+')} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="arithmetic:level=1-4")
    parser.add_argument("--chain", action="append", default=[], metavar="LABEL=MODEL")
    parser.add_argument("--deliberate", action="append", default=[], metavar="LABEL=MODEL")
    parser.add_argument("--m", type=int, nargs="*", default=[4])
    parser.add_argument("--samples", type=int, default=8, help="trajectories a problem")
    parser.add_argument("--chain-samples", type=int, default=64)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--reasoning", type=int, default=192, help="tokens of reasoning a sample, at most")
    parser.add_argument("--choice", default="policy")
    parser.add_argument("--force", action="store_true", help="an answer by force where a trajectory ends without one")
    parser.add_argument("--workers", type=int, default=None, help="processes; default one a core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/deliberate.jsonl"))
    a = parser.parse_args()
    task = load_task(a.task, split="test")
    problems = [task[i] for i in range(min(a.problems, len(task)))]
    wanted = []
    for kind, named, ms in (("chain", a.chain, [0]), ("deliberate", a.deliberate, a.m)):
        for label, _, model in (one.partition("=") for one in named):
            wanted += [
                {"kind": kind, "label": label, "model": model, "m": m, "task": a.task, "num_problems": len(problems),
                 "samples": a.chain_samples if kind == "chain" else a.samples, "seed": a.seed, "turns": a.turns,
                 "choice": a.choice, "reasoning": a.reasoning, "force": a.force}
                for m in ms
            ]  # fmt: skip
    a.out.parent.mkdir(parents=True, exist_ok=True)
    text = a.out.read_text() if a.out.exists() else ""
    known = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    a.out.write_text(text[: text.rfind("\n") + 1])  # without a line that a kill cut short
    cases = []
    engine: LocalEngine | None = None
    for case in wanted:
        case["fingerprint"] = hub.fingerprint(hub.resolve(case["model"]))
        found = next((row for row in known if case.items() <= row.items()), None)
        if found is None:
            model, tokenizer = hub.load(case["model"], dtype=None)  # as it is stored
            if engine is None:
                engine = LocalEngine(model, tokenizer, num_workers=a.workers)
            else:
                engine.update_weights(model.state_dict(), version=engine.policy_version + 1)
            begun = time.monotonic()
            rows = asyncio.run(draw(case, engine, task, problems, a))
            found = case | {"train_flops": train_flops(case["model"]), "revision": revision(),
                            "seconds": time.monotonic() - begun, "problems": rows}  # fmt: skip
            with a.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
        cases.append(found)
    if engine is not None:
        engine.close()
    print(tables(cases), flush=True)


if __name__ == "__main__":
    main()
