"""Adapters: PEFT's files, checked when they are read; merging is the sum it says."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ponder.config import ConfigError
from ponder.models import lora
from tests.helpers import tiny_model


def trained(seed: int = 0) -> lora.Adapter:
    adapter = lora.fresh(tiny_model(), 4, seed)
    for _, b in adapter.pairs.values():
        b.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
    return adapter


def test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed_alone():
    model = tiny_model()
    before = {name: weight.clone() for name, weight in lora.targets(model).items()}
    lora.merge(before, lora.fresh(model, 4, seed=0), lora.targets(model))
    assert all(torch.equal(before[name], weight) for name, weight in lora.targets(model).items())
    one, same, other = (lora.fresh(model, 4, seed).tensors() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_is_saved_comes_back_and_merges_to_the_same_weights(tmp_path):
    adapter = trained()
    lora.save_adapter(adapter, tmp_path, base="some/base", dtype=torch.float32)
    assert lora.is_adapter(tmp_path) and lora.base_of(tmp_path) == "some/base"
    model, twin = tiny_model(), tiny_model()
    lora.merge_adapter(model, tmp_path)
    for name, (a, b) in adapter.pairs.items():
        expected = lora.targets(twin)[name] + adapter.alpha / 4 * b @ a
        torch.testing.assert_close(lora.targets(model)[name], expected)


def test_the_files_are_named_and_shaped_as_peft_has_them(tmp_path):
    lora.save_adapter(trained(), tmp_path, base="some/base")
    config, tensors = json.loads((tmp_path / lora.CONFIG).read_text()), load_file(tmp_path / lora.WEIGHTS)
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 32.0)
    assert set(config["target_modules"]) == set(lora.TARGETS)
    a = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    assert a.shape == (4, 32) and a.dtype == torch.bfloat16


def break_it(tmp_path, change):
    lora.save_adapter(trained(), tmp_path, base="some/base")
    config, tensors = json.loads((tmp_path / lora.CONFIG).read_text()), load_file(tmp_path / lora.WEIGHTS)
    change(config, tensors)
    (tmp_path / lora.CONFIG).write_text(json.dumps(config))
    save_file(tensors, tmp_path / lora.WEIGHTS)


NAME = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config, tensors: config.update(peft_type="IA3"), "not a LoRA adapter"),
        (lambda config, tensors: config.update(use_dora=True), "use_dora is not supported"),
        (lambda config, tensors: config.update(r=5), "has shape"),
        (lambda config, tensors: tensors.pop(NAME), "without"),
        (lambda config, tensors: tensors.update({NAME: torch.zeros(3, 4)}), "has shape"),
        (lambda config, tensors: tensors.update({"what": torch.zeros(1)}), "no layer of this model"),
        (lambda config, tensors: tensors[NAME].fill_(float("nan")), "not finite"),
        (lambda config, tensors: tensors.clear(), "holds no tensors"),
    ],
)
def test_a_broken_adapter_is_one_error_that_names_it(tmp_path, change, message):
    break_it(tmp_path, change)
    with pytest.raises(ConfigError, match=message):
        lora.merge_adapter(tiny_model(), tmp_path)


def test_a_cut_off_file_and_a_missing_one_are_errors(tmp_path):
    lora.save_adapter(trained(), tmp_path, base="some/base")
    whole = (tmp_path / lora.WEIGHTS).read_bytes()
    (tmp_path / lora.WEIGHTS).write_bytes(whole[:100])
    with pytest.raises(ConfigError, match="cannot be read"):
        lora.merge_adapter(tiny_model(), tmp_path)
    (tmp_path / lora.WEIGHTS).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        lora.merge_adapter(tiny_model(), tmp_path)
