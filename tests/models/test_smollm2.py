"""The real SmolLM2-135M-Instruct against transformers. By hand, as it needs the model and minutes:

ponder pull smollm2-135m && PONDER_TEST_MODELS=1 pytest tests/models/test_smollm2.py -s
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.models.marks import add_marks
from ponder.models.weights import save_model
from ponder.types import Message, SamplingParams
from tests.models.real import needs, pulled

PROMPTS = (
    "What is the capital of France?",
    "A farmer has 12 cows and buys 7 more.\n\n1. How many has he now?\n2. And after selling 5?",
    "Write a Python function that reverses a list.",
    "Explain photosynthesis to a child.",
    "List three prime numbers above 100.",
    "Translate 'good morning' into Spanish, French and German.",
    "Why is the sky blue?",
    "Tell me a short story about a dragon who is afraid of fire.",
)
FOLDER = pulled("smollm2-135m")
pytestmark = needs("smollm2-135m")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def prompts(tokenizer: Any) -> list[list[int]]:
    return [tokenizer.render([Message(role="user", content=text)]) for text in PROMPTS]


def test_prompts_are_those_of_transformers() -> None:
    _, tokenizer = hub.load("smollm2-135m", dtype=None)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    for text, ids in zip(PROMPTS, prompts(tokenizer), strict=True):
        rendered = their_tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        assert their_tokenizer(rendered, add_special_tokens=False)["input_ids"] == ids


@torch.no_grad()
def test_logits_agree(theirs: Any) -> None:
    model, tokenizer = hub.load("smollm2-135m")
    worst = 0.0
    for ids in prompts(tokenizer):
        tokens = torch.tensor([ids])
        worst = max(worst, (model(tokens) - theirs(tokens).logits).abs().max().item())
    print(f"\nlargest difference of a logit over {len(PROMPTS)} prompts: {worst:.2g}")
    assert worst < 1e-4


def test_greedy_decoding_gives_the_same_200_tokens(theirs: Any) -> None:
    model, tokenizer = hub.load("smollm2-135m")
    asked = prompts(tokenizer)
    params = SamplingParams(temperature=0, max_answer_tokens=200)
    engine = LocalEngine(model, tokenizer, num_workers=0, num_slots=8)

    async def run() -> list[list[Any]]:
        return list(await asyncio.gather(*(engine.generate(ids, params) for ids in asked)))

    ours = [list(completions[0].token_ids) for completions in asyncio.run(run())]
    engine.close()
    for ids, said in zip(asked, ours, strict=True):
        expected = theirs.generate(torch.tensor([ids]), max_new_tokens=200, do_sample=False)[0, len(ids) :].tolist()
        assert said == expected
    print(f"\nthe same tokens: {[len(said) for said in ours]}")


def test_with_marks_transformers_finds_the_same_model_but_for_one_row(theirs: Any, tmp_path: Path) -> None:
    model, tokenizer = add_marks(*hub.load("smollm2-135m", dtype=None), tmp_path / "marks")
    save_model(model, tmp_path / "model")
    tokenizer.save(str(tmp_path / "model"))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    expected = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):  # one tensor under two names
        expected[name][tokenizer.unthink_id] = (expected[name][tokenizer.unthink_id] * 1.5).bfloat16().float()
    assert all(torch.equal(expected[name], tensor) for name, tensor in again.state_dict().items())
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert [tokenizer.think_id, tokenizer.unthink_id] == their_tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
