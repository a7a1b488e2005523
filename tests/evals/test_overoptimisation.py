"""Over-optimisation: exact best of n for rewards of any size, honest problems, the KL of a run's own log, bands."""

from __future__ import annotations

import asyncio
import json
import math
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank, BankSpec, sample_row
from ponder.evals.overoptimisation import (
    PressedCurve,
    PressedPoint,
    band,
    bank_curve,
    best_of,
    kl_at,
    label,
    run_curve,
    score_bank,
    shown_work,
)
from ponder.scorers.reward import RewardModel
from ponder.tasks.preferences import load_comparisons, opening
from ponder.types import Comparison, Message, Problem, SamplingParams, Verdict

PARAMS = SamplingParams(max_reasoning_tokens=3)
SPEC = BankSpec(task="t", split="test", model="m", params=PARAMS, seed=1, grader="g")


class Longer(RewardModel):
    """A reward model that likes length, and cannot read an answer with a question mark."""

    kind = "longer"

    def raw(self, prompt, completions):
        return np.array([math.nan if "?" in c.answer else len(c.answer) for c in completions], float)

    def score(self, groups): ...
    def save(self, folder): ...
    @classmethod
    def load(cls, folder, facts, *, key=None): ...


def asked(name: str) -> Problem:
    return Problem(id=name, prompt=(Message(role="user", content=f"{name}+2?"),), target="4", task="t")


def fill(folder: Path, answers: dict[str, list[str]]) -> Bank:
    with Bank.open(folder, SPEC) as bank:
        for name, texts in answers.items():
            problem, rows = asked(name), []
            for j, text in enumerate(texts):
                engine = ScriptedEngine(lambda prompt, seed, text=text: ("", text))
                [completion] = asyncio.run(engine.generate(problem.prompt, PARAMS, n=1))
                verdict = Verdict(outcome="correct" if "4" in text else "wrong", reward=float("4" in text))
                rows.append(sample_row(problem, j, completion, verdict))
            bank.append(problem, rows, prompt_ids=[1, 2])
    return Bank.read(folder)


def gold(problem, completion, is_correct):
    """Right, and up to four letters; longer costs."""
    return is_correct - 0.5 * max(0, len(completion.answer) - 4)


ANSWERS = {"one": ["4", "44", "4444", "44444444", "5", "55555"], "two": ["4x", "y", "4zzzzzzz", "4444", "55", "555555"]}


def test_best_of_n_is_the_mean_over_every_subset_also_above_1_and_below_0():
    rng = np.random.default_rng(0)
    values, scores = rng.normal(size=6) * 3, rng.normal(size=6)
    for n in range(1, 7):
        best = [values[max(chosen, key=lambda i: scores[i])] for chosen in combinations(range(6), n)]
        assert best_of(values, scores, n) == pytest.approx(fmean(best))
    assert best_of(np.array([2.0, 2.0]), np.array([1.0, 0.0]), 2) == 2.0


def test_the_proxy_climbs_and_gold_turns_at_the_known_kl(tmp_path):
    scored, unread = score_bank(fill(tmp_path / "bank", ANSWERS), gold, {"long": Longer(name="long")})
    curve = bank_curve(scored, "long", label="best of n, one model", unread=unread)
    assert [point.at for point in curve.points] == [1, 2, 4, 6] and curve.problems == 2
    assert [point.kl for point in curve.points] == pytest.approx([0, math.log(2) - 0.5, math.log(4) - 0.75,
                                                                  math.log(6) - 5 / 6])  # fmt: skip
    proxies, golds = [p.proxy for p in curve.points], [p.gold for p in curve.points]
    assert proxies == sorted(proxies) and golds[-1] < golds[0] and golds[-1] == pytest.approx(-1.0)


def test_what_a_proxy_cannot_read_is_left_out_and_counted(tmp_path):
    bank = fill(tmp_path / "bank", {"one": ["4", "4?", "44"]})
    scored, unread = score_bank(bank, gold, {"long": Longer(name="long")})
    assert unread == 1 and [len(item.gold) for item in scored] == [2]


def test_problems_that_the_proxy_has_seen_are_never_measured_on(tmp_path):
    bank = fill(tmp_path / "bank", ANSWERS)
    seen = {name: opening(Comparison(id="", prompt=asked(name).prompt, a="", b="", preferred="a")) for name in ANSWERS}
    scored, _ = score_bank(bank, gold, {"long": Longer(name="long")}, seen=frozenset({seen["one"]}))
    assert len(scored) == 1
    with pytest.raises(ConfigError, match="no problem that the proxies have not seen"):
        score_bank(bank, gold, {"long": Longer(name="long")}, seen=frozenset(seen.values()))


def test_labels_prefer_more_gold_and_as_many_are_wrong_as_was_asked_for(tmp_path):
    bank = fill(tmp_path / "bank", ANSWERS)

    def wrong(noise: float) -> float:
        rows = label(bank, gold, size=400, noise=noise, seed=3)
        value = lambda text: ("4" in text) - 0.5 * max(0, len(text) - 4)
        return fmean(value(row["chosen"]) < value(row["rejected"]) for row in rows)

    assert wrong(0.0) == 0.0 and 0.19 < wrong(0.25) < 0.31
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in label(bank, gold, size=30)))
    found = load_comparisons(f"file:{path}", split="all").comparisons
    assert found and {c.preferred for c in found} == {"a", "b"}  # sides by hash
    with pytest.raises(ConfigError, match="no problem with two different answers of different gold"):
        label(bank, lambda *_: 0.0, size=3)


