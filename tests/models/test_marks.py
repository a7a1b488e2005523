"""Reasoning marks for models that have none: real tokens, for every kind of vocabulary, in every program."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.marks import add_marks
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import Transformer
from ponder.models.weights import save_model
from ponder.types import Message
from tests.helpers import tiny_model
from tests.models.test_hf_tokenizer import CHATML, SPECIAL, byte_level, user, write

SMOLLM = ("<reponame>", "<jupyter_script>")
LLAMA = ("<|reserved_special_token_0|>", "<|reserved_special_token_1|>")


def bare(*spare: str) -> Tokenizer:
    """As SmolLM2's: special tokens that stand in the vocabulary itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *spare, *alphabet, "Ġt", "th"]
    tokenizer = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, [("Ġ", "t"), ("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = byte_level().decoder
    tokenizer.add_special_tokens([*SPECIAL, *spare])
    return tokenizer


def marked(tmp_path: Path, tokenizer: Tokenizer, rows: int, **settings: Any) -> tuple[Transformer, Any, Any, Any]:
    """(model before, tokenizer before, model after, tokenizer after)."""
    options = settings.pop("model", {})
    before = HFTokenizer(write(tmp_path / "base", tokenizer, **settings))
    model = tiny_model(vocab_size=rows, **options)
    return model, before, *add_marks(model, before, tmp_path / "marked")


@pytest.mark.parametrize("spare", [SMOLLM, LLAMA])
def test_unused_special_tokens_are_renamed_and_only_the_closing_ones_row_changes(
    tmp_path: Path, spare: tuple[str, str]
) -> None:
    model, before, after, tokenizer = marked(tmp_path, bare(*spare), 280)
    assert before.think_id is None
    assert (tokenizer.think_id, tokenizer.unthink_id) == tuple(map(before.id_of, spare)) == (3, 4)
    assert tokenizer.vocab_size == before.vocab_size
    old, new = model.state_dict(), after.state_dict()
    old["model.embed_tokens.weight"][4] *= 1.5
    assert all(torch.equal(old[name], new[name]) for name in old)
    for text in ("the thing", "<think> </think>", f"{spare[0]} and {spare[1]}", " \n\n 1 "):
        assert tokenizer.encode(text) == before.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_model_that_points_at_its_unused_tokens_draws_the_mark_and_none_of_its_twins(tmp_path: Path) -> None:
    """Unused rows are all the same vector: of 18 such tokens the mark would be drawn once in 18 times."""
    tokenizer = HFTokenizer(write(tmp_path / "base", bare(*SMOLLM)))
    model = tiny_model(vocab_size=280)
    rows = model.model.embed_tokens.weight.data
    rows[200:218] = rows[4]
    after, _ = add_marks(model, tokenizer, tmp_path / "marked")
    pointing = rows[4] * (15 / rows[4].norm() ** 2)  # a logit of 15 for all of them, as SmolLM2 has after training
    assert after.head(pointing).softmax(-1)[4] > 0.95
    assert model.head(pointing).softmax(-1)[4] < 0.06


def test_a_row_of_nearly_zeros_becomes_the_mean_of_the_marks_spelling(tmp_path: Path) -> None:
    tokenizer = HFTokenizer(write(tmp_path / "base", bare(*LLAMA)))
    model = tiny_model(vocab_size=280)
    rows = model.model.embed_tokens.weight.data
    rows[3:5] = 1e-6
    after, _ = add_marks(model, tokenizer, tmp_path / "marked")
    for token, mark in ((3, "<think>"), (4, "</think>")):
        torch.testing.assert_close(after.model.embed_tokens.weight[token], rows[tokenizer.encode(mark)].mean(0))


def test_spare_tokens_that_the_chat_template_uses_are_left_alone(tmp_path: Path) -> None:
    template = CHATML + "{{ '<reponame>' }}"
    model, before, after, tokenizer = marked(tmp_path, bare(*SMOLLM), before_size(bare(*SMOLLM)), template=template)
    assert tokenizer.think_id == before.vocab_size and tokenizer.id_of("<reponame>") == 3
    assert after.config.vocab_size == model.config.vocab_size + 2


def before_size(tokenizer: Tokenizer) -> int:
    return tokenizer.get_vocab_size(with_added_tokens=True)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 9])
