"""Reinforcement learning with verifiable rewards: one loop that anyone can read.

    sample groups of completions -> verify -> advantages -> loss -> step -> the engine gets the new weights

    ponder rl recipes/demo_nano_cpu.toml
    ponder rl recipes/demo_nano_cpu.toml preset=dapo lr=5e-5 out=runs/dapo

Everything is a function of the recipe and its seed: a run that was killed goes on from its last saved state and takes
the same steps bit for bit. What a run writes is described in `ponder/runs.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from ponder.config import ConfigError, dumps, load, nearest
from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.models.tokenizer import Tokenizer
from ponder.runs import GracefulStop, Run
from ponder.tasks import load_task
from ponder.train.advantages import advantages
from ponder.train.batches import Batch, Example, from_groups, micro_batches
from ponder.train.deliberate import DeliberationConfig, open_preference
from ponder.train.deliberate import collect as deliberated
from ponder.train.distributed import PolicyLoss, Sums, Trainer, pick_device, resolve_workers
from ponder.train.losses import LossConfig, token_weights
from ponder.train.metrics import cost, extremes, policy_metrics, rollout_metrics, sample_row
from ponder.train.policy import Precision, open_policy
from ponder.train.pool import Pool
from ponder.train.presets import PRESETS, apply_preset
from ponder.train.rollouts import Collected, Reward, chain, collect, overlong, unended
from ponder.train.state import load_state, refuse_shorter, save_rung, save_state
from ponder.types import Group, Problem, Rollout, SamplingParams, Task


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    out: str  # the run's folder
    model: str = "nano"
    task: str = "arithmetic"
    preset: str = "grpo"  # what `load_recipe` filled in, see train/presets.py
    num_steps: int = 100
    # what is practised
    pool_size: int = 2048  # problems of the train split
    selection: Literal["uniform", "adaptive"] = "adaptive"
    problems_per_step: int = 24
    group_size: int = 16
    max_refills: int = 0  # rounds of further sampling while all-same groups leave the batch short (DAPO: 3)
    # how completions are drawn
    temperature: float = 1.0
    max_reasoning_tokens: int = 256
    max_answer_tokens: int = 16
    overlong_tokens: int = 0  # the last so many reasoning tokens before the cap cost up to 1 reward; 0 = off
    unended_cost: float = 0.0  # what a right answer loses when a budget had to end its reasoning or the answer itself
    # what a rollout is
    environment: Literal["", "deliberate"] = ""  # empty = one completion; see train/deliberate.py
    deliberation: DeliberationConfig = field(default_factory=DeliberationConfig)
    # how the policy learns
    advantage: Literal["grpo", "dr_grpo", "rloo", "reinforce_pp"] = "grpo"
    loss: LossConfig = field(default_factory=LossConfig)
    updates_per_step: int = 1  # optimizer steps on each batch of rollouts
    lr: float = 1e-4
    warmup_steps: int = 5
    max_norm: float = 1.0
    max_tokens_per_batch: int = 1024  # packed tokens in one forward pass
    dtype: Precision = "float32"  # of sampling, forward and backward; what is trained is float32 all the same
    lora_rank: int = 0  # of an adapter; 0 = train every weight
    recompute: bool = False  # activations again in backward: less memory, a third more time
    # what is kept
    rungs: tuple[
        int, ...
    ] = ()  # steps whose weights join the checkpoint ladder; empty = 0, 1, 2, 4, 8, ... and the last
    save_every: int = 10
    max_error_frac: float = 0.1  # more failed verifications than this in a step stop the run
    num_workers: int = -1  # processes that sample and that train: -1 = one a core, 0 = none
    num_slots: int = 128  # completions that one worker decodes at a time
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"unknown preset {self.preset!r}{nearest(self.preset, PRESETS)}")
        if self.group_size < 2:
            raise ValueError(f"group_size={self.group_size} gives no baseline; use at least 2")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} explores nothing; use a positive one, e.g. 1.0")
        for name in ("num_steps", "problems_per_step", "updates_per_step", "save_every", "num_slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if not 0 <= self.overlong_tokens <= self.max_reasoning_tokens:
            raise ValueError(f"overlong_tokens={self.overlong_tokens} must lie between 0 and max_reasoning_tokens")
        if not 0 <= self.unended_cost < 1:
            raise ValueError(f"unended_cost={self.unended_cost} must lie in [0, 1): a right answer is worth something")
        if self.environment and (self.overlong_tokens or self.unended_cost):
            raise ValueError(
                f"overlong_tokens and unended_cost are for single completions; environment={self.environment!r} has "
                "its own terms: [deliberation] window_penalty and step_cost"
            )
        if self.updates_per_step > self.problems_per_step:
            raise ValueError("updates_per_step cannot exceed problems_per_step: an update needs a group")

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature,
            max_reasoning_tokens=self.max_reasoning_tokens,
            max_answer_tokens=self.max_answer_tokens,
        )

    @property
    def ladder(self) -> set[int]:
        doubling = {0} | {2**i for i in range(20) if 2**i < self.num_steps}
        return set(self.rungs or doubling) | {self.num_steps}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> RLConfig:
    """A recipe with its preset filled in."""
    return load(RLConfig, path, overrides, prepare=apply_preset)


@dataclass(frozen=True)
class Step:
    """What a watcher sees after each step."""

    step: int  # steps done
    metrics: dict[str, float]
    best: Rollout | None
    worst: Rollout | None


def rl(config: RLConfig, *, on_step: Callable[[Step], None] | None = None) -> Path:
    """Run or continue a run; returns the folder of the last checkpoint."""
    run = Run(config.out, kind="rl", config_toml=dumps(config), seed=config.seed)
    task = load_task(config.task, split="train", seed=config.seed, size=config.pool_size)
    pool = Pool(task, min(config.pool_size, len(task)), config.seed, config.selection)
    source = {
        "kind": "task", "task": config.task, "split": "train", "seed": config.seed, "size": config.pool_size
    }  # fmt: skip
    policy = open_policy(
        config.model, run.folder, dtype=config.dtype, lora_rank=config.lora_rank, seed=config.seed, sources=[source]
    )
    model, tokenizer = policy.model, policy.tokenizer
    play = open_play(config, tokenizer)
    num_workers = resolve_workers(config.num_workers)
    with (
        Trainer(model, num_workers=num_workers, adapter=policy.adapter, recompute=config.recompute) as trainer,
        LocalEngine(
            model, tokenizer, num_workers=num_workers, num_slots=config.num_slots, closes_once=False
        ) as engine,
        GracefulStop() as stop,
    ):
        facts = load_state(run, trainer) or {"step": 0, "tokens": 0, "rollout_tokens": 0, "flops": 0.0, "seconds": 0.0}
        refuse_shorter(facts["step"], config.num_steps)
        if "pool" in facts:
            pool.restore(facts["pool"])
        run.forget_after(facts["step"])
        engine.update_weights(model.state_dict(), version=facts["step"])
        if facts["step"] == 0:
            save_rung(run, trainer, policy, step=0, facts=facts)
        reference = Reference(run.checkpoint_folder(0), config.temperature, model.dtype) if config.loss.kl else None
        for step in range(facts["step"], config.num_steps):
            begun = time.monotonic()
            rollouts = asyncio.run(practise(engine, task, pool, config, step, play))
            sampled = time.monotonic()
            pool.learn(step, rollouts.groups)
            metrics = update(trainer, rollouts, config, step, reference)
            engine.update_weights(model.state_dict(), version=step + 1)

            tokens, flops = cost(model.config, rollouts.groups, passes=trainer.passes)
            facts["step"] = step + 1
            facts["rollout_tokens"] += tokens
            facts["tokens"] += sum(map(len, examples(rollouts.groups, [g.rewards for g in rollouts.groups], config)))
            facts["flops"] += flops
            facts["seconds"] += time.monotonic() - begun
            metrics |= rollout_metrics(rollouts) | pool.by_level(step) | {
                "tokens/rollout": facts["rollout_tokens"],
                "train_flops": facts["flops"],
                "time/rollout": sampled - begun,
                "time/train": time.monotonic() - sampled,
                "seconds": facts["seconds"],
            }  # fmt: skip
            best, worst = extremes(rollouts.rollouts)
            run.log(step, metrics)
            run.log_samples([sample_row(step, name, r) for name, r in (("best", best), ("worst", worst)) if r])
            if on_step:
                on_step(Step(step + 1, metrics, best, worst))
            if step + 1 in config.ladder:
                save_rung(run, trainer, policy, step=step + 1, facts=facts)
            if (step + 1) % config.save_every == 0 or step + 1 == config.num_steps or stop.requested:
                save_state(run, trainer, facts | {"pool": pool.state()})
            if stop.requested:
                raise KeyboardInterrupt
    return run.checkpoint_folder(config.num_steps)


Play = Callable[[LocalEngine, Task, Sequence[Problem], int], Awaitable[Collected]]  # problems of a step -> rollouts


def open_play(config: RLConfig, tokenizer: Tokenizer) -> Play:
    """What a rollout is: one completion, or a whole trajectory of an environment."""
    how = {"group_size": config.group_size, "seed": config.seed}
    shape, preference = shaping(config), open_preference(config.deliberation)
    environment = config.deliberation.environment(tokenizer)

    def single(engine: LocalEngine, task: Task, problems: Sequence[Problem], step: int) -> Awaitable[Collected]:
        return collect(engine, task, problems, config.params, step=step, shape=shape, **how)

    def deliberate(engine: LocalEngine, task: Task, problems: Sequence[Problem], step: int) -> Awaitable[Collected]:
        return deliberated(
            engine, task, problems, config.params, step=step, config=config.deliberation, environment=environment,
            preference=preference, **how,
        )  # fmt: skip

    return deliberate if config.environment == "deliberate" else single


async def practise(engine: LocalEngine, task: Task, pool: Pool, config: RLConfig, step: int, play: Play) -> Collected:
    """The rollouts of one step. With refills, all-same groups are replaced until the batch is full of mixed ones."""
    result, missing = Collected(), config.problems_per_step
    seen: list[str] = []
    for round in range(config.max_refills + 1):
        problems = pool.choose(step, missing, round=round, exclude=seen)
        seen += [problem.id for problem in problems]
        result += await play(engine, task, problems, step)
        stop_on_errors(result, config)
        missing = config.problems_per_step - sum(group.is_mixed for group in result.groups)
        if missing <= 0 or len(seen) >= pool.size:
            break
    return result


def shaping(config: RLConfig) -> Reward | None:
    """What the reward holds beside the verifier's word."""
    shapes = []
    if config.unended_cost:
        shapes.append(unended(config.unended_cost))
    if config.overlong_tokens:
        shapes.append(overlong(config.overlong_tokens, config.max_reasoning_tokens))
    return chain(shapes)


