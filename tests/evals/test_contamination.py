"""What an exam shares with the training data is found, fast, and nothing unknown is called clean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.evals.codec import dumps
from ponder.evals.contamination import Finder, N, check, sentence, words
from ponder.evals.results import Hit
from ponder.tasks import load_task
from ponder.tasks.prompting import Prompted
from ponder.types import Message, Problem
from tests.helpers import takes_at_most

LONG = "Mira folds nine paper boats each morning and sells them at the quay for three coins apiece until noon."


def problems(*texts: str) -> list[Problem]:
    return [Problem(id=f"e{i}", prompt=(Message(role="user", content=text),), target="1", task="t")
            for i, text in enumerate(texts)]  # fmt: skip


def file_of(path: Path, *texts: str) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"problem": text, "reasoning": "", "answer": "1"}) + "\n" for text in texts))
    return {"kind": "file", "path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def kinds(exam: list[str], training: list[str]) -> dict[str, str]:
    finder = Finder((f"e{i}", text) for i, text in enumerate(exam))
    assert finder.look("s", ((f"t{i}", text) for i, text in enumerate(training))) == len(training)
    return {name: hit.kind for name, hit in finder.hits.items()}


def test_word_for_word_is_exact_whatever_the_case_and_white_space() -> None:
    assert kinds([LONG], ["  " + LONG.upper().replace(" ", "\n")]) == {"e0": "exact"}


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_none() -> None:
    run = words(LONG)
    assert kinds([LONG], ["Once " + " ".join(run[3 : 3 + N]) + ", they say"]) == {"e0": "13 words"}
    assert kinds([LONG], ["Once " + " ".join(run[3 : 3 + N - 1]) + ", they say"]) == {}


def test_a_short_problem_is_found_by_its_whole_sequence_of_words_only() -> None:
    exam = ["What is 3+4?", "Ann has two hats"]
    assert kinds(exam, ["Tell me: what is 3 + 4, please?", "ANN has two hats."]) == {
        "e0": "all its words",
        "e1": "all its words",
    }
    assert kinds(exam, ["What is 3*4?", "What is 3-4?", "Ann has two", "Ann has two old hats"]) == {}


def test_prompting_does_not_hide_a_problem(tmp_path: Path) -> None:
    task = load_task("arithmetic:size=5")
    source = file_of(tmp_path / "d.jsonl", task[3].text)
    for way in ("none", "direct", "zero_shot_cot", "few_shot_cot"):
        asked = Prompted(task, way)
        report = check([asked[i] for i in range(5)], [source])
        assert (report.exact, report.hits[0].id) == (1, task[3].id)


def test_the_report_has_counts_ids_and_no_text(tmp_path: Path) -> None:
    report = check(problems(LONG, "Something else entirely"), [file_of(tmp_path / "d.jsonl", "other", LONG)])
    assert report.status == "checked"
    assert (report.num_problems, report.num_training, report.exact, report.overlap) == (2, 2, 1, 1)
    assert report.share == 0.5
    assert report.hits == (Hit(id="e0", kind="exact", source=str(tmp_path / "d.jsonl"), training_id="line 2"),)
    assert "paper" not in dumps(report)


def test_what_several_runs_were_trained_on_counts_once(tmp_path: Path) -> None:
    texts = [f"Paper boat number {i} costs how much?" for i in range(6)]
    whole, part = file_of(tmp_path / "a.jsonl", *texts), file_of(tmp_path / "b.jsonl", *texts[:4])
    report = check(problems(texts[0]), [part, whole, {**part, "seed": 1}])
    assert (report.num_training, report.exact) == (6, 1) and [read.num_problems for read in report.read] == [4, 6, 4]
    again = check(problems(texts[0]), [part])
    assert report.hits == again.hits  # told of the first source that holds it


def test_what_is_not_known_is_never_called_clean(tmp_path: Path) -> None:
    base = {"kind": "unknown", "name": "smol", "note": "not recorded"}
    nothing = check(problems(LONG), [])
    assert nothing.status == "unknown" and nothing.share is None and "unknown" in sentence(nothing)
    assert check(problems(LONG), [base]).status == "unknown"
    part = check(problems(LONG), [base, file_of(tmp_path / "d.jsonl", "x")])
    assert part.status == "partly" and "not known: smol" in sentence(part)
    assert "clean" not in sentence(part) + sentence(nothing)


def test_training_data_that_moved_or_changed_is_said_to_be_unknown(tmp_path: Path) -> None:
    source = file_of(tmp_path / "d.jsonl", LONG)
    (tmp_path / "d.jsonl").write_text('{"problem": "other"}\n')
    assert "has changed" in check(problems(LONG), [source]).unknown[0]
    (tmp_path / "d.jsonl").unlink()
    assert "not there any more" in check(problems(LONG), [source]).unknown[0]


@pytest.mark.parametrize(
    "source",
    [{}, {"kind": "task"}, {"kind": "task", "task": 3}, {"kind": "task", "task": "arithmetic", "size": "x"},
     {"kind": "file"}, {"kind": "task", "task": "no_such"},
     {"kind": "task", "task": "nomodule:x"}, {"kind": "file", "path": "/"},
     {"kind": []}],
)  # fmt: skip
def test_a_record_of_nonsense_is_unknown_and_stops_nothing(source: dict[str, Any]) -> None:
    assert check(problems(LONG), [source]).status == "unknown"


def test_the_splits_of_a_family_share_no_problem() -> None:
    exam = load_task("arithmetic:size=60")
    report = check(
        [exam[i] for i in range(60)], [{"kind": "task", "task": "arithmetic", "split": "train", "size": 200}]
    )
    assert (report.status, report.exact) == ("checked", 0)


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_compared_and_finds_itself(one: str, other: str) -> None:
    assert kinds([one], [one]) == {"e0": "exact"}
    assert set(kinds([one], [other])) <= {"e0"}


def test_thousands_of_training_problems_take_seconds_at_most() -> None:
    rng = Random(0)
    vocabulary = [f"word{i}" for i in range(4_000)]
    make = lambda: " ".join(rng.choices(vocabulary, k=50))
    exam, training = [make() for _ in range(1_000)], [make() for _ in range(7_500)]
    with takes_at_most(4):
        assert kinds(exam, [*training, exam[7]]) == {"e7": "exact"}
