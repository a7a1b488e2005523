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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ponder.config import REQUIRED, ConfigError, check, dumps, load, lookup, nearest, setting
from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.rollouts.collect import Collected, Play, collect, environment, single
from ponder.rollouts.deliberate import ENVIRONMENTS, DeliberationConfig, deliberation_terms, open_environment
from ponder.rollouts.grade import refuse_failing
from ponder.rollouts.rewards import RewardTerm, overlong, unended
from ponder.runs import GracefulStop, Run
from ponder.tasks import load_task
from ponder.train import inputs
from ponder.train.advantages import ADVANTAGES, advantages
from ponder.train.batches import Batch, Example, from_groups, micro_batches
from ponder.train.distributed import PolicyLoss, Sums, Trainer, pick_device, resolve_workers
from ponder.train.losses import LossConfig, token_weights
from ponder.train.metrics import cost, extremes, policy_metrics, rollout_metrics, sample_row
from ponder.train.policy import Precision, open_policy
from ponder.train.pool import Pool
from ponder.train.presets import PRESETS, apply_preset
from ponder.train.state import load_state, refuse_shorter, save_rung, save_state, state_path
from ponder.types import Group, Rollout, Sampler, SamplingParams, Task


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    out: str = setting(REQUIRED, "the run's folder", also="output_dir default_local_dir")
    model: str = setting("nano", "what is trained: a model reference", also="model_name_or_path")
    task: str = setting("arithmetic", "what is practised and verified", also="dataset dataset_name")
    preset: str = setting("grpo", "algorithm: fills in advantage, loss and refills", also="adv_estimator")
    num_steps: int = setting(
        100, "steps in all", least=1, also="max_steps total_training_steps num_train_epochs total_epochs"
    )
    # what is practised
    pool_size: int = setting(2048, "problems of the train split that are practised", least=1)
    selection: Literal["uniform", "adaptive"] = setting("adaptive", "which problems: in turn, or where most is learned")
    problems_per_step: int = setting(
        24, "problems of a step", least=1, also="batch_size train_batch_size per_device_train_batch_size"
    )
    group_size: int = setting(
        16,
        "completions of a problem; their mean is the baseline",
        least=2,
        also="num_generations n num_samples",
    )
    max_refills: int = setting(0, "rounds of sampling in place of all-same groups (DAPO: 3)", least=0)
    # how completions are drawn
    temperature: float = setting(1.0, "of sampling, and of the loss", least=1e-3, most=1e3)
    max_reasoning_tokens: int = setting(
        256, "cap of the reasoning", least=0, also="max_completion_length max_response_length max_new_tokens max_tokens"
    )
    max_answer_tokens: int = setting(
        16, "cap of the answer", least=1, also="max_completion_length max_response_length max_new_tokens max_tokens"
    )
    overlong_tokens: int = setting(0, "the last so many reasoning tokens cost up to 1 reward; 0 = off", least=0)
    unended_cost: float = setting(0.0, "of a right answer that a budget had to end", least=0, below=1)
    # what a rollout is
    environment: str = setting("", "empty = one completion; deliberate = see [deliberation]; or your own, module:attr")
    deliberation: DeliberationConfig = field(default_factory=DeliberationConfig)
    reward_terms: tuple[str, ...] = setting((), "your own, each module:attr: added to the reward", also="reward_funcs")
    # how the policy learns
    advantage: str = setting("grpo", "baseline: grpo, dr_grpo, rloo, reinforce_pp, module:attr", also="scale_rewards")
    loss: LossConfig = field(default_factory=LossConfig)
    updates_per_step: int = setting(
        1, "optimizer steps on the rollouts of a step", least=1, also="num_iterations ppo_epochs num_ppo_epochs"
    )
    lr: float = setting(1e-4, "step size", above=0, most=1, also="learning_rate actor_lr")
    warmup_steps: int = setting(5, "steps of linear warm-up", least=0, also="lr_warmup_steps warmup_ratio")
    max_norm: float = setting(1.0, "gradients are cut to this norm; 0 = never", least=0, also="max_grad_norm grad_clip")
    max_tokens_per_batch: int = setting(
        1024, "packed tokens of one forward pass", least=1,
        also="gradient_accumulation_steps ppo_micro_batch_size_per_gpu ppo_max_token_len_per_gpu",
    )  # fmt: skip
    dtype: Precision = setting("float32", "of computing; what is trained is float32", also="bf16 fp16 torch_dtype")
    lora_rank: int = setting(0, "of an adapter; 0 = train every weight", least=0, also="lora_r r")
    recompute: bool = setting(False, "activations again in backward: less memory", also="gradient_checkpointing")
    # what is kept
    rungs: tuple[int, ...] = setting((), "steps whose weights are kept; empty = 0, 1, 2, 4, 8, ...", least=0)
    save_every: int = setting(10, "steps from one saved state to the next", least=1, also="save_steps save_freq")
    max_error_frac: float = setting(0.1, "a run stops if more of a step's verifications fail", least=0, most=1)
    num_workers: int = setting(-1, "processes that sample and that train; -1 = one a core, 0 = none", least=-1)
    num_slots: int = setting(128, "completions that a process decodes at a time", least=1)
    seed: int = setting(0, "of everything that is drawn", least=0)

    def __post_init__(self) -> None:
        check(self)
        lookup(ADVANTAGES, self.advantage, what="advantage")
        for name in self.reward_terms:
            lookup({}, name, what="reward term")
        if self.environment:
            lookup(ENVIRONMENTS, self.environment, what="environment")
        if self.preset not in PRESETS:
            raise ConfigError(f"unknown preset {self.preset!r}{nearest(self.preset, PRESETS)}")
        if self.overlong_tokens > self.max_reasoning_tokens:
            raise ValueError(f"overlong_tokens={self.overlong_tokens} must lie between 0 and max_reasoning_tokens")
        if self.environment == "deliberate" and (self.overlong_tokens or self.unended_cost):
            raise ValueError(
                f"overlong_tokens and unended_cost are for single completions; environment={self.environment!r} has "
                "its own terms: [deliberation] window_penalty and step_cost"
            )
        if self.updates_per_step > self.problems_per_step:
            raise ValueError("updates_per_step cannot exceed problems_per_step: an update needs a group")
        if self.problems_per_step > self.pool_size:
            raise ValueError(f"problems_per_step={self.problems_per_step} needs a pool_size of at least that many")
        if beyond := [step for step in self.rungs if step > self.num_steps]:
            raise ValueError(
                f"rungs={list(self.rungs)}: {beyond[0]} is never reached in num_steps={self.num_steps}; leave it out"
            )

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
    """A recipe with its preset filled in. One that `overrides` make shorter keeps the rungs that it still reaches."""
    given = {override.partition("=")[0].strip() for override in overrides}
    shortened = "num_steps" in given and "rungs" not in given
    return load(RLConfig, path, overrides, prepare=lambda data: apply_preset(reached(data) if shortened else data))


