"""`backend = "tinker"`: the gradient of the local trainer, a run that goes on, and one clear error for what fails."""

from __future__ import annotations

import ast
import asyncio
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from ponder.config import ConfigError
from ponder.files import read_jsonl
from ponder.models import hub, lora
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import read_config, save_model
from ponder.tinker.sampling import Version
from ponder.train import tinker_backend as module
from ponder.train.batches import Example, micro_batches
from ponder.train.learner import LocalLearner
from ponder.train.losses import LossConfig
from ponder.train.policy import Policy
from ponder.train.recipe import RLConfig, TinkerConfig
from ponder.train.replica import PolicyLoss
from ponder.train.rl import PolicyMismatch, rl
from ponder.train.tinker_backend import ServiceCalls, ServiceLost, TinkerLearner, TinkerSampler
from ponder.train.tinker_losses import rows_of
from ponder.types import SamplingParams
from tests.helpers import tiny_model, user
from tests.tinker.sdk_double import Promise, sdk_double
from tests.tinker.tinkering import NAME

ROOT = Path(__file__).parents[2]
TOY = "tests.helpers:LowercaseTask"


def start():
    model = tiny_model()
    model.model.embed_tokens.weight.data.mul_(2.5)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """Its head's rows are large enough for an adapter to prefer some tokens (docs/tinker.md)."""
    folder = tmp_path_factory.mktemp("base")
    save_model(start(), folder)
    ByteTokenizer().save(str(folder))
    return str(folder)


@pytest.fixture
def sdk(base, tmp_path):
    with sdk_double(Path(base), tmp_path / "service") as double:
        yield double


def recipe(base: str, out: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(out), "model": base, "task": TOY, "num_steps": 5, "pool_size": 16, "problems_per_step": 4,
        "group_size": 6, "max_reasoning_tokens": 3, "max_answer_tokens": 4, "lr": 1e-2, "save_every": 2,
        "warmup_steps": 1, "lora_rank": 4, "backend": "tinker", "tinker": TinkerConfig(base_model=NAME),
        "log_rollouts": True,
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


# ---- gradients


def halved(ratio_BT, A, logprobs_BT, config):
    """An objective of one's own."""
    return torch.sqrt(ratio_BT) * A, ratio_BT > 2


@pytest.fixture
def pair(base, sdk, tmp_path):
    """(a learner of the service, a local one with the same adapter), both away from their base."""
    config = recipe(base, tmp_path / "out")
    far = TinkerLearner(ServiceCalls(sdk), config, read_config(Path(base)), Path(base), [])
    model = far.client.model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.trainer.parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.05, generator=generator)
    model.trainer.refresh()
    own, tokenizer = hub.load(base)
    policy = Policy(own, tokenizer, lora.fresh(own, 4, config.seed), base, None, ())
    with LocalLearner(policy, num_workers=0) as near:
        tensors = model.trainer.tensors()
        near.restore(tensors.__getitem__, tensors)
        yield far, near


def batches_of(near: LocalLearner, *, has_old: bool) -> list:
    """Shared and single prompts, forced tokens, lengths of 1 to 6, and samplers that were somewhat elsewhere."""
    generator = torch.Generator().manual_seed(2)
    draw = lambda n: tuple(torch.randint(0, 256, (n,), generator=generator).tolist())
    prompts, examples = [draw(5), draw(1), draw(7)], []
    for prompt, length in zip((*prompts, prompts[0], prompts[0], prompts[2]), (6, 3, 1, 4, 2, 5), strict=True):
        trained = tuple(i != 1 for i in range(length))
        examples.append(
            Example(prompt_ids=prompt, token_ids=draw(length), trained=trained, advantage=float(len(examples) - 2.5),
                    weight=0.1 + 0.02 * length, sampler_logprobs=(0.0,) * length, ref_logprobs=(-5.0,) * length)
        )  # fmt: skip
    batches = micro_batches(examples, max_tokens=24)
    assert len(batches) > 1
    for batch, now_BT in zip(batches, near.logprobs(batches, 1.0), strict=True):
        noise = lambda like: 0.5 * torch.randn(like.shape, generator=generator)
        batch.sampler_logprobs_BT = torch.where(batch.mask_BT, now_BT + noise(now_BT), 0.0)
        if has_old:
            batch.old_logprobs_BT = torch.where(batch.mask_BT, batch.sampler_logprobs_BT + noise(now_BT), 0.0)
    return batches


