"""Model folders: what is read, what is refused and with which words, and what a kill or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ponder.config import ConfigError
from ponder.files import StorageError
from ponder.models.transformer import ModelConfig, Transformer
from ponder.models.weights import load_model, parse_config, read_config, save_model, write_tensors

TINY = ModelConfig(
    vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=4, max_position_embeddings=32, tie_word_embeddings=False,
)  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
    "num_attention_heads": 4, "max_position_embeddings": 32,
}  # fmt: skip
QWEN = {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 8}


def tiny_model(config: ModelConfig = TINY) -> Transformer:
    model = Transformer(config)
    model.init_weights(0)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tiny_model(), tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "config.json").read_text())
    data = {key: value for key, value in {**data, **changes}.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(data))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors") | {k: v for k, v in changes.items() if v is not None}
    save_file({k: v for k, v in weights.items() if changes.get(k, v) is not None}, folder / "model.safetensors")


# --------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    save_model(model, tmp_path)
    back = load_model(tmp_path, dtype=dtype)
    assert back.config == model.config
    assert all(torch.equal(a, b) and b.dtype == dtype for a, b in zip(
        model.state_dict().values(), back.state_dict().values(), strict=True))  # fmt: skip
    assert all(parameter.requires_grad for parameter in back.parameters())


def test_a_loaded_model_owns_its_memory(folder: Path) -> None:
    model = load_model(folder)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-400:] = bytes(400)
    with open(folder / "model.safetensors", "r+b") as file:  # the same file, written over
        file.write(data)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_loading_makes_the_same_rope_tables_as_building(folder: Path) -> None:
    loaded = load_model(folder, dtype=torch.bfloat16)
    assert loaded.rope_cos.dtype == torch.float32
    assert torch.equal(loaded.rope_cos, tiny_model().rope_cos) and torch.equal(loaded.rope_sin, tiny_model().rope_sin)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    save_model(tiny_model(replace(TINY, tie_word_embeddings=True)), tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert not hasattr(load_model(tmp_path), "lm_head")


def test_a_tied_checkpoint_may_store_its_head_too_if_it_is_the_same(tmp_path: Path) -> None:
    model = tiny_model(replace(TINY, tie_word_embeddings=True))
    save_model(model, tmp_path)
    change_weights(tmp_path, **{"lm_head.weight": model.model.embed_tokens.weight.detach().clone()})
    load_model(tmp_path)
    change_weights(tmp_path, **{"lm_head.weight": torch.zeros(20, 16)})
    with pytest.raises(ConfigError, match='lm_head.weight differs.*set "tie_word_embeddings": false'):
        load_model(tmp_path)


def test_keys_that_are_not_used_are_kept(tmp_path: Path) -> None:
    config = replace(TINY, extra={"eos_token_id": [1, 2], "bos_token_id": None})
    save_model(tiny_model(config), tmp_path)
    assert read_config(tmp_path).extra == config.extra


def test_safetensors_itself_reads_what_we_write(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 5), "b": torch.randn(7).t(), "c": torch.zeros(0, 4), "d": torch.randn(4, 6).t()}
    write_tensors(tensors, tmp_path / "x.safetensors", torch.float32)
    assert int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little") % 8 == 0  # data is aligned
    back = load_file(tmp_path / "x.safetensors")
    assert set(back) == set(tensors) and all(torch.equal(back[name], tensors[name]) for name in tensors)


# ----------------------------------------------------------------------------------------------- what config.json says


def test_rope_is_read_as_transformers_4_and_as_5_write_it() -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    full = scaling | {"original_max_position_embeddings": 16}
    old = parse_config(LLAMA | {"rope_theta": 5e5, "rope_scaling": full})
    new = parse_config(LLAMA | {"rope_parameters": full | {"rope_theta": 5e5}})
    assert old == new
    assert old.rope_theta == 5e5 and old.rope_scaling == full
    assert parse_config(LLAMA | {"rope_scaling": scaling}).rope_scaling == full | {
        "original_max_position_embeddings": LLAMA["max_position_embeddings"]
    }
    assert parse_config(LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}).rope_scaling == {
        "rope_type": "linear", "factor": 2,
    }  # fmt: skip
    plain = parse_config(LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})
    assert (plain.rope_theta, plain.rope_scaling) == (7.0, None)
    assert parse_config(LLAMA).rope_theta == 10_000.0


def test_which_layers_slide_follows_each_family() -> None:
    assert parse_config(LLAMA | {"sliding_window": 8}).sliding_window is None
    mistral = LLAMA | {"model_type": "mistral", "num_key_value_heads": 2}
    assert parse_config(mistral).sliding_window == 4096
    assert parse_config(mistral | {"sliding_window": None}).sliding_window is None
    assert parse_config(QWEN | {"use_sliding_window": False}).sliding_window is None
    assert parse_config(QWEN).sliding_window is None  # the first 28 layers never slide, and here are 4

    def windows(**options: Any) -> list[int | None]:
        config = parse_config(QWEN | options)
        return [config.window(layer) for layer in range(4)]

    assert windows(max_window_layers=0) == [8, 8, 8, 8]
    assert windows(max_window_layers=3) == [None, None, None, 8]
    kinds = ["sliding_attention", "full_attention"] * 2
    assert windows(max_window_layers=0, layer_types=kinds) == [8, None, 8, None]


def test_biases_and_norms_follow_each_family() -> None:
    def flags(family: str, **options: Any) -> tuple[bool, ...]:
        c = parse_config(LLAMA | {"model_type": family, "num_key_value_heads": 2, **options})
        return c.attention_bias, c.attention_out_bias, c.mlp_bias, c.qk_norm

    every = {"attention_bias": True, "mlp_bias": True}
    assert flags("llama") == (False, False, False, False)
    assert flags("llama", **every) == (True, True, True, False)
    assert flags("mistral", **every) == (False, False, False, False)
    assert flags("qwen2") == flags("qwen2", **every) == (True, False, False, False)
    assert flags("qwen3") == (False, False, False, True)
    assert flags("qwen3", **every) == (True, True, False, True)


def test_head_width_and_key_value_heads_have_their_families_defaults() -> None:
    assert parse_config(LLAMA).head_dim == 4
    assert parse_config(LLAMA).num_key_value_heads == 4
    assert parse_config(LLAMA | {"model_type": "qwen3", "num_key_value_heads": None}).head_dim == 128
    assert parse_config(LLAMA | {"model_type": "qwen3", "num_key_value_heads": None}).num_key_value_heads == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not supported.*llama, mistral, qwen2, qwen3"),
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"model_type": ["llama"]}, "is not supported"),
        ({"vocab_size": "absent"}, "misses vocab_size"),
        ({"vocab_size": "20"}, "vocab_size = '20' must be a whole number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"num_hidden_layers": 10**7}, "more than any model has"),
        ({"hidden_size": 2**64}, "more than any model has"),
        ({"rope_theta": float("nan")}, "rope_theta = nan"),
        ({"rope_theta": 10**400}, "must be a positive number"),
        ({"num_key_value_heads": 3}, "must be a multiple"),
        ({"hidden_act": "gelu"}, "only silu is"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "'yarn' is not supported; known"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4}}, "misses 'low_freq_factor'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "not finite"),
        ({"rope_scaling": "linear"}, "known: one dict"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "per layer type are not supported"),
        ({"rope_theta": "big"}, "rope_theta = 'big'"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rms_norm_eps": None}, "rms_norm_eps = None"),
        ({"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 0}, "sliding_window = 0"),
        (QWEN | {"layer_types": ["full_attention"]}, "layer_types must name"),
        (QWEN | {"layer_types": [{}] * 4}, "layer_types must name"),
        (QWEN | {"max_window_layers": "2"}, "max_window_layers = '2'"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    data = {key: value for key, value in (LLAMA | changes).items() if value != "absent"}
    with pytest.raises(ConfigError, match=words):
        parse_config(data)


def test_a_config_that_no_file_can_say_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config.json of a llama model can say.*qk_norm=True"):
        save_model(tiny_model(replace(TINY, qk_norm=True)), tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- what can be wrong


def expect(folder: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(folder: Path) -> None:
    expect(folder / "nowhere", "no config.json in .*nowhere")
    os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    expect(folder, "no model.safetensors .*pytorch_model.bin is not read: convert it to safetensors")
    (folder / "pytorch_model.bin").unlink()
    expect(folder, "copy the weights there")
    (folder / "config.json").unlink()
    expect(folder, "no config.json in")


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff", "[" * 100_000])
def test_a_broken_config_json_is_one_clear_error(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    expect(folder, "config.json.*download it again")


def test_missing_unexpected_and_misshapen_tensors_are_named(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    good = (folder / "model.safetensors").read_bytes()
    change_weights(folder, **{name: None})
    expect(folder, rf"tensor {name} is missing in .*model; download")
    change_weights(folder, **{name: torch.zeros(24, 15)})
    expect(folder, rf"model.safetensors: {name} has shape \(24, 15\), but config.json asks for \(24, 16\)")
    (folder / "model.safetensors").write_bytes(good)
    change_weights(folder, **{"model.layers.0.mlp.up_proj.bias": torch.zeros(24)})
    expect(folder, "holds model.layers.0.mlp.up_proj.bias, which a llama model .* does not have")
    (folder / "model.safetensors").write_bytes(good)
    change_weights(folder, **{"lm_head.weight": None})
    expect(folder, 'lm_head.weight is missing.*set "tie_word_embeddings": true')


def test_tables_of_old_checkpoints_are_passed_over(folder: Path) -> None:
    change_weights(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(2)})
    load_model(folder)


def test_integers_and_numbers_that_are_not_finite_are_refused(folder: Path) -> None:
    name = "model.norm.weight"
    change_weights(folder, **{name: torch.ones(16, dtype=torch.int8)})
    expect(folder, f"{name} is stored as I8; known: F32, F16, BF16")
    change_weights(folder, **{name: torch.full((16,), float("nan"))})
    expect(folder, f"{name} holds numbers that are not finite")
    change_weights(folder, **{name: torch.full((16,), 1e5)})
    load_model(folder)
    with pytest.raises(ConfigError, match="not finite in torch.float16.*load as bfloat16"):
        load_model(folder, dtype=torch.float16)


def test_a_damaged_weights_file_is_one_clear_error_wherever_it_was_cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    good = file.read_bytes()
    for cut in (0, 4, 8, 100, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:cut])
        expect(folder, "model.safetensors is damaged or cut off")
    file.write_bytes(good + b"more")
    expect(folder, "damaged")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    expect(folder, "damaged")
    file.write_bytes(b"\xff" * 100)
    expect(folder, "damaged")


def test_what_is_wrong_with_an_index_is_said(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    names = sorted(weights)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, folder / file)
    index.write_text(json.dumps({"weight_map": {name: file for file, part in halves.items() for name in part}}))
    assert torch.equal(load_model(folder).lm_head.weight, weights["lm_head.weight"])
    (folder / "b.safetensors").unlink()
    expect(folder, "index.json names 'b.safetensors', which is not there")
    index.write_text(json.dumps({"weight_map": {"x": "../model/a.safetensors"}}))
    expect(folder, "names '../model/a.safetensors'")
    for text in ("{}", '{"weight_map": []}', "{", '{"weight_map": {"a": [1]}}'):
        index.write_text(text)
        expect(folder, "index.json")


# ------------------------------------------------------------------------------------------------- kills, full disks


def test_a_full_disk_is_a_storage_error_and_keeps_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_model(folder).state_dict()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="cannot write .*model.safetensors: No space left on device; free some"):
        save_model(tiny_model(), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    after = load_model(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_old_model_whole(folder: Path) -> None:
    before = load_model(folder).state_dict()
    script = f"""
import os, signal, torch
from tests.models.test_weights import *
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)   # all is written, nothing is renamed
model = tiny_model()
torch.nn.init.zeros_(model.lm_head.weight)
save_model(model, {str(folder)!r})
"""
    root = str(Path(__file__).parents[2])
    process = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": root}, cwd=root)
    assert process.returncode == -signal.SIGKILL
    after = load_model(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    save_model(tiny_model(), folder)  # and what the kill left is cleared by the next save
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_checkpoint_of_a_run_names_what_helps_which_is_no_download(folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00004"
    shutil.copytree(folder, checkpoint)
    (checkpoint / "model.safetensors").write_bytes(b"")
    expect(checkpoint, r"damaged or cut off.*take another checkpoint \(.*run@STEP\).*delete .*step_00004 and run")
    (checkpoint / "config.json").write_text("{")
    expect(checkpoint, "take another checkpoint")
