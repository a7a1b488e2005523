"""Answers of a given form: which tokens may come next so that the answer becomes JSON of a schema.

    form = '[{"before": "", "schema": {"type": "integer"}, "after": ""}]'      # alternatives: text, JSON, text
    answers = Answers(tokenizer)
    answers.mask(owner, form, answer_ids)       # (V,) bool: what may be drawn next; None = nothing is ruled out
    answers.steered(owner, token, room=12)      # the drawn token, or the one that still closes the answer in time

A thin layer over llguidance (MIT, github.com/guidance-ai/llguidance): a lexer of derivatives of regular expressions and
an Earley parser, with a bound on the work of every step. What it does not know of a schema (`not`, `if`, uniqueItems,
...) is left out of the form, so whoever asks checks the whole. Declared properties come in their order, separators are
`", "` and `": "`. The form is armed by the runner when the reasoning is closed, so it never meets a thought.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ponder.config import ConfigError
from ponder.engine.closing import Closing
from ponder.models.tokenizer import ByteTokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

_OPTIONS = {
    "whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ",
    "lenient": True,  # keywords that it does not know are left out
    "coerce_one_of": True,  # oneOf as anyOf
}  # fmt: skip
# Work that one request may cause, about 15 ms a step and 50 ms for compiling; beyond it there is no mask any more.
_LIMITS = {
    "max_items_in_row": 2000, "initial_lexer_fuel": 1_000_000, "step_lexer_fuel": 100_000, "step_max_items": 20_000,
    "max_lexer_states": 10_000, "max_grammar_size": 200_000, "verbose_errors": False,
}  # fmt: skip
_NOTHING_FITS = "Unsatisfiable schema"


class FormError(ValueError):
    """A schema that cannot be made into a form. `is_empty`: because no value fits it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.is_empty = message.startswith(_NOTHING_FITS)


def library() -> Any:
    """The llguidance module. ConfigError, with the extra to install, where it is missing."""
    try:
        import llguidance
    except ImportError:
        raise ConfigError('answers of a given form need llguidance: pip install "ponder[form]"') from None
    return llguidance


class Vocabulary:
    """The tokens of a tokenizer as the library knows them; what is not bytes (marks) is never allowed."""

    def __init__(self, tokenizer: Any) -> None:
        """tokenizer: with `byte_pieces`, see models/tokenizer.py."""
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.end_id

    @functools.cached_property
    def pieces(self) -> list[bytes | None]:
        """The bytes of every token, None for marks; made at the first use."""
        pieces: list[bytes | None] = self.tokenizer.byte_pieces()
        return pieces

    @functools.cached_property
    def _compiled(self) -> LLTokenizer:
        lib = library()
        slices = lib.LLTokenizer.json_slices() if len(self.pieces) > 1000 else []
        return lib.LLTokenizer(_wrapped(self), n_vocab=len(self.pieces), slices=slices)

    def matcher(self, form: str) -> LLMatcher:
        """At its start. Raises FormError, ConfigError."""
        lib = library()
        matcher = lib.LLMatcher(self._compiled, grammar(form), log_level=0, limits=lib.LLParserLimits(**_LIMITS))
        if not matcher.is_error():
            matcher.compute_bitmask()  # it finds out only here that nothing can follow
        if matcher.is_error():
            raise FormError(_reason(matcher.get_error()))
        return matcher

    def tokenized(self, text: bytes) -> list[int]:
        ids: list[int] = self._compiled.tokenize_bytes(text)
        return ids


def _reason(error: str) -> str:
    """The line of the library's message that has the reason."""
    lines = error.partition("<state>")[0].splitlines() or [""]
    error_line = next((line for line in lines if line.startswith("error:")), lines[0])
    return error_line.removeprefix("error: ").partition("failed to compile JSON schema: ")[2][:200] or error_line[:200]


def _wrapped(vocabulary: Vocabulary) -> TokenizerWrapper:
    """What the library asks of a tokenizer."""

    class Wrapped:
        eos_token_id, bos_token_id = vocabulary.end_id, None
        tokens = [b"\xff<%d>" % token if piece is None else piece for token, piece in enumerate(vocabulary.pieces)]
        special_token_ids = [token for token, piece in enumerate(vocabulary.pieces) if piece is None]

        def __call__(self, text: str) -> list[int]:
            if isinstance(text, bytes):
                raise TypeError("text only")  # how the library finds out
            return list(vocabulary.tokenizer.encode(text))

    wrapper: TokenizerWrapper = library().TokenizerWrapper(Wrapped())
    return wrapper


def grammar(form: str) -> str:
    """In the library's dialect of Lark."""
    lines = []
    for index, choice in enumerate(json.loads(form, object_hook=_Lean())):
        schema = choice["schema"]
        if schema is False:
            raise FormError(f"{_NOTHING_FITS}: schema is false")
        schema = {**(schema if isinstance(schema, dict) else {}), "x-guidance": _OPTIONS}
        parts = [json.dumps(choice["before"]), f"%json {json.dumps(schema)}", json.dumps(choice["after"])]
        lines.append(f"a{index}: " + " ".join(part for part in parts if part != '""'))
    return "\n".join(["start: " + " | ".join(f"a{index}" for index in range(len(lines))), *lines])


