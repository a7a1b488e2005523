"""The bank survives kills and strangers, and gives back what was put in."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank, BankError, BankSpec, completion_of, sample_row
from ponder.types import Completion, Message, Problem, SamplingParams, Verdict

SPEC = BankSpec(task="t", split="test", model="m", params=SamplingParams(max_reasoning_tokens=3), seed=1, grader="g")
RIGHT = Verdict(outcome="correct", reward=1.0, extracted="4")
WRONG = Verdict(outcome="wrong", reward=0.0, extracted="5")


def problem(name: str = "p", **changes: Any) -> Problem:
    fields: dict[str, Any] = {"id": name, "prompt": (Message(role="user", content="2+2?"),), "target": "4", "task": "t"}
    return Problem(**{**fields, **changes})


def completions(n: int, first: int = 0) -> list[Completion]:
    engine = ScriptedEngine([("long thought", "4"), ("r", "5 \u00e9\ud800")])
    return asyncio.run(engine.generate(problem().prompt, SPEC.params, n=n, first=first))


def rows(name: str, n: int, first: int = 0) -> list[dict[str, Any]]:
    drawn = completions(n, first)
    return [
        sample_row(problem(name), j, c, RIGHT if j % 2 == 0 else WRONG, c.answer, "")
        for j, c in enumerate(drawn, first)
    ]


def fill(folder: Path, name: str = "p", n: int = 4, first: int = 0) -> None:
    with Bank.open(folder, SPEC) as bank:
        bank.append(problem(name), rows(name, n, first), prompt_ids=[1, 2])


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    fill(tmp_path)
    bank = Bank.read(tmp_path)
    samples = bank.samples("p")
    assert bank.problems == [problem()] and bank.prompt_ids() == {"p": [1, 2]}
    assert list(samples.outcomes) == ["correct", "wrong"] * 2 and list(samples.classes) == [0, 1, 0, 1]
    assert samples.tally() == ([2, 2], [2, 0]) and samples.blank == 0
    assert list(samples.was_cut) == [True, False] * 2 and list(samples.reasoning_tokens) == [3, 1] * 2
    drawn = completions(4)
    for row, completion in zip(bank.full_rows(), drawn, strict=True):
        logprobs = completion_of(row, completion.prompt_ids).sampler_logprobs
        assert logprobs == pytest.approx(completion.sampler_logprobs, rel=1e-6)
        assert completion_of(row, completion.prompt_ids) == dataclasses.replace(completion, sampler_logprobs=logprobs)


def test_two_sittings_equal_one(tmp_path: Path) -> None:
    fill(tmp_path / "two", n=1)
    fill(tmp_path / "two", n=3, first=1)
    fill(tmp_path / "one", n=4)
    assert (tmp_path / "two/bank.jsonl").read_text() == (tmp_path / "one/bank.jsonl").read_text()
    assert (tmp_path / "two/problems.jsonl").read_text() == (tmp_path / "one/problems.jsonl").read_text()


def test_a_kill_at_any_byte_loses_only_the_samples_not_yet_whole(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "bank.jsonl"
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        have = Bank.read(tmp_path).num_samples("p")
        assert have == whole[:cut].count(b"\n")
        fill(tmp_path, n=4 - have, first=have)
        assert path.read_bytes() == whole


def test_a_sample_written_twice_is_kept_once(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "bank.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    bank = Bank.read(tmp_path)
    assert bank.num_samples("p") == 4 and len(list(bank.full_rows())) == 4


@pytest.mark.parametrize(
    "change, named",
    [
        ({"model": "other"}, "model is 'm', not 'other'"),
        ({"fingerprint": "abc"}, "fingerprint"),
        ({"task": "u"}, "task"),
        ({"seed": 2}, "seed is 1, not 2"),
        ({"grader": "h"}, "grader"),
        ({"params": SamplingParams(temperature=0.5, max_reasoning_tokens=3)}, "temperature is 1.0, not 0.5"),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_touched(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    fill(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BankError) as error:
        Bank.open(tmp_path, dataclasses.replace(SPEC, **change))
    assert named in str(error.value) and "choose another folder" in str(error.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_seed_inside_the_sampling_params_does_not_matter(tmp_path: Path) -> None:
    fill(tmp_path)
    params = dataclasses.replace(SPEC.params, seed=99)
    with Bank.open(tmp_path, dataclasses.replace(SPEC, params=params)) as bank:
        assert bank.num_samples("p") == 4


def test_a_changed_problem_under_a_known_id_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with Bank.open(tmp_path, SPEC) as bank, pytest.raises(BankError, match="the task has changed"):
        bank.append(problem(target="5"), rows("p", 1, 4), prompt_ids=[])


def test_two_writers_are_told_apart(tmp_path: Path) -> None:
    with Bank.open(tmp_path, SPEC), pytest.raises(BankError, match="another process"):
        Bank.open(tmp_path, SPEC)
    with Bank.open(tmp_path, SPEC):
        pass


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("bank.json", "{", "not JSON"),
        ("bank.json", "[]", "another format"),
        ("bank.json", '{"format": 99}', "another format"),
        ("bank.jsonl", '{"problem": "p"}\n', "no sample"),
        ("bank.jsonl", "[1]\n", "no sample"),
        ("bank.jsonl", "junk\n", "bank.jsonl:1 is not JSON"),
        ("problems.jsonl", '{"id": "p"}\n', "no problem"),
        ("problems.jsonl", '{"id": "p", "prompt": [], "target": "", "task": "", "odd": 1}\n', "odd"),
    ],
)
def test_a_broken_file_gives_one_clear_error(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    fill(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        Bank.read(tmp_path)


def test_no_bank_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="ponder eval --out"):
        Bank.read(tmp_path)


def test_what_json_cannot_hold_in_meta_becomes_text(tmp_path: Path) -> None:
    item = problem(meta={"f": len, "n": (1, 2)}, level=3, subject="s", choices=("a", "b"))
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(item, rows("p", 1), prompt_ids=[])
    [read] = Bank.read(tmp_path).problems
    assert read.meta["n"] == [1, 2] and "len" in read.meta["f"]
    assert (read.level, read.subject, read.choices) == (3, "s", ("a", "b"))


def test_bank_json_says_what_the_samples_are_of(tmp_path: Path) -> None:
    fill(tmp_path)
    facts = json.loads((tmp_path / "bank.json").read_text())
    assert (facts["task"], facts["model"], facts["seed"], facts["params"]["temperature"]) == ("t", "m", 1, 1.0)
