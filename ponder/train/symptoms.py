"""The symptoms of an RL run that does not learn: one check each, of the run's columns.

A check says what was seen (with the numbers), what usually causes it, what to try first. A threshold is where we would
stop a run to look, not where it fails, and each says why it is where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Literal

from ponder.train.series import TREND_STEPS, Series, is_number

Severity = Literal["serious", "warning", "note", "ok"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One symptom of a run. `name` is stable, for scripts; the rest is for people."""

    name: str
    severity: Severity
    evidence: str  # the numbers that show it
    cause: str
    advice: str


# A flat curve needs longer to be called flat: small step sizes take some 30 steps to show above the noise.
_FLAT_STEPS = 40


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


# the run itself


def non_finite(s: Series) -> Finding | None:
    """Serious where a metric of any step is nan, infinite or null; the first one is named."""
    for number, row in enumerate(s.rows):
        for key, value in row.items():
            if value is None or (is_number(value) and not math.isfinite(value)):  # None: as it is written
                return Finding(
                    name="non_finite",
                    severity="serious",
                    evidence=f"{key} is {'no number' if value is None else value} at step {row.get('step', number)}",
                    cause="A number overflowed. Training stops before such a loss reaches the weights, so the last "
                    "checkpoint is sound; usually the gradient grew for some steps before.",
                    advice=f"Lower the step size{_lr(s, 1 / 3)}, warm up for longer, and check that every reward is "
                    "finite.",
                )
    return None


def too_short(s: Series) -> Finding | None:
    """A note where the run has fewer than 20 steps beside its warm-up."""
    warmup = s.setting("warmup_steps")
    needed = TREND_STEPS + (int(warmup) if is_number(warmup) and math.isfinite(warmup) else 0)
    if len(s.rows) >= needed:
        return None
    return Finding(
        name="too_short",
        severity="note",
        evidence=f"{len(s.rows)} steps; a trend shows from about {needed}",
        cause="Rewards of single steps are noise: which problems came up moves them more than one step of learning.",
        advice="Let it run on; what is checked by level (format, truncation, groups, mismatch) was checked all the "
        "same.",
    )


# what the rollouts look like


def verifier_errors(s: Series) -> Finding | None:
    """Serious where the verifier failed on more than 1 % of the late rollouts."""
    level = s.level("rollout/failed")
    # a verifier is deterministic code that must survive any text: one failure in a hundred is a bug, not noise
    if level is None or level <= 0.01:
        return None
    return Finding(
        name="verifier_errors",
        severity="serious",
        evidence=f"the verifier failed on {percent(level)} of the rollouts",
        cause="The verifier raised or was killed. These rollouts leave their groups, and which ones leave is not "
        "chance: the policy learns to write what the verifier survives.",
        advice="Run it again with max_error_frac=0: it then stops at the first failure and names problem and error.",
    )


def undecided(s: Series) -> Finding | None:
    """A warning where more than 5 % of the late rollouts are undecided."""
    level = s.level("rollout/undecided")
    # a group of 16 loses about one member at 5 %: below that the baseline hardly moves, above it is a biased one
    if level is None or level <= 0.05:
        return None
    return Finding(
        name="undecided",
        severity="warning",
        evidence=f"the verifier could not decide {percent(level)} of the rollouts",
        cause="Answers in a form the verifier cannot settle, or a time limit that is too short for this machine.",
        advice="Ask for a plainer answer form in the prompt, or use a stricter verifier such as `exact` or `integer`; "
        "`ponder grade` shows which forms it cannot settle.",
    )


def truncation(s: Series) -> Finding | None:
    """A warning where more than 25 % of the late completions were cut, serious above 50 %."""
    level = s.level("rollout/truncated_frac")
    # at one in four, a group of 8 or more holds several cut rollouts, and the groups' differences are
    # "cut or not" rather than "right or wrong"
    if level is None or level <= 0.25:
        return None
    length, cap = s.level("rollout/reasoning_tokens"), s.setting("max_reasoning_tokens")
    used = f"; reasoning takes {length:.0f} tokens on average" if length is not None else ""
    used += f" of at most {cap:g}" if used and is_number(cap) else ""
    return Finding(
        name="truncation",
        severity="serious" if level > 0.5 else "warning",
        evidence=f"a budget or the window cut {percent(level)} of the completions{used}",
        cause="The budget closes the reasoning before the model does, so answers are guesses; the reward then "
        "teaches to be short, whatever the problem needs.",
        advice="Raise max_reasoning_tokens (or max_answer_tokens, if the answers are cut), start with easier "
        "levels, or show the base shorter worked solutions first (`ponder sft`).",
    )


