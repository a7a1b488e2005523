"""The loop: it learns, it resumes bit for bit after kill -9, it stops before damage, and it counts what it drops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors import safe_open

from ponder import stopping
from ponder.config import ConfigError, dumps, from_dict
from ponder.engine.base import ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.files import InUse, read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.rollouts.collect import Collected, collect, single
from ponder.rollouts.rewards import add_terms, overlong_penalty
from ponder.runs import Run, find_checkpoints
from ponder.strategies.turns import Trajectory
from ponder.train.credit import credit
from ponder.train.critic import Critic
from ponder.train.distributed import Trainer
from ponder.train.losses import LossConfig
from ponder.train.pool import Pool
from ponder.train.presets import PRESETS
from ponder.train.recipe import RLConfig, load_recipe
from ponder.train.rl import examples, groups_to_train, reward_terms, rl, sample_and_grade, train
from ponder.trained_on import training_sources
from ponder.types import SamplingParams, Verdict
from tests.helpers import LowercaseTask, group_of, tiny_model, until
from tests.train.killing import has_logged, whole_and_broken

ROOT = Path(__file__).parent.parent.parent
TOY = "tests.helpers:LowercaseTask"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    save_model(tiny_model(), folder)
    ByteTokenizer().save(str(folder))
    return str(folder)


def config(base: str, out: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(out), "model": base, "task": TOY, "num_steps": 6, "pool_size": 16, "problems_per_step": 6,
        "group_size": 8, "max_reasoning_tokens": 3, "max_answer_tokens": 4, "lr": 3e-3, "save_every": 2,
        "warmup_steps": 1, "num_workers": 0, "num_slots": 64,
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


def weights(run: Path, step: int) -> bytes:
    return (run / "checkpoints" / f"step_{step:05d}" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_learns_a_toy_task(preset, base, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'out = "{tmp_path / "run"}"\nmodel = "{base}"\ntask = "{TOY}"\npreset = "{preset}"\n')
    keys = ["num_steps=24", "pool_size=16", "problems_per_step=8", "group_size=16", "max_reasoning_tokens=3",
            "max_answer_tokens=3", "lr=5e-3", "num_workers=0", "save_every=100", "updates_per_step=4"]  # fmt: skip
    if "overlong_tokens" in PRESETS[preset]:
        keys.append("overlong_tokens=1")  # of the 3 that there are
    rl(load_recipe(recipe, keys))
    rewards = [row["reward/mean"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert fmean(rewards[-4:]) > fmean(rewards[:3]) + 0.15


@pytest.fixture(scope="module")
def played() -> Collected:
    """Rollouts of a fresh tiny model: groups of mixed rewards and uneven lengths."""
    task, params = LowercaseTask(), SamplingParams(max_reasoning_tokens=3, max_answer_tokens=6)
    with LocalEngine(tiny_model(), ByteTokenizer(), num_workers=0, num_slots=64) as engine:
        play = single(engine)
        found = asyncio.run(collect(play, task, [task[i] for i in range(16)], params, group_size=16, seed=0, step=0))
    assert sum(group.is_mixed for group in found.groups) >= 4
    assert len({len(rollout.completion.token_ids) for rollout in found.rollouts}) > 2
    return found


def update(trainer: Trainer, rollouts: Collected, config: RLConfig) -> dict[str, float]:
    groups = groups_to_train(rollouts, rollouts, config)
    critic = Critic(trainer.config.hidden_size) if config.has_critic else None
    for _ in range(1 + config.has_critic):  # it judges what it has learned from
        due = credit(groups, {}, trainer, config, critic)
    return train(trainer, examples(groups, due.values, config), config, 0)


def trained(played: Collected, **changes: object) -> torch.Tensor:
    """All weights after the updates of one step on the same rollouts."""
    data = {"out": "unused", "problems_per_step": 16, "group_size": 16, "max_reasoning_tokens": 36, "lr": 0.01,
            "warmup_steps": 0, "updates_per_step": 4, "num_workers": 0}  # fmt: skip
    config = from_dict(RLConfig, data | changes)
    with Trainer(tiny_model(), num_workers=0) as trainer:
        update(trainer, played, config)
        return torch.cat([value.flatten() for value in trainer.parameters.values()]).detach().clone()


@pytest.mark.slow
def test_every_value_of_a_preset_moves_the_weights_another_way(played):
    """Each preset from every other, and each from itself without any one of its values."""
    ends = {name: trained(played, **preset) for name, preset in PRESETS.items()}
    for one, other in itertools.combinations(ends, 2):
        assert not torch.equal(ends[one], ends[other]), f"{one} does what {other} does"
    defaults = {field.name: field.default for field in fields(LossConfig)}
    for name, preset in PRESETS.items():
        # where a KL counts is nothing without one: test_kl.py
        for key in (key for key, value in preset["loss"].items() if value != defaults[key] and key != "kl_in"):
            without = preset | {"loss": {k: v for k, v in preset["loss"].items() if k != key}}
            assert not torch.equal(ends[name], trained(played, **without)), f"{name}: loss.{key} does nothing"
        if preset["advantage"] != "grpo":
            without = preset | {"advantage": "grpo"}
            assert not torch.equal(ends[name], trained(played, **without)), f"{name}: its advantage does nothing"


def test_a_preset_that_refills_and_shortens_does_both(played):
    """DAPO's two values that act on the rollouts and not on the loss."""
    small = {"out": "o", "pool_size": 16, "problems_per_step": 4, "group_size": 2}
    config = from_dict(RLConfig, small | PRESETS["dapo"])
    assert set(reward_terms(config)) == {"overlong"} and not reward_terms(RLConfig(out="o"))
    task = LowercaseTask()
    pool = Pool(task, 16, seed=0)
    engine = ScriptedEngine(lambda prompt, seed: "a")  # always right: no group is ever mixed
    groups = asyncio.run(sample_and_grade(single(engine), task, pool, config, 0, {})).groups
    assert len(groups) == 16 == len({group.problem.id for group in groups})  # a round and three refills of four


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(base, tmp_path):
    """Killed before a save, at one, between two; with worker processes."""
    config = RLConfig(
        out="o", model=base, task=TOY, num_steps=9, pool_size=16, problems_per_step=6, group_size=8,
        max_reasoning_tokens=3, max_answer_tokens=4, lr=3e-3, save_every=2, num_workers=2, num_slots=64,
        updates_per_step=2,
    )  # fmt: skip
    whole, broken = whole_and_broken(config, tmp_path, kills=(1, 4, 7))
    assert weights(broken, 9) == weights(whole, 9) != weights(whole, 0)  # it did learn something


