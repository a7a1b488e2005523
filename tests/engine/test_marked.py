"""Reasoning in the text of remote servers: whatever opens and closes thinking, no thought is in an answer."""

from __future__ import annotations

import pytest

from ponder.engine.marked import has_marks, split_marked


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>HIDDEN1</think>Hello <think>HIDDEN2</think>Done", "HIDDEN1\n\nHIDDEN2", "Hello Done"),
        ("</think> SECRET </think> 5", " SECRET ", " 5"),
        ("<think>a</think>SECRET</think>5", "a\n\nSECRET", "5"),
        ("SECRET <think> tags </think> and SECRET </think> 5", " tags \n\nSECRET  and SECRET ", " 5"),
        ("5 <think>SECRET", "SECRET", "5 "),
        ("<think>a <think> b</think>5", "a \n\n b", "5"),
        ("<THINK>a</Think >5", "a", "5"),
        ("< think >a< /think\n>5", "a", "5"),
        ("<thinking>a</thinking>5", "a", "5"),
        ("[THINK]a[/THINK]5", "a", "5"),
        ("<think></think>5", "", "5"),
        ("2 < 3, think > 4", "", "2 < 3, think > 4"),
    ],
)
def test_only_what_is_outside_of_every_block_is_answer(text: str, reasoning: str, answer: str) -> None:
    assert split_marked(text) == (reasoning, answer)
    assert has_marks(text) == (text != answer)
