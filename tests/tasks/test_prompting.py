"""Ways to ask: the same problems and verdicts, another prompt."""

from __future__ import annotations

import pytest

from ponder.config import ConfigError
from ponder.grading.verifiers import grade
from ponder.tasks import load_task
from ponder.tasks.prompting import EXEMPLARS, PROMPTINGS, Prompted, question
from ponder.types import Problem
from tests.helpers import user

LETTERS = Problem(id="1", prompt=user("Which?\nA. tea\nB. rain"), target="A", task="t", choices=("tea", "rain"))


@pytest.mark.parametrize("name", PROMPTINGS)
def test_problems_targets_and_verdicts_are_those_of_the_task(name):
    plain = load_task("arithmetic:level=1-2,size=6")
    asked = Prompted(plain, name)
    assert (len(asked), asked.name, asked.split, asked.prompting) == (6, plain.name, plain.split, name)
    for i in range(6):
        assert (asked[i].id, asked[i].target, asked[i].level) == (plain[i].id, plain[i].target, plain[i].level)
        assert question(asked[i]) == question(plain[i]) == plain[i].text
        assert plain[i].text in asked[i].text
        assert asked.verify(asked[i], plain[i].target).is_correct
        assert asked.key(asked[i], "7") == plain.key(plain[i], "7")


def test_each_way_changes_the_prompt_as_it_says():
    plain = load_task("arithmetic:level=1,size=1")[0]
    ask = {name: PROMPTINGS[name](plain) for name in PROMPTINGS}
    assert ask["none"] == plain.prompt
    assert ask["zero_shot_cot"][-1].content == plain.text + "\n\nLet's think step by step."
    assert "final answer" in ask["direct"][-1].content and "letter" in PROMPTINGS["direct"](LETTERS)[-1].content
    assert [message.role for message in ask["few_shot_cot"]] == ["user", "assistant"] * 8 + ["user"]
    assert ask["few_shot_cot"][-1] == plain.prompt[-1] and ask["letter"] == plain.prompt


def test_all_ways_but_none_say_that_a_choice_is_answered_by_its_letter():
    for name, way in PROMPTINGS.items():
        last = way(LETTERS)[-1].content
        assert last.startswith(LETTERS.text) and ("letter of the right choice" in last) == (name != "none"), name


def test_the_eight_worked_problems_are_right_by_our_own_verifier():
    assert len(EXEMPLARS) == 8 == len({question for question, _ in EXEMPLARS})
    for _, answer in EXEMPLARS:
        *_, equation = [part for part in answer.split() if any(c.isdigit() for c in part)]
        target = equation.rstrip(".")
        assert answer.endswith(f"The answer is {target}.") and grade(target, answer, "integer").is_correct
        working = answer.rpartition("The answer is")[0]
        assert grade(target, working, "integer").is_correct, working  # the steps lead where the last sentence says


def test_every_step_of_the_worked_problems_is_true():
    import re

    for _, answer in EXEMPLARS:
        steps = re.findall(r"(\d+(?: [-+*/] \d+)+) = (\d+)", answer)
        assert steps
        for left, right in steps:
            assert grade(right, left, "math").is_correct, (left, right)


def test_a_facade_shows_the_facts_of_its_task_and_an_unknown_way_names_the_nearest():
    task = Prompted(load_task("countdown:size=2"), "direct")
    assert task.origin == () and task.verifier == ""  # as its task says
    with pytest.raises(ConfigError, match="did you mean 'few_shot_cot'"):
        Prompted(task, "few_shot_cots")
