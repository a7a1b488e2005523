"""Exams side by side: one k for a column, paired gains, and no text that breaks a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.codec import encode
from ponder.evals.comparison import comparison, markdown, points, table
from ponder.evals.exams import run_exam
from ponder.evals.stats import Estimate
from ponder.tasks.prompting import Prompted
from ponder.types import SamplingParams, Verdict

PARAMS = SamplingParams(max_reasoning_tokens=8, max_answer_tokens=8)


def evaluate(task: Any, out: Path, share: int, *, num_samples: int = 4, model: str = "m", **changes: Any) -> Path:
    """An exam in which one sample in `share` is right: the item's number, wherever it stands in the prompt."""

    def respond(prompt: str, seed: int) -> tuple[str, str]:
        return "think", prompt.split("\n")[0] if seed % share == 0 else "99"

    options = {"model": model, "num_samples": num_samples, "params": PARAMS, "out": out} | changes
    asyncio.run(run_exam(task, ScriptedEngine(respond), **options))
    return out


def test_rows_have_one_k_and_gains_are_paired_whatever_the_prompting(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    first = evaluate(make_task(8), tmp_path / "a", 4, num_samples=6)
    second = evaluate(Prompted(make_task(8), "zero_shot_cot"), tmp_path / "b", 1)
    compared = comparison([first, second])
    assert compared.k == 4 and [row.prompting for row in compared.rows] == ["none", "zero_shot_cot"]
    base, other = compared.rows
    assert base.gain is None and other.gain.num_problems == 8 and other.pass_at[1].value == 1.0
    gain = other.gain.pass_at[1]
    assert gain.value == pytest.approx(1.0 - base.pass_at[1].value) and gain.low > 0
    wanted = {"pass@1", "cons@4", "pass@4", "tokens_per_sample", "no_answer_rate", "folder", "model"}
    assert wanted <= set(encode(other))


def test_the_table_shows_every_row_and_markdown_keeps_its_columns(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    names = ["plain", "evil | name\nwith [red]markup[/red]"]
    folders = [evaluate(make_task(), tmp_path / f"{i}", 2, model=name) for i, name in enumerate(names)]
    shown = table(comparison(folders))
    assert len(shown.rows) == 2 and all(len(row) == len(shown.head) for row in shown.rows)
    lines = markdown(shown).split("\n")
    assert len(lines) == 4 and {line.replace("\\|", "").count("|") for line in lines} == {len(shown.head) + 1}


def test_a_gain_over_some_of_the_first_rows_problems_says_of_how_many(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    whole, part = (evaluate(make_task(size), tmp_path / f"{size}", 2) for size in (8, 4))
    for folders in ([whole, part], [part, whole]):
        assert table(comparison(folders)).rows[1][4].endswith(", 4 shared")


def test_one_sample_each_leaves_out_the_votes(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    shown = table(comparison([evaluate(make_task(), tmp_path / "a", 2, num_samples=1)]))
    assert not any("@" in name and name != "pass@1" and "gain" not in name for name in shown.head)


def test_what_else_differs_is_noted_and_other_problems_are_an_error(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    first = evaluate(make_task(), tmp_path / "a", 2)
    hotter = evaluate(make_task(), tmp_path / "b", 2, params=SamplingParams(temperature=0.5), seed=3)
    notes = comparison([first, hotter]).notes
    assert any("temperature: 1.0, 0.5" in note for note in notes) and any("seed: 0, 3" in note for note in notes)

    class Other(type(make_task())):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            from dataclasses import replace

            return replace(super().__getitem__(index), id=f"other{index}")

    with pytest.raises(ValueError, match="share no problem"):
        comparison([first, evaluate(Other(), tmp_path / "c", 2)])
    with pytest.raises(ValueError, match="no sample bank"):
        comparison([first, tmp_path / "nowhere"])


def test_differences_carry_their_sign() -> None:
    assert points(Estimate(0.021, -0.01, 0.05)) == "+2.1 (-1.0 to +5.0)"


def test_a_run_is_compared_with_itself_and_a_step_by_its_name(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    (run / "scale").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="ponder scale"):
        comparison([run])
    for step, share in ((0, 4), (20, 2), (60, 1)):
        evaluate(make_task(), run / "scale" / f"step_{step:05d}", share, num_samples=2)
    names = lambda folders: [Path(row.folder).name for row in comparison(folders).rows]
    assert names([run]) == ["step_00000", "step_00060"]
    for two in ([f"{run}@20", f"{run}@60"], [run / "scale" / "step_00020", run]):
        assert names(two) == ["step_00020", "step_00060"]
    with pytest.raises(ValueError, match="no exam of step 7; it has those of 0, 20, 60"):
        comparison([f"{run}@7"])
    with pytest.raises(ValueError, match="no best step: eval.every=10"):
        comparison([f"{run}@best"])
    (run / "best.json").write_text('{"step": 20}')
    assert names([f"{run}@base", f"{run}@best"]) == ["step_00000", "step_00020"]


def test_a_row_whose_samples_were_cut_or_undecided_is_noted(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    whole = evaluate(make_task(), tmp_path / "a", 2)
    assert not comparison([whole]).notes
    long = ScriptedEngine(lambda prompt, seed: ("think", "one two three four five six seven eight nine ten"))
    cut = tmp_path / "b"
    asyncio.run(run_exam(make_task(), long, model="m", num_samples=2, params=PARAMS, out=cut))

    class Unsure(type(make_task())):  # type: ignore[misc]
        def verify(self, problem: Any, answer: str) -> Verdict:
            return Verdict(outcome="undecided", reward=0.0)

    notes = comparison([whole, cut, evaluate(Unsure(), tmp_path / "c", 2)]).notes
    assert [note for note in notes if "were cut by a limit" in note and str(cut) in note]
    assert [note for note in notes if note.startswith("100.0 % of the samples") and "lower bounds" in note]
