"""What one line of metrics.jsonl and samples.jsonl says: names, units and how each number is made.

reward/*   rollout/*   group/*   thinking/*     of the step's rollouts, before they taught anything
policy/*                                        of the update; absent where no group was mixed
task/*/correct   task/*/level_*                 of the step's rollouts, where the task is a mixture
pool/level_*   pool/TASK/level_*                what is believed of the whole pool: mean estimated pass rate a level
tokens/rollout   train_flops                    of the run so far
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from ponder.models.transformer import ModelConfig, sequence_flops
from ponder.tasks.ways import count
from ponder.train.distributed import Sums
from ponder.train.rollouts import Collected
from ponder.types import Group, Rollout


def policy_metrics(total: Sums) -> dict[str, float]:
    """Means over trained tokens. A step without a mixed group has none."""
    if not total:
        return {}
    tokens, updates = max(total["tokens"], 1.0), total["updates"]
    result = {"policy/loss": total["loss"] / updates, "policy/grad_norm": total["grad_norm"] / updates}
    for key, name in (
        ("entropy", "entropy"), ("clipped", "clip_frac"), ("old_kl", "old_kl"), ("mismatch_kl", "mismatch_kl"),
        ("ref_kl", "ref_kl"),
    ):  # fmt: skip
        if key in total:  # trainer and sampler meet in the first update only
            result[f"policy/{name}"] = total[key] / (total["first_tokens"] if key == "mismatch_kl" else tokens)
    return result | {"policy/mismatch_max": total.get("mismatch_max", 0.0), "tokens/trained": total["tokens"]}


def rollout_metrics(rollouts: Collected) -> dict[str, float]:
    """What the step's rollouts looked like, before they taught anything."""
    groups = [group for group in rollouts.groups if group.rollouts]
    done = rollouts.rollouts
    tried = max(1, len(done) + sum(rollouts.dropped.values()))
    result = {
        "rollout/undecided": rollouts.dropped["undecided"] / tried,
        "rollout/error": rollouts.dropped["error"] / tried,
    }
    if not done:
        return result
    rewards = [rollout.reward for rollout in done]
    completions = [rollout.completion for rollout in done]
    thinking = [count(completion.reasoning) for completion in completions]
    result |= {
        "reward/mean": fmean(rewards),
        "reward/std": pstdev(rewards),
        "rollout/correct": fmean(rollout.verdict.is_correct for rollout in done),
        "rollout/truncated_frac": fmean(completion.was_cut for completion in completions),
        "rollout/no_answer_frac": fmean(rollout.verdict.extracted is None for rollout in done),
        "rollout/reasoning_tokens": fmean(completion.num_reasoning_tokens for completion in completions),
        "rollout/answer_tokens": fmean(len(c.token_ids) - c.num_reasoning_tokens for c in completions),
        "group/frac_mixed": fmean(group.is_mixed for group in groups),
        "group/frac_all_good": fmean(group.pass_rate == 1 for group in groups),
        "group/frac_all_bad": fmean(group.pass_rate == 0 for group in groups),
        "thinking/steps": fmean(counts.steps for counts in thinking),
        "thinking/checks": fmean(counts.checks for counts in thinking),
        "thinking/backtracks": fmean(counts.backtracks for counts in thinking),
    }
    for way in ("guess", "steps", "checked", "other"):
        result[f"thinking/{way}_frac"] = fmean(counts.way == way for counts in thinking)
    return result | by_task(groups)


def by_task(groups: Sequence[Group]) -> dict[str, float]:
    """The share of correct rollouts a task and level, where groups come from more than one task.

    Under `selection = "adaptive"` these are of the problems that were chosen, not of the pool.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        problem = group.problem
        found[f"task/{problem.task}/correct"].append(group.pass_rate)
        if problem.level is not None:
            found[f"task/{problem.task}/level_{problem.level}"].append(group.pass_rate)
    if len({group.problem.task for group in groups}) < 2:
        return {}
    return {key: fmean(rates) for key, rates in sorted(found.items())}


def cost(model: ModelConfig, groups: Sequence[Group], *, passes: int) -> tuple[int, float]:
    """(completion tokens, FLOPs) of sampling the groups and of training on those that are mixed.

    passes: what forward and backward cost together, in forward passes (`Trainer.passes`). A prompt is computed once for
    its group, when sampling and when training.
    """
    tokens, flops = 0, 0.0
    for group in groups:
        spans = []
        for rollout in group.rollouts:
            completion = rollout.completion
            start = len(completion.prompt_ids)
            spans.append((start, start + len(completion.token_ids)))
            tokens += len(completion.token_ids)
        if not spans:
            continue
        forward = sequence_flops(model, [(0, spans[0][0]), *spans])
        flops += forward * (1 + passes if group.is_mixed else 1)
    return tokens, flops


def extremes(rollouts: Sequence[Rollout]) -> tuple[Rollout | None, Rollout | None]:
    """A best and a worst rollout to look at; among equals the one that thought longest."""
    if not rollouts:
        return None, None
    by_reward = sorted(rollouts, key=lambda r: (r.reward, r.completion.num_reasoning_tokens))
    worst = max(
        (r for r in rollouts if r.reward == by_reward[0].reward), key=lambda r: r.completion.num_reasoning_tokens
    )
    return by_reward[-1], worst


def sample_row(step: int, which: str, rollout: Rollout) -> dict[str, Any]:
    """One line of samples.jsonl."""
    completion = rollout.completion
    return {
        "step": step,
        "which": which,
        "problem": rollout.problem.text,
        "target": rollout.problem.target,
        "reasoning": completion.reasoning,
        "answer": completion.answer,
        "reward": rollout.reward,
        "outcome": rollout.verdict.outcome,
        "parts": dict(rollout.verdict.parts),
        "finish_reason": completion.finish_reason,
        "reasoning_tokens": completion.num_reasoning_tokens,
        "policy_version": completion.policy_version,
    }
