"""A taught checkpoint elsewhere: smollm2-ponder gives the same greedy answers in transformers, PEFT and llama.cpp.

By hand, as it needs the model and minutes:

ponder pull smollm2-135m && PONDER_TEST_MODELS=1 pytest tests/models/test_taught_elsewhere.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from ponder.engine.local import LocalEngine
from ponder.models import hub, named
from ponder.models.gguf_export import export_gguf
from ponder.models.lora import load_adapter, save_adapter
from ponder.models.weights import save_model
from ponder.types import Message, SamplingParams
from tests.models.real import needs, pulled

QUESTIONS = (
    "Tom has 3 boxes of 12 pens. He gives away 9. How many are left?",
    "Ann buys 4 books for 6 dollars each and pays with 50 dollars. How much change does she get?",
    "A bus has 40 seats. 17 people sit in it and 8 more get on. How many seats are free?",
    "Ben reads 15 pages a day. How many pages does he read in 6 days?",
    "There are 24 cookies for 3 children. How many does each get?",
    "Eva has 18 marbles and loses 5. Then she finds 7. How many has she now?",
    "A farmer sells 9 sacks for 7 dollars each. How much does he get?",
    "A rope of 36 feet is cut into 4 equal pieces. How long is each piece?",
    "Sam is 12 years old. His father is 3 times as old. How old is his father?",
    "A shop has 50 apples, sells 22 and throws 3 away. How many are left?",
)
PARAMS = SamplingParams(temperature=0, max_reasoning_tokens=64, max_answer_tokens=12)
BASE = pulled("smollm2-135m")
pytestmark = needs("smollm2-135m")


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> tuple[Path, Any, Any]:
    """A checkpoint as training writes it, with its adapter beside it, in float32."""
    folder = tmp_path_factory.mktemp("taught")
    model, tokenizer = hub.load("smollm2-ponder")
    save_model(model, folder, torch.float32)
    tokenizer.save(str(folder))
    adapter = load_adapter(named.shipped()["smollm2-ponder"], model)
    save_adapter(adapter, folder / "adapter", base=hub.named_base(str(BASE)), model=model, tokenizer=tokenizer)
    return folder, model, tokenizer


@pytest.fixture(scope="module")
def ours(taught) -> list[tuple[int, ...]]:
    """What ponder's engine says to each question, as tokens without the end."""
    _, model, tokenizer = taught
    with LocalEngine(model, tokenizer, num_workers=0) as engine:

        async def ask(text: str) -> Any:
            return (await engine.generate((Message(role="user", content=text),), PARAMS))[0]

        found = [asyncio.run(ask(text)) for text in QUESTIONS]
    assert all(each.finish_reason == "stop" for each in found)
    return [tuple(token for token in each.token_ids if token not in tokenizer.end_ids) for each in found]


def continued(model: Any, tokenizer: Any, text: str, num_tokens: int) -> tuple[int, ...]:
    ids = torch.tensor([tokenizer.render([Message(role="user", content=text)])])
    settings = {"max_new_tokens": num_tokens + 1, "do_sample": False, "eos_token_id": list(tokenizer.end_ids)}
    with torch.no_grad():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
    return tuple(token for token in made[0, ids.shape[1] :].tolist() if token not in tokenizer.end_ids)


def test_transformers_and_peft_say_the_same_to_ten_questions(taught, ours) -> None:
    folder, _, tokenizer = taught
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(folder / "adapter", dtype=torch.float32).eval()
    for text, expected in zip(QUESTIONS, ours, strict=True):
        for model in (whole, adapted):
            assert continued(model, tokenizer, text, len(expected)) == expected, (type(model).__name__, text)


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_llama_cpp_says_the_same_to_ten_questions(taught, ours, kind, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    _, model, tokenizer = taught
    path = export_gguf(model, tokenizer, tmp_path / "taught.gguf", kind)
    llama = llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, verbose=False)
    for text, expected in zip(QUESTIONS, ours, strict=True):
        ids = tokenizer.render([Message(role="user", content=text)])
        made = llama.generate(ids, temp=0.0, repeat_penalty=1.0)
        found = [next(made) for _ in range(len(expected) + 1)]
        assert tuple(found[:-1]) == expected and found[-1] in tokenizer.end_ids, text
