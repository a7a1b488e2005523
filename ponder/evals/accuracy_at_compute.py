"""What each way of selecting gives for what it costs: the table behind `ponder scale`, and o1's headline in one line.

    found = accuracy_at_compute(tables, bank.scorers, per_token=(2.7e8, 4e4))
    found.rows[3].points[-1].accuracy            # of one strategy at the largest k
    headline_lines(headline(tables, bank.scorers))
    -> ["pass@1 18.0 % (15.2 to 21.1) / cons@64 ... / rerank@1000 ... (NAME)"]

Costs are means per problem: the prompt once and k samples, each with the tokens it took, and what the scorer reads of
them (`ReadingCost`). `gain` is the paired difference to the vote of as many samples; `matched` the one to the
vote of as many samples as the same FLOPs pay for, rounded up (tokens, where FLOPs are not known). `mc_sd` says how far
the choice of orders could have moved an accuracy; it is 0 where that is exact, see replay.py. What is not exact is
measured against the plain vote of the same orders, whose exact value is known (a control variate): as far as the two go
together, what the orders do to them cancels.

A scorer's k ends where its scores end: one that has not scored every sample is left out and named. One whose facts say
`"joint": true` looks at all samples of a problem at once (the share of a class, say), and its scores would know at k=8
what only a thousand samples show; it is shown at the largest k alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ponder.evals.bank import Samples
from ponder.evals.replay import (
    ADAPTIVE,
    CONFIDENT,
    DRAWS,
    ORACLES,
    PLAIN,
    SCORED,
    Floats,
    Replay,
    Rule,
    RuleResult,
    best_of,
)
from ponder.evals.results import (
    AccuracyAtCompute,
    Headline,
    Matched,
    ReadingCost,
    ScorerFacts,
    StrategyCurve,
    StrategyPoint,
)
from ponder.evals.stats import Estimate, in_percent, interval, paired_difference, pass_at, powers_up_to

PerToken = tuple[float, float]  # FLOPs of token 0, and how many more for each token after it


@dataclass(frozen=True)
class Selector:
    """A strategy, and the scorer it uses."""

    strategy: str
    rule: Rule
    scorer: str | None = None
    cost: ReadingCost = ReadingCost()  # of the scorer
    is_joint: bool = False  # the scorer's scores depend on all samples of the problem


def accuracy_at_compute(
    tables: Sequence[Samples],
    scorers: Mapping[str, ScorerFacts],
    *,
    per_token: PerToken | None = None,
    ks: Sequence[int] | None = None,
    draws: int = DRAWS,
) -> AccuracyAtCompute:
    """Every selecting strategy at every k: the table behind `ponder scale`.

    `scorers` are the facts of those whose scores are to be used; one that has not scored every sample is left out, and
    `left_out` says so.
    """
    tables = [table for table in tables if len(table)]
    if not tables:
        raise ValueError("the bank holds no sample yet; draw some with `ponder eval`")
    if not any(table.tokens.any() for table in tables):  # samples of another program's log
        raise ValueError("how many tokens the samples took is not known, so nothing can be compared at equal compute")
    n = min(map(len, tables))
    ks = powers_up_to(n) if ks is None else sorted(set(ks))
    if wrong := [k for k in ks if not 1 <= k <= n]:
        raise ValueError(f"k={wrong[0]}: every problem of the bank has {n} samples; draw more, or use 1 to {n}")
    complete, left_out = complete_scorers(tables, scorers)
    selectors = _selectors(tables, scorers, complete)
    if not any(selector.rule in CONFIDENT.values() for selector in selectors):
        left_out["confidence"] = "the logprobs of some samples are not known"
    replays = [Replay(table, draws) for table in tables]
    costs = [ProblemCost(table, per_token) for table in tables]
    cells: dict[tuple[int, int], list[Cell]] = {}
    for replay, cost in zip(replays, costs, strict=True):  # a problem at a time: its orders take megabytes
        for i, selector in enumerate(selectors):
            scores = replay.samples.scores[selector.scorer] if selector.scorer else np.empty(0)
            for k in ks:
                if not selector.is_joint or k == len(replay):
                    result = selector.rule(replay, k, scores)
                    cells.setdefault((i, k), []).append(Cell.of(result, replay, cost, k, selector))
        replay.free()
    unit = "tokens" if per_token is None else "flops"
    votes = PlainVotes(replays, costs, unit)
    return AccuracyAtCompute(
        num_problems=len(tables),
        num_samples=n,
        draws=draws,
        unit=unit,
        scorers={name: scorers[name] for name in complete},
        left_out=left_out,
        rows=tuple(
            StrategyCurve(
                strategy=selector.strategy,
                scorer=selector.scorer,
                exact=all(cell.exact for k in ks for cell in cells.get((i, k), ())),
                points=tuple(
                    _point(cells[i, k], k, votes, selector) for k in ks if len(cells.get((i, k), ())) == len(tables)
                ),
            )
            for i, selector in enumerate(selectors)
        ),
    )


def _selectors(
    tables: Sequence[Samples], scorers: Mapping[str, ScorerFacts], complete: Sequence[str]
) -> list[Selector]:
    """What can be replayed: confidence where all logprobs are known."""
    found = [Selector(name, rule) for name, rule in (PLAIN | ADAPTIVE).items()]
    if all(np.isfinite(table.mean_logprob[table.classes >= 0]).all() for table in tables):
        found += [Selector(name, rule) for name, rule in CONFIDENT.items()]
    return found + [
        Selector(name, rule, scorer, scorers[scorer].cost, scorers[scorer].joint)
        for scorer in complete
        for name, rule in SCORED.items()
    ]


def complete_scorers(
    tables: Sequence[Samples], scorers: Mapping[str, ScorerFacts], k: int | None = None
) -> tuple[list[str], dict[str, str]]:
    """The scorers that have scored every sample, and what is wrong with the others. k: that many samples of a problem
    are chosen from, so that a joint scorer is left out where a problem has more."""
    drawn, most = sum(map(len, tables)), max(map(len, tables), default=0)
    complete, left_out = [], {}
    for name in scorers:
        scored = sum(int(np.isfinite(table.scores[name]).sum()) for table in tables)
        if scored == drawn and scorers[name].joint and k is not None and k < most:
            left_out[name] = f"it looks at all samples of a problem at once, and some problems have more than {k}"
        elif scored == drawn:
            complete.append(name)
        else:
            left_out[name] = f"{scored} of {drawn} samples are scored; `ponder score` does the rest"
    return complete, left_out


class ProblemCost:
    """What the samples of one problem cost."""

    def __init__(self, samples: Samples, per_token: PerToken | None) -> None:
        self.prompt_tokens, self.tokens = float(samples.prompt_tokens), samples.tokens.astype(np.float64)
        first, growth = (math.nan, math.nan) if per_token is None else per_token
        self.prompt_flops = float(_flops_until(np.array(self.prompt_tokens), first, growth))
        self.flops = _flops_until(self.prompt_tokens + self.tokens, first, growth) - self.prompt_flops


def _flops_until(index: Floats, first: float, growth: float) -> Floats:
    """FLOPs of all tokens before this one."""
    return first * index + growth * index * (index - 1) / 2


@dataclass(frozen=True)
class Cell:
    """One strategy on one problem at one k: how right, and the mean cost."""

    rate: float
    exact: bool
    noise: float  # variance of the rate, from the orders
    samples: float
    tokens: float  # of the policy, the prompt included
    scorer_tokens: float
    flops: float  # of both

    @classmethod
    def of(cls, result: RuleResult, replay: Replay, cost: ProblemCost, k: int, selector: Selector) -> Cell:
        """From a replayed rule at k. The prompt is paid for once, and of samples only those that the rule drew."""
        samples, tokens, flops = float(k), k * float(cost.tokens.mean()), k * float(cost.flops.mean())
        if result.used is not None:  # less what it did not draw: where it draws all, the cost is that of all
            undrawn = np.arange(k) >= result.used[:, None]
            samples -= float(undrawn.sum(axis=1).mean())
            tokens, flops = (
                mean - float((each[replay.orders[:, :k]] * undrawn).sum(axis=1).mean())
                for mean, each in ((tokens, cost.tokens), (flops, cost.flops))
            )
        scorer_tokens = scorer_flops = 0.0
        if selector.scorer is not None:
            reads, price = selector.cost, selector.cost.flops_per_token
            scorer_tokens = reads.prompt * cost.prompt_tokens + reads.sample * tokens
            own_flops = reads.prompt * cost.prompt_flops + reads.sample * flops
            scorer_flops = own_flops if price is None else scorer_tokens * price
        is_exact = len(result.rates) == 1
        rate, noise = (float(result.rates[0]), 0.0) if is_exact else controlled(result.rates, replay, k)
        return cls(
            rate=rate,
            exact=is_exact,
            noise=noise,
            samples=samples,
            tokens=cost.prompt_tokens + tokens,
            scorer_tokens=scorer_tokens,
            flops=cost.prompt_flops + flops + scorer_flops,
        )


def controlled(rates: Floats, replay: Replay, k: int) -> tuple[float, float]:
    """(mean, its variance) of a strategy over the orders, with the plain vote of the same orders as control variate."""
    plain, draws = replay.plain(k), len(rates)
    spread = float(plain.var())
    slope = float(((rates - rates.mean()) * plain).mean()) / spread if spread > 0 else 0.0
    slope = min(1.0, max(0.0, slope))
    rest = rates - slope * plain
    return float(rest.mean()) + slope * replay.consensus(k), float(rest.var(ddof=1)) / draws


class PlainVotes:
    """Plain votes, to compare with: of k samples, and of what a budget pays for."""

    def __init__(self, replays: Sequence[Replay], costs: Sequence[ProblemCost], unit: str) -> None:
        self.replays, self.unit = replays, unit
        self.max = min(map(len, replays))
        if unit == "flops":
            self.prompt = float(np.mean([cost.prompt_flops for cost in costs]))
            self.sample = float(np.mean([cost.flops.mean() for cost in costs]))
        else:
            self.prompt = float(np.mean([cost.prompt_tokens for cost in costs]))
            self.sample = float(np.mean([cost.tokens.mean() for cost in costs]))

    def rates(self, k: int) -> list[float]:
        """The exact vote of k samples of each problem, in their order."""
        return [replay.consensus(k) for replay in self.replays]

    def affordable(self, cost: float) -> int:
        """The samples that this cost pays for, rounded up, and at most what the bank has."""
        if self.sample <= 0:
            return self.max
        return max(1, min(self.max, math.ceil((cost - self.prompt) / self.sample - 1e-9)))


def _point(cells: Sequence[Cell], k: int, votes: PlainVotes, selector: Selector) -> StrategyPoint:
    rates = [cell.rate for cell in cells]
    point = StrategyPoint(
        k=k,
        accuracy=interval(rates, draws=votes.max // k),
        mc_sd=math.sqrt(sum(cell.noise for cell in cells)) / len(cells),
        samples=float(np.mean([cell.samples for cell in cells])),
        tokens=float(np.mean([cell.tokens for cell in cells])),
        scorer_tokens=float(np.mean([cell.scorer_tokens for cell in cells])),
        flops=float(np.mean([cell.flops for cell in cells])) if votes.unit == "flops" else None,
    )
    if selector.strategy in (*ORACLES, "consensus"):
        return point
    same = votes.affordable(point.cost(votes.unit))
    matched = paired_difference(votes.rates(same), rates)
    return replace(
        point,
        gain=paired_difference(votes.rates(k), rates),
        matched=Matched(**vars(matched), k=same, is_all=same == votes.max),
    )


# --- the headline ------------------------------------------------------------------------------------------------


def headline(tables: Sequence[Samples], scorers: Mapping[str, ScorerFacts]) -> Headline:
    """One sample, the vote of 64, and the best-scored of 1,000: fewer where the bank has fewer, and named so."""
    tables = [table for table in tables if len(table)]
    if not tables:
        return Headline()
    n = min(map(len, tables))
    votes, ranked = min(64, n), min(1000, n)
    replays = [Replay(table) for table in tables]

    def estimate(rates: Sequence[float], k: int) -> Estimate:
        return interval(rates, draws=n // k)

    complete, left_out = complete_scorers(tables, scorers, ranked)
    return Headline(
        pass_at={1: estimate([pass_at(len(table), int(table.correct.sum()), 1) for table in tables], 1)},
        cons_at={votes: estimate([replay.consensus(votes) for replay in replays], votes)},
        rerank_at={
            ranked: {
                name: estimate([best_of(replay, ranked, replay.samples.scores[name]) for replay in replays], ranked)
                for name in complete
            }
        },
        left_out=left_out,
    )


def headline_lines(numbers: Headline) -> list[str]:
    """The headline as text, a line a scorer."""
    if not numbers.pass_at:
        return ["the bank holds no sample yet"]
    [single], [(votes, vote)], [(ranked, scored)] = (
        numbers.pass_at.values(), numbers.cons_at.items(), numbers.rerank_at.items()
    )  # fmt: skip
    begin = f"pass@1 {_percent(single)} / cons@{votes} {_percent(vote)} / rerank@{ranked}"
    left_out = [f"{name}: {why}" for name, why in numbers.left_out.items()]
    if not scored:
        return [f"{begin}: {'; '.join(left_out) or 'no scores yet (`ponder score` adds them)'}"]
    return [f"{begin} {_percent(each)} ({name})" for name, each in scored.items()] + left_out


def _percent(estimate: Estimate) -> str:
    value, low, high = (in_percent(end) for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low} to {high})"
