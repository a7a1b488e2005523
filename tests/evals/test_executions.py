"""What programs do is run once, kept beside the bank, and says nothing of hidden tests."""

from __future__ import annotations

import numpy as np
import pytest

from ponder.evals import per_sample, scores
from ponder.evals.bank import Bank, BankSpec, SampleRow
from ponder.evals.entries import judged
from ponder.evals.executions import LostRun, candidates, digest, execute_bank
from ponder.evals.files import BankError
from ponder.evals.results import ScorerFacts
from ponder.files import InUse
from ponder.strategies.programs import FAILED, Goal, log_odds
from ponder.types import Message, Problem, SamplingParams

SPEC = BankSpec(task="sums", split="test", model="m", fingerprint="f", params=SamplingParams(), seed=0, grader="g")
PROBLEMS = [Problem(id=f"p{i}", prompt=(Message(role="user", content="?"),), target="", task="sums") for i in range(3)]


class Adding:
    """A program is a number that is added to the input; "crash" crashes, "random" never repeats itself."""

    num_workers, repeats_itself = 2, False

    def __init__(self, inputs=("1", "2", "3"), **facts):
        self.facts, self.given, self.ran, self.lose = {"language": "adding", **facts}, inputs, [], set()

    def program(self, problem, answer):
        return answer.removeprefix("add ") if answer.startswith("add ") else None

    def inputs(self, problem):
        return self.given

    def outputs(self, problem, program, inputs):
        self.ran.append((problem.id, program, tuple(inputs)))
        if program in self.lose:
            raise LostRun
        if program == "crash":
            return [None] * len(inputs)
        return [f"{x}+{program}" + str(len(self.ran)) * (program == "random") for x in inputs]

    def examples(self, problem, program):
        return [program in ("1", "one"), program == "1"]

    def contest(self, problem):
        return problem.id, -1

    def goals(self, problem):
        return (Goal(),)


@pytest.fixture
def make_bank(tmp_path):
    def make(answers, problems=PROBLEMS[:1]):
        with Bank.open(tmp_path / "bank", SPEC) as bank:
            for problem in problems:
                first = bank.num_samples(problem.id)
                rows = [
                    SampleRow(problem=problem.id, sample=first + i, answer=answer, outcome="wrong", answer_class=answer)
                    for i, answer in enumerate(answers)
                ]
                bank.append(problem, rows, prompt_ids=(1,))
        return Bank.read(tmp_path / "bank")

    return make


def test_samples_with_the_same_outputs_are_of_one_behaviour_and_what_is_no_program_has_none(make_bank):
    bank = make_bank(["add 1", "add 2", "hello", "add 1", "add crash", ""])
    runner = Adding()
    done = execute_bank(bank, runner, "x")
    pool = candidates(bank, done.table, "p0")
    assert (pool.programs >= 0).tolist() == [True, True, False, True, True, False]
    assert (pool.outputs[0] == pool.outputs[3]).all() and (pool.outputs[0] != pool.outputs[1]).all()
    assert (pool.outputs[[2, 4, 5]] == FAILED).all()
    assert pool.examples.tolist() == [[True, True], [False, False], [False, False], [True, True], *[[False] * 2] * 2]
    assert (done.samples, done.programs, done.lost) == (6, 3, 0)
    assert done.runs == 3 * (2 + 3 + 3)  # two examples, three inputs, and those once more


def test_an_equal_program_is_run_once_and_a_second_call_runs_only_what_is_new(make_bank):
    bank = make_bank(["add 1"] * 5)
    runner = Adding()
    execute_bank(bank, runner, "x")
    assert len(runner.ran) == 2  # once, and once more for its stability
    assert execute_bank(bank, runner, "x").programs == 0 and len(runner.ran) == 2
    bank = make_bank(["add 2", "add 1"])
    again = execute_bank(bank, runner, "x")
    assert candidates(bank, again.table, "p0").programs.tolist().count(digest("1")) == 6


def test_a_program_that_does_not_repeat_itself_is_marked(make_bank):
    bank = make_bank(["add random", "add 1"])
    pool = candidates(bank, execute_bank(bank, Adding(), "x").table, "p0")
    assert pool.is_stable.tolist() == [False, True]


def test_a_run_that_the_machine_lost_is_no_failure_and_is_made_again(make_bank):
    bank = make_bank(["add 1", "add 2"])
    runner = Adding()
    runner.lose = {"2"}
    first = execute_bank(bank, runner, "x")
    assert first.lost == 1 and candidates(bank, first.table, "p0").is_stable.tolist() == [True, False]
    runner.lose = set()
    second = execute_bank(bank, runner, "x")
    assert second.lost == 0 and second.programs == 1
    assert candidates(bank, second.table, "p0").is_stable.all()


