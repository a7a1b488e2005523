"""Every task is attacked: its own target scores, nothing else does, and nothing hangs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_benchmarks import install

from ponder.grading import killable
from ponder.tasks import BENCHMARKS, FAMILIES, load_task
from ponder.types import Task
from tests.helpers import takes_at_most

pytestmark = pytest.mark.slow

JUNK = (
    "", " ", "\n\t", "0", "1", "A", "?", "junk", "}{", "\\boxed{", "\\boxed{}", "\x00", "\x00" * 1_000, "٣٤٥", "①②③",
    "💥" * 50, "\ud800", "None", "nan", "inf", "1/0", "9**9**9", "__import__('os').system('true')",
    "x" * 200_000, "9" * 200_000,
    "(" * 200_000, "1+" * 100_000, "-" * 200_000, "a " * 100_000, "Answer: " * 25_000, r"\boxed{9^{9^{9^{9}}}}",
)  # fmt: skip
TASKS = [f"{name}:size=24" for name in [*sorted(FAMILIES), *BENCHMARKS]]


@pytest.fixture(params=TASKS, scope="module")
def task(request, tmp_path_factory) -> Iterator[Task]:
    """One for all of its tests: there are a dozen of them, and the data of a benchmark is made anew each time."""
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("data"), patch)
        yield load_task(request.param)


def test_its_own_target_scores_one(task):
    for i in range(len(task)):
        verdict = task.verify(task[i], task[i].target)
        assert (verdict.outcome, verdict.reward) == ("correct", 1.0) and verdict.extracted


@pytest.mark.parametrize("form", ["{}\n", "  {}", r"\boxed{{{}}}", "Answer: {}", "The answer is {}."])
def test_a_target_in_plain_clothes_scores_too_and_votes_alike(task, form):
    for i in range(len(task)):
        answer = form.format(task[i].target)
        assert task.verify(task[i], answer).is_correct, answer
        assert task.key(task[i], answer) == task.key(task[i], task[i].target)


def test_the_target_of_another_item_scores_nothing(task):
    for i in range(len(task)):
        other = task[(i + 1) % len(task)].target
        if task.key(task[i], other) != task.key(task[i], task[i].target):
            assert not task.verify(task[i], other).is_correct
    hits = [task.verify(task[i], task[(i - 1) % len(task)].target).is_correct for i in range(len(task))]
    assert sum(hits) <= len(task) // 4


def test_junk_scores_nothing_and_takes_no_time(task):
    problems = [task[i] for i in range(6)]
    counts = killable.shared().counts  # of the process where sympy has its opinion
    stopped = counts["timeout"]
    for junk in JUNK:
        with takes_at_most(10):  # seconds
            for problem in problems:
                if junk.strip() != problem.target:
                    assert not task.verify(problem, junk).is_correct, junk[:12]
                    assert isinstance(task.key(problem, junk), str | None), junk[:12]
        assert counts["timeout"] == stopped, junk[:12]


def test_no_constant_answer_pays(task):
    problems = [task[i] for i in range(len(task))]
    for constant in {problem.target for problem in problems}:
        assert sum(task.verify(problem, constant).is_correct for problem in problems) <= len(problems) // 4


def test_an_item_is_the_same_on_every_visit_and_belongs_to_its_index(task):
    again = load_task(f"{task.name}:size=24")
    for i in (7, 3, 0, 23):
        assert task[i] == again[i] and task[i].id.endswith(f"/{i}")
    with pytest.raises(IndexError):
        task[24]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_splits_are_disjoint_whatever_the_seed_and_the_level(name):
    texts = {split: set() for split in ("train", "dev", "test")}
    for split, found in texts.items():
        for seed in range(3):
            task = load_task(name, split=split, seed=seed, size=100)
            found |= {task[i].text for i in range(100)}
    assert not (texts["train"] & texts["test"] or texts["train"] & texts["dev"] or texts["dev"] & texts["test"])
    assert all(len(found) > 200 for found in texts.values())
