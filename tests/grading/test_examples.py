"""Examples are read from questions as people write them, and nothing in a question is ever evaluated."""

from __future__ import annotations

import pytest

from ponder.grading.examples import MOST, Shown, arguments_of, examples_of
from tests.helpers import takes_at_most


def shown(question):
    found = examples_of(question)
    return found and (found.kind, found.name, [(each.given, each.wanted) for each in found.items])


def test_doctests_are_calls():
    question = 'Write f.\n\n    >>> f(2, [1, "a"])\n    4\n    >>> f(0, [])\n    [1, 2]\n    >>> f(1, [])\n\nThanks'
    assert shown(question) == ("calls", "f", [("2, [1, 'a']", "4"), ("0, []", "[1, 2]")])


@pytest.mark.parametrize(
    "line",
    ["assert f(1, -2) == {'a': 1.5}", "  - `assert f(1, -2) == {'a': 1.5}`", "assert f(1, -2) == {'a': 1.5}, 'wrong'",
     "f(1, -2) -> {'a': 1.5}", "* `f(1, -2)` returns `{'a': 1.5}`.", "f(1, -2) == {'a': 1.5}",
     "1. assert f(1,-2)=={'a':1.5}"],
)  # fmt: skip
def test_asserts_and_arrows_are_calls(line):
    assert shown(f"Write f.\n{line}\n") in (
        ("calls", "f", [("1, -2", "{'a': 1.5}")]), ("calls", "f", [("1, -2", "{'a':1.5}")]),
    )  # fmt: skip


def test_the_function_that_most_examples_call_is_the_one_asked_for():
    found = examples_of("assert g(1) == 2\nassert f(1) == 1\nassert f(2) == 2\n")
    assert (found.name, len(found.items)) == ("f", 2)


@pytest.mark.parametrize(
    "line",
    ["assert f(x) == 2", "assert f(1) == g(1)", "assert f(n=1) == 2", "assert f(1) < 2", "assert a.f(1) == 2",
     "assert f(__import__('os').system('id')) == 0", ">>> f(1", ">>> import os\n1", "assert", "f(1) -> open('x')"],
)  # fmt: skip
def test_what_is_not_a_call_of_plain_values_with_a_plain_result_is_no_example(line):
    assert examples_of(f"Write f.\n{line}\n") is None


def test_pairs_are_those_of_the_task_pipes():
    assert shown("12>15\n-2 13 8>1 16 11\n>0") == ("pairs", "", [("12", "15"), ("-2 13 8", "1 16 11"), ("", "0")])
    assert examples_of("> quoted\n>\n1 > x") is None


@pytest.mark.parametrize(
    "question",
    [
        "Add.\n\nInput:\n3 4\nOutput:\n7\n\nInput:\n1\n2\nOutput:\n3\n",
        "Add.\n\n### Sample Input 1\n```\n3 4\n```\n### Sample Output 1\n```\n7\n```\n\n**Example input 2:**\n1\n2\n"
        "**Example output 2:**\n3\nExplanation: 1 + 2 = 3",
        "Input\n\n3 4\n\nOutput\n\n7\n\nInput\n1\n2\n\nOutput\n3\n\nNote\nNothing",
        "input: 3 4\noutput: 7\n\ninput:\n1\n2\noutput: `3`",
    ],
)
def test_inputs_and_outputs_are_texts_however_they_are_set(question):
    assert shown(question) == ("texts", "", [("3 4\n", "7\n"), ("1\n2\n", "3\n")])


def test_texts_within_a_fence_keep_their_empty_lines_and_words_like_headings():
    assert shown("Input:\n```\n2\n\nOutput\n```\nOutput:\n```\nInput:\n```\n") == (
        "texts", "", [("2\n\nOutput\n", "Input:\n")],
    )  # fmt: skip


def test_prose_about_inputs_is_no_example_and_named_arguments_are_none():
    assert (
        examples_of("The input has n lines. Output the sum.\nInput is read from stdin, and output goes to stdout.")
        is None
    )
    assert examples_of("Input: nums = [1, 2], target = 3\nOutput: [0, 1]") is None
    assert examples_of("What is 2 + 2?") is None and examples_of("") is None


def test_a_question_of_headings_and_spaces_is_read_in_no_time():
    with takes_at_most(0.6):
        assert examples_of(("input" + " " * 1_900 + "x\n") * 50) is None
    assert examples_of("Input 1:\n3 4\nOutput #1:\n7").items == (Shown(given="3 4\n", wanted="7\n"),)


def test_many_and_repeated_examples_are_bounded():
    question = "\n".join(f"assert f({number % 50}) == 1" for number in range(200))
    assert len(examples_of(question).items) == MOST
    assert examples_of("assert f(1) == 1\n" * 9).items == (Shown(given="1", wanted="1"),)


def test_arguments_are_plain_values_or_none():
    assert arguments_of("1, [2, (3,)], {'a': None}") == (1, [2, (3,)], {"a": None})
    assert arguments_of("") == ()
    for text in ("x", "1)+(1", "f(1)", "(" * 500, "1,,2", "\x00", "*[1]", "1 for x in y", "lambda: 1", "1j**9"):
        assert arguments_of(text) is None, text


@pytest.mark.parametrize(
    "question",
    ["(" * 99_000, ">>> f(" + "[" * 1_900 + "\n1", "assert " * 20_000, "Input:\n" * 30_000, "```\n" * 50_000,
     "assert f(" + "1," * 900 + ") == 1\n" * 50, "\udc80>>> f(1)\n2", "f(" * 900 + "1" + ")" * 900 + " -> 1",
     "-" * 100_000, "f(" + "-" * 1_900 + "1) -> 1", "assert f(" + "not " * 400 + "1) == " + "~" * 300 + "1",
     "Input: " + " " * 90_000, " " * 50_000 + ">" + " " * 49_000, "#*_` " * 19_000 + "input", "9" * 100_000 + ">",
     "\x00" * 1_000, "f(1) -> " + "9" * 1_900],
    ids=range(17),
)  # fmt: skip
def test_hostile_questions_are_read_in_bounds(question):
    found = examples_of(question)
    assert found is None or len(found.items) <= MOST
