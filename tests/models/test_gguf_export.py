"""A model that is written as GGUF: read back it is the same model, and its tensors are those that llama.cpp wants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.gguf import convert, read_gguf
from ponder.models.gguf_export import export_gguf
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import Message
from tests.helpers import tiny_model
from tests.models.test_gguf import ROWS, as_llama_cpp, write
from tests.models.test_parity import their_model

FAMILIES = [("SmolLM2", "llama"), ("llama with every bias", "llama"), ("llama with wide heads", "llama"),
            ("llama linear scaling", "llama"), ("Qwen2", "qwen2"), ("Qwen2.5 small, tied", "qwen2"),
            ("Qwen3", "qwen3")]  # fmt: skip
TEXTS = ["the 123\n\n the", "a<think>b", "Ünï 7"]


def imported(name: str, arch: str, folder: Path):
    """A model folder as ponder keeps it, made from a file that the tests write by hand; and that file's tensors."""
    theirs = their_model(name, vocab_size=ROWS)
    weights = as_llama_cpp(theirs, reorder=arch == "llama")

    def change(writer) -> None:
        if "linear" in name:
            writer.add_string(f"{arch}.rope.scaling.type", "linear")
            writer.add_rope_scaling_factor(theirs.config.rope_parameters["factor"])

    made = write(folder / "made.gguf", weights, theirs.config, arch=arch, change=change)
    return hub.load(str(convert(made, folder / "ours", dtype=torch.float32)), dtype=None), weights


@pytest.mark.parametrize(("name", "arch"), FAMILIES)
def test_a_written_model_is_read_back_as_itself_with_the_tensors_of_llama_cpp(name, arch, tmp_path: Path) -> None:
    (model, tokenizer), weights = imported(name, arch, tmp_path)
    path = export_gguf(model, tokenizer, tmp_path / "new.gguf", "F32")
    file = read_gguf(path)
    assert set(file.tensors) == set(weights)
    for theirs, array in weights.items():
        assert np.array_equal(file.unpack(theirs).numpy(), array), theirs
    again, read = hub.load(str(convert(path, tmp_path / "again")), dtype=None)
    assert again.config == model.config
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())
    assert isinstance(read, HFTokenizer)
    assert [read.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    asked = [Message(role="user", content="the <|im_end|> 12")]
    assert read.render(asked) == tokenizer.render(asked) and read.end_ids == tokenizer.end_ids


def test_eight_bits_are_near_and_the_factors_of_llama_3_come_back(tmp_path: Path) -> None:
    (model, tokenizer), _ = imported("llama with wide heads", "llama", tmp_path)
    for kind, most in (("F16", 1e-3), ("Q8_0", 1e-2)):
        path = export_gguf(model, tokenizer, tmp_path / f"{kind}.gguf", kind)
        again = hub.load(str(convert(path, tmp_path / kind)), dtype=torch.float32)[0]
        for key, tensor in model.state_dict().items():
            assert (again.state_dict()[key] - tensor).abs().max() <= most * tensor.abs().max(), key
    with pytest.raises(ConfigError, match="none of F16, Q8_0, F32"):
        export_gguf(model, tokenizer, tmp_path / "no.gguf", "Q2_K")


def test_what_cannot_be_written_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain bytes"):
        export_gguf(tiny_model(), ByteTokenizer(), tmp_path / "a.gguf")
    (model, tokenizer), _ = imported("SmolLM2", "llama", tmp_path)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(ConfigError, match="up_proj"):
        export_gguf(model, tokenizer, tmp_path / "b.gguf", "F16")
    assert not [*tmp_path.glob("a.gguf"), *tmp_path.glob("b.gguf"), *tmp_path.glob(".*.part")]
