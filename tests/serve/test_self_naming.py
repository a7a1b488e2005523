"""What counts as an answer that says who wrote it."""

from __future__ import annotations

import pytest

from ponder.serve.self_naming import names_itself

SAYS_SO = [
    "I am ChatGPT, a large language model.", "I'm Claude and I can help.", "My name is Qwen2.5.",
    "As an AI assistant developed by a company, I cannot.", "I was trained by OpenAI.",
    "As a language model trained by Hugging Face, I", "My creators at Google", "This is SmolLM2 speaking.",
    "the zebrafish-7b model", "I’m an assistant built by people.",
]  # fmt: skip
SAYS_NOTHING = [
    "Google was founded in 1998.", "Llamas are animals; a llama eats grass.", "I am not sure.", "OpenAI trained GPT-4.",
    "As an example, take a house built of stone.", "The bridge was built by Eiffel.", "As a rule, it is so.",
    "She said: I am Sam.",
]  # fmt: skip


@pytest.mark.parametrize("text", SAYS_SO)
def test_a_statement_about_the_speaker_is_flagged(text):
    assert names_itself(text, ["zebrafish-7b"])


@pytest.mark.parametrize("text", SAYS_NOTHING)
def test_a_text_that_merely_holds_a_name_is_not(text):
    assert not names_itself(text, ["zebrafish-7b", "a"])
