"""GGUF files of ours in llama.cpp itself: the same tokens of a text, and the same greedy continuation.

Needs `pip install llama-cpp-python`, which compiles llama.cpp for some minutes, so it is no part of the test extra.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ponder.models.gguf_export import export_gguf
from ponder.types import Message
from tests.models.test_gguf_export import FAMILIES, TEXTS, imported

llama_cpp = pytest.importorskip("llama_cpp")
STEPS = 12


def opened(path: Path) -> llama_cpp.Llama:
    return llama_cpp.Llama(str(path), n_ctx=128, n_batch=64, n_threads=1, verbose=False)


@torch.no_grad()
def greedy(model, ids: list[int]) -> tuple[list[int], float]:
    """The continuation, and the smallest lead that a chosen token had."""
    found, leads = list(ids), []
    for _ in range(STEPS):
        best = model(torch.tensor([found]))[0, -1].topk(2)
        leads.append(float(best.values[0] - best.values[1]))
        found.append(int(best.indices[0]))
    return found[len(ids) :], min(leads)


def their_greedy(llama: llama_cpp.Llama, ids: list[int]) -> list[int]:
    made = llama.generate(ids, temp=0.0, repeat_penalty=1.0)
    return [next(made) for _ in range(STEPS)]


@pytest.mark.parametrize(("name", "arch"), FAMILIES)
def test_llama_cpp_goes_on_with_the_same_tokens_as_ponder(name, arch, tmp_path: Path) -> None:
    (model, tokenizer), _ = imported(name, arch, tmp_path)
    llama = opened(export_gguf(model, tokenizer, tmp_path / "new.gguf", "F32"))
    compared = 0
    for number in range(8):
        seed = torch.Generator().manual_seed(number)
        ids = torch.randint(4, model.config.vocab_size - 6, (9 + number,), generator=seed)
        ours, lead = greedy(model, ids.tolist())
        if lead < 1e-3:
            continue  # two tokens as likely as each other: rounding decides
        assert their_greedy(llama, ids.tolist()) == ours, number
        compared += 1
    assert compared >= 4


def test_llama_cpp_reads_texts_and_conversations_as_the_same_tokens(tmp_path: Path) -> None:
    (model, tokenizer), _ = imported("SmolLM2", "llama", tmp_path)
    llama = opened(export_gguf(model, tokenizer, tmp_path / "new.gguf", "F16"))
    for text in TEXTS:
        theirs = llama.tokenize(text.encode(), add_bos=False, special=False)
        if "<think>" in text:  # a mark wherever it stands, as in Qwen3's files; ponder takes no mark from a text
            assert len(theirs) == 3 < len(tokenizer.encode(text))
        else:
            assert theirs == tokenizer.encode(text), text
    asked = [Message(role="user", content="the 12")]
    formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
        template=llama.metadata["tokenizer.chat_template"], eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    prompt = formatter(messages=[{"role": "user", "content": "the 12"}]).prompt
    assert llama.tokenize(prompt.encode(), add_bos=False, special=True) == tokenizer.render(asked)
    assert llama.token_eos() in tokenizer.end_ids
