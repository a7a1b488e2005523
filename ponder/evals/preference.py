"""How good a reward model is: how often it prefers what people prefer, on unseen prompts, beside simple baselines.

    report = await examine(scorer, load_comparisons("hh", split="report"), every=load_comparisons("hh"))
    print(markdown(table(report)))

A scorer of any kind can take it, a judge too: it is asked for scores of the two answers, as completions without
reasoning. Accuracy is over comparisons that people decided; equal scores are half right, ties of the people are counted
apart (they are in the log loss, as 1/2). Every interval is over dialogue openings, not over comparisons. Probabilities
are 1 / (1 + exp(-t (r_a - r_b))) with one t, fitted on the other half of the openings.

Read accuracy against two things: the bag of words beside it, and people, who agree with each other in 73 to 77 % of
such pairs (arXiv:2203.02155). A comparison whose opening the scorer was trained on is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.evals.preference_baselines import bag_of_words, longer, targets
from ponder.evals.stats import Estimate, in_percent
from ponder.evals.tables import Table, cell, points
from ponder.intervals import Z, student
from ponder.scorers.bradley_terry import Floats, Pairs, minimise, pair_losses
from ponder.scorers.calibration import ece
from ponder.scorers.files import scorer_folder
from ponder.scorers.logistic import sigmoid
from ponder.scorers.reward import TRAINED_ON, RewardModel
from ponder.tasks.preferences import ComparisonSet, clustered_share, fraction, opening
from ponder.types import Comparison, Completion, Message, Scorer

BINS = (0.0, 0.5, 0.8, 1.25, 2.0, float("inf"))  # of length of the preferred answer / length of the other
BAG = "bag of words"


@dataclass(frozen=True, kw_only=True)
class PreferenceScore:
    """One row of the report. Accuracies are shares of decided comparisons with their intervals."""

    name: str
    accuracy: Estimate
    longer_rejected: Estimate  # accuracy where people prefer the shorter answer
    by_length: tuple[Estimate, ...]  # accuracy by bin of BINS
    log_loss: float  # nats; 0.693 = knows nothing
    ece: float
    temperature: float | None  # 1 / t, by the mean t of the two halves; None = its scores say nothing


@dataclass(frozen=True, kw_only=True)
class PreferenceReport:
    """How often a scorer prefers what people prefer, beside the baselines, on the same comparisons."""

    set: str
    split: str
    comparisons: int  # that were read and decided
    openings: int  # of these
    ties: int
    unread: int  # the scorer returned nan for one of the answers
    trained_on: int  # left out
    by_length: tuple[int, ...]  # comparisons in each bin
    rows: tuple[PreferenceScore, ...]  # the scorer first, if there is one, then the baselines
    gain: Estimate | None  # accuracy of the scorer minus that of the bag of words, paired
    notes: tuple[str, ...]


async def examine(
    scorer: Scorer | None,
    found: ComparisonSet,
    *,
    every: ComparisonSet | None = None,
    seen: frozenset[str] = frozenset(),
    name: str = "",
) -> PreferenceReport:
    """every: the whole set, on whose other folds the bag of words is fitted. seen: openings that the scorer was trained
    on (`trained_on`). None for the scorer: the baselines alone."""
    kept = [c for c in found.comparisons if opening(c) not in seen]
    if not kept:
        raise ConfigError(
            f"the scorer was trained on, or chosen by, every one of these {len(found)} comparisons: accuracy there "
            "says nothing; take the split `report`, or another set"
        )
    differences_N = await differences(scorer, kept) if scorer is not None else None
    report = summarise(
        name or (scorer.name if scorer else ""), differences_N, replace(found, comparisons=tuple(kept)), every=every
    )
    return replace(report, trained_on=len(found) - len(kept))


def summarise(
    name: str, differences_N: Floats | None, found: ComparisonSet, *, every: ComparisonSet | None = None
) -> PreferenceReport:
    """The report of r_a - r_b of every comparison, wherever it is from; nan = not read. None: the baselines alone."""
    read = np.isfinite(differences_N) if differences_N is not None else np.ones(len(found), bool)
    rows = [c for c, is_read in zip(found.comparisons, read, strict=True) if is_read]
    if not rows:
        raise ConfigError("the scorer could read none of the comparisons")
    lengths, words = longer(rows), bag_of_words(rows, every.comparisons if every else ())
    methods = {"longer": np.sign(lengths), "shorter": -np.sign(lengths), BAG: words}
    decided, gain = targets(rows) != 0.5, None
    keys = [opening(c) for c, is_decided in zip(rows, decided, strict=True) if is_decided]
    if differences_N is not None:
        methods = {name: differences_N[read]} | methods
        gain = clustered_difference(right(words, rows)[decided], right(differences_N[read], rows)[decided], keys)
    return PreferenceReport(
        set=found.name, split=found.split, comparisons=int(decided.sum()), openings=len(set(keys)),
        ties=int((~decided).sum()), unread=int((~read).sum()), trained_on=0,
        by_length=tuple(int(inside.sum()) for inside in _bins(rows)),
        rows=tuple(judge(each, values, rows) for each, values in methods.items()), gain=gain, notes=found.notes,
    )  # fmt: skip


def trained_on(scorer: str | Path) -> frozenset[str]:
    """The openings that a scorer of a folder was trained on or chosen by; nothing where it does not say."""
    texts = [path.read_text(encoding="utf-8") for path in scorer_folder(scorer).rglob(TRAINED_ON)]  # members' too
    return frozenset(key for text in texts for key in text.split())


async def differences(scorer: Scorer, comparisons: Sequence[Comparison]) -> Floats:
    """r_a - r_b of every comparison; nan where one cannot be read. Answers of one prompt are asked for together."""
    by_prompt: dict[tuple[Message, ...], list[int]] = {}
    for index, comparison in enumerate(comparisons):
        by_prompt.setdefault(comparison.prompt, []).append(index)
    found = np.zeros(len(comparisons))
    for prompt, indices in by_prompt.items():
        texts = list(dict.fromkeys(text for i in indices for text in (comparisons[i].a, comparisons[i].b)))
        completions = [_completion(text) for text in texts]
        scores = await (scorer.rewards if isinstance(scorer, RewardModel) else scorer)(prompt, completions)
        of = dict(zip(texts, scores, strict=True))
        found[indices] = [of[comparisons[i].a] - of[comparisons[i].b] for i in indices]
    return found


def _completion(answer: str) -> Completion:
    """An answer that came from nowhere: a text without token ids."""
    return Completion(
        prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), finish_reason="stop", reasoning="", answer=answer,
        num_reasoning_tokens=0,
    )  # fmt: skip


# ---- figures ---------------------------------------------------------------------------------------------------------


def judge(name: str, difference_P: Floats, comparisons: Sequence[Comparison]) -> PreferenceScore:
    """One row of the report, from r_a - r_b of every comparison."""
    target, keys = targets(comparisons), np.array([opening(c) for c in comparisons])
    decided, is_right = target != 0.5, right(difference_P, comparisons)
    half = np.array([fraction(key, "half") < 0.5 for key in keys])
    rates = np.where(
        half, fitted_rate(difference_P[~half], target[~half]), fitted_rate(difference_P[half], target[half])
    )
    x = rates * difference_P
    p, y = sigmoid(x)[decided], target[decided]
    shorter = decided & (np.sign(longer(comparisons)) * np.sign(target - 0.5) < 0)

    def share(chosen: NDArray[np.bool_]) -> Estimate:
        return _share(is_right[chosen], keys[chosen].tolist())

    return PreferenceScore(
        name=name, accuracy=share(decided), longer_rejected=share(shorter),
        by_length=tuple(share(inside) for inside in _bins(comparisons)),
        log_loss=float(pair_losses(x, target).mean()),
        # both sides of every comparison: the figure does not depend on which is called a
        ece=ece(np.concatenate([y, 1 - y]), np.concatenate([p, 1 - p])) if len(y) else float("nan"),
        temperature=float(1 / rates.mean()) if rates.mean() > 0 else None,
    )  # fmt: skip


def right(difference_P: Floats, comparisons: Sequence[Comparison]) -> Floats:
    """1 where the order is the people's, 0 where it is the other, 1/2 where the scores are equal (or people tied)."""
    found: Floats = 0.5 + 0.5 * np.sign(difference_P) * np.sign(targets(comparisons) - 0.5)
    return found


