"""Bytes and marks: what text can encode to, what a prompt looks like, and how a completion is taken apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ponder.models.tokenizer import ByteTokenizer, Tokenizer, reasoning_is_open, split_reasoning
from ponder.types import Message

TOKENIZER: Tokenizer = ByteTokenizer()
THINK, UNTHINK, END = ByteTokenizer.think_id, ByteTokenizer.unthink_id, ByteTokenizer.end_id
ids_of_anything = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=20)


@given(st.text())
def test_text_encodes_to_bytes_and_back_and_never_to_a_mark(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(token < 256 for token in ids)
    assert TOKENIZER.decode(ids) == text


@given(ids_of_anything)
def test_any_ids_decode(ids: list[int]) -> None:
    assert TOKENIZER.decode(ids) == TOKENIZER.decode([token for token in ids if token < 256])


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_no_content_changes_the_marks_of_a_prompt(contents: list[str]) -> None:
    prompt = TOKENIZER.render([Message(role="user", content=content) for content in contents])
    marks = [token for token in prompt if token >= 256]
    turn = [ByteTokenizer.user_id, END]
    assert marks == [ByteTokenizer.bos_id, *turn * len(contents), ByteTokenizer.assistant_id, THINK]
    assert reasoning_is_open(TOKENIZER, prompt)


@given(ids_of_anything)
def test_a_completion_is_reasoning_then_answer_and_nothing_is_lost(ids: list[int]) -> None:
    reasoning, answer = split_reasoning(TOKENIZER, ids, opened=True)
    marks = {THINK, UNTHINK, END}
    assert sorted({*reasoning, *answer} - marks) == sorted({*ids} - marks)
    assert len([t for t in [*reasoning, *answer] if t not in marks]) == len([t for t in ids if t not in marks])
    assert marks.isdisjoint(answer) and END not in reasoning
    assert UNTHINK in ids or not answer
    if UNTHINK in ids and THINK not in ids:  # a strip of reasoning, its last closing mark, and the answer
        body = [token for token in ids if token != END]
        assert [*reasoning, UNTHINK, *answer] == body
    if marks.isdisjoint(ids):
        assert split_reasoning(TOKENIZER, ids, opened=False) == ([], ids)


def test_the_last_mark_decides_whether_reasoning_is_open() -> None:
    assert reasoning_is_open(TOKENIZER, [THINK, 1, UNTHINK, 2, THINK, 3])
    for ids in ([], [1], [THINK, UNTHINK], [THINK, END, 1]):
        assert not reasoning_is_open(TOKENIZER, ids)
