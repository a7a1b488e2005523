"""Our decoder against transformers: the same folder, the same logits, in both directions, for every family."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers  # part of the test extra: without it this file fails, it does not skip

from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import load_model, save_model
from ponder.types import SamplingParams

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
TINY = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA, MISTRAL, QWEN2, QWEN3 = (
    transformers.LlamaConfig,
    transformers.MistralConfig,
    transformers.Qwen2Config,
    transformers.Qwen3Config,
)
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LLAMA, {}),
    "llama 3 scaling, tied": (LLAMA, {"rope_parameters": LLAMA3 | {"rope_theta": 500.0}, "tie_word_embeddings": True}),
    "llama linear scaling": (LLAMA, {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama with every bias": (LLAMA, {"attention_bias": True, "mlp_bias": True}),
    "llama with wide heads": (LLAMA, {"head_dim": 20}),
    "SmolLM2": (LLAMA, {"tie_word_embeddings": True, "rope_theta": 100000, "num_key_value_heads": 3}),
    "Qwen2": (QWEN2, {"rope_theta": 1e6}),
    "Qwen2.5 small, tied": (QWEN2, {"tie_word_embeddings": True, "rope_theta": 1e6, "use_sliding_window": False}),
    "Qwen2 sliding from layer 1": (QWEN2, {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "Qwen3": (QWEN3, {"head_dim": 16, "rope_theta": 1e6, "tie_word_embeddings": True}),
    "Qwen3 with bias": (QWEN3, {"head_dim": 16, "attention_bias": True}),
    "Qwen3 sliding by layer types": (
        QWEN3,
        {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "Mistral, window shorter than the text": (MISTRAL, {"sliding_window": 7}),
    "Mistral without window": (MISTRAL, {"sliding_window": None, "head_dim": 10}),
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def their_model(name: str, **changes: Any) -> Any:
    """A random model of transformers in which every weight matters: norms are not 1, biases not 0."""
    config_class, options = FAMILIES[name]
    config = config_class(**(TINY | options | changes))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@torch.no_grad()
def their_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    return model(tokens).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_agree_with_transformers_in_both_directions(name: str, tmp_path: Path) -> None:
    theirs = their_model(name)
    tokens = torch.randint(TINY["vocab_size"], (2, 40), generator=torch.Generator().manual_seed(1))
    expected = their_logits(theirs, tokens)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), expected, atol=TOLERANCE, rtol=0)
    save_model(ours, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    torch.testing.assert_close(their_logits(again, tokens), expected, atol=TOLERANCE, rtol=0)
    assert type(again) is type(theirs)


def test_the_sliding_window_and_the_scaling_of_these_models_matter() -> None:
    """Guards the test above: without the feature the logits would differ by far more than the tolerance."""
    tokens = torch.randint(TINY["vocab_size"], (1, 40), generator=torch.Generator().manual_seed(1))
    changes: list[tuple[str, dict[str, Any]]] = [
        ("Mistral, window shorter than the text", {"sliding_window": None}),
        ("Qwen2 sliding from layer 1", {"max_window_layers": 3, "layer_types": None}),
        ("llama 3 scaling, tied", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("SmolLM2", {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}),
    ]
    for name, change in changes:
        theirs = their_model(name)
        config_class, options = FAMILIES[name]
        options = {key: value for key, value in options.items() if key != "rope_theta"}
        other = transformers.AutoModelForCausalLM.from_config(config_class(**(TINY | options | change))).eval()
        other.load_state_dict(theirs.state_dict())
        assert (their_logits(theirs, tokens) - their_logits(other, tokens)).abs().max() > 100 * TOLERANCE, name


@pytest.mark.parametrize(
    "name", ["llama", "SmolLM2", "Mistral without window", "Qwen2", "Qwen2.5 small, tied", "Qwen3"]
)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shards", ["one", "many"])
def test_every_way_to_store_a_checkpoint_gives_the_same_logits(
    name: str, stored: torch.dtype, shards: str, tmp_path: Path
) -> None:
    for tied in (True, False):
        folder = tmp_path / str(tied)
        their_model(name, tie_word_embeddings=tied).to(stored).save_pretrained(
            folder, max_shard_size="30KB" if shards == "many" else "1GB"
        )
        assert len(list(folder.glob("*.safetensors"))) > (2 if shards == "many" else 0)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokens = torch.randint(TINY["vocab_size"], (2, 30), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(load_model(folder)(tokens), their_logits(theirs, tokens), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_decoding_gives_the_tokens_of_generate(name: str, tmp_path: Path) -> None:
    theirs = their_model(name, vocab_size=ByteTokenizer.vocab_size)
    theirs.save_pretrained(tmp_path)
    engine = LocalEngine(load_model(tmp_path), ByteTokenizer(), num_workers=0, num_slots=4)
    params = SamplingParams(temperature=0, max_reasoning_tokens=0, max_answer_tokens=40)
    for prompt in ([5, 6, 7], list(range(60, 80)), [250]):
        said = asyncio.run(engine.generate(prompt, params))[0].token_ids
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=ByteTokenizer.end_id,
            pad_token_id=ByteTokenizer.pad_id,
        )  # fmt: skip
        assert list(said) == expected[0, len(prompt) :].tolist()
    engine.close()


def test_bfloat16_saved_by_us_is_bfloat16_for_transformers(tmp_path: Path) -> None:
    theirs = their_model("SmolLM2")
    theirs.save_pretrained(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours", dtype=torch.bfloat16)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.dtype == torch.bfloat16
    for name, weight in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.to(torch.bfloat16)), name
