"""Engines on the nodes of a Ray cluster: `backend = "cluster"`, with the table [cluster] in a recipe.

    ray start --head --port=6379                     # on one machine, with RAY_AUTH_MODE=disabled or a shared token
    ray start --address=HEAD:6379                    # on each of the others
    ponder rl demo_nano_cpu backend=cluster cluster.address=HEAD:6379 cluster.engines=4

The driver (this process) trains, deals requests (train/dealing.py) and counts; each engine is an actor with a
LocalEngine of its own. They need nothing on their disks but ponder: model, tokenizer and weights come through Ray's
object store, where one version is kept. A run ends with the bits of one machine, whatever was lost on the way, where
every node has the driver's kind of CPU and version of torch.

RUN/requests.jsonl is the ledger of it: one row an answer, one an event of an engine (ready, lost).

This is the only file that imports ray (pip install "ponder[cluster]"), and it does so when a cluster is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.engine.base import BaseEngine, EngineLost
from ponder.engine.local import EngineError, LocalEngine
from ponder.files import append_jsonl, jsonl, read_jsonl, write_atomic
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, Transformer, blank
from ponder.rollouts.collect import asking
from ponder.train.dealing import ClusterConfig, Dealer, Draw, Remote, WorkerLost, WrongVersion
from ponder.train.distributed import pick_device
from ponder.train.learner import local_learner, policy_of
from ponder.train.publish import PublishedWeights, WeightStore, fast_folder
from ponder.train.recipe import RLConfig
from ponder.train.sharded import RankLost, ShardedLearner
from ponder.trained_on import Source
from ponder.types import Capabilities, Completion, Learner, Message, Sampler, SamplingParams

LEDGER = "requests.jsonl"


@contextmanager
def open_cluster(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """The pair of `backend = "cluster"`. Refuses what does not fit before anything is started."""
    at = config.cluster
    with ExitStack() as stack:
        stack.enter_context(connected(at))
        group = stack.enter_context(placed(at))
        policy = policy_of(config, folder, sources)
        model, tokenizer = policy.model, policy.tokenizer
        parts = (model.config, tokenizer, str(model.dtype).removeprefix("torch."), config.num_slots, at.cores)
        start = remote_class(EngineActor, at, max_restarts=-1, max_concurrency=10_000)
        remotes = {f"engine {i}": RayRemote(start(group, i).remote(*parts)) for i in range(at.engines)}
        sampler = stack.enter_context(ClusterEngine(remotes, at, folder, model.config, tokenizer, put=import_ray().put))
        learner: Learner
        if at.ranks:
            start = remote_class(RankActor, at, max_restarts=0)
            actors = [start(group, at.engines + i).remote() for i in range(at.ranks)]  # all start at once
            ranks = [RayRank(actor, limit=at.outage) for actor in actors]
            ready = ({"step": -1, "event": "ready", "engine": f"rank {i}", **r.facts} for i, r in enumerate(ranks))
            append_jsonl(folder / LEDGER, list(ready))
            size, window = model.num_parameters * model.dtype.itemsize, 2
            fast = fast_folder(folder, size, window=window) if is_one_host() else None
            store = stack.enter_context(WeightStore(fast or folder / "weights", window=window))
            ranked = ShardedLearner(
                policy, ranks, folder=folder / "start", store=store, recompute=config.recompute
            )  # fmt: skip
            learner = stack.enter_context(ranked)
        else:
            learner = stack.enter_context(local_learner(policy, config))
        yield learner, sampler


# ---- Ray -----------------------------------------------------------------------------------------------------------


def import_ray() -> Any:
    """The module. Unless the environment says otherwise, Ray sends no usage statistics. ImportError, with the extra to
    install, where it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError('backend = "cluster" needs Ray: pip install "ponder[cluster]"') from error
    return ray


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """To a cluster that runs, or to a Ray started on this machine for as long as it is needed."""
    ray = import_ray()
    if ray.is_initialized():  # whoever did that also ends it
        yield
        return
    more = {} if config.address else {"include_dashboard": False}
    try:
        ray.init(address=config.address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster can be reached at cluster.address={config.address!r} ({str(error).splitlines()[0]}); "
            "start one with `ray start --head`. All nodes need the same Ray and Python, and the same token file or "
            "RAY_AUTH_MODE=disabled"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def misfit(nodes: Mapping[str, Mapping[str, float]], config: ClusterConfig) -> str:
    """What the table asks for and the nodes (name -> resources) cannot hold, in words; empty = it fits."""
    need = {"CPU": config.cores, "GPU": config.gpus}
    room = {
        name: int(min(has.get(kind, 0) // amount for kind, amount in need.items() if amount))
        for name, has in nodes.items()
    }
    if sum(room.values()) >= config.engines + config.ranks:
        return ""
    listed = "; ".join(
        f"{name} has {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs, room for {room[name]}"
        for name, has in nodes.items()
    )
    each = f"{config.cores} cores" + (f" and {config.gpus} GPUs" if config.gpus else "")
    ranks = f" and {config.ranks} ranks" if config.ranks else ""
    return (
        f"[cluster] asks for {config.engines} engines{ranks} of {each} each, and the cluster has room for "
        f"{sum(room.values())}: {listed}. Take fewer engines, smaller ones, or add a node (ray start --address=...)"
    )


@contextmanager
def placed(config: ClusterConfig) -> Iterator[Any]:
    """Reserved room: a place (bundle) of the placement group for each engine, then for each rank, spread over nodes."""
    ray = import_ray()
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = {f"node {n} ({node['NodeManagerAddress']})": node["Resources"] for n, node in enumerate(alive, 1)}
    if why := misfit(nodes, config):
        raise ConfigError(why)
    bundle = {"CPU": config.cores} | ({"GPU": config.gpus} if config.gpus else {})
    group = ray.util.placement_group([bundle] * (config.engines + config.ranks), strategy="SPREAD")
    try:
        if not group.wait(timeout_seconds=config.outage):  # what a killed driver had is free again after some seconds
            free = ray.available_resources()
            raise ConfigError(
                f"[cluster] asks for {config.engines + config.ranks} places of {bundle}; they fit onto the nodes, and "
                f"others hold them: {free.get('CPU', 0):g} cores and {free.get('GPU', 0):g} GPUs were free after "
                f"{config.outage:g} s (cluster.outage)"
            )
        yield group
    finally:
        with contextlib.suppress(Exception):  # the cluster is gone, and the group with it
            ray.util.remove_placement_group(group)


def is_one_host() -> bool:
    """Whether all nodes that are alive have the same address. Ray must be connected."""
    return len({node["NodeManagerAddress"] for node in import_ray().nodes() if node["Alive"]}) == 1


def remote_class(cls: type, config: ClusterConfig, **options: Any) -> Callable[[Any, int], Any]:
    """(placement group, bundle) -> the actor class there."""
    ray = import_ray()
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    made = ray.remote(num_cpus=config.cores, num_gpus=config.gpus, max_task_retries=0, **options)(cls)
    return lambda group, bundle: made.options(
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    )


# ---- on a node -----------------------------------------------------------------------------------------------------


class EngineActor:
    """One engine, as an actor. It has no weights until it is sent some, and refuses requests for others."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, dtype: str, num_slots: int, cores: int) -> None:
        torch.set_num_threads(1)
        of = {"device": pick_device(), "dtype": getattr(torch, dtype)}
        weights = {name: torch.zeros(meta.shape, **of) for name, meta in blank(config).state_dict().items()}
        model = Transformer.over(config, weights)
        num_workers = cores if cores > 1 and of["device"] == "cpu" else 0
        self._engine = LocalEngine(model, tokenizer, num_workers=num_workers, num_slots=num_slots, closes_once=False)
        self._version: int | None = None
        self._newest, self._refusal = -1, ""
        self._load_seconds = 0.0
        self._facts = facts_of_machine() | {"node": platform.node(), "pid": os.getpid()}

    async def generate(self, request: Draw, version: int, sent: None = None) -> list[Completion]:
        """sent: the result of the last `update`, for which Ray waits; calls of an asynchronous actor have no order."""
        if version != self._version:
            raise WrongVersion(f"{version} was asked for, and the weights are of {self._version}{self._refusal}")
        try:
            return await self._engine.generate(request.prompt, request.params, n=request.n, first=request.first)
        except EngineError as error:  # its worker process died; what is asked again gets a new one
            raise WorkerLost(str(error), is_running=True) from error

    async def update(self, weights: Any, version: int) -> None:
        """weights: what `packed` made, or where they were published."""
        if version < self._newest:
            return  # it was overtaken
        begun = time.monotonic()
        self._newest, self._version = version, None  # until they are whole
        try:
            tensors = weights if isinstance(weights, PublishedWeights) else unpacked(weights)
            self._engine.update_weights(tensors, version=version)
        except Exception as error:  # told to who asks for this version
            self._refusal = f" ({type(error).__name__}: {error})"
            return
        self._version, self._refusal, self._load_seconds = version, "", time.monotonic() - begun

    async def ping(self) -> dict[str, Any]:
        """Facts of the node, the version of the weights (None before the first, or where the last could not be loaded),
        and the seconds that loading them took."""
        return self._facts | {"version": self._version, "load_seconds": round(self._load_seconds, 4)}


class RankActor:
    """One rank of sharded training, as an actor. It is not started again: ranks live and die together."""

    def __init__(self) -> None:
        from ponder.train.rank import Rank  # torch.distributed is imported in the ranks alone

        torch.set_num_threads(1)
        self._rank = Rank()

    def call(self, method: str, *arguments: Any) -> Any:
        """Run a method of `Rank` in this process; Ray carries what it returns or raises to the caller."""
        return getattr(self._rank, method)(*arguments)

    def facts(self) -> dict[str, Any]:
        """The address of the node, at which other ranks reach this one, and the process id."""
        return {"node": import_ray().util.get_node_ip_address(), "pid": os.getpid()}


def facts_of_machine() -> dict[str, str]:
    """What has to be the same everywhere for the same bits."""
    return {"cpu": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


def packed(weights: Mapping[str, Tensor]) -> dict[str, tuple[Any, str]]:
    """Tensors of any dtype as bytes in numpy, which Ray's object store holds without a copy for each reader."""
    return {
        name: (tensor.detach().cpu().contiguous().view(torch.uint8).numpy(), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in weights.items()
    }


def unpacked(weights: Mapping[str, tuple[Any, str]]) -> dict[str, Tensor]:
    """The inverse of `packed`. The tensors lie in the object store's read-only memory: copy from them, never write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the store is read-only, and they are only copied from
        return {name: torch.from_numpy(array).view(getattr(torch, dtype)) for name, (array, dtype) in weights.items()}


# ---- at the driver -------------------------------------------------------------------------------------------------


class RayRemote:
    """An actor as the dealer asks it (`dealing.Remote`): Ray's errors become those that it knows."""

    def __init__(self, actor: Any) -> None:
        self.actor, self._ray = actor, import_ray()
        self.sent: Any = None  # reference to the result of the last update

    async def generate(self, request: Draw, version: int) -> list[Completion]:
        completions: list[Completion] = await self._answer(self.actor.generate.remote(request, version, self.sent))
        return completions

    async def ping(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = await self._answer(self.actor.ping.remote())
        return facts

    async def _answer(self, reference: Any) -> Any:
        try:
            return await reference
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # the actor is gone
                self._ray.cancel(reference)
            raise
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, WrongVersion | WorkerLost):
                raise error.cause from None
            raise RuntimeError(str(error)) from error
        except self._ray.exceptions.RayError as error:
            self.sent = None  # of another life; this one says what it has
            raise WorkerLost(type(error).__name__) from error

    def update(self, weights: Any, version: int) -> None:
        self.sent = self.actor.update.remote(weights, version)

    def restart(self) -> None:
        with contextlib.suppress(Exception):  # it is gone, and starts again
            self._ray.kill(self.actor, no_restart=False)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it is gone
            self._ray.kill(self.actor)


class RayRank:
    """A rank as the sharded learner calls it (`sharded.RankHandle`)."""

    def __init__(self, actor: Any, *, limit: float) -> None:
        """limit: seconds that its process may take to start."""
        self.actor, self._ray = actor, import_ray()
        try:
            self.facts: dict[str, Any] = self._ray.get(actor.facts.remote(), timeout=limit)
        except self._ray.exceptions.GetTimeoutError:
            raise RankLost(f"its process did not start within {limit:g} s; raise cluster.outage") from None
        self.host = self.facts["node"]

    async def call(self, method: str, *arguments: Any) -> Any:
        try:
            return await self.actor.call.remote(method, *arguments)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"{type(error.cause).__name__}: {error.cause}") from error
        except self._ray.exceptions.RayError as error:
            raise RankLost(f"its process on {self.host} is gone ({type(error).__name__})") from error

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it is gone
            self._ray.kill(self.actor)


class ClusterEngine(BaseEngine):
    """A Sampler whose completions are drawn by many engines; same prompt, params and index, same completion."""

    capabilities = Capabilities(token_ids=True)

    def __init__(
        self, remotes: Mapping[str, Remote], config: ClusterConfig, folder: Path, model_config: ModelConfig,
        tokenizer: Tokenizer, *, put: Callable[[Any], Any],
    ) -> None:  # fmt: skip
        """Waits until the engines are there. Raises EngineLost where fewer than `min_engines` come.

        put: packed weights -> what an engine is sent of them.
        """
        self.tokenizer, self.window = tokenizer, model_config.max_position_embeddings
        self.policy_version, self.put_seconds = 0, 0.0  # of the last weights
        self._put, self._ledger = put, folder / LEDGER
        self.dealer = Dealer(remotes, config, lambda row: append_jsonl(self._ledger, [row]))
        try:
            asyncio.run(self._await_start(config))
        except BaseException:
            self.close()
            raise

    async def _await_start(self, config: ClusterConfig) -> None:
        pings = {asyncio.ensure_future(worker.remote.ping()): worker for worker in self.dealer.workers}
        done, late = await asyncio.wait(pings, timeout=config.outage)
        for ping in late:
            ping.cancel()
        for ping in done:
            if isinstance(ping.exception(), WorkerLost):
                continue  # another life of it may come
            facts, here = ping.result(), facts_of_machine()
            self.dealer.ready(pings[ping], facts)
            if others := {name: facts[name] for name in here if facts[name] != here[name]}:
                warnings.warn(
                    f"{pings[ping].name} on {facts['node']} has {others}, the driver {here}: this run cannot be "
                    "repeated bit for bit",
                    stacklevel=2,
                )
        able = sum(worker.is_able for worker in self.dealer.workers)
        if able < config.min_engines:
            raise EngineLost(
                f"{able} of {config.engines} engines started within {config.outage:g} s (cluster.outage), fewer than "
                f"cluster.min_engines={config.min_engines}; the nodes' logs lie in /tmp/ray/session_latest/logs"
            )

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        if prompt and isinstance(prompt[0], Message):
            return tuple(self.tokenizer.render(prompt))
        return tuple(int(token) for token in prompt)  # type: ignore[arg-type]

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        step, problem = asking.get()
        request = Draw(prompt=prompt, params=params, n=n, first=first, step=step, problem=problem)
        try:
            return await self.dealer.answer(request)
        except EngineLost as error:
            self.failure = str(error)
            raise

    def update_weights(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Waits until they are in the object store, not until the engines have them."""
        if self.dealer.version is None:
            self._forget_from(version)
        begun = time.monotonic()
        # the only reference: the version before goes from the store when nobody reads it any more
        stored = weights if isinstance(weights, PublishedWeights) else self._put(packed(weights))
        self.put_seconds, self.policy_version = time.monotonic() - begun, version
        self.dealer.update(stored, version=version)

    def _forget_from(self, step: int) -> None:
        """A run that goes on at a step asks for it anew."""
        if self._ledger.exists():
            rows = [row for row in read_jsonl(self._ledger, "step") if row["step"] < step]
            write_atomic(self._ledger, jsonl(rows))

    def close(self) -> None:
        """End the process of every engine. One that is gone already is no error."""
        for worker in self.dealer.workers:
            worker.remote.close()

    def __enter__(self) -> ClusterEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
