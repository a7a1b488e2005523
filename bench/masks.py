"""What holding an answer to a JSON schema costs: compiling a schema, and one mask over the vocabulary.

    pip install "ponder[form]"                      # llguidance, which ponder uses
    pip install --no-deps xgrammar apache-tvm-ffi   # the other; it imports torch and transformers
    python bench/masks.py ~/.cache/ponder/models/smollm2-135m [FOLDER_OF_ANOTHER_TOKENIZER ...]

A document of each schema is walked token by token, and every mask on the way is timed; some schemas are slow by design.
llguidance runs with ponder's limits on its work, xgrammar has none. A library that is not installed is left out with a
line that says so. CPU time of one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ponder.models.hf_tokenizer import load_tokenizer

STRINGS = {"anyOf": [{"type": "string", "maxLength": 20 + place} for place in range(300)]}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
        "kind": {"enum": ["student", "teacher", "guest"]},
    },
    "required": ["name", "age", "tags", "kind"], "additionalProperties": False,
}  # fmt: skip
TREE = {
    "$defs": {"node": {
        "type": "object", "properties": {"v": {"type": "number"}, "l": {"$ref": "#/$defs/node"},
                                         "r": {"$ref": "#/$defs/node"}}, "required": ["v"],
        "additionalProperties": False,
    }},
    "$ref": "#/$defs/node",
}  # fmt: skip
WIDE = {
    "type": "object", "properties": {f"field_{place}": {"type": "string"} for place in range(250)},
    "additionalProperties": False,
}  # fmt: skip
TEXT = "The quick brown fox"
CASES: dict[str, tuple[Any, Any]] = {
    "string": ({"type": "string"}, TEXT * 3),
    "person": (PERSON, {"name": TEXT, "age": 31, "tags": ["reads", "writes"], "kind": "teacher"}),
    "tree": (TREE, {"v": 1.5, "l": {"v": 2, "l": {"v": 3}}, "r": {"v": 4.25}}),
    "any object": ({"type": "object"}, {"a": [1, 2, {"b": TEXT}], "c": None}),
    "250 optional fields": (WIDE, {"field_3": TEXT, "field_77": TEXT}),
    "300 strings": (STRINGS, TEXT),
    "pattern": ({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}, "abc.def.Ghi"),
    "nested pattern": ({"type": "string", "pattern": "^((a|b)*a(a|b){14})+$"}, "aababababababab"),
    "long counts": ({"type": "array", "items": {"type": "string", "minLength": 500, "maxLength": 900}}, ["x " * 300]),
}


def llguidance(folder: Path) -> tuple[int, Callable[[Any], Any], Callable[[Any, int], bool]]:
    from ponder.engine.form import Vocabulary

    tokenizer = load_tokenizer(folder)
    vocabulary = Vocabulary(tokenizer)
    vocabulary.matcher(_form({"type": "null"}))  # the vocabulary is read once: 0.3 and 0.8 s

    def step(state: Any, token: int) -> bool:
        state.compute_bitmask()
        return not state.is_error() and bool(state.consume_token(token))

    return tokenizer.vocab_size, lambda schema: vocabulary.matcher(_form(schema)), step


def _form(schema: Any) -> str:
    return json.dumps([{"before": "", "schema": schema, "after": ""}])


def xgrammar(folder: Path) -> tuple[int, Callable[[Any], Any], Callable[[Any, int], bool]]:
    import xgrammar as xgr

    tokenizer = load_tokenizer(folder)
    pieces = [piece or b"" for piece in tokenizer.byte_pieces]
    info = xgr.TokenizerInfo(pieces, xgr.VocabType.RAW, stop_token_ids=[tokenizer.end_id])
    compiler = xgr.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    bitmask = xgr.allocate_token_bitmask(1, len(pieces))

    def start(schema: Any) -> Any:
        text = json.dumps(schema)
        return xgr.GrammarMatcher(
            compiler.compile_json_schema(text, any_whitespace=False, separators=(", ", ": "), strict_mode=False)
        )

    def step(state: Any, token: int) -> bool:
        state.fill_next_token_bitmask(bitmask)
        return bool(state.accept_token(token))

    return len(pieces), start, step


def measured(library: str, folder: Path) -> Iterator[str]:
    size, start, step = {"llguidance": llguidance, "xgrammar": xgrammar}[library](folder)
    tokenizer = load_tokenizer(folder)
    for name, (schema, value) in CASES.items():
        begun = time.process_time()
        try:
            state = start(schema)
        except Exception as error:
            yield f"| {library} | {size:,} | {name} | refused: {type(error).__name__}: {str(error)[:60]!r} | | | |"
            continue
        compiled = time.process_time() - begun
        ids = tokenizer.encode(json.dumps(value))
        took, rejected = [], ""
        for token in ids:
            begun = time.process_time()
            taken = step(state, token)
            took.append(time.process_time() - begun)
            if not taken:
                rejected = f" (stopped after {len(took)} of {len(ids)} tokens)"
                break
        yield (
            f"| {library} | {size:,} | {name}{rejected} | {1e3 * compiled:.1f} | {1e3 * took[0]:.2f} "
            f"| {1e3 * statistics.median(took):.3f} | {1e3 * max(took):.2f} |"
        )


if __name__ == "__main__":
    print("| library | vocabulary | schema | compile ms | first mask ms | median mask ms | worst mask ms |")
    print("|---|---|---|---|---|---|---|")
    for folder in sys.argv[1:]:
        for library in ("llguidance", "xgrammar"):
            try:
                for line in measured(library, Path(folder).expanduser()):
                    print(line, flush=True)
            except ImportError as error:
                print(f"{library} is not installed ({error}): left out", file=sys.stderr)
