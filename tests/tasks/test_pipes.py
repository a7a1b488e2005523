"""pipes: levels are exact, programs cannot fail, and a verdict is about what a program does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.tasks import load_task
from ponder.tasks.pipes import find_pipe, key, verify
from ponder.tasks.pipes_language import (
    LONGEST,
    MOST,
    PROBES,
    STAGES,
    apply,
    at_most,
    behaviour,
    digest,
    fits,
    level_of,
    parse,
    run,
    shortest,
)
from ponder.tasks.pipes_problems import (
    GENERATORS,
    SUBTASKS,
    VALIDATORS,
    hidden_tests,
    public_examples,
    random_inputs,
    subtasks,
)
from tests.helpers import takes_at_most

VALUES = st.lists(st.integers(-5_000, 5_000), max_size=12)
PIPES = st.lists(st.sampled_from(sorted(STAGES)), min_size=1, max_size=4).map(tuple)


def problems(spec: str, n: int):
    task = load_task(spec, size=n)
    return [task[i] for i in range(n)]


# ---- the language ---------------------------------------------------------------------------------------------------


def test_there_are_29_stages_and_what_they_do_is_what_they_are_called():
    assert len(STAGES) == 29
    for text, value, output in (
        ("sort rev", (3, 19, 1), (19, 3, 1)),
        ("+3 abs", (-2, 13, 8, -6, 8), (1, 16, 11, 3, 11)),
        ("uniq", (2, 1, 2, 1), (2, 1)),
        ("even", (-2, 3, 0, 5), (-2, 0)),
        ("odd", (-3, 2, 5), (-3, 5)),
        ("pos", (0, 1, -1), (1,)),
        ("neg", (0, 1, -1), (-1,)),
        ("cum", (1, 2, 3), (1, 3, 6)),
        ("diff", (1, 4, 2), (3, -2)),
        ("sum", (), (0,)),
        ("max", (), ()),
        ("min", (4, -2), (-2,)),
        ("len", (5, 5), (2,)),
        ("take2", (1, 2, 3), (1, 2)),
        ("drop2", (1, 2, 3), (3,)),
        ("*-1", (1, -2), (-1, 2)),
        ("sq sq", (9, -9), (MOST, MOST)),
    ):
        pipe = parse(text)
        assert pipe is not None and run(pipe, value) == output, text


@given(PIPES, VALUES)
def test_every_program_ends_within_the_bounds_on_every_input(pipe, value):
    output = run(pipe, value)
    assert len(output) <= LONGEST and all(type(v) is int and abs(v) <= MOST for v in output)


@given(st.text(max_size=60))
def test_any_text_is_a_program_or_none(text):
    pipe = parse(text)
    assert pipe is None or (1 <= len(pipe) <= 4 and " ".join(pipe) == " ".join(text.split()))


def test_levels_one_and_two_are_those_of_all_programs_by_brute_force():
    ones = {behaviour((a,), PROBES) for a in STAGES}
    twos = {behaviour((a, b), PROBES) for a in STAGES for b in STAGES}
    nothing = {PROBES}
    assert {behaviour(pipe, PROBES) for pipe in shortest(1)} == ones - nothing and len(shortest(1)) == 29
    assert {behaviour(pipe, PROBES) for pipe in shortest(2)} == twos - ones - nothing


@settings(deadline=None)  # the first looks up all levels
@given(st.tuples(*[st.sampled_from(sorted(STAGES))] * 3))
def test_a_program_is_as_deep_as_its_shortest_equal(pipe):
    level = level_of(pipe)
    assert level <= 3
    assert len(known_behaviours()[behaviour(pipe, PROBES)]) == level


@cache
def known_behaviours():
    """Behaviour -> the first of the shortest programs with it."""
    found = {}
    for pipe in at_most(3):
        found.setdefault(behaviour(pipe, PROBES), pipe)
    return found


def test_programs_that_the_probes_hold_equal_are_equal_elsewhere():
    """The probes tell apart what inputs can: pairs that they hold equal agree on two thousand others."""
    rng = Random(0)
    others = random_inputs(rng, 2_000)
    known = {behaviour(pipe, PROBES): pipe for pipe in at_most(2)}
    for _ in range(40):
        pipe = tuple(rng.choices(sorted(STAGES), k=2))
        assert behaviour(pipe, others) == behaviour(known[behaviour(pipe, PROBES)], others), pipe


@pytest.mark.parametrize(
    ("text", "level"),
    [("sort", 1), ("rev rev", 0), ("sort sort", 1), ("+1 +2", 1), ("rev sort", 1), ("max min", 1), ("sort rev", 2),
     ("+1 +1 +1 +1", 2), ("sort diff max", 3), ("sort drop1 diff max", 4)],
)  # fmt: skip
def test_levels_of_programs_that_can_be_told_by_hand(text, level):
    pipe = parse(text)
    assert pipe is not None and level_of(pipe) == level


# ---- problems -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_problem_has_the_level_it_says_and_shows_no_shorter_program(level):
    for problem in problems(f"pipes:level={level}", 15 if level < 3 else 5):
        pipe = parse(problem.target)
        assert pipe is not None and len(pipe) == level == level_of(pipe) == problem.level
        assert not any(fits(other, public_examples(problem)) for other in at_most(level - 1))


def test_what_is_shown_is_the_prompt_and_nothing_hidden_is_in_it():
    for problem in problems("pipes:examples=2", 20):
        lines = [f"{' '.join(map(str, x))}>{' '.join(map(str, y))}" for x, y in public_examples(problem)]
        assert problem.text == "\n".join(lines) and len(lines) == 2
        inputs = [value for value, _ in hidden_tests(problem)]
        assert len(inputs) == 19 and () in inputs and (0,) in inputs
        assert any(len(set(value)) < len(value) for value in inputs)
        assert all(VALIDATORS["legal"](value) for value in inputs)


def test_hidden_inputs_are_drawn_anew_for_each_problem():
    seen = [hidden_tests(problem)[2:] for problem in problems("pipes:level=1", 20)]
    assert len({tuple(value for value, _ in tests) for tests in seen}) == 20


def test_fewer_examples_leave_more_programs_that_fit():
    def fitting(examples: int) -> float:
        found = problems(f"pipes:level=2,examples={examples}", 12)
        return sum(sum(fits(pipe, public_examples(problem)) for pipe in shortest(2)) for problem in found) / len(found)

    one, two, four = fitting(1), fitting(2), fitting(4)
    assert one > two > four >= 1


def test_seeds_and_splits_give_other_problems():
    texts = {
        (split, seed): {load_task("pipes", split=split, seed=seed)[i].text for i in range(20)}
        for split in ("train", "dev", "test")
        for seed in (0, 1)
    }
    assert len(set.union(*texts.values())) >= 115  # of 120


@pytest.mark.parametrize("spec", ["pipes:level=4", "pipes:level=0-2", "pipes:examples=0", "pipes:examples=many"])
def test_a_dial_that_does_not_exist_is_refused_with_what_does(spec):
    with pytest.raises(ConfigError, match=r"1 to \d|must be a whole number"):
        load_task(spec)
    with pytest.raises(ConfigError, match="fraction"):
        load_task("pipes:reward=fractions")


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_any_program_that_does_the_same_is_right_and_votes_alike():
    for problem in problems("pipes:level=1", 20):
        other = f"*-1 *-1 {problem.target}"
        assert verify(problem, other).is_correct
        assert key(problem, other) == key(problem, problem.target)


def test_passing_what_is_shown_is_not_enough():
    """Programs that fit the examples and are wrong: found, refused, and told apart by the hidden tests alone."""
    wrong = 0
    for problem in problems("pipes:level=2,examples=1", 10):
        for pipe in shortest(2):
            if fits(pipe, public_examples(problem)):
                verdict = verify(problem, " ".join(pipe))
                assert verdict.parts["public"] == 1
                assert verdict.is_correct == (verdict.parts["hidden"] == 1)
                wrong += not verdict.is_correct
    assert wrong > 10


def test_parts_say_the_shares_of_tests_and_of_points():
    problem = next(p for p in problems("pipes:level=1", 400) if p.target == "*-1")
    verdict = verify(problem, "*2")
    passed = [run(("*2",), value) == output for value, output in hidden_tests(problem)]
    assert verdict.parts["hidden"] == sum(passed) / 19 and 0 < verdict.parts["hidden"] < 1
    assert verdict.reward == 0 and verdict.parts["points"] == 0
    assert set(verify(problem, "*-1").parts.values()) == {1.0}


def test_a_share_is_a_reward_where_it_is_asked_for_and_only_all_tests_are_correct():
    """`uniq` instead of nothing is right on most inputs: what it is worth is the dial's."""
    task, share, points = (load_task(f"pipes:level=2,reward={reward}", size=200) for reward in
                           ("all", "fraction", "weighted"))  # fmt: skip
    seen = set()
    for index in range(200):
        problem = task[index]
        assert problem == share[index] == points[index]
        for answer in (problem.target, problem.target.split()[0], "no program"):
            whole = task.verify(problem, answer)
            rewards = [each.verify(problem, answer).reward for each in (share, points)]
            assert whole.reward == float(whole.is_correct)
            assert rewards == [whole.parts["fraction"], whole.parts["points"]]
            assert all(each.verify(problem, answer).outcome == whole.outcome for each in (share, points))
            seen.add((whole.is_correct, 0 < rewards[0] < 1, 0 < rewards[1] < 1))
    assert {(True, False, False), (False, True, True), (False, True, False), (False, False, False)} <= seen


