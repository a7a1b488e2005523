"""Sharded training gives what one process gives, whatever the number of ranks, and says which rank is gone."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ponder.files import read_jsonl
from ponder.models import lora
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import Transformer
from ponder.models.weights import load_model, save_model
from ponder.train.batches import micro_batches
from ponder.train.critic import Critic
from ponder.train.distributed import Trainer
from ponder.train.local_ranks import LocalRank
from ponder.train.policy import Policy
from ponder.train.publish import WeightStore
from ponder.train.recipe import RLConfig
from ponder.train.replica import NonFiniteLoss, PolicyLoss
from ponder.train.rl import rl
from ponder.train.sharded import RankError, ShardedLearner
from tests.helpers import tiny_model
from tests.train.test_distributed import LOSS, make_examples, make_model

POLICY_LOSS = PolicyLoss(LOSS, temperature=1.0)
BATCHES = micro_batches(make_examples(), max_tokens=40)


class Reused:
    """A rank whose process serves one group after the other: to start one takes seconds."""

    def __init__(self, rank: LocalRank) -> None:
        self.host, self.call, self.process = rank.host, rank.call, rank.process

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def ranks() -> Iterator[Callable[[int], list[Reused]]]:
    """So many running ranks; one that a test has ended is started again."""
    running: list[LocalRank] = []

    def some(count: int) -> list[Reused]:
        for i in range(count):
            if i == len(running):
                running.append(LocalRank(i))
            elif not running[i].process.is_alive():
                running[i] = LocalRank(i)
        return [Reused(rank) for rank in running[:count]]

    yield some
    for rank in running:
        rank.close()


@pytest.fixture
def open_learner(ranks, tmp_path) -> Iterator[Callable[..., ShardedLearner]]:
    opened: list[ShardedLearner] = []

    def open(world: int, model: Transformer | None = None, adapter=None, **how) -> ShardedLearner:
        policy = Policy(model or make_model(), ByteTokenizer(), adapter, "a base", None, ())
        folder = tmp_path / f"start{len(opened)}"
        store = WeightStore(tmp_path / f"weights{len(opened)}", full_every=how.pop("full_every", 1))
        opened.append(ShardedLearner(policy, ranks(world), folder=folder, store=store, **{"timeout": 60.0} | how))
        return opened[-1]

    yield open
    for learner in opened:
        learner.close()


def train(trainer: Trainer | ShardedLearner, num_steps: int = 1, *, max_norm: float = 0.5) -> list[float]:
    """Losses and gradient norms."""
    told = []
    for _ in range(num_steps):
        told += [trainer.backward(BATCHES, POLICY_LOSS)["loss"], trainer.step(lr=1e-3, max_norm=max_norm)]
    return told


def one_process(num_steps: int, model: Transformer | None = None, *, max_norm: float = 0.5, **how):
    trainer = Trainer(model or make_model(), num_workers=0, **how)
    return train(trainer, num_steps, max_norm=max_norm), trainer


def apart(left: dict[str, Tensor], right: dict[str, Tensor], kind: str = "") -> float:
    assert left.keys() == right.keys() != set()
    return max((left[n].double() - right[n].double()).abs().max().item() for n in left if n.startswith(kind))


def test_two_ranks_have_the_gradient_of_one_process(open_learner):
    """After one step without clipping the first moment is a tenth of the gradient, here of at most 0.03."""
    learner, trainer = open_learner(2, recompute=True), Trainer(make_model(), num_workers=0)
    batches = [replace(batch, weights_B=batch.weights_B / 32) for batch in BATCHES]
    told = []
    for each in (learner, trainer):
        told.append((each.backward(batches, POLICY_LOSS)["loss"], each.step(lr=1e-3, max_norm=0.0)))
    assert told[0] == pytest.approx(told[1], rel=1e-6)
    assert 10 * apart(learner.tensors(), trainer.tensors(), "exp_avg/") < 1e-8


def test_gradients_of_ranks_are_added_not_averaged(open_learner):
    """The loss is a sum with weights of the whole batch: the mean over ranks would be world times too small."""
    both = BATCHES[:2]
    learner, parts = open_learner(2), []
    learner.backward(both, POLICY_LOSS)
    learner.step(lr=1e-3, max_norm=0.0)
    for batch in both:
        trainer = Trainer(make_model(), num_workers=0)
        trainer.backward([batch], POLICY_LOSS)
        trainer.step(lr=1e-3, max_norm=0.0)
        parts.append(trainer.tensors())
    found, size = learner.tensors(), 0.0
    for name in found:
        if name.startswith("exp_avg/"):
            torch.testing.assert_close(found[name], parts[0][name] + parts[1][name], rtol=1e-4, atol=1e-8)
            size = max(size, found[name].abs().max().item())
    assert size > 1e-4


@pytest.mark.parametrize("world", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_six_steps_are_those_of_one_process_and_go_on_from_a_state_in_any_world(open_learner, tmp_path, world):
    state = tmp_path / "state" / "state.safetensors"
    learner = open_learner(world)
    told = train(learner, 3)
    learner.save_state(state, {"facts": "{}"})  # ranks write while the next steps change the weights
    told += train(learner, 3)
    expected, trainer = one_process(6)
    assert told == pytest.approx(expected, rel=2e-6)
    final = learner.tensors()
    assert apart(final, trainer.tensors(), "weights/") < 2e-6  # 7e-7 with AVX-512, 1.2e-6 with AVX2
    learner.close()

    again = open_learner(world, make_model())
    again.load_state(state)
    assert train(again, 3) == told[6:] and apart(again.tensors(), final) == 0.0
    again.close()
    other = open_learner(3 - world if world < 3 else 2, make_model())
    other.load_state(state)
    train(other, 3)
    assert apart(other.tensors(), final, "weights/") < 1e-6


@pytest.mark.parametrize(
    ("world", "dtype", "near"),
    [(2, torch.float32, 1e-6), (2, torch.bfloat16, 0.01), pytest.param(3, torch.float32, 1e-6, marks=pytest.mark.slow)],
)
def test_an_adapter_is_trained_and_merged_row_by_row(open_learner, tmp_path, world, dtype, near):
    """Odd numbers of rows, fewer rows of tokens than ranks, and what is sampled from: the merged weights."""
    model = make_model().to(dtype)
    adapter = replace(lora.fresh(model, 3, seed=1), rows=lora.token_rows(model, [4, 19]))
    learner = open_learner(world, make_model().to(dtype), adapter)
    told = train(learner, 2)
    expected, trainer = one_process(2, model, adapter=adapter)
    assert told == pytest.approx(expected, rel=2 * near)
    assert apart(learner.tensors(), trainer.tensors(), "weights/") < near
    assert learner.passes == trainer.passes == 2
    learner.save(tmp_path / "rung")
    merged = load_model(tmp_path / "rung", dtype=dtype).state_dict()
    assert apart(merged, trainer.model.state_dict()) < near
    assert apart(dict(learner.publish(1)), merged) == 0.0
    known = lora.load_adapter(tmp_path / "rung" / "adapter", make_model())
    assert max((known.pairs[n][1] - trainer.adapter.pairs[n][1]).abs().max().item() for n in known.pairs) < near


def test_bf16_computes_what_one_process_computes_over_float32_masters(open_learner):
    learner = open_learner(2, make_model().bfloat16())
    told = train(learner, 2)
    expected, trainer = one_process(2, make_model().bfloat16())
    assert told == pytest.approx(expected, rel=0.02)
    found = learner.tensors()
    assert {x.dtype for x in found.values()} == {torch.float32}
    assert apart(found, trainer.tensors(), "weights/") < 2.5e-3  # Adam's first steps are lr whatever the gradient
    assert learner.publish(1)["model.norm.weight"].dtype == torch.bfloat16


def test_a_critic_reads_the_states_of_ranks_as_those_of_one_process(open_learner):
    generator = torch.Generator().manual_seed(0)
    batches = [replace(b, returns_BT=torch.randn(b.mask_BT.shape, generator=generator)) for b in BATCHES]
    learner, trainer, critic = open_learner(2), Trainer(make_model(), num_workers=0), Critic(16)
    for _ in range(2):  # before it knows anything, and after
        ours, theirs = (each.values(batches, critic.reading()) for each in (learner, trainer))
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
        critic.learn(sum(x[b.mask_BT.numel() :].numpy().reshape(critic.shape) for x, b in zip(ours, batches)))  # noqa: B905
    assert critic.head().any()


def test_log_probabilities_are_of_the_weights_of_the_moment_and_a_reference_stays(open_learner, tmp_path):
    learner = open_learner(2)
    learner.save(tmp_path / "first")
    reference = learner.reference(tmp_path / "first")
    before, state = learner.logprobs(BATCHES, 0.7), learner.tensors()
    learner.backward(BATCHES[:1], POLICY_LOSS)  # fewer batches than ranks: the other one has a pass for nothing
    learner.step(lr=1e-2, max_norm=0.0)
    trainer = Trainer(make_model(), num_workers=0)
    trainer.backward(BATCHES[:1], POLICY_LOSS)
    trainer.step(lr=1e-2, max_norm=0.0)
    for ours, theirs in zip(learner.logprobs(BATCHES, 0.7), trainer.logprobs(BATCHES, 0.7), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    learner.restore(state.__getitem__, state.keys())  # what the last pass has gathered is stale now
    for told in (reference.logprobs(BATCHES, 0.7), learner.logprobs(BATCHES, 0.7)):
        for ours, theirs in zip(told, before, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_rung_loads_in_transformers(open_learner, tmp_path):
    transformers = pytest.importorskip("transformers")
    learner = open_learner(2, full_every=3)
    first = {name: x.clone() for name, x in learner.publish(1).items()}
    train(learner, 1)
    learner.save(tmp_path / "rung")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "rung")
    own = load_model(tmp_path / "rung")
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, own(tokens), rtol=1e-4, atol=1e-4)
    assert (tmp_path / "rung" / "training.json").exists()
    assert apart(dict(learner.publish(2)), own.state_dict()) == 0.0  # by what changed since version 1
    assert apart(first, own.state_dict()) > 0


def test_a_loss_that_is_not_finite_stops_before_the_weights(open_learner):
    learner = open_learner(2)
    before = learner.tensors()
    bad = replace(BATCHES[0], advantages_BT=BATCHES[0].advantages_BT * float("nan"))
    with pytest.raises(NonFiniteLoss, match="weights were not changed"):
        learner.backward([bad, *BATCHES[1:]], POLICY_LOSS)
    with pytest.raises(NonFiniteLoss):
        learner.step(lr=1e-3, max_norm=1.0)
    with pytest.raises(ValueError, match="lr=nan"):
        learner.step(lr=float("nan"), max_norm=1.0)
    assert apart(learner.tensors(), before) == 0.0
    train(learner)  # and a good batch is learned from


def test_a_state_of_another_backend_is_refused_with_the_reason(open_learner, tmp_path):
    save_file({"weights/x": torch.ones(1)}, tmp_path / "state.safetensors", metadata={"facts": "{}"})
    with pytest.raises(ValueError, match="go on with the backend that the run began with"):
        open_learner(1).load_state(tmp_path / "state.safetensors")


def test_a_killed_rank_is_named_at_once(open_learner):
    learner = open_learner(2)
    os.kill(learner.ranks[1].process.pid, signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(RankError, match=r"rank 1: its process ended \(exit code -9\)"):
        train(learner)
    assert time.monotonic() - begun < 20  # not the timeout of 60
    with pytest.raises(RankError, match="rank 1"):
        learner.logprobs(BATCHES, 1.0)


@pytest.mark.parametrize("call", ["train", pytest.param("publish", marks=pytest.mark.slow)])
def test_a_rank_that_hangs_is_named_when_the_others_have_waited_long_enough(open_learner, call):
    """In a pass, where they wait for it in the middle, and where each works for itself."""
    learner = open_learner(2, timeout=8.0)
    process = learner.ranks[1].process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RankError, match="rank 1 did not answer: it hangs"):
            train(learner) if call == "train" else learner.publish(1)
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
def test_a_call_that_nobody_answers_ends_after_the_patience(open_learner):
    learner = open_learner(1, patience=5.0)
    process = learner.ranks[0].process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RankError, match="rank 0 did not answer"):
            train(learner)
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
def test_the_loop_over_ranks_learns_what_the_local_one_learns_and_goes_on_from_their_state(tmp_path):
    save_model(tiny_model(), tmp_path / "base")
    ByteTokenizer().save(str(tmp_path / "base"))

    def run(out: str, num_steps: int, backend: str = "sharded") -> Path:
        rl(
            RLConfig(
                out=str(tmp_path / out), model=str(tmp_path / "base"), task="tests.helpers:LowercaseTask",
                num_steps=num_steps, pool_size=16, problems_per_step=6, group_size=8, max_reasoning_tokens=3,
                max_answer_tokens=4, lr=3e-3, save_every=5, warmup_steps=1, num_workers=0, backend=backend,
            )
        )  # fmt: skip
        return tmp_path / out

    def last(folder: Path) -> dict[str, Tensor]:
        return load_model(folder / "checkpoints" / "step_00003").state_dict()

    local, whole, parted = run("local", 3, "local"), run("whole", 3), run("parted", 2)
    run("parted", 3)
    assert apart(last(whole), last(local)) < 1e-4
    assert apart(last(whole), last(parted)) == 0.0
    rows = [list(read_jsonl(folder / "metrics.jsonl")) for folder in (local, whole)]
    assert rows[1][0]["reward/mean"] == rows[0][0]["reward/mean"]
    assert max(row["policy/mismatch_max"] for row in rows[1]) < 1e-4


def test_one_file_imports_torch_distributed():
    """The core, and a driver that holds no weights, do without it."""
    line = re.compile(r"^\s*(import|from) torch\.distributed", re.MULTILINE)
    files = (Path(__file__).parent.parent.parent / "ponder").rglob("*.py")
    assert [path.name for path in files if line.search(path.read_text())] == ["rank.py"]
