"""Both curves come out of a run's checkpoints, a second run draws nothing twice, and a stop keeps what was drawn."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_run import fingerprint, make_run, open_engine, way_of

from ponder import files
from ponder.efforts import find
from ponder.engine.base import EngineWrapper
from ponder.evals import scaling
from ponder.evals.bank import Bank
from ponder.evals.exams import vote_rate_at
from ponder.evals.report import report
from ponder.evals.results import Curves, ScorerFacts
from ponder.evals.scaling import count_ways, plan, scale
from ponder.evals.stats import paired_difference
from ponder.evals.tables import gain_line, sizes_note
from ponder.grading import VERIFIERS
from ponder.tasks import load_task
from ponder.tasks.base import Mixture
from ponder.tasks.file import FileTask
from ponder.tasks.prompting import Prompted
from ponder.types import Engine, Message, Problem, SamplingParams

PARAMS = SamplingParams(max_reasoning_tokens=96)


def run_scale(folder: Path, task: Any, **changes: Any) -> Curves:
    options: dict[str, Any] = {
        "task": task, "open_engine": open_engine, "fingerprint": fingerprint, "params": PARAMS,
        "num_samples": 16, "checkpoint_samples": 4,
        "flops_per_token": 100.0, "command": "c",
    }  # fmt: skip
    return asyncio.run(scale(folder, **{**options, **changes}))


def test_accuracy_rises_with_train_compute_and_with_votes(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    curves = run_scale(make_run(tmp_path), make_task(40), way_of=way_of)
    assert Curves.read(tmp_path / "scale/curves.json") == curves
    assert [checkpoint.step for checkpoint in curves.checkpoints] == [0, 10, 20, 40, 80]
    assert [each.train_flops for each in curves.checkpoints] == [3e12 * step for step in (0, 10, 20, 40, 80)]
    base, last = curves.checkpoints[0], curves.checkpoints[-1]
    assert last.pass_at[1].low > base.pass_at[1].high and curves.k == 4
    assert curves.gain.pass_at[1].low > 0 and curves.complete
    assert [(line.role, line.step) for line in curves.test] == [("base", 0), ("middle", 20), ("final", 80)]
    final = curves.test[-1].points
    assert [point.k for point in final] == [1, 2, 4, 8, 16]
    assert final[-1].cons_at_k.value > final[0].cons_at_k.value
    prompt = 2 * final[0].flops - final[1].flops  # prompt + 2 samples = 2 (prompt + sample) - prompt
    assert prompt == pytest.approx(100 * sum(len(f"user: {i}") for i in range(40)) / 40)
    assert [row.max_reasoning_tokens for row in curves.budgets] == [12, 24, 48, 96]
    assert base.ways["checked"].samples + base.ways["steps"].samples == 40 * 4
    assert last.ways["checked"].samples > base.ways["checked"].samples


def test_effort_levels_are_published_once_the_curve_is_whole(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    curves = run_scale(make_run(tmp_path), make_task(20))
    last = tmp_path / "checkpoints" / "step_00080"
    efforts = find(last, policy=lambda: fingerprint(last))
    assert efforts is not None and efforts.num_problems == 20
    votes = {point.k: point.cons_at_k.value for point in curves.test[-1].points}
    most, default = efforts.levels["max"], efforts.levels["medium"]
    assert most.max_reasoning_tokens == 96 and most.n > 2 and most.accuracy == pytest.approx(votes[most.n])
    assert efforts.levels["minimal"].n == default.n == 1 and default.answer_tokens == pytest.approx(3, abs=2)
    banks = {name: Bank.read(tmp_path / "scale" / name) for name in ("step_00080",)}
    tables = [banks["step_00080"].samples(problem.id) for problem in banks["step_00080"].problems]
    kept = sorted({level.n for level in efforts.levels.values()})
    for few, many in itertools.pairwise(kept):  # every level is better than the last by more than noise
        gain = paired_difference([vote_rate_at(t, few) for t in tables], [vote_rate_at(t, many) for t in tables])
        assert gain.low > 0


def test_the_verifier_travels_with_the_levels(tmp_path: Path) -> None:
    problems = [Problem(id=f"p{i}", prompt=(Message(role="user", content=str(i)),), target=str(i), task="t")
                for i in range(4)]  # fmt: skip
    task = FileTask("t", problems, VERIFIERS["choice"])
    run_scale(make_run(tmp_path), task)
    last = tmp_path / "checkpoints" / "step_00080"
    efforts = find(last, policy=lambda: fingerprint(last))
    assert efforts is not None and efforts.verifier == "choice"
    for made, name in ((load_task("arithmetic"), "integer"), (Prompted(load_task("words"), "direct"), "integer"),
                       (load_task("arithmetic+words"), "integer"), (load_task("cipher"), "")):  # fmt: skip
        assert made.verifier == name
    assert Mixture([task, load_task("arithmetic")]).verifier == ""


def test_strategies_are_compared_on_the_last_checkpoint_or_on_the_one_asked_for(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    found = run_scale(make_run(tmp_path), make_task(6)).strategies
    assert (found.folder, found.num_problems, found.num_samples) == ("step_00080", 6, 16)
    assert 1 in found.headline.pass_at and 16 in found.headline.cons_at and found.rows[1].strategy == "consensus"
    bank = Bank.read(tmp_path / "scale/step_00020")
    bank.add_scores(ScorerFacts(name="judge"), {p.id: bank.samples(p.id).correct.astype(float) for p in bank.problems})
    other = run_scale(tmp_path, make_task(6), checkpoint=20).strategies
    assert other.folder == "step_00020" and list(other.scorers) == ["judge"]
    with pytest.raises(ValueError, match="no checkpoint of step 30; it has 0, 10, 20, 40, 80"):
        run_scale(tmp_path, make_task(6), checkpoint=30)


def test_running_again_opens_no_engine_and_changes_no_number(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    first = run_scale(make_run(tmp_path), make_task(5))

    def refuse(checkpoint: Path) -> Engine:
        raise AssertionError(f"{checkpoint} was opened again")

    again = run_scale(tmp_path, make_task(5), open_engine=refuse)
    assert replace(again, seconds=0) == replace(first, seconds=0)


@pytest.mark.slow
def test_checkpoints_examined_on_different_numbers_of_problems_are_told_and_the_gain_is_of_what_they_share(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    assert sizes_note(run_scale(make_run(tmp_path, (0, 7)), make_task(12))) == ""
    later = tmp_path / "checkpoints" / "step_00080"  # trained on meanwhile, and examined on fewer
    shutil.copytree(tmp_path / "checkpoints" / "step_00007", later)
    files.write_atomic(later / "checkpoint.json", json.dumps({"step": 80, "train_flops": 2.4e14}))
    (later / "model.safetensors").write_bytes(b"weights of step 80")
    curves = run_scale(tmp_path, make_task(12), limit=4)
    assert [each.num_problems for each in curves.checkpoints] == [12, 12, 4]
    assert "examined on 4 to 12 problems" in sizes_note(curves) and "--limit 12" in sizes_note(curves)
    assert gain_line(curves).endswith("base to step 80, 4 problems")
    report(tmp_path)
    assert "examined on 4 to 12 problems" in (tmp_path / "report.html").read_text()
    assert sizes_note(run_scale(tmp_path, make_task(12), limit=12)) == ""


def test_a_stop_keeps_the_finished_exams_and_the_rest_is_drawn_later(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    opened: list[str] = []

    def dies_at_the_third(checkpoint: Path) -> Engine:
        opened.append(checkpoint.name)
        if len(opened) == 3:
            raise KeyboardInterrupt
        return open_engine(checkpoint)

    make_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_scale(tmp_path, make_task(5), open_engine=dies_at_the_third)
    partial = Curves.read(tmp_path / "scale/curves.json")
    assert [checkpoint.role for checkpoint in partial.checkpoints] == ["base", "final"] and not partial.complete
    whole = run_scale(tmp_path, make_task(5))
    assert whole.complete and len(whole.checkpoints) == 5


@pytest.mark.parametrize("steps, roles", [((7,), ["final"]), ((0, 7), ["base", "final"])])
def test_short_checkpoints_work_too(
    tmp_path: Path, make_task: Callable[..., Any], steps: tuple[int, ...], roles: list[str]
) -> None:
    curves = run_scale(make_run(tmp_path, steps), make_task(3), flops_per_token=None)
    assert [line.role for line in curves.test] == roles
    assert curves.test[0].points[0].flops is None and curves.test[0].points[0].tokens > 0


def test_engines_are_closed(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    closed: list[str] = []

    def closable(checkpoint: Path) -> Engine:
        class Closable(EngineWrapper):
            async def aclose(self) -> None:
                closed.append(checkpoint.name)

        return Closable(open_engine(checkpoint))

    run_scale(make_run(tmp_path, (0, 7)), make_task(2), open_engine=closable)
    assert sorted(set(closed)) == ["step_00000", "step_00007"] and len(closed) == 5


def test_a_replaced_checkpoint_is_not_taken_for_the_old_one(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    run_scale(make_run(tmp_path, (0, 7)), make_task(2))
    (tmp_path / "checkpoints/step_00000/model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="fingerprint"):
        run_scale(tmp_path, make_task(2))


def test_a_run_without_checkpoints_says_so(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no finished checkpoint"):
        run_scale(tmp_path, make_task(2))


def test_the_last_checkpoint_is_that_of_the_last_step_however_many_digits_it_has(monkeypatch) -> None:
    monkeypatch.setattr(scaling, "compare_strategies", lambda folder: folder.name)
    exams = plan([Path("step_99999"), Path("step_100000")], SamplingParams(max_reasoning_tokens=0), 4, 4)
    assert scaling._strategies_at(Path("run"), exams, None) == "step_100000"


def test_caps_that_coincide_or_vanish_are_left_out() -> None:
    checkpoints = [Path("step_00001")]
    names = [exam.name for exam in plan(checkpoints, SamplingParams(max_reasoning_tokens=4), 4, 4)]
    assert names == ["step_00001", "step_00001_reasoning_00001", "step_00001_reasoning_00002"]
    assert len(plan(checkpoints, SamplingParams(max_reasoning_tokens=0), 4, 4)) == 1


def test_ways_are_counted_over_the_first_samples_only(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    run_scale(make_run(tmp_path, (0, 7)), make_task(3))
    ways = count_ways(Bank.read(tmp_path / "scale/step_00000"), lambda problem, reasoning: problem.id, 2)
    assert {name: way.samples for name, way in ways.items()} == {"n0": 2, "n1": 2, "n2": 2}