def test_the_same_seed_gives_the_same_run_and_another_seed_another(base, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        rl(config(base, tmp_path / name, num_steps=3, seed=seed))
    assert weights(tmp_path / "a", 3) == weights(tmp_path / "b", 3) != weights(tmp_path / "c", 3)


@pytest.fixture
def has_a_terminal():
    """Whoever runs the tests under nohup ignores SIGHUP, and so would what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("has_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_saves_and_goes_on_from_there(number, base, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_write_nowhere", lambda hung_up: None)  # this terminal is still there
    run = config(base, tmp_path / "run", num_steps=5, save_every=100)
    rl(replace(run, out=str(tmp_path / "whole")))

    def interrupt(step):
        if step.step == 2:
            for _ in range(2 if number == signal.SIGHUP else 1):  # the kernel tells, and then the shell
                signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        rl(run, on_step=interrupt)
    assert signal.getsignal(number) == before
    rl(run)
    assert weights(tmp_path / "run", 5) == weights(tmp_path / "whole", 5)


def test_a_step_whose_line_cannot_be_printed_is_kept_before_that_is_an_error(base, tmp_path):
    run = config(base, tmp_path / "run", num_steps=5, save_every=100)
    rl(replace(run, out=str(tmp_path / "whole")))

    def gone(step):
        if step.step == 2:
            raise BrokenPipeError("whoever read it has ended")

    with pytest.raises(BrokenPipeError):
        rl(run, on_step=gone)
    begun = []
    rl(run, on_step=lambda step: begun.append(step.step))
    assert begun == [3, 4, 5] and weights(tmp_path / "run", 5) == weights(tmp_path / "whole", 5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only: os.login_tty")
@pytest.mark.usefixtures("has_a_terminal")
@pytest.mark.parametrize("how", ["terminal closed", "SIGTERM to all"])
def test_a_signal_to_a_run_and_its_workers_saves_the_step_and_it_goes_on_from_there(how, base, tmp_path):
    """The window is gone: SIGHUP reaches the run and its workers, and every line that it prints is an error. Or a
    scheduler stops the job: SIGTERM reaches all of its processes."""
    run, whole = (
        config(base, tmp_path / name, num_steps=40, save_every=100, num_workers=2) for name in ("run", "whole")
    )
    (tmp_path / "run.toml").write_text(dumps(run))
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ponder.cli", "rl", str(tmp_path / "run.toml")], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, preexec_fn=lambda: os.login_tty(terminal), pass_fds=[terminal],
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(ours, False)

    def read_on():
        """What is not read in time fills a terminal up, and then whoever writes to it waits."""
        with contextlib.suppress(OSError):
            os.read(ours, 1 << 16)
        return True

    until(lambda: read_on() and has_logged(tmp_path / "run", 3), seconds=120)
    if how == "terminal closed":
        os.close(ours)
    else:
        os.killpg(process.pid, signal.SIGTERM)
        until(lambda: read_on() and process.poll() is not None, seconds=60)
    assert process.wait(60) == 130
    steps = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert 3 <= steps < 40
    with safe_open(tmp_path / "run" / "state" / "state.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["step"] == steps
    rl(replace(run, num_steps=steps + 1))
    rl(replace(whole, num_steps=steps + 1))
    assert weights(tmp_path / "run", steps + 1) == weights(tmp_path / "whole", steps + 1)


def test_the_checkpoint_holds_the_base_and_the_last_step_with_growing_compute(base, tmp_path):
    rl(config(base, tmp_path / "run"))
    kept = [json.loads((folder / "checkpoint.json").read_text()) for folder in find_checkpoints(tmp_path / "run")]
    assert [row["step"] for row in kept] == [0, 1, 2, 4, 6]
    flops = [row["train_flops"] for row in kept]
    assert flops[0] == 0
    assert flops == sorted(flops)
    assert kept[-1]["rollout_tokens"] > 0


def test_what_a_reference_and_a_critic_read_counts_as_one_more_forward_pass_each(base, tmp_path):
    def first_step(name, **changes):
        rl(config(base, tmp_path / name, num_steps=1, **changes))
        return next(iter(read_jsonl(tmp_path / name / "metrics.jsonl")))["train_flops"]

    alone = first_step("alone")
    watched = first_step("watched", reference="first")  # a KL that is measured, and has no weight
    judged = first_step("judged", advantage="gae")  # its critic warms up: sampled and read, nothing trained
    assert 0 < judged < alone < watched
    assert watched - alone == pytest.approx(judged / 2)


class Broken(LowercaseTask):
    """A verifier that fails on some problems and cannot decide others."""

    def verify(self, problem, answer):
        if problem.id.endswith("/1"):
            raise ZeroDivisionError("no")
        if problem.id.endswith("/2"):
            return Verdict(outcome="undecided", reward=0.0)
        return super().verify(problem, answer)


def test_failed_and_undecided_verifications_leave_their_group_and_are_counted():
    task = Broken(size=4)
    engine = ScriptedEngine(lambda prompt, seed: ("", "a" if seed % 2 else "A"))
    got = asyncio.run(
        collect(single(engine), task, [task[i] for i in range(4)], SamplingParams(), group_size=6, seed=0, step=0)
    )
    assert (got.tally.counts["failed"], got.tally.counts["undecided"]) == (6, 6)
    assert [len(group.rollouts) for group in got.groups] == [6, 0, 0, 6]
    assert [group.num_dropped for group in got.groups] == [0, 6, 6, 0]
    assert "ZeroDivisionError" in got.tally.last_failure


def test_a_verifier_that_keeps_failing_stops_the_run_and_names_the_error(base, tmp_path):
    with pytest.raises(RuntimeError, match=r"verifier failed on \d+ of \d+ completions.*ZeroDivisionError"):
        rl(config(base, tmp_path / "run", task="tests.train.test_rl:Broken", pool_size=3, problems_per_step=3))


def test_overlong_reasoning_costs_reward_linearly_and_at_most_one():
    terms = {"overlong": overlong_penalty(10, 30)}
    engine = ScriptedEngine(lambda prompt, seed: ("x" * 25, "a"))
    [completion] = asyncio.run(engine.generate(LowercaseTask()[0].prompt, SamplingParams(max_reasoning_tokens=64)))
    good = Verdict(outcome="correct", reward=1.0)
    lengths = [20, 25, 99]
    trajectories = [Trajectory.of(replace(completion, num_reasoning_tokens=n)) for n in lengths]
    found = asyncio.run(add_terms(terms, LowercaseTask()[0], trajectories, [good] * 3))
    assert [verdict.reward for verdict in found] == pytest.approx([1.0, 0.5, 0.0])


def test_a_recipes_own_keys_win_over_its_preset(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('out = "o"\npreset = "dapo"\nmax_refills = 1\n[loss]\nclip_high = 0.5\n')
    run = load_recipe(recipe, ["loss.clip_low=0.1"])
    assert (run.max_refills, run.loss.clip_high, run.loss.clip_low, run.loss.average) == (1, 0.5, 0.1, "token")
    with pytest.raises(ConfigError, match="did you mean 'dapo'"):
        load_recipe(recipe, ["preset=dapoo"])


def test_forced_tokens_are_never_trained_on():
    from ponder.train.batches import from_groups

    task = LowercaseTask(size=2)
    engine = ScriptedEngine(lambda prompt, seed: ("thinking for long", "a"))
    got = asyncio.run(
        collect(single(engine), task, [task[0]], SamplingParams(max_reasoning_tokens=4), group_size=2, seed=0, step=0)
    )
    for example, rollout in zip(from_groups(got.groups, [[1.0, -1.0]]), got.rollouts, strict=True):
        assert example.trained == rollout.completion.sampled
        assert not all(example.trained)


def test_a_step_whose_first_half_is_all_the_same_still_learns_from_the_other():
    task = LowercaseTask(size=2)
    groups = Collected([group_of([1.0, 1.0], problem=task[0]), group_of([1.0, 0.0], problem=task[1])])
    run = RLConfig(out="unused", updates_per_step=2, problems_per_step=2, group_size=2)
    with Trainer(tiny_model(), num_workers=0) as trainer:
        metrics = update(trainer, groups, run)
    assert metrics["policy/grad_norm"] > 0
    assert metrics["policy/mismatch_kl"] >= 0


def test_a_run_cannot_be_taken_back(base, tmp_path):
    rl(config(base, tmp_path / "run", num_steps=3))
    with pytest.raises(ValueError, match="has taken 3 steps, more than num_steps=2"):
        rl(config(base, tmp_path / "run", num_steps=2))


def write_problems(path: Path, count: int = 16, **changes: str) -> None:
    rows = [{"id": str(i), "problem": f"What is {i}+1?", "answer": str(i + 1)} for i in range(count)]
    rows[3] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("changes", [{"answer": "7"}, {"problem": "What?"}, {"id": "x"}, {"hint": "so"}])
def test_a_run_does_not_go_on_with_other_problems_and_goes_on_when_they_are_back(changes, base, tmp_path):
    path = tmp_path / "p.jsonl"
    write_problems(path)
    run = config(base, tmp_path / "run", task=f"file:{path}", num_steps=1)
    rl(run)
    [source] = training_sources(tmp_path / "run" / "checkpoints" / "step_00001")[1:]
    assert set(source["files"]) == {str(path)}
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    write_problems(path, **changes)
    with pytest.raises(ValueError, match=r"p\.jsonl.* has changed since .*another `out`"):
        rl(replace(run, num_steps=2))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    write_problems(path)
    rl(replace(run, num_steps=2))


class Shifting(LowercaseTask):
    """A task of somebody's own, without a file that could be looked at."""

    answer = ""

    def __getitem__(self, index):
        return replace(super().__getitem__(index), target=self.answer)


def test_a_task_of_ones_own_that_changes_is_noticed_too(base, tmp_path, monkeypatch):
    run = config(base, tmp_path / "run", task="tests.train.test_rl:Shifting", num_steps=1)
    rl(run)
    monkeypatch.setattr("tests.train.test_rl.Shifting.answer", "b")
    with pytest.raises(ValueError, match="the problems of tests.train.test_rl:Shifting has changed"):
        rl(replace(run, num_steps=2))


def test_a_task_that_cannot_be_loaded_leaves_no_folder(base, tmp_path):
    with pytest.raises(ConfigError, match="no file at"):
        rl(config(base, tmp_path / "run", task=f"file:{tmp_path}/absent.jsonl"))
    write_problems(tmp_path / "p.jsonl", count=4)
    with pytest.raises(ValueError, match="6 problems a step need a pool of at least that many, not 4"):
        rl(config(base, tmp_path / "run", task=f"file:{tmp_path}/p.jsonl"))
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_train_one_run(base, tmp_path):
    run = config(base, tmp_path / "run")
    with Run(run.out, kind="rl", config_toml="", seed=0), pytest.raises(InUse, match="is being written by process"):
        rl(run)


def test_a_problem_that_comes_twice_in_a_step_is_sampled_with_other_seeds():
    from ponder.rollouts.collect import rollout_seeds

    task = LowercaseTask(size=2)
    seeds = rollout_seeds(0, 3, [task[0], task[1], task[0], task[0]])
    assert len(set(seeds)) == 4
    assert seeds[:2] == rollout_seeds(0, 3, [task[0], task[1]])
    assert rollout_seeds(0, 4, [task[0]])[0] not in seeds


def test_a_policy_sampled_in_int8_learns_and_its_mismatch_is_told(base, tmp_path):
    changes = {"num_steps": 24, "lr": 5e-3, "max_answer_tokens": 3, "save_every": 100}
    rl(config(base, tmp_path / "run", sampling_dtype="int8", **changes))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    rewards = [row["reward/mean"] for row in rows]
    assert fmean(rewards[-4:]) > fmean(rewards[:3]) + 0.15
    told = [(row["policy/mismatch_kl"], row["policy/mismatch_max"]) for row in rows if "policy/mismatch_max" in row]
    # in float32 without int8: 1e-6 at most
    assert len(told) > 12 and all(1e-6 < kl < 1e-3 and 2e-3 < worst < 0.2 for kl, worst in told)


def test_the_last_checkpoint_is_written_anew_from_the_state_when_it_is_gone(base, tmp_path):
    run = config(base, tmp_path / "run", num_steps=2)
    rl(run)
    before = weights(tmp_path / "run", 2)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00002")
    assert rl(run) == tmp_path / "run" / "checkpoints" / "step_00002" and weights(tmp_path / "run", 2) == before


def test_a_damaged_state_is_an_error_that_keeps_what_was_learned(base, tmp_path):
    run = config(base, tmp_path / "run", num_steps=2)
    rl(run)
    state = tmp_path / "run" / "state" / "state.safetensors"
    for damage in (b"", state.read_bytes()[:1000], b"\xff" * 1000):
        state.write_bytes(damage)
        with pytest.raises(ValueError, match="is damaged or does not fit.*model=.*another `out`"):
            rl(replace(run, num_steps=3))
