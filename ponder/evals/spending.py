"""What each way of selecting gives for what it costs: the table behind `ponder scale`, and o1's trio in one line.

    played = play(tables, bank.scorers, per_token=(2.7e8, 4e4))
    played["rows"]  -> [{"strategy": "weighted vote", "scorer": "NAME", "points": [{"k": 64, "accuracy": ...}]}, ...]
    trio_lines(trio(tables, bank.scorers))  -> ["pass@1 18.0 % (15.2 to 21.1) / cons@64 ... / rerank@1000 ... (NAME)"]

Costs are means per problem: the prompt once and k samples, each with the tokens it took, and what the scorer reads of
them (`cost` in scores.py). `gain` is the paired difference to the vote of as many samples; `matched` the one to the
vote of as many samples as the same FLOPs pay for, rounded up (tokens, where FLOPs are not known). `mc_sd` says how far
the choice of orders could have moved an accuracy; it is 0 where that is exact, see replay.py. What is not exact is
measured against the plain vote of the same orders, whose exact value is known (a control variate): as far as the two go
together, what the orders do to them cancels.

A scorer's k ends where its scores end: one that has not scored every sample is left out and named. One whose facts say
`"joint": true` looks at all samples of a problem at once (the share of a class, say), and its scores would know at k=8
what only a thousand samples tell; it is shown at the largest k alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
    Played,
    Replay,
    Rule,
    best_of,
)
from ponder.evals.stats import interval, paired_difference, pass_at, powers_up_to

PerToken = tuple[float, float]  # FLOPs of a token at place 0, and how many more for each place further on


@dataclass(frozen=True)
class Row:
    """A strategy, and the scorer it uses."""

    strategy: str
    rule: Rule
    scorer: str | None = None
    cost: Mapping[str, Any] | None = None  # of the scorer
    is_joint: bool = False  # the scorer's scores depend on all samples of the problem

    @property
    def prices(self) -> tuple[float, float, float | None]:
        """How often the scorer reads the prompt and a sample, and FLOPs a token (None: the policy's)."""
        cost = self.cost or {}
        price = cost.get("flops_per_token")
        return float(cost.get("prompt", 1)), float(cost.get("sample", 1)), None if price is None else float(price)


def play(
    tables: Sequence[Samples],
    scorers: Mapping[str, Mapping[str, Any]],
    *,
    per_token: PerToken | None = None,
    ks: Sequence[int] | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Every selecting strategy at every k: the table behind `ponder scale`.

    `scorers` are the facts of those whose scores are to be used; one that has not scored every sample is left out, and
    `left_out` says so.
    """
    tables = [table for table in tables if len(table)]
    if not tables:
        raise ValueError("the bank holds no sample yet; draw some with `ponder eval`")
    n = min(map(len, tables))
    ks = powers_up_to(n) if ks is None else sorted(set(ks))
    if wrong := [k for k in ks if not 1 <= k <= n]:
        raise ValueError(f"k={wrong[0]}: every problem of the bank has {n} samples; draw more, or use 1 to {n}")
    complete, left_out = complete_scorers(tables, scorers)
    rows = _rows(tables, scorers, complete)
    if not any(row.rule in CONFIDENT.values() for row in rows):
        left_out["confidence"] = "the logprobs of some samples are not known"
    replays = [Replay(table, draws) for table in tables]
    ledgers = [Ledger(table, per_token) for table in tables]
    cells: dict[tuple[int, int], list[Cell]] = {}
    for replay, ledger in zip(replays, ledgers, strict=True):  # a problem at a time: its orders take megabytes
        for i, row in enumerate(rows):
            scores = replay.samples.scores[row.scorer] if row.scorer else np.empty(0)
            for k in ks:
                if not row.is_joint or k == len(replay):
                    cells.setdefault((i, k), []).append(Cell.of(row.rule(replay, k, scores), replay, ledger, k, row))
        replay.forget()
    unit = "tokens" if per_token is None else "flops"
    votes = Votes(replays, ledgers, unit)
    return {
        "num_problems": len(tables),
        "num_samples": n,
        "draws": draws,
        "unit": unit,
        "scorers": {name: dict(scorers[name]) for name in complete},
        "left_out": left_out,
        "rows": [
            {
                "strategy": row.strategy,
                "scorer": row.scorer,
                "exact": all(cell.exact for k in ks for cell in cells.get((i, k), ())),
                "points": [_point(cells[i, k], k, votes, row) for k in ks if len(cells.get((i, k), ())) == len(tables)],
            }
            for i, row in enumerate(rows)
        ],
    }


def _rows(tables: Sequence[Samples], scorers: Mapping[str, Mapping[str, Any]], complete: Sequence[str]) -> list[Row]:
    """What can be played: confidence where all logprobs are known, a weighted vote where scores are weights."""
    rows = [Row(name, rule) for name, rule in (PLAIN | ADAPTIVE).items()]
    if all(np.isfinite(table.mean_logprob[table.classes >= 0]).all() for table in tables):
        rows += [Row(name, rule) for name, rule in CONFIDENT.items()]
    return rows + [
        Row(name, rule, scorer, scorers[scorer].get("cost"), bool(scorers[scorer].get("joint")))
        for scorer in complete
        for name, rule in SCORED.items()
        if name != "weighted vote" or all(table.scores[scorer].min() >= 0 for table in tables)
    ]


def complete_scorers(
    tables: Sequence[Samples], scorers: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], dict[str, str]]:
    """The scorers that have scored every sample, and what is wrong with the others."""
    drawn = sum(map(len, tables))
    complete, left_out = [], {}
    for name in scorers:
        scored = sum(int(np.isfinite(table.scores[name]).sum()) for table in tables)
        if scored == drawn:
            complete.append(name)
        else:
            left_out[name] = f"{scored} of {drawn} samples are scored; `ponder score` does the rest"
    return complete, left_out


class Ledger:
    """What the samples of one problem cost."""

    def __init__(self, samples: Samples, per_token: PerToken | None) -> None:
        self.prompt_tokens, self.tokens = float(samples.prompt_tokens), samples.tokens.astype(np.float64)
        first, growth = (math.nan, math.nan) if per_token is None else per_token
        ends = self.prompt_tokens + self.tokens
        self.prompt_flops = _until(self.prompt_tokens, first, growth)
        self.flops: Floats = _until(ends, first, growth) - self.prompt_flops


def _until(place: Any, first: float, growth: float) -> Any:
    """FLOPs of all tokens before this place."""
    return first * place + growth * place * (place - 1) / 2


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
    def of(cls, played: Played, replay: Replay, ledger: Ledger, k: int, row: Row) -> Cell:
        samples, tokens, flops = float(k), k * float(ledger.tokens.mean()), k * float(ledger.flops.mean())
        if played.used is not None:  # less what it did not draw: where it draws all, the cost is that of all
            undrawn = np.arange(k) >= played.used[:, None]
            samples -= float(undrawn.sum(axis=1).mean())
            tokens, flops = (
                mean - float((each[replay.orders[:, :k]] * undrawn).sum(axis=1).mean())
                for mean, each in ((tokens, ledger.tokens), (flops, ledger.flops))
            )
        scorer_tokens = scorer_flops = 0.0
        if row.scorer is not None:
            prompt, sample, price = row.prices
            scorer_tokens = prompt * ledger.prompt_tokens + sample * tokens
            scorer_flops = prompt * ledger.prompt_flops + sample * flops if price is None else scorer_tokens * price
        is_exact = len(played.rates) == 1
        rate, noise = (float(played.rates[0]), 0.0) if is_exact else controlled(played.rates, replay, k)
        return cls(
            rate=rate,
            exact=is_exact,
            noise=noise,
            samples=samples,
            tokens=ledger.prompt_tokens + tokens,
            scorer_tokens=scorer_tokens,
            flops=ledger.prompt_flops + flops + scorer_flops,
        )


def controlled(rates: Floats, replay: Replay, k: int) -> tuple[float, float]:
    """(mean, its variance) of a strategy over the orders, with the plain vote of the same orders as control variate."""
    plain, draws = replay.plain(k), len(rates)
    spread = float(plain.var())
    slope = float(((rates - rates.mean()) * plain).mean()) / spread if spread > 0 else 0.0
    slope = min(1.0, max(0.0, slope))
    rest = rates - slope * plain
    return float(rest.mean()) + slope * replay.consensus(k), float(rest.var(ddof=1)) / draws


class Votes:
    """Plain votes, to compare with: of k samples, and of what a budget pays for."""

    def __init__(self, replays: Sequence[Replay], ledgers: Sequence[Ledger], unit: str) -> None:
        self.replays, self.unit = replays, unit
        self.most = min(map(len, replays))
        if unit == "flops":
            self.prompt = float(np.mean([ledger.prompt_flops for ledger in ledgers]))
            self.sample = float(np.mean([ledger.flops.mean() for ledger in ledgers]))
        else:
            self.prompt = float(np.mean([ledger.prompt_tokens for ledger in ledgers]))
            self.sample = float(np.mean([ledger.tokens.mean() for ledger in ledgers]))

    def rates(self, k: int) -> list[float]:
        return [replay.consensus(k) for replay in self.replays]

    def affordable(self, cost: float) -> int:
        """The samples that this cost pays for, rounded up, and at most what the bank has."""
        if self.sample <= 0:
            return self.most
        return max(1, min(self.most, math.ceil((cost - self.prompt) / self.sample - 1e-9)))


def _point(cells: Sequence[Cell], k: int, votes: Votes, row: Row) -> dict[str, Any]:
    rates = [cell.rate for cell in cells]
    names = ("samples", "tokens", "scorer_tokens", "flops")
    cost = {name: float(np.mean([getattr(cell, name) for cell in cells])) for name in names}
    spent = cost["flops"] if votes.unit == "flops" else cost["tokens"] + cost["scorer_tokens"]
    point = {
        "k": k,
        "accuracy": asdict(interval(rates, draws=votes.most // k)),
        "mc_sd": math.sqrt(sum(cell.noise for cell in cells)) / len(cells),
        **cost,
        "flops": cost["flops"] if votes.unit == "flops" else None,
    }
    if row.strategy not in (*ORACLES, "consensus"):
        same = votes.affordable(spent)
        gain, matched = (asdict(paired_difference(votes.rates(number), rates)) for number in (k, same))
        point |= {"gain": gain, "matched": {"k": same, "is_all": same == votes.most, **matched}}
    return point


# --- the trio ----------------------------------------------------------------------------------------------------


def trio(tables: Sequence[Samples], scorers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One sample, the vote of 64, and the best-scored of 1,000: fewer where the bank has fewer, and named so."""
    tables = [table for table in tables if len(table)]
    if not tables:
        return {}
    n = min(map(len, tables))
    votes, ranked = min(64, n), min(1000, n)
    replays = [Replay(table) for table in tables]

    def estimate(rates: Sequence[float], k: int) -> dict[str, float]:
        return asdict(interval(rates, draws=n // k))

    complete, left_out = complete_scorers(tables, scorers)
    return {
        "pass@1": estimate([pass_at(len(table), int(table.correct.sum()), 1) for table in tables], 1),
        f"cons@{votes}": estimate([replay.consensus(votes) for replay in replays], votes),
        f"rerank@{ranked}": {
            name: estimate([best_of(replay, ranked, replay.samples.scores[name]) for replay in replays], ranked)
            for name in complete
        },
        "left_out": left_out,
    }


def trio_lines(numbers: Mapping[str, Any]) -> list[str]:
    """The trio as text, a line a scorer."""
    if not numbers:
        return ["the bank holds no sample yet"]
    single, vote = (f"{name} {_percent(numbers[name])}" for name in numbers if name.startswith(("pass@", "cons@")))
    [rerank] = [name for name in numbers if name.startswith("rerank@")]
    left_out = [f"{name}: {why}" for name, why in numbers["left_out"].items()]
    if not numbers[rerank]:
        return [f"{single} / {vote} / {rerank}: {'; '.join(left_out) or 'no scores yet (`ponder score` adds them)'}"]
    lines = [f"{single} / {vote} / {rerank} {_percent(each)} ({name})" for name, each in numbers[rerank].items()]
    return lines + left_out


def _percent(estimate: Mapping[str, float]) -> str:
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"