@pytest.mark.parametrize(
    ("has_old", "loss", "verb"),
    [
        (False, {}, "forward_backward cispo"),
        (False, {"mismatch_cap": 1.1}, "forward_backward cispo"),
        (False, {"mismatch_cap": 0.0}, "forward_backward cispo"),
        (False, {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}, "forward_backward cispo"),
        (False, {"clip": "cispo", "clip_high": 4.0}, "forward_backward cispo"),
        (True, {"clip_low": 0.1, "clip_high": 0.3}, "forward_backward ppo"),
        (True, {"clip_low": 0.1, "clip_high": 0.3, "mismatch_cap": 0.0}, "forward_backward ppo"),
        (True, {"clip": "cispo", "clip_high": 0.2}, "forward_backward cispo"),
        (True, {"ratio": "sequence"}, "forward_backward_custom"),
        (True, {"kl": 0.1}, "forward_backward_custom"),
        (False, {"clip": "tests.tinker.test_tinker_backend:halved"}, "forward_backward_custom"),
    ],
)
def test_every_objective_has_the_gradient_the_step_and_the_figures_of_the_local_trainer(pair, sdk, has_old, loss, verb):
    far, near = pair
    batches = batches_of(near, has_old=has_old)
    function = PolicyLoss(LossConfig(**loss), 1.0)
    sdk.calls.clear()
    found, expected = far.backward(batches, function), near.backward(batches, function)
    assert sdk.calls == [verb]
    assert expected.pop("entropy") > 0  # which a service does not say
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    gradient = far.client.model._gradient
    assert max(p.grad.abs().max() for p in near.parameters.values()) > 1e-3
    for name, parameter in near.parameters.items():
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-3, atol=1e-6)
    assert far.step(lr=1e-3, max_norm=0.1) == pytest.approx(near.step(lr=1e-3, max_norm=0.1), rel=1e-4)
    for name, parameter in near.parameters.items():
        torch.testing.assert_close(far.client.model.trainer.parameters[name], parameter, rtol=1e-3, atol=1e-5)


def test_a_gradient_test_would_catch_another_clip(pair):
    far, near = pair
    batches = batches_of(near, has_old=True)
    near.backward(batches, PolicyLoss(LossConfig(clip_low=0.1, clip_high=0.3), 1.0))
    far.backward(batches, PolicyLoss(LossConfig(clip_low=0.1, clip_high=0.1), 1.0))
    name = next(name for name in near.parameters if "lora_B" in name)
    assert not torch.allclose(far.client.model._gradient[name], near.parameters[name].grad, rtol=1e-2, atol=1e-5)


def test_log_probabilities_are_those_of_the_local_trainer_and_of_the_base(pair):
    far, near = pair
    batches = batches_of(near, has_old=False)
    for found, expected in zip(far.logprobs(batches, 1.0), near.logprobs(batches, 1.0), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with LocalLearner(Policy(start(), ByteTokenizer(), None, "", None, ()), num_workers=0) as untrained:
        expected = untrained.logprobs(batches, 1.0)
    for found, told in zip(far.reference(Path("unused")).logprobs(batches, 1.0), expected, strict=True):
        torch.testing.assert_close(found, told, rtol=1e-4, atol=1e-4)


def test_sequences_come_out_of_a_pack_as_they_went_in(pair):
    batches = batches_of(pair[1], has_old=False)
    found = [row for batch in batches for row in rows_of(batch)]
    assert sorted(len(row.own) for row in found) == [1, 1, 3, 4, 5, 6]  # one of 2 ends with a forced token
    assert {len(row.prompt) for row in found} == {1, 5, 7}


# ---- samples


def test_a_completion_is_reasoning_its_mark_and_an_answer_with_seeds_of_its_own(base, sdk):
    service = sdk.ServiceClient()
    sampler = TinkerSampler(ServiceCalls(sdk), ByteTokenizer(), read_config(Path(base)))
    client = service.create_sampling_client(base_model=NAME).future().result()
    sampler.update_weights(client, version=3)
    params = SamplingParams(max_reasoning_tokens=3, max_answer_tokens=4, seed=5)
    draw = lambda **how: asyncio.run(sampler.generate(user("p"), params, **how))
    drawn = draw(n=8)
    close = ByteTokenizer().unthink_id
    for c in (c for c in drawn if close in c.token_ids):
        at = c.token_ids.index(close)
        assert c.policy_version == 3 and at <= 3 and len(c.token_ids) <= at + 5
        assert c.sampled == tuple(i != at or at < 3 for i in range(len(c.token_ids)))
        assert all(logprob <= 0 for logprob in c.sampler_logprobs)
    assert sum(close in c.token_ids for c in drawn) > 4 and len({c.token_ids for c in drawn}) > 4
    assert len(set(client.seeds)) == len(client.seeds) >= 12 and max(client.seeds) < 2**31
    assert [c.token_ids for c in draw(n=2, first=6)] == [c.token_ids for c in drawn[6:]]
    with pytest.raises(ConfigError, match="min_reasoning_tokens"):
        asyncio.run(sampler.generate(user("p"), replace(params, min_reasoning_tokens=1)))


# ---- runs


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with sdk_double(Path(base), folder / "service"):
        rl(recipe(base, folder / "run"))
    return told_of(folder / "run")


def told_of(run: Path) -> tuple[list, list]:
    rows = read_jsonl(run / "metrics.jsonl")
    rows = [{key: x for key, x in row.items() if "time" not in key and "seconds" not in key} for row in rows]
    return rows, list(read_jsonl(run / "all_rollouts.jsonl"))


def test_a_run_learns_draws_from_what_it_published_and_leaves_adapters_that_ponder_reads(base, sdk, tmp_path):
    last = rl(recipe(base, tmp_path / "run", num_steps=10, problems_per_step=6, group_size=8, lr=2e-2))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    rewards = [row["reward/mean"] for row in rows]
    assert fmean(rewards[-3:]) > fmean(rewards[:3]) + 0.2  # of 144 samples each
    assert max(row["policy/mismatch_max"] for row in rows) < 1e-3
    assert all(row["policy/grad_norm"] > 0 and "policy/entropy" not in row for row in rows)
    model, _ = hub.load(str(last))
    merged = sdk.base.merged(Version("trained", sdk.current.adapter))
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, merged[name], rtol=1e-5, atol=1e-6)
    assert lora.read_adapter_config(last)["base_model_name_or_path"] == base
    assert [path for path in sdk.saved if "/weights/" in path] == ["tinker://run0/weights/state-000005"]  # the last


