"""Ways of thinking: demonstrations are what they claim, and reasoning is classified by its marks."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.tasks import load_task
from ponder.tasks.arithmetic import parse
from ponder.tasks.base import split_of
from ponder.tasks.demonstrations import DEMONSTRATED, DemonstrationConfig, demonstration
from ponder.tasks.pipes_language import PROBES, STAGES, behaviour, fits, run
from ponder.tasks.pipes_language import parse as parse_pipe
from ponder.tasks.pipes_problems import public_examples
from ponder.tasks.pipes_ways import attempt, misses
from ponder.tasks.ways import WAYS, count, demonstrate


def problems(n: int = 40):
    task = load_task("arithmetic", split="train", size=n)
    return [task[i] for i in range(n)]


@pytest.mark.parametrize("way", DEMONSTRATED["arithmetic"].shares)
def test_a_demonstration_without_slips_is_right_and_recognised(way):
    for problem in problems():
        reasoning, answer = demonstrate(problem, way, Random(problem.id), slip=0.0)
        assert answer == problem.target
        assert count(reasoning).way == way
        assert count(reasoning).backtracks == 0


def test_slips_spoil_steps_and_are_caught_by_checks():
    right = {"steps": 0, "checked": 0}
    caught = 0
    for way in right:
        for problem in problems(200):
            reasoning, answer = demonstrate(problem, way, Random(problem.id), slip=0.2)
            right[way] += answer == problem.target
            caught += count(reasoning).backtracks
    assert right["checked"] == 200
    assert right["steps"] < 120
    assert caught > 50


def test_demonstrations_come_from_the_train_split_alone():
    for index in range(60):
        problem, _, _ = demonstration(DemonstrationConfig(), index, seed=0)
        assert split_of(problem.text) == "train"


def test_the_shares_of_a_mixture_are_kept():
    config = DemonstrationConfig(guess=0.5, steps=0.3, checked=0.2)
    ways = [count(demonstration(config, index, seed=1)[1]).way for index in range(600)]
    assert ways.count("guess") / 600 == pytest.approx(0.5, abs=0.07)
    assert ways.count("checked") / 600 == pytest.approx(0.2, abs=0.07)


@given(st.text(max_size=200))
def test_any_text_is_classified_without_failing(text):
    counts = count(text)
    assert counts.way in (*WAYS, "other")
    assert counts.backtracks <= counts.checks
    assert parse(text) is None or text.startswith("What is ")


# ---- pipes ----------------------------------------------------------------------------------------------------------

TRIED = DemonstrationConfig(family="pipes", tried=1.0, levels=(1, 2))


def test_an_idea_is_tried_on_the_examples_up_to_the_first_that_it_misses():
    shown = (((6, 8, -2), (-2, 8, 6)), ((5, 1), (1, 5)), ((7, 3), (3, 7)))
    assert attempt(("rev",), shown) == ["rev:-2|-2 8|8 6|6 ok", "rev:1|1 5|5 ok", "rev:3|3 7|7 ok"]
    assert attempt(("sort", "rev"), shown) == ["sort:-2 6 8 rev:8|-2 no"]
    assert attempt(("drop1",), shown) == ["drop1:8|-2 no"]
    assert attempt(("take1",), (((1, 2), (1, 5)),)) == ["take1:1|1 .|5 no"]
    assert attempt(("sort",), (((2, 1), (1,)),)) == ["sort:1|1 2|. no"]
    assert attempt(("pos", "neg"), (((1,), ()),)) == ["pos:1 neg:.|. ok"]


def test_what_is_tried_comes_out_as_it_says_and_the_answer_is_the_first_idea_that_fits():
    for index in range(60):
        problem, reasoning, answer = demonstration(TRIED, index, seed=0)
        shown, ideas = public_examples(problem), []
        for line in reasoning.split("\n"):
            words, said = line.rsplit(" ", 1)
            names = [name for name, colon, _ in (word.partition(":") for word in words.split()) if colon]
            assert all(name in STAGES for name in names)
            first = names != list(ideas[-1][0]) if ideas else True
            ideas += [(tuple(names), [])] if first else []
            ideas[-1][1].append(said)
            value, output = shown[len(ideas[-1][1]) - 1]
            found = run(tuple(names), value)
            assert said == ("ok" if found == output else "no")
            pairs = [pair.split("|") for pair in words.rpartition(":")[2].split(" ")]
            made = [int(a) for a, _ in pairs if a != "."]
            assert tuple(made) == found[: len(made)] and [a == b for a, b in pairs[:-1]] == [True] * (len(pairs) - 1)
            assert (pairs[-1][0] == pairs[-1][1]) == (found == output)  # the line ends where they differ
        assert all(said[-1] == "no" for _, said in ideas[:-1]) and ideas[-1][1] == ["ok"] * len(shown)
        assert " ".join(ideas[-1][0]) == answer == problem.target


def test_ideas_that_miss_never_fit_and_most_do_what_the_first_example_shows():
    rng, found, fitting = Random(0), 0, 0
    for index in range(40):
        problem, _, _ = demonstration(TRIED, index, seed=1)
        target = parse_pipe(problem.target)
        for idea in misses(public_examples(problem), target, rng):
            assert not fits(idea, public_examples(problem)) and behaviour(idea, PROBES) != behaviour(target, PROBES)
            found += 1
            fitting += fits(idea, public_examples(problem)[:1])
    assert found > 40 and found / 2 < fitting < found


def test_trying_is_told_from_arithmetic_and_from_guessing():
    assert count("sort:-2 6 8 rev:8 6 -2 no\nrev:-2 8 6 ok").way == "tried"
    counts = count("sort:-2 6 8 rev:8 6 -2 no\nrev:-2 8 6 ok")
    assert (counts.steps, counts.checks, counts.backtracks) == (3, 2, 1)
    assert count("*2:4 6 no").way == "tried" and count("").way == "guess"
    assert count("5*9=45 9*5=45 ok").way == "checked" and count("note: the sort: of thing").way != "checked"
    assert count("resort:1 2 no").way == "other"


@pytest.mark.parametrize("family", DEMONSTRATED)
def test_every_family_is_demonstrated_in_its_own_ways_from_its_train_split(family):
    config = DemonstrationConfig(family=family)
    ways = set()
    for index in range(150):
        problem, reasoning, answer = demonstration(config, index, seed=0)
        alone = f"What is {problem.meta['request']}?" if family == "desk" else problem.text  # without smalltalk
        assert problem.task == family and split_of(alone) == "train"
        ways.add(count(reasoning).way)
        assert answer
    own = set(DEMONSTRATED[family].shares)
    # what is honest is told by the loophole itself, not by how it is written; a desk without a policy only works
    assert ways == {"loophole": {"steps"}, "desk": own | {"steps"}}.get(family, own)


def test_a_share_given_alone_is_the_whole_mixture_and_another_familys_way_is_refused():
    assert DemonstrationConfig(family="pipes", tried=0.5).shares == {"guess": 0.0, "tried": 0.5}
    with pytest.raises(ValueError, match="pipes is not worked by checked; its ways: guess, tried"):
        DemonstrationConfig(family="pipes", checked=0.5)
    with pytest.raises(ValueError, match="must not all be 0"):
        DemonstrationConfig(family="pipes", guess=0.0)
    with pytest.raises(ValueError, match="arithmetic"):
        DemonstrationConfig(family="pipe")
    with pytest.raises(ValueError, match="levels"):
        DemonstrationConfig(family="pipes", levels=(4,))
