"""A model as a GGUF file, the format of llama.cpp: the inverse of gguf.py.

    export_gguf(model, tokenizer, "mine.gguf", "Q8_0")       # then: llama-cli -m mine.gguf

Matrices are F32, F16 or Q8_0 (blocks of 32 weights with one scale: 8.5 bits a weight), vectors F32. What llama.cpp
wants in another way is changed: rows of q and k of Llama and Mistral (its rotary embedding pairs neighbours), and
Llama 3's rotary scaling, which is a tensor of factors. Reasoning marks are user-defined tokens, so a text shows them;
to separate reasoning from answer is then the reader's work, as with any open model.

Left out: vocabularies that are not byte-level BPE (ponder's own bytes, SentencePiece), layers that slide while others
do not, and quantisations below 8 bits: `llama-quantize` makes them of an F16 file.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.models.files import read_json
from ponder.models.gguf import FAMILIES, NAMES_OF_PARTS, NAMES_OF_TOP
from ponder.models.gguf_tokenizer import KINDS_OF_PIECES, PRE_TOKENIZERS
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, Transformer, rope_frequencies

TYPES = ("F16", "Q8_0", "F32")
_BLOCK = 32  # weights of a row that Q8_0 takes together


def export_gguf(model: Transformer, tokenizer: Tokenizer, path: str | Path, kind: str = "F16") -> Path:
    """Write the file; it appears under its name when it is complete. ConfigError says what a GGUF cannot hold."""
    try:
        import gguf
    except ImportError:
        raise ConfigError('writing GGUF needs the gguf package: pip install "ponder[gguf]"') from None
    if kind not in TYPES:
        raise ConfigError(f"{kind!r} is none of {', '.join(TYPES)}")
    path, config = Path(path), model.config
    family = _family(config)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        writer = gguf.GGUFWriter(part, family)
        _write_settings(writer, config, family)
        _write_tokenizer(writer, tokenizer, config)
        if config.rope_scaling and config.rope_scaling["rope_type"] == "llama3":
            writer.add_tensor("rope_freqs.weight", _factors(config).numpy())
        for name, tensor in model.state_dict().items():
            if config.tie_word_embeddings and name == "lm_head.weight":
                continue
            _write_tensor(writer, config, name, tensor, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path


# ------------------------------------------------------------------------------------------------------- settings


def _family(config: ModelConfig) -> str:
    """llama.cpp's name of the architecture: Mistral is a Llama there."""
    found = {"mistral": "llama"}.get(config.model_type, config.model_type)
    if found not in FAMILIES:
        raise ConfigError(f"a {config.model_type} model cannot be written; known: {', '.join(FAMILIES)}")
    if config.sliding_window is not None and config.model_type != "mistral":
        raise ConfigError(f"llama.cpp has no {config.model_type} whose layers slide (sliding_window)")
    if config.attention_out_bias and config.model_type != "llama":
        raise ConfigError(f"llama.cpp has no {config.model_type} with a bias on the output of attention")
    return found


def _write_settings(writer: Any, config: ModelConfig, family: str) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)
    scaling = config.rope_scaling or {}
    if scaling.get("rope_type") == "linear":
        writer.add_string(f"{family}.rope.scaling.type", "linear")
        writer.add_rope_scaling_factor(scaling["factor"])
    elif scaling and scaling["rope_type"] != "llama3":
        raise ConfigError(f"rope scaling {scaling['rope_type']!r} cannot be written; known: linear, llama3")


def _factors(config: ModelConfig) -> Tensor:
    """Llama 3's scaling: by what each frequency is divided."""
    sizes = {name: getattr(config, name) for name in ("hidden_size", "head_dim", "rope_theta")}
    plain = ModelConfig(vocab_size=1, intermediate_size=1, num_hidden_layers=1, num_attention_heads=1,
                        num_key_value_heads=1, **sizes)  # fmt: skip
    return (rope_frequencies(plain).double() / rope_frequencies(config).double()).float()


# ------------------------------------------------------------------------------------------------------- tokenizer