def test_sampling_may_be_ahead_and_later_updates_are_bounded_by_the_services_own_clip(base, sdk, tmp_path):
    rl(recipe(base, tmp_path / "run", num_steps=3, max_lag=2, updates_per_step=2, problems_per_step=8, group_size=8))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert rows[-1]["rollout/lag_max"] >= 1 and sum(row.get("policy/clip_frac", 0.0) for row in rows) > 0
    assert {call for call in sdk.calls if "forward" in call} == {"forward_backward ppo"}
    assert sdk.calls.count("optim_step") > 3


def test_the_kl_is_measured_from_the_services_base(base, sdk, tmp_path):
    rl(recipe(base, tmp_path / "run", loss=LossConfig(kl=0.05, kl_in="reward")))
    k3 = [row["kl/k3"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert k3[0] < 1e-6 and k3[-1] > 1e-3


def test_a_run_that_ended_anywhere_goes_on_from_the_services_last_state_with_each_sample_once(
    base, sdk, tmp_path, undisturbed
):
    def stop(step):
        if step.step == 3:
            raise MemoryError  # after the state of step 2, with step 3 in the ledger

    with pytest.raises(MemoryError):
        rl(recipe(base, tmp_path / "run"), on_step=stop)
    sdk.calls.clear()
    rl(recipe(base, tmp_path / "run", tinker=TinkerConfig(base_model=NAME, base_url="http://elsewhere")))
    assert "create" not in sdk.calls and sdk.calls.count("load") == 1 and sdk.calls.count("optim_step") == 3
    assert told_of(tmp_path / "run") == undisturbed


def test_a_service_that_forgot_the_model_is_asked_for_its_last_state_once(base, sdk, tmp_path, undisturbed):
    sdk.failures["optim_step"] = [sdk.NotFoundError("no model here: the server was started again")]
    with pytest.warns(UserWarning, match="opened again"):
        rl(recipe(base, tmp_path / "run"))
    assert told_of(tmp_path / "run") == undisturbed
    sdk.failures["publish"] = [sdk.NotFoundError("no model here")] * 9
    with pytest.warns(UserWarning), pytest.raises(ServiceLost, match="Start the run again: its last saved state"):
        rl(recipe(base, tmp_path / "other"))


def test_a_state_that_is_gone_is_one_clear_error(base, sdk, tmp_path):
    rl(recipe(base, tmp_path / "run", num_steps=2, checkpoint_steps=(2,)))
    sdk.saved.clear()
    with pytest.raises(ConfigError, match=r"has no state tinker://run0.*expired.*delete .*run to start over"):
        rl(recipe(base, tmp_path / "run", num_steps=4, checkpoint_steps=(4,)))


def test_a_sample_that_did_not_come_is_asked_for_again_and_is_the_same(base, sdk, tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)
    sdk.failures["sample"] = [sdk.APIConnectionError("no route")] * 7 + [sdk.RateLimitError("later")]
    rl(recipe(base, tmp_path / "run"))
    assert told_of(tmp_path / "run") == undisturbed


def test_a_service_that_stays_away_or_silent_ends_the_wait_with_one_error(sdk, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    tries = []

    def away() -> None:
        tries.append(1)
        raise sdk.APIConnectionError("no route to host")

    with pytest.raises(ServiceLost, match=r"could not sample: no route to host\. Start the run again"):
        asyncio.run(ServiceCalls(sdk).again("sample", away))
    assert len(tries) > 2
    silent = Future()
    with pytest.raises(ServiceLost, match="no answer for 0.1 s"):
        asyncio.run(ServiceCalls(sdk).again("sample", lambda: Promise(silent)))
    assert silent.cancelled()  # and the service may stop
    with pytest.raises(ServiceLost, match="could not step: TimeoutError"):
        ServiceCalls(sdk)("step", lambda: Promise(Future()))


def test_a_sampler_with_old_weights_is_caught_before_a_step(base, sdk, tmp_path):
    def hold_back(step):
        sdk.holds_back = step.step == 2

    with pytest.raises(PolicyMismatch, match="the weights were not changed"):
        rl(recipe(base, tmp_path / "run", max_mismatch=1e-2, lr=5e-2), on_step=hold_back)
    assert sdk.calls.count("optim_step") == 3 and sdk.calls[-2].startswith("forward_backward")


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"lora_rank": 0}, "give lora_rank"),
        ({"temperature": 0.7}, "leave out temperature=0.7"),
        ({"advantage": "gae"}, "no critic: take advantage = 'grpo'"),
        ({"reference": "nano"}, "leave out reference='nano'"),
        ({"model": f"{NAME}-chat@main"}, f"-chat@main' is another than tinker.base_model = '{NAME}'"),
        ({"sampling_dtype": "int8"}, "leave it out with backend='tinker'"),
        ({"backend": "local"}, r"\[tinker\] is of backend"),
    ],
)
def test_what_the_service_cannot_do_is_refused_by_name_with_the_fix(base, tmp_path, changes, fix):
    with pytest.raises(ValueError, match=fix):
        recipe(base, tmp_path, **changes)