def fitted_rate(difference_P: Floats, target_P: Floats) -> float:
    """The t of 1 / (1 + exp(-t d)) with the least loss; 0 where it would reverse the order or nothing can be fitted."""
    num = len(difference_P)
    size = float(np.abs(difference_P).mean()) if num else 0.0
    if size == 0:
        return 0.0
    d = difference_P / size  # of order 1, so that the penalty below is next to nothing
    pairs = Pairs.of(np.arange(num), np.full(num, num), target_P)  # against one sample whose reward is 0
    rate = minimise(lambda v: np.append(v[0] * d, 0.0), lambda g: np.array([d @ g[:-1]]), 1, pairs, l2=1e-3 * num)
    return max(0.0, float(rate[0])) / size


def _bins(comparisons: Sequence[Comparison]) -> list[NDArray[np.bool_]]:
    """Which decided comparisons have their preferred answer so many times as long as the other."""
    signs = np.sign(targets(comparisons) - 0.5)
    ratio = np.exp(longer(comparisons) * signs)
    decided = signs != 0
    return [decided & (ratio >= low) & (ratio < high) for low, high in pairwise(BINS)]


def _share(values: Floats, keys: Sequence[str]) -> Estimate:
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"))
    groups = len(set(keys))
    return Estimate(*clustered_share(values, keys, t=student(groups - 1) if groups > 1 else Z))


