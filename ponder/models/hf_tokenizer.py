"""The tokenizer of a Hugging Face model folder, safe against what people type.

tokenizer.json holds the vocabulary, tokenizer_config.json the names of special tokens, and one of them or
chat_template.jinja the chat template. Two promises go beyond `transformers`:

- No text encodes to a special token. Every added token (bar runs of spaces, which are vocabulary) is reserved: Qwen3,
  for one, adds </think> as an ordinary token, and a user who types it would close the model's reasoning.
- In a rendered prompt, special tokens come from the template's own text alone (models/chat_template.py). For
  messages without such text the ids are those of `transformers`' `apply_chat_template`.

The reasoning marks are <think> and </think> where the vocabulary has both. Without a chat template, or where it loses a
message, the prompt is plain: [bos] User: text [end] Assistant:, its end mark being what no text can forge.
A completion ends with what the template puts after a message, and with each eos token that the folder names:
tokenizer_config.json one, config.json and generation_config.json often several (Llama 3.1 has three).
Left out: sentencepiece files (tokenizer.model), tools and documents in templates.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Vocabulary

from ponder.config import ConfigError
from ponder.files import well_formed, write_atomic
from ponder.models.chat_template import ChatTemplate, Span
from ponder.models.files import read_json, remedy
from ponder.models.tokenizer import ByteTokenizer, Tokenizer, reasoning_is_open
from ponder.types import Message

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
_GENERATION = "generation_config.json"
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
THINK, UNTHINK = "<think>", "</think>"
_LONG_TEXT = 4_000  # characters
_LABELS = {"system": "System", "developer": "System", "user": "User", "tool": "User", "assistant": "Assistant"}


def byte_letters() -> dict[str, int]:
    """How byte-level vocabularies write bytes: those that print as themselves, the others from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = byte_letters()


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder, whichever kind it names."""
    folder = Path(folder)
    settings = folder / "tokenizer_config.json"
    if settings.exists() and read_json(settings).get("tokenizer_class") == "PonderByteTokenizer":
        return ByteTokenizer()
    if (folder / "tokenizer.json").exists():
        return HFTokenizer(folder)
    old = (folder / "tokenizer.model").exists()
    hint = "; load tokenizer.model with transformers and save it again, as tokenizer.json" if old else ""
    raise ConfigError(f"no tokenizer.json in {folder}, and no tokenizer_config.json that names ponder's own{hint}")


class HFTokenizer:
    """A Tokenizer over tokenizer.json."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        data = read_json(self.folder / "tokenizer.json")
        special = _special_tokens(self.folder)
        added = _added_tokens(data, self.folder / "tokenizer.json")
        ids = {token["content"]: token["id"] for token in added}
        self._reserved = {token["content"]: token for token in added if token["content"].strip()}
        # a vocabulary without bytes says <unk> for what it cannot spell: no mark, and text may well encode to it
        unknown = {special.get("unk_token"), (data.get("model") or {}).get("unk_token")}
        self._reserved_ids = {token["id"] for name, token in self._reserved.items() if name not in unknown}
        longest_first = sorted(map(re.escape, self._reserved), key=len, reverse=True)
        self._marks = re.compile(f"({'|'.join(longest_first)})") if longest_first else None
        self._start = _vocabulary(data, self._reserved)
        self.is_byte_level = '"ByteLevel"' in json.dumps(data.get("decoder"))
        inside = _without_prefix_space(data)
        self._inside = self._start if inside is data else _vocabulary(inside, self._reserved)
        self.window = _window(self.folder)
        self.longest_token = _longest(data, self._reserved) if self.is_byte_level else None
        self.vocab_size = max([self._start.get_vocab_size(with_added_tokens=False), *(i + 1 for i in ids.values())])

        has_marks = THINK in ids and UNTHINK in ids
        self.think_id: int | None = ids[THINK] if has_marks else None
        self.unthink_id: int | None = ids[UNTHINK] if has_marks else None
        self.bos_id: int | None = ids.get(special.get("bos_token", ""))
        self.template_source = _template_source(self.folder) or ""
        self._template = ChatTemplate(self.template_source, special) if self.template_source else None
        end = self._end_of_message() or special.get("eos_token")
        if end not in ids:
            raise ConfigError(
                f"{self.folder}: which token ends a message? set eos_token in tokenizer_config.json to one of the "
                f"added tokens of tokenizer.json (it is {end!r})"
            )
        self.end_id = ids[end]
        known = set(ids.values())
        self.end_ids: tuple[int, ...] = tuple(
            dict.fromkeys([self.end_id, *(token for token in _eos_ids(self.folder, special, ids) if token in known)])
        )
        self.pad_id = ids.get(special.get("pad_token", ""), self.end_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return HFTokenizer, (self.folder,)  # a worker process reads the files again

    def id_of(self, token: str) -> int | None:
        """The id of a vocabulary entry or added token, by its name."""
        return self._start.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        return self._plain(self._start, text)

    def byte_pieces(self) -> list[bytes | None]:
        """The bytes of every token, None for marks, where `is_byte_level` (GPT-2's kind). A second for 150,000."""
        found: list[bytes | None] = []
        for token in range(self.vocab_size):
            piece = None if token in self._reserved_ids else self._start.id_to_token(token)
            known = piece is not None and all(char in _BYTE_OF for char in piece)
            found.append(bytes(_BYTE_OF[char] for char in piece) if piece and known else None)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        return self._start.decode(list(ids), skip_special_tokens=True)

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a prompt that is far too long for the window are padding, about as many as it has: only their
        number is meant, for whoever refuses it."""
        spans = self._template.render(messages) if self._template else None
        if self.window is not None:
            texts = [m.content for m in messages] if spans is None else [span.text for span in spans]
            if size := self._excess(texts, self.window):
                # nobody reads these ids: they say that the prompt is too long, and about how long it is
                return [self.pad_id] * size + ([] if self.think_id is None else [self.think_id])
        ids = self._plain_prompt(messages) if spans is None else self._encode_spans(spans)
        if self.think_id is not None and not reasoning_is_open(self, ids):
            ids.append(self.think_id)
        return ids

    def save(self, folder: str | Path) -> None:
        """The files as they came, but for two things that other programs need: all end marks stand in
        generation_config.json, and the reasoning marks are no special tokens, as in Qwen3: where special tokens are
        left out of a text, reasoning and answer would run together."""
        if Path(folder).resolve() == self.folder.resolve():
            return
        for name in _FILES:
            if (self.folder / name).exists():
                write_atomic(Path(folder) / name, _exported(name, (self.folder / name).read_bytes()))
        path = self.folder / _GENERATION
        settings = read_json(path) if path.exists() else {}
        ends = self.end_ids[0] if len(self.end_ids) == 1 else list(self.end_ids)
        write_atomic(Path(folder) / _GENERATION, json.dumps(settings | {"eos_token_id": ends}, indent=2) + "\n")

    def _encode_spans(self, spans: Sequence[Span]) -> list[int]:
        """Special tokens out of the template's text; all between two of them is one run of plain text, so that its
        ids do not depend on where a message begins."""
        ids: list[int] = []
        run = ""
        strip_next = False  # some tokens swallow the spaces beside them
        for text, is_template in spans:
            parts = self._marks.split(text) if is_template and self._marks else [text]
            for index, part in enumerate(parts):
                if index % 2 == 0:
                    run += part
                    continue
                token = self._reserved[part]
                run = run.lstrip() if strip_next else run
                run = run.rstrip() if token.get("lstrip") else run
                ids += self._plain(self._inside if ids else self._start, run)
                ids.append(token["id"])
                run, strip_next = "", bool(token.get("rstrip"))
        run = run.lstrip() if strip_next else run
        return ids + self._plain(self._inside if ids else self._start, run)

    def _excess(self, texts: Sequence[str], limit: int) -> int:
        """0 where texts may have `limit` tokens or fewer, else about how many. A beginning of them is encoded at
        most: of a text as long as a request may be, all of it would take seconds."""
        size = sum(map(len, texts))
        if size <= 4 * limit:
            return 0
        estimate = max(limit + 1, size // 8)
        if self.longest_token is not None and size > limit * self.longest_token:
            return estimate
        count = 0
        for text in texts:
            start = 0
            while start < len(text):
                end = start + limit
                if end < len(text):  # between two words, if there are any
                    end = max(text.rfind(" ", start + 1, end), 0) or end
                count += len(_ids(self._inside, text[start:end]))
                if count > limit + limit // 8 + 64:  # a cut may add a token or two
                    return estimate
                start = end
        return 0

    def _plain(self, vocabulary: Vocabulary, text: str) -> list[int]:
        """Ids of text, none of them reserved."""
        if not text:
            return []
        if len(text) > _LONG_TEXT and self._reserved_ids.isdisjoint(ids := _ids(vocabulary, text)):
            return ids
        try:
            encoding = vocabulary.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            text = well_formed(text)
            encoding = vocabulary.encode(text, add_special_tokens=False)
        ids = encoding.ids
        if self._reserved_ids.isdisjoint(ids):
            return ids
        # The vocabulary spells a mark as one piece (Unigram may): cut it in two, or leave out what cannot be cut.
        cuts = {0, len(text)}
        for token, (start, end) in zip(ids, encoding.offsets, strict=True):
            if token in self._reserved_ids:
                cuts |= {start, (start + end) // 2, end}
        pieces = [text[a:b] for a, b in pairwise(sorted(cuts))]
        if len(pieces) == 1:
            return [token for token in ids if token not in self._reserved_ids]
        return [token for piece in pieces for token in self._plain(self._inside, piece)]

    def _plain_prompt(self, messages: Sequence[Message]) -> list[int]:
        ids = [] if self.bos_id is None else [self.bos_id]
        for message in messages:
            ids += [*self.encode(f"{_LABELS[message.role]}: {message.content}"), self.end_id]
        return ids + self.encode("Assistant:")

    def _end_of_message(self) -> str | None:
        """The special token that the template puts after an assistant message: what the model learnt to end with.
        eos_token is another one in some models."""
        if self._template is None or self._marks is None:
            return None
        probe = [Message(role="user", content="a"), Message(role="assistant", content="b")]
        try:
            spans = self._template.render(probe, generation_prompt=False) or []
        except ValueError:
            return None
        if not spans or not spans[-1].is_template or len(spans) < 2 or spans[-2].text != "b":
            return None
        found = self._marks.search(spans[-1].text)
        return found[0] if found else None


def _ids(vocabulary: Vocabulary, text: str) -> list[int]:
    """Ids of a text, found without Python's lock: the event loop runs on meanwhile, where this is in a thread."""
    try:
        (encoding,) = vocabulary.encode_batch_fast([text], add_special_tokens=False)
    except (TypeError, UnicodeEncodeError):
        (encoding,) = vocabulary.encode_batch_fast([well_formed(text)], add_special_tokens=False)
    ids: list[int] = encoding.ids
    return ids


def _longest(data: dict[str, Any], reserved: Mapping[str, Any]) -> int | None:
    """Characters that one token of a byte-level vocabulary covers at most; None where its normalizer is not known."""
    shrinks = {None: 1, "NFC": 3}.get((data.get("normalizer") or {}).get("type"))  # three characters may become one
    names = [*data["model"]["vocab"], *(token["content"] for token in data.get("added_tokens") or [])]
    lengths = [len(name) for name in names if isinstance(name, str) and name not in reserved]
    return shrinks * max(lengths) if shrinks and lengths else None


def _window(folder: Path) -> int | None:
    """Tokens that the folder's model can read, where it is a model's."""
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    window = config.get("max_position_embeddings")
    return window if type(window) is int and window > 0 else None


def _added_tokens(data: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The added tokens, checked; reasoning marks in the vocabulary itself count as added."""
    model, added = data.get("model"), data.get("added_tokens") or []
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(pieces, list):  # Unigram: [piece, score], numbered as they stand
        pieces = {str(pair[0]): index for index, pair in enumerate(pieces) if isinstance(pair, list) and pair}
    if not isinstance(pieces, dict) or not isinstance(added, list) or not all(map(_is_added_token, added)):
        raise ConfigError(f"{path} is not a tokenizer that the tokenizers library wrote; download it again")
    known = {token["content"] for token in added}
    hidden = [mark for mark in (THINK, UNTHINK) if mark in pieces and mark not in known]
    return [*added, *({"id": pieces[mark], "content": mark} for mark in hidden)]


def _is_added_token(token: Any) -> bool:
    return isinstance(token, dict) and type(token.get("id")) is int and isinstance(token.get("content"), str)


def _vocabulary(data: dict[str, Any], reserved: dict[str, dict[str, Any]]) -> Vocabulary:
    """A tokenizer that knows no special token in text, never truncates, never pads."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    others = [token for token in data.get("added_tokens") or [] if token["content"] not in reserved]
    marks = [{**flags, **token, "special": True} for token in reserved.values()]
    data = {**data, "added_tokens": sorted(others + marks, key=lambda token: token["id"])}
    try:
        vocabulary = Vocabulary.from_str(json.dumps({**data, "truncation": None, "padding": None}))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"tokenizer.json cannot be read ({error}); download it again") from None
    vocabulary.encode_special_tokens = True  # i.e. as text
    return vocabulary


def _without_prefix_space(data: dict[str, Any]) -> dict[str, Any]:
    """For text that is not at the start: sentencepiece-like tokenizers put a space before the first word only."""

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("prepend_scheme") == "first":
                part["prepend_scheme"] = "never"
            part = list(part.values())
        for child in part if isinstance(part, list) else ():
            walk(child)

    changed = copy.deepcopy(data.get("pre_tokenizer"))
    walk(changed)
    return data if changed == data.get("pre_tokenizer") else {**data, "pre_tokenizer": changed}


def _special_tokens(folder: Path) -> dict[str, str]:
    """bos_token, eos_token, ... -> text."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the second wins
        data = read_json(folder / name) if (folder / name).exists() else {}
        for key in _NAMES:
            if isinstance(text := content_of(data.get(key)), str):
                found[key] = text
    return found


def _eos_ids(folder: Path, special: dict[str, str], ids: dict[str, int]) -> list[Any]:
    """Every eos token that a model folder names, in whatever file."""
    found: list[Any] = [ids.get(special.get("eos_token", ""))]
    for name in (_GENERATION, "config.json"):
        value = read_json(folder / name).get("eos_token_id") if (folder / name).exists() else None
        found += value if isinstance(value, list) else [value]
    return [token for token in found if type(token) is int]


def _exported(name: str, content: bytes) -> bytes:
    """A tokenizer file whose reasoning marks are ordinary added tokens."""
    if not name.endswith(".json"):
        return content
    data = json.loads(content)
    tokens = [*(data.get("added_tokens") or []), *(data.get("added_tokens_decoder") or {}).values()]
    marks = [token for token in tokens if isinstance(token, dict) and token.get("content") in (THINK, UNTHINK)]
    lists = {
        key: [token for token in data[key] if content_of(token) not in (THINK, UNTHINK)]
        for key in ("additional_special_tokens", "extra_special_tokens")
        if isinstance(data.get(key), list)
    }
    if not any(token.get("special") for token in marks) and all(len(data[key]) == len(lists[key]) for key in lists):
        return content
    for token in marks:
        token["special"] = False
    indent = None if name == "tokenizer.json" else 2
    return (json.dumps(data | lists, ensure_ascii=False, indent=indent) + "\n").encode()


def content_of(token: Any) -> Any:
    """The text of a token in a tokenizer's files, where it stands alone or in an object with its flags."""
    return token.get("content") if isinstance(token, dict) else token


def _template_source(folder: Path) -> str | None:
    """chat_template.jinja, or the template in tokenizer_config.json: one, or the one called default of several."""
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read ({error}); {remedy(file)}") from None
    path = folder / "tokenizer_config.json"
    source = read_json(path).get("chat_template") if path.exists() else None
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if source is not None and not isinstance(source, str):
        raise ConfigError(f"{path}: chat_template must be a string, or a list with one called default")
    return source