def never_closes(s: Series) -> Finding | None:
    """Serious where more than 50 % of the late completions were cut and the model closed fewer than 20 % itself."""
    closed, cut = s.level("rollout/closed_frac"), s.level("rollout/truncated_frac")
    # a model that was cut for want of room closes what is short; one that does not know its mark closes nothing
    if closed is None or cut is None or closed >= 0.2 or cut <= 0.5:
        return None
    return Finding(
        name="never_closes",
        severity="serious",
        evidence=f"the model closed its reasoning itself in {percent(closed)} of the completions",
        cause="It does not draw its closing mark. Marks that ponder added to a vocabulary mean nothing before they are "
        "trained; such a model writes `>` or `think` where the mark should stand (samples.jsonl).",
        advice="Teach the marks first, with a cold start (`ponder sft`) on rows that are short enough to be closed; an "
        "adapter trains the rows of added marks too.",
    )


def no_format(s: Series) -> Finding | None:
    """A warning where more than 20 % of the late completions have no answer, serious above 50 %."""
    level = s.level("rollout/no_answer_frac")
    # an sft'd base misses a few percent and RL removes those within tens of steps; a fifth means it never learned how
    # an answer is written, and the reward for format drowns the reward for being right
    if level is None or level <= 0.2:
        return None
    return Finding(
        name="no_format",
        severity="serious" if level > 0.5 else "warning",
        evidence=f"no answer was found in {percent(level)} of the completions",
        cause="The model does not write its answer where the verifier looks for it.",
        advice="Read a few in samples.jsonl. Say in the prompt how the answer must look, show it with a short "
        "`ponder sft`, or use a verifier that reads the form this model writes.",
    )


def all_same_groups(s: Series) -> Finding | None:
    """`too_hard`, `too_easy` or `too_uneven` where fewer than 20 % of the late groups are mixed."""
    mixed, good, bad = (s.level(f"group/frac_{kind}") for kind in ("mixed", "all_good", "all_bad"))
    # only mixed groups have a gradient: below a fifth, four of five tokens that are sampled teach nothing
    if mixed is None or mixed >= 0.2:
        return None
    good, bad = good or 0.0, bad or 0.0
    adaptive = "" if s.setting("selection") == "adaptive" else "use selection=adaptive, "
    evidence = f"only {percent(mixed)} of the groups are mixed; {percent(good)} all right, {percent(bad)} all wrong"
    if bad >= 2 * good:
        return Finding(
            name="too_hard",
            severity="serious",
            evidence=evidence,
            cause="The problems are beyond the model: where no sample of a group is right there is nothing to prefer.",
            advice=f"Practise easier levels, raise group_size so that a rare success is seen, {adaptive}or give the "
            "base worked solutions first (`ponder sft`).",
        )
    if good >= 2 * bad:
        return Finding(
            name="too_easy",
            severity="note",
            evidence=evidence,
            cause="The problems are mastered: where every sample of a group is right there is nothing left to prefer.",
            advice="Practise harder levels, or stop here and evaluate (`ponder eval`).",
        )
    return Finding(
        name="too_uneven",
        severity="warning",
        evidence=evidence,
        cause="The problems are either hopeless or mastered for this model, with little between.",
        advice="Use selection=adaptive, add levels of middle difficulty, or let groups be refilled (preset=dapo).",
    )


# what the policy does


def entropy_collapse(s: Series) -> Finding | None:
    """Serious where the entropy fell below a tenth of what it was, unless more than 90 % of the answers are right."""
    change, correct = s.change("policy/entropy"), s.level("rollout/correct")
    # relative, since bytes, words and worked solutions differ in scale. arXiv:2505.22617 finds that the gains end as
    # the entropy is spent; at a tenth there is little left to spend. A mastered task may be certain.
    if change is None or change[1] >= 0.1 * change[0] or (correct is not None and correct > 0.9):
        return None
    return Finding(
        name="entropy_collapse",
        severity="serious",
        evidence=f"entropy fell from {change[0]:.3g} to {change[1]:.3g} nats a token"
        + (f" while {percent(correct)} of the answers are right" if correct is not None else ""),
        cause="The policy became certain before it became right: the samples of a group are alike, so there is nothing "
        "to choose between.",
        advice="Go back to an earlier checkpoint. Raise loss.clip_high (preset=dapo), lower the step size"
        f"{_lr(s, 1 / 3)}, or keep the start within reach with loss.kl=0.01.",
    )


