"""The bench of deliberation's reward: rows of both forms, comparisons that say which is preferred, and its table."""

from __future__ import annotations

from collections import Counter

from bench import deliberate_reward as bench
from ponder.rollouts.deliberate import DeliberationConfig
from ponder.strategies.deliberation_environment import answer_line
from ponder.tasks import load_task


def test_every_second_answer_is_a_sentence_in_the_rows_and_in_their_lists(monkeypatch):
    made = bench.make_rows
    monkeypatch.setattr(bench, "make_rows", lambda *a, **k: made(*a, **(k | {"count": 60})))
    rows = bench.rows()
    forms = Counter(bench.is_sentence(row["answer"]) for row in rows if "answer" in row)
    assert min(forms[True], forms[False]) > 20
    listed = [line for row in rows for line in row.get("given", "").splitlines() if "Answer: " in line]
    assert any("Answer: It is " in line for line in listed) and any("Answer: It is " not in line for line in listed)
    spoken = next(row for row in rows if "Answer: It is " in row.get("given", ""))
    assert answer_line(bench.in_words("7")) == "Answer: It is 7." and "It is It is" not in spoken["given"]


def test_the_verifier_takes_both_forms_of_an_answer_and_no_wrong_one():
    task = load_task(bench.TASK, split="test")
    for i in range(20):
        problem = task[i]
        wrong = str(int(problem.target) + 1)
        for form in (str, bench.in_words):
            assert task.verify(problem, form(problem.target)).is_correct
            assert not task.verify(problem, form(wrong)).is_correct


def test_each_arm_leaves_out_its_own_term_and_is_a_reward_that_may_be_configured():
    for arm, missing in bench.ARMS.items():
        terms = {name: 0.0 if name in missing else value for name, value in bench.TERMS.items()}
        config = DeliberationConfig(turns=bench.TURNS, preference="somebody", **terms)
        assert (config.preference_weight == 0) == (arm == "preference")
        assert (config.step_cost == 0) == (arm == "steps") and (config.window_penalty == 0) == (arm == "window")


def test_a_cell_has_the_mean_its_interval_and_every_seed():
    cell = bench.over_seeds([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]], "right")
    value, rest = cell.split(" (", 1)
    low, high = rest.split(")")[0].split(" to ")
    assert float(low) < float(value) == 83.3 < float(high) and cell.endswith("[66.7, 100.0]")
    assert bench.over_seeds([[3.0, 4.0]], "turns") == "3.50"
