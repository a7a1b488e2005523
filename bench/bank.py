"""How long a bank takes to open, and the votes of all its problems: python bench/bank.py --problems 500 --samples 1000

The bank is made up: 40 tokens a sample, a dozen or so answer classes a problem, written by the same code as any bank.
Nothing is compared with; the targets (500,000 samples open in 2 s, cons@64 of all in 5 s) are the issue's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # this tree, whatever is installed

from ponder.evals.bank import Bank, BankSpec, SampleRow
from ponder.evals.exams import vote_rate_at
from ponder.types import Message, Problem, SamplingParams

SPEC = BankSpec(task="made up", split="test", model="none", params=SamplingParams())


def made_up_rows(rng: np.random.Generator, name: str, num_samples: int, num_tokens: int) -> list[SampleRow]:
    """Samples of one problem whose answers fall off like a geometric series."""
    answers = rng.geometric(rng.uniform(0.1, 0.6), num_samples)
    right = int(rng.integers(1, 4))
    logprobs = np.round(-rng.exponential(0.4, (num_samples, num_tokens)), 4).astype(np.float32)
    tokens = rng.integers(0, 300, (num_samples, num_tokens))
    return [
        SampleRow(
            problem=name, sample=j, seed=j, answer_class=str(answer), outcome="correct" if answer == right else "wrong",
            prompt_tokens=20, reasoning_tokens=num_tokens - 4, tokens=num_tokens, reasoning="so " * 30,
            answer=str(answer), token_ids=tokens[j].tolist(), sampler_logprobs=logprobs[j].tolist(),
            mean_logprob=float(logprobs[j].mean()), worst_logprob=float(logprobs[j].min()),
        )
        for j, answer in enumerate(answers.tolist())
    ]  # fmt: skip


def make_bank(folder: Path, num_problems: int, num_samples: int, num_tokens: int = 40) -> None:
    rng = np.random.default_rng(0)
    with Bank.open(folder, SPEC) as bank:
        for i in range(num_problems):
            problem = Problem(id=f"p{i}", prompt=(Message(role="user", content=str(i)),), target="1", task="made up")
            rows = made_up_rows(rng, problem.id, num_samples, num_tokens)
            bank.append(problem, rows, prompt_ids=range(20))


def measure(folder: Path, k: int = 64) -> dict[str, float]:
    """Seconds to open the bank, to make the arrays of every problem, and to vote."""
    start = time.perf_counter()
    bank = Bank.read(folder)
    opened = time.perf_counter()
    tables = [bank.samples(problem.id) for problem in bank.problems]
    arrays = time.perf_counter()
    accuracy = float(np.mean([vote_rate_at(table, k) for table in tables]))
    voted = time.perf_counter()
    return {"open": opened - start, "arrays": arrays - opened, f"cons@{k}": voted - arrays, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make_bank(Path(folder), options.problems, options.samples)
        write = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
        facts = {"problems": options.problems, "samples": options.samples, "mib": size, "write": write}
        print(json.dumps({name: round(value, 3) for name, value in {**facts, **measure(Path(folder))}.items()}))


if __name__ == "__main__":
    main()
