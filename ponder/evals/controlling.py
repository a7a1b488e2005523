"""Fit a controller on a bank, and measure what it is worth.

The fit over plain arrays is strategies/controller_fit.py; this file feeds it a bank and puts intervals beside the
numbers: at equal cost, against the best fixed strategy (cross-fitted: judged on problems that neither saw) and against
the oracle that knows the best arm of every problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ponder.evals.bank import Bank, Samples
from ponder.evals.stats import Estimate, paired_difference
from ponder.strategies.controller import ControllerSamples
from ponder.strategies.controller_fit import evaluate, fit, replay


@dataclass(frozen=True, kw_only=True)
class ControllerResult:
    """A controller's cross-fitted accuracy at equal cost, beside the best fixed way and the best of each problem."""

    out: str
    num_problems: int
    tokens: float
    controller: float
    fixed: float
    oracle: float
    gain: Estimate  # controller - fixed
    short_of_oracle: Estimate
    fixed_arms: tuple[str, ...]
    picks: Mapping[str, float]


def fit_controller(
    folder: Path, *, out: Path, budget: float | None = None, scorer: str = "", num_probes: int = 4
) -> ControllerResult:
    """Fit on all problems of the bank, save, and report the cross-fitted comparison."""
    bank = Bank.read(folder)
    tables = bank.tables()  # by their ids: folds and orders must not depend on which problem was finished first
    if not tables:
        raise ValueError(f"{folder} has no samples yet; ponder eval --out {folder} draws some")
    missing = [table.problem.id for table in tables if scorer and scorer not in table.scores]
    if missing:
        raise ValueError(f"{folder} has no scores {scorer!r} (of {missing[0]}); ponder score {folder} adds them")
    if unscored := sum(int(np.isnan(table.scores[scorer]).sum()) for table in tables) if scorer else 0:
        raise ValueError(f"{unscored} samples of {folder} have no score of {scorer!r}; ponder score {folder} adds them")
    if scorer and bank.scorers[scorer].joint:
        raise ValueError(
            f"{scorer!r} looks at all samples of a problem at once, and a controller sees the first few alone: its "
            "scores would tell what is not drawn yet; leave --scorer out, or name one that scores each sample by itself"
        )
    replayed = replay([drawn_of(table, scorer) for table in tables], num_probes=num_probes)
    if budget is None:
        budget = float(np.mean([8 * table.tokens.mean() for table in tables]))
    rule = fit(
        replayed, budget=budget, num_probes=num_probes, scorer=scorer, num_problems=len(tables), task=bank.spec.task,
        split=bank.spec.split, model=bank.spec.model, fingerprint=bank.spec.fingerprint,
    )  # fmt: skip
    rule.save(out)
    compared = evaluate(replayed, budget=budget)
    return ControllerResult(
        out=str(out),
        num_problems=len(tables),
        tokens=compared.cost,
        controller=float(compared.controller.mean()),
        fixed=float(compared.fixed.mean()),
        oracle=float(compared.oracle.mean()),
        gain=paired_difference(compared.fixed.tolist(), compared.controller.tolist()),
        short_of_oracle=paired_difference(compared.controller.tolist(), compared.oracle.tolist()),
        fixed_arms=tuple(f"{arm.how} of {arm.n}" for arm in compared.fixed_arms),
        picks=compared.picks,
    )


def drawn_of(table: Samples, scorer: str) -> ControllerSamples:
    """Stored samples as the controller's arrays; a scorer reads about as many tokens as were drawn."""
    return ControllerSamples(
        table.classes,
        table.correct,
        table.tokens.astype(float),
        table.mean_logprob.astype(float),
        table.was_cut,
        table.scores[scorer].astype(float) if scorer else None,
        1.0 if scorer else 0.0,
    )


def sentence(result: ControllerResult) -> str:
    """The result for people."""
    gain, short = result.gain, result.short_of_oracle
    often = sorted(result.picks.items(), key=lambda p: -p[1])[:4]
    picks = ", ".join(f"{name} for {share:.0%} of the problems" for name, share in often)
    return (
        f"at {result.tokens:.0f} tokens a problem: controller {result.controller:.1%}, best fixed "
        f"({' / '.join(result.fixed_arms)}) {result.fixed:.1%}, oracle {result.oracle:.1%}\n"
        f"controller - fixed {gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}); oracle - controller "
        f"{short.value:+.1%} ({short.low:+.1%} to {short.high:+.1%})\n"
        f"it picks: {picks}; saved in {result.out}"
    )
