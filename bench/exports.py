"""Exports read by the projects whose formats they are, and their logs read back. Not part of the tests.

    python bench/exports.py write FOLDER [BANK]     with ponder: a made-up bank (or BANK) in every format into FOLDER
    python bench/exports.py read FOLDER             with inspect_ai, lm_eval, every_eval_ever, huggingface_hub:
                                                    those that are installed read it; ponder need not be
    python bench/exports.py back FOLDER             with ponder: what the readers wrote becomes banks again

The three steps may run in three environments. Every line says what was compared and by which version; a reader that is
not installed is named. Any difference ends the script with an error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in ("write", "read", "back"):
        raise SystemExit(__doc__)
    folder = Path(sys.argv[2])
    if sys.argv[1] == "write":
        write(folder, Path(sys.argv[3]) if len(sys.argv) > 3 else made_up(folder))
    elif sys.argv[1] == "read":
        read(folder)
    else:
        back(folder)


def made_up(folder: Path) -> Path:
    """40 problems with 16 samples each of a scripted engine: right, wrong, undecided, without an answer."""
    import asyncio

    from ponder.engine.base import ScriptedEngine
    from ponder.evals.exams import run_exam
    from ponder.grading.verifiers import VERIFIERS
    from ponder.tasks import load_task
    from ponder.types import Problem, SamplingParams, Verdict

    def check(problem: Problem, answer: str) -> Verdict:
        if "?" in answer and problem.id.endswith("0"):
            return Verdict(outcome="undecided", reward=0.0, note="a question is no answer")
        return VERIFIERS["math"](problem, answer)

    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"half/{i}", "problem": f"What is half of {i % 7}?", "answer": f"{i % 7}/2", "subject": f"s{i % 3}"}
        for i in range(40)
    ]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = [("think", f"{i % 7}/2") for i in range(13)] + [("never", "")] + [("hm", "is it 3?")]
    exam = run_exam(
        load_task(f"file:{folder}/p.jsonl", verifier=check), ScriptedEngine(said), model="me/scripted", name="halves",
        num_samples=16, params=SamplingParams(temperature=0.8), out=folder / "bank",
    )  # fmt: skip
    asyncio.run(exam)
    return folder / "bank"


def write(folder: Path, bank: Path) -> None:
    from ponder.evals.exports import EXPORTS
    from ponder.evals.exports.shared import shared

    source = shared(bank, with_reasoning=True)
    for form, export in EXPORTS.items():
        extra = {"dataset": "me/set:task"} if form == "hub" else {}
        paths = export(source, folder / ("x.eval" if form == "inspect" else form), **extra)
        print(form, *(f"{path} ({path.stat().st_size} bytes)" for path in paths))
    expected = {metric.name: [metric.estimate.value, metric.estimate.low, metric.estimate.high]
                for metric in source.metrics()}  # fmt: skip
    outcomes = {problem.id: [row.outcome for row in source.samples(problem)] for problem in source.problems}
    (folder / "expected.json").write_text(json.dumps({"metrics": expected, "outcomes": outcomes}))


def read(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    readers: dict[str, Callable[[Path, dict[str, Any]], str]] = {
        "inspect_ai": by_inspect, "every_eval_ever": by_eee, "lm_eval": by_lm_eval, "huggingface_hub": by_hub,
    }  # fmt: skip
    for name, reader in readers.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: not installed here ({error})")
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "of an unpacked wheel"
        print(f"{name} {version}: {reader(folder, expected)}")


def same(what: str, ours: float, theirs: float) -> None:
    if not math.isclose(ours, theirs, abs_tol=1e-9):
        raise SystemExit(f"{what}: ponder says {ours}, they {theirs}")


def by_inspect(folder: Path, expected: dict[str, Any]) -> str:
    """Read, its own reducers over the epochs, written again by it as .eval (zstandard) and .json."""
    from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries, write_eval_log
    from inspect_ai.scorer import mean_score, pass_at

    log = read_eval_log(str(folder / "x.eval"))
    assert log.results is not None and log.samples is not None
    scores = defaultdict(list)
    for sample in log.samples:
        scores[sample.id].append(sample.scores["verdict"])
    assert {id: len(of) for id, of in scores.items()} == {id: len(of) for id, of in expected["outcomes"].items()}
    assert len(read_eval_log_sample_summaries(str(folder / "x.eval"))) == len(log.samples)
    decided = {id: of for id, of in expected["outcomes"].items() if set(of) <= {"correct", "wrong"}}
    compared = 0
    for name in expected["metrics"]:
        kind, _, k = name.partition("@")
        (logged,) = [s for s in log.results.scores if s.metadata["ponder"] == name]
        same(name, expected["metrics"][name][0], logged.metrics["accuracy"].value)
        if kind == "pass":
            reduce = mean_score() if k == "1" else pass_at(int(k))
            for id, of in decided.items():
                right, n = of.count("correct"), len(of)
                ours = 1 - math.comb(n - right, int(k)) / math.comb(n, int(k))
                same(f"{name} of {id}", ours, reduce(scores[id]).as_float())
                compared += 1
    for name in ("again.eval", "again.json"):
        write_eval_log(log, str(folder / name))
    unscored = sum(score.value != score.value for of in scores.values() for score in of)
    assert unscored == sum(of.count("undecided") for of in expected["outcomes"].values())
    return (
        f"{len(log.samples)} samples, {unscored} of them not scored, {len(log.results.scores)} scores; {compared} "
        "rates of problems without an undecided sample equal its own reducers'; written again as .eval and .json"
    )


def by_eee(folder: Path, expected: dict[str, Any]) -> str:
    """Its validator on both files, with the checks of the data store."""
    from every_eval_ever.validator.validate import validate_file

    told = []
    for path in sorted((folder / "eee").rglob("*.json*")):
        report = validate_file(path)
        if not report.valid:
            raise SystemExit(f"{path}: {report.errors[:5]}")
        told.append(f"{path.name} valid ({report.line_count} lines, warnings: {[w['msg'] for w in report.warnings]})")
    return "; ".join(told)


def by_lm_eval(folder: Path, expected: dict[str, Any]) -> str:
    """Its table of the results, and its declared keys of a sample."""
    from lm_eval.result_schema import SampleResult
    from lm_eval.utils import make_table

    (results,) = (folder / "lm-eval").rglob("results_*.json")
    (samples,) = (folder / "lm-eval").rglob("samples_*.jsonl")
    table = make_table(json.loads(results.read_text()))
    for name, (value, *_) in expected["metrics"].items():
        assert name in table and f"{value:.4f}" in table, (name, value, table)
    wanted = set(SampleResult.__annotations__)
    for line in samples.read_text().splitlines():
        row = json.loads(line)
        assert wanted <= set(row), wanted - set(row)
        assert all(isinstance(row[name], float) for name in set(row) - wanted)
        assert set(row) - wanted == set(row["metrics"])
    return f"its table has the {len(expected['metrics'])} metrics; every sample has its {len(wanted)} keys\n{table}"


def by_hub(folder: Path, expected: dict[str, Any]) -> str:
    import yaml
    from huggingface_hub import parse_eval_result_entries

    (path,) = (folder / "hub" / ".eval_results").iterdir()
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    same("pass@1", round(100 * expected["metrics"]["pass@1"][0], 2), entry.value)
    return f"{entry.dataset_id} {entry.task_id} {entry.value} ({entry.notes})"


def back(folder: Path) -> None:
    import shutil

    from ponder.evals.imports import read_log
    from ponder.evals.imports.foreign import write_bank

    expected = json.loads((folder / "expected.json").read_text())["metrics"]
    for path in (folder / "x.eval", folder / "again.eval", folder / "again.json", folder / "lm-eval"):
        if not path.exists():
            print(f"{path.name}: not there; `read` with its reader writes it")
            continue
        out = folder / f"back-{path.name}"
        shutil.rmtree(out, ignore_errors=True)
        found = write_bank(read_log(path), out)
        metrics = found.result.metrics
        for name, (value, low, high) in expected.items():
            kind, _, k = name.partition("@")
            estimate = (metrics.pass_at if kind == "pass" else metrics.cons_at)[int(k)]
            for ours, theirs in zip((value, low, high), (estimate.value, estimate.low, estimate.high), strict=True):
                same(f"{path.name} {name}", ours, theirs)
        print(f"{path.name}: {found.num_samples} samples, {len(expected)} metrics equal; not in it: {found.missing}")


if __name__ == "__main__":
    main()
