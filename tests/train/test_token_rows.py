"""Marks that a vocabulary did not have are trained with an adapter: their rows in the embeddings and in the head."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parametrize

from ponder.engine.local import LocalEngine
from ponder.models import hub, lora
from ponder.models.weights import save_model
from ponder.train.batches import Example, collate
from ponder.train.distributed import Trainer
from ponder.train.learner import policy_of
from ponder.train.policy import open_policy
from ponder.train.recipe import RLConfig
from ponder.train.replica import SupervisedLoss
from ponder.train.rl import rl
from ponder.train.sft import SFTConfig, sft
from ponder.types import Message, SamplingParams
from tests.helpers import tiny_model
from tests.models.test_hf_tokenizer import write
from tests.models.test_marks import SMOLLM, bare
from tests.models.test_parity import their_model

IDS = (7, 250)


def example(seed: int, n: int = 9) -> Example:
    tokens = torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    tokens[2], tokens[5] = IDS  # as targets, and as context of what follows
    return Example(
        prompt_ids=(1, 2, IDS[0], 3), token_ids=tuple(tokens), trained=(True,) * (n - 1) + (False,), weight=0.3
    )


def with_rows(model, rows: dict[str, lora.TokenRows]):
    """The model with a gradient for the rows: by plain differentiation, through the whole table."""

    class Written(torch.nn.Module):
        def __init__(self, row: lora.TokenRows) -> None:
            super().__init__()
            self.row = row

        def forward(self, table):
            return table.index_copy(0, torch.tensor(self.row.ids), self.row.values())

    for name, row in rows.items():
        parametrize.register_parametrization(model.get_submodule(name), "weight", Written(row))
    return model


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_gradient_of_trained_rows_is_that_of_plain_differentiation(is_tied, num_workers):
    model = tiny_model(tie_word_embeddings=is_tied)
    adapter = replace(lora.fresh(model, 2, seed=0), rows=lora.token_rows(model, IDS))
    for row in adapter.rows.values():
        row.delta.normal_(generator=torch.Generator().manual_seed(1))
    examples = [example(0), example(1)]

    plain = tiny_model(tie_word_embeddings=is_tied).requires_grad_(False)
    leaves = {n: replace(row, delta=row.delta.clone().requires_grad_()) for n, row in adapter.rows.items()}
    with_rows(plain, leaves)
    loss = torch.zeros(())
    for one in examples:
        ids = torch.tensor([one.prompt_ids + one.token_ids])
        start = len(one.prompt_ids)
        logprobs = (plain(ids)[0, start - 1 : -1] / 0.8).log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0]
        loss = loss - one.weight * logprobs[torch.tensor(one.trained)].sum()
    loss.backward()

    with Trainer(model, num_workers=num_workers, adapter=adapter) as trainer:
        sums = trainer.backward([collate([one]) for one in examples], SupervisedLoss(temperature=0.8))
        assert sums["loss"] == pytest.approx(loss.item(), rel=1e-4)
        for name, row in leaves.items():
            trained = trainer.parameters[f"base_model.model.{name}.token_adapter.trainable_tokens_delta"]
            torch.testing.assert_close(trained.grad, row.delta.grad, rtol=1e-3, atol=1e-5)
            assert trained.grad.abs().min(dim=1).values.max() > 0
        before = model.get_parameter(f"{next(iter(leaves))}.weight").detach().clone()
        trainer.step(lr=0.1, max_norm=0.0)
        changed = (model.get_parameter(f"{next(iter(leaves))}.weight") != before).any(dim=1)
        assert changed.nonzero()[:, 0].tolist() == list(IDS)  # these rows of the table, and no other


FAMILIES = {
    "Qwen3": ("Qwen3", bare, 261),
    "Qwen2.5, tied": ("Qwen2.5 small, tied", bare, 300),
    "Qwen2": ("Qwen2", bare, 261),
    "SmolLM2, spare tokens": ("SmolLM2", lambda: bare(*SMOLLM), 263),
    "Mistral": ("Mistral without window", bare, 261),
}


def pretrain(folder: Path) -> None:
    """All weights, until the model works in its answer: it has no marks."""
    model, tokenizer = hub.load(folder)
    assert tokenizer.unthink_id is None
    said = (*tokenizer.encode("1 + 1 = 2\n2"), tokenizer.end_id)
    prompt = tuple(tokenizer.render([Message(role="user", content="What is 1 + 1?")]))
    one = Example(prompt_ids=prompt, token_ids=said, trained=(True,) * len(said), weight=1 / len(said))
    with Trainer(model, num_workers=0) as trainer:
        for _ in range(60):
            loss = trainer.backward([collate([one])], SupervisedLoss())["loss"]
            trainer.step(lr=5e-3, max_norm=1.0)
    assert loss < 0.05
    save_model(model, folder)


def cold_start(tmp_path: Path, family: str) -> SFTConfig:
    name, vocabulary, rows = FAMILIES[family]
    theirs = their_model(name, vocab_size=rows, max_position_embeddings=128, num_hidden_layers=2)
    theirs.save_pretrained(tmp_path / "base")
    write(tmp_path / "base", vocabulary())
    pretrain(tmp_path / "base")
    row = {"problem": "What is 1 + 1?", "reasoning": "1 + 1 = 2", "answer": "2"}
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(8)))
    return SFTConfig(
        out=str(tmp_path / "sft"), model=str(tmp_path / "base"), data=str(tmp_path / "data.jsonl"), num_steps=60,
        batch_size=4, warmup_steps=5, num_workers=0, lora_rank=8, lr=1e-2, weight_decay=0.0, save_every=1000,
    )  # fmt: skip


def share_closed(folder: Path) -> float:
    """Of 64 samples, how many close their reasoning themselves."""
    model, tokenizer = hub.load(folder)
    params = SamplingParams(max_reasoning_tokens=40, max_answer_tokens=4)
    with LocalEngine(model, tokenizer, num_workers=0) as engine:
        prompt = [Message(role="user", content="What is 1 + 1?")]
        drawn = asyncio.run(engine.generate(prompt, params, n=64))
    return sum(
        any(token == tokenizer.unthink_id and own for token, own in zip(c.token_ids, c.sampled, strict=True))
        for c in drawn
    ) / len(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_after_a_short_cold_start_with_an_adapter_a_model_closes_its_reasoning(family, tmp_path):
    config = cold_start(tmp_path, family)
    folder = sft(config)
    assert share_closed(folder) >= 0.95
    # what PEFT reads, what ponder merges and what was trained are one model
    merged, _ = hub.load(folder / "adapter")
    trained, tokenizer = hub.load(folder)
    marks = [tokenizer.think_id, tokenizer.unthink_id]
    for name in lora.tables(trained):
        table = f"{name}.weight"
        torch.testing.assert_close(
            merged.get_parameter(table)[marks], trained.get_parameter(table)[marks], rtol=0, atol=1e-6
        )


@pytest.mark.slow
def test_a_run_after_an_adapter_run_goes_on_with_its_rows(tmp_path):
    folder = sft(replace(cold_start(tmp_path, "Qwen2"), num_steps=4))
    policy = open_policy(str(folder), tmp_path / "next", dtype="float32", lora_rank=8, seed=1, sources=[])
    saved, tokenizer = hub.load(folder)
    assert set(policy.adapter.rows) == {"model.embed_tokens", "lm_head"}
    for name, rows in policy.adapter.rows.items():
        assert rows.ids == tuple(sorted((tokenizer.think_id, tokenizer.unthink_id)))
        kept = saved.get_parameter(f"{name}.weight")[list(rows.ids)]
        torch.testing.assert_close(rows.values(), kept, rtol=0, atol=1e-6)
        torch.testing.assert_close(policy.model.get_parameter(f"{name}.weight")[list(rows.ids)], rows.values())


def test_a_run_without_room_to_reason_gives_its_model_no_marks(tmp_path):
    """Behind a mark that nothing taught it, a model that writes programs forgets how they begin."""
    name, vocabulary, rows = FAMILIES["Qwen2"]
    their_model(name, vocab_size=rows, max_position_embeddings=256, num_hidden_layers=2).save_pretrained(
        tmp_path / "base"
    )
    write(tmp_path / "base", vocabulary())
    config = RLConfig(
        out=str(tmp_path / "rl"), model=str(tmp_path / "base"), task="arithmetic:level=1", num_steps=1, lora_rank=2,
        problems_per_step=2, group_size=2, max_reasoning_tokens=0, max_answer_tokens=4, num_workers=0, pool_size=4,
    )  # fmt: skip
    folder = rl(config)
    trained, tokenizer = hub.load(folder)
    _, before = hub.load(tmp_path / "base")
    said = [Message(role="user", content="What is 1 + 1?")]
    assert tokenizer.think_id is None and tokenizer.render(said) == before.render(said)
    assert hub.load(folder / "adapter")[1].think_id is None
    assert trained.config.vocab_size == hub.load(tmp_path / "base")[0].config.vocab_size
    policy = open_policy(str(folder), tmp_path / "next", dtype="float32", lora_rank=2, seed=1, sources=[], thinks=False)
    assert policy.tokenizer.think_id is None and not policy.adapter.rows
    thinking = policy_of(replace(config, max_reasoning_tokens=8), tmp_path / "other", [])
    assert thinking.tokenizer.think_id is not None and thinking.adapter.rows