def clustered_difference(first: Floats, second: Floats, keys: Sequence[str]) -> Estimate:
    """The mean of second - first over the same comparisons, with its interval over clusters of them.

    Two made-up clusters, at plus and minus the largest difference, keep "no difference in 5" from claiming certainty.
    """
    if not len(first):
        return Estimate(float("nan"), float("nan"), float("nan"))
    d = second - first
    largest = float(np.abs(d).max()) or 1.0
    value = float(d.mean())
    padded = np.append(d, [largest, -largest])
    _, owner = np.unique([*keys, "\0 above", "\0 below"], return_inverse=True)
    groups, centre = int(owner.max()) + 1, float(padded.mean())
    sums = np.bincount(owner, padded - centre)
    spread = float(np.sqrt(sums @ sums * groups / (groups - 1))) / len(padded)
    half = student(groups - 1) * spread
    return Estimate(value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


# ---- in words --------------------------------------------------------------------------------------------------------


def table(report: PreferenceReport) -> Table:
    """Accuracy in percent with its 95 % interval, and what the probabilities are worth."""
    rows = [
        [row.name, cell(row.accuracy), cell(row.longer_rejected), f"{row.log_loss:.3f}", in_percent(row.ece)]
        for row in report.rows
    ]
    head = ["", f"accuracy, n = {report.comparisons}", "where the longer is rejected", "log loss", "ECE"]
    return Table(f"{report.set} ({report.split}): as people prefer", head, rows)


def length_table(report: PreferenceReport) -> Table:
    """Accuracy by how long the preferred answer is, as a multiple of the other's length."""
    spans = [f"{low:g} to {high:g}" for low, high in pairwise(BINS)]
    counted = (f"{span}, n = {num}" for span, num in zip(spans, report.by_length, strict=True))
    head = ["length of the preferred / of the other", *counted]
    return Table("Accuracy by length", head, [[row.name, *map(cell, row.by_length)] for row in report.rows])


def gain_line(report: PreferenceReport) -> str:
    """What it is worth beyond a bag of words."""
    if report.gain is None:
        return ""
    verdict = "above 0" if report.gain.low > 0 else "below 0" if report.gain.high < 0 else "not distinguishable from 0"
    return f"{report.rows[0].name} minus {BAG}: {points(report.gain)} ({verdict}), over {report.openings} openings"


def notes(report: PreferenceReport) -> list[str]:
    """What was left out, and what is wrong with the set as found."""
    found = []
    if report.trained_on:
        found.append(
            f"{report.trained_on} comparisons left out: the scorer was trained on, or chosen by, their openings"
        )
    if report.unread:
        found.append(f"{report.unread} comparisons left out: the scorer could not read an answer")
    if report.ties:
        found.append(f"{report.ties} ties of the people are in no accuracy")
    return found + [f"the set as found: {note}" for note in report.notes]