def test_a_subtask_is_paid_for_by_all_of_its_tests_and_them_alone():
    problem = next(p for p in problems("pipes:level=1", 400) if p.target == "abs")
    positive, in_order, everything = subtasks(problem)
    assert [(part.name, part.points) for part in (positive, in_order, everything)] == list(SUBTASKS)
    assert set(positive.tests) < set(everything.tests) and set(in_order.tests) < set(everything.tests)
    assert len(positive.tests) >= 5 and len(in_order.tests) >= 5 and len(everything.tests) == 22
    verdict = verify(problem, "uniq abs")  # wrong where there is a repeat
    repeats = [any(len(set(value)) < len(value) for value, _ in part.tests) for part in subtasks(problem)]
    assert verdict.parts["points"] * 100 == sum(
        part.points
        for part, has in zip(subtasks(problem), repeats, strict=True)
        if not has or fits(("uniq", "abs"), part.tests)
    )


def test_a_problem_that_came_back_from_a_file_is_judged_as_before():
    import json

    problem = problems("pipes", 1)[0]
    again = replace(problem, meta=json.loads(json.dumps(problem.meta)))
    assert verify(again, problem.target) == verify(problem, problem.target)


PLAIN = (
    "sort rev", " sort  rev\n", "Answer: sort rev", "`sort rev`", r"\boxed{sort rev}", "The answer is sort rev.",
    "The answer is: max\nThe answer is sort rev",
)  # fmt: skip


