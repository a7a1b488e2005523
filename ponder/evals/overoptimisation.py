"""Over-optimisation, shown: what a learned reward says of a policy, and what it was meant to say, against the distance.

    ponder overoptimisation label BANK --count 1000 --out votes.jsonl      comparisons by a known gold reward
    ponder scorer rm_nano_cpu                                              a proxy that has learned from them
    ponder overoptimisation curves BANK --proxy runs/rm --run runs/rlhf    both rewards over sqrt(KL)

A gold reward that is written down stands in for people; a reward model (the proxy) sees comparisons only. The harder a
policy is pressed against the proxy, the higher the proxy rises; the gold turns (arXiv:2210.10760, whose axis is the
root of the KL to where the policy began). Two ways of pressing:

    best of n    of a stored bank, exact over all subsets of n:  KL = log n - (n - 1) / n
    learning     checkpoints of RL runs;  KL = the run's own k1 (`kl/k1` of its log, over the steps around a checkpoint)

Both rewards are taken on problems that the proxy never saw: those whose opening stands in its trained_on.txt are left
out, and it is an error where none is left. Samples that a proxy cannot read are left out too, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.evals.bank import Bank, SampleRow
from ponder.evals.stats import powers_up_to
from ponder.files import read_jsonl
from ponder.scorers.calibration import rerank_at
from ponder.tasks.preferences import opening
from ponder.tasks.ways import count
from ponder.types import Comparison, Completion, Problem, Usage

Floats = NDArray[np.float64]
Gold = Callable[[Problem, Completion, bool], float]  # what is really wanted; the bool: the verifier says it is right
DECIDED = ("correct", "wrong")  # of other outcomes nobody knows what gold would say
NEAR = 2  # steps on either side of a checkpoint whose KL counts as its own


def shown_work(problem: Problem, completion: Completion, is_correct: bool) -> float:
    """The gold of the experiment on nano: right, and up to three checks of the work, in not much more than 45 tokens.

    right + 0.4 * min(checks, 3) / 3 - 0.02 * max(0, tokens - 45): from about -3 to 1.4.
    """
    checks = count(f"{completion.reasoning}\n{completion.answer}").checks
    return is_correct + 0.4 * min(checks, 3) / 3 - 0.02 * max(0, completion.num_tokens - 45)


@dataclass(frozen=True, kw_only=True)
class PressedPoint:
    """One pressure: how far the policy has moved, and what proxy and gold say there, each a mean over problems."""

    at: int  # n of the best of n, or the step of a checkpoint
    kl: float  # nats a completion
    gold: float
    proxy: float  # as it is rewarded, in [0, 1]
    tokens: float = math.nan
    correct: float = math.nan


@dataclass(frozen=True, kw_only=True)
class PressedCurve:
    """The points of one proxy under one kind of pressure, in the order of the pressure."""

    label: str  # curves of one label differ by their seed only
    proxy: str
    points: tuple[PressedPoint, ...]
    problems: int
    samples: int  # of each problem, at most
    unread: int = 0  # samples that the proxy could not read

    @property
    def peak(self) -> PressedPoint:
        """Where gold is highest."""
        return max(self.points, key=lambda point: point.gold)


@dataclass(frozen=True)
class Scored:
    """The samples of one problem: gold, proxies by name (in [0, 1]), tokens, verdicts."""

    gold: Floats
    proxies: Mapping[str, Floats]
    tokens: Floats
    correct: Floats


# ---- comparisons by gold -------------------------------------------------------------------------------------------


def completion_of_text(row: SampleRow) -> Completion:
    """What a gold reward or a reader of answers may look at; ids are not needed."""
    return Completion(
        prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), finish_reason=row.finish_reason,
        reasoning=row.reasoning, answer=row.answer, num_reasoning_tokens=row.reasoning_tokens,
        counted=Usage(prompt_tokens=row.prompt_tokens, completion_tokens=row.tokens, samples=1),
    )  # fmt: skip


def label(bank: Bank, gold: Gold, *, size: int, noise: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    """Comparisons of two answers to one problem, the one with more gold preferred; `noise` of them the other way round.

    Pairs of equal gold or equal answers are not asked about.
    """
    if not 0 <= noise < 0.5:
        raise ConfigError(f"noise={noise} must lie in [0, 0.5): more would prefer what is worse")
    rng, rows = Random(f"{seed}/labels"), list[dict[str, Any]]()
    judged = []
    for problem in bank.problems:
        drawn = [row for row in bank.rows(problem.id) if row.outcome in DECIDED and row.answer.strip()]
        values = [gold(problem, completion_of_text(row), row.outcome == "correct") for row in drawn]
        kinds = combinations(set(zip(values, (row.answer for row in drawn), strict=True)), 2)
        if any(mine != other and own != another for (mine, own), (other, another) in kinds):
            judged.append((problem, [row.answer for row in drawn], values))
    if not judged:
        raise ConfigError(
            f"{bank.folder} has no problem with two different answers of different gold; draw more samples"
        )
    while len(rows) < size:
        problem, answers, values = rng.choice(judged)
        i, j = rng.sample(range(len(values)), 2)
        if values[i] == values[j] or answers[i] == answers[j]:
            continue
        better, worse = (i, j) if (values[i] > values[j]) != (rng.random() < noise) else (j, i)
        rows.append({
            "id": f"{problem.id}/{len(rows)}", "prompt": [vars(message) for message in problem.prompt],
            "chosen": answers[better], "rejected": answers[worse],
        })  # fmt: skip
    return rows


# ---- gold and proxies of a bank ------------------------------------------------------------------------------------


def score_bank(
    bank: Bank, gold: Gold, proxies: Mapping[str, Any], *, seen: frozenset[str] = frozenset()
) -> tuple[list[Scored], int]:
    """Every reward of every sample of the problems that were not `seen`; and how many could not be read."""
    found, unread = [], 0
    for problem in bank.problems:
        if opening(Comparison(id="", prompt=problem.prompt, a="", b="", preferred="tie")) in seen:
            continue
        rows = [row for row in bank.rows(problem.id) if row.outcome in DECIDED]
        completions = [completion_of_text(row) for row in rows]
        rewards = {name: 1 / (1 + np.exp(-x)) for name, x in standard_rewards(proxies, problem, completions).items()}
        read = np.asarray(np.isfinite(np.stack([*rewards.values(), np.zeros(len(rows))])).all(axis=0))
        unread += int((~read).sum())
        if not read.any():
            continue
        kept = [(row, c) for row, c, ok in zip(rows, completions, read, strict=True) if ok]
        found.append(Scored(
            np.array([gold(problem, c, row.outcome == "correct") for row, c in kept]),
            {name: values[read] for name, values in rewards.items()},
            np.array([float(row.tokens) for row, _ in kept]),
            np.array([float(row.outcome == "correct") for row, _ in kept]),
        ))  # fmt: skip
    if not found:
        raise ConfigError(
            f"{bank.folder} has no problem that the proxies have not seen; draw a bank of other problems (--split test)"
        )
    return found, unread


def standard_rewards(
    proxies: Mapping[str, Any], problem: Problem, completions: Sequence[Completion]
) -> dict[str, Floats]:
    """(r - shift) / scale of every reward model (scorers/reward.py); those that read by one network share its pass."""
    from ponder.scorers.preference import PreferenceScorer
    from ponder.scorers.preference_ensemble import PreferenceEnsemble

    features: dict[int, Any] = {}

    def of(scorer: Any) -> Floats:
        if isinstance(scorer, PreferenceEnsemble):
            return (np.min if scorer.reduce == "min" else np.mean)(np.stack([of(m) for m in scorer.members]), axis=0)
        if not isinstance(scorer, PreferenceScorer):
            return scorer.standard(scorer.raw(problem.prompt, completions))
        if id(scorer.reader) not in features:
            group = scorer.group_of(problem.prompt, completions)
            features[id(scorer.reader)] = scorer.reader.features([group])[0]
        return scorer.standard(scorer.raw_features(features[id(scorer.reader)]))

    return {name: of(scorer) for name, scorer in proxies.items()}


def best_of(values: Floats, scores: Floats, n: int) -> float:
    """The expected value of the best-scored of n samples, exact over all subsets, for values of any size."""
    low, span = float(values.min()), float(np.ptp(values))
    return low + span * rerank_at((values - low) / span, scores, n) if span else low


def bank_curve(scored: Sequence[Scored], proxy: str, *, label: str, unread: int = 0) -> PressedCurve:
    """Best of n by one proxy: mean over problems."""
    size = min(len(item.gold) for item in scored)
    points = []
    for n in powers_up_to(size):
        mean = {
            name: fmean(best_of(getattr(item, name), item.proxies[proxy], n) for item in scored)
            for name in ("gold", "tokens", "correct")
        }
        risen = fmean(best_of(item.proxies[proxy], item.proxies[proxy], n) for item in scored)
        points.append(PressedPoint(at=n, kl=math.log(n) - (n - 1) / n, proxy=risen, **mean))
    return PressedCurve(
        label=label, proxy=proxy, points=tuple(points), problems=len(scored), samples=size, unread=unread
    )


# ---- checkpoints of runs -------------------------------------------------------------------------------------------


def kl_at(rows: Iterable[Mapping[str, Any]], steps: Sequence[int]) -> dict[int, float]:
    """The KL of each checkpoint: the mean of `kl/k1` over the steps next to it, 0 at the first. A step's rollouts were
    drawn by the weights before its update: those of the checkpoint of that number."""
    known = {int(row["step"]): float(row["kl/k1"]) for row in rows if row.get("kl/k1") is not None}
    if not known:
        raise ConfigError("the run has not logged kl/k1: train with a reference (reference = 'first')")
    last = max(known)
    found = {}
    for step in steps:
        near = [known[s] for s in range(min(step, last) - NEAR, min(step, last) + NEAR + 1) if s in known]
        if near or step == 0:
            found[step] = max(0.0, fmean(near)) if step else 0.0
    return found


def run_curve(
    run: Path, banks: Mapping[int, Bank], gold: Gold, proxy: str, scorer: Any, *, label: str,
    seen: frozenset[str] = frozenset(),
) -> PressedCurve:  # fmt: skip
    """banks: the samples of each checkpoint, by its step, all of the same problems."""
    kl = kl_at(read_jsonl(run / "metrics.jsonl"), sorted(banks))
    points, unread, scored = list[PressedPoint](), 0, list[Scored]()
    for step in sorted(kl):
        scored, missed = score_bank(banks[step], gold, {proxy: scorer}, seen=seen)
        unread += missed
        points.append(PressedPoint(
            at=step, kl=kl[step], gold=fmean(float(item.gold.mean()) for item in scored),
            proxy=fmean(float(item.proxies[proxy].mean()) for item in scored),
            tokens=fmean(float(item.tokens.mean()) for item in scored),
            correct=fmean(float(item.correct.mean()) for item in scored),
        ))  # fmt: skip
    samples = max(len(item.gold) for item in scored)
    return PressedCurve(
        label=label, proxy=proxy, points=tuple(points), problems=len(scored), samples=samples, unread=unread
    )


# ---- curves of several seeds ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Band:
    """The mean over curves of one label, and the lowest and highest, at common distances."""

    label: str
    distances: Floats  # sqrt(KL)
    mean: Floats
    low: Floats
    high: Floats
    seeds: int


def band(curves: Sequence[PressedCurve], name: str, *, points: int = 40) -> Band:
    """name: gold or proxy. Curves are joined by straight lines over sqrt(KL), as far as all of them reach."""
    lines = []
    for curve in curves:
        pairs = sorted((math.sqrt(point.kl), getattr(point, name)) for point in curve.points)
        lines.append((np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])))
    end = min(xs[-1] for xs, _ in lines)
    grid = np.linspace(max(xs[0] for xs, _ in lines), end, points)
    values = np.stack([np.interp(grid, xs, ys) for xs, ys in lines])
    return Band(
        label=curves[0].label, distances=grid, mean=values.mean(axis=0), low=values.min(axis=0),
        high=values.max(axis=0), seeds=len(curves),
    )  # fmt: skip


def by_label(curves: Sequence[PressedCurve]) -> dict[str, list[PressedCurve]]:
    """Labels in the order in which they first appear."""
    found: dict[str, list[PressedCurve]] = {}
    for curve in curves:
        found.setdefault(curve.label, []).append(curve)
    return found
