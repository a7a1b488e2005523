"""An ablation of choosing what to submit: each part of the procedure alone and all together, at equal submissions.

    found = ladder(entries, rules=CODEFORCES, budgets=(1, 10, 50))
    found.rows[2].points[10].score              # of one way with ten submissions, with its interval
    table(found)                                # for people

A rung of this ladder is a way of choosing among the same n samples with the same number b of submissions. The floor is
b samples at random, in closed form; the ceiling is coverage, what all n would get, an oracle and no way of choosing.
`gap` is where a rung stands between the two. Scores are shares of a problem's points, means over problems. Rungs
without clusters and scores are exact where a problem has one goal; the others are means over random orders of the
samples, by which ties are broken, the same for all rungs (replay.py), and `mc_sd` says how far the choice of orders
could have moved a score.

Beside every score stands what it took: samples, submissions that were made, and runs of programs. Intervals are over
problems: stats.py's, paired ones against random; that of a gap, a ratio of means, by the bootstrap. `fit_weights`
chooses the weights of the procedure by random search, as o1-ioi did on earlier years: on problems no number is of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ponder.evals.codec import Stored, at_k
from ponder.evals.entries import Entry
from ponder.evals.replay import random_orders
from ponder.evals.stats import Estimate, in_percent, interval, paired_difference, pass_at
from ponder.evals.submissions import (
    ContestRules,
    Floats,
    points_under_rules,
    random_score,
    scores_of,
    tiered_score,
)
from ponder.evals.tables import Table, cell, points
from ponder.strategies.programs import NOTHING, Choosing, Goal, Prepared, Weights, prepare

DRAWS = 20  # orders of the samples of a problem
BUDGETS = (1, 10, 50)
RESAMPLES = 2000  # of the problems, for the interval of a gap

# a rung without a scorer; each that follows the public examples adds one part to those two
RUNGS: dict[str, Choosing] = {
    "valid only": replace(NOTHING, valid=True),
    "public examples": replace(NOTHING, valid=True, public=True),
    "clusters": replace(NOTHING, valid=True, clusters=True),
    "public + clusters": replace(NOTHING, valid=True, public=True, clusters=True, superset=True),
    "+ generated tests": replace(NOTHING, valid=True, public=True, clusters=True, superset=True, tests=True),
}
SCORED_RUNGS: dict[str, Choosing] = {
    "public + clusters + scorer": replace(NOTHING, valid=True, public=True, clusters=True, superset=True, scorer=True),
    "all": Choosing(),
}
RANDOM, ORACLE = "random", "coverage (oracle)"
# a rung -> the one that it adds a part to
BEFORE = {
    "valid only": RANDOM,
    "public examples": "valid only",
    "clusters": "valid only",
    "public + clusters": "public examples",
    "+ generated tests": "public + clusters",
    "public + clusters + scorer": "public + clusters",
    "all": "+ generated tests",
}


@dataclass(frozen=True, kw_only=True)
class LadderPoint:
    """A rung with b submissions; numbers are means over problems."""

    score: Estimate  # share of a problem's points
    gain: Estimate | None  # over random, in the same problems; None of random itself
    step: Estimate | None  # over the rung that it adds a part to (BEFORE)
    gap: Estimate  # (score - random) / (coverage - random)
    made: float  # submissions that were made: all goals may be solved before, and programs run out
    mc_sd: float  # of the score, from the orders


@dataclass(frozen=True, kw_only=True)
class LadderRow:
    """A way of choosing."""

    name: str
    scorer: str = ""
    executions: float  # runs of programs, a problem
    points: Mapping[int, LadderPoint] = at_k("b")  # by submissions


@dataclass(frozen=True, kw_only=True)
class Ladder(Stored):
    """The whole table; the content of ladder.json."""

    remedy: ClassVar[str] = "`ponder submit` writes it anew"
    task: str
    model: str
    rules: str  # what a submission is told: ioi (points of every subtask) or codeforces (accepted or not)
    num_problems: int
    num_samples: int
    draws: int
    choosing: str  # the weights, and the problems they were fitted on
    coverage: Estimate
    rows: tuple[LadderRow, ...]
    runner: Mapping[str, Any] = field(default_factory=dict)  # how programs were run
    command: str = ""


def ladder(
    entries: Sequence[Entry],
    *,
    rules: ContestRules,
    budgets: Sequence[int] = BUDGETS,
    num_samples: int | None = None,
    draws: int = DRAWS,
    weights: Weights = Weights(),  # noqa: B008 - frozen
    scorers: Sequence[str] = (),
    task: str = "",
    model: str = "",
    choosing: str = "the weights are ponder's defaults",
    runner: Mapping[str, Any] | None = None,
    command: str = "",
) -> Ladder:
    """Every rung at every number of submissions. num_samples: of each problem, drawn with each order; default all."""
    if not entries:
        raise ValueError("no problem has samples; draw some with `ponder eval`")
    n = min(len(entry.hidden) for entry in entries)
    n = n if num_samples is None else num_samples
    if not 1 <= n <= min(len(entry.hidden) for entry in entries) or min(budgets) < 1 or max(budgets) > n:
        raise ValueError(f"{n} samples and {list(budgets)} submissions: no more than a problem has samples, 1 or more")
    entries = [under_rules(entry, rules) for entry in entries]
    rungs = [(name, "", each) for name, each in RUNGS.items()]
    rungs += [(name, scorer, each) for scorer in scorers for name, each in SCORED_RUNGS.items()]
    floor = np.array([[random_score(e.hidden, b) / sum(e.full) for b in budgets] for e in entries])
    # of n samples, which is not all of a problem that has more of them than another
    ceiling = np.array([random_score(entry.hidden, n) / sum(entry.full) for entry in entries])
    played = [_Played(floor, np.tile(budgets, (len(entries), 1)), np.zeros((len(entries), len(budgets))))]
    for _, scorer, each in rungs:
        way = replace(each, weights=weights)
        played.append(_Played.of(entries, scorer, way, rules, budgets, n, draws))
    names = [(RANDOM, "", NOTHING), *rungs]
    by_name = {name: found for (name, _, _), found in zip(names, played, strict=True)}  # those before have no scorer
    return Ladder(
        task=task, model=model, rules=rules.name, num_problems=len(entries), num_samples=n, draws=draws,
        choosing=choosing, coverage=interval(ceiling.tolist()), runner=runner or {}, command=command,
        rows=tuple(
            LadderRow(
                name=name, scorer=scorer, executions=_executions(entries, each, n),
                points={b: _point(found, by_name.get(BEFORE.get(name, "")), i, floor[:, i], ceiling)
                        for i, b in enumerate(budgets)},
            )
            for (name, scorer, each), found in zip(names, played, strict=True)
        ),
    )  # fmt: skip


def scores_by_problem(
    entries: Sequence[Entry], choosing: Choosing, *, rules: ContestRules, budgets: Sequence[int] = BUDGETS,
    scorer: str = "", draws: int = DRAWS,
) -> Floats:  # fmt: skip
    """(problems, budgets): shares of the points of a way of choosing among all samples, to be compared in pairs with
    those of another bank of the same problems. NOTHING is random, in closed form."""
    entries = [under_rules(entry, rules) for entry in entries]
    if choosing == NOTHING:
        return np.array([[random_score(e.hidden, b) / sum(e.full) for b in budgets] for e in entries])
    n = min(len(entry.hidden) for entry in entries)
    return _Played.of(entries, scorer, choosing, rules, budgets, n, draws).scores


def under_rules(entry: Entry, rules: ContestRules) -> Entry:
    """The entry under the rules of a contest: without points of subtasks it has one goal."""
    if rules.reveals_points or len(entry.goals) == 1:
        return replace(entry, hidden=points_under_rules(entry.hidden, entry.full, rules))
    accepted = points_under_rules(entry.hidden, entry.full, rules).sum(axis=1, keepdims=True)
    return replace(entry, hidden=accepted, goals=(Goal(points=sum(entry.full)),))


@dataclass
class _Played:
    """What a rung got: (problems, budgets)."""

    scores: Floats
    made: NDArray[Any]
    variance: Floats  # of a problem's score, from its orders

    @classmethod
    def of(
        cls, entries: Sequence[Entry], scorer: str, choosing: Choosing, rules: ContestRules, budgets: Sequence[int],
        n: int, draws: int,
    ) -> _Played:  # fmt: skip
        found = cls(*(np.zeros((len(entries), len(budgets))) for _ in range(3)))
        for i, entry in enumerate(entries):
            pool, whole = entry.pools[scorer], n == len(entry.hidden)
            prepared = prepare(pool, choosing, entry.goals)
            if whole and len(entry.goals) == 1 and not (choosing.clusters or choosing.tests or choosing.scorer):
                tiers = prepared.rankings[0].tier
                found.scores[i] = [tiered_score(entry.hidden, tiers, b) for b in budgets]
                found.made[i] = budgets
                continue
            orders = random_orders(
                entry.id, len(entry.hidden), draws if entry.hidden.any() else 1
            )  # no order earns any
            scores, made = _play(entry, prepared, orders, rules, max(budgets), n)
            at = np.array(budgets) - 1
            found.scores[i] = scores[:, at].mean(axis=0)
            found.made[i] = np.minimum(made[:, None], budgets).mean(axis=0)
            found.variance[i] = scores[:, at].var(axis=0, ddof=1) / len(orders) if len(orders) > 1 else 0.0
        scale = np.array([sum(entry.full) for entry in entries])[:, None]
        return cls(found.scores / scale, found.made, found.variance / scale**2)


def _play(
    entry: Entry, prepared: Prepared, orders: NDArray[np.int64], rules: ContestRules, most: int, n: int
) -> tuple[Floats, NDArray[np.int64]]:
    """(orders, most) scores and the submissions made, of each order; of its first n samples where that is not all."""
    contest = entry.contest(replace(rules, limit=most))
    scores, made = np.zeros((len(orders), most)), np.zeros(len(orders), np.int64)
    for row, order in enumerate(orders):
        if n < len(order):
            some = order[:n]
            part = replace(entry, hidden=entry.hidden[some]).contest(replace(rules, limit=most))
            again = prepare(prepared.pool.take(some), prepared.choosing, prepared.goals)
            scores[row], made[row] = scores_of(again, part, entry.id, most)
        else:
            scores[row], made[row] = scores_of(prepared, contest, entry.id, most, order)
    return scores, made


def _executions(entries: Sequence[Entry], choosing: Choosing, n: int) -> float:
    """Runs of programs that a way of choosing needs, a problem: every different program of n samples, once an input."""

    def runs(entry: Entry) -> float:
        pool = next(iter(entry.pools.values()))
        behaviour = choosing.clusters or choosing.tests
        size = len(pool.programs)
        _, counts = np.unique(pool.programs[pool.programs >= 0], return_counts=True)
        programs = sum(pass_at(size, count, n) for count in counts.tolist()) if n < size else entry.programs
        return programs * (choosing.public * pool.examples.shape[1] + behaviour * entry.inputs)

    return float(np.mean([runs(entry) for entry in entries]))


def _point(found: _Played, before: _Played | None, i: int, floor: Floats, ceiling: Floats) -> LadderPoint:
    scores = found.scores[:, i]

    def more_than(others: Floats) -> Estimate | None:
        return None if before is None else paired_difference(others.tolist(), scores.tolist())

    return LadderPoint(
        score=interval(scores.tolist()),
        gain=more_than(floor),
        step=more_than(floor if before is None else before.scores[:, i]),
        gap=gap_closed(scores, floor, ceiling),
        made=float(found.made[:, i].mean()),
        mc_sd=math.sqrt(float(found.variance[:, i].sum())) / len(scores),
    )


def gap_closed(scores: Floats, floor: Floats, ceiling: Floats) -> Estimate:
    """(score - random) / (coverage - random), of means over problems, with a bootstrap interval over problems."""

    def ratio(picked: NDArray[np.int64]) -> Floats:
        gained, possible = ((each - floor)[picked].mean(axis=-1) for each in (scores, ceiling))
        return np.divide(gained, possible, out=np.full(gained.shape, np.nan), where=possible > 1e-12)

    value = float(ratio(np.arange(len(scores))[None])[0])
    rng = np.random.default_rng(0)  # the same for every rung, so that rows can be compared
    drawn = ratio(rng.integers(0, len(scores), (RESAMPLES, len(scores))))
    drawn = drawn[np.isfinite(drawn)]
    if len(scores) < 2 or not len(drawn):
        return Estimate(value, math.nan, math.nan)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


# --- weights -----------------------------------------------------------------------------------------------------


def fit_weights(
    entries: Sequence[Entry],
    *,
    rules: ContestRules,
    budgets: Sequence[int] = BUDGETS,
    scorer: str = "",
    tries: int = 60,
    draws: int = 4,
    seed: int = 0,
) -> Weights:
    """The weights with the best mean score over problems and budgets, of the defaults and `tries` drawn at random.

    Only for problems that no number is reported on.
    """
    entries = [under_rules(entry, rules) for entry in entries]
    asked, budgets = budgets, [b for b in budgets if b <= min(len(entry.hidden) for entry in entries)]
    if not budgets:
        raise ValueError(f"a problem to fit on has fewer samples than the fewest submissions, {min(asked)}; draw more")
    rng = np.random.default_rng(seed)
    best, best_score = Weights(), -math.inf
    for number in range(tries + 1):
        drawn = Weights(
            size=float(rng.uniform(0, 2)), agreement=float(rng.uniform(0, 12)), error=float(rng.uniform(0, 6)),
            score=float(rng.uniform(0, 3)), tried=float(rng.uniform(0.2, 8)),
        )  # fmt: skip
        weights = Weights() if number == 0 else drawn
        n = min(len(entry.hidden) for entry in entries)
        way = Choosing(weights=weights)
        score = float(_Played.of(entries, scorer, way, rules, budgets, n, draws).scores.mean())
        if score > best_score + 1e-12:  # of equal ones the first: the defaults, where nothing is better
            best, best_score = weights, score
    return best


# --- for people --------------------------------------------------------------------------------------------------


def table(found: Ladder) -> Table:
    """Every rung at every number of submissions, with its intervals and what it took."""
    rows: list[Sequence[Any]] = []
    for b in found.rows[0].points:
        for row in found.rows:
            at = row.points[b]
            name = f"{row.name} ({row.scorer})" if row.scorer else row.name
            gain, step = ("–" if each is None else points(each) for each in (at.gain, at.step))
            gap = "–" if math.isnan(at.gap.value) else f"{in_percent(at.gap.value, 0)}%" + _span(at.gap)
            computed = f"±{100 * at.mc_sd:.1f}" if at.mc_sd else "exact"
            rows.append((b, name, cell(at.score), computed, gain, step, gap, f"{at.made:.1f}", f"{row.executions:.0f}"))
        rows.append((b, ORACLE, cell(found.coverage), "exact", "–", "–", "100%", "–", "–"))
    head = ("b", "way of choosing", "score", "computed", "to random", "what the part adds", "gap closed", "submitted",
            "runs of programs")  # fmt: skip
    what = "points of subtasks" if found.rules == "ioi" else "problems solved"
    sizes = f"{found.num_problems} problems, {found.num_samples} samples each"
    return Table(f"Choosing what to submit, {found.model}: {what} with b submissions; {sizes}", head, rows)


def _span(estimate: Estimate) -> str:
    return f" ({in_percent(estimate.low, 0)}–{in_percent(estimate.high, 0)})"
