"""Reasoning marks for a model that has none: <think> and </think> become real tokens, which no text can encode to.

    model, tokenizer = add_marks(*hub.load("smollm2-135m"), run.folder / "tokenizer")

Where the tokens come from, in this order:

1. A vocabulary that has a mark keeps it (Qwen3, the R1 distillations: nothing changes at all).
2. Special tokens that a model's makers left unused are renamed: <reponame> and <jupyter_script> of SmolLM2, the first
   two reserved tokens of Llama 3.
3. Otherwise two tokens are appended. Rows that pad the embeddings (Qwen2.5 has 271) are used before new ones are made.

A row that nothing was trained on cannot be told from the others like it: 18 tokens of SmolLM2 have the same one within
5 %, so that a model which means to close its reasoning draws the mark once in 18 times, whatever an adapter learns. So
the closing mark's row is made half as long again, in the output head too: where the model points at all of them, the
mark alone is drawn. Where the row is (nearly) zero, or new, it becomes the mean of the rows of the mark's own spelling
(`<`, `think`, `>`). Nothing is random: the same base gives the same model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ponder.config import ConfigError
from ponder.files import write_atomic
from ponder.models.files import read_json
from ponder.models.hf_tokenizer import THINK, UNTHINK, HFTokenizer, content_of
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer

SPARE = (  # pairs of special tokens that nothing was trained on
    ("<reponame>", "<jupyter_script>"),  # SmolLM2; its data used <repo_name> and <jupyter_start>, not these
    ("<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),  # Llama 3
)
_LISTS = ("additional_special_tokens", "extra_special_tokens")  # what transformers 4 and 5 call the unnamed ones


def add_marks(model: Transformer, tokenizer: Tokenizer, folder: str | Path) -> tuple[Transformer, Tokenizer]:
    """A model and tokenizer with reasoning marks: the given ones where they have them.

    Else the changed tokenizer files are written into `folder`, which the new tokenizer reads (and rereads in worker
    processes, so it must stay); the model is a new one, with its own embeddings, over the given one's other weights.
    """
    if tokenizer.think_id is not None:
        return model, tokenizer
    if not isinstance(tokenizer, HFTokenizer):
        raise ConfigError(f"a {type(tokenizer).__name__} without reasoning marks cannot be given any")
    folder = Path(folder)
    data = read_json(tokenizer.folder / "tokenizer.json")
    data["added_tokens"] = data.get("added_tokens") or []
    renamed = _spare_pair(data, tokenizer)
    _rename(data, renamed)
    made = {} if renamed else _append(data)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder))
    write_atomic(folder / "tokenizer.json", json.dumps(data, ensure_ascii=False))
    _write_settings(folder, renamed)
    marked = HFTokenizer(folder)
    for mark, token in made.items():
        if marked.id_of(mark) != token:  # the library numbers added tokens itself, by its own count
            raise ConfigError(
                f"{tokenizer.folder}: {mark} cannot be appended, as its id would not be {token}; add the marks with "
                "transformers' add_special_tokens and save the model again"
            )
    if made:
        return _with_rows(model, {token: tokenizer.encode(mark) for mark, token in made.items()}), marked
    ids = {THINK: marked.think_id, UNTHINK: marked.unthink_id}
    spelt = {token: tokenizer.encode(mark) for mark, token in ids.items() if token and _is_blank(model, token)}
    return _with_rows(model, spelt, longer=None if marked.unthink_id in spelt else marked.unthink_id), marked


def _is_blank(model: Transformer, token: int) -> bool:
    """A row so short that its direction means nothing."""
    lengths = model.head_weight.detach().float().norm(dim=1)
    return bool(lengths[token] < 0.1 * lengths.median())


def _spare_pair(data: Mapping[str, Any], tokenizer: HFTokenizer) -> dict[str, str]:
    """Unused special token -> mark; empty where the model has no such pair, or its chat template uses one."""
    if _known(data) & {THINK, UNTHINK}:
        return {}
    names = {token["content"] for token in data["added_tokens"] if token.get("special")}
    for pair in SPARE:
        if set(pair) <= names and not any(name in tokenizer.template_source for name in pair):
            return dict(zip(pair, (THINK, UNTHINK), strict=True))
    return {}


def _known(data: Mapping[str, Any]) -> set[str]:
    """Every name in the vocabulary."""
    vocab = data["model"]["vocab"]
    pieces = set(vocab) if isinstance(vocab, dict) else {str(pair[0]) for pair in vocab}
    return pieces | {token["content"] for token in data["added_tokens"]}


def _rename(data: dict[str, Any], renamed: Mapping[str, str]) -> None:
    """New names under the old ids, among the added tokens and in the vocabulary, which must agree."""
    for token in data["added_tokens"]:
        if token["content"] in renamed:
            token |= {"content": renamed[token["content"]], "special": False}
    vocab = data["model"]["vocab"]
    if isinstance(vocab, dict):
        data["model"]["vocab"] = {renamed.get(piece, piece): token for piece, token in vocab.items()}
    else:  # Unigram: [piece, score]
        data["model"]["vocab"] = [[renamed.get(piece, piece), score] for piece, score in vocab]


def _append(data: dict[str, Any]) -> dict[str, int]:
    """Marks that are missing -> their new ids, after all others, added to the tokenizer's data."""
    known = _known(data)
    vocab = data["model"]["vocab"]
    used = [*(vocab.values() if isinstance(vocab, dict) else range(len(vocab)))]
    first = 1 + max([*used, *(token["id"] for token in data["added_tokens"])], default=-1)
    made = {mark: first + index for index, mark in enumerate(m for m in (THINK, UNTHINK) if m not in known)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"] += [{"id": token, "content": mark, **flags} for mark, token in made.items()]
    return made


def _write_settings(folder: Path, renamed: Mapping[str, str]) -> None:
    """The marks' names in tokenizer_config.json and special_tokens_map.json. They are added tokens that are not special
    (see `HFTokenizer.save`), so they stand in no list of those."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (folder / name).exists():
            continue
        settings = read_json(folder / name)
        for number, token in dict(settings.get("added_tokens_decoder") or {}).items():
            if isinstance(token, dict) and token.get("content") in renamed:
                named = {"content": renamed[token["content"]], "special": False}
                settings["added_tokens_decoder"][number] = token | named
        for key in _LISTS:
            if isinstance(settings.get(key), list):
                settings[key] = [
                    token for token in settings[key] if content_of(token) not in (*renamed, THINK, UNTHINK)
                ]
        write_atomic(folder / name, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


@torch.no_grad()
def grown(model: Transformer, rows: int) -> Transformer:
    """The model with embeddings (and a head, where it has its own) of at least so many rows; new ones are zero."""
    if rows <= model.config.vocab_size:
        return model
    weights = dict(model.state_dict())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            new = weights[name].new_zeros(rows, weights[name].shape[1])
            new[: len(weights[name])] = weights[name]
            weights[name] = new
    return Transformer.over(replace(model.config, vocab_size=rows), weights)


@torch.no_grad()
def _with_rows(model: Transformer, spellings: Mapping[int, list[int]], longer: int | None = None) -> Transformer:
    """A model whose embeddings (and head, where it has its own) hold a row for each of these ids, and `longer`'s row
    made longer."""
    weights = dict(model.state_dict())
    rows = max(model.config.vocab_size, *(token + 1 for token in spellings), 0)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name not in weights:
            continue
        old = weights[name]
        new = old.new_zeros(rows, old.shape[1])
        new[: len(old)] = old
        for token, spelling in spellings.items():
            new[token] = old[spelling or slice(None)].float().mean(0).to(old.dtype)  # a mark may be unspeakable
        if longer is not None:
            new[longer] *= 1.5
        weights[name] = new
    return Transformer.over(replace(model.config, vocab_size=rows), weights)