def entropy_blowup(s: Series) -> Finding | None:
    """Serious where the entropy rose to more than three times what it was, and by more than 0.5 nats a token."""
    change = s.change("policy/entropy")
    # clip-higher lets the entropy double in healthy runs (arXiv:2503.14476, figure 2); three times as much and half a
    # nat a token more is text falling apart
    if change is None or change[1] <= 3 * change[0] or change[1] - change[0] <= 0.5:
        return None
    return Finding(
        name="entropy_blowup",
        severity="serious",
        evidence=f"entropy rose from {change[0]:.3g} to {change[1]:.3g} nats a token",
        cause="The policy drifts towards noise: mostly wrong samples are pushed down, and their probability goes "
        "anywhere. A step size that is too large does this, and so do rewards that are unrelated to the text.",
        advice=f"Lower the step size{_lr(s, 1 / 3)} or loss.clip_high; check by hand that the verifier's verdicts "
        "are right.",
    )


def mismatch(s: Series) -> Finding | None:
    """Serious where engine and trainer differ by more than 0.01 nats a token (KL) or, in the median step, by more than
    2 nats on one token; sampling in int8 may differ by twice as much."""
    kl, worst = s.level("policy/mismatch_kl"), s.late("policy/mismatch_max")
    typical_worst = median(worst) if worst else 0.0
    # the same weights and tokens: rounding leaves about 1e-6 nats a token in float32 and 1e-3 in bfloat16. 1e-2 is ten
    # times that, and 2 nats on one token a factor of 7 between the two: a different distribution, not rounding.
    # Sampling in int8 leaves about 1e-3 nats on average too, but more of it on single tokens
    most, most_worst = (0.02, 4.0) if s.setting("sampling_dtype") == "int8" else (0.01, 2.0)
    if kl is None or (kl <= most and typical_worst <= most_worst):
        return None
    return Finding(
        name="mismatch",
        severity="serious",
        evidence=f"engine and trainer differ by {kl:.3g} nats a token (KL), {typical_worst:.3g} on the worst token "
        "of a step",
        cause="Engine and trainer do not agree on the probability of the same tokens: stale weights in the engine, "
        "another temperature or precision, tokens that changed on the way, or an error in one of them.",
        advice="Run both in float32 on one prompt and compare; check that weights arrive after every step. "
        "Meanwhile keep loss.mismatch_cap above 0.",
    )


def exploding(s: Series) -> Finding | None:
    """Serious where the median norm of the gradient grew more than tenfold, or more than 30 % of the tokens are
    clipped."""
    norms = s.all("policy/grad_norm")
    early, late = median(s.early("policy/grad_norm") or [0.0]), median(s.late("policy/grad_norm") or [0.0])
    clip = s.level("policy/clip_frac") or 0.0
    # medians, since single steps jump with the problems that came up; a lasting tenfold norm is not the problems
    grew = len(norms) >= TREND_STEPS and late > 10 * early > 0
    # GSPO's tight clip cuts about 15 % in its paper, token clips under 1 %; at 30 % the clip decides, not the gradient
    if not grew and clip <= 0.3:
        return None
    seen = [f"the gradient's norm grew from {early:.3g} to {late:.3g}"] * grew
    seen += [f"{percent(clip)} of the tokens are clipped"] * (clip > 0.3)
    return Finding(
        name="exploding",
        severity="serious",
        evidence="; ".join(seen),
        cause="Each update moves the policy further than the clip allows for, or too many updates are taken on the "
        "same rollouts.",
        advice=f"Lower the step size{_lr(s, 1 / 3)}, warm up for longer, use fewer updates_per_step, or lower "
        "max_norm.",
    )