class _Lean:
    """Leaves out what takes the library too long: `multipleOf` becomes an automaton with as many states as the number
    has, and two of them for one value as many as their least common multiple."""

    def __init__(self) -> None:
        self._first: Any = None
        self._left = 20

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        number = part.get("multipleOf")
        if isinstance(number, int | float):
            self._first, self._left = self._first or number, self._left - 1
            digits = str(number).replace(".", "").lstrip("0")
            if number != self._first or self._left < 0 or not digits.isdigit() or int(digits) > 100:
                del part["multipleOf"]
        return part


_BYTES = Vocabulary(ByteTokenizer())


@functools.lru_cache(maxsize=64)
def form_problem(form: str) -> FormError | None:
    """Why answers cannot be held to a form; None if they can. Raises ConfigError where the library is missing."""
    try:
        _BYTES.matcher(form)
    except FormError as error:
        return error
    return None


@dataclass
class _Sample:
    """One running answer. `matcher` None: the form broke down, and nothing is ruled out."""

    matcher: LLMatcher | None
    closing: Closing | None
    num_read: int = 0  # answer tokens
    forced: list[int] = field(default_factory=list)  # tokens that must come next, whatever the model says


class Answers:
    """The forms of running samples. A sample is named by its owner: (request id, sample index)."""

    def __init__(self, tokenizer: Any) -> None:
        self._vocabulary = Vocabulary(tokenizer)
        self._samples: dict[tuple[int, int], _Sample] = {}
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="ponder-form")
        self.prepare = functools.lru_cache(maxsize=64)(self._prepare)

    def _prepare(self, form: str) -> Future[tuple[LLMatcher, LLMatcher] | None]:
        """Compile beside the decoding, while the reasoning goes on: for the tokens, and for bytes."""
        return self._compiler.submit(self._compiled, form)

    def _compiled(self, form: str) -> tuple[LLMatcher, LLMatcher] | None:
        try:
            return self._vocabulary.matcher(form), _BYTES.matcher(form)
        except FormError:
            return None

    def mask(self, owner: tuple[int, int], form: str, answer_ids: Sequence[int]) -> np.ndarray | None:
        """(V,) bool: tokens that may come next; None where a form broke down, and nothing is ruled out."""
        sample = self._samples.get(owner)
        if sample is None:
            compiled = self.prepare(form).result()
            sample = self._samples[owner] = _Sample(None, None)
            if compiled is not None:
                sample.matcher = compiled[0].deep_copy()
                sample.closing = Closing(
                    compiled[1].deep_copy(), pieces=self._vocabulary.pieces, tokenized=self._vocabulary.tokenized,
                    end_id=self._vocabulary.end_id,
                )  # fmt: skip
        for token in answer_ids[sample.num_read :]:
            sample.forced = sample.forced[1:] if sample.forced[:1] == [token] else []
            if sample.matcher is not None and not sample.matcher.consume_token(token):
                sample.matcher = sample.closing = None
        sample.num_read = len(answer_ids)
        return None if sample.matcher is None else self._mask(sample, sample.matcher)

    def _mask(self, sample: _Sample, matcher: LLMatcher) -> np.ndarray | None:
        size = len(self._vocabulary.pieces)
        sample.forced = sample.forced or matcher.compute_ff_tokens()  # once for a long run of them: it takes long
        if sample.forced:
            mask = np.zeros(size, bool)
            mask[sample.forced[0]] = True
            return mask
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        if matcher.is_error():
            sample.matcher = sample.closing = None
            return None
        return np.unpackbits(bits, count=size, bitorder="little").astype(bool)

    def steered(self, owner: tuple[int, int], token: int, *, room: int) -> int:
        """A drawn token, or another one where its answer could then not be closed in time. room: tokens that are left,
        this one and the end mark among them."""
        sample = self._samples[owner]
        if sample.closing is None:
            return token
        return sample.closing.steered(token, room=room, is_free=not sample.forced)

    def forget(self, request_id: int) -> None:
        """Drop what is known of all samples of a request that is over."""
        self._samples = {owner: sample for owner, sample in self._samples.items() if owner[0] != request_id}


@functools.lru_cache(maxsize=256)
def _pattern_matcher(pattern: str) -> LLMatcher:
    return _BYTES.matcher(json.dumps([{"before": "", "schema": {"type": "string", "pattern": pattern}, "after": ""}]))


def matches(pattern: str, text: str) -> bool:
    """Whether a JSON Schema `pattern` is found in a text, in linear time. Raises FormError for one that is not read
    (look-around, references back) or too large, ConfigError."""
    matcher = _pattern_matcher(pattern).deep_copy()
    encoded = json.dumps(text, ensure_ascii=False).encode(errors="replace")
    for start in range(0, len(encoded), 1000):  # other threads get their turn between two portions
        portion = list(encoded[start : start + 1000])
        if matcher.try_consume_tokens(portion) < len(portion):
            return False
    return bool(matcher.is_accepting())
