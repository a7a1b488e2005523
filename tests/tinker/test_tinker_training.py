"""Losses, gradients and steps of the Tinker API, against plain torch."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.models import lora
from ponder.tinker.training import LoraSettings, TrainingModel
from ponder.tinker.wire import read_request
from ponder.train.replica import NonFiniteLoss
from tests.tinker.tinkering import datum, read_output, request, sampled, shifted, tiny_base

PROMPT = [10, 20, 30, 40]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def model(base):
    """In training, with an adapter that changes something."""
    made = TrainingModel(base, LoraSettings(rank=4), seed=0, num_workers=0, max_tokens=256)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.trainer.parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.02, generator=generator)
    made.trainer.refresh()
    return made


def run(model, data, loss, **how):
    return read_output(model.forward_backward(read_request(request(data, loss, **how))))


def plain(model, ids, targets, pairs=None):
    """Log-probabilities of the targets by the dense model, with a gradient for the adapter's pairs."""
    base = model.base.model
    pairs = pairs or model.adapter.pairs
    merged = {
        f"{name}.weight": weight + model.adapter.scale * pairs[name][1] @ pairs[name][0]
        for name, weight in lora.targets(base).items()
    }
    weights = {**dict(base.named_parameters()), **merged}
    logits = torch.func.functional_call(base, weights, (torch.tensor([ids]),))[0]
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(targets)[:, None])[:, 0]


def gradients_of(model, loss_of):
    """Of a loss of (ids, targets) -> logprobs, by autograd through the dense model."""
    pairs = {n: (a.clone().requires_grad_(), b.clone().requires_grad_()) for n, (a, b) in model.adapter.pairs.items()}
    loss_of(lambda ids, targets: plain(model, ids, targets, pairs)).backward()
    return {name: (a.grad, b.grad) for name, (a, b) in pairs.items()}


def assert_gradient(model, expected):
    found = model.adapter.over(model._gradient).pairs
    for name, (a, b) in expected.items():
        torch.testing.assert_close(found[name][0], a, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found[name][1], b, atol=1e-4, rtol=1e-3)


def test_cross_entropy_is_the_weighted_sum_of_plain_log_probabilities(model):
    ids, weights = [5, 6, 7, 8, 9], [0.0, 1.0, 0.5, 2.0]
    (told,), metrics = run(model, [shifted(ids, weights)], "cross_entropy")
    expected = plain(model, ids[:-1], ids[1:]).detach()
    np.testing.assert_allclose(told, expected, atol=1e-4)  # of every position, weighted or not
    assert metrics["loss:sum"] == pytest.approx(-(expected @ torch.tensor(weights)).item(), rel=1e-4)


def test_cross_entropy_has_the_gradient_of_plain_torch(model):
    ids = [5, 6, 7, 8, 9]
    run(model, [shifted(ids)], "cross_entropy")
    assert_gradient(model, gradients_of(model, lambda logprobs: -logprobs(ids[:-1], ids[1:]).sum()))


def test_importance_sampling_on_policy_has_the_policy_gradient(model):
    """With what the sampler recorded equal to now, the gradient is that of -advantage * logprob."""
    groups = [([50, 51, 52], 0.75), ([60], -0.25)]
    data, told = [], []
    for own, advantage in groups:
        seen = plain(model, PROMPT + own[:-1], [0] * 3 + own).detach()[3:]
        data.append(sampled(PROMPT, own, seen.tolist(), advantage))
        told.append(seen)
    found, metrics = run(model, data, "importance_sampling")
    for (own, _), seen, each in zip(groups, told, found, strict=True):
        np.testing.assert_allclose(each[3:], seen, atol=1e-4)
        np.testing.assert_allclose(each[:3], plain(model, PROMPT[:3], [0] * 3).detach(), atol=1e-4)
        assert len(each) == 3 + len(own)
    assert metrics["loss:sum"] == pytest.approx(-(3 * 0.75 - 0.25), rel=1e-4)

    def policy_gradient(logprobs):
        return -sum(a * logprobs(PROMPT + own[:-1], [0] * 3 + own)[3:].sum() for own, a in groups)

    assert_gradient(model, gradients_of(model, policy_gradient))


