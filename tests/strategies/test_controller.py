"""The controller spends where spending helps, is measured on problems it was not fitted on, and checks its files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from ponder.engine.base import ScriptedEngine
from ponder.strategies import STRATEGIES
from ponder.strategies.controller import Arm, Controller, ControllerSamples, chosen, features
from ponder.strategies.controller_fit import arms_for, best_fixed, evaluate, fit, replay
from ponder.types import Message, SamplingParams

PROMPT = (Message(role="user", content="go"),)


def problem(rng: np.random.Generator, kind: str, n: int = 32) -> ControllerSamples:
    """Easy: all right. Open: a vote helps. Hopeless: one wrong answer, whatever is spent."""
    right = {"easy": 0.97, "open": 0.45, "hopeless": 0.05}[kind]
    spread = 1 if kind == "hopeless" else 8  # wrong answers scatter where voting helps
    correct = rng.random(n) < right
    classes = np.where(correct, 0, 1 + rng.integers(spread, size=n))
    return ControllerSamples(classes, correct, np.full(n, 10.0), rng.normal(-0.3, 0.05, n), np.zeros(n, dtype=bool))


def problems(seed: int = 0, size: int = 60) -> list[ControllerSamples]:
    rng = np.random.default_rng(seed)
    return [problem(rng, ("easy", "open", "hopeless")[i % 3]) for i in range(size)]


def test_it_beats_the_best_fixed_strategy_where_problems_differ() -> None:
    plain = tuple(Arm(n, "vote") for n in (4, 8, 16, 32))
    result = evaluate(replay(problems(size=120), arms=plain, orders=8), budget=120)
    assert result.controller.mean() > result.fixed.mean() + 0.02
    assert result.oracle.mean() >= result.controller.mean() - 0.01
    assert result.cost == pytest.approx(120, rel=0.15)
    assert sum(result.picks.values()) == pytest.approx(1)


def test_it_spends_on_open_problems_and_stops_on_easy_ones() -> None:
    plain = tuple(Arm(n, "vote") for n in (4, 8, 16, 32))  # an adaptive arm is the same for both kinds
    rule = fit(replay(problems(), arms=plain), budget=120)
    rng = np.random.default_rng(5)
    spent = {}
    for kind in ("easy", "open", "hopeless"):
        probes = np.array([features(problem(rng, kind).take(np.arange(4))) for _ in range(60)])
        spent[kind] = np.mean([rule.arms[arm].n for arm in rule.pick(probes)])
    assert spent["open"] > 2 * spent["easy"]


def test_a_larger_budget_is_spent_and_never_exceeded() -> None:
    played = replay(problems(), orders=4)
    costs = []
    for budget in (50.0, 100.0, 250.0, 1e9):
        rule = fit(played, budget=budget)
        arms = rule.pick(played.features_PRF.reshape(-1, 8))
        costs.append(np.take_along_axis(played.cost_PRA.reshape(-1, len(rule.arms)), arms[:, None], 1).mean())
    assert costs == sorted(costs)
    assert costs[0] <= 50 and costs[2] <= 250


def test_the_best_fixed_mixture_costs_the_budget() -> None:
    shares = best_fixed(np.array([0.5, 0.6, 0.9]), np.array([10.0, 40.0, 50.0]), 30.0)
    assert shares.tolist() == [0.5, 0, 0.5]
    assert best_fixed(np.array([0.5, 0.6]), np.array([10.0, 20.0]), 5.0).tolist() == [1, 0]
    assert best_fixed(np.array([0.5, 0.6]), np.array([10.0, 20.0]), 500.0).tolist() == [0, 1]


def test_a_scorer_is_paid_for_by_the_arms_that_use_it() -> None:
    rng = np.random.default_rng(0)
    drawn = [problem(rng, "open") for _ in range(4)]
    scored = [
        ControllerSamples(d.classes, d.correct, d.tokens, d.mean_logprobs, d.was_cut, d.correct * 0.9, score_cost=0.5)
        for d in drawn
    ]
    played = replay(scored, orders=2)
    for a, arm in enumerate(played.arms):
        if arm.how == "weighted":
            assert played.correct_PRA[..., a].mean() > 0.5
            assert (played.cost_PRA[..., a] == arm.n * 15).all()
        if arm.how == "vote":
            assert (played.cost_PRA[..., a] == arm.n * 10).all()
            assert (played.paid_PRA[..., a] == arm.n * 10 + 20).all()  # the probes were scored all the same


def test_features_are_numbers_whatever_the_probes_are() -> None:
    nothing = ControllerSamples(
        np.full(4, -1), np.zeros(4, dtype=bool), np.zeros(4), np.full(4, np.nan), np.ones(4, dtype=bool),
        np.full(4, np.nan),
    )  # fmt: skip
    assert np.isfinite(features(nothing)).all()
    assert chosen(Arm(4, "weighted"), nothing) == (0, 4)
    hopeless = [nothing.take(np.arange(8) % 4) for _ in range(12)]
    result = evaluate(replay(hopeless, orders=2), budget=10)
    assert result.controller.max() == 0 and result.oracle.max() == 0


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ([], "no problem"),
        (problems(size=2)[:1], "too few"),
        ([problem(np.random.default_rng(0), "open", 5)], "at least 8"),
    ],
)
def test_banks_too_small_are_refused(broken: list[ControllerSamples], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluate(replay(broken, orders=2), budget=10)
    with pytest.raises(ValueError, match="above 0"):
        fit(problems(size=3), budget=0)


def test_a_saved_controller_picks_the_same(tmp_path: Path) -> None:
    rule = fit(problems(), budget=100, task="t")
    rule.save(tmp_path / "c.json")
    again = Controller.load(tmp_path / "c.json")
    probes = np.random.default_rng(0).normal(size=(50, 8))
    assert (again.pick(probes) == rule.pick(probes)).all()
    assert again.facts == {"budget": 100, "task": "t"} and again.arms == arms_for(4, 32, scorer=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', '{"format": 7, "features": []}', "{"])
def test_a_file_that_is_no_controller_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json"):
        Controller.load(tmp_path / "c.json")
    with pytest.raises(ValueError, match="no controller in"):
        Controller.load(tmp_path / "absent.json")


def test_live_it_stops_where_all_agree_and_continues_where_they_do_not() -> None:
    rule = fit(problems(), budget=120)
    params = SamplingParams(max_reasoning_tokens=20, max_answer_tokens=4)

    def run(answers: list[str], **options: object) -> int:
        solution = asyncio.run(
            STRATEGIES["controller"](
                PROMPT, ScriptedEngine(answers), params=params, key=lambda a: a, rule=rule, **options
            )
        )
        return solution.usage.samples

    assert run(["7"]) == 4
    assert run(["7", "8", "7", "9", "7"]) > 4
    assert run(["7", "8", "7", "9", "7"], n=6) <= 6
