"""Several exams of several models in one table: the right cells in the right rows, subjects below their exam."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.codec import encode
from ponder.evals.comparison import markdown
from ponder.evals.exam_table import exam_rows, exam_table, is_of_several_exams
from ponder.evals.exams import run_exam
from ponder.types import SamplingParams


def evaluate(task: Any, out: Path, *, name: str, model: str, share: int, num_samples: int = 4) -> Path:
    """An exam in which one sample in `share` is right."""

    def respond(prompt: str, seed: int) -> tuple[str, str]:
        return "think", prompt if seed % share == 0 else "99"

    params = SamplingParams(max_reasoning_tokens=8, max_answer_tokens=8)
    engine = ScriptedEngine(respond)
    asyncio.run(run_exam(task, engine, name=name, model=model, num_samples=num_samples, params=params, out=out))
    return out


@pytest.fixture
def folders(tmp_path: Path, make_task: Callable[..., Any]) -> list[Path]:
    """Two exams of two models; the second has two subjects, and fewer samples by the second model."""

    class Other(type(make_task())):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            subject = "odd" if index % 2 else "even"
            return replace(super().__getitem__(index), id=f"other{index}", subject=subject)

    return [
        evaluate(make_task(8), tmp_path / "a", name="one", model="base", share=4),
        evaluate(make_task(8), tmp_path / "b", name="one", model="after", share=1),
        evaluate(Other(6), tmp_path / "c", name="two", model="base", share=2),
        evaluate(Other(6), tmp_path / "d", name="two", model="after", share=1, num_samples=2),
    ]


def test_exams_are_rows_with_their_subjects_below_and_models_are_columns(folders: list[Path]) -> None:
    rows = exam_rows(folders)
    assert [(row.exam, row.subject) for row in rows] == [("one", ""), ("two", ""), ("two", "even"), ("two", "odd")]
    assert [row.k for row in rows] == [4, 2, 2, 2] and [row.columns[0].num_problems for row in rows] == [8, 6, 3, 3]
    assert all([each.column for each in row.columns] == ["base", "after"] for row in rows)
    assert all(row.columns[1].pass_at[1].value == row.columns[1].cons_at[row.k].value == 1.0 for row in rows)
    whole, even, odd = (row.columns[0].pass_at[1].value for row in rows[1:])
    assert whole == pytest.approx((even + odd) / 2)
    assert rows[0].gain and rows[0].gain.pass_at[1].value == pytest.approx(1 - rows[0].columns[0].pass_at[1].value)
    assert rows[2].gain is None
    shown = exam_table(rows)
    assert all(len(row) == len(shown.head) for row in shown.rows) and len(markdown(shown).split("\n")) == 6
    assert encode({"rows": rows})["rows"][0]["columns"][0]["cons@4"]


def test_what_a_model_was_not_asked_is_a_dash(folders: list[Path]) -> None:
    shown = exam_table(exam_rows(folders[:3]))
    assert list(shown.rows[1][-3:-1]) == ["–", "–"] and shown.rows[0][-3] != "–"


def test_a_gain_is_of_the_last_column_over_the_first_or_there_is_none(
    folders: list[Path], tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    """The first exam was not sat by the table's last model, so what its second gained is no gain of the last."""
    last = evaluate(make_task(8), tmp_path / "e", name="three", model="last", share=1)
    first = evaluate(make_task(8), tmp_path / "f", name="three", model="base", share=4)
    rows = exam_rows([*folders[:2], first, last])
    assert [row.exam for row in rows] == ["one", "three"] and rows[0].gain is None
    gain = rows[1].columns[1].pass_at[1].value - rows[1].columns[0].pass_at[1].value
    assert rows[1].gain and rows[1].gain.pass_at[1].value == pytest.approx(gain)


def test_one_exam_twice_by_one_model_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="are both one by base; leave one out"):
        exam_rows([folders[0], folders[0]])


def test_folders_that_share_problems_are_one_exam(folders: list[Path]) -> None:
    assert (
        is_of_several_exams(folders) and not is_of_several_exams(folders[:2]) and not is_of_several_exams(folders[:1])
    )