@pytest.mark.parametrize("loss", ["importance_sampling", "ppo", "cispo"])
def test_off_policy_losses_are_their_formulas(model, loss):
    own, recorded, A = [50, 51, 52], [-9.0, -5.0, -1.0], -0.5
    _, metrics = run(model, [sampled(PROMPT, own, recorded, A)], loss)

    def formula(logprobs):
        now = logprobs(PROMPT + own[:-1], [0] * 3 + own)[3:]
        ratio = (now - torch.tensor(recorded)).exp()
        clipped = ratio.clamp(0.8, 1.2)
        return {
            "importance_sampling": -(ratio * A).sum(),
            "ppo": -torch.minimum(ratio * A, clipped * A).sum(),
            "cispo": -(clipped.detach() * A * now).sum(),
        }[loss]

    assert metrics["loss:sum"] == pytest.approx(formula(lambda *x: plain(model, *x)).item(), rel=1e-3)
    expected = gradients_of(model, formula)
    scale = max(b.abs().max().item() for _, b in expected.values())
    found = model.adapter.over(model._gradient).pairs
    for name, (_, b) in expected.items():
        torch.testing.assert_close(found[name][1] / scale, b / scale, atol=1e-3, rtol=1e-2)


def test_clip_thresholds_are_taken_from_the_request(model):
    data = [sampled(PROMPT, [50, 51], [-1.0, -1.0], -0.5)]
    default = run(model, data, "ppo")[1]["loss:sum"]
    assert run(model, data, "ppo", clip_low_threshold=0.1)[1]["loss:sum"] != pytest.approx(default)


def test_sharing_a_prompt_changes_nothing(model):
    own = [[50, 51, 52], [60, 61], [70]]
    together = [sampled(PROMPT, each, [-5.0] * len(each), 0.5) for each in own]
    alone = [
        datum(
            PROMPT + each[:-1], target_tokens=[0] * 3 + each, logprobs=[0.0] * 3 + [-5.0] * len(each),
            advantages=[0.0] * 3 + [0.5] * len(each),
        )
        for each in own
    ]  # fmt: skip
    one, sums = run(model, together, "importance_sampling")
    gradient = {name: grad.clone() for name, grad in model._gradient.items()}
    model._gradient = None
    other, same = run(model, alone, "importance_sampling")
    assert sums["loss:sum"] == pytest.approx(same["loss:sum"], rel=1e-4)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    scale = max(grad.abs().max() for grad in gradient.values())
    for name, grad in gradient.items():
        torch.testing.assert_close(grad / scale, model._gradient[name] / scale, atol=1e-4, rtol=1e-3)


def test_calls_add_up_until_a_step(model):
    one, two = shifted([5, 6, 7, 8]), shifted([15, 16, 17])
    run(model, [one], "cross_entropy")
    run(model, [two], "cross_entropy")
    added = {name: grad.clone() for name, grad in model._gradient.items()}
    model._gradient = None
    run(model, [one, two], "cross_entropy")
    for name, grad in added.items():
        torch.testing.assert_close(grad, model._gradient[name], atol=1e-4, rtol=1e-3)