def kl_runaway(s: Series) -> Finding | None:
    """Serious where the KL to the reference ends above 2 nats a token, or above 0.5 and at more than twice its value in
    the middle of the run."""
    values, late = s.all("policy/ref_kl"), s.level("policy/ref_kl")
    if late is None or len(values) < TREND_STEPS:
        return None
    half = len(values) // 2
    middle = fmean(values[half - 1 : half + 2])
    # 0.5 nats a token makes a text of 100 tokens e^50 times less likely for the reference: with a doubling since the
    # middle that is leaving, not learning. At 2, every single token is e^2 = 7 times less likely, doubling or not
    if late <= 2.0 and (late <= 0.5 or late <= 2 * middle):
        return None
    return Finding(
        name="kl_runaway",
        severity="serious",
        evidence=f"the KL to the reference is {late:.3g} nats a token, {middle:.3g} in the middle of the run",
        cause="The policy runs away from its start faster than the KL term pulls it back.",
        advice=f"Raise loss.kl{_scaled(s, 'loss.kl', 3)} or lower the step size{_lr(s, 1 / 3)}; look for text that "
        "only pleases the verifier.",
    )


# whether it learns. Adaptive sampling keeps choosing problems at the edge of what the policy can do, so a step's reward
# may stay where it is, or fall, while the policy learns; the pool's estimates a level show what the rewards hide


def _levels(s: Series) -> tuple[float, float] | None:
    """(early, late) mean of the pool's estimated pass rates over the levels."""
    keys = sorted({key for row in s.rows for key in row if key.startswith("pool/")})
    changes = [change for key in keys if (change := s.change(key)) is not None]
    return (fmean(c[0] for c in changes), fmean(c[1] for c in changes)) if changes else None


def _gained(s: Series) -> bool:
    """More correct answers, more reward, or better estimates a level: by 2 points, resp. 5, and beyond noise."""
    if s.is_gain("reward/mean", 0.02) or s.is_gain("rollout/correct", 0.02):
        return True
    levels = _levels(s)
    return levels is not None and levels[1] - levels[0] > 0.05


def _caveat(s: Series) -> tuple[Severity, str]:
    """How sure a curve of training rewards makes us."""
    if s.setting("selection") != "adaptive":
        return "warning", ""
    return "note", " With selection=adaptive training rewards hide progress: compare checkpoints (`ponder scale RUN`)."


def length_hacking(s: Series) -> Finding | None:
    """Reasoning grew by half or more, and by at least 8 tokens, without a gain. A warning; a note with
    selection=adaptive, where training rewards hide progress."""
    change, correct = s.change("rollout/reasoning_tokens"), s.change("rollout/correct")
    # half as long again is far beyond noise of a step's mean; a gain under 2 points is not worth 50 % more tokens
    if change is None or correct is None or change[1] < 1.5 * change[0] or change[1] - change[0] < 8 or _gained(s):
        return None
    severity, caveat = _caveat(s)
    return Finding(
        name="length_hacking",
        severity=severity,
        evidence=f"reasoning grew from {change[0]:.0f} to {change[1]:.0f} tokens while correct answers went from "
        f"{percent(correct[0])} to {percent(correct[1])}",
        cause="Longer, not better: a mean over each completion punishes long wrong ones less a token "
        "(arXiv:2503.20783), or a longer text gives the verifier more to find." + caveat,
        advice="Use preset=dr_grpo (or loss.average=token), a soft punishment near the cap (overlong_tokens), and "
        "read the longest samples.",
    )


def preference_over_truth(s: Series) -> Finding | None:
    """The learned scorer's score rises, and the verifier's reward falls."""
    truth = s.change("rollout/correct")
    if truth is None or not s.is_gain("reward/preference", least=0.02):
        return None
    early, late = s.early("rollout/correct"), s.late("rollout/correct")
    noise = math.hypot(pstdev(early) / math.sqrt(len(early)), pstdev(late) / math.sqrt(len(late)))
    # as for a gain: more than twice what noise does to the two means, and more than a few answers
    if truth[0] - truth[1] <= max(0.03, 2 * noise):
        return None
    liked = s.change("reward/preference") or (0.0, 0.0)
    return Finding(
        name="preference_over_truth",
        severity="serious",
        evidence=f"the preference rose from {liked[0]:.3f} to {liked[1]:.3f} while correct answers fell from "
        f"{percent(truth[0])} to {percent(truth[1])}",
        cause="The policy has found what the reward model gets wrong (over-optimisation, arXiv:2210.10760).",
        advice="Go back to the checkpoint where correct answers were best; press less (kl_budget, loss.kl with "
        "kl_in = reward), ask the lowest of several reward models, or keep the verifier in the reward (docs/rlhf.md).",
    )


