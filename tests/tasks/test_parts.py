"""Dev and report: every problem is in one of them, for ever, and what has chosen something is never reported on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks import Mixture, load_task
from ponder.tasks.file import FileTask
from ponder.tasks.parts import PARTS, Part, part_of, split_part, with_part
from ponder.tasks.prompting import Prompted
from ponder.types import Problem

TASK = load_task("words:level=1-3,size=200")


def test_the_parts_share_no_problem_and_are_all_of_them_in_their_order():
    dev, report = (Part(TASK, name) for name in ("dev", "report"))
    ids = [[task[i].id for i in range(len(task))] for task in (dev, report)]
    assert not set(ids[0]) & set(ids[1]) and len(ids[0]) + len(ids[1]) == len(TASK)
    assert 0.33 < len(dev) / len(TASK) < 0.47
    order = [TASK[i].id for i in range(len(TASK))]
    assert all(part == sorted(part, key=order.index) for part in ids)


def test_the_name_of_a_part_is_taken_apart_as_it_was_made():
    for name in ("gsm8k", "pipes:level=1-2,seed=7", "file:a, b.jsonl", "a, dev part, b"):
        assert split_part(name) == (name, None)
        assert [split_part(with_part(name, part)) for part in PARTS] == [(name, part) for part in PARTS]


def test_a_part_is_fixed_by_the_id_whatever_else_is_in_the_task_and_however_it_is_asked():
    small = load_task("words:level=1-3,size=50")
    assert [part_of(small[i]) for i in range(50)] == [part_of(TASK[i]) for i in range(50)]
    asked = Part(Prompted(TASK, "direct"), "report")
    plain = Part(TASK, "report")
    assert [asked[i].id for i in range(len(asked))] == [plain[i].id for i in range(len(plain))]
    assert asked.prompting == "direct" and asked.verify(asked[0], asked[0].target).is_correct
    # these are in docs and in results: they may not move
    assert [part_of(named(f"p{i}")) for i in range(8)] == RECORDED


def named(name: str, task: str = "first") -> Problem:
    return replace(TASK[0], id=name, task=task)


RECORDED = ["report", "report", "dev", "report", "report", "report", "dev", "dev"]


@pytest.mark.parametrize(
    ("problem", "part"),
    [("gsm8k-test-0000", "dev"), ("gsm8k-test-0390", "dev"), ("gsm8k-test-0391", "report"),
     ("gsm8k/gsm8k-test-1318", "report"), ("shared/gsm8k/gsm8k-test-0001", "dev")],
)  # fmt: skip
def test_what_had_chosen_something_before_there_were_parts_is_dev(problem, part):
    assert part_of(named(problem)) == part


def test_a_part_is_the_same_in_a_mixture():
    first = FileTask("first", [named(f"p{i}") for i in range(40)], VERIFIERS["math"])
    second = FileTask("second", [named(f"p{i}", task="second") for i in range(40)], VERIFIERS["math"])
    mixed = Mixture([first, second], [1, 1])
    parts = {mixed[i].id: part_of(mixed[i]) for i in range(len(mixed))}
    assert parts == {f"{task.name}/{task[i].id}": part_of(task[i]) for task in (first, second) for i in range(40)}


def test_a_part_that_is_unknown_or_empty_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'report'"):
        Part(TASK, "reports")
    [first, *_] = [TASK[i] for i in range(9) if part_of(TASK[i]) == "dev"]
    one = FileTask("one", [first], VERIFIERS["math"])
    with pytest.raises(ConfigError, match="none of the 1 problems"):
        Part(one, "report")
