"""What a run would do on GPUs that are not here: seconds a step, staleness, waiting, failures, and what does not fit.

    cluster = parse_cluster(["cluster=h100:64", "plan.tensor=2"])
    plan(job, cluster, num_gpus=64, max_lag=1).step        # job: `train/estimate.py` makes one of a recipe

Sampling reads every weight and every key of the batch once a token (or multiplies, where that takes longer) plus an
overhead; training is FLOPs over the share of the peak that is reached (MFU); weights travel at a bandwidth. The queue
between them is simulated (`train/simulate.py`). docs/plan.md says how far this is from published steps and what it does
not know. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ponder.config import ConfigError, check, load, nearest, setting
from ponder.train.hardware import HARDWARE, Hardware, Shape
from ponder.train.simulate import Pools, Simulated, simulate


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What a plan is made for. The constants are one set for all; `bench/plan.py` prints how well they do."""

    hardware: str = setting("h100", "kind of GPU: a key of HARDWARE")
    num_gpus: tuple[int, ...] = setting((8,), "how many; several make several plans", least=1, most=100_000)
    tensor: int = setting(0, "GPUs of an engine; 0 = the fewest that hold the model", least=0, most=1024)
    sample_share: float = setting(0.0, "of the GPUs that sample; 0 = the best of several", least=0, below=1)
    mean_tokens: int = setting(0, "of a completion, after the cap; 0 = half the cap", least=0)
    spread: float = setting(1.0, "standard deviation of the logarithm of lengths: the tail", least=0, most=4)
    window: float = setting(0.0, "batches that a batch may reach ahead; 0 = in order, as `rl` does", least=0, most=1e9)
    mfu: float = setting(0.45, "share of the peak that training reaches (mixtures of experts: 0.15)", above=0, most=1)
    bandwidth_share: float = setting(0.7, "of the memory bandwidth, by decoding", above=0, most=1)
    decode_flops_share: float = setting(0.6, "of the peak, by decoding", above=0, most=1)
    token_overhead: float = setting(3e-3, "seconds a token that no batch hides", least=0)
    tensor_overhead: float = setting(2e-3, "more of them, for each doubling of `tensor`", least=0)
    memory_share: float = setting(0.88, "of the memory, for weights and caches", above=0, most=1)
    sync_bandwidth: float = setting(8e9, "bytes a second of a whole weight sync, gather and load included", above=0)
    sync_pause: float = setting(1.0, "seconds of a sync beside its bytes", least=0)
    mtbf_hours: float = setting(50_700.0, "GPU hours from one failure to the next (Llama 3: 419 in 54 days)", above=0)
    engine_restart: float = setting(300.0, "seconds to replace an engine", least=0)
    trainer_restart: float = setting(900.0, "seconds to start all trainers from their last state", least=0)
    seed: int = setting(0, "of the lengths", least=0)

    def __post_init__(self) -> None:
        check(self)
        if self.hardware not in HARDWARE:
            raise ConfigError(f"unknown hardware {self.hardware!r}{nearest(self.hardware, HARDWARE)}")
        if not self.num_gpus:
            raise ValueError("num_gpus is empty; name at least one number, e.g. cluster=h100:8")

    @property
    def gpu(self) -> Hardware:
        return HARDWARE[self.hardware]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a recipe asks of a cluster."""

    shape: Shape
    groups: int  # of a step
    group_size: int
    mean_tokens: int  # of a completion
    max_tokens: int
    prompt_tokens: int
    forward_flops: float  # of a token at half its length
    passes: float  # of training, in forward passes
    state_bytes: float  # weights, masters, gradients and moments of the trainer, all ranks together
    batch_tokens: int  # of one forward pass of a trainer
    save_every: int  # steps
    max_lag: int = 0


class DoesNotFit(ConfigError):
    """A model or its training needs more memory than the GPUs have."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Seconds are those of a step, on average."""

    way: str
    max_lag: int
    window: float
    num_gpus: int
    sample_gpus: int
    train_gpus: int
    tensor: int
    num_engines: int
    slots: int  # sequences that an engine decodes at a time
    step: float  # without failures
    sampling: float
    training: float
    sync: float
    engines_waiting: float  # shares of the time
    trainers_waiting: float
    mean_lag: float
    largest_lag: int
    lost: float  # share of the time that failures take
    tokens_per_gpu: float  # of completions, a second

    @property
    def step_with_failures(self) -> float:
        """Seconds of a step, with the time that failures take."""
        return self.step / max(1e-9, 1 - self.lost)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"step_with_failures": self.step_with_failures}