def test_steps_are_those_of_torchs_adamw(model):
    adam = {"learning_rate": 3e-3, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "weight_decay": 0.1}
    mine = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.trainer.parameters.items()}
    twin = torch.optim.AdamW(mine.values(), lr=3e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    for ids in ([5, 6, 7, 8], [9, 8, 7], [5, 5, 5, 5, 5]):
        run(model, [shifted(ids)], "cross_entropy")
        for name, parameter in mine.items():
            parameter.grad = model._gradient[name].clone()
        norm = torch.nn.utils.get_total_norm([p.grad for p in mine.values()])
        assert model.optim_step(adam)["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
        twin.step()
    for name, parameter in mine.items():
        torch.testing.assert_close(model.trainer.parameters[name].detach(), parameter.detach(), atol=1e-7, rtol=1e-5)


def test_clipping_bounds_the_gradient_that_steps(model):
    run(model, [shifted([5, 6, 7, 8])], "cross_entropy")
    before = {name: parameter.detach().clone() for name, parameter in model.trainer.parameters.items()}
    model.optim_step({"learning_rate": 1.0, "eps": 100.0, "grad_clip_norm": 1.0})  # eps rules: a step is its gradient
    moved = sum((p.detach() - before[n]).pow(2).sum() for n, p in model.trainer.parameters.items()).sqrt()
    assert moved.item() == pytest.approx(1.0 * 1.0 / 100, rel=0.03)


def test_forward_alone_leaves_no_gradient_and_a_step_without_one_is_refused(model):
    run(model, [shifted([5, 6, 7])], "cross_entropy", forward_only=True)
    with pytest.raises(ConfigError, match="call forward_backward before"):
        model.optim_step({})


def test_forward_says_what_forward_backward_says(model):
    data = [shifted([5, 6, 7, 8], [0.0, 1.0, 1.0])]
    one, two = run(model, data, "cross_entropy", forward_only=True), run(model, data, "cross_entropy")
    np.testing.assert_allclose(one[0][0], two[0][0], atol=1e-6)
    assert one[1]["loss:sum"] == pytest.approx(two[1]["loss:sum"], rel=1e-6)


def test_a_loss_that_is_not_finite_changes_nothing(model):
    before = {name: parameter.detach().clone() for name, parameter in model.trainer.parameters.items()}
    with pytest.raises(NonFiniteLoss):
        run(model, [sampled(PROMPT, [50], [-1e30], 0.5)], "importance_sampling")
    assert model._gradient is None
    assert all(torch.equal(p.detach(), before[n]) for n, p in model.trainer.parameters.items())


def test_what_is_saved_goes_on_as_if_never_stopped(model, base, tmp_path):
    run(model, [shifted([5, 6, 7, 8])], "cross_entropy")
    model.optim_step({"learning_rate": 1e-2})
    model.save(tmp_path / "saved", optimizer=True)
    again = TrainingModel(base, LoraSettings(rank=4), seed=9, num_workers=0, max_tokens=256)
    again.load(tmp_path / "saved", optimizer=True)
    for each in (model, again):
        run(each, [shifted([9, 8, 7])], "cross_entropy")
        each.optim_step({"learning_rate": 1e-2})
    for name, parameter in model.trainer.parameters.items():
        assert torch.equal(parameter, again.trainer.parameters[name])


@pytest.mark.parametrize("rank", [1, 8])
def test_weights_of_another_rank_are_refused_and_change_nothing(model, base, tmp_path, rank):
    """A rank of 1 would fit any: torch spreads it."""
    with closing(TrainingModel(base, LoraSettings(rank=rank), seed=1, num_workers=0, max_tokens=256)) as other:
        other.save(tmp_path, optimizer=False)
    before = {name: tensor.clone() for name, tensor in model.adapter.tensors().items()}
    with pytest.raises(ConfigError, match=f"another kind of adapter: rank {rank}"):
        model.load(tmp_path, optimizer=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.adapter.tensors().items())


def test_only_the_layers_asked_for_are_adapted(base):
    made = TrainingModel(base, LoraSettings(rank=2, train_mlp=False), seed=0, num_workers=0, max_tokens=256)
    assert {name.rpartition(".")[2] for name in made.adapter.pairs} == {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.mark.parametrize(
    ("data", "loss", "why"),
    [
        ([shifted([1, 2])], "dpo", "loss_fn 'dpo' is not supported here; use one of cross_entropy"),
        ([shifted([1, 2])], "stable_reinforce", "loss_fn=importance_sampling"),
        ([shifted([1, 2])], "importance_sampling", "takes no 'weights'"),
        ([datum([1, 2], target_tokens=[2, 3], advantages=[1.0, 1.0])], "ppo", "logprobs is missing"),
        ([datum([1, 2], target_tokens=[2])], "cross_entropy", "1 values, its input 2 tokens"),
        ([datum([1, 2], target_tokens=[2, 999])], "cross_entropy", "datum 0: target_tokens must lie in 0 to 263"),
        ([datum([1, 999], target_tokens=[2, 3])], "cross_entropy", "is the tokenizer this model's"),
        ([shifted(list(range(80)))], "cross_entropy", "datum 0 has 79 tokens; this model's window is 64"),
        ([shifted([1, 2], [float("nan")])], "cross_entropy", "not finite"),
        ([], "cross_entropy", "no data"),
    ],
)
def test_a_request_that_cannot_be_done_says_why(model, data, loss, why):
    with pytest.raises(ConfigError, match=why):
        run(model, data, loss)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"beta1": 1.0}, "beta1"),
        ({"momentum": 0.9}, "no 'momentum'"),
        ({"learning_rate": "big"}, "learning_rate"),
    ],
)
def test_adam_settings_that_cannot_be_are_refused(model, params, why):
    run(model, [shifted([1, 2])], "cross_entropy")
    with pytest.raises(ConfigError, match=why):
        model.optim_step(params)


@pytest.mark.slow
def test_two_processes_say_what_one_says(base):
    data = [sampled([index, *PROMPT], own, [-5.0] * len(own), 0.5) for index in range(4) for own in ([50, 51], [60])]
    told = []
    for num_workers in (0, 2):
        made = TrainingModel(base, LoraSettings(rank=4), seed=0, num_workers=num_workers, max_tokens=32)
        logprobs, metrics = run(made, data, "importance_sampling")
        gradient = {name: grad.clone() for name, grad in made._gradient.items()}
        told.append((np.concatenate(logprobs), metrics["loss:sum"], made.optim_step({"learning_rate": 1e-2}), gradient))
        made.close()
    one, two = told
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
    assert one[1] == pytest.approx(two[1], rel=1e-5)
    assert one[2]["grad_norm"] == pytest.approx(two[2]["grad_norm"], rel=1e-4)
    for name, grad in one[3].items():
        torch.testing.assert_close(grad, two[3][name], atol=1e-5, rtol=1e-3)