def test_rows_of_another_way_of_running_are_never_mixed(make_bank):
    bank = make_bank(["add 1"])
    execute_bank(bank, Adding(fence="closed"), "x")
    with pytest.raises(BankError, match=r"its fence is closed, not unfenced.*choose another name"):
        execute_bank(bank, Adding(fence="unfenced"), "x")
    bank = make_bank(["add 1"])
    more = execute_bank(bank, Adding(("7", "8", "9"), fence="closed"), "x")
    with pytest.raises(BankError, match="different inputs"):
        candidates(bank, more.table, "p0")


def test_a_command_that_was_stopped_is_said_to_be_incomplete(make_bank):
    bank = make_bank(["add 1"])
    done = execute_bank(bank, Adding(), "x")
    bank = make_bank(["add 2"])
    with pytest.raises(BankError, match="run the command again"):
        candidates(bank, done.table, "p0")


def test_what_was_done_survives_an_error_in_a_later_problem(make_bank):
    bank = make_bank(["add 1", "add 2"], PROBLEMS)
    runner = Adding()
    inputs = runner.inputs
    runner.inputs = lambda problem: 1 / 0 if problem.id == "p2" else inputs(problem)
    with pytest.raises(ZeroDivisionError):
        execute_bank(bank, runner, "x")
    again = Adding()
    assert execute_bank(bank, again, "x").programs == 2
    assert {problem for problem, _, _ in again.ran} == {"p2"}


def test_scores_come_as_log_odds_and_a_scorer_that_is_not_there_is_named(make_bank):
    bank = make_bank(["add 1", "add 2"])
    bank.add_scores(ScorerFacts(name="outcome", fingerprint="s"), {"p0": [0.5, 0.9]})
    table = execute_bank(bank, Adding(), "x").table
    assert candidates(bank, table, "p0", scorer="outcome").scores.tolist() == pytest.approx([0.0, np.log(9)])
    with pytest.raises(BankError, match="no scores of 'other'"):
        candidates(bank, table, "p0", scorer="other")
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
    assert log_odds(np.array([-3.0, 5.0])).tolist() == [-3.0, 5.0]  # no probabilities: as they are


def test_texts_that_utf8_cannot_spell_have_a_digest_too():
    assert digest("\udc80") != digest("\udc81") and 0 <= digest("") < 2**63


def test_hidden_points_are_on_disk_while_further_programs_are_judged(make_bank, monkeypatch):
    monkeypatch.setattr(per_sample, "KEEP_EVERY", -1.0)
    bank, on_disk = make_bank(["add 1", "add 2", "add 3"]), []

    def points_of(problem, program):
        kept = per_sample.PerSample(bank.folder / "points" / "adding", {"points": "list<float64>"}, facts)
        on_disk.append(3 - len(kept.missing(bank).get(problem.id, [])))
        return [float(program)]

    facts = {"grader": bank.spec.grader, "language": "adding"}
    table = judged(bank, Adding(), points_of)
    assert on_disk == [0, 1, 2] and table.of("p0", 3)["points"] == [[1.0], [2.0], [3.0]]


def test_hidden_points_that_stayed_undecided_are_asked_for_again_and_known_ones_are_not(make_bank):
    bank, asked = make_bank(["add 1", "add 2"]), []

    def points_of(problem, program):
        asked.append(program)
        return [float("nan") if asked == ["1", "2"] else float(program)]

    first = judged(bank, Adding(), points_of).of("p0", 2)["points"]
    assert first[0] == [1.0] and np.isnan(first[1]).all()
    for _ in range(2):
        assert [list(points) for points in judged(bank, Adding(), points_of).of("p0", 2)["points"]] == [[1.0], [2.0]]
    assert asked == ["1", "2", "2"]


def test_two_processes_do_not_fill_one_table_and_one_that_is_full_is_read_by_many(make_bank):
    bank = make_bank(["add 1"])
    first = execute_bank(bank, Adding(), "p").table
    with first.filled():
        assert execute_bank(bank, Adding(), "p").programs == 0
        bank = make_bank(["add 2"])
        with pytest.raises(InUse, match=r"p\.parquet is being written by process"):
            execute_bank(bank, Adding(), "p")
    with scores.held(bank.folder, "s"), pytest.raises(InUse):
        scores.held(bank.folder, "s")
    with pytest.raises(BankError, match="cannot be the name"):
        scores.held(bank.folder, "../s")
