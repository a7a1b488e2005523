"""Trajectories in the report: rows of real rollouts are drawn as trees, hostile and broken rows harm nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_report import EVIL, check

from ponder import runs
from ponder.engine.base import ScriptedEngine
from ponder.evals.report import report
from ponder.evals.trajectories import MAX_TURNS, trees
from ponder.strategies import STRATEGIES
from ponder.strategies.turns import Trajectory, trajectory_row
from ponder.types import Message, SamplingParams

pytest.importorskip("jinja2")


def rows(evil: str = "") -> list[dict[str, Any]]:
    """Lines as training logs them, of scripted rollouts."""

    def script(text: str, seed: int) -> tuple[str, str]:
        if text.endswith("Best: "):
            return f"{evil}the second: 2\n", ""
        said = text.count("A:")
        return (f"Q: {seed % 3}+{said}?{evil}\nA: {seed % 3 + said}\n\n", "") if said < 2 else ("", f"9{evil}")

    played: list[Trajectory] = []
    prompt = (Message(role="user", content="go"),)
    params = SamplingParams(max_reasoning_tokens=4000, max_answer_tokens=400)
    asyncio.run(STRATEGIES["deliberate"](prompt, ScriptedEngine(script), params=params, key=lambda answer: answer,
                                         n=2, record=played.append, turn_tokens=900))  # fmt: skip
    return [
        {"step": 3, "which": "best", "problem": f"1+1?{evil}", "target": "9", "answer": one.answer, "reasoning": "",
         "reward": 0.9, "outcome": "correct", "parts": {"correct": 1.0, f"step_cost{evil}": -0.1}}
        | trajectory_row(one.turns, one.ended)
        for one in played
    ]  # fmt: skip


def page(folder: Path, lines: list[dict[str, Any]]) -> str:
    run = runs.Run(folder, kind="rl", config_toml="seed = 1", seed=1)
    run.log(0, {"reward/mean": 0.5})
    run.log_samples(lines)
    return check(report(folder))


def test_a_trajectory_is_drawn_with_its_choices_and_why_it_ended(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    html = page(tmp_path, rows())
    assert html.count('class="tree"') == 2 and "a final answer was chosen" in html
    assert html.count('class="level"') == 6
    assert html.count('class="branch chosen"') == 6 and 'class="branch"' in html
    assert "the second: 2" in html and "step_cost -0.1" in html and "reward +0.9" in html
    assert "Samples behind the points" not in html  # they are not listed twice


def test_no_text_of_a_trajectory_becomes_markup(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    html = page(tmp_path, rows(EVIL))
    assert "&lt;script&gt;" in html and "{{ 7*7 }}" in html


@pytest.mark.parametrize("row", [
    {"turns": [None, 3, "x"]}, {"turns": [{}]}, {"turns": [{"number": "1", "kind": EVIL, "text": 3, "answer": None}]},
    {"turns": [{"number": 1, "tokens": "many", "logprob": float("nan"), "chosen": "yes", "text": "\ud800"}]},
    {"turns": [{"number": 1}], "parts": [1], "reward": "high", "ended": EVIL, "distinct": "all", "target": ["x"]},
])  # fmt: skip
def test_a_broken_line_is_shown_as_far_as_it_goes(tmp_path: Path, row: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    assert 'class="tree"' in page(tmp_path, [{"step": 1, "answer": "2"} | row])


def test_equal_candidates_are_one_branch_and_endless_trajectories_are_cut() -> None:
    turn = {"kind": "candidate", "text": "Q: a\nA: 1\n\n", "answer": "", "chosen": False}
    lines = [{"turns": [turn | {"number": n, "chosen": i == 1} for n in range(MAX_TURNS + 5) for i in range(3)]}]
    (tree,) = trees(lines, str)
    assert len(tree.levels) == MAX_TURNS and tree.num_left_out == 5
    (branch,) = tree.levels[0].branches
    assert branch.is_chosen and branch.detail.startswith("3 × the same")
    assert trees([{"answer": "2"}, {"turns": []}, {"turns": "x"}], str) == []
