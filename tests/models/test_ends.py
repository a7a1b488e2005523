"""Where a completion ends: at each of the model's end marks, here and in transformers, before and after saving."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.models.gguf import convert
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.marks import add_marks
from ponder.models.weights import save_model
from ponder.types import Completion, SamplingParams
from tests.helpers import chain_model, user
from tests.models.test_gguf import as_llama_cpp, small  # noqa: F401 (a fixture)
from tests.models.test_gguf import write as write_gguf
from tests.models.test_hf_tokenizer import write
from tests.models.test_marks import SMOLLM, bare

QWEN = {"generation_config.json": [2, 0], "config.json": 2}  # <|im_end|>, <|endoftext|>
LLAMA = {"generation_config.json": [0, 1, 2], "config.json": [0, 1, 2]}


def made(folder: Path, ends: dict[str, Any], last: int, **options: Any) -> Path:
    """A model folder whose model says "th", "x" and then the end mark `last`, after anything."""
    tokenizer = write(folder, bare(*SMOLLM), **options)
    th, x = (HFTokenizer(folder).id_of(piece) for piece in ("th", "x"))
    assert th and x
    following = {token: [th] for token in range(280)} | {th: [x], x: [last]}
    save_model(chain_model(following, 280), folder)
    for name, ids in ends.items():
        data = json.loads((folder / name).read_text()) if (folder / name).exists() else {"temperature": 0.6}
        (folder / name).write_text(json.dumps(data | {"eos_token_id": ids}))
    return tokenizer


def say(folder: Path) -> Completion:
    with LocalEngine(*hub.load(folder), num_workers=0) as engine:
        params = SamplingParams(temperature=0.0, max_answer_tokens=9)
        return asyncio.run(engine.generate(user("hi"), params))[0]


@pytest.mark.parametrize(
    ("ends", "last"),
    [(QWEN, 2), (QWEN, 0), (LLAMA, 0), (LLAMA, 1), (LLAMA, 2), ({"config.json": [2, 0]}, 0), ({"config.json": 0}, 0)],
)
def test_each_end_mark_that_a_folder_names_ends_a_completion_and_is_kept_in_what_is_saved(
    tmp_path: Path, ends: dict[str, Any], last: int
) -> None:
    folder = made(tmp_path / "model", ends, last)
    one = say(folder)
    assert (one.answer, one.finish_reason, one.num_tokens) == ("thx", "stop", 3)

    model, tokenizer = hub.load(folder)
    saved = tmp_path / "saved"
    save_model(model, saved)
    tokenizer.save(str(saved))
    assert tokenizer.end_ids[0] == tokenizer.end_id == 2
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == list(tokenizer.end_ids)
    again = say(saved)
    assert again.token_ids == one.token_ids and again.finish_reason == "stop"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    prompt = torch.tensor([tokenizer.render(user("hi"))])
    told = theirs.generate(prompt, do_sample=False, max_new_tokens=9, pad_token_id=0)[0, prompt.shape[1] :]
    assert told.tolist() == list(one.token_ids)


def test_end_marks_go_along_when_a_model_gets_reasoning_marks(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", LLAMA, 1)
    _, tokenizer = add_marks(*hub.load(folder), tmp_path / "marked")
    assert tokenizer.end_ids == (2, 0, 1)
    settings = json.loads((tmp_path / "marked" / "generation_config.json").read_text())
    assert settings == {"temperature": 0.6, "eos_token_id": [2, 0, 1]}


def test_only_marks_can_end_a_completion_and_numbers_of_no_mark_are_left_out(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", {"generation_config.json": [2, 77, 10**6, "x", True, None]}, 2)
    assert HFTokenizer(folder).end_ids == (2,)
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ConfigError, match="generation_config.json"):
        HFTokenizer(folder)


def test_a_gguf_file_names_ends_of_text_turn_and_message(small: Any, tmp_path: Path) -> None:  # noqa: F811
    def change(writer: Any) -> None:
        writer.add_uint32("tokenizer.ggml.eot_token_id", 0)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 1)

    file = write_gguf(tmp_path / "a.gguf", as_llama_cpp(small), small.config, change=change)
    folder = convert(file, tmp_path / "ours")
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [2, 0, 1]}
    assert HFTokenizer(folder).end_ids == (2, 0, 1)


def test_transformers_shows_the_mark_between_reasoning_and_answer_of_a_saved_checkpoint(tmp_path: Path) -> None:
    base = write(tmp_path / "base", bare(*SMOLLM))
    _, tokenizer = add_marks(chain_model({}, 280), HFTokenizer(base), tmp_path / "marked")
    think, unthink, end = tokenizer.think_id, tokenizer.unthink_id, tokenizer.end_id
    assert isinstance(tokenizer, HFTokenizer) and think is not None and unthink is not None
    th, x = (tokenizer.id_of(piece) for piece in ("th", "x"))
    assert th and x
    folder = tmp_path / "saved"
    save_model(chain_model({think: [th], th: [unthink], unthink: [x], x: [end]}, 280), folder)
    tokenizer.save(folder)

    pipe = transformers.pipeline("text-generation", model=str(folder), dtype=torch.float32)
    prompt = pipe.tokenizer.decode(tokenizer.render(user("hi")))
    (told,) = pipe(prompt, return_full_text=False, do_sample=False, max_new_tokens=9, add_special_tokens=False)
    assert told["generated_text"] == "th</think>x"

    back = HFTokenizer(folder)
    assert (back.think_id, back.unthink_id) == (think, unthink)
    for text in ("</think>", "a<think>b</think>", "<reponame>", " </think> "):
        assert {think, unthink}.isdisjoint(back.encode(text)) and back.decode(back.encode(text)) == text
        prompt_ids = back.render(user(text))
        assert prompt_ids[-1] == think and {think, unthink}.isdisjoint(prompt_ids[:-1])
    assert back.decode([think, th, unthink, x, end]) == "thx"
    one = say(folder)
    assert (one.reasoning, one.answer, one.finish_reason) == ("th", "x", "stop")
