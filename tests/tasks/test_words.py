"""Word problems: solved by their own steps, as long as their level says, varied, and readable."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from ponder.grading.plain_arithmetic import calculation, number, show
from ponder.tasks import load_task
from ponder.tasks.calculations import equation
from ponder.tasks.stories import STORIES, Again, Story, tell
from ponder.tasks.words import HARDEST

TASK = load_task("words:level=1-8,size=800", split="train", seed=3)
PROBLEMS = [TASK[i] for i in range(len(TASK))]


def steps(problem):
    return re.findall(r"<<(.*?)>>", problem.meta["solution"])


def test_the_level_is_the_number_of_steps_and_each_is_one_operation_taken_once():
    for problem in PROBLEMS:
        lines = steps(problem)
        assert len(lines) == len(set(lines)) == problem.level
        assert all(calculation(line.rpartition("=")[0]).num_operations == 1 for line in lines)


def test_every_step_comes_out_and_the_last_is_the_answer():
    for problem in PROBLEMS:
        values = [number(line.rpartition("=")[2]) for line in steps(problem)]
        assert all(equation(line) for line in steps(problem)) and all(value > 0 for value in values)
        assert show(values[-1]) == problem.target == str(int(problem.target))


def test_every_result_but_the_last_is_used():
    for problem in PROBLEMS:
        lines = steps(problem)
        for i, line in enumerate(lines[:-1]):
            result = line.rpartition("=")[2]
            later = " ".join(other.rpartition("=")[0] for other in lines[i + 1 :])
            assert re.search(rf"(?<![\d.]){re.escape(result)}(?![\d.])", later), (problem.text, lines)


def test_every_number_of_the_steps_is_told_or_found_on_the_way():
    """What is not in the text is a result, or a word: half, twice, a dozen, a week, 25 %, the wheels of a car."""
    unknown = Counter()
    for problem in PROBLEMS:
        text = problem.text.replace(",", "")
        known = (
            set(re.findall(r"\d+(?:\.\d+)?", text))
            | {str(n) for n in range(13)}
            | {"14", "30", "60", "20", "25", "45", "90", "100", "52", "36"}
        )
        known |= {show(number(x + "%")) for x in re.findall(r"(\d+)%", text)} | {
            x.removesuffix("0") for x in known if "." in x
        }
        for line in steps(problem):
            left, _, right = line.rpartition("=")
            unknown.update(set(re.findall(r"\d+(?:\.\d+)?", left)) - known)
            known.add(right)
    assert not unknown


def test_texts_are_clean_english_sentences():
    for problem in PROBLEMS:
        text = problem.text
        assert not re.search(r"[\[\]{}|<>]|  | [.,?]|\.\.", text), text
        assert text[-1] in "?." and (text[0].isupper() or text[0].isdigit()), text
        assert not re.search(r"\b[Aa] [aeio](?!ne\b|nce\b)[a-z]", text), text
        assert all(s[0].isupper() or s[0].isdigit() or s[0] == "$" for s in re.split(r"(?<=[a-z][.?]) ", text)), text


def test_a_thousand_problems_are_varied():
    task = load_task("words:size=1000", split="train")
    texts = [task[i].text for i in range(1000)]
    words = [text.lower().split() for text in texts]
    grams = {tuple(w[i : i + 5]) for w in words for i in range(len(w) - 4)}
    total = sum(max(0, len(w) - 4) for w in words)
    assert len(grams) > 0.8 * total  # GSM8K's own share is 0.99, and that of a handful of templates under 0.5
    shapes = Counter(re.sub(r"\d[\d,.]*", "#", text) for text in texts)
    assert max(shapes.values()) <= 2 and len(shapes) > 990


@pytest.mark.parametrize("name", STORIES)
def test_every_story_can_be_told_and_uses_exactly_its_steps(name):
    told = 0
    for seed in range(400):
        one = Story(Random(seed), 1 + seed % HARDEST)
        try:
            tell(one, name)
        except Again:
            continue
        told += one.left == 0 and bool(one.question)
        assert one.left == 0 or not one.question
    assert told > 5


def test_a_level_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="levels 1 to 8"):
        load_task("words:level=9")
