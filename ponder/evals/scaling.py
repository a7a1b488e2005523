"""Both scaling curves of a run: accuracy against train-time compute and against test-time compute.

    curves = await scale("runs/demo", task=task, open_engine=..., fingerprint=..., params=params)
    report("runs/demo")                                                                      # draws it, see report.py

Every rung of the checkpoint ladder sits an exam on the same problems with the same seeds; its bank stays in
RUN/scale/step_00020/, so that running again draws only what is missing. The base, the middle and the last rung draw
`num_samples`, the others `ladder_samples`. Accuracy at test-time compute C is read off those three banks: cons@k costs
one reading of the prompt and k samples, and is exact over all subsets for every k. The last rung also sits exams with
a smaller cap on its reasoning, the second way of spending less. On the last rung (or another) every strategy that only
selects is replayed. RUN/scale/curves.json then holds all of it, efforts.json the effort levels that `ponder serve`
offers for it. `spend` does the replay for any bank, without a run.

Train compute is what the ladder counted, from the base on: what made the base is not in it. Test compute is counted in
FLOPs where `flops_per_token` is given, and always in tokens.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ponder import efforts, runs
from ponder.engine.base import EngineWrapper
from ponder.evals.bank import Bank
from ponder.evals.exams import FlopsPerToken, compare, dumps, run_exam, vote_rate_at
from ponder.evals.spending import play, trio
from ponder.evals.stats import paired_difference
from ponder.types import Engine, Problem, SamplingParams, Task

OpenEngine = Callable[[Path], Engine]  # a checkpoint folder -> an engine over its weights
WayOf = Callable[[Problem, str], str]  # the name of the way of thinking that a piece of reasoning took
ScaleProgress = Callable[[str, int, int, float], None]  # exam, problems done, problems in all, share correct so far

BUDGETS = (1 / 8, 1 / 4, 1 / 2)  # shares of max_reasoning_tokens


async def scale(
    run_folder: str | Path,
    *,
    task: Task,
    open_engine: OpenEngine,
    fingerprint: Callable[[Path], str],
    params: SamplingParams,
    name: str | None = None,
    num_samples: int = 64,
    ladder_samples: int = 16,
    limit: int | None = None,
    seed: int = 0,
    flops_per_token: FlopsPerToken | None = None,
    way_of: WayOf | None = None,
    on_progress: ScaleProgress | None = None,
    command: str | None = None,
    training: Sequence[Mapping[str, Any]] = (),
    rung: int | None = None,
) -> dict[str, Any]:
    """Examine the ladder of a run, write RUN/scale/curves.json, and return it. Stopping early keeps what is done.

    `rung` is the step of the checkpoint whose strategies are compared; None = the last.
    """
    folder = Path(run_folder)
    rungs = runs.checkpoints(folder)
    if not rungs:
        raise ValueError(f"{folder} has no finished checkpoint to examine; let `ponder rl` run to its first one")
    steps = [int(path.name.partition("_")[2]) for path in rungs]
    if rung is not None and rung not in steps:
        raise ValueError(f"{folder} has no checkpoint of step {rung}; it has {', '.join(map(str, steps))}")
    ladder_samples = min(ladder_samples, num_samples)
    start, exams = time.monotonic(), plan(rungs, params, num_samples, ladder_samples)
    examined = 0
    curves: dict[str, Any] = {}
    try:
        for exam in exams:
            engine = LazyEngine(open_engine, exam.checkpoint)
            try:
                await run_exam(
                    task,
                    engine,
                    model=str(exam.checkpoint.relative_to(folder)),
                    name=name,
                    fingerprint=fingerprint(exam.checkpoint),
                    num_samples=exam.num_samples,
                    params=exam.params,
                    out=folder / "scale" / exam.name,
                    seed=seed,
                    limit=limit,
                    flops_per_token=flops_per_token,
                    on_progress=_named(on_progress, exam.name),
                    command=command,
                    training=training,
                )
                examined += 1
            finally:
                await engine.aclose()
    finally:
        if examined:  # exams finished in an earlier sitting count too
            wanted = len(task) if limit is None else min(limit, len(task))
            done = [e for e in exams if is_finished(folder / "scale" / e.name, wanted, e.num_samples)]
            curves = collect(folder, done, ladder_samples=ladder_samples, way_of=way_of)
            drawn = [e for e in done if e.role != "budget" and rung in (None, int(e.checkpoint.name.partition("_")[2]))]
            if drawn:
                last = max(drawn, key=lambda exam: exam.checkpoint)
                curves["strategies"] = spend(folder / "scale" / last.name)
            curves["complete"] = len(done) == len(exams)
            curves["command"] = " ".join(sys.argv) if command is None else command
            curves["seconds"] = time.monotonic() - start  # of this sitting; every exam counts its own in result.json
            runs.write_atomic(folder / "scale" / "curves.json", dumps(curves))
            if curves["complete"]:
                levels = published(curves, fingerprint(rungs[-1]), folder / "scale")
                levels.write(folder / "scale" / efforts.FILE)
    return curves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exam:
    """One exam of the plan: a checkpoint, how it is sampled, and the folder under RUN/scale."""

    name: str
    checkpoint: Path
    params: SamplingParams
    num_samples: int
    role: str = ""  # base, middle, final: drawn on the test-compute curve; budget: the last rung with less reasoning


def plan(rungs: Sequence[Path], params: SamplingParams, num_samples: int, ladder_samples: int) -> list[Exam]:
    """The exams of a ladder: its ends first, so that a stopped evaluation already tells the main thing."""
    roles = {len(rungs) // 2: "middle", 0: "base", len(rungs) - 1: "final"}  # later entries win on short ladders
    exams = [
        Exam(
            name=rung.name,
            checkpoint=rung,
            params=params,
            num_samples=num_samples if i in roles else ladder_samples,
            role=roles.get(i, ""),
        )
        for i, rung in enumerate(rungs)
    ]
    caps = sorted({int(params.max_reasoning_tokens * share) for share in BUDGETS} - {0, params.max_reasoning_tokens})
    budgets = [
        Exam(
            name=f"{rungs[-1].name}_reasoning_{cap:05d}",
            checkpoint=rungs[-1],
            params=dataclasses.replace(
                params, max_reasoning_tokens=cap, min_reasoning_tokens=min(cap, params.min_reasoning_tokens)
            ),
            num_samples=ladder_samples,
            role="budget",
        )
        for cap in caps
    ]
    order = {"base": 0, "final": 1, "middle": 2, "": 3}
    return sorted(exams, key=lambda exam: order[exam.role]) + budgets


def published(curves: Mapping[str, Any], policy: str, folder: Path) -> efforts.Efforts:
    """The effort levels of the last rung: one sample with less and less of a cap, then votes of more and more. A level
    pays if its gain over the one before it, paired over the same problems, is more than noise."""
    cap = max(row["max_reasoning_tokens"] for row in curves["budgets"])
    last = max(curves["test"], key=lambda curve: curve["step"])
    home = next(rung["folder"] for rung in curves["rungs"] if rung["step"] == last["step"])
    ways = [(row, row["folder"], row["max_reasoning_tokens"], 1, row["pass@1"]) for row in curves["budgets"]]
    ways += [(row, home, cap, row["k"], row["cons"]) for row in last["points"] if row["k"] > 1]
    banks = {name: Bank.read(folder / name) for name in {way[1] for way in ways}}
    rates: dict[efforts.Point, dict[str, float]] = {}  # of each problem
    for row, name, most, n, rate in ways:
        tables = [banks[name].samples(problem.id) for problem in banks[name].problems]
        size = json.loads((folder / name / "result.json").read_text())["tokens"]
        answer = size["completion_per_sample"] - size["reasoning_per_sample"]
        rates[_point(row, most, n, rate, answer)] = {table.problem.id: vote_rate_at(table, n) for table in tables}

    def pays(cheap: efforts.Point, dear: efforts.Point) -> bool:
        shared = sorted(rates[cheap].keys() & rates[dear].keys())
        return paired_difference([rates[cheap][p] for p in shared], [rates[dear][p] for p in shared]).low > 0

    return efforts.Efforts.choose(
        list(rates), task=curves["task"], num_problems=curves["num_problems"], policy=policy,
        verifier=curves.get("verifier", ""), pays=pays,
    )  # fmt: skip


def _point(row: Mapping[str, Any], cap: int, n: int, rate: Mapping[str, float], answer: float) -> efforts.Point:
    value = min(1.0, max(0.0, rate["value"]))  # estimates over all subsets round a little beside 0 and 1
    return efforts.Point(
        max_reasoning_tokens=cap, n=n, tokens=row["tokens"], accuracy=value, answer_tokens=answer,
        low=max(0.0, min(rate["low"], value)), high=min(1.0, max(rate["high"], value)),
    )  # fmt: skip


class LazyEngine(EngineWrapper):
    """Opens the engine when something is asked of it: an exam whose bank is full loads no weights."""

    def __init__(self, open_engine: OpenEngine, checkpoint: Path) -> None:
        self._open, self._checkpoint = open_engine, checkpoint
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:  # type: ignore[override]  # nobody may set it
        if self._engine is None:
            self._engine = self._open(self._checkpoint)
        return self._engine

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._engine is not None:
            await self._engine.aclose()
        self._engine = None


def collect(run_folder: Path, exams: Sequence[Exam], *, ladder_samples: int, way_of: WayOf | None) -> dict[str, Any]:
    """Both curves from finished exams: the content of curves.json."""
    folder = run_folder / "scale"
    results = {exam.name: json.loads((folder / exam.name / "result.json").read_text()) for exam in exams}
    rungs = sorted((exam for exam in exams if exam.role != "budget"), key=lambda exam: exam.checkpoint)
    any_result = results[rungs[0].name]
    k = max(k for k in set.intersection(*map(_ks, results.values())) if k <= ladder_samples)
    curves: dict[str, Any] = {name: any_result[name] for name in ("task", "split", "seed", "params", "grader")}
    curves |= {name: any_result[name] for name in ("num_problems", "revision", "machine")}
    curves["verifier"] = any_result.get("verifier", "")  # exams of before have none
    last = max(rungs, key=lambda exam: exam.checkpoint)
    curves["contamination"] = results[last.name].get("contamination")  # of the one that was trained longest
    curves["k"] = k
    curves["rungs"] = [_rung(exam, results[exam.name], folder, k, way_of) for exam in rungs]
    curves["test"] = [_test_curve(exam, results[exam.name]) for exam in rungs if exam.role]
    curves["budgets"] = [
        _budget(exam, results[exam.name], k)
        for exam in [e for e in exams if e.role == "budget"] + [e for e in rungs if e.role == "final"]
    ]
    by_role = {exam.role: exam for exam in rungs}
    if "base" in by_role and "final" in by_role:
        curves["gain"] = compare(Bank.read(folder / by_role["base"].name), Bank.read(folder / by_role["final"].name))
    return curves


def spend(folder: str | Path) -> dict[str, Any]:
    """What each way of selecting gives for its cost, of one bank, with its trio: see spending.py.

    FLOPs are counted as its exam counted them (result.json), else there are tokens only.
    """
    bank = Bank.read(folder)
    try:
        flops = json.loads((bank.folder / "result.json").read_text())["flops"]["per_token"]
    except (FileNotFoundError, KeyError, TypeError):  # no exam wrote it, or one before there was this number
        flops = None
    tables = [bank.samples(name) for name in sorted(problem.id for problem in bank.problems)]
    played = play(tables, bank.scorers, per_token=None if flops is None else (float(flops[0]), float(flops[1])))
    facts = {name: bank.facts.get(name) for name in ("task", "split", "model", "fingerprint", "seed", "params")}
    return {**facts, "folder": bank.folder.name, "trio": trio(tables, bank.scorers), **played}


def spend_bank(folder: str | Path) -> dict[str, Any]:
    """The same, kept in the bank's folder as strategies.json for the report."""
    spent = spend(folder)
    runs.write_atomic(Path(folder) / "strategies.json", dumps(spent))
    return spent


