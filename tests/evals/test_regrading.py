"""Stored samples are judged anew: only what a verifier says changes, and the old bank stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank, BankError
from ponder.evals.exams import RESULT, run_exam
from ponder.evals.regrading import regrade
from ponder.evals.results import ExamResult, ScorerFacts
from ponder.tasks import load_task
from ponder.types import Problem, SamplingParams
from tests.helpers import user

pytest.importorskip("pyarrow")
SAID = ["1/2", "0.5", "x", ""]


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    rows = [{"id": f"p{i}", "problem": f"What is {i} half?", "answer": "1/2"} for i in range(3)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    draw(tmp_path / "bank", 4)
    return Bank.read(tmp_path / "bank")


def draw(out: Path, num_samples: int, verifier: str | None = "exact") -> ExamResult:
    spec = f"file:{out.parent}/p.jsonl"
    return asyncio.run(
        run_exam(
            load_task(spec, verifier=verifier), ScriptedEngine(SAID), model="m", name=spec, num_samples=num_samples,
            params=SamplingParams(), out=out,
        )
    )  # fmt: skip


def again(bank: Bank, verifier: str | None, name: str = "new"):
    return asyncio.run(regrade(bank, verifier, out=bank.folder.with_name(name)))


def texts(bank: Bank) -> list[tuple[object, ...]]:
    return sorted((r.problem, r.sample, r.answer, tuple(r.token_ids), r.tokens) for r in bank.full_rows())


def test_another_verifier_changes_verdicts_and_nothing_else(bank):
    before = (bank.folder / RESULT).read_bytes(), texts(bank)
    found = again(bank, "math")
    assert found.moves == {"wrong -> correct": 3} and found.num_samples == 12 and found.num_judged == 12
    new = Bank.read(bank.folder.with_name("new"))
    assert [new.samples(p.id).outcomes.tolist().count("correct") for p in new.problems] == [2, 2, 2]
    assert texts(new) == texts(bank) and ((bank.folder / RESULT).read_bytes(), texts(bank)) == before
    assert found.gain.pass_at[1].value == pytest.approx(0.25)
    result = ExamResult.read(new.folder / RESULT)
    assert result.metrics.pass_at[1].value == pytest.approx(0.5) and result.verifier == "math"
    counts, correct = new.samples("p0").tally()
    assert (counts, correct) == ([2, 1], [2, 0])  # 1/2 and 0.5 vote together now


def test_the_same_verifier_gives_the_same_bank(bank):
    found = again(bank, "exact")
    assert not found.moves and found.gain.pass_at[1].value == 0
    new = Bank.read(bank.folder.with_name("new"))
    for problem in bank.problems:
        assert new.samples(problem.id).tally() == bank.samples(problem.id).tally()


def test_scores_of_a_scorer_go_along(bank):
    bank.add_scores(ScorerFacts(name="s"), {"p0": [0.1, 0.2, 0.3, 0.4]})
    again(bank, "math")
    new = Bank.read(bank.folder.with_name("new"))
    assert new.samples("p0").scores["s"].tolist() == [0.1, 0.2, 0.3, 0.4]


def test_a_problem_that_has_changed_is_named_and_the_stored_target_still_judges(bank):
    path = bank.folder.with_name("p.jsonl")
    path.write_text(path.read_text().replace("1 half", "2 half"))
    with pytest.raises(ConfigError, match="'p1' is another"):
        again(bank, None)
    assert again(bank, "math", "other").moves == {"wrong -> correct": 3}


def test_a_folder_that_is_there_stays_and_withheld_texts_are_refused(bank):
    with pytest.raises(ConfigError, match="is there already"):
        asyncio.run(regrade(bank, "math", out=bank.folder))
    stored = bank.folder / "problems.jsonl"
    stored.write_text(stored.read_text().replace("What is 0 half?", "(withheld: 00)"))
    with pytest.raises(ConfigError, match="without their texts"):
        again(Bank.read(bank.folder), "math")


def test_samples_of_a_problem_whose_line_was_cut_off_are_an_error_before_anything_is_judged(bank):
    """A full disk, or a copy of the folder that was cut off."""
    stored = bank.folder / "problems.jsonl"
    whole = stored.read_text()
    stored.write_text(whole[:-20])
    with pytest.warns(UserWarning, match="lacks 1 problems"), pytest.raises(ConfigError, match="lacks 'p.', of which"):
        again(Bank.read(bank.folder), "math")
    assert not bank.folder.with_name("new").exists()


def test_a_verifier_that_raises_is_counted_and_loses_no_bank(bank):
    found = again(bank, f"{__name__}:broken")
    assert found.moves == {"wrong -> failed": 6}
    result = ExamResult.read(bank.folder.with_name("new") / RESULT)
    assert result.verifier_errors == 6 and "no idea" in result.verifier_error  # an empty answer is wrong unasked


def broken(problem, answer):
    if answer != "1/2":
        raise ValueError("no idea")
    return 1.0


def test_scores_that_look_at_answer_classes_do_not_go_along_with_other_classes(bank):
    bank.add_scores(ScorerFacts(name="s"), {"p0": [0.1, 0.2, 0.3, 0.4]})
    bank.add_scores(ScorerFacts(name="s.j", joint=True), {"p0": [0.25, 0.25, 0.25, 0.0]})
    with pytest.warns(UserWarning, match="the scores s.j are of the old answer classes"):
        again(bank, "math")
    assert list(Bank.read(bank.folder.with_name("new")).scorers) == ["s"] and set(bank.scorers) == {"s", "s.j"}


class WordTask:
    """One problem with hidden tests: a file that names the right answer."""

    def __init__(self, path: str, **options: object) -> None:
        self.wanted = Path(path).read_text()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Problem:
        return Problem(id="p", prompt=user("?"), target="", task="tested", meta={"tests": self.wanted})

    def verify(self, problem: Problem, answer: str) -> bool:
        return answer == self.wanted


def test_samples_are_judged_by_new_tests_and_the_new_bank_goes_on_with_those(tmp_path):
    tests = tmp_path / "tests"
    tests.write_text("x")
    name = f"{__name__}:WordTask:path={tests}"

    def exam(out: str) -> None:
        task = load_task(name)
        engine = ScriptedEngine(["x", "y"])
        asyncio.run(
            run_exam(task, engine, model="m", name=name, num_samples=2, params=SamplingParams(), out=tmp_path / out)
        )

    exam("old")
    tests.write_text("y")
    found = asyncio.run(regrade(Bank.read(tmp_path / "old"), None, out=tmp_path / "new"))
    assert found.moves == {"wrong -> correct": 1, "correct -> wrong": 1} and found.gain.num_problems == 1
    exam("new")
    with pytest.raises(BankError, match="graded by"):
        exam("old")


def test_verdicts_of_two_verifiers_never_share_a_bank(bank):
    again(bank, "math")
    regraded = bank.folder.with_name("new")
    with pytest.raises(
        BankError, match=r"its verifier is 'math', not 'exact'; `ponder regrade .*choose another folder"
    ):
        draw(regraded, 5)
    assert draw(regraded, 5, "math").num_samples == 5 and draw(bank.folder, 5).verifier == "exact"


def test_a_file_whose_verifier_is_another_one_since_goes_on_where_its_bank_was_judged_anew(bank):
    rows = [{"id": f"p{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(3)]
    path, out = bank.folder.with_name("p.jsonl"), bank.folder.with_name("whole")
    path.write_text("\n".join(map(json.dumps, rows)))
    assert draw(out, 2, None).verifier == "integer"
    path.write_text(path.read_text() + "\n" + json.dumps({"id": "half", "problem": "What is 1/2?", "answer": "1/2"}))
    with pytest.raises(BankError, match="its verifier is 'integer', not 'math'; `ponder regrade "):
        draw(out, 4, None)
    asyncio.run(regrade(Bank.read(out), None, out=out.with_name("anew")))
    assert draw(out.with_name("anew"), 4, None).num_problems == 4


def test_a_bank_that_does_not_say_its_verifier_goes_on(bank):
    facts = json.loads((bank.folder / "bank.json").read_text())
    assert facts.pop("verifier") == "exact"
    (bank.folder / "bank.json").write_text(json.dumps(facts))
    assert draw(bank.folder, 5).verifier == ExamResult.read(bank.folder / RESULT).verifier == "exact"
