"""The cluster's backend as far as it goes without Ray: the table, what fits, weights on their way, a run that stops."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
from collections import Counter

import pytest
import torch
from safetensors import safe_open

from ponder.config import ConfigError, dumps
from ponder.engine.base import EngineLost
from ponder.engine.local import LocalEngine
from ponder.files import read_jsonl
from ponder.rollouts.collect import asking
from ponder.train import cluster
from ponder.train import rl as loop
from ponder.train.backend import local
from ponder.train.dealing import ClusterConfig, Draw, WorkerLost, WrongVersion
from ponder.train.learner import LocalLearner
from ponder.train.ledger import RunLedger
from ponder.train.policy import open_policy
from ponder.train.recipe import load_recipe
from ponder.train.rl import rl
from ponder.train.sharded import RankError
from ponder.train.state import state_path
from ponder.types import SamplingParams
from tests.train.test_rl import base, config, weights  # noqa: F401 - a fixture

NODES = {"node 1 (10.0.0.1)": {"CPU": 3.0, "memory": 1e9}, "node 2 (10.0.0.2)": {"CPU": 1.0}}


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"engines": 4}, True), ({"engines": 5}, False), ({"engines": 1, "cores": 3}, True),
        ({"engines": 2, "cores": 2}, False), ({"engines": 3, "ranks": 1}, True), ({"engines": 3, "ranks": 2}, False),
        ({"engines": 1, "gpus": 1}, False),
    ],
)  # fmt: skip
def test_engines_and_ranks_fit_where_single_nodes_have_room_for_each(asked, fits):
    assert (cluster.misfit(NODES, ClusterConfig(**asked)) == "") == fits


def test_what_does_not_fit_is_said_with_what_each_node_has():
    said = cluster.misfit(NODES, ClusterConfig(engines=4, cores=2))
    assert said.startswith("[cluster] asks for 4 engines of 2 cores each, and the cluster has room for 1: node 1")
    assert "node 2 (10.0.0.2) has 1 cores and 0 GPUs, room for 0" in said and "ray start --address" in said


def test_the_table_is_part_of_a_recipe_and_of_no_other_backend():
    recipe = load_recipe("demo_nano_cpu", ["backend=cluster", "cluster.engines=4", "cluster.patience=5"])
    assert recipe.cluster.engines == 4 and "[cluster]" in dumps(recipe)
    with pytest.raises(ConfigError, match='backend = "cluster"'):
        load_recipe("demo_nano_cpu", ["cluster.engines=4"])
    with pytest.raises(ConfigError, match="did you mean 'patience'"):
        load_recipe("demo_nano_cpu", ["backend=cluster", "cluster.patiens=5"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_any_dtype_arrive_as_they_were_sent(dtype):
    sent = {"matrix": torch.randn(6, 4).to(dtype), "vector": torch.randn(5).to(dtype)}
    arrived = cluster.unpacked(cluster.packed(sent))
    assert all(torch.equal(arrived[name], sent[name]) and arrived[name].dtype == dtype for name in sent)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_the_extra_is_named(tmp_path):
    with pytest.raises(ImportError, match=r'pip install "ponder\[cluster\]"'):
        rl(load_recipe("demo_nano_cpu", [f"out={tmp_path / 'run'}", "backend=cluster"]))


def test_requests_know_the_step_and_the_problem_that_ask(base, tmp_path):  # noqa: F811
    seen, generate = [], LocalEngine.generate

    async def watched(self, *arguments, **more):
        seen.append(asking.get())
        return await generate(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalEngine, "generate", watched)
        rl(config(base, tmp_path / "run", num_steps=2))
    assert {step for step, _ in seen} == {0, 1} and len(seen) == len(set(seen))


def test_weights_that_were_overtaken_on_their_way_are_not_taken_and_what_went_wrong_is_told(tmp_path):
    policy = open_policy("nano", tmp_path, dtype="float32", lora_rank=0, seed=0, sources=[])
    actor = cluster.EngineActor(policy.model.config, policy.tokenizer, "float32", 4, 1)
    weights, ask = cluster.packed(policy.model.state_dict()), Draw(prompt=(1, 2), params=SamplingParams(), n=1)

    async def script():
        await actor.update(weights, 2)
        await actor.update(weights, 1)
        assert (await actor.ping())["version"] == 2
        await actor.update({}, 3)
        with pytest.raises(WrongVersion, match=r"3 was asked for, and the weights are of None \(\w+Error: "):
            await actor.generate(ask, 3)

    with contextlib.closing(actor._engine):
        asyncio.run(script())


class Here:
    """An engine actor in this process, without Ray, that does what a script says of its requests."""

    def __init__(self, parts, script, deaths):
        self.parts, self.script, self.num_asked, self.deaths = parts, script, 0, deaths
        self.restart()

    def restart(self):
        self.actor, self.updates = cluster.EngineActor(*self.parts), []

    async def generate(self, request, version):
        self.num_asked += 1
        what = self.script.get(self.num_asked)
        if what == "dies":
            self.deaths.append(self.num_asked)
            self.restart()  # as Ray does it: without weights
            raise WorkerLost("it died")
        if what == "hangs":
            await asyncio.sleep(1000)
        await self._arrived()
        return await self.actor.generate(request, version)

    async def ping(self):
        await self._arrived()
        return await self.actor.ping()

    async def _arrived(self):
        """What was sent before this."""
        sent, self.updates = self.updates, []
        for update in sent:
            await self.actor.update(*update)

    def update(self, weights, version):
        self.updates.append((weights, version))

    def close(self):
        self.actor._engine.close()


def over(*scripts, deaths=None, **table):
    """A backend with an engine a script. deaths: gets an entry for each."""
    deaths = [] if deaths is None else deaths

    @contextlib.contextmanager
    def backend(config, folder, sources):
        policy = open_policy(config.model, folder, dtype=config.dtype, lora_rank=0, seed=config.seed, sources=sources)
        parts = (policy.model.config, policy.tokenizer, config.dtype, config.num_slots, 1)
        remotes = {f"engine {i}": Here(parts, script, deaths) for i, script in enumerate(scripts)}
        at = ClusterConfig(engines=len(scripts), **table)
        with (
            cluster.ClusterEngine(remotes, at, folder, *parts[:2], put=dict) as sampler,
            LocalLearner(policy, num_workers=0) as learner,
        ):
            yield learner, sampler

    return backend


@pytest.mark.parametrize(
    "scripts",
    [
        ({}, {}),
        ({}, {4: "dies", 7: "dies"}),
        ({2: "dies"}, {}, {5: "dies"}),
        ({3: "dies"},),  # nobody else is there: it is waited for
    ],
)
def test_a_run_over_engines_that_die_has_the_bits_of_one_machine(
    base,  # noqa: F811
    tmp_path,
    monkeypatch,
    undisturbed,
    scripts,
):
    recipe, deaths = config(base, tmp_path / "run", num_steps=4, save_every=2), []
    run_with(over(*scripts, deaths=deaths, patience=2.0), recipe, monkeypatch)
    assert weights(tmp_path / "run", 4) == undisturbed
    rows = list(read_jsonl(tmp_path / "run" / "requests.jsonl"))
    # an engine may die again while the dealer still learns of its first death: both are one loss then
    num_lost = sum(row.get("event") == "lost" for row in rows)
    assert bool(deaths) <= num_lost <= len(deaths) and bool(deaths) == any(scripts)
    told = [row for row in rows if "seed" in row]
    counts = Counter((row["step"], row["problem"], row["first"] + i) for row in told for i in range(row["n"]))
    assert set(counts.values()) == {1} and len(counts) == 4 * 6 * 8
    assert all(row["version"] == row["step"] for row in told)


def test_an_engine_that_hangs_holds_nobody_up_for_longer_than_a_hedge(base, tmp_path, monkeypatch, undisturbed):  # noqa: F811
    recipe = config(base, tmp_path / "run", num_steps=4, save_every=2)
    run_with(over({}, {2: "hangs"}, patience=60.0, hedge=0.2), recipe, monkeypatch)
    assert weights(tmp_path / "run", 4) == undisturbed


def test_a_run_that_goes_on_forgets_the_answers_that_it_asks_for_again(base, tmp_path, monkeypatch, undisturbed):  # noqa: F811
    recipe = config(base, tmp_path / "run", num_steps=4, save_every=2)
    with pytest.raises(KeyError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLedger, "sampled", stop_at(3, RunLedger.sampled))
        run_with(over({}, {}), recipe, monkeypatch)
    run_with(over({}), recipe, monkeypatch)  # with another number of engines
    rows = [row for row in read_jsonl(tmp_path / "run" / "requests.jsonl") if "seed" in row]
    assert Counter(row["step"] for row in rows) == {step: 6 for step in range(4)}
    assert weights(tmp_path / "run", 4) == undisturbed


def stop_at(last, sampled):
    def stopping(self, step, rollouts):
        if step == last:
            raise KeyError(step)
        sampled(self, step, rollouts)

    return stopping


class Failing:
    """The local backend, whose sampler or learner is lost at a step."""

    def __init__(self, at, error, times=1):
        self.at, self.error, self.times = at, error, times

    def __call__(self, config, folder, sources):
        return self.opened(config, folder, sources)

    def opened(self, *arguments):
        @contextlib.contextmanager
        def pair():
            with local(*arguments) as (learner, sampler):
                generate, update = sampler.generate, learner.step

                async def watched(*prompt, **more):
                    self.raise_at(asking.get()[0], EngineLost)
                    return await generate(*prompt, **more)

                def step(**how):
                    self.raise_at(sampler.policy_version, RankError)
                    return update(**how)

                sampler.generate, learner.step = watched, step
                yield learner, sampler

        return pair()

    def raise_at(self, step, kind):
        if kind is self.error and step == self.at and self.times:
            self.times -= 1
            raise kind("gone")


def run_with(failing, recipe, monkeypatch):
    monkeypatch.setitem(loop.BACKENDS, "local", failing)
    return rl(recipe)


@pytest.fixture
def undisturbed(base, tmp_path):  # noqa: F811
    rl(config(base, tmp_path / "calm", num_steps=4, save_every=2))
    return weights(tmp_path / "calm", 4)


@pytest.mark.parametrize("max_lag", [0, 1])
def test_a_run_whose_engines_are_gone_saves_its_last_step(base, tmp_path, monkeypatch, undisturbed, max_lag):  # noqa: F811
    recipe = config(base, tmp_path / "run", num_steps=4, save_every=100, max_lag=max_lag)
    with pytest.raises(EngineLost):
        run_with(Failing(3, EngineLost), recipe, monkeypatch)
    assert len(list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))) == 3
    with safe_open(state_path(tmp_path / "run"), framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["step"] == 3
    run_with(local, recipe, monkeypatch)
    assert weights(tmp_path / "run", 4) == undisturbed or max_lag


def test_after_a_lost_rank_the_run_goes_on_by_itself_from_its_last_state(base, tmp_path, monkeypatch, undisturbed):  # noqa: F811
    recipe = config(base, tmp_path / "run", num_steps=4, save_every=2)
    with pytest.warns(UserWarning, match="is opened again"):
        run_with(Failing(3, RankError), recipe, monkeypatch)
    assert weights(tmp_path / "run", 4) == undisturbed
    assert [row["step"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2, 3]


def test_ranks_that_are_lost_at_the_same_step_again_end_the_run(base, tmp_path, monkeypatch):  # noqa: F811
    recipe = config(base, tmp_path / "run", num_steps=4, save_every=2)
    with pytest.warns(UserWarning), pytest.raises(RankError):
        run_with(Failing(1, RankError, times=5), recipe, monkeypatch)
