"""Ways to ask: the baselines that a trained model is compared with. Same problems, same verifier, another prompt.

    none           the problem's text and nothing else
    letter         ... with choices: the letter is wanted; else as none
    direct         ... answer at once
    zero_shot_cot  ... "Let's think step by step."                       (Kojima et al. 2022, arXiv:2205.11916)
    few_shot_cot   eight worked problems before it                       (Wei et al. 2022, arXiv:2201.11903)

All but `none` say of a problem with choices that a letter is wanted: a model that was never told so often ends with a
number of its own instead (docs/results.md).

    task = Prompted(load_task("gsm8k"), "few_shot_cot")

The eight problems are written for this file; they are from no benchmark. They are earlier turns of the conversation:
a chat model then ends its answer with its own end mark, where one long message leaves it free to write the next
question too. The answer is read off the text by the task's verifier, as everywhere ("The answer is 5."), so there is no
second request that asks for the number alone (Kojima et al. have one). A model with reasoning marks still reasons
before its answer: the prompt then says what the answer part should look like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ponder.config import lookup
from ponder.tasks.base import TaskWrapper
from ponder.types import Message, Problem, Task

EXEMPLARS: tuple[tuple[str, str], ...] = (
    (
        "A baker puts 6 rolls in a bag. She has filled 4 bags and has 5 rolls left over. How many rolls did she bake?",
        "The full bags hold 4 * 6 = 24 rolls. With the 5 rolls left over that makes 24 + 5 = 29. The answer is 29.",
    ),
    (
        "Omar had 50 stickers. He gave 12 to his sister and twice as many to his friend. How many are left?",
        "The friend got 2 * 12 = 24 stickers. Omar gave away 12 + 24 = 36. He has 50 - 36 = 14 left. The answer is 14.",
    ),
    (
        "A cinema ticket costs $9, and popcorn costs $4. What do 3 people pay if each takes a ticket and popcorn?",
        "One person pays 9 + 4 = 13 dollars. Three people pay 3 * 13 = 39 dollars. The answer is 39.",
    ),
    (
        "A train is 30 minutes late. It should have arrived at a station 90 minutes after it left at noon. How many "
        "minutes after noon does it arrive?",
        "On time it arrives 90 minutes after noon. It is 30 minutes late, so 90 + 30 = 120. The answer is 120.",
    ),
    (
        "A farmer collects 84 eggs and packs them by the dozen. He sells 5 of the boxes. How many boxes remain?",
        "A dozen is 12, so there are 84 / 12 = 7 boxes. After selling 5 there are 7 - 5 = 2 boxes. The answer is 2.",
    ),
    (
        "Lena reads 20 pages on Monday. On Tuesday she reads half as many, and on Wednesday 5 more than on Tuesday. "
        "How many pages does she read on the three days?",
        "On Tuesday she reads 20 / 2 = 10 pages. On Wednesday she reads 10 + 5 = 15 pages. Altogether that is "
        "20 + 10 + 15 = 45 pages. The answer is 45.",
    ),
    (
        "Of the 40 children in a choir, 25% are in their first year. How many are not in their first year?",
        "25% of 40 is 40 / 4 = 10 children. The others are 40 - 10 = 30. The answer is 30.",
    ),
    (
        "Two pumps fill a pool. One brings 8 litres a minute, the other 7. How many litres come in 20 minutes?",
        "Together they bring 8 + 7 = 15 litres a minute. In 20 minutes that is 15 * 20 = 300. The answer is 300.",
    ),
)  # fmt: skip


LETTER = "Answer with the letter of the right choice."


def letter(problem: Problem) -> tuple[Message, ...]:
    """The problem; one with choices says what form its answer has."""
    return _continued(problem, LETTER) if problem.choices else problem.prompt


def direct(problem: Problem) -> tuple[Message, ...]:
    """The problem with a request for the answer alone."""
    wanted = "the letter of the right choice" if problem.choices else "the final answer"
    return _continued(problem, f"Give only {wanted}, without any explanation.")


def zero_shot_cot(problem: Problem) -> tuple[Message, ...]:
    """The problem with "Let's think step by step." behind it (arXiv:2205.11916)."""
    thinking = "Let's think step by step."
    return _continued(problem, f"{LETTER} {thinking}" if problem.choices else thinking)


def few_shot_cot(problem: Problem) -> tuple[Message, ...]:
    """The problem after worked examples (arXiv:2201.11903), which are turns of their own."""
    turns = [
        message
        for question, answer in EXEMPLARS
        for message in (Message(role="user", content=question), Message(role="assistant", content=answer))
    ]
    *before, last = letter(problem)  # a system message stays in front
    return (*before, *turns, last)


PROMPTINGS: dict[str, Callable[[Problem], tuple[Message, ...]]] = {
    "none": lambda problem: problem.prompt,
    "letter": letter,
    "direct": direct,
    "zero_shot_cot": zero_shot_cot,
    "few_shot_cot": few_shot_cot,
}


class Prompted(TaskWrapper):
    """A task whose problems are asked in another way; `question` gives what was asked before the prompting."""

    def __init__(self, task: Task, prompting: str) -> None:
        super().__init__(task)
        self._ask = lookup(PROMPTINGS, prompting, what="prompting")
        self.prompting = prompting

    def __getitem__(self, index: int) -> Problem:
        problem = self._task[index]
        meta: Mapping[str, Any] = {**problem.meta, "question": problem.text}
        return replace(problem, prompt=self._ask(problem), meta=meta)


def question(problem: Problem) -> str:
    """The problem's own text, whatever stands around it in the prompt."""
    return str(problem.meta.get("question", problem.text))


def _continued(problem: Problem, sentence: str) -> tuple[Message, ...]:
    *before, last = problem.prompt
    return (*before, replace(last, content=f"{last.content}\n\n{sentence}"))
