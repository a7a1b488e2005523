"""What one line of metrics.jsonl and samples.jsonl says: names, units and how each number is made.

reward/*   rollout/*   group/*   thinking/*     of the step's rollouts, before they taught anything
deliberation/*   ended/*                        of rollouts of several turns, see `turn_metrics`
rollout/lag                                     of its tokens, where sampling may be ahead
reward/preference, reward/kl, ...               the terms of the reward, means over the same rollouts
kl/k1   kl/k3                                   nats a completion from the reference, where there is one (train/kl.py)
critic/*                                        of the update of a recipe with a critic (train/critic.py)
policy/*                                        of the update; absent where no group was mixed
task/*/correct   task/*/level_*                 of the step's rollouts, where the task is a mixture
pool/level_*   pool/TASK/level_*                what is believed of the whole pool: mean estimated pass rate a level
tokens/rollout   train_flops                    of the run so far
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, get_args

from ponder.models.transformer import ModelConfig, sequence_flops
from ponder.rollouts.collect import Collected
from ponder.strategies.turns import diversity, trajectory_row
from ponder.tasks.ways import WAYS, count
from ponder.train.batches import Example
from ponder.train.replica import Sums
from ponder.types import Completion, Ending, Group, Rollout

TERMS = ("truncation", "overlong", "window", "steps", "preference", "kl")  # of a reward, in the parts of a verdict


def policy_metrics(total: Sums) -> dict[str, float]:
    """Means over trained tokens. A step without a mixed group has none."""
    if not total:
        return {}
    tokens, updates = max(total["tokens"], 1.0), total["updates"]
    result = {"policy/loss": total["loss"] / updates}
    if not math.isnan(total["grad_norm"]):  # nan: a service that does not say it
        result["policy/grad_norm"] = total["grad_norm"] / updates
    for key, name in (
        ("entropy", "entropy"), ("clipped", "clip_frac"), ("old_kl", "old_kl"), ("mismatch_kl", "mismatch_kl"),
        ("ref_kl", "ref_kl"),
    ):  # fmt: skip
        if key in total:  # trainer and sampler meet in the first update only
            result[f"policy/{name}"] = total[key] / (total["first_tokens"] if key == "mismatch_kl" else tokens)
    if "mismatch_max" in total:
        result["policy/mismatch_max"] = total["mismatch_max"]
    return result | {"tokens/trained": total["tokens"]}


def rollout_metrics(
    rollouts: Collected, *, verified: Collected | None = None, terms: Sequence[str] = ()
) -> dict[str, float]:
    """What the step's rollouts looked like, before they taught anything.

    verified: the same before a KL was paid, after which hardly any two rewards of a group are equal; by default these.
    terms: of the reward, beside ponder's own.
    """
    groups = [group for group in rollouts.groups if group.rollouts]
    done = rollouts.rollouts
    counts, tried = rollouts.tally.counts, max(1, rollouts.tally.total)
    result = {"rollout/undecided": counts["undecided"] / tried, "rollout/failed": counts["failed"] / tried}
    if not done:
        return result
    rewards = [rollout.reward for rollout in done]
    completions = [rollout.completion for rollout in done]
    thinking = [count(completion.reasoning) for completion in completions]
    result |= {
        "reward/mean": fmean(rewards),
        "reward/std": pstdev(rewards),
        "rollout/correct": fmean(rollout.verdict.is_correct for rollout in done),
        "rollout/truncated_frac": fmean(map(was_truncated, done)),
        "rollout/closed_frac": fmean(closed_itself(completion) for completion in completions),
        "rollout/no_answer_frac": fmean(rollout.verdict.extracted is None for rollout in done),
        "rollout/reasoning_tokens": fmean(completion.num_reasoning_tokens for completion in completions),
        "rollout/answer_tokens": fmean(len(c.token_ids) - c.num_reasoning_tokens for c in completions),
        "group/frac_mixed": fmean(group.is_mixed for group in (verified or rollouts).groups if group.rollouts),
        "group/frac_all_good": fmean(group.pass_rate == 1 for group in groups),
        "group/frac_all_bad": fmean(group.pass_rate == 0 for group in groups),
        "thinking/steps": fmean(counts.steps for counts in thinking),
        "thinking/checks": fmean(counts.checks for counts in thinking),
        "thinking/backtracks": fmean(counts.backtracks for counts in thinking),
    }
    for name in (*TERMS, *terms):
        if any(name in rollout.verdict.parts for rollout in done):
            result[f"reward/{name}"] = fmean(rollout.verdict.parts.get(name, 0.0) for rollout in done)
    for way in (*WAYS, "other"):
        result[f"thinking/{way}_frac"] = fmean(counts.way == way for counts in thinking)
    return result | turn_metrics(rollouts) | by_task(groups)


def was_truncated(rollout: Rollout) -> bool:
    """A budget or the window ended it. Tokens of several turns that were not drawn are the environment's."""
    return rollout.completion.was_cut if rollout.whole is None else rollout.completion.finish_reason != "stop"