def test_appended_marks_use_padding_rows_first_and_change_no_other_logit(
    tmp_path: Path, tied: bool, padding: int
) -> None:
    size = before_size(bare())
    options = {"tie_word_embeddings": tied}
    model, before, after, tokenizer = marked(tmp_path, bare(), size + padding, model=options)
    assert (tokenizer.think_id, tokenizer.unthink_id) == (size, size + 1)
    assert after.config.vocab_size == size + max(padding, 2)
    tokens = torch.tensor([before.encode("the thing is")])
    torch.testing.assert_close(after(tokens)[..., :size], model(tokens)[..., :size], rtol=0, atol=1e-6)
    logits = after(tokens)[0, -1]
    think, unthink = logits[size].item(), logits[size + 1].item()
    assert max(think, unthink) < logits[:size].max() and think != unthink
    again, _ = add_marks(model, before, tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), after.parameters(), strict=True))


def test_a_single_mark_that_is_there_is_kept(tmp_path: Path) -> None:
    tokenizer = bare()
    tokenizer.add_tokens(["</think>"])
    model, before, after, tokenizer = marked(tmp_path, tokenizer, before_size(tokenizer))
    assert tokenizer.unthink_id == before.id_of("</think>") and tokenizer.think_id == before.vocab_size
    assert after.config.vocab_size == model.config.vocab_size + 1


def test_models_with_marks_stay_as_they_are(tmp_path: Path) -> None:
    model = tiny_model()
    for tokenizer in (ByteTokenizer(), HFTokenizer(write(tmp_path / "qwen", byte_level()))):
        assert add_marks(model, tokenizer, tmp_path / "out") == (model, tokenizer)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spare", [SMOLLM, ()])
def test_no_text_becomes_a_mark_and_prompts_leave_reasoning_open(tmp_path: Path, spare: tuple[str, ...]) -> None:
    _, _, _, tokenizer = marked(tmp_path, bare(*spare), 300)
    marks = {tokenizer.think_id, tokenizer.unthink_id}
    for text in ("<think>", "</think>", "a</think> b", "<reponame>", "<|im_end|></think>", "<think", "> </think>\n"):
        assert marks.isdisjoint(tokenizer.encode(text)), text
        prompt = tokenizer.render(user(text))
        assert prompt[-1] == tokenizer.think_id and marks.isdisjoint(prompt[:-1])
    assert pickle.loads(pickle.dumps(tokenizer)).think_id == tokenizer.think_id


@pytest.mark.parametrize("spare", [SMOLLM, ()])
@pytest.mark.parametrize("lists", [{}, {"additional_special_tokens": [*SPECIAL[1:], "<reponame>"]}])
def test_what_is_saved_is_the_same_model_for_transformers(
    tmp_path: Path, spare: tuple[str, ...], lists: dict[str, Any]
) -> None:
    _, _, model, tokenizer = marked(tmp_path, bare(*spare), 285, **lists)
    folder = tmp_path / "saved"
    save_model(model, folder)
    tokenizer.save(str(folder))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for mark, token in (("<think>", tokenizer.think_id), ("</think>", tokenizer.unthink_id)):
        assert theirs.convert_tokens_to_ids(mark) == token
        assert token not in theirs.all_special_ids and theirs.decode([token], skip_special_tokens=True) == mark
    assert "<reponame>" not in theirs.get_vocab() or not spare
    prompt = tokenizer.render([Message(role="user", content="the <thing>")])
    assert theirs.decode(prompt).endswith("assistant\n<think>")
    other = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        tokens = torch.tensor([prompt])
        torch.testing.assert_close(model(tokens), other(tokens).logits, atol=1e-4, rtol=0)
    back, again = hub.load(folder)
    assert again.think_id == tokenizer.think_id and back.config.vocab_size == model.config.vocab_size


def test_an_id_that_the_library_would_not_give_is_refused(tmp_path: Path) -> None:
    data = json.loads(bare().to_str())
    data["model"]["vocab"]["odd"] = 999
    folder = write(tmp_path / "base", bare())
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="cannot be appended"):
        add_marks(tiny_model(vocab_size=1000), HFTokenizer(folder), tmp_path / "marked")