def is_finished(folder: Path, num_problems: int, num_samples: int) -> bool:
    """The exam in this folder has drawn at least what is wanted now: a smaller one of an earlier sitting has not."""
    path = folder / "result.json"
    if not path.exists():
        return False
    result = json.loads(path.read_text())
    return result["complete"] and result["num_problems"] >= num_problems and result["num_samples"] >= num_samples


def _ks(result: dict[str, Any]) -> set[int]:
    return {int(name.partition("@")[2]) for name in result["metrics"]}


def _rung(exam: Exam, result: dict[str, Any], folder: Path, k: int, way_of: WayOf | None) -> dict[str, Any]:
    ladder = json.loads((exam.checkpoint / "ladder.json").read_text())
    row = {name: ladder.get(name) for name in ("step", "train_flops", "rollout_tokens", "train_tokens", "seconds")}
    row |= {name: result[name] for name in ("num_samples", "num_problems", "levels", "subjects", "flops")}
    row |= {name: result[name] for name in ("no_answer_rate", "truncated_rate", "undecided_rate")}
    row |= {"folder": exam.name, "role": exam.role, "reasoning_per_sample": result["tokens"]["reasoning_per_sample"]}
    row |= {"pass@1": result["metrics"]["pass@1"], f"cons@{k}": result["metrics"][f"cons@{k}"]}
    if way_of is not None:
        row["ways"] = count_ways(Bank.read(folder / exam.name), way_of, k)
    return row


