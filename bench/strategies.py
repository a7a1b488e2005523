"""Every strategy, live, on one task: accuracy against what it cost, the scorer included.

    python bench/strategies.py --model nano --task arithmetic:level=1-4 --scorer runs/scorer_nano
    python bench/strategies.py --model smollm2-ponder --task gsm8k --problems 50 --modes consensus search revise

    python bench/strategies.py --modes single consensus:n=4 deliberate:m=1 deliberate:m=4,choice=vote
    python bench/strategies.py --deliberate --problems 400          # m = 1, 2, 4, 8 by each choice, beside one chain

Strategies that only choose are replayed exactly by `ponder scale BANK`; this runs them as `ponder ask --mode` does,
beside those that change what is drawn (search over steps, tree search, forcing, revision). All problems of a strategy
run at once and share the engine's batches. FLOPs are tokens read and drawn times the cost of one (a prefix read
again counts again, as the engine reads it again; candidates of one turn read theirs once), a scorer's tokens at the
cost of the policy's. A mode may have options after a colon. Prints a table and JSON lines; intervals are over problems,
and a gain is over the first mode, on the same problems. Of deliberation also: turns a trajectory, the share of distinct
candidates in a turn, choices that named none, and how trajectories ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import common  # noqa: F401 - this tree, whatever is installed

from ponder.cli.loading import close, describe, open_engine
from ponder.config import lookup
from ponder.evals.stats import interval, paired_difference
from ponder.scorers import load_scorer
from ponder.strategies import STRATEGIES, flops
from ponder.strategies.base import parse_options
from ponder.strategies.deliberation_environment import CHOICES
from ponder.strategies.turns import Trajectory, diversity
from ponder.tasks import load_task
from ponder.types import Budget, Problem, SamplingParams, Usage, text_seed

MODES = (
    "single", "consensus", "adaptive", "confident", "best_of_n", "weighted", "rerank_vote", "search", "dvts", "mcts",
    "forced", "revise",
)  # fmt: skip


DELIBERATE = ("single", "deliberate:m=1", *(f"deliberate:m={m},choice={c}" for m in (2, 4, 8) for c in sorted(CHOICES)))


def parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """`deliberate:m=4,choice=vote` -> ("deliberate", {"m": 4, "choice": "vote"})."""
    name, _, rest = spec.partition(":")
    lookup(STRATEGIES, name, what="mode")
    options: dict[str, Any] = dict(parse_options([part for part in rest.split(",") if part]))
    return name, options


async def measure(
    spec: str, problems: list[Problem], task: Any, engine: Any, scorer: Any, arguments: Any
) -> tuple[dict[str, Any], list[float]]:
    """One strategy on all problems at once: a row of numbers, and 1.0 or 0.0 for each problem."""
    mode, options = parsed(spec)
    if mode not in ("single", "deliberate"):
        options = {"n": arguments.n} | options
    trajectories: list[Trajectory] = []
    if mode == "deliberate":
        options["record"] = trajectories.append

    async def one(problem: Problem) -> tuple[bool, Usage]:
        params = SamplingParams(
            max_reasoning_tokens=arguments.reasoning, max_answer_tokens=arguments.answer,
            seed=text_seed(arguments.seed, mode, problem.id),
        )  # fmt: skip
        solution = await STRATEGIES[mode](
            problem.prompt, engine, params=params, key=lambda answer: task.key(problem, answer), scorer=scorer,
            budget=Budget(max_tokens=arguments.budget), **options,
        )  # fmt: skip
        return task.verify(problem, solution.answer).is_correct, solution.usage

    results = await asyncio.gather(*(one(problem) for problem in problems))
    total = Usage()
    for _, usage in results:
        total += usage
    rights = [float(correct) for correct, _ in results]
    right, count = interval(rights), len(problems)
    row = {
        "mode": spec, "accuracy": right.value, "low": right.low, "high": right.high, "problems": count,
        "calls": total.samples / count, "tokens": total.completion_tokens / count,
        "read": total.prompt_tokens / count, "scorer_tokens": total.scorer_tokens / count,
        "flops": flops(total, per_token=arguments.per_token, scorer_per_token=arguments.per_token) / count,
    }  # fmt: skip
    return row | deliberated(trajectories), rights


def deliberated(played: Sequence[Trajectory]) -> dict[str, Any]:
    """What trajectories were like; empty for other strategies."""
    if not played:
        return {}
    shares = [share for share in (diversity(one.turns) for one in played) if not math.isnan(share)]
    choices = sum(one.counts.get("choices", 0) for one in played)
    return {
        "turns": sum(one.num_turns for one in played) / len(played),
        "distinct": sum(shares) / len(shares) if shares else None,
        "choices": choices / len(played),
        "choice_unparsed": sum(one.counts.get("choice_unparsed", 0) for one in played) / choices if choices else None,
        "ended": {why: count / len(played) for why, count in sorted(Counter(one.ended for one in played).items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--task", default="arithmetic:level=1-4")
    parser.add_argument("--scorer", help="what `ponder scorer` made; without one, confidence ranks")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--n", type=int, default=8, help="each strategy's own n")
    parser.add_argument("--budget", type=int, help="completion tokens a problem")
    parser.add_argument("--reasoning", type=int, default=256, help="tokens of reasoning a sample, at most")
    parser.add_argument("--modes", nargs="*", default=MODES, metavar="MODE[:NAME=VALUE,...]")
    parser.add_argument("--deliberate", action="store_true", help="m = 1, 2, 4, 8 by each choice, beside one chain")
    parser.add_argument("--answer", type=int, default=16, help="tokens of an answer, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    modes = DELIBERATE if arguments.deliberate else arguments.modes
    for spec in modes:
        parsed(spec)  # a word that is wrong is said before anything is drawn
    task = load_task(arguments.task, split="test")
    problems = [task[i] for i in range(min(arguments.problems, len(task)))]
    scorer = load_scorer(arguments.scorer) if arguments.scorer else None
    arguments.per_token = describe(arguments.model, None).flops_per_token(64)
    engine = open_engine(arguments.model, None)
    width = max(map(len, modes))
    print(f"{'mode':{width}} {'accuracy':>20} {'gain':>22} {'calls':>6} {'tokens':>7} {'read':>7} {'scorer':>7} "
          f"{'FLOPs':>9} {'turns':>6} {'distinct':>8}")  # fmt: skip
    first: list[float] | None = None
    try:
        for spec in modes:
            row, rights = asyncio.run(measure(spec, problems, task, engine, scorer, arguments))
            if first is None:
                first, gain = rights, ""
            else:
                found = paired_difference(first, rights)
                row["gain"] = {"value": found.value, "low": found.low, "high": found.high}
                gain = f"{found.value:+.1%} ({found.low:+.1%}, {found.high:+.1%})"
            shown = f"{row['accuracy']:.1%} ({row['low']:.1%}-{row['high']:.1%})"
            turns = f"{row['turns']:6.1f} {row['distinct'] or 1:8.2f}" if "turns" in row else ""
            print(
                f"{spec:{width}} {shown:>20} {gain:>22} {row['calls']:6.1f} {row['tokens']:7.0f} {row['read']:7.0f} "
                f"{row['scorer_tokens']:7.0f} {row['flops']:9.2e} {turns}\n{json.dumps(row)}",
                flush=True,
            )
    finally:
        close(engine)


if __name__ == "__main__":
    main()