def _write_tokenizer(writer: Any, tokenizer: Tokenizer, config: ModelConfig) -> None:
    if not isinstance(tokenizer, HFTokenizer):
        raise ConfigError("llama.cpp reads no vocabulary of plain bytes; only byte-level BPE can be written")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        data, settings = (read_json(Path(folder) / name) for name in ("tokenizer.json", "tokenizer_config.json"))
    body = data.get("model") or {}
    if body.get("type") != "BPE" or '"ByteLevel"' not in json.dumps(data.get("decoder")):
        raise ConfigError(f"a vocabulary of kind {body.get('type')} cannot be written; known: byte-level BPE")
    pieces = {index: piece for piece, index in body["vocab"].items()}
    kinds = dict.fromkeys(pieces, KINDS_OF_PIECES["normal"])
    for token in data.get("added_tokens") or []:
        pieces[token["id"]] = token["content"]
        kinds[token["id"]] = KINDS_OF_PIECES["control" if token.get("special") else "user-defined"]
    size = config.vocab_size
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(data))
    writer.add_token_list([pieces.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types([kinds.get(i, KINDS_OF_PIECES["unused"]) for i in range(size)])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in body["merges"]])
    writer.add_eos_token_id(tokenizer.end_id)
    others = [token for token in tokenizer.end_ids if token != tokenizer.end_id]
    for add, token in zip((writer.add_eot_token_id, writer.add_eom_token_id), others, strict=False):
        add(token)
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_add_bos_token(_starts_with_bos(data, settings))
    if tokenizer.template_source:
        writer.add_chat_template(tokenizer.template_source)


def _pre_tokenizer(data: dict[str, Any]) -> str:
    """llama.cpp's name for how text is cut before merging."""
    cut = json.dumps(_essential(data.get("pre_tokenizer")), sort_keys=True)
    for name, known in PRE_TOKENIZERS.items():
        if json.dumps(_essential(known), sort_keys=True) == cut:
            return name
    raise ConfigError(
        "how this vocabulary cuts text has no name in llama.cpp that is known here (known: "
        f"{', '.join(PRE_TOKENIZERS)}); its own convert_hf_to_gguf.py may know one"
    )


def _essential(rule: Any) -> Any:
    """Without settings that change no cut: where offsets begin, and the space before a text where none is added."""
    if isinstance(rule, dict):
        return {key: _essential(value) for key, value in rule.items() if key != "trim_offsets"}
    return [_essential(item) for item in rule] if isinstance(rule, list) else rule


def _starts_with_bos(data: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a plain text begins with the first token, in the tokenizer's own settings."""
    processor = json.dumps(data.get("post_processor") or {})
    return bool(settings.get("add_bos_token", "SpecialToken" in processor))


# --------------------------------------------------------------------------------------------------------- tensors


def _write_tensor(writer: Any, config: ModelConfig, name: str, tensor: Tensor, kind: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    values = _reordered(config, name, tensor.detach().float())
    chosen = "F32" if values.dim() == 1 else kind
    if chosen == "Q8_0" and values.shape[-1] % _BLOCK:
        chosen = "F16"  # rows that do not divide into blocks
    if chosen == "F16" and not torch.isfinite(values.half()).all():
        raise ConfigError(f"{name} holds numbers beyond 65,504, which F16 cannot hold; use F32 or Q8_0")
    code = GGMLQuantizationType[chosen]
    writer.add_tensor(_their_name(name), quantize(values.contiguous().numpy(), code), raw_dtype=code)


def _reordered(config: ModelConfig, name: str, values: Tensor) -> Tensor:
    """Rows of q and k as llama.cpp's Llama has them: the two halves of each head in turn."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None or config.model_type not in ("llama", "mistral"):
        return values
    halves = values.view(heads, 2, config.head_dim // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)


def _their_name(ours: str) -> str:
    body, _, kind = ours.rpartition(".")
    for theirs, name in NAMES_OF_TOP.items():
        if body == name:
            return f"{theirs}.{kind}"
    layer, _, part = body.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{next(theirs for theirs, name in NAMES_OF_PARTS.items() if name == part)}.{kind}"
