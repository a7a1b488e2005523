"""The bank survives kills and strangers, and gives back what was put in."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.evals import columns
from ponder.evals.bank import Bank, BankError, BankSpec, SampleRow, completion_of, confidence, sample_row, withheld
from ponder.evals.exams import vote_rate_at
from ponder.runs import Run
from ponder.types import Completion, Message, Problem, SamplingParams, Verdict
from tests.helpers import takes_at_most

SPEC = BankSpec(task="t", split="test", model="m", params=SamplingParams(max_reasoning_tokens=3), seed=1, grader="g")
RIGHT = Verdict(outcome="correct", reward=1.0, extracted="4")
WRONG = Verdict(outcome="wrong", reward=0.0, extracted="5")


def problem(name: str = "p", **changes: Any) -> Problem:
    fields: dict[str, Any] = {"id": name, "prompt": (Message(role="user", content="2+2?"),), "target": "4", "task": "t"}
    return Problem(**{**fields, **changes})


def completions(n: int, first: int = 0) -> list[Completion]:
    engine = ScriptedEngine([("long thought", "4"), ("r", "5 \u00e9\ud800")])
    return asyncio.run(engine.generate(problem().prompt, SPEC.params, n=n, first=first))


def rows(name: str, n: int, first: int = 0) -> list[SampleRow]:
    drawn = completions(n, first)
    return [
        sample_row(problem(name), j, c, dataclasses.replace(RIGHT if j % 2 == 0 else WRONG, key=c.answer))
        for j, c in enumerate(drawn, first)
    ]


def fill(folder: Path, name: str = "p", n: int = 4, first: int = 0) -> None:
    with Bank.open(folder, SPEC) as bank:
        bank.append(problem(name), rows(name, n, first), prompt_ids=[1, 2])


def contents(folder: Path) -> list[SampleRow]:
    """Every stored sample, by problem and number."""
    return sorted(Bank.read(folder).full_rows(), key=lambda row: (row.problem, row.sample))


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").iterdir())


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


def test_what_is_read_back_is_what_was_held_while_writing(tmp_path: Path) -> None:
    with Bank.open(tmp_path, SPEC) as bank:
        for name in ("b", "a"):
            bank.append(problem(name), rows(name, 3), prompt_ids=[])
            bank.append(problem(name), rows(name, 2, 3), prompt_ids=[])
        for read in (Bank.read(tmp_path), bank):
            assert [p.id for p in read.problems] == ["a", "b"] and read.pass_rate("a") == 0.6
            for one, other in zip(vars(read.samples("a")).items(), vars(bank.samples("a")).items(), strict=True):
                assert one[0] == other[0]
                np.testing.assert_array_equal(one[1], other[1])
            assert [row.answer for row in read.rows("b")] == [row.answer for row in rows("b", 5)]
            assert not read.rows("b")[0].token_ids


def test_two_runs_equal_one(tmp_path: Path) -> None:
    fill(tmp_path / "two", n=1)
    fill(tmp_path / "two", n=3, first=1)
    fill(tmp_path / "one", n=4)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert (tmp_path / "two/problems.jsonl").read_text() == (tmp_path / "one/problems.jsonl").read_text()


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


@pytest.mark.parametrize("stop", range(8))
def test_a_kill_at_any_step_of_a_merge_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    folder = tmp_path / "bank"
    bank = Bank.open(folder, SPEC)
    for name in ("q", "p", "r"):
        bank.append(problem(name), rows(name, 2), prompt_ids=[])
        bank.append(problem(name), rows(name, 2, 2), prompt_ids=[])
    before, steps = contents(folder), iter(range(100))
    assert len(before) == 12 and len(parts(folder)) == 6

    def counted(function: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            if next(steps) == stop:
                raise Killed
            return function(*args, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            columns.compact(folder / "samples")
        except Killed:
            assert stop < 7  # one rename, six removals
        else:
            assert stop >= 7
    bank._lock.close()
    assert contents(folder) == before
    fill(folder, "q", 1, 4)
    assert len(parts(folder)) == 1 and len(contents(folder)) == 13


def test_a_kill_while_a_part_is_written_costs_that_part_only(tmp_path: Path) -> None:
    fill(tmp_path)
    [name] = parts(tmp_path)
    whole = (tmp_path / "samples" / name).read_bytes()
    (tmp_path / "samples" / ".part-00001-00001.parquet.77.part").write_bytes(whole[:99])
    assert Bank.read(tmp_path).num_samples("p") == 4
    fill(tmp_path, n=2, first=4)
    assert len(parts(tmp_path)) == 1 and Bank.read(tmp_path).num_samples("p") == 6


def test_a_sample_written_twice_is_kept_once(tmp_path: Path) -> None:
    fill(tmp_path)
    [name] = parts(tmp_path)
    shutil.copy(tmp_path / "samples" / name, tmp_path / "samples" / "part-00001-00001.parquet")
    bank = Bank.read(tmp_path)
    assert bank.num_samples("p") == 4 and len(list(bank.full_rows())) == len(bank.rows("p")) == 4
    fill(tmp_path, "q")
    assert len(parts(tmp_path)) == 1 and len(contents(tmp_path)) == 8
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(problem(), rows("p", 6), prompt_ids=[])  # four of them again
        assert bank.num_samples("p") == 6
        with pytest.raises(BankError, match="the next sample of 'p' is number 6"):
            bank.append(problem(), rows("p", 1, 7), prompt_ids=[])


def test_samples_after_a_lost_part_wait_until_it_is_drawn_again(tmp_path: Path) -> None:
    bank = Bank.open(tmp_path, SPEC)
    for first in (0, 2, 4):
        bank.append(problem(), rows("p", 2, first), prompt_ids=[])
    bank._lock.close()
    before = contents(tmp_path)
    (tmp_path / "samples" / "part-00001-00001.parquet").unlink()
    assert Bank.read(tmp_path).num_samples("p") == len(contents(tmp_path)) == 2
    fill(tmp_path, n=4, first=2)
    assert contents(tmp_path) == before


def test_many_appends_leave_few_parts(tmp_path: Path) -> None:
    with Bank.open(tmp_path, SPEC) as bank:
        for j in range(150):
            bank.append(problem(str(j % 7)), rows(str(j % 7), 1, j // 7), prompt_ids=[])
            assert len(parts(tmp_path)) <= columns.MANY
        reader = Bank.read(tmp_path)
    assert len(parts(tmp_path)) == 1
    assert len(list(reader.full_rows())) == 150 and len(reader.rows("3")) == 21  # its parts are merged meanwhile


def test_others_read_the_folder_too(tmp_path: Path) -> None:
    fill(tmp_path)
    table = columns.arrow().parquet.read_table(tmp_path / "samples", columns=["sample", "answer", "token_ids"])
    assert [row["answer"] for row in table.to_pylist()] == [row.answer for row in rows("p", 4)]
    assert table["token_ids"].to_pylist() == [list(row.token_ids) for row in rows("p", 4)]


def test_text_that_is_no_utf_8_is_kept_as_its_escape(tmp_path: Path) -> None:
    [row] = rows("p", 1)
    with Bank.open(tmp_path, SPEC) as bank:
        odd = dataclasses.replace(row, answer_class="5\ud800", answer="\ud800\x00\u00e9", note="n")
        bank.append(problem(), [odd], prompt_ids=[])
    bank = Bank.read(tmp_path)
    assert bank.samples("p").keys == ("5\\ud800",)
    assert (bank.rows("p")[0].answer, bank.rows("p")[0].note) == ("\\ud800\x00\u00e9", "n")


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"ponder\[eval\]"):
        Bank.open(tmp_path, SPEC)
    assert not list(tmp_path.iterdir())


def test_confidence_is_of_the_sampled_tokens_and_of_the_least_sure_window() -> None:
    assert all(map(math.isnan, [*confidence([]), *confidence([-1.0], [0])]))
    assert confidence([-1.0, -3.0]) == (-2.0, -2.0)
    assert confidence([-1.0, -9.0, -3.0], [1]) == (-2.0, -2.0)
    dip = [0.0] * 20 + [-8.0] + [0.0] * 20
    assert confidence(dip) == pytest.approx((-8 / 41, -1.0))


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
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(BankError) as error:
        Bank.open(tmp_path, dataclasses.replace(SPEC, **change))
    assert named in str(error.value) and "choose another folder" in str(error.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_a_bank_from_before_there_was_a_setting_goes_on_with_its_default(tmp_path: Path) -> None:
    fill(tmp_path)
    facts = json.loads((tmp_path / "bank.json").read_text())
    del facts["params"]["form"], facts["grader"]
    (tmp_path / "bank.json").write_text(json.dumps(facts))
    with Bank.open(tmp_path, dataclasses.replace(SPEC, grader="")) as bank:
        assert bank.num_samples("p") == 4
    with pytest.raises(BankError, match="grader is '', not 'g'"):
        Bank.open(tmp_path, SPEC)


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
        ("bank.json", '{"format": 1}', "another format"),
        ("bank.json", '{"format": 2, "task": "t", "split": "test"}', "model is missing"),
        ("samples/part-00000-00000.parquet", "junk", "is broken"),
        ("samples/part-00000-00000.parquet", "", "is broken"),
        ("problems.jsonl", '{"id": "p"}\n', "no problem"),
        ("problems.jsonl", '{"id": "p", "prompt": [], "target": "", "task": "", "odd": 1}\n', "odd"),
    ],
)
def test_a_broken_file_gives_one_clear_error(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    fill(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        Bank.read(tmp_path)


def test_a_flipped_bit_in_any_column_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    """Pages have checksums. Without them 23 of 400 flipped bits of a small bank changed what was read, and nobody was
    told; with them 6, of the directory at the file's end."""
    fill(tmp_path)
    (path,) = (tmp_path / "samples").glob("*.parquet")
    whole, group = path.read_bytes(), pq.ParquetFile(path).metadata.row_group(0)
    for number in range(group.num_columns):
        chunk, data = group.column(number), bytearray(whole)
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        data[first + chunk.total_compressed_size - 1] ^= 1
        path.write_bytes(data)
        with pytest.raises(BankError, match=re.escape(str(path))):
            list(Bank.read(tmp_path).full_rows())


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


