"""Adapters: merging equals running them, and what does not fit its base is refused before a weight changes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ponder.config import ConfigError
from ponder.models import hub, lora, named
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.lora import merge_adapter
from ponder.models.marks import add_marks
from ponder.models.transformer import Transformer
from ponder.models.weights import save_model
from tests.helpers import tiny_model
from tests.models.test_hf_tokenizer import write
from tests.models.test_marks import SMOLLM, bare

TARGETS = {"q_proj": (32, 32), "v_proj": (32, 16), "down_proj": (64, 32)}  # (in, out)


def make_adapter(folder: Path, base: str, *, rank: int = 4, seed: int = 0, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(2):
        for name, (in_size, out_size) in TARGETS.items():
            place = "mlp" if name == "down_proj" else "self_attn"
            stem = f"base_model.model.model.layers.{layer}.{place}.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, in_size, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(out_size, rank, generator=generator) / 10
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": list(TARGETS), "bias": "none",
              "base_model_name_or_path": base, "task_type": "CAUSAL_LM"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "cache"))


def merged_by_hand(model: Transformer, folder: Path, scale: float) -> dict[str, torch.Tensor]:
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in tensors:
        if name.endswith("lora_A.weight"):
            b = tensors[name.replace("lora_A", "lora_B")]
            weights[name.removeprefix("base_model.model.").replace("lora_A.", "")] += scale * b @ tensors[name]
    return weights


@pytest.mark.parametrize(("options", "scale"), [({}, 2.0), ({"use_rslora": True}, 4.0), ({"lora_alpha": 1}, 0.25)])
def test_merging_adds_the_scaled_product_to_each_layer_named_and_to_no_other(
    tmp_path: Path, options: dict[str, Any], scale: float
) -> None:
    model = tiny_model(head_dim=8)
    folder = make_adapter(tmp_path / "adapter", "x", **options)
    expected = merged_by_hand(model, folder, scale)
    merge_adapter(model, folder)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, expected[name])


def test_an_adapter_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    model = tiny_model(head_dim=8)
    before = [parameter.clone() for parameter in model.parameters()]
    folder = make_adapter(tmp_path / "adapter", "x")
    good = load_file(folder / "adapter_model.safetensors")
    first, *_, last = good
    renamed = {name.replace("q_proj", "qq_proj"): tensor for name, tensor in good.items()}
    bad: list[tuple[dict[str, torch.Tensor], str]] = [
        (renamed, "which the base model does not have"),
        ({name: t for name, t in good.items() if name != last}, "is missing"),
        (good | {last: good[last][:, :2].contiguous()}, "it must be"),
        (good | {first: torch.full_like(good[first], float("nan"))}, "not finite"),
        (good | {"base_model.model.lm_head.weight": torch.zeros(2)}, "no part of a LoRA adapter"),
        ({}, "no adapter at all"),
    ]
    for tensors, words in bad:
        save_file(tensors, folder / "adapter_model.safetensors")
        with pytest.raises(ConfigError, match=words):
            merge_adapter(model, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match="damaged"):
        merge_adapter(model, folder)
    for change in ({"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}, {"r": 0}, {"r": "4"}, {"r": 8},
                   {"modules_to_save": ["lm_head"]}, {"base_model_name_or_path": None}):  # fmt: skip
        make_adapter(folder, "x")
        data = json.loads((folder / "adapter_config.json").read_text()) | change
        (folder / "adapter_config.json").write_text(json.dumps(data))
        with pytest.raises(ConfigError):
            merge_adapter(model, folder)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def trained(seed: int = 0) -> lora.Adapter:
    adapter = lora.fresh(tiny_model(head_dim=8), 4, seed)
    for _, b in adapter.pairs.values():
        b.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
    return adapter


def test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed_alone() -> None:
    model = tiny_model(head_dim=8)
    before = {name: weight.clone() for name, weight in lora.targets(model).items()}
    lora.merge(before, lora.fresh(model, 4, seed=0), lora.targets(model))
    assert all(torch.equal(before[name], weight) for name, weight in lora.targets(model).items())
    one, same, other = (lora.fresh(model, 4, seed).tensors() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_is_saved_is_peft_s_form_and_comes_back_as_it_was(tmp_path: Path) -> None:
    adapter = trained()
    lora.save_adapter(adapter, tmp_path, base=hub.named_base("some/base"), dtype=torch.float32)
    assert lora.is_adapter(tmp_path)
    config = lora.read_adapter_config(tmp_path)
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 4, "some/base")
    assert set(config["target_modules"]) == set(lora.TARGETS)
    back = lora.load_adapter(tmp_path, tiny_model(head_dim=8))
    assert back.scale == adapter.scale and back.pairs.keys() == adapter.pairs.keys()
    assert all(torch.equal(t, back.tensors()[name]) for name, t in adapter.tensors().items())


def make_base(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_model(tiny_model(vocab_size=280, head_dim=8), write(folder, bare(*SMOLLM)), dtype)
    return folder


def test_an_adapter_folder_is_a_model_made_once_and_not_rounded_to_the_grid_of_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base")
    folder = make_adapter(tmp_path / "adapter", str(base), lora_alpha=1e-3)
    model, tokenizer = hub.load(folder, dtype=None)
    assert "merging" in capsys.readouterr().err
    expected = merged_by_hand(hub.load(base)[0], folder, 1e-3 / 4)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-7, atol=1e-9)
    assert isinstance(tokenizer, HFTokenizer) and tokenizer.think_id is None
    place = hub.resolve(folder)
    assert hub.resolve(str(folder)) == place and capsys.readouterr().err == ""
    assert hub.describe(folder)["parameters"] == model.num_parameters
    make_adapter(folder, str(base), seed=1)
    assert hub.resolve(folder) != place


def test_an_adapter_that_was_trained_through_bf16_weights_is_merged_into_bf16(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    folder = make_adapter(tmp_path / "adapter", str(base), merged_dtype="BF16")
    (folder / "training.json").write_text('{"format": 1, "sources": []}')
    model, _ = hub.load(folder, dtype=None)
    twin, _ = hub.load(base, dtype=torch.bfloat16)
    merge_adapter(twin, folder)
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert (hub.resolve(folder) / "training.json").exists()


def test_an_adapter_may_ask_for_marks_or_bring_its_tokenizer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    marked = make_adapter(tmp_path / "a", str(base), reasoning_marks=True)
    assert hub.load(marked)[1].think_id == 3
    brought = make_adapter(tmp_path / "b", str(base))
    hub.load(marked)[1].save(str(brought))
    assert hub.load(brought)[1].think_id == 3


def test_a_base_that_leads_nowhere_or_round_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "nowhere")
    with pytest.raises(ConfigError, match="unknown model 'nowhere'"):
        hub.resolve(folder)
    for base in (str(folder), "."):
        make_adapter(folder, base)
        with pytest.raises(ConfigError, match="names itself"):
            hub.resolve(folder)
    make_adapter(folder, str(make_adapter(tmp_path / "other", str(folder))))
    with pytest.raises(ConfigError, match="round in a circle"):
        hub.resolve(folder)
    make_adapter(folder, str(make_base(tmp_path / "base")))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no adapter_model.safetensors"):
        hub.resolve(folder)


def test_a_base_that_was_pulled_by_name_stands_for_its_hub_id(tmp_path: Path) -> None:
    make_base(named.cache_folder() / "smollm2-135m")
    folder = make_adapter(tmp_path / "adapter", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert hub.load(folder)[0].config.vocab_size == 280


def test_a_shipped_adapter_pulls_its_base_and_gets_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_adapter(tmp_path / "smollm2_ponder", "HuggingFaceTB/SmolLM2-135M-Instruct")
    monkeypatch.setattr(named, "shipped", lambda: {"smollm2-ponder": folder})
    pulled: list[str] = []

    def pull(name: str, *, say: named.Say) -> Path:
        pulled.append(name)
        return make_base(tmp_path / "base")

    monkeypatch.setattr(named, "pull", pull)
    assert hub.load("smollm2-ponder")[1].think_id == 3 and "smollm2-135m" in pulled


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "eva"),
        ("alora_invocation_tokens", [1, 2]),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
        ("use_qalora", True),
        ("lora_bias", True),
        ("use_dora", True),
        ("use_bdlora", {"a": 1}),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("bias", "lora_only"),
        ("something_of_next_year", 3),
    ],
)
def test_an_adapter_that_is_more_than_a_product_of_two_matrices_is_refused_by_the_key_that_says_so(
    tmp_path: Path, key: str, value: Any
) -> None:
    folder = make_adapter(tmp_path / "adapter", "x", **{key: value})
    with pytest.raises(ConfigError, match=f"{key} = .*merge it with PEFT"):
        merge_adapter(tiny_model(head_dim=8), folder)


@pytest.mark.parametrize(("key", "value"), [("r", math.nan), ("r", math.inf), ("lora_alpha", math.nan), ("r", 0)])
def test_a_rank_or_a_scale_that_is_no_number_is_refused(tmp_path: Path, key: str, value: float) -> None:
    folder = make_adapter(tmp_path / "adapter", "x", **{key: value})
    with pytest.raises(ConfigError, match=f"{key} = .*must be a positive number"):
        merge_adapter(tiny_model(head_dim=8), folder)


def test_what_peft_itself_writes_about_a_plain_adapter_is_read(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "x")
    plain = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS), base_model_name_or_path="x")
    plain.save_pretrained(folder)
    assert "megatron_core" in json.loads((folder / "adapter_config.json").read_text())
    merge_adapter(tiny_model(head_dim=8), folder)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("spare", "rows"), [(SMOLLM, 280), ((), 280), ((), 261)])  # renamed, in padding, behind it
def test_peft_makes_the_same_model_of_a_base_and_an_adapter_as_ponder(
    tmp_path: Path, tied: bool, spare: tuple[str, ...], rows: int
) -> None:
    base = write(tmp_path / "base", bare(*spare))
    model = tiny_model(vocab_size=rows, head_dim=8, tie_word_embeddings=tied)
    save_model(model, base, torch.float32)
    model, tokenizer = add_marks(*hub.load(base), tmp_path / "marked")
    adapter = lora.fresh(model, 4, 0)
    for _, b in adapter.pairs.values():
        b.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "adapter"
    lora.save_adapter(adapter, folder, base=hub.named_base(str(base)), model=model, tokenizer=tokenizer)
    lora.merge(lora.targets(model), adapter, lora.targets(model))

    tokens = torch.tensor([[3, 40, 4, 50, 60, 4]])
    config = json.loads((folder / "adapter_config.json").read_text())
    plain = transformers.AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"], dtype=torch.float32)
    if rows < model.config.vocab_size:
        plain.resize_token_embeddings(model.config.vocab_size)
    theirs = peft.PeftModel.from_pretrained(plain, folder).eval()
    automatic = peft.AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        told = automatic(tokens).logits  # of the tokens that the tokenizer has
        torch.testing.assert_close(told, model(tokens)[..., : told.shape[-1]], atol=1e-4, rtol=0)
        assert told.shape[-1] >= max(tokenizer.think_id, tokenizer.unthink_id) + 1
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-4, rtol=0)
        merged = theirs.merge_and_unload()
        torch.testing.assert_close(merged(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    again = transformers.AutoTokenizer.from_pretrained(folder)
    assert again.convert_tokens_to_ids("</think>") == tokenizer.unthink_id and again.chat_template

    back, read = hub.load(folder)
    assert (read.think_id, read.unthink_id) == (tokenizer.think_id, tokenizer.unthink_id)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


def test_rows_that_the_config_does_not_place_are_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "x", trainable_token_indices={"embed_tokens": [3, 4]})
    good = load_file(folder / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="misses the rows of embed_tokens"):
        merge_adapter(tiny_model(head_dim=8), folder)
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    for rows, words in ((torch.zeros(3, 32), "cannot be"), (torch.full((2, 32), float("inf")), "not finite")):
        save_file(good | {name: rows}, folder / "adapter_model.safetensors")
        with pytest.raises(ConfigError, match=words):
            merge_adapter(tiny_model(head_dim=8), folder)
