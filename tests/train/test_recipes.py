"""Recipes: every number of every config has bounds, every key a meaning, and the docs say what the code does."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import typing
from pathlib import Path

import pytest

import ponder.train
from ponder.config import ConfigError, find_recipe, from_dict, load, numbers, recipe_names, to_dict, walk
from ponder.models.transformer import Transformer
from ponder.runs import Run
from ponder.tasks.demonstrations import DemonstrationConfig
from ponder.train import reference, scorer
from ponder.train.distributed import Trainer
from ponder.train.losses import LossConfig
from ponder.train.recipe import RLConfig, load_recipe
from ponder.train.replica import NonFiniteLoss
from ponder.train.scorer_examples import ScorerConfig
from ponder.train.sft import ArchitectureConfig, SFTConfig, cosine
from ponder.train.star import StarConfig
from ponder.types import SamplingParams
from tests.helpers import tiny_model

ROOT = Path(__file__).parent.parent.parent


def configs() -> list[type]:
    """Every config class of the trainers, and those that they nest."""
    found: set[type] = set()
    for info in pkgutil.iter_modules(ponder.train.__path__, "ponder.train."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                told = any("meaning" in field.metadata for field in dataclasses.fields(value))
                if told or (value.__name__.endswith("Config") and value.__module__.startswith("ponder.t")):
                    found.add(value)
    return sorted(found, key=lambda cls: cls.__name__)


CONFIGS = configs()
FIELDS = [(cls, name, kind) for cls in CONFIGS for name, kind in numbers(cls).items()]


def build(cls: type, **changes: object) -> object:
    return cls(**({"out": "o"} if "out" in cls.__dataclass_fields__ else {}) | changes)


def test_the_configs_are_found():
    known = {RLConfig, SFTConfig, ScorerConfig, StarConfig, LossConfig, ArchitectureConfig, DemonstrationConfig}
    assert known < set(CONFIGS) and len(FIELDS) > 70


@pytest.mark.parametrize(("cls", "name", "kind"), FIELDS, ids=lambda x: getattr(x, "__name__", x))
def test_every_number_has_bounds_and_is_finite(cls, name, kind):
    field = cls.__dataclass_fields__[name]
    bounds = field.metadata["bounds"]
    assert (bounds.above, bounds.least) != (None, None), "how small may it be?"
    several = isinstance(field.default, tuple)
    too_small = bounds.least - 1 if bounds.least is not None else bounds.above
    for bad in (math.nan, math.inf, -math.inf, too_small, True, "3"):
        with pytest.raises(ValueError, match=rf"{name}=.* must"):
            build(cls, **{name: (bad,) if several else bad})
    if kind is int:
        with pytest.raises(ValueError, match="whole number"):
            build(cls, **{name: (2.5,) if several else 2.5})


@pytest.mark.parametrize("cls", [RLConfig, SFTConfig, ScorerConfig])
def test_every_key_has_a_meaning(cls):
    for name, field in walk(cls):
        assert field.metadata.get("meaning"), name


@pytest.mark.parametrize(
    ("cls", "changes", "message"),
    [
        (SFTConfig, {"lr": 1e-4, "min_lr": 1e-3}, "the cosine would rise"),
        (SFTConfig, {"architecture": {"width": 100, "heads": 3}}, "heads"),
        (SFTConfig, {"architecture": {"heads": 4, "kv_heads": 3}}, "kv_heads"),
        (SFTConfig, {"demonstrations": {"levels": []}}, "levels"),
        (RLConfig, {"checkpoint_steps": [0, 5000]}, "5000 is never reached in num_steps=100"),
        (RLConfig, {"pool_size": 8}, "problems_per_step=24 needs a pool_size"),
        (RLConfig, {"group_size": 1}, "must be 2 or more"),
        (RLConfig, {"deliberation": {"step_cost": 0.5, "preference_weight": 0.5}}, "below 1"),
        (RLConfig, {"deliberation": {"preference": "runs/rm", "preference_weight": 0.5}}, r"is \[reward\] preference"),
        (RLConfig, {"critic": {"lam": 0.9}}, r"table \[critic\] is of advantage = 'gae'"),
        (ScorerConfig, {"temperatures": []}, "one or more"),
        *(
            (RLConfig, {"backend": name, "cluster": {"engines": 4}}, r"table \[cluster\] is of backend")
            for name in ("local", "vllm", "sharded")
        ),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(cls, changes, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(cls, {"out": "o"} | changes)


@pytest.mark.parametrize("lr", [1.0, 1e-3, 1e-4, 5e-6, 1e-9, 1e-300])
def test_the_step_size_never_rises_after_the_warm_up(lr):
    config = SFTConfig(out="o", lr=lr, num_steps=40, warmup_steps=5)
    rates = [cosine(step, config) for step in range(40)]
    assert max(rates) == rates[4] == lr
    assert rates[5:] == sorted(rates[5:], reverse=True) and min(rates) > 0
    assert config.min_lr == min(1e-5, lr / 10) and from_dict(SFTConfig, to_dict(config)) == config


def test_a_recipe_made_shorter_keeps_the_checkpoints_that_it_reaches():
    whole = load_recipe("demo_nano_cpu")
    assert max(whole.checkpoint_steps) == whole.num_steps
    short = load_recipe("demo_nano_cpu", ["num_steps=10"])
    assert short.checkpoint_steps == tuple(step for step in whole.checkpoint_steps if step <= 10)
    with pytest.raises(ConfigError, match="never reached"):
        load_recipe("demo_nano_cpu", ["num_steps=10", "checkpoint_steps=[20]"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5])
@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_how_a_sample_is_drawn_is_finite_too(name, bad):
    with pytest.raises(ValueError, match=f"{name}="):
        SamplingParams(**{name: bad})


def test_the_documented_tables_are_what_the_code_says():
    page = (ROOT / "docs" / "training.md").read_text()
    written = page.partition(reference.BEGIN)[2].partition(reference.END)[0].strip()
    assert written == reference.markdown(), "run: python -m ponder.train.reference docs/training.md"
    for cls in (RLConfig, SFTConfig, ScorerConfig):
        assert all(f"| `{name}` |" in written for name, _ in walk(cls))


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves_with_one_trainer(name):
    verbs = []
    for cls in (RLConfig, SFTConfig, ScorerConfig):
        try:
            scorer.load_recipe(name) if cls is ScorerConfig else load(cls, name)
            verbs.append(cls)
        except ConfigError as error:
            assert "unknown key" in str(error)
    head = find_recipe(name).read_text()
    verb = {RLConfig: "ponder rl", SFTConfig: "ponder sft", ScorerConfig: "ponder scorer"}[verbs[0]]
    assert verb in head or "ponder loophole" in head  # which runs its arms itself


@pytest.mark.parametrize("override", ["backend=tinker", "tinker.base_model=a/b", "cluster.ranks=2", "backend=local"])
def test_a_backend_is_refused_by_the_trainers_that_have_none(override):
    for read in (lambda: load(SFTConfig, None, ["out=x", override]), lambda: scorer.load_recipe(None, [override])):
        with pytest.raises(ConfigError, match="unknown key .* only `ponder rl` has other backends"):
            read()


OTHERS = {
    RLConfig: {
        "learning_rate": ["lr"], "num_generations": ["group_size"], "max_steps": ["num_steps"], "beta": ["loss.kl"],
        "kl_coef": ["loss.kl"], "max_completion_length": ["max_reasoning_tokens", "max_answer_tokens"],
        "per_device_train_batch_size": ["problems_per_step"], "batch_size": ["problems_per_step"],
        "epsilon": ["loss.clip_low", "loss.clip_high"], "epsilon_high": ["loss.clip_high"],
        "loss_type": ["loss.average"],
        "max_grad_norm": ["max_norm"], "num_iterations": ["updates_per_step"], "output_dir": ["out"],
        "actor_rollout_ref.actor.optim.lr": ["lr"], "actor_rollout_ref.rollout.n": ["group_size"],
        "gradient_checkpointing": ["recompute"], "save_steps": ["save_every"], "reward_funcs": ["reward_terms"],
    },
    SFTConfig: {
        "learning_rate": ["lr"], "max_steps": ["num_steps"], "per_device_train_batch_size": ["batch_size"],
        "max_length": ["architecture.window"], "model_name_or_path": ["model"], "dataset": ["data"],
    },
    ScorerConfig: {"learning_rate": ["lr"], "num_generations": ["num_samples"], "temperature": ["temperatures"]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "theirs", "ours"), [(cls, *pair) for cls, words in OTHERS.items() for pair in words.items()]
)
def test_a_name_of_other_trainers_is_answered_with_ours_and_not_taken(cls, theirs, ours):
    keys = dict(walk(cls))
    assert all(name in keys for name in ours)
    with pytest.raises(ConfigError) as caught:
        load(cls, None, ["out=o", f"{theirs}=1"])
    assert all(f"{name} ({keys[name].metadata['meaning']})" in str(caught.value) for name in ours)


def test_no_name_of_others_is_one_of_ours():
    for cls in CONFIGS:
        names = {field.name for field in dataclasses.fields(cls)}
        others = {word for field in dataclasses.fields(cls) for word in field.metadata.get("also", ())}
        assert not names & others
    assert typing.get_type_hints(RLConfig)["lr"] is float


# ---- nothing but numbers reaches the weights -----------------------------------------------------------------------


def gradients(trainer: Trainer, value: float) -> None:
    for parameter in trainer.parameters.values():
        parameter.grad = parameter.detach().clone().fill_(value)


def copies(model: Transformer) -> dict:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("gradient", "lr", "max_norm"),
    [(1.0, bad, 1.0) for bad in (math.nan, math.inf, -1e-3)]
    + [(1.0, 0.1, math.nan), (1.0, 0.1, -1.0), (math.nan, 0.1, 1.0), (math.inf, 0.1, 0.0)],
)
def test_a_number_that_is_none_stops_before_the_weights_change(gradient, lr, max_norm):
    model = tiny_model()
    before = copies(model)
    with Trainer(model, num_workers=0, weight_decay=0.1) as trainer:
        gradients(trainer, gradient)
        with pytest.raises((ValueError, NonFiniteLoss), match="the weights were not changed"):
            trainer.step(lr=lr, max_norm=max_norm)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_a_norm_of_0_clips_nothing():
    norms, results = [], []
    for max_norm in (0.0, 1e9):
        model = tiny_model()
        with Trainer(model, num_workers=0) as trainer:
            gradients(trainer, 0.5)
            norms.append(trainer.step(lr=0.1, max_norm=max_norm))
        results.append(copies(model))
    assert norms[0] == norms[1] > 1
    assert all(tensor.equal(results[1][name]) for name, tensor in results[0].items())
    assert not results[0]["model.norm.weight"].equal(copies(tiny_model())["model.norm.weight"])


@pytest.mark.parametrize("changes", [{"num_workers": -7}, {"weight_decay": -1.0}, {"weight_decay": math.nan}])
def test_a_trainer_refuses_what_it_cannot_use(changes):
    with pytest.raises(ValueError, match="out of bounds"):
        Trainer(tiny_model(), **{"num_workers": 0} | changes)


# ---- what is said of a run that is not one of reinforcement learning -----------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fix"), [("sft", "ponder eval --task TASK --model {run}"), ("scorer", "ponder score BANK --scorer {run}")]
)
def test_another_kind_of_run_is_told_what_measures_it(kind, fix, tmp_path):
    from ponder.cli.loading import check_kind
    from ponder.evals.report import report

    with Run(tmp_path, kind=kind, config_toml="", seed=0):
        pass
    said = fix.format(run=tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_kind(tmp_path)
    assert said in str(caught.value)
    page = report(tmp_path).read_text()
    assert said in page and "ponder scale" not in page


def test_the_newest_data_of_a_run_is_not_taken_for_what_it_was_trained_on(tmp_path):
    from ponder.evals.contamination import check
    from ponder.files import file_hash
    from ponder.tasks import load_task

    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "1", "problem": "What is 2+2?", "answer": "4"}\n')
    task = load_task(f"file:{path}")
    source = {"kind": "task", "task": f"file:{path}", "files": {str(path): file_hash(path)}}
    assert check([task[0]], [source]).exact == 1
    path.write_text('{"id": "1", "problem": "What is 3+3?", "answer": "6"}\n')
    assert "has changed since the training" in check([task[0]], [source]).unknown[0]


@pytest.mark.parametrize("backend", ["vllm", "cluster"])
def test_int8_sampling_is_refused_where_another_engine_samples(backend: str) -> None:
    with pytest.raises(ValueError, match="leave it out with backend"):
        RLConfig(out="x", model="nano", task="arithmetic:level=1", sampling_dtype="int8", backend=backend)


@pytest.mark.parametrize("name", ["deliberate", "programs"])
@pytest.mark.parametrize("fine", [{"truncation_penalty": 0.1}, {"overlong_tokens": 16}])
def test_an_environment_whose_own_tokens_would_be_fined_as_cut_or_overlong_is_refused(name, fine):
    with pytest.raises(ValueError, match="set both to 0"):
        RLConfig(out="o", environment=name, **fine)