def reached(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe without the rungs that its num_steps does not reach."""
    rungs, last = data.get("rungs"), data.get("num_steps")
    if not isinstance(rungs, list) or not isinstance(last, int):
        return data  # refused where the values are checked
    return data | {"rungs": [step for step in rungs if not isinstance(step, int) or step <= last]}


@dataclass(frozen=True)
class Step:
    """What a watcher sees after each step."""

    step: int  # steps done
    metrics: dict[str, float]
    best: Rollout | None
    worst: Rollout | None


def rl(config: RLConfig, *, on_step: Callable[[Step], None] | None = None) -> Path:
    """Run or continue a run; returns the folder of the last checkpoint."""
    task = load_task(config.task, split="train", seed=config.seed, size=config.pool_size)
    pool = Pool(task, min(config.pool_size, len(task)), config.seed, config.selection)
    pool.refuse_too_small(config.problems_per_step)
    read = inputs.of_task(config.task, task, pool.problems) | inputs.of_model(config.model)
    with Run(config.out, kind="rl", config_toml=dumps(config), seed=config.seed) as run:
        run.same_inputs(read, begun=state_path(run.folder).exists())
        source = {
            "kind": "task", "task": config.task, "split": "train", "seed": config.seed, "size": config.pool_size,
            **({"files": inputs.files_of(task)} if inputs.files_of(task) else {}),
        }  # fmt: skip
        return learn(config, run, task, pool, source, on_step)


def learn(
    config: RLConfig,
    run: Run,
    task: Task,
    pool: Pool,
    source: dict[str, Any],
    on_step: Callable[[Step], None] | None,
) -> Path:
    """The loop."""
    policy = open_policy(
        config.model, run.folder, dtype=config.dtype, lora_rank=config.lora_rank, seed=config.seed, sources=[source]
    )
    model, tokenizer = policy.model, policy.tokenizer
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
        play = open_play(config, engine, task)
        engine.update_weights(model.state_dict(), version=facts["step"])
        if facts["step"] == 0:
            save_rung(run, trainer, policy, step=0, facts=facts)
        reference = Reference(run.checkpoint_folder(0), config.temperature, model.dtype) if config.loss.kl else None
        for step in range(facts["step"], config.num_steps):
            begun = time.monotonic()
            rollouts = asyncio.run(practise(play, task, pool, config, step))
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


def open_play(config: RLConfig, engine: Sampler, task: Task) -> Play:
    """What a rollout is: one completion, or a trajectory of an environment."""
    walk = open_environment(config.environment, config.deliberation, engine.tokenizer)
    return single(engine) if walk is None else environment(engine, walk, task)


def reward_terms(config: RLConfig) -> dict[str, RewardTerm]:
    """What the reward holds beside the verdict, by the name that each has in `parts`."""
    terms: dict[str, RewardTerm] = {}
    if config.unended_cost:
        terms["unended"] = unended(config.unended_cost)
    if config.overlong_tokens:
        terms["overlong"] = overlong(config.overlong_tokens, config.max_reasoning_tokens)
    if config.environment == "deliberate":
        terms |= deliberation_terms(config.deliberation)
    return terms | {name: lookup({}, name, what="reward term") for name in config.reward_terms}


async def practise(play: Play, task: Task, pool: Pool, config: RLConfig, step: int) -> Collected:
    """The rollouts of one step. With refills, all-same groups are replaced until the batch is full of mixed ones."""
    result, missing = Collected(), config.problems_per_step
    terms = reward_terms(config)
    seen: list[str] = []
    for round in range(config.max_refills + 1):
        problems = pool.choose(step, missing, round=round, exclude=seen)
        seen += [problem.id for problem in problems]
        result += await collect(
            play, task, problems, config.params, group_size=config.group_size, seed=config.seed, step=step, terms=terms
        )
        refuse_failing(result.tally, most=config.max_error_frac, few=1)
        missing = config.problems_per_step - sum(group.is_mixed for group in result.groups)
        if missing <= 0 or len(seen) >= pool.size:
            break
    return result


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
