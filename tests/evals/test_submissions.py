"""The door to hidden results, and the ladder of choosing behind it."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from math import comb

import numpy as np
import pytest

from ponder.evals.entries import Entry
from ponder.evals.ladder import RUNGS, Ladder, fit_weights, gap_closed, ladder, table, under_rules
from ponder.evals.submissions import (
    CODEFORCES,
    IOI,
    NoSubmissionLeft,
    Submissions,
    coverage,
    random_score,
    scores_of,
    tiered_score,
)
from ponder.strategies.programs import NOTHING, Candidates, Choosing, Goal, prepare

GOALS = (Goal(points=30), Goal(points=70, includes=(0,)))
HIDDEN = np.array([[0, 0], [30, 0], [30, 35], [30, 70.0]])


def contest(rules=IOI, hidden=HIDDEN, full=(30, 70)):
    return Submissions(lambda problem, sample: hidden[sample], {"p": full, "q": full}, rules)


def entry(rng, name="p", n=24, goals=GOALS, right=0.2):
    """Behaviour 0 is right; the more usual 1 passes the example too, now and then."""
    behaviour = rng.choice(4, n, p=[right, 0.4, 0.3, 0.3 - right])
    outputs = np.stack([behaviour, behaviour % 3], axis=1)
    hidden = np.stack([30.0 * (behaviour % 2 == 0), 70.0 * (behaviour == 0)], axis=1)[:, : len(goals)]
    if len(goals) == 1:
        hidden = (behaviour == 0)[:, None].astype(float)
    pool = Candidates.of(
        programs=np.arange(n).tolist(), examples=((behaviour == 0) | (rng.random(n) < 0.2))[:, None],
        outputs=outputs.tolist(), scores=rng.normal(size=n) + (behaviour == 0),
    )  # fmt: skip
    plain = replace(pool, scores=np.full(n, np.nan))
    return Entry(name, {"": plain, "s": pool}, goals, hidden, n, 2)


# --- the door ----------------------------------------------------------------------------------------------------


def test_the_score_is_the_best_of_each_subtask_over_submissions_and_never_a_sum_of_submissions():
    made = contest(hidden=np.array([[30, 0], [30, 35], [0, 70.0]]))
    assert made.score("p") == 0
    assert made.submit("p", 0) == (30, 0) and made.score("p") == 30
    assert made.submit("p", 1) == (30, 35) and made.score("p") == 65
    assert made.submit("p", 2) == (0, 70) and made.score("p") == 100


def test_without_points_a_submission_is_told_whether_it_is_accepted_and_nothing_else():
    made = contest(CODEFORCES)
    assert [made.submit("p", i) for i in range(4)] == [(0, 0)] * 3 + [(30, 70)]


def test_submissions_are_counted_by_problem_and_the_next_one_is_refused():
    made = contest(replace(IOI, limit=2))
    made.submit("p", 0), made.submit("p", 0), made.submit("q", 0)
    with pytest.raises(NoSubmissionLeft, match="had its 2 submissions"):
        made.submit("p", 3)
    assert made.score("p") == 0
    assert (IOI.limit, CODEFORCES.limit) == (50, 10)


def test_an_undecided_result_is_worth_nothing_and_no_number_that_is_none_gets_out():
    made = contest(hidden=np.array([[np.nan, 70.0]]))
    assert made.submit("p", 0) == (0, 70)


# --- closed forms ------------------------------------------------------------------------------------------------


def brute(points, b, tiers=None):
    """Every order of the samples, lower tiers first."""
    n, found = len(points), []
    for order in itertools.permutations(range(n)):
        order = sorted(order, key=lambda i: 0 if tiers is None else tiers[i])
        found.append(np.max(points[order[:b]], axis=0).sum())
    return np.mean(found)


@pytest.mark.parametrize("b", [1, 2, 4, 6])
def test_random_submissions_in_closed_form_equal_every_order(b):
    points = np.random.default_rng(b).integers(0, 4, (6, 3)) * 10.0
    assert random_score(points, b) == pytest.approx(brute(points, b))
    tiers = np.array([1, 0, 2, 1, 0, 2])
    assert tiered_score(points, tiers, b) == pytest.approx(brute(points, b, tiers))
    assert coverage(points) == points.max(axis=0).sum() == pytest.approx(random_score(points, 6))


def test_for_all_or_nothing_random_is_one_minus_the_chance_of_none():
    points = np.array([[1.0]] * 3 + [[0.0]] * 17)
    assert random_score(points, 5) == pytest.approx(1 - comb(17, 5) / comb(20, 5))


def test_orders_of_a_chooser_that_looks_at_nothing_average_to_the_closed_form():
    rng = np.random.default_rng(0)
    one = entry(rng)
    prepared = prepare(one.pools[""], NOTHING, (Goal(points=100),))
    accepted = under_rules(one, CODEFORCES).hidden
    made = contest(hidden=accepted, full=(100,))
    scores = np.mean([scores_of(prepared, made, "p", 10, rng.permutation(24))[0] for _ in range(300)], axis=0)
    assert scores[[0, 9]] == pytest.approx([random_score(accepted, 1), random_score(accepted, 10)], abs=6)


# --- what a strategy can know ------------------------------------------------------------------------------------


def test_hidden_results_change_no_submission_but_through_what_was_returned():
    rng = np.random.default_rng(5)
    for _ in range(20):
        one = entry(rng)
        prepared = prepare(one.pools["s"], Choosing(), GOALS)
        made = one.contest(IOI)
        scores_of(prepared, made, "p", 24)
        samples = [sample for sample, _ in made.made["p"]]
        for j in range(len(samples)):
            hidden = rng.permutation(one.hidden)
            hidden[samples[:j]] = one.hidden[samples[:j]]
            other = replace(one, hidden=hidden).contest(IOI)
            scores_of(prepared, other, "p", j + 1)
            assert [sample for sample, _ in other.made["p"]] == samples[: j + 1]
    assert not {"hidden", "outcomes", "correct", "points"} & {f.name for f in fields(Candidates)}


def test_the_score_stays_where_no_program_is_left_and_says_how_many_were_submitted():
    pool = Candidates.of(programs=["a", "a", None])
    made = contest(hidden=np.array([[0.0], [1.0], [0.0]]), full=(1.0,))
    scores, number = scores_of(prepare(pool, Choosing()), made, "p", 5)
    assert scores.tolist() == [0.0] * 5 and number == 2  # the second "a" is the same program


# --- the ladder --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries():
    rng = np.random.default_rng(1)
    return [entry(rng, f"p{i}", right=0.05 if i % 2 else 0.2) for i in range(12)]


@pytest.mark.parametrize("rules", [IOI, CODEFORCES])
def test_every_rung_lies_between_nothing_and_coverage_and_all_submissions_reach_it(entries, rules):
    found = ladder(entries, rules=rules, budgets=(1, 5, 24), draws=3, scorers=["s"])
    assert [row.name for row in found.rows] == ["random", *RUNGS, "public + clusters + scorer", "all"]
    for row in found.rows:
        values = [row.points[b].score.value for b in (1, 5, 24)]
        assert 0 <= values[0] <= values[1] <= values[2] <= found.coverage.value + 1e-9
        assert values[2] == pytest.approx(found.coverage.value)
        assert row.points[5].gap.value <= 1 and np.isnan(row.points[24].gap.value)  # at 24 there is no gap
    assert found.rows[0].points[1].gain is None and found.rows[0].points[1].gap.value == 0
    assert [row.executions for row in found.rows][:4] == [0, 0, 24, 48]


def test_the_examples_help_where_they_tell_and_the_table_says_by_how_much(entries):
    found = ladder(entries, rules=CODEFORCES, budgets=(1, 5), draws=6)
    rows = {row.name: row.points for row in found.rows}
    assert rows["public examples"][1].gain.low > 0
    assert rows["public + clusters"][5].score.value > rows["random"][5].score.value
    before, both = rows["public examples"][5].score.value, rows["public + clusters"][5]
    assert both.step.value == pytest.approx(both.score.value - before) and rows["random"][5].step is None
    shown = table(found)
    assert len(shown.rows) == 2 * (len(found.rows) + 1) and all(len(row) == len(shown.head) for row in shown.rows)


def test_a_ladder_survives_its_file(entries, tmp_path):
    found = ladder(entries, rules=IOI, budgets=(1, 2), draws=2)
    found.write(tmp_path / "ladder.json")
    assert Ladder.read(tmp_path / "ladder.json") == found


def test_fewer_samples_lower_the_ceiling_and_leave_the_floor(entries):
    whole = ladder(entries, rules=CODEFORCES, budgets=(1,), draws=4)
    some = ladder(entries, rules=CODEFORCES, budgets=(1,), draws=4, num_samples=6)
    assert some.coverage.value < whole.coverage.value
    assert some.rows[0] == whole.rows[0].__class__(**{**vars(whole.rows[0]), "points": some.rows[0].points})
    assert some.rows[0].points[1].score.value == pytest.approx(whole.rows[0].points[1].score.value)
    assert some.rows[0].points[1].gap.value == 0


def test_impossible_budgets_and_no_problems_are_refused(entries):
    with pytest.raises(ValueError, match="no more than a problem has samples"):
        ladder(entries, rules=IOI, budgets=(25,))
    with pytest.raises(ValueError, match="no problem has samples"):
        ladder([], rules=IOI)


def test_of_fewer_samples_fewer_programs_are_run(entries):
    twins = [replace(e, pools={"": replace(e.pools[""], programs=np.arange(24) // 2)}, programs=12) for e in entries]
    for some, each in ((entries, 24), (twins, 12)):
        assert ladder(some, rules=IOI, budgets=(1,), draws=2).rows[2].executions == each
    fewer = [ladder(some, rules=IOI, budgets=(1,), num_samples=2, draws=2).rows[2] for some in (entries, twins)]
    assert [row.name for row in fewer] == ["public examples"] * 2
    assert fewer[0].executions == pytest.approx(2) and fewer[1].executions == pytest.approx(2 - 1 / 23)


def test_weights_are_not_fitted_on_fewer_samples_than_submissions(entries):
    with pytest.raises(ValueError, match="fewer samples than the fewest submissions, 25"):
        fit_weights(entries, rules=CODEFORCES, budgets=(25, 50))


def test_the_gap_is_none_where_random_gets_all_there_is():
    ones = np.ones(4)
    assert np.isnan(gap_closed(ones, ones, ones).value)
    half = gap_closed(np.array([0.5, 0.5]), np.zeros(2), np.ones(2))
    assert (half.value, half.low, half.high) == (0.5, 0.5, 0.5)


def test_fitted_weights_are_no_worse_than_the_defaults_on_the_problems_they_were_fitted_on(entries):
    few = entries[:4]
    fitted = fit_weights(few, rules=CODEFORCES, budgets=(1, 3), scorer="s", tries=6, draws=2)
    again = fit_weights(few, rules=CODEFORCES, budgets=(1, 3), scorer="s", tries=6, draws=2)
    assert fitted == again

    def score(weights):
        rows = ladder(few, rules=CODEFORCES, budgets=(1, 3), draws=2, weights=weights, scorers=["s"]).rows
        return np.mean([point.score.value for point in rows[-1].points.values()])

    assert score(fitted) >= score(Choosing().weights)


def test_the_ceiling_is_that_of_as_many_samples_as_are_chosen_from_where_a_problem_has_more():
    rng = np.random.default_rng(3)
    more, few = (entry(rng, name, n, goals=(Goal(),), right=0.1) for name, n in (("a", 24), ("b", 8)))
    found = ladder([more, few], rules=CODEFORCES, budgets=(8,), draws=2)
    ceiling = (random_score(more.hidden, 8) + coverage(few.hidden)) / 2
    assert found.coverage.value == pytest.approx(ceiling) and random_score(more.hidden, 8) < coverage(more.hidden)
    assert found.rows[0].points[8].score.value == pytest.approx(ceiling)  # all that are chosen from are submitted
