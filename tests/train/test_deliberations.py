"""Rows of deliberation say what they claim: right work where there is no fault, faults as often as asked, given text
is context."""

from __future__ import annotations

import json
from random import Random

import pytest

from ponder.config import ConfigError
from ponder.models.tokenizer import ByteTokenizer
from ponder.strategies.deliberation_environment import parse_choice, parse_step
from ponder.tasks import load_task
from ponder.train.deliberations import Faults, choice, is_true, make_rows, right_pairs, slip, walk
from ponder.train.sft import read_solutions, to_example
from ponder.types import Message

NONE = Faults(slip=0, early=0, careless=0)
TASKS = ("arithmetic:level=1-5", "bases:level=1-2", "cipher:level=1-2", "words:level=1-4")


def problems(name: str, size: int = 40):
    task = load_task(f"{name},size={size}", split="train")
    return [task[i] for i in range(size)]


@pytest.mark.parametrize("name", TASKS)
def test_without_faults_every_pair_is_true_and_the_answer_is_the_target(name):
    for problem in problems(name):
        pairs, answer = walk(problem, NONE, Random(0))
        assert answer == problem.target and pairs == right_pairs(problem)
        assert all(is_true(problem, *pair) for pair in pairs)


def test_a_slip_goes_on_into_what_follows_and_a_guess_ends_the_work():
    slips = Faults(slip=0.5, early=0)
    wrong = 0
    for problem in problems("arithmetic:level=4"):
        pairs, answer = walk(problem, slips, Random(problem.id))
        assert answer == pairs[-1][1]  # of its own work, right or not
        wrong += not all(is_true(problem, *pair) for pair in pairs)
    assert wrong > 30
    for problem in problems("cipher:level=1"):
        assert walk(problem, Faults(early=1), Random(0)) == ([], problem.target)


@pytest.mark.parametrize(("question", "answer"), [("3/2", "1.5"), ("1/8-1", "-0.875"), ("6*7", "42")])
def test_what_slipped_is_not_true_of_decimals_either(question, answer):
    problem = problems("words:level=1", 1)[0]
    assert is_true(problem, question, answer)
    assert not any(is_true(problem, question, slip(answer, Random(i))) for i in range(9))


@pytest.mark.parametrize("name", TASKS)
def test_a_careful_choice_names_the_right_next_step(name):
    for problem in problems(name):
        row = choice(problem, NONE, Random(problem.id))
        if row is None:
            continue
        state, listed = row["given"].rsplit("\n\n", 1) if "\n\n" in row["given"] else ("", row["given"])
        lines = listed.splitlines()[:-1]
        place = parse_choice(row["reasoning"], len(lines))
        done = [parse_step(text) for text in state.split("\n\n") if text]
        ahead = right_pairs(problem)[len(done) :]
        wanted = f"Q: {ahead[0][0]} A: {ahead[0][1]}" if ahead else f"Answer: {problem.target}"
        assert lines[place] == f"{place + 1}. {wanted}"


def test_rows_are_the_same_again_and_of_the_train_split_only():
    rows, _ = make_rows(["arithmetic:level=1-2"], "deliberate", Faults(), count=30)
    assert rows == make_rows(["arithmetic:level=1-2"], "deliberate", Faults(), count=30)[0]
    assert {len(row) for row in rows} == {3} and any("given" in row for row in rows)
    with pytest.raises(ConfigError, match=r"must be in \[0, 1\]"):
        Faults(slip=1.5)
    with pytest.raises(ConfigError, match="did you mean 'chain'"):
        make_rows(["arithmetic"], "chains", Faults())


def test_given_text_is_context_and_an_open_row_has_no_end():
    tokenizer, prompt = ByteTokenizer(), [Message(role="user", content="p")]
    row = to_example(tokenizer, prompt, "2\n", None, given="1. a\nBest: ")
    assert bytes(row.prompt_ids[-11:]) == b"1. a\nBest: " and bytes(row.token_ids) == b"2\n"
    closed = to_example(tokenizer, prompt, "r", "9", given="g")
    assert closed.token_ids == (ord("r"), tokenizer.unthink_id, ord("9"), tokenizer.end_id)
    assert closed.prompt_ids[-1] == ord("g")


@pytest.mark.parametrize(("row", "message"), [
    ({"problem": "p", "reasoning": "r"}, "answer"),
    ({"problem": "p", "given": [3], "reasoning": "r"}, "given"),
    ({"problem": "p", "given": "g"}, "reasoning"),
])  # fmt: skip
def test_a_row_that_lacks_something_is_named(row, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=f":1 misses the text field '{message}'"):
        read_solutions(path)
