"""Bytes as a Hugging Face tokenizer: the same ids, whoever reads the folder."""

from __future__ import annotations

import pytest

from ponder.models.byte_export import write_byte_tokenizer
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import Message

BYTES = ByteTokenizer()
TEXTS = ["What is 2+3?", "", "ä€😀\x00\n\t", "  spaces  ", "<|end|> </think>"]
CONVERSATION = (
    Message(role="system", content="be brief"), Message(role="user", content="ä?"),
    Message(role="assistant", content="yes"), Message(role="tool", content="4"), Message(role="user", content="so?"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    write_byte_tokenizer(folder)
    return folder


def test_ponder_reads_the_folder_as_the_tokenizer_it_came_from(folder):
    read = load_tokenizer(folder)
    assert not isinstance(read, ByteTokenizer)
    for name in ("vocab_size", "end_id", "end_ids", "pad_id", "think_id", "unthink_id"):
        assert getattr(read, name) == getattr(BYTES, name)
    for text in TEXTS:
        assert read.encode(text) == BYTES.encode(text)
        assert read.decode(BYTES.encode(text)) == text
    assert list(read.render(CONVERSATION)) == BYTES.render(CONVERSATION)


def test_transformers_reads_the_same_ids(folder):
    transformers = pytest.importorskip("transformers")
    read = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS[:-1]:
        assert read.encode(text, add_special_tokens=False) == BYTES.encode(text)
    messages = [{"role": message.role, "content": message.content} for message in CONVERSATION]
    told = read.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert told == BYTES.render(CONVERSATION)
    ids = [*BYTES.encode("a"), BYTES.unthink_id, *BYTES.encode("b"), BYTES.end_id]
    assert read.decode(ids, skip_special_tokens=True) == "a</think>b"
