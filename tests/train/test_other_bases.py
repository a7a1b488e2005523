"""A recipe that starts from another base needs only another model reference, whatever its family and its marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

from ponder.cli import app
from ponder.files import read_jsonl
from ponder.models import hub
from tests.models.test_hf_tokenizer import byte_level, write
from tests.models.test_marks import SMOLLM, bare
from tests.models.test_parity import their_model

pytestmark = pytest.mark.slow

SFT = """
out = "sft"
data = "data.jsonl"
num_steps = 2
batch_size = 4
warmup_steps = 1
num_workers = 0
"""
RL = """
out = "rl"
task = "tests.helpers:LowercaseTask"
num_steps = 1
pool_size = 4
problems_per_step = 2
group_size = 4
max_reasoning_tokens = 4
max_answer_tokens = 4
num_workers = 0
num_slots = 8
"""
BASES = {  # name -> (family, vocabulary, rows of the embeddings)
    "Qwen3 with its own marks": ("Qwen3", byte_level, 450),
    "Qwen3 without marks": ("Qwen3", bare, 261),
    "Qwen2.5 with rows of padding": ("Qwen2.5 small, tied", bare, 300),
    "SmolLM2 with spare tokens": ("SmolLM2", lambda: bare(*SMOLLM), 263),
    "Mistral without marks": ("Mistral without window", bare, 261),
}


@pytest.mark.parametrize("name", BASES)
def test_the_same_two_recipes_train_every_base(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, vocabulary, rows = BASES[name]
    monkeypatch.chdir(tmp_path)
    theirs = their_model(family, vocab_size=rows, max_position_embeddings=128, num_hidden_layers=2)
    theirs.save_pretrained("base")
    write(tmp_path / "base", vocabulary())
    had_marks = hub.load("base")[1].think_id is not None
    row = {"problem": "What is 1 + 1? </think>", "reasoning": "1 + 1 = 2", "answer": "2"}
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(8)))
    Path("sft.toml").write_text(SFT)
    Path("rl.toml").write_text(RL)
    for command in (["sft", "sft.toml", "model=base"], ["rl", "rl.toml", "model=sft"]):
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert all(line["loss"] > 0 for line in read_jsonl(Path("sft/metrics.jsonl")))

    model, tokenizer = hub.load("rl")
    assert had_marks == (name == "Qwen3 with its own marks")
    assert tokenizer.think_id is not None and tokenizer.unthink_id is not None
    assert tokenizer.vocab_size <= model.config.vocab_size == (rows + 2 if rows == 261 else rows)
    tokens = torch.arange(20)[None]
    again = transformers.AutoModelForCausalLM.from_pretrained(hub.resolve("rl"), dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), again(tokens).logits, atol=1e-4, rtol=0)
