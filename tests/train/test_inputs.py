"""What a run reads, as hashes: the same in any process, another one for whatever is asked or checked otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ponder.runs import Run
from ponder.tasks import load_task
from ponder.train.inputs import SMALL_FILES, files_of, of_model, of_task, problems_hash
from ponder.types import Problem
from tests.helpers import user

ROOT = Path(__file__).parent.parent.parent
PROBLEM = Problem(id="1", prompt=user("What is 2+2?"), target="4", task="t", meta={"solution": "2+2=4", 3: {4}})


@pytest.mark.parametrize(
    "changes",
    [{"id": "2"}, {"prompt": user("What?")}, {"target": "5"}, {"level": 3}, {"choices": ("4", "5")}, {"meta": {}}],
)
def test_any_other_problem_and_any_other_order_has_another_hash(changes):
    other = replace(PROBLEM, **changes)
    hashes = [problems_hash(these) for these in ([PROBLEM], [other], [PROBLEM, other], [other, PROBLEM], [])]
    assert len(set(hashes)) == 5


def test_what_is_not_plain_data_is_no_hindrance_and_brings_no_address_into_the_hash():
    with_lock = [replace(PROBLEM, meta={"lock": threading.Lock()}) for _ in range(2)]
    assert problems_hash(with_lock[:1]) == problems_hash(with_lock[1:])


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["arithmetic:size=20", "words:size=20", "countdown:size=5+cipher:size=5"])
def test_a_procedural_task_has_one_hash_in_every_process_and_no_files(spec):
    task = load_task(spec, split="train")
    here = of_task(spec, task, [task[i] for i in range(len(task))])
    assert list(here) == [f"the problems of {spec}"]
    code = (
        "from ponder.tasks import load_task; from ponder.train.inputs import problems_hash\n"
        f"task = load_task({spec!r}, split='train'); print(problems_hash(task[i] for i in range(len(task))))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert [there.stdout.strip()] == list(here.values())


def test_the_files_of_a_mixture_are_those_of_its_parts(tmp_path):
    row = '{"id": "1", "problem": "What is 2+2?", "answer": "4"}\n'
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(row * (name == "a") + row.replace("2+2", "1+3") * (name == "b"))
    task = load_task(f"file:{tmp_path}/a.jsonl+file:{tmp_path}/b.jsonl,verifier=math+arithmetic:size=4")
    found = files_of(task)
    assert [Path(path).name for path in found] == ["a.jsonl", "b.jsonl"] and len(set(found.values())) == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_a_begun_run_does_not_go_on_where_a_file_of_its_model_has_changed(name, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", "README.md"):
        (folder / file).write_text("{}")
    with Run(tmp_path / "run", kind="sft", config_toml="", seed=0) as run:
        run.same_inputs(of_model(folder), begun=False, later=SMALL_FILES)
        (folder / "README.md").write_text("other")
        run.same_inputs(of_model(folder), begun=True, later=SMALL_FILES)
        (folder / name).write_text("[]")
        with pytest.raises(ValueError, match="model.* has changed since"):
            run.same_inputs(of_model(folder), begun=True, later=SMALL_FILES)


def test_a_run_of_before_the_small_files_of_a_model_were_hashed_goes_on(tmp_path):
    with Run(tmp_path, kind="sft", config_toml="", seed=0) as run:
        run.same_inputs({"the model m": "1"}, begun=False)
        run.same_inputs({"the model m": "1", f"{SMALL_FILES}m": "2"}, begun=True, later=SMALL_FILES)
