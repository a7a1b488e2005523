"""Scores lie beside the samples, grow, and say when they were made for another model."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_bank import SPEC, fill, problem, rows

from ponder.evals.bank import Bank, BankError
from ponder.evals.controlling import fit_controller
from ponder.evals.results import ReadingCost, ScorerFacts

FACTS = ScorerFacts(name="outcome", fingerprint="s1", cost=ReadingCost(flops_per_token=5.0))


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    fill(tmp_path, "p", 4)
    fill(tmp_path, "q", 2)
    yield Bank.read(tmp_path)


def scores(bank: Bank, name: str = "outcome") -> dict[str, list[float]]:
    return {p.id: bank.samples(p.id).scores[name].tolist() for p in bank.problems}


def test_scores_come_back_with_their_samples_and_grow(bank: Bank) -> None:
    assert bank.samples("p").scores == {} and bank.scorers == {}
    bank.add_scores(FACTS, {"p": [0.5, np.nan, 0.25]})
    np.testing.assert_equal(scores(bank), {"p": [0.5, np.nan, 0.25, np.nan], "q": [np.nan] * 2})
    bank.add_scores(FACTS, {"p": [np.nan, 1, np.nan, 2], "q": [0, 1]})
    bank.add_scores(ScorerFacts(name="other"), {"q": [7.0]})
    for one in (bank, Bank.read(bank.folder)):
        assert scores(one) == {"p": [0.5, 1, 0.25, 2], "q": [0, 1]}
        np.testing.assert_equal(scores(one, "other"), {"p": [np.nan] * 4, "q": [7, np.nan]})
        assert one.scorers["outcome"] == FACTS and set(one.scorers) == {"outcome", "other"}


def test_samples_drawn_later_have_no_score_yet(bank: Bank) -> None:
    bank.add_scores(FACTS, {"p": [1, 2, 3, 4]})
    with Bank.open(bank.folder, SPEC) as grown:
        assert grown.samples("p").scores["outcome"].tolist() == [1, 2, 3, 4]
        grown.append(problem("p"), rows("p", 1, 4), prompt_ids=[])
        np.testing.assert_equal(grown.samples("p").scores["outcome"], [1, 2, 3, 4, np.nan])


def test_another_scorer_under_the_same_name_is_refused(bank: Bank) -> None:
    bank.add_scores(FACTS, {"p": [1]})
    with pytest.raises(BankError, match="its fingerprint is 's1', not 's2'; choose another name"):
        bank.add_scores(dataclasses.replace(FACTS, fingerprint="s2"), {"p": [2]})
    assert scores(bank)["p"][0] == 1


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "a b", "a\n"])
def test_a_name_is_a_file_name(bank: Bank, name: str) -> None:
    with pytest.raises(BankError, match="cannot be the name"):
        bank.add_scores(dataclasses.replace(FACTS, name=name), {"p": [1]})


def test_a_controller_is_not_fitted_on_samples_that_a_scorer_has_not_scored(bank: Bank, tmp_path: Path) -> None:
    bank.add_scores(FACTS, {"p": [1, 2, 3], "q": [1, 2]})
    with pytest.raises(ValueError, match=r"1 samples of .* have no score of 'outcome'; ponder score"):
        fit_controller(tmp_path, out=tmp_path / "c.json", scorer="outcome")


def test_a_controller_is_not_fitted_on_scores_that_look_at_samples_it_would_not_have_drawn(
    bank: Bank, tmp_path: Path
) -> None:
    bank.add_scores(dataclasses.replace(FACTS, joint=True), {"p": [1, 2, 3, 4], "q": [1, 2]})
    with pytest.raises(ValueError, match="all samples of a problem at once"):
        fit_controller(tmp_path, out=tmp_path / "c.json", scorer="outcome")


def test_a_controller_does_not_depend_on_which_problem_was_finished_first(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(12)]
    for folder, order in (("a", names), ("b", names[::-1])):
        with Bank.open(tmp_path / folder, SPEC) as bank:
            for name in order:
                drawn = [
                    dataclasses.replace(row, outcome="correct" if (i + int(name[1:])) % 3 else "wrong", tokens=5 + i)
                    for i, row in enumerate(rows(name, 8))
                ]
                bank.append(problem(name), drawn, prompt_ids=[1])
    one, other = (fit_controller(tmp_path / name, out=tmp_path / "c.json", num_probes=2) for name in ("a", "b"))
    assert one == other


def test_scores_of_samples_that_are_not_there_are_refused(bank: Bank) -> None:
    with pytest.raises(BankError, match="no samples of 'z'"):
        bank.add_scores(FACTS, {"z": [1]})
    with pytest.raises(BankError, match="5 scores for 4 samples"):
        bank.add_scores(FACTS, {"p": [1] * 5})


def test_a_scorer_for_another_policy_warns_when_added_and_when_read(tmp_path: Path) -> None:
    with Bank.open(tmp_path, dataclasses.replace(SPEC, fingerprint="mine")) as bank:
        bank.append(problem(), rows("p", 2), prompt_ids=[])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bank.add_scores(ScorerFacts(name="fits", policy="mine"), {"p": [1, 2]})
            bank.add_scores(ScorerFacts(name="any"), {"p": [1, 2]})
        with pytest.warns(UserWarning, match="the scorer odd was trained on samples of the model theirs"):
            bank.add_scores(ScorerFacts(name="odd", policy="theirs"), {"p": [1, 2]})
    with pytest.warns(UserWarning, match="these are of mine"):
        assert Bank.read(tmp_path).samples("p").scores["odd"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "name, text, complaint",
    [("outcome.json", "{", "which scorer it is"), ("outcome.json", "[]", "which scorer it is"),
     ("outcome.parquet", "junk", "is broken")],
)  # fmt: skip
def test_a_broken_score_file_gives_one_clear_error(bank: Bank, name: str, text: str, complaint: str) -> None:
    bank.add_scores(FACTS, {"p": [1]})
    (bank.folder / "scores" / name).write_text(text)
    with pytest.raises(BankError, match=complaint):
        Bank.read(bank.folder).samples("p")


def test_facts_are_written_before_scores_and_alone_count_for_nothing(bank: Bank) -> None:
    (bank.folder / "scores").mkdir()
    (bank.folder / "scores" / "outcome.json").write_text(json.dumps({"name": "outcome"}))
    assert bank.scorers == {} and bank.samples("p").scores == {}
    bank.add_scores(FACTS, {"p": [1]})
    assert scores(bank)["p"][0] == 1
