"""Reinforcement learning with verifiable rewards: one loop that anyone can read.

    sample groups of completions, grade them -> advantages -> examples -> step -> the sampler gets the new weights

    ponder rl demo_nano_cpu
    ponder rl demo_nano_cpu preset=dapo lr=5e-5 out=runs/dapo

Everything is a function of the recipe and its seed: a run that was killed goes on from its last saved state and takes
the same steps bit for bit (with max_lag=0). What a run writes is described in `ponder/runs.py`; `train/recipe.py` has
the keys, `train/ledger.py` what is kept of a step, and docs/minimal_rl.py the same first step in a hundred plain lines.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ponder.config import completed, dumps, lookup
from ponder.rewarding import refuse_chosen, refuse_monitor, training
from ponder.rollouts.collect import Collected, Play, collect, environment, single
from ponder.rollouts.deliberate import deliberation_terms, open_environment
from ponder.rollouts.grade import refuse_failing
from ponder.rollouts.preferences import open_preference, preference_term
from ponder.rollouts.rewards import RewardTerm, overlong_penalty, truncation_penalty
from ponder.runs import Run
from ponder.tasks import load_task
from ponder.train import inputs
from ponder.train.ahead import Ahead
from ponder.train.backend import BACKENDS, Backend
from ponder.train.batches import Example, from_groups, micro_batches
from ponder.train.credit import credit
from ponder.train.dev import dev_problems, open_dev
from ponder.train.downsampling import downsampled
from ponder.train.kl import TokenValues, measured, open_reference, reference_logprobs
from ponder.train.kl import of as own
from ponder.train.ledger import Read, RunLedger, Step
from ponder.train.losses import token_weights
from ponder.train.metrics import policy_metrics
from ponder.train.pool import Pool
from ponder.train.recipe import RLConfig
from ponder.train.replica import PolicyLoss, Sums
from ponder.train.sharded import RankError
from ponder.train.state import state_path
from ponder.trained_on import experiment_source
from ponder.types import Group, Learner, Sampler, Task


def rl(config: RLConfig, *, on_step: Callable[[Step], None] | None = None) -> Path:
    """Run or continue a run; returns the folder of the last checkpoint."""
    with training("ponder rl", reason=config.experiments.monitor_in_reward):
        return _rl(config, on_step)


def _rl(config: RLConfig, on_step: Callable[[Step], None] | None) -> Path:
    open_backend: Backend = lookup(BACKENDS, config.backend, what="backend")
    task = load_task(config.task, split="train", seed=config.seed, size=config.pool_size)
    refuse_monitor(task, "task", reason=config.experiments.monitor_in_reward)
    refuse_chosen(task.origin, reason=config.experiments.monitor_in_reward)
    pool = open_pool(config, task)
    dev_problems(config, pool)  # refused before anything is written
    read = inputs.of_task(config.task, task, pool.problems) | inputs.of_model(config.model)
    read |= inputs.of_rewards(config.reward.preference or config.deliberation.preference)
    if config.reference not in ("", "first"):
        read |= inputs.of_model(config.reference)
    facts = config.experiments.facts()
    with Run(
        config.out, kind="rl", config_toml=dumps(config), seed=config.seed, facts=facts,
        completed=partial(completed, type(config)),
    ) as run:  # fmt: skip
        run.same_inputs(read, begun=state_path(run.folder).exists(), later=inputs.SMALL_FILES)
        sources = [inputs.source_of(config.task, task, seed=config.seed, size=config.pool_size)]
        sources += [experiment_source(config.experiments.monitor_in_reward)] if facts else []
        ledger, lost_at = None, -1
        while True:
            try:
                with (
                    open_backend(config, run.folder, sources) as (learner, sampler),
                    RunLedger(run, config, learner, pool, on_step) as ledger,
                ):
                    asyncio.run(learn(config, task, pool, learner, sampler, ledger))
                break
            except RankError as error:  # ranks live and die together: new ones go on from the last saved state
                if ledger is None or ledger.first_step <= lost_at:
                    raise
                lost_at, pool = ledger.first_step, open_pool(config, task)
                warnings.warn(f"{error}; it is opened again", stacklevel=2)
    return run.checkpoint_folder(ledger.first_step)


def open_pool(config: RLConfig, task: Task) -> Pool:
    """The problems that a run draws from. ValueError where they are too few for a step."""
    pool = Pool(task, min(config.pool_size, len(task)), config.seed, config.selection)
    pool.refuse_too_small(config.problems_per_step)
    return pool


async def learn(
    config: RLConfig, task: Task, pool: Pool, learner: Learner, sampler: Sampler, ledger: RunLedger
) -> None:
    """The loop."""
    play, first = open_play(config, sampler, task), ledger.first_step
    sampler.update_weights(learner.publish(first), version=first)
    reference, terms = open_reference(config, learner, ledger.run), reward_terms(config)
    dev = open_dev(config, ledger.run, pool, first, lambda own: open_play(config, sampler, own))
    if dev:
        await dev.at(first)  # the beginning, or a step whose evaluation failed
        if dev.is_best(first):
            ledger.keep(first)
    stream = Ahead(
        lambda step: sample_and_grade(play, task, pool, config, step, terms), range(first, config.num_steps),
        max_lag=config.max_lag,
    )  # fmt: skip
    async for step, sampled in stream:
        ref_logprobs = reference_logprobs(reference, sampled.groups, config) if reference else {}
        rollouts, kl = measured(sampled, ref_logprobs, config) if reference else (sampled, {})
        if config.kl_budget and kl.get("kl/k1", 0.0) > config.kl_budget:
            ledger.end(step, rollouts, kl, f"kl/k1 is {kl['kl/k1']:.3g}, above kl_budget={config.kl_budget:g}")
            break
        ledger.sampled(step, rollouts)
        groups = groups_to_train(rollouts, sampled, config)
        due = credit(groups, ref_logprobs, learner, config, ledger.critic)
        stands_still = ledger.critic is not None and step < config.critic.warmup_steps
        updates = [] if stands_still else examples(groups, due.values, config, ref_logprobs=ref_logprobs)
        metrics = await stream.train(lambda: train(learner, updates, config, step))  # noqa: B023 - awaited
        read: list[Read] = [(getattr(reference, "config", learner.config), sampled.groups)] if reference else []
        read += [(learner.config, groups)] if ledger.critic else []
        ledger.trained(step, rollouts, updates, read)
        metrics, failed = kl | due.metrics | metrics, None
        try:
            await stream.before_update()
            sampler.update_weights(learner.publish(step + 1), version=step + 1)
            metrics |= await dev.at(step + 1) if dev else {}
        except Exception as error:  # the step is taken, whatever failed after it; a second Ctrl-C stops at once
            failed = error
        keep = dev is not None and dev.is_best(step + 1)
        ledger.record(step, rollouts, metrics, verified=sampled, keep=keep)
        if failed:
            raise failed
        if dev:
            dev.settle(ledger.saved_step)


def open_play(config: RLConfig, engine: Sampler, task: Task) -> Play:
    """What a rollout is: one completion, or a trajectory of an environment."""
    play_episode = open_environment(config.environment, config.deliberation, engine.tokenizer)
    return single(engine) if play_episode is None else environment(engine, play_episode, task)


def reward_terms(config: RLConfig) -> dict[str, RewardTerm]:
    """What the reward holds beside the verdict, by the name that each has in `parts`."""
    terms: dict[str, RewardTerm] = {}
    if config.truncation_penalty:
        terms["truncation"] = truncation_penalty(config.truncation_penalty)
    if config.overlong_tokens:
        terms["overlong"] = overlong_penalty(config.overlong_tokens, config.max_reasoning_tokens)
    if config.environment == "deliberate":
        terms |= deliberation_terms(config.deliberation)
    if config.reward.preference:
        scorer = open_preference(config.reward.preference)
        refuse_monitor(scorer, "preference scorer", reason=config.experiments.monitor_in_reward)
        terms["preference"] = preference_term(scorer, config.reward.preference_weight)
    return terms | {name: lookup({}, name, what="reward term") for name in config.reward_terms}


async def sample_and_grade(
    play: Play, task: Task, pool: Pool, config: RLConfig, step: int, terms: Mapping[str, RewardTerm]
) -> Collected:
    """The rollouts of one step. With refills, all-same groups are replaced until the batch is full of mixed ones."""
    result, missing = Collected(), config.problems_per_step
    weights = pool.weights(step)
    seen: list[str] = []
    for round in range(config.max_refills + 1):
        problems = pool.choose(step, missing, round=round, exclude=seen, weights=weights)
        seen += [problem.id for problem in problems]
        result += await collect(
            play, task, problems, config.params, group_size=config.group_size, seed=config.seed, step=step,
            terms=terms, verified=config.reward.verified, min_spread=config.min_spread,
        )  # fmt: skip
        refuse_failing(result.tally, most=config.max_error_frac, few=1)
        missing = config.problems_per_step - sum(group.is_mixed for group in result.groups)
        if missing <= 0 or len(seen) >= pool.size:
            break
    return result


def groups_to_train(rollouts: Collected, sampled: Collected, config: RLConfig) -> list[Group]:
    """All that have rollouts; where all-same groups were replaced, the mixed ones. Of each `trained_per_group` of them.

    sampled: the same before a KL was paid, after which hardly any two rewards are equal: it says what was replaced.
    """
    pairs = zip(rollouts.groups, sampled.groups, strict=True)
    return [
        downsampled(group, config.trained_per_group, by=drawn)
        for group, drawn in pairs
        if (drawn.is_mixed if config.max_refills else group.rollouts)
    ]


def examples(
    groups: Sequence[Group], values: Sequence[Sequence[float | np.ndarray]], config: RLConfig, **more: TokenValues
) -> list[list[Example]]:
    """What each update of a step trains on. The weight of a token is decided over all examples of its update.

    more: further numbers of every token, by the field of an example they belong to. An all-same group has no gradient
    without a KL term: it stays in the averages and out of the forward pass.
    """
    has_more = bool(config.loss.kl and config.loss.kl_in == "loss")
    limit = config.max_reasoning_tokens + 1 + config.max_answer_tokens
    updates = []
    for k in range(config.updates_per_step):
        part = slice(k, None, config.updates_per_step)
        found = from_groups(groups[part], values[part], contrast=config.deliberation.contrast)
        weights = token_weights([example.num_trained for example in found], config.loss, max_tokens=limit)
        updates.append(
            [
                replace(example, weight=weight, **{n: tuple(of[own(example)].tolist()) for n, of in more.items() if of})
                for example, weight in zip(found, weights, strict=True)
                if example.num_trained and (example.has_advantage or has_more)
            ]
        )
    return updates


class PolicyMismatch(RuntimeError):
    """Stops a run whose sampler does not draw from the policy that is trained."""


def refuse_mismatch(sums: Sums, config: RLConfig) -> None:
    """Before the weights are changed: old weights, a wrong prefix cache or a wrong kernel in a sampler are no error by
    themselves, and the run would go on worse than it could."""
    if config.max_mismatch and sums.get("mismatch_max", 0.0) > config.max_mismatch:
        raise PolicyMismatch(
            f"trainer and sampler differ by {sums['mismatch_max']:.2g} nats in the log-probability of a token, more "
            f"than max_mismatch={config.max_mismatch:g}: the sampler does not draw from the policy that is trained "
            "(old weights, or another precision); the weights were not changed"
        )


def train(learner: Learner, updates: Sequence[Sequence[Example]], config: RLConfig, step: int) -> dict[str, float]:
    """Loss and optimizer step of every update; the metrics of the policy.

    The first update takes the policy of the moment as the old one, corrected for what the sampler recorded; later ones
    take the sampler's log-probabilities, so that nothing is computed twice. So does every update of rollouts that may
    be stale: the clip then bounds the ratio to the policy that drew them.
    """
    lr = config.lr * min(1.0, (step + 1) / max(1, config.warmup_steps))
    total: Sums = {}
    for part in updates:
        if not part:
            continue  # nothing to learn from
        batches = micro_batches(part, max_tokens=config.max_tokens_per_batch, num_shares=learner.num_shares)
        for batch in batches:
            batch.old_logprobs_BT = batch.sampler_logprobs_BT if total or config.max_lag else None
        sums = learner.backward(batches, PolicyLoss(config.loss, config.temperature))
        if not total:  # trainer and sampler meet in the first update only
            sums["first_tokens"] = sums["tokens"]
            refuse_mismatch(sums, config)
        sums["grad_norm"] = learner.step(lr=lr, max_norm=config.max_norm)
        sums["updates"] = 1.0
        for key, value in sums.items():
            total[key] = max(total.get(key, 0.0), value) if key.endswith("_max") else total.get(key, 0.0) + value
    if config.max_lag:  # compared with the sampler's own numbers, nothing differs: rollout/lag says how stale they are
        total = {key: value for key, value in total.items() if not key.startswith("mismatch")}
    return policy_metrics(total) | {"policy/lr": lr}
