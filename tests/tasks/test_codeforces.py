"""Problems of Codeforces rounds: rows of the hub as problems that tests decide."""

from __future__ import annotations

import json

import pytest

from ponder.config import ConfigError
from ponder.tasks import codeforces
from ponder.tasks.codeforces import codeforces_rows, stdio_row, write_rows


def hub_row(name: str = "1349/A", **more) -> dict:
    return {
        "id": name, "aliases": [], "title": "Sum", "description": "Add two numbers.", "time_limit": 2.0,
        "memory_limit": 256.0, "input_format": "Two numbers.", "output_format": "Their sum.",
        "interaction_format": None, "note": None, "examples": [{"input": "1 2\n", "output": "3\n"}],
        "official_tests": [{"input": "1 2", "output": "3"}, {"input": "5 6", "output": "11"}],
        "official_tests_complete": True, "input_mode": "stdio", "executable": True, "generated_checker": None,
        "rating": 800, **more,
    }  # fmt: skip


@pytest.fixture
def hub(monkeypatch):
    """A hub with one problem in the train part, shared by two divisions, and one in the test part."""
    parts = {"train": [hub_row("1349/A", aliases=["1350/C"]), hub_row("7/B")], "test": [hub_row("2000/A")]}

    def fetch(repo, config, split, *, columns=None, where=None):
        assert repo == "open-r1/codeforces"
        rows = [row for row in parts[split] if where is None or row["id"] in where[0][2]]
        return [{name: row[name] for name in columns or row} for row in rows], "abc"

    monkeypatch.setattr(codeforces, "hub_rows", fetch)


def test_a_row_has_tests_limits_and_says_whether_they_are_complete():
    made = stdio_row(hub_row(), "1349/A", "abc")
    assert (made["id"], made["contest"], made["index"]) == ("1349/A", "1349", "A")
    assert [(each["group"], each["output"]) for each in made["tests"]] == [("sample", "3"), ("hidden", "11")]
    assert (made["time_limit"], made["memory_limit"], made["level"]) == (2.0, 256.0, 800)
    assert made["complete"] is True and "incomplete" not in made and made["source"] == "open-r1/codeforces@abc"
    for text in ("Add two numbers.", "Input\nTwo numbers.", "Example output\n3", "time limit 2 s"):
        assert text in made["problem"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"official_tests_complete": False}, "missing or cut"),
        ({"official_tests": []}, "missing or cut"),
        ({"official_tests": None}, "missing or cut"),
        ({"interaction_format": "Ask."}, "interactive"),
        ({"input_mode": "file"}, "by file"),
        ({"executable": False}, "not executable"),
        ({"generated_checker": "print(1)"}, "checker program"),
    ],
)
def test_what_the_judge_would_see_otherwise_is_marked(change, why):
    made = stdio_row(hub_row(**change), "1349/A")
    assert made["complete"] is False and why in made["incomplete"]


def test_a_checker_program_travels_with_the_row():
    assert stdio_row(hub_row(generated_checker="print(1)"), "1349/A")["checker_program"] == "print(1)"
    assert "checker_program" not in stdio_row(hub_row(), "1349/A")


def test_examples_that_are_no_official_test_come_first():
    made = stdio_row(hub_row(official_tests=[{"input": "5 6", "output": "11"}]), "1349/A")
    assert [each["group"] for each in made["tests"]] == ["sample", "hidden"]


def test_a_shared_problem_is_found_under_the_name_of_either_round(hub):
    rows = codeforces_rows(["2000", "1350", "1349"])
    assert [row["id"] for row in rows] == ["2000/A", "1350/C", "1349/A"]
    assert rows[1]["problem"] == rows[2]["problem"] and rows[1]["index"] == "C"


def test_rounds_that_are_not_there_are_named(hub):
    with pytest.raises(ConfigError, match="no problem of round 3000"):
        codeforces_rows(["1349", "3000"])
    with pytest.raises(ConfigError, match="name the rounds"):
        codeforces_rows([])


@pytest.mark.parametrize("change", [{"title": 7, "time_limit": "fast"}, {"examples": [{"input": 1}]}, {"examples": 5}])
def test_a_row_in_another_form_is_one_error(change):
    with pytest.raises(ConfigError, match="1349/A: not as expected"):
        stdio_row(hub_row(**change), "1349/A")
    row = hub_row()
    del row["generated_checker"]
    with pytest.raises(ConfigError, match="KeyError"):
        stdio_row(row, "1349/A")


def test_rows_are_written_one_a_line(tmp_path, hub):
    write_rows(codeforces_rows(["1349", "7"]), tmp_path / "p.jsonl")
    assert [json.loads(line)["id"] for line in (tmp_path / "p.jsonl").read_text().splitlines()] == ["1349/A", "7/B"]


def test_only_the_columns_and_rows_asked_for_are_read(tmp_path):
    import pyarrow.parquet

    from ponder.tasks.datahub import read_parquet

    path = tmp_path / "0000.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"id": "a", "big": "x"}, {"id": "b", "big": "y"}]), path)
    assert read_parquet([path], ["id"]) == [{"id": "a"}, {"id": "b"}]
    assert read_parquet([path], None, [("id", "in", ["b"])]) == [{"id": "b", "big": "y"}]
    assert read_parquet([path], ["id"], [("big", "=", "y")]) == [{"id": "b"}]
    assert len(read_parquet([path])) == 2
    with pytest.raises(ConfigError, match="no column 'bigger'"):
        read_parquet([path], ["id", "bigger"])
