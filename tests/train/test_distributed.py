"""The trainer: workers give the same gradient as none, the same bits twice, and bad numbers never reach the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ponder.models.transformer import ModelConfig, Transformer
from ponder.train.batches import Batch, Example, micro_batches
from ponder.train.distributed import Trainer, deal
from ponder.train.losses import LossConfig, token_weights
from ponder.train.replica import NonFiniteLoss, PolicyLoss, SupervisedLoss

pytestmark = pytest.mark.slow

LOSS = LossConfig(average="token")
CONFIG = ModelConfig(
    vocab_size=23, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
)  # fmt: skip


def make_model() -> Transformer:
    model = Transformer(CONFIG)
    model.init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far enough from uniform for every gradient to matter
    return model


def make_examples(count: int = 9, seed: int = 0) -> list[Example]:
    g = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(count):
        prompt, length = 2 + number % 3, 3 + (number * 5) % 11
        ids = torch.randint(22, (prompt + length,), generator=g).tolist()
        rows.append(
            Example(
                prompt_ids=tuple(ids[:prompt]),
                token_ids=tuple(ids[prompt:]),
                trained=tuple(i % 4 != 3 for i in range(length)),
                sampler_logprobs=tuple((-3 + 0.3 * torch.randn(length, generator=g)).tolist()),
                advantage=float(torch.randn((), generator=g)),
            )
        )
    weights = token_weights([row.num_trained for row in rows], LOSS, max_tokens=32)
    return [replace(row, weight=weight) for row, weight in zip(rows, weights, strict=True)]


def make_batches(max_tokens: int = 40) -> list[Batch]:
    return micro_batches(make_examples(), max_tokens=max_tokens)


def gradients(trainer: Trainer) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in trainer.parameters.values() if parameter.grad is not None]


def weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def assert_close(left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def assert_same_bits(left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    assert len(left) == len(right) > 0
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Trainer]:
    """Starting processes takes seconds, so the tests share them and put the weights back."""
    with Trainer(make_model(), num_workers=2) as trainer:
        yield trainer


@pytest.fixture(params=["no workers", "two workers"])
def trainer(request: pytest.FixtureRequest, two_workers: Trainer) -> Trainer:
    if request.param == "no workers":
        return Trainer(make_model(), num_workers=0)
    two_workers.model.load_state_dict(make_model().state_dict())
    two_workers.optimizer.state.clear()
    return two_workers


@pytest.fixture
def alone() -> Trainer:
    return Trainer(make_model(), num_workers=0)


POLICY_LOSS = PolicyLoss(LOSS, temperature=0.8)


# the gradient


def test_any_number_of_workers_gives_the_same_gradient_and_metrics(trainer: Trainer, alone: Trainer) -> None:
    sums, expected = trainer.backward(make_batches(), POLICY_LOSS), alone.backward(make_batches(), POLICY_LOSS)
    assert sums == pytest.approx(expected, rel=1e-5)
    assert sums["tokens"] == sum(row.num_trained for row in make_examples())
    assert_close(gradients(trainer), gradients(alone))
    assert sum(gradient.norm() for gradient in gradients(trainer)) > 0.1


def test_the_same_batches_give_the_same_bits(trainer: Trainer) -> None:
    first = trainer.backward(make_batches(), POLICY_LOSS)
    before = gradients(trainer)
    trainer.backward(make_batches()[:1], POLICY_LOSS)  # nothing of another call stays behind
    assert trainer.backward(make_batches(), POLICY_LOSS) == first
    assert_same_bits(gradients(trainer), before)


def test_padding_and_micro_batch_cuts_leave_the_gradient_unchanged(trainer: Trainer, alone: Trainer) -> None:
    whole = alone.backward(make_batches(10_000), POLICY_LOSS)
    for max_tokens in (1, 30, 60):
        sums = trainer.backward(make_batches(max_tokens), POLICY_LOSS)
        assert sums == pytest.approx(whole, rel=1e-4)
        assert_close(gradients(trainer), gradients(alone))


def test_the_order_of_examples_does_not_matter(alone: Trainer) -> None:
    other = Trainer(make_model(), num_workers=0)
    alone.backward(make_batches(), POLICY_LOSS)
    other.backward(micro_batches(make_examples()[::-1], max_tokens=40), POLICY_LOSS)
    assert_close(gradients(other), gradients(alone))


def test_workers_see_every_step(two_workers: Trainer, alone: Trainer) -> None:
    two_workers.model.load_state_dict(make_model().state_dict())
    two_workers.optimizer.state.clear()
    for _ in range(3):
        for trainer in (two_workers, alone):
            trainer.backward(make_batches(), POLICY_LOSS)
            trainer.step(lr=1e-2, max_norm=1.0)
    assert_close(weights(two_workers), weights(alone))
    assert not torch.allclose(weights(alone)[0], next(make_model().parameters()), atol=1e-3)


def test_logprobs_come_back_in_the_order_of_the_batches(trainer: Trainer) -> None:
    batches = make_batches()
    results = trainer.logprobs(batches, 0.8)
    model = make_model()
    for batch, result in zip(batches, results, strict=True):
        for row, i in enumerate(batch.indices):
            example = make_examples()[i]
            ids = torch.tensor([*example.prompt_ids, *example.token_ids])
            full = (model(ids[None, :-1])[0] / 0.8).log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
            expected = full[-len(example.token_ids) :] * torch.tensor(example.trained)
            torch.testing.assert_close(result[row, : len(expected)], expected.detach())


def test_nothing_to_train_on_gives_a_zero_gradient(trainer: Trainer) -> None:
    trainer.backward(make_batches(), POLICY_LOSS)
    assert trainer.backward([], POLICY_LOSS)["loss"] == 0
    assert all((gradient == 0).all() for gradient in gradients(trainer))


def test_every_batch_goes_to_one_worker_and_the_load_is_even() -> None:
    batches = make_batches(20)
    shares = deal(batches, 3)
    assert sorted(i for share in shares for i in share) == list(range(len(batches)))
    loads = [sum(len(batches[i].tokens_N) for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(len(batch.tokens_N) for batch in batches)
    assert shares == deal(copy.deepcopy(batches), 3)


def test_one_batch_overfits() -> None:
    trainer = Trainer(make_model(), num_workers=0)
    rows = [replace(row, trained=(True,) * len(row.token_ids)) for row in make_examples(3)]
    total = sum(row.num_trained for row in rows)
    batches = micro_batches([replace(row, weight=1 / total) for row in rows], max_tokens=1000)
    losses = []
    for _ in range(150):
        losses.append(trainer.backward(batches, SupervisedLoss())["loss"])
        trainer.step(lr=1e-2, max_norm=1.0)
    assert losses[0] > 2.5 and losses[-1] < 0.1


def test_a_rewarded_completion_becomes_more_likely_and_a_punished_one_less() -> None:
    trainer = Trainer(make_model(), num_workers=0)
    rows = [replace(row, advantage=sign) for row, sign in zip(make_examples(2), (1.0, -1.0), strict=True)]
    batches = micro_batches(rows, max_tokens=1)  # one each

    def score() -> dict[int, float]:
        pairs = zip(batches, trainer.logprobs(batches, 1.0), strict=True)
        return {batch.indices[0]: (logprobs * batch.mask_BT).sum().item() for batch, logprobs in pairs}

    before = score()
    trainer.backward(batches, PolicyLoss(LOSS, 1.0))
    trainer.step(lr=1e-3, max_norm=1.0)
    after = score()
    assert after[0] > before[0] and after[1] < before[1]


# what stops a run


def poisoned() -> list[Batch]:
    batches = make_batches()
    batches[1].advantages_BT[0] = float("inf")
    return batches


def test_a_loss_that_is_not_finite_raises_and_leaves_weights_and_optimizer_untouched(trainer: Trainer) -> None:
    trainer.backward(make_batches(), POLICY_LOSS)
    trainer.step(lr=1e-3, max_norm=1.0)
    before, state = weights(trainer), copy.deepcopy(trainer.optimizer.state_dict())
    with pytest.raises(NonFiniteLoss, match="not changed"):
        trainer.backward(poisoned(), POLICY_LOSS)
    assert_same_bits(weights(trainer), before)
    after = trainer.optimizer.state_dict()
    assert after["param_groups"] == state["param_groups"]
    for key, moments in state["state"].items():
        assert_same_bits(list(after["state"][key].values()), list(moments.values()))
    # and the trainer still works
    assert trainer.backward(make_batches(), POLICY_LOSS)["tokens"] > 0
    assert all(gradient.isfinite().all() for gradient in gradients(trainer))


def test_a_gradient_that_is_not_finite_raises_and_leaves_weights_and_optimizer_untouched(trainer: Trainer) -> None:
    trainer.backward(make_batches(), POLICY_LOSS)
    trainer.step(lr=1e-3, max_norm=1.0)
    trainer.backward(make_batches(), POLICY_LOSS)
    before, state = weights(trainer), copy.deepcopy(trainer.optimizer.state_dict())
    next(iter(trainer.parameters.values())).grad[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(NonFiniteLoss, match="not changed"):
        trainer.step(lr=1e-2, max_norm=1.0)
    assert_same_bits(weights(trainer), before)
    after = trainer.optimizer.state_dict()
    assert after["param_groups"] == state["param_groups"]
    for key, moments in state["state"].items():
        assert_same_bits(list(after["state"][key].values()), list(moments.values()))
    trainer.backward(make_batches(), POLICY_LOSS)
    assert trainer.step(lr=0.0, max_norm=1.0) > 0


def test_step_clips_the_gradient_and_reports_the_norm_before(alone: Trainer) -> None:
    alone.backward(make_batches(), POLICY_LOSS)
    norm = torch.stack([gradient.norm() for gradient in gradients(alone)]).norm().item()
    assert alone.step(lr=0.0, max_norm=norm / 2) == pytest.approx(norm, rel=1e-5)
    clipped = torch.stack([gradient.norm() for gradient in gradients(alone)]).norm().item()
    assert clipped == pytest.approx(norm / 2, rel=1e-4)


def test_a_worker_that_fails_says_why_and_leaves_no_stale_answer_behind(two_workers: Trainer, alone: Trainer) -> None:
    two_workers.model.load_state_dict(make_model().state_dict())
    batches = make_batches()
    for bad in range(len(batches)):  # whichever worker it falls to
        broken = make_batches()
        broken[bad].tokens_N += 99  # no such token
        with pytest.raises(RuntimeError, match="a training worker failed"):
            two_workers.backward(broken, POLICY_LOSS)
        with pytest.raises(RuntimeError, match="a training worker failed"):
            two_workers.logprobs(broken, 1.0)
        sums = two_workers.backward(batches, POLICY_LOSS)
        assert sums == pytest.approx(alone.backward(batches, POLICY_LOSS), rel=1e-5)
        assert_close(gradients(two_workers), gradients(alone))


def test_a_worker_that_dies_is_one_clear_error_and_close_ends_the_others() -> None:
    with Trainer(make_model(), num_workers=2) as trainer:
        processes = [process for _, process in trainer._workers]
        trainer.backward(make_batches(), POLICY_LOSS)
        processes[1].kill()
        processes[1].join(10)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="worker died"):
                trainer.backward(make_batches(), POLICY_LOSS)
    processes[0].join(20)
    assert processes[0].exitcode == 0