def stop_on_errors(rollouts: Collected, config: RLConfig) -> None:
    """A verifier that keeps failing is a fault to mend, not something to train through."""
    tried = sum(len(group.rollouts) + group.num_dropped for group in rollouts.groups)
    if rollouts.dropped["error"] > config.max_error_frac * tried:
        raise RuntimeError(
            f"the verifier failed on {rollouts.dropped['error']} of {tried} rollouts: {rollouts.last_error}; "
            "mend it, or raise max_error_frac to go on without them"
        )


class Reference:
    """The frozen starting policy, for a KL term: the run's own first rung, whatever `model` has become since."""

    def __init__(self, base: Path, temperature: float, dtype: torch.dtype) -> None:
        model, _ = hub.load(base, dtype=dtype, device=pick_device())
        self._trainer = Trainer(model, num_workers=0)
        self._temperature = temperature

    def annotate(self, batches: Sequence[Batch]) -> None:
        for batch, logprobs in zip(batches, self._trainer.logprobs(batches, self._temperature), strict=True):
            batch.ref_logprobs_BT = logprobs


def update(
    trainer: Trainer, rollouts: Collected, config: RLConfig, step: int, reference: Reference | None
) -> dict[str, float]:
    """Advantages, loss, optimizer steps; the metrics of the policy.

    The first update takes the policy of the moment as the old one, corrected for what the engine recorded; later ones
    take the engine's log-probabilities, so that nothing is computed twice.
    """
    groups = [group for group in rollouts.groups if group.is_mixed or (config.max_refills == 0 and group.rollouts)]
    values = advantages(config.advantage, [group.rewards for group in groups])  # before the cut: some whiten the batch
    lr = config.lr * min(1.0, (step + 1) / max(1, config.warmup_steps))
    total: Sums = {}
    for k in range(config.updates_per_step):
        part = slice(k, None, config.updates_per_step)
        parts = weighted(examples(groups[part], values[part], config), config)
        # an all-same group has no gradient without a KL term: it stays in the averages and out of the forward pass
        parts = [e for e in parts if e.num_trained and (e.advantage != 0 or reference)]
        if not parts:
            continue  # nothing to learn from
        batches = micro_batches(
            parts, max_tokens=config.max_tokens_per_batch, num_shares=max(1, resolve_workers(config.num_workers))
        )
        for batch in batches:
            batch.old_logprobs_BT = batch.sampler_logprobs_BT if total else None
        if reference:
            reference.annotate(batches)
        sums = trainer.backward(batches, PolicyLoss(config.loss, config.temperature))
        if not total:  # trainer and sampler meet in the first update only
            sums["first_tokens"] = sums["tokens"]
        sums["grad_norm"] = trainer.step(lr=lr, max_norm=config.max_norm)
        sums["updates"] = 1.0
        for key, value in sums.items():
            total[key] = max(total.get(key, 0.0), value) if key.endswith("_max") else total.get(key, 0.0) + value
    return policy_metrics(total) | {"policy/lr": lr}


def examples(groups: Sequence[Group], values: Sequence[Iterable[float]], config: RLConfig) -> list[Example]:
    return from_groups(groups, values, contrast=config.deliberation.contrast)


def weighted(examples: list[Example], config: RLConfig) -> list[Example]:
    """Each token's weight in the loss, decided over the whole batch."""
    limit = config.max_reasoning_tokens + 1 + config.max_answer_tokens
    weights = token_weights([example.num_trained for example in examples], config.loss, max_tokens=limit)
    return [replace(example, weight=weight) for example, weight in zip(examples, weights, strict=True)]