def big_bank(folder: Path, num_problems: int, num_samples: int) -> None:
    """Many samples without their texts, written at once."""
    fill(folder, n=1)
    size = num_problems * num_samples
    rng = np.random.default_rng(0)
    answers = np.minimum(rng.geometric(0.3, size), 20)
    values: dict[str, Any] = {name: [None] * size for name in columns.SAMPLE_COLUMNS}
    values |= {
        "problem": [f"q{i}" for i in range(num_problems) for _ in range(num_samples)],
        "sample": np.tile(np.arange(num_samples), num_problems),
        "class": answers.astype(str).tolist(), "outcome": np.where(answers == 1, "correct", "wrong").tolist(),
        "finish_reason": ["stop"] * size, "was_cut": np.zeros(size, dtype=bool),
        **{name: np.full(size, 9) for name in columns.SAMPLE_COLUMNS if name.endswith("tokens")},
        **{name: np.full(size, -0.5) for name in ("mean_logprob", "worst_logprob")},
    }  # fmt: skip
    columns.write(folder / "samples" / "part-00001-00001.parquet", values, columns.SAMPLE_COLUMNS)
    lines = [{"id": f"q{i}", "prompt": [], "target": "1", "task": "t", "prompt_ids": []} for i in range(num_problems)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_big_bank_opens_and_votes_in_seconds(tmp_path: Path) -> None:
    big_bank(tmp_path, 200, 1000)
    # ten times what it takes; whatever is quadratic in samples takes minutes
    with takes_at_most(2):
        bank = Bank.read(tmp_path)
        tables = [bank.samples(problem.id) for problem in bank.problems]
    with takes_at_most(4):
        rates = [vote_rate_at(table, 64) for table in tables]
    assert len(rates) == 200 and min(rates) > 0.5


def test_a_bank_and_a_run_never_share_a_folder(tmp_path: Path) -> None:
    with Run(tmp_path / "run", kind="rl", config_toml="", seed=0):
        pass
    with pytest.raises(BankError, match=r"is the folder of a run; choose another, such as .*eval"):
        Bank.open(tmp_path / "run", SPEC)
    assert not (tmp_path / "run" / "bank.json").exists()
    fill(tmp_path / "bank")
    with pytest.raises(ValueError, match="holds the samples of an exam; choose another `out`"):
        Run(tmp_path / "bank", kind="rl", config_toml="", seed=0)
    fill(tmp_path / "bank", n=2, first=4)  # as it was, and nobody holds it
    assert Bank.read(tmp_path / "bank").num_samples("p") == 6 and not (tmp_path / "bank" / "run.json").exists()


@pytest.mark.parametrize(
    "first, then",
    [
        ({"meta": {"tests": "a"}}, {"meta": {"tests": "b"}}),
        ({"meta": {"numbers": (1, 2)}}, {"meta": {"numbers": (1, 3)}}),
        ({"meta": {"tests": "a"}}, {"meta": {"tests": "a", "checker": "c"}}),
        ({"choices": ("x", "y")}, {"choices": ("y", "x")}),
        ({"meta": {"n": 1}, "choices": ("x", "y")}, {"meta": {"n": 1}, "choices": ("y", "x")}),
    ],
)
def test_a_problem_that_is_graded_by_something_else_is_another_problem(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any]
) -> None:
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(problem(**first), rows("p", 1), prompt_ids=[])
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(problem(**first), rows("p", 1, 1), prompt_ids=[])
        with pytest.raises(BankError, match="graded by"):
            bank.append(problem(**then), rows("p", 1, 2), prompt_ids=[])
        with pytest.raises(BankError, match="graded by"):
            bank.check(problem(**then))


def test_a_bank_from_before_there_was_a_digest_goes_on_with_what_it_knows(tmp_path: Path) -> None:
    item = problem(meta={"tests": "a", "f": len, "n": (1, 2)})
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(item, rows("p", 1), prompt_ids=[])
    path = tmp_path / "problems.jsonl"
    row = json.loads(path.read_text())
    del row["meta"]["graded_by_sha256"]
    row["meta"]["f"] = "<function at another address>"
    path.write_text(json.dumps(row) + "\n")
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(problem(meta={**item.meta, "more": 1}), rows("p", 1, 1), prompt_ids=[])
        with pytest.raises(BankError, match="graded by"):
            bank.check(problem(meta={**item.meta, "tests": "b"}))


def test_a_withheld_problem_is_another_one_when_only_its_tests_are(tmp_path: Path) -> None:
    one, other = (withheld(problem(meta={"tests": tests})) for tests in "ab")
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(one, rows("p", 1), prompt_ids=[])
        bank.check(withheld(problem(meta={"tests": "a"})))
        with pytest.raises(BankError, match="graded by"):
            bank.check(other)
