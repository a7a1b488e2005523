"""ponder's byte tokenizer as the files that transformers and vLLM read: a checkpoint of `nano` for other programs.

    write_byte_tokenizer("served")      # beside config.json and model.safetensors

A byte-level vocabulary of the 256 bytes without merges gives every byte its own id; the eight marks are added tokens.
The reasoning marks are no special tokens, as in Qwen3: a program that leaves special tokens out of its text keeps them,
and can tell reasoning from answer. (transformers encodes a mark that a user types as the mark; ponder does not.)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ponder.files import write_atomic
from ponder.models.hf_tokenizer import THINK, UNTHINK, byte_letters
from ponder.models.tokenizer import ByteTokenizer

NAMES = {name: {"think": THINK, "/think": UNTHINK}.get(name, f"<|{name}|>") for name in ByteTokenizer.MARKS}
TEMPLATE = (
    "{{- '<|bos|>' }}"
    "{%- for message in messages %}"
    "{{- '<|system|>' if message.role in ('system', 'developer') else "
    "'<|assistant|>' if message.role == 'assistant' else '<|user|>' }}"
    "{{- message.content }}{{- '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|><think>' }}{%- endif %}"
)


def write_byte_tokenizer(folder: str | Path) -> None:
    """tokenizer.json, tokenizer_config.json and generation_config.json, with ids as `ByteTokenizer` has them."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": 256 + index, "content": content, "special": content not in (THINK, UNTHINK), **flags}
        for index, content in enumerate(NAMES.values())
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": dict(byte_letters()), "merges": []},
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": NAMES["bos"], "eos_token": NAMES["end"],
        "pad_token": NAMES["pad"], "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
    }  # fmt: skip
    ends = {"eos_token_id": ByteTokenizer.end_id, "pad_token_id": ByteTokenizer.pad_id}
    for name, data in (
        ("tokenizer.json", tokenizer), ("tokenizer_config.json", settings), ("generation_config.json", ends)
    ):  # fmt: skip
        write_atomic(Path(folder) / name, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
