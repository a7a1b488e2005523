"""The tokenizer of a GGUF file as tokenizer.json, tokenizer_config.json, generation_config.json (the end marks) and
chat_template.jinja.

A GGUF lists pieces, their kinds, merges, and a *name* for how text is cut before merging ("smollm", "qwen2", ...). The
name stands for rules in llama.cpp's source; those of the families we read are written out below, and another name is an
error, as cutting text in another way than in training makes a model quietly worse. (SmolLM2, for one, saw each digit by
itself: leave that out, and the newlines before a number become other tokens.)

Left out: sentencepiece vocabularies ("llama"), and all kinds that are not byte-level BPE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ponder.config import ConfigError
from ponder.files import write_atomic

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_GPT2 = {**_BYTES, "use_regex": True}  # the library's own pattern, GPT-2's


def _cut(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _BYTES]}


# contractions | a letter run | a digit run | other signs | line ends | spaces; digits by `count`
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|COUNT| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _GPT2,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2]},
    "qwen2": _cut(_WORDS.replace("COUNT", r"\p{N}")),
    "llama-bpe": _cut(_WORDS.replace("COUNT", r"\p{N}{1,3}")),
}
_NORMALIZERS = {"qwen2": {"type": "NFC"}}
KINDS_OF_PIECES = {"normal": 1, "control": 3, "user-defined": 4, "unused": 5}
_CONTROL, _USER_DEFINED, _UNUSED = (KINDS_OF_PIECES[kind] for kind in ("control", "user-defined", "unused"))
_ENDS = ("eos", "eot", "eom")  # of a text, of a turn, of a message
_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def write_tokenizer(settings: Mapping[str, Any], folder: Path, *, where: str) -> None:
    """Write the tokenizer files of a GGUF's settings into a folder."""
    kind, name = settings.get("tokenizer.ggml.model"), settings.get("tokenizer.ggml.pre")
    hint = "take the tokenizer files of the original model and put them beside the weights"
    if kind != "gpt2":
        raise ConfigError(f"{where}: its vocabulary is of kind {kind!r}; only byte-level BPE (gpt2) is read: {hint}")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise ConfigError(
            f"{where}: how it cuts text is called {name!r}, which is not known here (known: "
            f"{', '.join(PRE_TOKENIZERS)}): {hint}"
        )
    pieces, kinds, merges = (_texts(settings, "tokens"), settings.get("tokenizer.ggml.token_type"),
                             _texts(settings, "merges"))  # fmt: skip
    if not merges or not isinstance(kinds, list) or len(kinds) != len(pieces) or len(set(pieces)) != len(pieces):
        raise ConfigError(f"{where}: tokens, token_type or merges are missing or do not match; fetch the file again")
    while kinds and kinds[-1] == _UNUSED:  # rows that pad the embeddings: no tokens at all
        pieces, kinds = pieces[:-1], kinds[:-1]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": piece, **flags, "special": kind == _CONTROL}
            for index, (piece, kind) in enumerate(zip(pieces, kinds, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": _NORMALIZERS.get(name),
        "pre_tokenizer": PRE_TOKENIZERS[name],
        "post_processor": _first_token(settings, pieces, name),
        "decoder": _GPT2,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": name == "llama-bpe",
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False)
    try:
        Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{where}: its vocabulary makes no tokenizer ({error}); fetch the file again") from None
    write_atomic(folder / "tokenizer.json", text)
    write_atomic(folder / "tokenizer_config.json", json.dumps(_settings(settings, pieces), indent=2) + "\n")
    ends = [settings.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS]
    known = list(dict.fromkeys(token for token in ends if type(token) is int and 0 <= token < len(pieces)))
    if known:
        write_atomic(folder / "generation_config.json", json.dumps({"eos_token_id": known}) + "\n")
    if isinstance(settings.get("tokenizer.chat_template"), str):
        write_atomic(folder / "chat_template.jinja", settings["tokenizer.chat_template"])


def _texts(settings: Mapping[str, Any], key: str) -> list[str]:
    found = settings.get(f"tokenizer.ggml.{key}")
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else []


def _settings(settings: Mapping[str, Any], pieces: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for theirs, ours in _NAMES.items():
        token = settings.get(f"tokenizer.ggml.{theirs}_token_id")
        if isinstance(token, int) and 0 <= token < len(pieces):
            found[ours] = pieces[token]
    # the class that takes tokenizer.json as it is: others build their own rules from the vocabulary
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **found}


def _first_token(settings: Mapping[str, Any], pieces: list[str], name: str) -> dict[str, Any] | None:
    """What puts the first token before a text, for programs that ask for it (ours takes it from the chat template)."""
    token = settings.get("tokenizer.ggml.bos_token_id")
    if not settings.get("tokenizer.ggml.add_bos_token", name == "llama-bpe") or not isinstance(token, int):
        return None
    if not 0 <= token < len(pieces):
        return None
    bos, text = {"SpecialToken": {"id": pieces[token], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    known = {pieces[token]: {"id": pieces[token], "ids": [token], "tokens": [pieces[token]]}}
    return {
        "type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, bos, second], "special_tokens": known,
    }  # fmt: skip
