"""An exam counts what it says it counts, and loses nothing it has drawn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ponder import files, trained_on
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank, BankError
from ponder.evals.exams import compare, run_exam, summarise
from ponder.evals.report import report
from ponder.evals.results import ExamResult, Flops
from ponder.tasks.prompting import Prompted
from ponder.types import Completion, Message, Problem, SamplingParams, sample_seed

PARAMS = SamplingParams(max_reasoning_tokens=8, max_answer_tokens=8)


def right_half(prompt: str, seed: int) -> tuple[str, str]:
    return "think", prompt if seed % 2 else "99"


def exam(task: Any, engine: Any, out: Path, **changes: Any) -> ExamResult:
    options: dict[str, Any] = {"model": "fake", "num_samples": 4, "params": PARAMS, "out": out, "command": "c"}
    return asyncio.run(run_exam(task, engine, **{**options, **changes}))


def test_the_result_has_the_promised_form(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    result = exam(make_task(), ScriptedEngine(right_half), tmp_path, num_samples=6, flops_per_token=10.0)
    assert ExamResult.read(tmp_path / "result.json") == result
    stored = json.loads((tmp_path / "result.json").read_text())
    assert {"task", "model", "num_problems", "num_samples", "metrics", "no_answer_rate", "truncated_rate", "tokens",
            "flops", "seconds", "undecided_rate", "levels", "subjects", "grader", "command", "seed", "params",
            "machine", "trio"} <= set(stored)  # fmt: skip
    assert list(stored["metrics"]) == [f"{name}@{k}" for name in ("pass", "cons") for k in (1, 2, 4, 6)]
    for metric in stored["metrics"].values():
        assert set(metric) == {"value", "low", "high"} and metric["low"] <= metric["value"] <= metric["high"]
    assert (result.task, result.model) == ("counting", "fake")
    assert (result.num_problems, result.num_samples) == (6, 6)
    assert result.complete and result.grader == "counting 1"


def test_pass_at_1_is_the_share_of_correct_samples(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    result = exam(make_task(), ScriptedEngine(right_half), tmp_path)
    rows = list(Bank.read(tmp_path).full_rows())
    assert len(rows) == 24
    share = sum(row.answer == row.problem[1:] for row in rows) / 24
    assert result.metrics.pass_at[1].value == pytest.approx(share) == pytest.approx(result.metrics.cons_at[1].value)


def test_every_kind_of_answer_is_counted_as_what_it_is(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    answers = ["0", "?", "crash", "none", "  ", "77"]
    result = exam(make_task(1), ScriptedEngine(answers), tmp_path, num_samples=6)
    assert result.metrics.pass_at[1].value == pytest.approx(1 / 6)
    assert result.undecided_rate == pytest.approx(1 / 6) and result.failed_rate == pytest.approx(1 / 6)
    assert result.verifier_errors == 1 and "RecursionError" in result.verifier_error
    assert result.no_answer_rate == pytest.approx(3 / 6)  # crash, none and blank
    assert result.metrics.cons_at[6].value == pytest.approx(1 / 3)  # "0", "?" and "77" tie
    [crash] = [row for row in Bank.read(tmp_path).full_rows() if row.error]
    assert "RecursionError" in crash.error and crash.outcome == "failed"


def test_a_prompt_too_long_for_the_window_is_no_answer_not_a_crash(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    result = exam(make_task(2), ScriptedEngine(["0"], window=3), tmp_path)
    assert result.no_answer_rate == result.truncated_rate == 1 and result.finish_reasons == {"window": 8}


def test_forced_closes_count_as_truncated(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    engine = ScriptedEngine([("a very long thought", "0"), ("short", "0")])
    assert exam(make_task(2), engine, tmp_path).truncated_rate == 0.5


def test_running_again_adds_only_what_is_missing(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    first = exam(make_task(), ScriptedEngine(right_half), tmp_path / "a", num_samples=2, limit=3)
    engine = ScriptedEngine(right_half)
    second = exam(make_task(), engine, tmp_path / "a", num_samples=4)
    assert sorted((prompt, start, n) for prompt, start, n in engine.calls) == [
        *((str(i), 2, 2) for i in range(3)), *((str(i), 0, 4) for i in range(3, 6)),
    ]  # fmt: skip
    whole = exam(make_task(), ScriptedEngine(right_half), tmp_path / "b", num_samples=4)
    assert second.metrics == whole.metrics and (first.num_problems, second.num_problems) == (3, 6)
    idle = ScriptedEngine(right_half)
    again = exam(make_task(), idle, tmp_path / "a", num_samples=4)
    assert idle.calls == [] and again.metrics == whole.metrics and again.seconds >= second.seconds


def test_each_problem_has_its_own_seeds(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(make_task(), ScriptedEngine(right_half), tmp_path)
    seeds = [row.seed for row in Bank.read(tmp_path).full_rows()]
    assert len(set(seeds)) == len(seeds) and sample_seed(0, 0) not in seeds


def test_samples_in_flight_are_bounded_and_many_problems_run_at_once(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    engine = ScriptedEngine(right_half, delay=0.001)
    exam(make_task(20), engine, tmp_path, in_flight=16)
    assert engine.most_in_flight == 4  # requests of 4 samples
    wide = ScriptedEngine(right_half, delay=0.001)
    exam(make_task(20), wide, tmp_path / "wide")
    assert wide.most_in_flight == 20


def test_progress_is_reported_after_each_problem(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    seen: list[tuple[int, int, float]] = []
    result = exam(make_task(), ScriptedEngine(right_half), tmp_path, on_progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5, 6] and all(total == 6 for _, total, _ in seen)
    assert seen[-1][2] == pytest.approx(result.metrics.pass_at[1].value)


def test_more_samples_of_a_problem_than_may_be_in_flight_are_drawn_and_kept_in_parts(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    """A kill in the middle of ten thousand samples of a problem costs a part of them, and progress is told of each."""
    seen: list[int] = []
    engine = Failing(3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tell = lambda done, total, share: seen.append(done)
        exam(make_task(1), engine, tmp_path / "a", num_samples=40, in_flight=16, on_progress=tell)
    assert [n for _, _, n in engine.calls] == [8, 8, 8] and seen == [0, 0, 0]
    kept = Bank.read(tmp_path / "a")
    assert kept.num_samples(kept.problems[0].id) == 24
    engine = ScriptedEngine(right_half)
    again = exam(make_task(1), engine, tmp_path / "a", num_samples=40, in_flight=16)
    assert [(first, n) for _, first, n in engine.calls] == [(24, 8), (32, 8)]
    whole = exam(make_task(1), ScriptedEngine(right_half), tmp_path / "b", num_samples=40)
    assert again.metrics == whole.metrics and again.complete
    wide = ScriptedEngine(right_half, delay=0.001)
    exam(make_task(20), wide, tmp_path / "c", num_samples=40, in_flight=16)
    assert wide.most_in_flight == 2 and max(n for _, _, n in wide.calls) == 8


class Failing(ScriptedEngine):
    """Answers `good` requests, then raises `error`."""

    def __init__(self, good: int, error: BaseException) -> None:
        super().__init__(right_half)
        self.good, self.error = good, error

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        if len(self.calls) == self.good:
            raise self.error
        return await super().generate(prompt, params, n=n, first=first)


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyboardInterrupt(), files.StorageError("full")])
def test_a_failure_keeps_what_was_done_and_says_only_itself(
    tmp_path: Path, make_task: Callable[..., Any], error: BaseException
) -> None:
    with pytest.raises(type(error)):
        exam(make_task(), Failing(3, error), tmp_path, in_flight=4)
    partial = json.loads((tmp_path / "result.json").read_text())
    assert partial["num_problems"] == 3 and not partial["complete"]
    whole = exam(make_task(), ScriptedEngine(right_half), tmp_path)
    assert whole.num_problems == 6 and whole.complete


def test_cancelling_stops_the_engine_and_keeps_what_was_done(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    engine = ScriptedEngine(right_half)

    async def main() -> None:
        def stop_soon(done: int, total: int, rate: float) -> None:
            engine.delay = 60
            if done == 2:
                running.cancel()

        options: dict[str, Any] = {"model": "fake", "num_samples": 4, "params": PARAMS, "out": tmp_path, "in_flight": 8}
        running = asyncio.create_task(run_exam(make_task(), engine, on_progress=stop_soon, **options))
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert engine.num_in_flight == 0
    assert json.loads((tmp_path / "result.json").read_text())["num_problems"] == 2


def test_a_result_over_nothing_is_null_and_valid_json(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    with pytest.raises(ConnectionError):
        exam(make_task(), Failing(0, ConnectionError()), tmp_path)
    empty = json.loads((tmp_path / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert empty["num_problems"] == 0 and empty["metrics"] == {} and empty["no_answer_rate"] is None


def test_samples_the_engine_gave_up_are_not_samples(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    class GivesUp(ScriptedEngine):
        async def generate(self, *args: Any, **options: Any) -> list[Completion]:
            from dataclasses import replace

            done = await super().generate(*args, **options)
            return [*done[:1], *(replace(c, finish_reason="cancelled") for c in done[1:])]

    result = exam(make_task(), GivesUp(right_half), tmp_path)
    assert result.num_samples == 1 and not result.complete


def test_another_model_in_the_same_folder_is_refused(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(make_task(), ScriptedEngine(right_half), tmp_path)
    with pytest.raises(BankError, match="model is 'fake', not 'other'"):
        exam(make_task(), ScriptedEngine(right_half), tmp_path, model="other")


def test_flops_count_the_prompt_once_a_problem(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    engine = ScriptedEngine([("abc", "7")])  # 3 + mark + 1 + mark = 6 tokens after a prompt of len("user: 0") = 7
    flat = exam(make_task(2), engine, tmp_path, flops_per_token=10.0).flops
    assert flat == Flops(total=2 * (70 + 4 * 60), prompt=70, sample=60, per_token=(10, 0))
    rising = summarise(Bank.read(tmp_path), flops_per_token=lambda index: 10.0 + index).flops
    assert rising.prompt == sum(10 + i for i in range(7)) and rising.sample == sum(10 + i for i in range(7, 13))


def test_shares_tokens_and_flops_weigh_every_problem_alike_however_many_samples_it_has(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    def said(prompt: str, seed: int) -> tuple[str, str]:
        return ("a very long thought", "none") if prompt == "0" else ("r", "?")

    exam(make_task(), ScriptedEngine(said), tmp_path, num_samples=9, limit=1)
    result = exam(make_task(), ScriptedEngine(said), tmp_path, num_samples=1, limit=2, flops_per_token=1.0)
    assert result.no_answer_rate == result.truncated_rate == result.undecided_rate == 0.5
    tokens = [Bank.read(tmp_path).samples(f"n{i}").tokens.mean() for i in (0, 1)]
    assert result.tokens.completion_per_sample == pytest.approx(sum(tokens) / 2) == pytest.approx(result.flops.sample)
    assert result.tokens.completion == 9 * tokens[0] + tokens[1] and tokens[0] != tokens[1]


def test_levels_and_subjects_have_their_own_rows(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    engine = ScriptedEngine(lambda prompt, seed: prompt if int(prompt) % 2 else "no")
    result = exam(make_task(), engine, tmp_path)
    assert result.levels["0"].pass_at[1].value == 0 and result.levels["1"].cons_at[4].value == 1
    assert result.subjects["<b>&"].num_problems == 6


def test_two_banks_are_compared_problem_by_problem(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(make_task(40), ScriptedEngine(lambda p, s: p if int(p) % 2 else "no"), tmp_path / "a")
    exam(make_task(40), ScriptedEngine(lambda p, s: p if int(p) % 2 or int(p) < 16 else "no"), tmp_path / "b")
    gain = compare(Bank.read(tmp_path / "a"), Bank.read(tmp_path / "b"))
    assert gain.num_problems == 40 and gain.pass_at[1].value == pytest.approx(8 / 40)
    assert gain.pass_at[1].low > 0 and gain.cons_at[4].value == pytest.approx(8 / 40)


def test_problems_that_only_their_tests_tell_apart_are_not_compared(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    class Tested(type(make_task())):  # type: ignore[misc]
        def __init__(self, tests: str) -> None:
            super().__init__(2)
            self.tests = tests

        def __getitem__(self, index: int) -> Problem:
            return replace(super().__getitem__(index), meta={"tests": self.tests if index else "same"})

    for name, task in (("a", Tested("a")), ("b", Tested("b")), ("c", Prompted(Tested("a"), "direct"))):
        exam(task, ScriptedEngine(right_half), tmp_path / name)
    one, other, asked_otherwise = (Bank.read(tmp_path / name) for name in "abc")
    assert compare(one, other).num_problems == 1 and compare(one, asked_otherwise).num_problems == 2
    with pytest.raises(BankError, match="graded by"):
        exam(Tested("b"), ScriptedEngine(right_half), tmp_path / "a")


def test_an_empty_exam_is_refused(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        exam(make_task(), ScriptedEngine(right_half), tmp_path, limit=0)


def test_repeated_ids_are_refused(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    task = make_task()
    task.__class__ = type("Same", (type(task),), {"__getitem__": lambda self, i: make_task().__getitem__(0)})
    with pytest.raises(ValueError, match="more than one problem"):
        exam(task, ScriptedEngine(right_half), tmp_path)


def test_a_gated_benchmark_leaves_none_of_its_text_in_the_folder(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    task = make_task()
    secret = type("Gated", (type(task),), {"is_gated": True, "__getitem__": lambda self, i: _secret(task[i])})()
    result = exam(secret, ScriptedEngine(lambda prompt, seed: (f"they say {prompt}", "1")), tmp_path)
    assert result.num_problems == 6 and result.metrics.pass_at[1].value == pytest.approx(1 / 6)
    report(tmp_path)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"hush" not in file.read_bytes(), file
    assert exam(secret, ScriptedEngine([]), tmp_path).num_samples == 4  # and the bank goes on from there
    with pytest.raises(BankError, match="the task has changed"):
        exam(task, ScriptedEngine(right_half), tmp_path)


def _secret(problem: Problem) -> Problem:
    return replace(problem, prompt=(Message(role="user", content=f"hush {problem.id}"),), choices=("hush", "hush hush"))


def test_another_prompting_never_mixes_with_what_a_bank_holds(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(make_task(), ScriptedEngine(right_half), tmp_path)
    assert "prompting" not in json.loads((tmp_path / "bank.json").read_text())  # as banks always were
    with pytest.raises(BankError, match="its prompting is 'none', not 'direct'"):
        exam(Prompted(make_task(), "direct"), ScriptedEngine(right_half), tmp_path)
    result = exam(Prompted(make_task(), "direct"), ScriptedEngine(right_half), tmp_path / "b")
    assert result.prompting == "direct"


def test_the_result_says_what_is_known_of_contamination(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    unknown = exam(make_task(), ScriptedEngine(right_half), tmp_path / "a").contamination
    assert unknown.status == "unknown"
    (tmp_path / "d.jsonl").write_text('{"problem": "3", "reasoning": "", "answer": "3"}\n')
    training = [trained_on.file_source(tmp_path / "d.jsonl")]
    found = exam(make_task(), ScriptedEngine(right_half), tmp_path / "b", training=training).contamination
    assert (found.status, found.exact, found.hits[0].id) == ("checked", 1, "n3")
    report(tmp_path / "b")
    assert "1 of 6 exam problems were trained on word for word" in (tmp_path / "b" / "report.html").read_text()


def test_asking_for_fewer_problems_hides_none_that_was_trained_on(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    (tmp_path / "d.jsonl").write_text('{"problem": "3", "reasoning": "", "answer": "3"}\n')
    training = [trained_on.file_source(tmp_path / "d.jsonl")]
    whole = exam(make_task(), ScriptedEngine(right_half), tmp_path / "b", training=training)
    fewer = exam(make_task(), ScriptedEngine([]), tmp_path / "b", training=training, limit=2)
    assert fewer.num_problems == 6 and fewer.contamination == whole.contamination


def test_an_exam_that_is_refused_leaves_the_result_as_it_was(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(make_task(), ScriptedEngine(right_half), tmp_path)
    before = (tmp_path / "result.json").read_text()
    task = make_task()
    task.__class__ = type("Edited", (type(task),), {"__getitem__": lambda self, i: _secret(make_task()[i])})
    with pytest.raises(BankError, match="the task has changed"):
        exam(task, ScriptedEngine(right_half), tmp_path)
    assert (tmp_path / "result.json").read_text() == before


def test_a_problem_whose_line_was_damaged_and_deleted_is_drawn_again_and_counted(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    before = exam(make_task(), ScriptedEngine(right_half), tmp_path)
    samples = sorted((row.problem, row.sample, row.seed, row.answer) for row in Bank.read(tmp_path).full_rows())
    lines = (tmp_path / "problems.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "problems.jsonl").write_bytes(b"".join([*lines[:2], b"\xff" + lines[2], *lines[3:]]))
    with pytest.raises(ValueError, match=r"problems.jsonl:3 is not JSON; delete that line"):
        exam(make_task(), ScriptedEngine(right_half), tmp_path)
    (tmp_path / "problems.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    engine = ScriptedEngine(right_half)
    with pytest.warns(UserWarning, match="lacks 1 problems that have samples"):
        again = exam(make_task(), engine, tmp_path)
    assert len(engine.calls) == 1 and again.num_problems == before.num_problems == 6
    assert again.metrics == before.metrics and again.levels == before.levels
    assert samples == sorted((row.problem, row.sample, row.seed, row.answer) for row in Bank.read(tmp_path).full_rows())