def reward_fell(s: Series) -> Finding | None:
    """Most of what the policy once had is gone."""
    values, late = s.all("rollout/correct"), s.late("rollout/correct")
    if len(values) < 5:
        return None
    # the first step was sampled by the base: a step size that ruins the policy at once leaves no other good row
    best = max(values[0], *(fmean(values[i : i + 5]) for i in range(len(values) - 4)))
    level, noise = fmean(late), max(pstdev(late), 0.01)
    # losing half, and four times the spread of single steps, does not happen by chance
    if level >= 0.5 * best or best - level <= 4 * noise:
        return None
    if (levels := _levels(s)) is not None and levels[1] > 0.75 * levels[0]:
        return None  # not the policy got worse but the problems harder
    return Finding(
        name="reward_fell",
        severity="serious",
        evidence=f"correct answers fell from {percent(best)} at best to {percent(level)}",
        cause="The updates destroyed what the policy could do: the step size is too large, or warm-up is missing.",
        advice=f"Go back to the best checkpoint and lower the step size{_lr(s, 1 / 5)}; warm up over 5 steps or more.",
    )


def flat_reward(s: Series) -> Finding | None:
    """Mixed groups give a gradient, and the reward stays: is the step too small, too large, or neither?"""
    change, mixed, correct = s.change("reward/mean"), s.level("group/frac_mixed"), s.change("rollout/correct")
    if change is None or mixed is None or mixed < 0.2 or len(s.rows) < _FLAT_STEPS or _gained(s):
        return None
    if correct is not None and correct[0] > 0.9:
        return None  # little is left to gain
    entropy = s.change("policy/entropy")
    ratio = entropy[1] / entropy[0] if entropy and entropy[0] > 0 else None
    seen = f"reward went from {change[0]:.3f} to {change[1]:.3f} over {len(s.rows)} steps"
    seen += f", {percent(mixed)} of the groups were mixed"
    seen += f"; entropy is {ratio:.2f} times what it was" if ratio is not None else ""
    # RL that works changes the entropy by tens of percent: within 10 % after 40 steps the policy has hardly moved, and
    # a factor of two is a long way to go for nothing
    if ratio is not None and 0.9 <= ratio <= 1.1:
        name = "step_too_small"
        cause = "There is a gradient and the policy hardly moves: the step size is too small."
        advice = f"Raise the step size{_lr(s, 3)}; more problems_per_step or a larger group_size make each step surer."
    elif ratio is not None and not 0.5 <= ratio <= 2:
        name = "step_too_large"
        cause = "The policy moves a lot and learns nothing: steps larger than the gradient is sure of."
        advice = f"Lower the step size{_lr(s, 1 / 3)}, or make the gradient surer with more problems_per_step."
    else:
        name = "flat_reward"
        cause = (
            "The policy moves and the reward does not follow: rewards unrelated to the text, too few problems a step, "
            "or a base without a better way of thinking to choose."
        )
        advice = (
            "Read best and worst samples side by side: if the best are lucky, no way of thinking is rewarded, and the "
            f"base needs worked solutions first. Then try the step size in both directions{_lr(s, 3)}."
        )
    severity, caveat = _caveat(s)
    return Finding(name=name, severity=severity, evidence=seen, cause=cause + caveat, advice=advice)


def _lr(s: Series, factor: float) -> str:
    return _scaled(s, "lr", factor)


def _scaled(s: Series, path: str, factor: float) -> str:
    """ " (lr=3e-05, now 0.0001)": a concrete value to try, where the recipe is known."""
    value = s.setting(path)
    if not is_number(value) or not math.isfinite(value) or value <= 0:
        return ""
    return f" (e.g. {path}={value * factor:.1g}, now {value:g})"


Check = Callable[[Series], Finding | None]
CHECKS: tuple[Check, ...] = (
    non_finite, verifier_errors, undecided, mismatch, never_closes, truncation, no_format, entropy_collapse,
    entropy_blowup, exploding, kl_runaway, length_hacking, preference_over_truth, reward_fell, flat_reward,
    all_same_groups, too_short,
)  # fmt: skip
