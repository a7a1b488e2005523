"""The exam of reward models: ties, intervals, calibration and what is left out; baselines that see no opening twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.evals import preference
from ponder.evals.codec import encode
from ponder.evals.comparison import markdown
from ponder.evals.preference import (
    BAG,
    clustered_difference,
    examine,
    fitted_rate,
    gain_line,
    judge,
    length_table,
    notes,
    right,
    summarise,
    table,
    trained_on,
)
from ponder.evals.preference_baselines import Words, bag_of_words, folds
from ponder.scorers.reward import TRAINED_ON, RewardModel
from ponder.tasks.preferences import ComparisonSet, opening
from ponder.types import Comparison, Message

rng = np.random.default_rng(3)


def comparison(i: int, a: str, b: str, preferred: str = "a", question: int | None = None) -> Comparison:
    prompt = (Message(role="user", content=f"question {i if question is None else question}"),)
    return Comparison(id=f"{i}", prompt=prompt, a=a, b=b, preferred=preferred)


def a_set(rows: list[Comparison]) -> ComparisonSet:
    return ComparisonSet(name="toy", split="report", comparisons=tuple(rows), origin=(), notes=("a note",))


def polite(num: int = 200, share: float = 0.9) -> list[Comparison]:
    """Answers with "please" are preferred in `share`; lengths say nothing."""
    rows = []
    for i in range(num):
        texts = [f"{'please' if j == 0 else 'plainly'} {'x' * rng.integers(1, 9)} {i}" for j in range(2)]
        better = int(rng.random() > share)
        order = rng.permutation(2)
        rows.append(comparison(i, texts[order[0]], texts[order[1]], "a" if order[0] == better else "b"))
    return rows


class Counts(RewardModel):
    """r = how often a word is in an answer; nan for an answer with a stop sign."""

    kind = "counts"

    def raw(self, prompt, completions):
        assert all(c.reasoning == "" and not c.token_ids for c in completions)
        return np.array([np.nan if "STOP" in c.answer else c.answer.count("please") for c in completions], float)

    def score(self, groups):
        raise NotImplementedError

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder, facts, *, key=None):
        raise NotImplementedError


def test_equal_scores_are_half_right_and_ties_of_people_are_in_no_accuracy():
    rows = [
        comparison(0, "x", "y"),
        comparison(1, "x", "y", "b"),
        comparison(2, "x", "y", "tie"),
        comparison(3, "x", "y"),
    ]
    said = np.array([0.0, 0.0, 5.0, 1.0])
    assert right(said, rows).tolist() == [0.5, 0.5, 0.5, 1.0]
    report = summarise("toy", said, a_set(rows))
    assert (report.comparisons, report.openings, report.ties) == (3, 3, 1)  # that of the tie is in no accuracy
    assert report.rows[0].accuracy.value == pytest.approx(2 / 3)


def test_what_is_called_a_changes_no_figure():
    rows, said = polite(), rng.normal(size=200)
    turned = [replace(c, a=c.b, b=c.a, preferred={"a": "b", "b": "a"}[c.preferred]) for c in rows]
    first, second = judge("x", said, rows), judge("x", -said, turned)
    for name in ("accuracy", "longer_rejected", "by_length"):
        assert str(getattr(first, name)) == str(getattr(second, name))
    for name in ("log_loss", "ece", "temperature"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-6)


def test_a_model_that_knows_has_its_gain_and_one_that_guesses_has_none():
    found = a_set(polite())
    report = asyncio.run(examine(Counts(name="counts"), found))
    own, bag = report.rows[0], next(row for row in report.rows if row.name == BAG)
    assert [row.name for row in report.rows] == ["counts", "longer", "shorter", BAG]
    assert own.accuracy.value == pytest.approx(0.9, abs=0.06) and abs(own.accuracy.value - bag.accuracy.value) < 0.05
    assert own.log_loss < 0.45 and own.ece < 0.1
    assert report.gain is not None and report.gain.low <= 0 <= report.gain.high
    assert "not distinguishable from 0" in gain_line(report)
    guess = summarise("guess", rng.normal(size=200), found)
    assert guess.gain is not None and guess.gain.high < 0 and "below 0" in gain_line(guess)
    assert guess.rows[0].log_loss == pytest.approx(np.log(2), abs=0.03)


def test_a_reversed_scorer_is_not_turned_round_by_its_temperature():
    rows = polite()
    knows = np.array([c.a.count("please") - c.b.count("please") for c in rows], float)
    row = judge("wrong", -knows, rows)
    assert row.accuracy.value < 0.2 and row.log_loss == pytest.approx(np.log(2)) and row.temperature is None
    assert fitted_rate(-knows, np.array([float(c.preferred == "a") for c in rows])) == 0.0
    json.dumps(encode(row), allow_nan=False)


def test_one_temperature_makes_probabilities_of_scores_of_any_unit():
    rows = polite(2000, share=0.75)
    knows = np.array([c.a.count("please") - c.b.count("please") for c in rows], float)
    one, other = judge("x", knows, rows), judge("x", 1000 * knows, rows)
    assert one.ece < 0.04 and one.log_loss == pytest.approx(other.log_loss, abs=1e-4)
    assert other.temperature == pytest.approx(1000 * one.temperature, rel=1e-3)


def test_the_temperature_of_an_opening_is_fitted_on_others(monkeypatch):
    """The trap of calibrating on what is measured: the two halves never share an opening."""
    seen = []
    original = preference.fitted_rate
    monkeypatch.setattr(preference, "fitted_rate", lambda d, y: seen.append(set(d.tolist())) or original(d, y))
    rows = polite(60)
    judge("x", np.arange(60, dtype=float) + 1, rows)
    assert len(seen) == 2 and not seen[0] & seen[1] and len(seen[0] | seen[1]) == 60


def test_answers_that_cannot_be_read_leave_every_row_of_the_table_and_are_counted():
    rows = [*polite(40), comparison(900, "STOP", "please")]
    report = asyncio.run(examine(Counts(name="c"), a_set(rows)))
    assert (report.unread, report.comparisons) == (1, 40)
    assert any("could not read" in note for note in notes(report)) and "the set as found: a note" in notes(report)
    with pytest.raises(ConfigError, match="none of the comparisons"):
        asyncio.run(examine(Counts(name="c"), a_set(rows[-1:])))


def test_accuracy_on_openings_that_were_trained_on_is_refused(tmp_path):
    rows = polite(30)
    (tmp_path / "member_0").mkdir()
    (tmp_path / TRAINED_ON).write_text("\n".join(opening(c) for c in rows[:10]))
    (tmp_path / "member_0" / TRAINED_ON).write_text("\n".join(opening(c) for c in rows[10:20]))  # of an ensemble
    (tmp_path / "scorer.json").write_text("{}")
    seen = trained_on(tmp_path)
    report = asyncio.run(examine(Counts(name="c"), a_set(rows), seen=seen))
    assert (report.trained_on, report.comparisons) == (20, 10)
    assert any("20 comparisons left out" in note for note in notes(report))
    with pytest.raises(ConfigError, match="trained on"):
        asyncio.run(examine(Counts(name="c"), a_set(rows[:20]), seen=seen))


def test_any_scorer_can_sit_the_exam():
    class OfLength:
        name, policy, needs, flops_per_token = "length", "", frozenset(), None

        async def __call__(self, prompt, completions):
            return [len(c.answer) / 100 for c in completions]

        def cost(self, completions):
            return 0

    rows = [comparison(i, "long answer", "short", "ab"[i % 4 == 0]) for i in range(40)]
    report = asyncio.run(examine(OfLength(), a_set(rows)))
    assert report.rows[0].accuracy.value == report.rows[1].accuracy.value == 0.75
    assert report.rows[2].accuracy.value == 0.25 and report.rows[1].longer_rejected.value == 0.0
    assert report.by_length == (10, 0, 0, 0, 30)
    assert "2 to inf, n = 30" in markdown(length_table(report)) and "75.0%" in markdown(table(report))


def test_the_bag_of_words_never_saw_the_opening_that_it_judges():
    """A word for each question tells the answer: useless by folds, everything on the training set."""
    rows = [
        comparison(i, f"alpha{i // 2}", f"gamma{i // 2}", "a" if i % 4 < 2 else "b", question=i // 2) for i in range(80)
    ]
    assert right(bag_of_words(rows), rows).mean() == 0.5
    assert all(len(set(folds([c for c in rows if opening(c) == key]))) == 1 for key in {opening(c) for c in rows})
    assert right(bag_of_words(polite(300)), polite(300)).shape == (300,)


def test_the_sparse_products_are_those_of_the_matrix_they_stand_for():
    words = Words(["a b a", "b c", "a b"])
    dense = np.column_stack([words.product(row) for row in np.eye(words.size)])
    g = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(words.transposed(g), dense.T @ g, atol=1e-12)
    assert dense[0, 0] == pytest.approx(np.log(3))  # "a" stands twice in the first text


def test_repeated_votes_on_one_question_do_not_narrow_an_interval():
    first, second = np.zeros(40), np.r_[np.ones(24), np.zeros(16)]
    apart = clustered_difference(first, second, [str(i) for i in range(40)])
    copied = clustered_difference(np.tile(first, 9), np.tile(second, 9), [str(i) for _ in range(9) for i in range(40)])
    assert apart.value == copied.value == 0.6
    assert copied.high - copied.low > 0.85 * (apart.high - apart.low)
    same = clustered_difference(first[:5], first[:5], list("abcde"))
    assert same.value == 0 and same.high > 0.3  # five comparisons without a difference prove nothing
