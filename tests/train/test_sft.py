"""Supervised fine-tuning: it learns what it is shown, resumes exactly, and refuses broken data with its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.runs import read_jsonl
from ponder.train.sft import ArchitectureConfig, SFTConfig, open_source, read_solutions, sft, to_example
from tests.helpers import user

SMALL = ArchitectureConfig(width=32, depth=2, heads=4, kv_heads=2, inner=64, window=512)


def config(out: Path, **changes: object) -> SFTConfig:
    values: dict[str, object] = {
        "out": str(out), "architecture": SMALL, "num_steps": 6, "batch_size": 8, "save_every": 2, "num_workers": 0,
        "warmup_steps": 2,
    }  # fmt: skip
    return SFTConfig(**(values | changes))  # type: ignore[arg-type]


def test_one_batch_overfits(tmp_path):
    data = tmp_path / "d.jsonl"
    rows = [{"problem": f"p{i}", "reasoning": f"r{i}{i}", "answer": str(i)} for i in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sft(config(tmp_path / "run", data=str(data), num_steps=150, batch_size=4, lr=1e-2, save_every=1000))
    losses = [row["loss"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert losses[0] > 3
    assert losses[-1] < 0.1


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    whole = sft(config(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop(step, metrics):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        sft(config(tmp_path / "cut"), on_step=stop)
    cut = sft(config(tmp_path / "cut"))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    steps = [row["step"] for row in read_jsonl(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == list(range(6))


def test_the_result_is_a_model_that_loads_and_can_be_trained_further(tmp_path):
    folder = sft(config(tmp_path / "a"))
    model, tokenizer = hub.load(folder)
    assert model.config.max_position_embeddings == 512
    assert isinstance(tokenizer, ByteTokenizer)
    sft(config(tmp_path / "b", model=str(tmp_path / "a"), num_steps=1))


def test_only_the_completion_is_trained_on_and_it_ends_with_the_end_mark():
    tokenizer = ByteTokenizer()
    example = to_example(tokenizer, user("What is 2+2?"), "2+2=4", "4")
    assert all(example.trained)
    assert example.token_ids[-1] == tokenizer.end_id
    assert example.token_ids.count(tokenizer.unthink_id) == 1
    assert tokenizer.decode(example.token_ids) == "2+2=44"


def test_an_example_is_a_function_of_seed_and_index(tmp_path):
    tokenizer = ByteTokenizer()
    run = config(tmp_path)
    one, two, other = (open_source(c, tokenizer) for c in (run, run, replace(run, seed=1)))
    assert [one(i) for i in (5, 3)] == [two(5), two(3)]
    assert one(3) != other(3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no examples"),
        ("{oops\n", ":1 is not JSON"),
        ('{"problem": "p", "reasoning": "r", "answer": "a"}\n[1]\n', ":2 is not an object"),
        ('{"problem": "p", "reasoning": "r"}\n', ":1 misses the text field 'answer'"),
        ('{"problem": "p", "reasoning": null, "answer": "a"}\n', ":1 misses the text field 'reasoning'"),
    ],
)
def test_broken_data_is_one_error_with_its_line(text, message, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_solutions(path)
    with pytest.raises(ConfigError, match="no data at"):
        read_solutions(tmp_path / "absent.jsonl")
