"""Choosing what to submit: every part of the procedure, and what it may know."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from ponder.strategies.programs import (
    NOTHING,
    Candidates,
    Choosing,
    Goal,
    Weights,
    agreement,
    prepare,
    submissions,
)

ONE = (Goal(),)


def played(pool, choosing, results, goals=ONE, most=50, order=None):
    """The samples submitted, in turn; results: a row a sample, the points of each goal."""
    chooser, made = submissions(prepare(pool, choosing, goals), order), []
    try:
        sample = next(chooser)
        while len(made) < most:
            made.append(sample)
            sample = chooser.send(results[sample])
    except StopIteration:
        pass
    return made


def nothing_is_right(pool, goals=1):
    return [[0.0] * goals] * len(pool)


def random_pool(rng, n=30, inputs=6, examples=2, goals=1):
    return Candidates(
        programs=rng.integers(-1, n // 2, n),
        examples=rng.random((n, examples)) < 0.6,
        outputs=rng.integers(-1, 3, (n, inputs)),
        is_stable=rng.random(n) < 0.9,
        scores=np.where(rng.random(n) < 0.8, rng.normal(size=n), np.nan),
        goals=rng.integers(-1, goals, n),
    )


def test_with_every_switch_off_samples_are_submitted_in_their_order():
    pool = random_pool(np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(len(pool))
    pool = replace(pool, goals=np.full(len(pool), -1))
    assert played(pool, NOTHING, nothing_is_right(pool)) == list(range(30))
    assert played(pool, NOTHING, nothing_is_right(pool), order=order) == order.tolist()


def test_what_is_no_program_is_submitted_last():
    pool = Candidates.of(programs=[None, "a", None, "b"])
    assert played(pool, replace(NOTHING, valid=True), nothing_is_right(pool)) == [1, 3, 0, 2]


def test_those_that_pass_more_public_examples_come_first():
    pool = Candidates.of(programs="abcd", examples=[[True, False], [True, True], [False, False], [True, True]])
    assert played(pool, replace(NOTHING, public=True), nothing_is_right(pool)) == [1, 3, 0, 2]


def test_the_largest_cluster_speaks_first_and_each_behaviour_once_before_any_twice():
    pool = Candidates.of(programs="abcdef", outputs=[["1"], ["2"], ["2"], ["3"], ["2"], ["1"]])
    choosing = replace(NOTHING, clusters=True, weights=Weights(tried=10.0))
    assert played(pool, choosing, nothing_is_right(pool)) == [1, 0, 3, 2, 5, 4]


def test_without_a_penalty_a_cluster_is_submitted_to_its_end():
    pool = Candidates.of(programs="abcd", outputs=[["1"], ["2"], ["2"], ["2"]])
    choosing = replace(NOTHING, clusters=True, weights=Weights(tried=0.0))
    assert played(pool, choosing, nothing_is_right(pool)) == [1, 2, 3, 0]


def test_the_same_text_is_not_submitted_twice_where_clusters_are_formed():
    pool = Candidates.of(programs=["a", "a", "b", "a"], outputs=[["1"], ["1"], ["1"], ["1"]])
    assert played(pool, Choosing(), nothing_is_right(pool)) == [0, 2]


def test_passing_the_examples_counts_more_than_the_size_of_a_cluster():
    pool = Candidates.of(
        programs="abcd", examples=[[False], [False], [False], [True]], outputs=[["1"], ["1"], ["1"], ["2"]]
    )
    assert played(pool, Choosing(), nothing_is_right(pool))[0] == 3


def test_an_unstable_program_is_in_no_cluster_and_comes_after_all_stable_ones():
    outputs = [["1"], ["1"], ["1"], ["2"]]
    pool = Candidates.of(programs="abcd", outputs=outputs, is_stable=[False, False, False, True])
    assert played(pool, replace(NOTHING, clusters=True), nothing_is_right(pool)) == [3, 0, 1, 2]


def test_programs_that_crash_on_everything_are_no_large_cluster():
    pool = Candidates.of(programs="abcd", outputs=[[None, None], [None, None], [None, None], ["2", "1"]])
    assert played(pool, Choosing(), nothing_is_right(pool))[0] == 3


def test_agreement_is_how_many_have_the_same_output_and_none_is_no_agreement():
    outputs = np.array([[1, 1], [1, 2], [1, -1], [-1, -1]])
    assert agreement(outputs, np.ones(4, bool)).tolist() == [0.5, 0.5, 0.375, 0.0]
    assert agreement(outputs, np.zeros(4, bool)).tolist() == [0.0] * 4


def test_the_sample_that_agrees_with_most_on_most_inputs_comes_first_where_generated_tests_count():
    pool = Candidates.of(programs="abcd", outputs=[["9", "9", "9"], ["1", "1", "0"], ["1", "2", "1"], ["1", "1", "1"]])
    assert played(pool, replace(NOTHING, tests=True), nothing_is_right(pool))[0] == 3


def test_a_scorer_decides_within_a_cluster_and_between_clusters_of_a_size_and_nan_is_its_lowest():
    pool = Candidates.of(programs="abcd", outputs=[["1"], ["1"], ["2"], ["2"]], scores=[0.0, 0.5, float("nan"), 3.0])
    choosing = replace(NOTHING, clusters=True, scorer=True, weights=Weights(tried=10.0))
    assert played(pool, choosing, nothing_is_right(pool)) == [3, 1, 2, 0]


def test_submissions_go_round_the_subtasks_hardest_first_and_a_solved_one_leaves_the_round():
    goals = (Goal(points=20), Goal(points=50), Goal(points=30))
    pool = Candidates.of(programs="abcdef", goals=[0, 0, 1, 1, 2, 2])
    results = [[0, 0, 0], [0, 0, 0], [20, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert played(pool, Choosing(), results, goals) == [2, 4, 3, 5]  # 2 solved goal 0 on the way


def test_a_problem_ends_when_all_of_its_subtasks_are_solved():
    goals = (Goal(points=40), Goal(points=60, includes=(0,)))
    pool = Candidates.of(programs="abc")
    assert played(pool, Choosing(), [[40, 0], [40, 60], [0, 0]], goals) == [0, 1]


def test_what_disagrees_with_the_solution_of_an_included_subtask_comes_last_in_the_larger_one():
    goals = (Goal(points=20, inputs=(0,)), Goal(points=80, inputs=(0, 1), includes=(0,)))
    outputs = [["5", "1"], *[["6", "2"]] * 3, *[["6", "7"]] * 2, ["5", "3"], ["5", "4"]]
    pool = Candidates.of(programs="abcdefgh", outputs=outputs)
    results = [[20, 0], *[[0, 0]] * 5, [20, 0], [20, 80]]
    # 1 is of the larger subtask's best cluster; 0 solves the small one: of the rest only 6 and 7 agree with it
    assert played(pool, Choosing(tests=False), results, goals) == [1, 0, 6, 7]
    assert played(pool, Choosing(tests=False, superset=False), results, goals) == [1, 0, 4, 6, 7]


def test_a_sample_asked_for_a_larger_subtask_stands_for_the_smaller_one_too_and_not_the_other_way_round():
    goals = (Goal(points=20), Goal(points=80, includes=(0,)))
    pool = Candidates.of(programs="ab", goals=[0, 1])
    rankings = prepare(pool, Choosing(), goals).rankings
    assert (rankings[0].cluster >= 0).tolist() == [True, True]
    assert (rankings[1].cluster >= 0).tolist() == [False, True]


def test_a_subtask_that_nobody_was_asked_for_is_tried_with_all_there_is():
    pool = Candidates.of(programs="ab", goals=[0, 0])
    assert played(pool, Choosing(), [[9, 0], [9, 7]], (Goal(points=9), Goal(points=7))) == [0, 1]


def test_public_examples_that_a_subtask_does_not_allow_do_not_count_for_it():
    goals = (Goal(points=1, examples=(0,)),)
    pool = Candidates.of(programs="ab", examples=[[True, False], [False, True]])
    assert played(pool, Choosing(), nothing_is_right(pool), goals)[0] == 0


@pytest.mark.parametrize("seed", range(12))
def test_every_sample_is_submitted_at_most_once_and_all_are_without_clusters(seed):
    rng = np.random.default_rng(seed)
    goals = (Goal(points=1, inputs=(0, 1)), Goal(points=2, includes=(0,)), Goal(points=3, examples=(1,)))
    pool = random_pool(rng, goals=3)
    results = (rng.random((30, 3)) < 0.1) * [1.0, 2.0, 3.0]
    for choosing in (Choosing(), NOTHING, Choosing(clusters=False), replace(NOTHING, scorer=True, superset=True)):
        made = played(pool, choosing, results, goals, order=rng.permutation(30))
        assert len(made) == len(set(made)) and made
        all_wrong = played(pool, choosing, nothing_is_right(pool, 3), goals, order=rng.permutation(30))
        texts = set(pool.programs[pool.programs >= 0].tolist())
        num = 30 if not choosing.clusters else len(texts) + int((pool.programs < 0).sum())
        assert len(all_wrong) == num == len(set(all_wrong))


@pytest.mark.parametrize("seed", range(12))
def test_the_next_submission_depends_on_results_only_through_what_was_returned(seed):
    """Two worlds whose hidden results agree on the samples submitted so far: the next submission is the same."""
    rng = np.random.default_rng(seed)
    goals = (Goal(points=1, inputs=(0, 1, 2)), Goal(points=2, includes=(0,)))
    pool = random_pool(rng, goals=2)
    results = (rng.random((30, 2)) < 0.2) * [1.0, 2.0]
    made = played(pool, Choosing(), results, goals)
    for j in range(len(made)):
        other = rng.permutation(results)
        other[made[:j]] = results[made[:j]]
        again = played(pool, Choosing(), other, goals, most=j + 1)
        assert again[: j + 1] == made[: j + 1]


def test_candidates_have_no_field_for_hidden_results():
    assert {f.name for f in fields(Candidates)} == {"programs", "examples", "outputs", "is_stable", "scores", "goals"}


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_the_samples_decides_nothing_but_ties(seed):
    """The same order by another road: permuted candidates in their own order."""
    rng = np.random.default_rng(seed)
    pool, order = random_pool(rng), rng.permutation(30)
    first = played(pool, Choosing(), nothing_is_right(pool), order=order)
    second = played(pool.take(order), Choosing(), nothing_is_right(pool))
    assert first == order[second].tolist()


def test_nothing_to_choose_is_an_error_and_so_are_points_of_other_goals():
    with pytest.raises(ValueError, match="leave nothing to choose"):
        prepare(Candidates.of(programs=[]), Choosing())
    chooser = submissions(prepare(Candidates.of(programs="ab"), Choosing()))
    next(chooser)
    with pytest.raises(ValueError, match="1 goals have as many points"):
        chooser.send([0.0, 1.0])
    with pytest.raises(ValueError, match="a row a sample"):
        replace(Candidates.of(programs="ab"), scores=np.zeros(3))