def count_ways(bank: Bank, way_of: WayOf, num_samples: int) -> dict[str, dict[str, int]]:
    """How often each way of thinking was taken, and how often it was right, over the first samples of each problem."""
    taken: Counter[str] = Counter()
    right: Counter[str] = Counter()
    problems = {problem.id: problem for problem in bank.problems}
    for row in bank.full_rows(("outcome", "reasoning")):
        if row["sample"] < num_samples and row["problem"] in problems:
            way = way_of(problems[row["problem"]], row["reasoning"])
            taken[way] += 1
            right[way] += row["outcome"] == "correct"
    return {way: {"samples": taken[way], "correct": right[way]} for way in sorted(taken)}


def _cost(result: dict[str, Any], k: int) -> dict[str, float | None]:
    """What k samples of a problem cost: the prompt is read once."""
    flops, tokens = result["flops"], result["tokens"]
    return {
        "flops": None if flops["sample"] is None else flops["prompt"] + k * flops["sample"],
        "tokens": tokens["prompt"] / result["num_problems"] + k * tokens["completion_per_sample"],
    }


def _test_curve(exam: Exam, result: dict[str, Any]) -> dict[str, Any]:
    points = [
        {"k": k, **_cost(result, k), "cons": result["metrics"][f"cons@{k}"], "pass": result["metrics"][f"pass@{k}"]}
        for k in sorted(_ks(result))
    ]
    return {"role": exam.role, "step": int(exam.checkpoint.name.partition("_")[2]), "points": points}


def _budget(exam: Exam, result: dict[str, Any], k: int) -> dict[str, Any]:
    return {
        "folder": exam.name,
        "max_reasoning_tokens": exam.params.max_reasoning_tokens,
        **_cost(result, 1),
        "pass@1": result["metrics"]["pass@1"],
        f"cons@{k}": result["metrics"][f"cons@{k}"],
        "truncated_rate": result["truncated_rate"],
        "reasoning_per_sample": result["tokens"]["reasoning_per_sample"],
    }


def _named(on_progress: ScaleProgress | None, name: str) -> Callable[[int, int, float], None] | None:
    if on_progress is None:
        return None
    return lambda done, total, rate: on_progress(name, done, total, rate)