def parse_cluster(words: Sequence[str]) -> PlanConfig:
    """`cluster=KIND:NUMBER[,NUMBER...]` and `plan.KEY=VALUE`."""
    overrides = []
    if not any(word.partition("=")[0].strip() == "cluster" for word in words):
        raise ConfigError("a plan needs a cluster; add e.g. cluster=h100:8")
    for word in words:
        key, equals, value = word.partition("=")
        if key.strip() != "cluster":
            overrides.append(word.strip().removeprefix("plan."))
            continue
        kind, colon, numbers = value.strip().lower().partition(":")
        if not (equals and colon and kind) or not all(n.strip().isdecimal() for n in numbers.split(",")):
            raise ConfigError(f"{word!r} names no cluster; write cluster=KIND:NUMBER, e.g. cluster=h100:8,64,1000")
        overrides += [f'hardware="{kind}"', f"num_gpus=[{numbers}]"]
    return load(PlanConfig, None, overrides)


def split_cluster(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """(those of the recipe, those that are planned for). `cluster.KEY=VALUE` is a recipe's."""
    recipe, planned = list[str](), list[str]()
    for word in overrides:
        key = word.partition("=")[0].strip()
        (planned if key == "cluster" or key.startswith("plan.") else recipe).append(word)
    return recipe, planned


def plans(job: Job, cluster: PlanConfig, num_gpus: int) -> tuple[list[Plan], list[str]]:
    """A plan for each way to take turns, and what cannot be planned, in words: in turn, lag 1, lag 2 and 4, and the
    recipe's own max_lag."""
    made, words = list[Plan](), list[str]()
    for max_lag in sorted({0, 1, 2, 4, job.max_lag}):
        try:
            made.append(plan(job, cluster, num_gpus, max_lag))
        except DoesNotFit as error:
            if str(error) not in words:
                words.append(str(error))
    return made, words


def plan(job: Job, cluster: PlanConfig, num_gpus: int, max_lag: int, *, drains: bool | None = None) -> Plan:
    """The best split of the GPUs, or the cluster's own. drains: updates wait for what was asked for; None = as `rl`
    does, at lag 1 (train/ahead.py). Raises DoesNotFit with what to change."""
    drains = max_lag == 1 if drains is None else drains
    tensor = cluster.tensor or fewest_gpus(job, cluster)
    check_engine(job, cluster, tensor)
    if max_lag == 0:
        if tensor > num_gpus:
            raise DoesNotFit(f"an engine of {tensor} GPUs is more than all {num_gpus}")
        check_trainers(job, cluster, num_gpus)
        return _plan(job, cluster, num_gpus, max_lag, drains, tensor, num_gpus // tensor, num_gpus)
    splits = _splits(job, cluster, num_gpus, tensor)
    brief = [_plan(job, cluster, num_gpus, max_lag, drains, tensor, *split, brief=True) for split in splits]
    best = min(range(len(splits)), key=lambda i: brief[i].step)
    return _plan(job, cluster, num_gpus, max_lag, drains, tensor, *splits[best])


def _splits(job: Job, cluster: PlanConfig, num_gpus: int, tensor: int) -> list[tuple[int, int]]:
    """(engines, GPUs that train) of each split that fits."""
    if num_gpus <= tensor:
        raise DoesNotFit(
            f"sampling ahead needs two pools, one of {tensor} or more and one of at least 1, and there are {num_gpus}"
        )
    shares = [cluster.sample_share] if cluster.sample_share else [i / 8 for i in range(1, 8)]
    engines = {max(1, min(int(num_gpus * share + 1e-9), num_gpus - 1) // tensor) for share in shares}
    found, problem = [], DoesNotFit("no split of the GPUs fits")
    for count in sorted(engines):
        try:
            check_trainers(job, cluster, num_gpus - count * tensor)
            found.append((count, num_gpus - count * tensor))
        except DoesNotFit as error:
            problem = error
    if not found:
        raise problem
    return found


def _plan(
    job: Job, cluster: PlanConfig, num_gpus: int, max_lag: int, drains: bool, tensor: int, num_engines: int,
    train_gpus: int, *, brief: bool = False,
) -> Plan:  # fmt: skip
    # batches dealt together end together, so updates come in bursts of max_lag + 1: whole bursts are measured
    burst, skipped = max_lag + 1, max_lag + (1 if brief else 2)
    num_steps = skipped + burst * (math.ceil(2 / burst) if brief else max(2, math.ceil(6 / burst)))
    slots, window = slots_of(job, cluster, tensor), 0.0 if drains or not max_lag else cluster.window
    sync = 2 * job.shape.total / cluster.sync_bandwidth + cluster.sync_pause
    pools = Pools(
        num_engines=num_engines, slots=slots, batch_groups=job.groups, prompt_tokens=job.prompt_tokens,
        token_seconds=functools.partial(token_seconds, job.shape, cluster, tensor),
        train_seconds=lambda tokens: train_seconds(job, cluster, train_gpus, tokens),
        sync_seconds=sync, max_lag=max_lag, drains=drains, window=window, num_steps=num_steps, skipped_steps=skipped,
    )  # fmt: skip
    found = simulate(pools, lengths(job, cluster, (num_steps + max_lag + 1) * job.groups))
    sample_gpus = num_engines * tensor
    way = f"lag {max_lag}, {'drained' if drains else 'in flight'}" if max_lag else "in turn"
    # in turn they are the same GPUs
    idle = max(0.0, 1 - (found.sampling + found.training + sync) / found.step)
    engines_waiting, trainers_waiting = (found.engines_waiting, found.trainers_waiting) if max_lag else (idle, idle)
    return Plan(
        way=way, max_lag=max_lag, window=window, num_gpus=num_gpus, sample_gpus=sample_gpus, train_gpus=train_gpus,
        tensor=tensor, num_engines=num_engines, slots=slots, step=found.step, sampling=found.sampling,
        training=found.training, sync=sync, engines_waiting=engines_waiting,
        trainers_waiting=trainers_waiting, mean_lag=found.mean_lag, largest_lag=found.largest_lag,
        lost=lost_to_failures(job, cluster, found, sample_gpus, train_gpus, num_engines, shared=max_lag == 0),
        tokens_per_gpu=found.tokens / found.step / num_gpus,
    )  # fmt: skip


def token_seconds(shape: Shape, cluster: PlanConfig, tensor: int, sequences: int, context: float) -> float:
    """Until each of an engine's sequences has one more token; context: tokens that lie in its cache."""
    gpu = cluster.gpu
    read = 2 * shape.total + shape.kv_bytes * context
    memory = read / (gpu.bandwidth * tensor * cluster.bandwidth_share)
    products = 2 * shape.active * sequences / (gpu.flops * tensor * cluster.decode_flops_share)
    return max(memory, products) + cluster.token_overhead + cluster.tensor_overhead * math.log2(tensor)


def train_seconds(job: Job, cluster: PlanConfig, train_gpus: int, tokens: float) -> float:
    """Of a batch with so many completion tokens; a prompt is computed once for its group."""
    all_tokens = tokens + job.groups * job.prompt_tokens
    return all_tokens * job.forward_flops * job.passes / (train_gpus * cluster.gpu.flops * cluster.mfu)


def lengths(job: Job, cluster: PlanConfig, num_groups: int) -> list[list[int]]:
    """Completion tokens of each group: lognormal, cut at the cap, with the mean that was asked for after the cut. The
    numbers behind them depend on the seed alone, so that plans of other clusters and tails see the same luck."""
    draws = np.random.default_rng(cluster.seed).standard_normal((num_groups, job.group_size))
    mean = cluster.mean_tokens or job.mean_tokens
    if not 1 <= mean < job.max_tokens:
        raise ConfigError(f"mean_tokens={mean} must lie below the cap of a completion, {job.max_tokens} tokens")
    log_mean = _log_mean(mean, cluster.spread, job.max_tokens)
    return np.clip(np.exp(log_mean + cluster.spread * draws), 1, job.max_tokens).round().astype(int).tolist()


def _log_mean(mean: float, spread: float, cap: float) -> float:
    """Of the logarithm, so that the mean of min(length, cap) is `mean`: by bisection of the closed form."""
    if spread == 0:
        return math.log(mean)
    normal = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))
    low, high = math.log(mean) - spread**2, math.log(cap) + 8 * spread
    for _ in range(100):
        middle = (low + high) / 2
        at = (math.log(cap) - middle) / spread
        found = math.exp(middle + spread**2 / 2) * normal(at - spread) + cap * normal(-at)
        low, high = (middle, high) if found < mean else (low, middle)
    return (low + high) / 2


def free_for_cache(job: Job, cluster: PlanConfig, tensor: int) -> float:
    """Bytes that an engine has for keys and values."""
    return cluster.memory_share * cluster.gpu.memory * tensor - 2 * job.shape.total


def slots_of(job: Job, cluster: PlanConfig, tensor: int) -> int:
    """Sequences of the mean length that an engine's memory holds, 1,024 at most (as vLLM's default on large GPUs)."""
    mean = cluster.mean_tokens or job.mean_tokens
    return int(
        max(1, min(1024, free_for_cache(job, cluster, tensor) / (job.shape.kv_bytes * (job.prompt_tokens + mean))))
    )


MOST_OF_ENGINE = 1024  # GPUs


def fewest_gpus(job: Job, cluster: PlanConfig) -> int:
    """A power of two, at most `MOST_OF_ENGINE`, that holds the weights and keys of a quarter of their size, or one
    sequence to its end."""
    window = job.shape.kv_bytes * (job.prompt_tokens + job.max_tokens)
    wanted = max(window, 0.25 * 2 * job.shape.total)
    tensor = 1
    while free_for_cache(job, cluster, tensor) < wanted and tensor < MOST_OF_ENGINE:
        tensor *= 2
    return tensor


def check_engine(job: Job, cluster: PlanConfig, tensor: int) -> None:
    """Raise DoesNotFit where an engine of `tensor` GPUs cannot hold the weights, 2 bytes each, and the keys and values
    of one completion at its cap."""
    window = job.shape.kv_bytes * (job.prompt_tokens + job.max_tokens)
    if free_for_cache(job, cluster, tensor) < window:
        fewest = fewest_gpus(job, dataclasses.replace(cluster, tensor=0))
        fits = free_for_cache(job, cluster, fewest) >= window
        advice = f"set plan.tensor={fewest}" if fits else "take GPUs with more memory, or a smaller model"
        raise DoesNotFit(
            f"an engine of {tensor} {_of(cluster)} has {_gb(cluster.memory_share * cluster.gpu.memory * tensor)} for "
            f"weights ({_gb(2 * job.shape.total)}) and at least one completion to its end ({_gb(window)}): "
            f"{advice}"
        )


def check_trainers(job: Job, cluster: PlanConfig, train_gpus: int) -> None:
    """State is shared by all ranks (FSDP2), what backward keeps of a pass is each one's own."""
    has, own = cluster.memory_share * cluster.gpu.memory, job.batch_tokens * job.shape.kept_bytes
    if own >= has:
        raise DoesNotFit(
            f"backward keeps {_gb(own)} of a pass of {job.batch_tokens} tokens and {_of(cluster)} has {_gb(has)}: set "
            "recompute=true, or lower max_tokens_per_batch"
        )
    if job.state_bytes / train_gpus + own > has:
        needed = math.ceil(job.state_bytes / (has - own))
        raise DoesNotFit(
            f"training keeps {_gb(job.state_bytes)} of weights, gradients and moments; {train_gpus} {_of(cluster)} "
            f"hold {_gb(train_gpus * (has - own))} of it beside their passes: let at least {needed} train, or train an "
            "adapter (lora_rank)"
        )


def lost_to_failures(
    job: Job, cluster: PlanConfig, found: Simulated, sample_gpus: int, train_gpus: int, num_engines: int,
    *, shared: bool,
) -> float:  # fmt: skip
    """Share of the time. A trainer's failure costs its restart and half the steps between two states; in turn every GPU
    is a trainer. An engine's costs its own share of sampling while it is replaced."""
    a_second = 1 / (cluster.mtbf_hours * 3600)
    restart = cluster.trainer_restart + job.save_every * found.step / 2
    lost = train_gpus * a_second * restart
    if not shared:
        lost += sample_gpus * a_second * cluster.engine_restart / num_engines
    return min(1.0, lost)


def table(found: Sequence[Plan]) -> str:
    """For people, at most 80 columns."""
    head = f"{'':17} {'GPUs':>8} {'step':>6} {'sample':>6} {'train':>6} {'sync':>5} "
    head += f"{'lag':>7} {'waiting':>8} {'lost':>5}\n"
    rows = []
    for one in found:
        gpus = f"{one.sample_gpus}+{one.train_gpus}" if one.max_lag else str(one.num_gpus)
        waiting = f"{one.engines_waiting:.0%}" + (f" {one.trainers_waiting:.0%}" if one.max_lag else "")
        lag = f"{one.mean_lag:.1f} {one.largest_lag}"
        rows.append(
            f"{one.way:17} {gpus:>8} {_s(one.step):>6} {_s(one.sampling):>6} {_s(one.training):>6} "
            f"{_s(one.sync):>5} {lag:>7} {waiting:>8} {one.lost:>5.1%}"
        )
    return head + "\n".join(rows)


def _s(seconds: float) -> str:
    return f"{seconds:,.{0 if seconds >= 100 else 1 if seconds >= 10 else 2}f}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 10e9 else f"{size / 1e9:.2g} GB"


def _of(cluster: PlanConfig) -> str:
    return cluster.hardware.upper()