def closed_itself(completion: Completion) -> bool:
    """The model ended its reasoning, not a budget, and began an answer."""
    closing = completion.num_reasoning_tokens
    return closing + 1 < len(completion.token_ids) and completion.sampled[closing]


def lag_metrics(step: int, rollouts: Collected) -> dict[str, float]:
    """How many versions before the update of this step its tokens were drawn, where sampling may be ahead."""
    lags = [step - v for rollout in rollouts.rollouts for t in rollout.turns for v in t.completion.token_versions]
    return {"rollout/lag": fmean(lags), "rollout/lag_max": float(max(lags))} if lags else {}


def turn_metrics(rollouts: Collected) -> dict[str, float]:
    """Of rollouts of several turns: their length, how they ended, what was chosen from. Of single completions nothing.

    deliberation/turns            that became part of the state, the answer included
    deliberation/window_frac      without a final answer: the window, a budget or the turn limit came first
    deliberation/distinct         share of different texts among the candidates of a turn
    deliberation/choices          choices the policy was asked for, a rollout
    deliberation/choice_unparsed  share of them that named no candidate: the first was taken
    deliberation/drawn_tokens     tokens drawn, a rollout, what was not chosen included
    deliberation/read_tokens      tokens read, a rollout: the state is read again at every draw
    """
    done = [rollout for rollout in rollouts.rollouts if rollout.whole is not None]
    if not done:
        return {}
    shares = [share for rollout in done if not math.isnan(share := diversity(rollout.turns))]
    choices = [turn for rollout in done for turn in rollout.turns if turn.kind == "choice"]
    draws = [draws_of(rollout) for rollout in done]
    result = {
        "deliberation/turns": fmean(sum(t.chosen and t.kind != "choice" for t in r.turns) for r in done),
        "deliberation/window_frac": fmean(not rollout.completion.answer.strip() for rollout in done),
        "deliberation/choices": len(choices) / len(done),
        "deliberation/choice_unparsed": rollouts.counts["choice_unparsed"] / max(1, rollouts.counts["choices"]),
        "deliberation/drawn_tokens": fmean(rollout.num_tokens for rollout in done),
        "deliberation/read_tokens": fmean(sum(len(prompt) for prompt in draw) for draw in draws),
    }
    if shares:
        result["deliberation/distinct"] = fmean(shares)
    ended = Counter(rollout.ended for rollout in done)
    return result | {f"ended/{name}": ended[name] / len(done) for name in get_args(Ending)}


def draws_of(*rollouts: Rollout) -> dict[tuple[int, ...], list[int]]:
    """What was read -> the lengths of what was drawn after it. Candidates of a turn read their state once."""
    draws: dict[tuple[int, ...], list[int]] = {}
    for turn in (turn for rollout in rollouts for turn in rollout.turns):
        draws.setdefault(turn.completion.prompt_ids, []).append(len(turn.completion.token_ids))
    return draws


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


def sampled_cost(model: ModelConfig, groups: Sequence[Group]) -> tuple[int, float]:
    """(completion tokens, FLOPs) of sampling the groups. A prompt is computed once for its group."""
    tokens, flops = 0, 0.0
    for group in groups:
        drawn = [draws_of(rollout) for rollout in group.rollouts]
        if any(rollout.whole is None for rollout in group.rollouts):  # one request for all of the group
            drawn = [draws_of(*group.rollouts)]
        tokens += sum(length for draws in drawn for lengths in draws.values() for length in lengths)
        flops += sum(forward_flops(model, draws) for draws in drawn)
    return tokens, flops


def trained_flops(model: ModelConfig, updates: Sequence[Sequence[Example]], *, passes: int) -> float:
    """FLOPs of what the policy was trained on. Examples of an update share their prompt, as they are packed.

    passes: what forward and backward cost together, in forward passes (`Trainer.passes`).
    """
    flops = 0.0
    for part in updates:
        lengths: dict[tuple[int, ...], list[int]] = {}
        for example in part:
            lengths.setdefault(example.prompt_ids, []).append(len(example.token_ids))
        flops += passes * forward_flops(model, lengths)
    return flops


def forward_flops(model: ModelConfig, draws: Mapping[tuple[int, ...], Sequence[int]]) -> float:
    """Of reading every prompt once and going on from it so many times."""
    return sum(
        sequence_flops(model, [(0, len(prompt)), *((len(prompt), len(prompt) + length) for length in lengths)])
        for prompt, lengths in draws.items()
    )


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
        **({"trajectory": trajectory_row(rollout.turns, rollout.ended)} if rollout.whole is not None else {}),
    }
