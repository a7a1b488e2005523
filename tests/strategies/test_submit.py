"""Mode submit: programs are run before one is given, and what is no coding question is a vote."""

from __future__ import annotations

import asyncio

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.grading.testers import TextTester
from ponder.sandbox.scripted import ScriptedSandbox
from ponder.serve.modes import offered_modes
from ponder.strategies import STRATEGIES
from ponder.strategies.submit import submit
from ponder.tasks.pipes_tester import PipesTester
from ponder.types import Budget, SamplingParams
from tests.helpers import user

PAIRS = "3 1 2>1 2 3\n5>5"


def solve(question, answers, *, testers=None, scorer=None, n=None, **more):
    """The answer, and the engine, which gives sample i the i-th answer."""
    taken = iter(answers)
    engine = ScriptedEngine(lambda text, seed: ("thinking about it", next(taken)))
    testers = {"pairs": PipesTester()} if testers is None else testers
    call = submit(
        user(question), engine, params=SamplingParams(), key=lambda answer: answer or None, testers=testers,
        scorer=scorer, n=n or len(answers), **more,
    )  # fmt: skip
    return asyncio.run(call)


def test_a_program_that_does_what_the_examples_say_is_given_against_the_vote():
    solution = solve(PAIRS, ["rev", "rev", "rev", "sort", "no program"])
    assert solution.answer == "sort" and solution.usage.samples == 5
    assert solution.reasoning == "thinking about it" and "thinking" not in solution.answer


def test_of_those_that_pass_the_behaviour_of_most_is_given():
    # all pass: `sort`, `sort uniq` (twice, in two spellings) differ on repeats
    question = "3 1 2>1 2 3"
    assert solve(question, ["sort", "sort uniq", "uniq sort"]).answer == "sort uniq"
    assert solve(question, ["uniq sort", "sort", "rev rev sort"]).answer == "sort"


def test_a_scorer_decides_between_behaviours_that_as_many_have():
    class Likes:
        name, policy, needs, flops_per_token = "likes", "", frozenset(), None

        async def __call__(self, prompt, completions):
            return [0.99 if "uniq" in each.answer else 0.01 for each in completions]

        def cost(self, completions):
            return 7

    solution = solve("3 1 2>1 2 3", ["sort", "sort uniq"], scorer=Likes())
    assert solution.answer == "sort uniq" and solution.usage.scorer_tokens == 7
    assert solve("3 1 2>1 2 3", ["sort", "sort uniq"]).answer == "sort"


@pytest.mark.parametrize("question", ["What is 2 + 2?", "", "Input:\n3\nOutput:\n4\n"])
def test_what_shows_no_example_that_can_be_run_is_a_plain_vote(question):
    assert solve(question, ["5", "4", "4"]).answer == "4"


def test_where_no_answer_has_a_program_the_vote_decides_and_an_empty_answer_never_votes():
    assert solve(PAIRS, ["none", "not one", "none"]).answer == "none"
    assert solve(PAIRS, ["", "not one", ""]).answer == "not one"
    assert solve(PAIRS, ["", ""]).answer == ""


def test_each_program_is_run_once_whatever_the_number_of_samples_that_have_it():
    scripted = ScriptedSandbox(lambda program, stdin, args: stdin.decode()[::-1])
    answers = ["```python\nprint(1)\n```"] * 5 + ["```python\nprint(2)\n```", "words"]
    question = "Input:\nab\nOutput:\nba\n"
    solution = solve(question, answers, testers={"texts": TextTester(scripted)})
    assert solution.answer == answers[0]
    runs = [program.source for program, _, _ in scripted.calls]
    assert runs.count("print(1)\n") == runs.count("print(2)\n") > 1
    assert {stdin for _, stdin, _ in scripted.calls} > {b"ab\n"}


def test_a_budget_is_kept_and_what_was_drawn_is_reported_before_anything_is_run():
    reported = []
    solution = solve(PAIRS, ["rev", "sort"], watch=reported.append, budget=Budget(max_samples=2))
    assert [each.answer for each in reported] == ["rev", "sort"] and solution.usage.samples == 2


def test_without_anything_that_runs_programs_the_mode_is_refused_and_not_offered():
    with pytest.raises(ConfigError, match="was given nothing that may"):
        asyncio.run(submit(user("x"), ScriptedEngine(lambda t, s: "4"), params=SamplingParams(), key=str))
    assert "submit" not in offered_modes(STRATEGIES, None)
    assert "submit" in offered_modes(STRATEGIES, None, {"pairs": PipesTester()})


def test_a_tester_that_breaks_fails_the_call_and_is_no_answer():
    class Broken(PipesTester):
        def passes(self, program, examples):
            raise RuntimeError("the fence is gone")

    with pytest.raises(RuntimeError, match="the fence is gone"):
        solve(PAIRS, ["sort", "rev"], testers={"pairs": Broken()})


@pytest.mark.parametrize("text", ["9" * 50, "1 " * 99, "1.5", "x", "--1", "²", "\udc80"])
def test_inputs_that_are_no_lists_of_the_language_give_nothing(text):
    assert PipesTester().outputs("sort", None, [text]) == [None]
