"""Adapter and bf16 runs: what a checkpoint holds, how the next run goes on, and that a stopped one resumes exactly."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ponder.config import ConfigError
from ponder.models import hub, lora
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.train.policy import open_policy
from ponder.train.sft import SFTConfig, sft
from tests.helpers import tiny_model


@pytest.fixture
def base(tmp_path: Path) -> str:
    save_model(tiny_model(), tmp_path / "base")
    ByteTokenizer().save(str(tmp_path / "base"))
    rows = [{"problem": f"p{i}", "reasoning": f"r{i}{i}", "answer": str(i)} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "base")


def config(tmp_path: Path, name: str, base: str, **changes: object) -> SFTConfig:
    values: dict[str, object] = {
        "out": str(tmp_path / name), "model": base, "data": str(tmp_path / "d.jsonl"), "num_steps": 4,
        "batch_size": 4, "save_every": 2, "num_workers": 0, "warmup_steps": 1, "lr": 1e-2, "weight_decay": 0.0,
    }  # fmt: skip
    return SFTConfig(**(values | changes))  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_checkpoint_of_an_adapter_run_is_its_base_plus_the_adapter_beside_it(tmp_path, base):
    folder = sft(config(tmp_path, "run", base, lora_rank=4))
    model, _ = hub.load(base)
    adapter = lora.load_adapter(folder / "adapter", model)
    before = {name: weight.clone() for name, weight in lora.targets(model).items()}
    lora.merge(before, adapter, lora.targets(model))
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weights(folder)[name], weight, rtol=0, atol=2e-3)
    assert any(not torch.equal(before[name], weight) for name, weight in lora.targets(model).items())
    assert lora.read_adapter_config(folder / "adapter")["base_model_name_or_path"] == base


def test_a_run_after_an_adapter_run_goes_on_with_the_same_adapter(tmp_path, base):
    folder = sft(config(tmp_path, "first", base, lora_rank=4))
    policy = open_policy(str(tmp_path / "first"), tmp_path / "next", dtype="float32", lora_rank=4, seed=1, sources=[])
    assert policy.base == base and policy.start == folder and policy.adapter is not None
    saved = lora.load_adapter(folder / "adapter", policy.model).tensors()
    assert all(torch.equal(saved[name], tensor) for name, tensor in policy.adapter.tensors().items())
    with pytest.raises(ConfigError, match="adapter of rank 4"):
        open_policy(str(tmp_path / "first"), tmp_path / "next", dtype="float32", lora_rank=8, seed=1, sources=[])
    whole = open_policy(str(tmp_path / "first"), tmp_path / "next", dtype="float32", lora_rank=0, seed=1, sources=[])
    assert whole.adapter is None and whole.base == str(tmp_path / "first")


@pytest.mark.parametrize("changes", [{"lora_rank": 4}, {"dtype": "bfloat16"}, {"lora_rank": 4, "dtype": "bfloat16"}])
def test_stopped_adapter_and_bf16_runs_go_on_to_the_same_bits(tmp_path, base, changes):
    whole = sft(config(tmp_path, "whole", base, **changes))

    class Stop(Exception):
        pass

    def stop(step, metrics):
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        sft(config(tmp_path, "cut", base, **changes), on_step=stop)
    cut = sft(config(tmp_path, "cut", base, **changes))
    assert all(torch.equal(tensor, weights(cut)[name]) for name, tensor in weights(whole).items())


def test_bf16_steps_smaller_than_a_last_bit_are_not_lost(tmp_path, base):
    """Masters are float32: many steps that bf16 weights would round away still move the model."""
    model, _ = hub.load(base)
    start = model.model.norm.weight.detach().clone()  # ones: neighbours in bf16 are 0.004 and 0.008 away
    folder = sft(config(tmp_path, "run", base, dtype="bfloat16", num_steps=12, lr=1e-3, min_lr=1e-3))
    moved = (weights(folder)["model.norm.weight"].float() - start).abs().max()
    assert weights(folder)["model.norm.weight"].dtype == torch.bfloat16
    assert moved >= 0.0039


def test_a_fresh_model_has_nothing_to_adapt(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"problem": "p", "reasoning": "r", "answer": "4"}\n')
    with pytest.raises(ConfigError, match="a fresh model is trained whole"):
        sft(config(tmp_path, "run", "", lora_rank=4))


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_on_a_cpu_that_does_not_multiply_it_is_said_to_be_slow(tmp_path, base, fast, monkeypatch):
    monkeypatch.setattr("ponder.models.cpu.multiplies_bfloat16", lambda: fast)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        open_policy(base, tmp_path / "next", dtype="bfloat16", lora_rank=0, seed=1, sources=[])
    assert any("dtype=float32 trains several times as fast" in str(warning.message) for warning in told) != fast
