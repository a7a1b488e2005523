"""reasoning-gym families: only exactly 1.0 counts, and the broken ones are refused with the reason."""

from __future__ import annotations

import pytest

pytest.importorskip("reasoning_gym")

from ponder.config import ConfigError
from ponder.grading import killable
from ponder.tasks import load_task
from ponder.tasks.gym import DENIED, known_families

pytestmark = pytest.mark.slow

SOME = ("basic_arithmetic", "leg_counting", "syllogism", "word_sorting", "acre")  # acre needs a dataset for each item
JUNK = ("", " ", "0", "A", "junk", "\x00", "٣", "x" * 200_000, "((((", "nan", "1/0", "[]", "{}")


@pytest.mark.parametrize("family", SOME)
def test_targets_score_junk_does_not_and_items_are_fixed(family):
    task, again = load_task(f"gym:{family}:size=6"), load_task(f"gym:{family}", size=6)
    for i in range(6):
        assert task[i] == again[i] and task.verify(task[i], f" {task[i].target}\n").is_correct
        scored = killable.shared().run("ponder.tasks.gym:score", family, task[i].meta["seed"], task[i].target)
        assert scored.value == 1.0
    for junk in JUNK:
        if junk.strip() != task[0].target:
            assert not task.verify(task[0], junk).is_correct, junk


def test_partial_credit_is_wrong():
    task = load_task("gym:basic_arithmetic", size=1)
    assert task.verify(task[0], f"perhaps {task[0].target} or so").outcome == "wrong"


def test_a_scorer_that_raises_leaves_the_answer_undecided():
    task = load_task("gym:game_of_life", size=1)
    found = task.verify(task[0], "{}")
    assert found.outcome == "undecided" and "KeyError" in found.note


def test_splits_are_disjoint():
    train, test = (load_task("gym:basic_arithmetic", split=split, size=40) for split in ("train", "test"))
    assert not {train[i].text for i in range(40)} & {test[i].text for i in range(40)}


@pytest.mark.parametrize("family", sorted(DENIED))
def test_broken_families_are_refused_with_the_reason(family):
    assert family in known_families()
    with pytest.raises(ConfigError, match="is not used"):
        load_task(f"gym:{family}")


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'basic_arithmetic'"):
        load_task("gym:basic_arithmetics")
