"""FSDP2 (torch's fully_shard) around the blocks: two processes with half of every weight each give the gradients of one
process with all of them, as the packed pass calls the modules in whose hooks weights are gathered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ponder import processes
from ponder.models import packed
from ponder.models.transformer import Transformer
from ponder.models.worker import become_worker
from tests.helpers import tiny_model
from tests.models.test_packed import assert_same, pack

pytestmark = pytest.mark.slow

CASES = {
    "plain": ({}, False),
    "recompute": ({"qk_norm": True, "attention_bias": True}, True),
    "own head, recompute": ({"tie_word_embeddings": False}, True),
}
NUM_PROCESSES = 2


def loss(model: Transformer, rank: int, *, recompute: bool = False) -> Tensor:
    """Of a pack that every rank has another of."""
    tokens, layout, _ = pack([(9 + rank, [5, 7]), (4, [])], seed=rank)
    hidden = packed.hidden(model, tokens, layout, recompute=recompute)
    logits = hidden @ model.head_weight.T
    return (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum() / NUM_PROCESSES


def sharded(connection: Any, rank: int, meeting: str) -> None:
    """Sends (loss, gradients) of every case."""
    become_worker()
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=NUM_PROCESSES)
    for changes, recompute in CASES.values():
        model = tiny_model(**changes)
        for block in model.model.layers:
            fully_shard(block)
        fully_shard(model)
        register_fsdp_forward_method(model, "hidden")
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        value = loss(model, rank, recompute=recompute)
        value.backward()
        # the ranks' mean, and here the losses are shares of one
        grads = {name: p.grad.full_tensor() * NUM_PROCESSES for name, p in model.named_parameters()}
        connection.send((value.item(), {name: grad.numpy() for name, grad in grads.items()}))
    torch.distributed.destroy_process_group()


def test_sharded_blocks_have_the_loss_and_the_gradients_of_whole_ones(tmp_path: Path):
    started = [
        processes.start(sharded, (rank, str(tmp_path / "meeting")), name="ponder-fsdp-test")
        for rank in range(NUM_PROCESSES)
    ]
    for changes, _ in CASES.values():
        model = tiny_model(**changes)
        losses = [loss(model, rank) for rank in range(NUM_PROCESSES)]
        sum(losses, torch.zeros(())).backward()
        expected = {name: parameter.grad for name, parameter in model.named_parameters()}
        for (connection, _), whole in zip(started, losses, strict=True):
            assert connection.poll(60), "a sharded process says nothing"
            value, grads = connection.recv()
            assert value == pytest.approx(whole.item(), rel=1e-4, abs=1e-4)
            assert_same({name: torch.from_numpy(grad) for name, grad in grads.items()}, expected)
    for _, process in started:
        process.join(30)
        assert process.exitcode == 0