def test_answers_that_are_the_same_are_not_asked_about_however_their_gold_differs(tmp_path):
    bank = fill(tmp_path, {"one": ["4", "4"]})
    values = iter(range(100))  # gold may depend on the reasoning, which no comparison shows
    with pytest.raises(ConfigError, match="two different answers of different gold"):
        label(bank, lambda problem, completion, is_correct: next(values), size=1)


def test_a_sample_whose_verifier_failed_is_no_wrong_one(tmp_path):
    problem = asked("one")
    [said] = asyncio.run(ScriptedEngine(["4"]).generate(problem.prompt, PARAMS, n=1))
    outcomes = ("correct", "failed", "undecided")
    rows = [sample_row(problem, i, said, Verdict(outcome=outcome, reward=0.0)) for i, outcome in enumerate(outcomes)]
    with Bank.open(tmp_path, SPEC) as bank:
        bank.append(problem, rows, prompt_ids=[1])
    scored, _ = score_bank(Bank.read(tmp_path), gold, {})
    assert [item.correct.tolist() for item in scored] == [[1.0]]


def test_the_kl_of_a_checkpoint_is_that_of_the_steps_around_it():
    rows = [{"step": s, "kl/k1": float(s)} for s in range(9)]
    rows[1]["kl/k1"] = -3.0  # single values may be negative
    assert kl_at(rows, [0, 4, 9]) == {0: 0.0, 4: 4.0, 9: 7.0}  # the last has no rollouts of its own
    with pytest.raises(ConfigError, match="reference = 'first'"):
        kl_at([{"step": 0}], [0])


def test_a_runs_curve_has_gold_and_proxy_of_each_checkpoint(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "kl/k1": s}) + "\n" for s in range(4)))
    banks = {0: fill(tmp_path / "a", {"one": ["4", "5"]}), 4: fill(tmp_path / "b", {"one": ["444444", "444444"]})}
    curve = run_curve(tmp_path, banks, gold, "long", Longer(name="long"), label="ppo, one model")
    assert [(p.at, p.kl, p.gold, p.proxy, p.correct) for p in curve.points] == [
        (0, 0.0, 0.5, pytest.approx(1 / (1 + math.exp(-1))), 0.5),
        (4, 2.0, 0.0, pytest.approx(1 / (1 + math.exp(-6))), 1.0),
    ]  # fmt: skip
    assert curve.peak.at == 0


def test_a_band_is_over_seeds_as_far_as_all_of_them_reach():
    def curve(end: float, top: float) -> PressedCurve:
        points = [PressedPoint(at=i, kl=kl, gold=y, proxy=0) for i, (kl, y) in enumerate([(0, 0), (end, top)])]
        return PressedCurve(label="x", proxy="p", points=tuple(points), problems=1, samples=1)

    found = band([curve(4.0, 2.0), curve(9.0, 6.0)], "gold")
    assert found.distances[-1] == pytest.approx(2.0) and found.seeds == 2
    assert (found.low[-1], found.mean[-1], found.high[-1]) == pytest.approx((2.0, 3.0, 4.0))


def test_the_gold_of_nano_pays_for_checks_up_to_three_and_charges_for_length():
    problem = asked("one")

    def paid(text: str, is_correct: bool) -> float:
        engine = ScriptedEngine(lambda prompt, seed: ("", text))
        [completion] = asyncio.run(engine.generate(problem.prompt, SamplingParams(max_answer_tokens=400), n=1))
        return shown_work(problem, completion, is_correct)

    checked = "1+1=2 2-1=1 ok\n"
    assert paid("4", True) == 1.0 and paid("4", False) == 0.0
    assert paid(checked * 2 + "4", True) == pytest.approx(1 + 0.8 / 3)
    assert paid(checked * 9 + "4", True) < paid(checked * 4 + "4", True) < 1.4


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from ponder.evals.overoptimisation_plots import save_figure

    scored, _ = score_bank(fill(tmp_path / "bank", ANSWERS), gold, {"long": Longer(name="long")})
    curves = [bank_curve(scored, "long", label=f"best of n, {name}") for name in ("one model", "one model", "min of 4")]
    save_figure([*curves, PressedCurve(
        label="ppo, one model", proxy="long", problems=2, samples=2,
        points=(PressedPoint(at=0, kl=0, gold=0, proxy=0), PressedPoint(at=2, kl=3, gold=1, proxy=2)),
    )], tmp_path / "figure.png", dpi=40)  # fmt: skip
    assert (tmp_path / "figure.png").stat().st_size > 3000


def test_the_verbs_label_a_bank_and_say_what_is_missing(tmp_path):
    from typer.testing import CliRunner

    from ponder.cli import app

    fill(tmp_path / "bank", ANSWERS)
    out = tmp_path / "votes.jsonl"
    done = CliRunner().invoke(app, ["overoptimisation", "label", str(tmp_path / "bank"), "--out", str(out),
                                    "--gold", "tests.evals.test_overoptimisation:gold", "--count", "7"])  # fmt: skip
    assert done.exit_code == 0 and "7 comparisons" in done.output and len(out.read_text().splitlines()) == 7
    missing = CliRunner().invoke(app, ["overoptimisation", "curves", "--out", str(tmp_path / "c")])
    assert isinstance(missing.exception, ConfigError) and "--proxy" in str(missing.exception)
    for words in (["--proxy", "rm"], [str(tmp_path / "bank"), "--run", "r"]):
        alone = CliRunner().invoke(app, ["overoptimisation", "curves", *words, "--out", str(tmp_path / "c")])
        assert isinstance(alone.exception, ConfigError) and "go together" in str(alone.exception)