@pytest.mark.parametrize("model", [NAME, NAME.upper(), f"{NAME}@main", f"copies/{NAME.partition('/')[2]}", "nano"])
def test_a_model_may_have_another_owner_revision_or_place_here_than_at_the_service(tmp_path, model):
    assert recipe(model, tmp_path).model == model


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 3}, {"intermediate_size": 48}, {"hidden_size": 48}])
def test_a_service_that_trains_another_model_is_told_before_anything_is_drawn(sdk, tmp_path, changes):
    save_model(tiny_model(**changes), tmp_path / "other")
    ByteTokenizer().save(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=f"calls '{NAME}' is not the model '.*other' of this disk.*does not fit"):
        rl(recipe(str(tmp_path / "other"), tmp_path / "run"))
    assert not {"sample", "optim_step"} & set(sdk.calls) and not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_adapter_a_wrong_key_and_a_missing_sdk_are_refused(base, sdk, tmp_path, monkeypatch):
    adapter = rl(recipe(base, tmp_path / "run", num_steps=1))
    with pytest.raises(ConfigError, match="name its base"):
        rl(recipe(str(adapter), tmp_path / "next"))
    sdk.failures["create"] = [sdk.AuthenticationError("401")]
    with pytest.raises(ConfigError, match="TINKER_API_KEY"):
        rl(recipe(base, tmp_path / "key"))
    sdk.failures["create"] = [sdk.RequestFailedError("no model 'x' is served; start with --model")]
    with pytest.raises(ConfigError, match="refused to train acme/tiny-1B: no model 'x' is served"):
        rl(recipe(base, tmp_path / "name"))
    monkeypatch.setitem(sys.modules, "tinker", None)
    with pytest.raises(ImportError, match=r"ponder\[tinker\]"):
        rl(recipe(base, tmp_path / "none"))


def test_a_folder_without_weights_is_enough_to_train_elsewhere(base, sdk, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if (Path(base) / name).exists():
            (bare / name).write_bytes((Path(base) / name).read_bytes())
    rl(recipe(str(bare), tmp_path / "run", num_steps=1))
    [row] = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert row["tokens/trained"] > 0


def test_the_sdk_is_imported_in_one_file():
    found = {path: path.read_text() for path in (ROOT / "ponder").rglob("*.py")}
    users = {
        path.name
        for path, text in found.items()
        for node in (ast.walk(ast.parse(text)) if "import tinker" in text or "from tinker" in text else ())
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "tinker" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinker")
    }
    assert users == {"tinker_backend.py"}
