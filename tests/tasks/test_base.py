"""Specs become tasks, and a wrong spec names the right one."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import pytest

from ponder.config import ConfigError
from ponder.tasks import FAMILIES, load_task
from tests.helpers import takes_at_most


def test_dials_come_from_the_spec_and_from_keywords():
    task = load_task("arithmetic:level=3-4,size=10", split="train", seed=5)
    assert len(task) == 10 and {task[i].level for i in range(10)} == {3, 4} and task.split == "train"
    assert len(load_task("arithmetic:size=10", size=20)) == 20
    assert load_task("arithmetic", seed=1)[0] != load_task("arithmetic", seed=2)[0]


@pytest.mark.parametrize(
    "spec", ["arithmetic:level=1-999999999", "countdown:level=999999999", "arithmetic:level=²", "arithmetic:size=²"]
)
def test_numbers_of_a_spec_that_no_task_has_are_refused_before_anything_is_made_of_them(spec):
    with takes_at_most(0.5), pytest.raises(ConfigError, match=r"level=|size="):
        load_task(spec)


def test_a_mixture_takes_its_items_in_turn_and_verifies_each_by_its_own_task():
    task = load_task("arithmetic:size=6+cipher:size=6+countdown:size=6")
    assert [task[i].task for i in range(6)] == ["arithmetic", "cipher", "countdown"] * 2 and len(task) == 18
    assert all(task.verify(task[i], task[i].target).is_correct for i in range(len(task)))
    assert len({task[i].id for i in range(len(task))}) == len(task)


def test_a_problem_of_no_member_of_a_mixture_is_refused_by_name():
    task = load_task("arithmetic:size=6+cipher:size=6")
    with pytest.raises(ConfigError, match="of 'other', and the mixture of arithmetic"):
        task.verify(replace(task[0], task="other"), "1")


def test_anything_importable_can_be_a_task(monkeypatch):
    module = types.ModuleType("my_package")
    module.my_task = lambda split, seed=0, size=3: FAMILIES["cipher"](split=split, seed=seed, size=size)
    module.number = 5
    monkeypatch.setitem(sys.modules, "my_package", module)
    assert len(load_task("my_package:my_task")) == 3
    assert len(load_task("my_package:my_task:size=7")) == 7
    with pytest.raises(ConfigError, match="not callable"):
        load_task("my_package:number")
    with pytest.raises(ConfigError, match="cannot load task"):
        load_task("my_package:other")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("arithmetics", "did you mean 'arithmetic'"), ("arithmetics:level=3", "did you mean 'arithmetic'"),
     ("arithmetic:levle=3", "did you mean 'level'"), ("arithmetic:level", "not dial=value|cannot load task"),
     ("", "empty name"), ("arithmetic+", "empty name"), ("cipher+cipher", "twice"),
     ("nowhere:task", "cannot load task"), ("cipher:level=99", "levels 1 to 8"), ("cipher:level=a", "not a level"),
     ("cipher:size=0", "size=0")],
)  # fmt: skip
def test_a_wrong_spec_says_what_to_write(spec, message):
    with pytest.raises(ConfigError, match=message):
        load_task(spec)


def test_an_unknown_split_and_a_misplaced_verifier_are_errors():
    with pytest.raises(ConfigError, match="unknown split"):
        load_task("cipher", split="validation")
    with pytest.raises(ConfigError, match="brings its own"):
        load_task("cipher", verifier="math")


def test_shares_decide_how_many_of_each_task_a_mixture_takes():
    task = load_task("0.6*arithmetic:size=30 + 0.4*words:level=1-2,size=40")
    assert [task[i].task for i in range(5)] == ["arithmetic"] * 3 + ["words"] * 2 and len(task) == 50
    assert [task[i].task for i in range(50)].count("words") == 20 and task[4].level == 2
    assert len({task[i].id for i in range(50)}) == 50 and task[3] == load_task("words:level=1-2,size=40")[0]
    alike = load_task("2*arithmetic:size=4+2*cipher:size=4")
    assert [alike[i].task for i in range(4)] == ["arithmetic", "cipher"] * 2
    assert len(load_task("3*cipher:size=9")) == 9  # a share of one task alone says nothing


def test_files_of_a_mixture_keep_their_verifiers_and_get_ids_that_do_not_clash(tmp_path):
    for name, answer in (("a_train", "7"), ("b_train", "1/2")):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"id": "1", "problem": "{name}?", "answer": "{answer}"}}\n')
    task = load_task(f"file:{tmp_path}/a_train.jsonl+file:{tmp_path}/b_train.jsonl")
    assert task[0].id != task[1].id and task[0].id.endswith("/a_train/1")
    assert task.verify(task[0], "7.0").is_correct and task.verify(task[1], "0.5").is_correct
    assert not task.verify(task[0], "0.5").is_correct and task.key(task[1], "2/4") == task.key(task[1], "0.5")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("0*cipher+arithmetic", "share of 0"), ("0.1234*cipher+0.9999*arithmetic", "round them"),
     ("0.5*+cipher", "empty name"),
     ("0.5*cifer+words", "did you mean 'cipher'"), ("-1*cipher+words", "cannot load|unknown|no task")],
)  # fmt: skip
def test_a_wrong_share_says_what_to_write(spec, message):
    with pytest.raises(ConfigError, match=message):
        load_task(spec)
