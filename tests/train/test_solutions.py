"""Rows from worked solutions: each ends at its target, exams are refused, and what is left out is counted."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from ponder.cli.teach import data
from ponder.config import ConfigError
from ponder.tasks import load_task
from ponder.train.sft import read_solutions
from ponder.train.solutions import STYLES, from_solutions, make_rows, write_rows

MARKED = (
    "Half of the 48 pears is 48/2 = <<48/2=24>>24 pears.\nTogether that is 48+24 = <<48+24=72>>72 pears.",
    "Ann has 48 pears, and Bo half as many. How many have they?",
    "72",
)


def train_file(tmp_path, *solved, name="my_train.jsonl"):
    rows = [{"id": str(i), "problem": p, "answer": a, "solution": s} for i, (s, p, a) in enumerate(solved)]
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def reasoning(tmp_path, style, *solved):
    rows, dropped = make_rows([train_file(tmp_path, *solved)], style)
    assert not dropped
    return [row["reasoning"] for row in rows]


def test_the_styles_of_a_marked_solution(tmp_path):
    assert reasoning(tmp_path, "marks", MARKED) == [MARKED[0]]
    assert reasoning(tmp_path, "plain", MARKED) == [
        "Half of the 48 pears is 48/2 = 24 pears.\nTogether that is 48+24 = 72 pears."
    ]
    assert reasoning(tmp_path, "equations", MARKED) == ["48/2=24\n48+24=72"]
    three = ("All: <<48+24+8=80.00>>80", "48 and 24 and 8?", "80")
    assert reasoning(tmp_path, "equations", three) == ["48+24+8=80"]
    assert reasoning(tmp_path, "operations", three) == ["48+24=72\n72+8=80"]


def test_what_is_calculated_without_a_mark_is_found_too(tmp_path):
    unmarked = (
        "She picks 800 pears/tree * 2 trees = 1600 pears.\nShe keeps 1600-100 = <<1600-100=1500>>1500.",
        "800, 2, 100?",
        "1500",
    )
    result_only = ("He has 2(32)=<<64=64>>64 and 64+1=<<64+1=65>>65", "32 and 1?", "65")
    assert reasoning(tmp_path, "equations", unmarked, result_only) == ["800*2=1600\n1600-100=1500", "2*32=64\n64+1=65"]


@pytest.mark.parametrize(
    ("solution", "answer", "reason"),
    [("<<2+2=5>>5", "5", "does not come out"), ("<<2+2=4>>4", "5", "gives the target"),
     ("x = <<5=5>>5", "5", "nothing calculates"),
     ("it is five", "5", "gives the target"), ("<<777+1=778>>", "778", "comes from nowhere"),
     ("so $\\boxed{5}$", "5", "boxed"),
     ("", "5", "no worked solution"), ("<<1+1=2>>", "\\frac12", "not a number")],
)  # fmt: skip
def test_a_solution_that_does_not_hold_is_left_out_and_counted(tmp_path, solution, answer, reason):
    dropped: Counter[str] = Counter()
    task = load_task(f"file:{train_file(tmp_path, MARKED, (solution, '1 or 2?', answer))}", verifier="math")
    assert len(list(from_solutions(task, "equations", dropped))) == 1
    assert len(dropped) == 1 and reason in next(iter(dropped))


def test_a_solution_of_marks_alone_has_no_sentence_to_keep(tmp_path):
    rows, dropped = make_rows([train_file(tmp_path, MARKED, ("<<2+2=4>>", "2 and 2?", "4"))], "plain")
    assert len(rows) == 1 and dropped == {"the solution's last line does not hold the target": 1}


def test_a_boxed_solution_is_kept_whole_where_its_box_holds_the_target(tmp_path):
    good = ("Since $2+2=4$, it is $\\boxed{\\frac{1}{2}}$.", "?", "0.5")
    rows, dropped = make_rows([train_file(tmp_path, good, ("It is $\\boxed{3}$.", "??", "4"))], "plain")
    assert [row["reasoning"] for row in rows] == [good[0]] and rows[0]["answer"] == "0.5"
    assert sum(dropped.values()) == 1


def test_exams_are_refused(tmp_path):
    exam = train_file(tmp_path, MARKED, name="test_dev.jsonl")
    with pytest.raises(ConfigError, match="may be an exam"):
        make_rows([exam], "plain")
    assert make_rows([exam], "plain", no_exam=True)[0]
    with pytest.raises(ConfigError, match="test split"):
        make_rows(["words:split=test"], "plain")


@pytest.mark.parametrize("style", STYLES)
def test_made_problems_give_a_row_each_in_every_style(style):
    rows, dropped = make_rows(["words:level=1-6", "words:level=2-4"], style, count=60, seed=5)
    assert len(rows) + dropped["a row that was there already"] == 120 and sum(dropped.values()) <= 3
    task = load_task("words:level=1-6,size=60", split="train", seed=5)
    assert all(row["problem"] == task[i].text and row["answer"] == task[i].target for i, row in enumerate(rows[:60]))


def test_rows_are_what_sft_reads_and_broken_files_are_one_error(tmp_path):
    rows, _ = make_rows(["words"], "equations", count=5)
    write_rows(rows, tmp_path / "deep" / "rows.jsonl")
    assert read_solutions(tmp_path / "deep" / "rows.jsonl") == rows
    with pytest.raises(ConfigError, match="no worked solution"):
        make_rows(["cipher"], "equations", count=5)
    with pytest.raises(ConfigError, match="did you mean 'equations'"):
        make_rows(["words"], "equation")


def test_the_verb_writes_rows_and_says_what_it_left_out(tmp_path, capsys):
    bad = ("it is five", "5?", "5")
    data([train_file(tmp_path, MARKED, bad)], tmp_path / "rows.jsonl", style="equations", count=None)
    assert "1 rows are in" in (said := capsys.readouterr().out) and "1 left out: no equation gives the target" in said
