"""Every strategy, live, on one task: accuracy against what it cost, the scorer included.

    python bench/strategies.py --model nano --task arithmetic:level=1-4 --scorer runs/scorer_nano
    python bench/strategies.py --model smollm2-ponder --task gsm8k --problems 50 --modes consensus search revise

Strategies that only choose are replayed exactly by `ponder scale BANK`; this runs them as `ponder ask --mode` does,
beside those that change what is drawn (search over steps, tree search, forcing, revision). All problems of a strategy
run at once and share the engine's batches. FLOPs are tokens read and drawn times the cost of one (a prefix read
again counts again), a scorer's tokens at the cost of the policy's. Prints a table and JSON lines; intervals are over
problems.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import common  # noqa: F401 - this tree, whatever is installed

from ponder.cli import close, describe, open_engine
from ponder.evals.stats import interval
from ponder.scorers import load_scorer
from ponder.strategies import STRATEGIES, flops
from ponder.tasks import load_task
from ponder.types import Budget, Problem, SamplingParams, Usage, text_seed

MODES = (
    "single", "consensus", "adaptive", "confident", "best_of_n", "weighted", "rerank_vote", "search", "dvts", "mcts",
    "forced", "revise",
)  # fmt: skip


async def sit(
    mode: str, problems: list[Problem], task: Any, engine: Any, scorer: Any, arguments: Any
) -> dict[str, Any]:
    """One strategy on all problems at once."""

    async def one(problem: Problem) -> tuple[bool, Usage]:
        params = SamplingParams(
            max_reasoning_tokens=arguments.reasoning, max_answer_tokens=16, seed=text_seed(mode, problem.id)
        )
        solution = await STRATEGIES[mode](
            problem.prompt, engine, params=params, key=lambda answer: task.key(problem, answer), scorer=scorer,
            budget=Budget(max_tokens=arguments.budget), **({} if mode == "single" else {"n": arguments.n}),
        )  # fmt: skip
        return task.verify(problem, solution.answer).is_correct, solution.usage

    results = await asyncio.gather(*(one(problem) for problem in problems))
    total = Usage()
    for _, usage in results:
        total += usage
    right, count = interval([float(correct) for correct, _ in results]), len(problems)
    return {
        "mode": mode, "accuracy": right.value, "low": right.low, "high": right.high, "problems": count,
        "calls": total.samples / count, "tokens": total.completion_tokens / count,
        "read": total.prompt_tokens / count, "scorer_tokens": total.scorer_tokens / count,
        "flops": flops(total, per_token=arguments.per_token, scorer_per_token=arguments.per_token) / count,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--task", default="arithmetic:level=1-4")
    parser.add_argument("--scorer", help="what `ponder scorer` made; without one, confidence ranks")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--n", type=int, default=8, help="each strategy's own n")
    parser.add_argument("--budget", type=int, help="completion tokens a problem")
    parser.add_argument("--reasoning", type=int, default=256, help="tokens of reasoning a sample, at most")
    parser.add_argument("--modes", nargs="*", default=MODES, choices=sorted(STRATEGIES))
    arguments = parser.parse_args()
    task = load_task(arguments.task, split="test")
    problems = [task[i] for i in range(min(arguments.problems, len(task)))]
    scorer = load_scorer(arguments.scorer) if arguments.scorer else None
    arguments.per_token = describe(arguments.model, None)["flops_per_token"](64)
    engine = open_engine(arguments.model, None)
    print(f"{'mode':12} {'accuracy':>22} {'calls':>6} {'tokens':>7} {'read':>7} {'scorer':>7} {'FLOPs':>9}")
    try:
        for mode in arguments.modes:
            row = asyncio.run(sit(mode, problems, task, engine, scorer, arguments))
            told = f"{row['accuracy']:.1%} ({row['low']:.1%}-{row['high']:.1%})"
            print(
                f"{mode:12} {told:>22} {row['calls']:6.1f} {row['tokens']:7.0f} {row['read']:7.0f} "
                f"{row['scorer_tokens']:7.0f} {row['flops']:9.2e}\n{json.dumps(row)}",
                flush=True,
            )
    finally:
        close(engine)


if __name__ == "__main__":
    main()