@pytest.mark.parametrize("answer", PLAIN)
def test_a_program_is_found_in_plain_clothes(answer):
    assert find_pipe(answer) == ("sort", "rev")


@pytest.mark.parametrize("answer", ["", "sort, rev", "sort rev or max", "SORT", "sort\x00", "+4", "+ 3", "take4", "x",
                                    "sort " * 5, "sort rev uniq even odd", "identity", "1 2 3>3 2 1"])  # fmt: skip
def test_what_is_no_program_is_wrong_and_has_no_vote(answer):
    problem = problems("pipes", 1)[0]
    assert find_pipe(answer) is None and key(problem, answer) is None
    assert not verify(problem, answer).is_correct and verify(problem, answer).extracted is None


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_generators_make_legal_inputs_that_keep_their_name(name):
    inputs = random_inputs(Random(1), 200, generator=name)
    assert all(VALIDATORS["legal"](value) for value in inputs)
    if name in VALIDATORS:
        assert all(VALIDATORS[name](value) for value in inputs)
    assert len(set(inputs)) > 20


def test_a_digest_names_a_behaviour():
    assert digest([(1, 2), ()]) != digest([(1,), (2,)]) != digest([(1, 2), None])
    assert digest(behaviour(("rev", "rev", "sort"), PROBES)) == digest(behaviour(("sort",), PROBES))


def test_a_thousand_verdicts_take_less_than_two_seconds_of_processor_time():
    found = problems("pipes:level=1-2", 20)
    with takes_at_most(2):
        for problem in found:
            for _ in range(50):
                verify(problem, problem.target)


def test_one_stage_more_is_one_run_more():
    assert run(("sort", "rev"), (1, 2)) == apply("rev", apply("sort", (1, 2)))
