"""Do the data sets' own solutions pass their own tests, and does a verdict depend on what else the machine does?

    PONDER_DATA=... python bench/code_references.py                         # HumanEval, MBPP and its sanitized part
    PONDER_DATA=... python bench/code_references.py --differential 20       # ... and on inputs varied, for MBPP
    PONDER_DATA=... python bench/code_references.py --verdicts 1000 --busy 8

--verdicts: so many programs, references and references with one operator changed, are judged twice: alone and beside
--busy processes that do nothing but compute. A verdict that is another one then is printed; none should be.
Prints each reference that fails, with its reason; examples in docstrings (they do not decide) are listed by themselves.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ponder.processes import num_cores
from ponder.sandbox.executions import shared
from ponder.tasks import load_task
from ponder.types import Problem, Verdict

SETS = (("humaneval", "test"), ("mbpp", "train"), ("mbpp", "dev"), ("mbpp", "test"), ("mbpp:sanitized=1", "test"))
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Lt: ast.LtE,
    ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--differential", type=int, default=0)
    parser.add_argument("--verdicts", type=int, default=0)
    parser.add_argument("--busy", type=int, default=8)
    options = parser.parse_args()
    if options.verdicts:
        beside_others(options.verdicts, options.busy)
    else:
        references(options.differential)


def references(differential: int) -> None:
    print(f"fence: {shared().sandbox.fence}")
    for spec, split in SETS:
        more = {"differential": differential} if spec.startswith("mbpp") else {}
        task = load_task(spec, split=split, **more)
        began = time.monotonic()
        pairs = [(task, problem, fenced(task.reference(problem))) for problem in task]
        verdicts = judged(pairs)
        seconds = time.monotonic() - began
        right = sum(verdict.is_correct for verdict in verdicts)
        tests = sum(p.meta["num_tests"] + len(task.extra_tests(p)) for p in task)
        cpu = sum(verdict.parts.get("cpu", 0.0) for verdict in verdicts)
        print(f"{spec} {split}: {right} of {len(verdicts)} references pass {tests} tests; {seconds:.1f} s, "
              f"{1000 * cpu / len(verdicts):.1f} ms of the programs' CPU each")  # fmt: skip
        for (_, problem, _), verdict in zip(pairs, verdicts, strict=True):
            if not verdict.is_correct:
                print(f"   {problem.id}: {verdict.outcome}: {verdict.note}")
            elif verdict.parts.get("public", 1.0) < 1:
                print(f"   {problem.id}: an example in its text is wrong ({verdict.note})")


def beside_others(count: int, num_busy: int) -> None:
    pairs: list[tuple[Any, Problem, str]] = []
    rng = random.Random(0)
    for spec, split in SETS[:4]:
        task = load_task(spec, split=split)
        for problem in task:
            source = task.reference(problem)
            pairs += [(task, problem, fenced(each)) for each in (source, mutant(source, rng)) if each]
    pairs = rng.sample(pairs, min(count, len(pairs)))
    alone = judged(pairs)
    busy = [multiprocessing.Process(target=compute, daemon=True) for _ in range(num_busy)]
    for process in busy:
        process.start()
    shared().forget()
    beside = judged(pairs)
    for process in busy:
        process.kill()
    changed = [
        (problem.id, a.outcome, b.outcome, b.note)
        for (_, problem, _), a, b in zip(pairs, alone, beside, strict=True)
        if (a.outcome, a.reward) != (b.outcome, b.reward)
    ]
    counts = {name: sum(v.outcome == name for v in alone) for name in ("correct", "wrong", "undecided")}
    print(f"{len(changed)} of {len(pairs)} verdicts change beside {num_busy} busy processes (alone: {counts})")
    for one in changed:
        print("  ", *one)


def judged(pairs: list[tuple[Any, Problem, str]]) -> list[Verdict]:
    with ThreadPoolExecutor(max_workers=num_cores()) as pool:
        return list(pool.map(lambda pair: pair[0].verify(pair[1], pair[2]), pairs))


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


def mutant(source: str, rng: random.Random) -> str:
    """The program with one of its operators changed; "" where it has none."""
    tree = ast.parse(source)
    places = [
        (node, name)
        for node in ast.walk(tree)
        for name in ("op", "ops")
        if type(getattr(node, name, None)) in SWAPS
        or (name == "ops" and type(getattr(node, "ops", [None])[0]) in SWAPS)
    ]
    if not places:
        return ""
    node, name = rng.choice(places)
    if name == "op":
        node.op = SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    else:
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[attr-defined]
    return ast.unparse(tree)


def compute() -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # one that is stopped from outside leaves nobody behind
        sum(range(100_000))


if __name__ == "__main__":
    main()
