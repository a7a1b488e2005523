"""Inputs written by a model: prompts, the 75 % rule, and programs that do anything but what was asked."""

from __future__ import annotations

import asyncio

import pytest

from ponder.strategies.inputs import (
    MAX_INPUT,
    MAX_TRIES,
    InputSpec,
    ask_for,
    generator_prompt,
    make_inputs,
    similar,
    valid_inputs,
    validator_prompt,
    verdict_of,
)
from ponder.types import Completion, SamplingParams


def says(*words):
    """Validators by what they say of every input: True, False, or None."""
    return [lambda text, word=word: word for word in words]


def test_an_input_is_kept_where_at_least_three_quarters_of_the_validators_accept_it():
    assert valid_inputs(["x"], says(True, True, True, False)) == (["x"], 4)
    assert valid_inputs(["x"], says(True, True, False)) == ([], 3)
    assert valid_inputs(["x"], says(True, True, True, False, False)) == ([], 5)


def test_a_validator_that_says_nothing_rejects_and_one_that_never_says_anything_has_no_vote():
    odd = lambda text: True if text == "a" else None
    assert valid_inputs(["a", "b"], [odd, *says(True)]) == (["a"], 2)
    assert valid_inputs(["a", "b"], says(None, True)) == (["a", "b"], 1)
    assert valid_inputs(["a", "b"], says(None, None)) == (["a", "b"], 0)
    assert valid_inputs([], says(True)) == ([], 0)


@pytest.mark.parametrize(
    ("printed", "said"),
    [("valid\n", True), ("Invalid: n is too large", False), ("  VALID.", True), ("valid" * 9, None), ("", None),
     (None, None), ("yes", None), ("\x00\udc80 valid", None), ("x" * 10_000_000, None)],
)  # fmt: skip
def test_what_a_validator_prints_is_one_of_two_words_or_nothing(printed, said):
    assert verdict_of(printed) is said


def test_generators_take_turns_and_each_input_is_kept_once():
    def execute(program, stdin):
        return {"a": f"{int(stdin) // 2}\n", "b": "same\n"}[program]

    made = make_inputs(["a", "b"], [], execute, n=5)
    assert len(set(made.kept)) == len(made.kept) == 5
    assert "same\n" in made.kept and made.num_validators == 0


def test_validators_see_what_generators_printed_and_the_account_says_what_it_took():
    calls = []

    def execute(program, stdin):
        calls.append(program)
        if program == "make":
            return stdin
        return "valid" if int(stdin) % 2 == 0 else "invalid"

    made = make_inputs(["make"], ["check"], execute, n=10, seed=100)
    assert made.kept == tuple(f"{number}\n" for number in range(100, 110, 2))
    assert (made.num_made, made.num_rejected, made.num_validators, made.runs) == (10, 5, 1, len(calls))


def test_generators_that_crash_repeat_themselves_or_flood_cost_a_bounded_number_of_runs():
    calls = []

    def execute(program, stdin):
        calls.append(program)
        return {"crash": None, "constant": "1", "empty": " \n", "flood": "9" * (MAX_INPUT + 1)}[program]

    made = make_inputs(["crash", "constant", "empty", "flood"], ["crash"], execute, n=20)
    assert made.kept == ("1\n",)
    assert calls.count("crash") == 2  # once as a generator, once as a validator
    assert len(calls) <= MAX_TRIES * 20 + 1
    assert make_inputs([], [], execute, n=20).kept == ()


def test_similar_inputs_are_new_repeatable_and_of_the_same_kind():
    made = similar(["3 1 2", "10 20"], n=30, seed=1)
    assert len(made) == len(set(made)) == 30 and not {"3 1 2", "10 20"} & set(made)
    assert made == similar(["3 1 2", "10 20"], n=30, seed=1) != similar(["3 1 2", "10 20"], n=30, seed=2)
    assert all(all(part.lstrip("-").isdigit() for part in text.split()) for text in made)
    lengths = {len(text.split()) for text in made}
    assert len(lengths) > 1  # elements come and go


def test_similar_words_keep_to_letters_and_what_cannot_be_changed_gives_nothing():
    made = similar(["abc xyz"], n=10)
    assert made and all(text.replace(" ", "").isalpha() for text in made)
    assert similar(["..."], n=10) == similar([], n=10) == similar(["1" * (MAX_INPUT + 1)], n=10) == []


@pytest.mark.parametrize("text", ["7" * 9_000, "1 " * 4_999, "a" * 9_999, "\udc80 1", "-" * 9_000 + "1", "1\x00 2"])
def test_hostile_inputs_are_changed_without_harm(text):
    assert all(isinstance(each, str) and len(each) <= MAX_INPUT for each in similar([text], n=5))


def test_prompts_hold_the_statement_whatever_it_is_made_of_and_the_constraints_of_the_subtask():
    statement = "Print {x} for {constraints}, {form} and {statement} %s \\1"
    spec = InputSpec(statement=statement, form="One line.", constraints=("", "n <= 5"))
    for ask in (generator_prompt, validator_prompt):
        [message] = ask(spec, 1)
        assert statement in message.content and "n <= 5" in message.content and "One line." in message.content
        assert "fenced" in message.content and "also keep to" not in ask(spec, 0)[0].content


def test_asking_gives_each_program_once_and_counts_the_tokens_of_all_answers():
    answers = ["```python\nprint(1)\n```", "no idea", "```python\nprint(1)\n```", "```python\nprint(2)\n```"]

    class Scripted:
        async def generate(self, prompt, params, *, n=1, first=0):
            return [
                Completion(
                    prompt_ids=(), token_ids=(1, 2, 3), sampler_logprobs=(), sampled=(True,) * 3, finish_reason="stop",
                    reasoning="", answer=answer, num_reasoning_tokens=0,
                )
                for answer in answers[:n]
            ]  # fmt: skip

    found = asyncio.run(ask_for(Scripted(), generator_prompt(InputSpec(statement="x")), SamplingParams(), n=4))
    assert found == (["print(1)\n", "print(2)\n"], 12)
