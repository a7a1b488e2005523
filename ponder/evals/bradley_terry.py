"""Bradley-Terry: strengths from who was preferred to whom, with intervals that know which votes belong together.

    games = Games.of([("o", "m", 1.0, "q1", "ann"), ("m", "o", 0.5, "q2", "bob"), ...])   # 1 = first won, 0.5 = a tie
    found = fit(games)
    found.rating(0)            Estimate(value=1031.2, low=1012.0, high=1050.4): centred at 1000, 400 points a decade
    found.difference(0, 1)     the same of a difference, which alone means something: the origin is a convention

The chance that i is preferred to j is 1 / (1 + e^(t_j - t_i)) (Bradley and Terry 1952), fitted by Newton. A tie is half
a win, as on public boards; or, with `ties="davidson"`, an outcome of its own, whose chance is v times the root of the
product of both (Davidson 1970). Covariates enter the same logistic, in favour of the first: its place, its style.

Intervals: the sandwich, scores summed within a cluster before they are multiplied; questions and voters are both
clusters (Cameron, Gelbach and Miller 2011: one plus the other minus both, and never less than questions alone), each
with its factor G/(G - 1), and Student's t with one less than the fewer of the two. Votes on one question share its
answers: taken as separate, nine of them a question cover 75 % where 95 % is claimed (bench/arena.py).

Finite strengths need everybody connected, and nobody, and no group, who won everything against the rest (Ford 1957;
win_graph.py). Where that fails there is a Gaussian prior of 400 points on the strengths, on nothing else, and the fit
says so; intervals are then no narrower than the curvature of prior and likelihood with a question counted once.
Left out: strengths that change with time, more than two answers at once, teams.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.evals.stats import Estimate
from ponder.evals.win_graph import WinGraph
from ponder.intervals import student
from ponder.ratings import win_chance

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ties = Literal["half", "davidson"]

CENTRE = 1000.0
POINTS = 400 / math.log(10)  # a unit of log-odds in points
PRIOR_POINTS = 400.0  # standard deviation of the prior, where one is needed
MOST_PLAYERS = 2_000  # tables of all pairs are made
_STEPS = 60  # of Newton's method; ten are usual


class NoFiniteFit(ValueError):
    """A covariate separates the votes: no finite coefficient is the most probable one."""


@dataclass(frozen=True, kw_only=True)
class Games:
    """Comparisons as arrays, one entry a vote."""

    names: tuple[str, ...]
    first: Ints  # places in `names`
    second: Ints
    score: Floats  # of the first: 1 won, 0.5 tied, 0 lost
    questions: Ints  # cluster numbers
    voters: Ints  # of an unknown voter, another number for every vote
    covariates: Mapping[str, Floats] = field(default_factory=dict)
    weight: Floats | None = None  # how much each vote counts, 1 on average; None = all alike

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[str, str, float, str, str]],
        covariates: Mapping[str, Sequence[float]] | None = None,
    ) -> Games:
        """rows: first, second, score of the first, question, voter ("" = not known)."""
        listed = list(rows)
        for first, second, score, _, _ in listed:
            if first == second or score not in (0.0, 0.5, 1.0):
                raise ValueError(f"{first} against {second}, score {score}: needs two players and 0, 0.5 or 1")
        names = tuple(sorted({name for row in listed for name in row[:2]}))
        if len(names) > MOST_PLAYERS:
            raise ConfigError(f"{len(names):,} models cannot be rated together, {MOST_PLAYERS:,} at most")
        index_of = {name: i for i, name in enumerate(names)}
        return cls(
            names=names,
            first=np.array([index_of[row[0]] for row in listed], np.int64),
            second=np.array([index_of[row[1]] for row in listed], np.int64),
            score=np.array([row[2] for row in listed], float),
            questions=_numbered([row[3] for row in listed]),
            voters=_numbered([row[4] or f"\0{i}" for i, row in enumerate(listed)]),
            covariates={name: np.asarray(column, float) for name, column in (covariates or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.score)

    def where(self, kept: NDArray[np.bool_]) -> Games:
        """A part of the votes; all players stay."""
        return Games(
            names=self.names, first=self.first[kept], second=self.second[kept], score=self.score[kept],
            questions=self.questions[kept], voters=self.voters[kept],
            covariates={name: column[kept] for name, column in self.covariates.items()},
            weight=None if self.weight is None else self.weight[kept],
        )  # fmt: skip

    def graph(self, ties: Ties = "half") -> WinGraph:
        """Who won against whom; a tie is a win for both, where it counts as half of one."""
        wins = np.zeros((len(self.names), len(self.names)), bool)
        met = np.zeros_like(wins)
        least = 0.0 if ties == "half" else 0.5
        wins[self.first[self.score > least], self.second[self.score > least]] = True
        wins[self.second[self.score < 1 - least], self.first[self.score < 1 - least]] = True
        met[self.first, self.second] = met[self.second, self.first] = True
        return WinGraph(wins=wins, met=met)


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """A fit: strengths in log-odds, and what their uncertainty is made of."""

    games: Games
    graph: WinGraph
    coefficients: Floats  # strengths, covariates, and with Davidson's ties the log of v
    scores: Floats  # (votes, coefficients): the gradient of each vote
    bread: Floats  # the inverse of the information
    has_prior: bool
    ties: Ties

    @property
    def num_players(self) -> int:
        return len(self.games.names)

    @property
    def strengths(self) -> Floats:
        """(players,) in log-odds, in the order of `games.names`."""
        return self.coefficients[: self.num_players]

    @property
    def tie_parameter(self) -> float | None:
        """Davidson's v: two equals tie with chance v / (2 + v)."""
        return math.exp(self.coefficients[-1]) if self.ties == "davidson" else None

    @cached_property
    def num_questions(self) -> int:
        return len(np.unique(self.games.questions))

    @cached_property
    def num_voters(self) -> int:
        """Each vote of an unknown voter counts as a voter of its own."""
        return len(np.unique(self.games.voters))

    @cached_property
    def freedom(self) -> int:
        """Of Student's t."""
        return freedom_of(self.games.questions, self.games.voters)

    @cached_property
    def covariances(self) -> tuple[Floats, ...]:
        """The sandwich, by questions and by both; with a prior also the one from curvature alone."""
        meats = clustered(self.scores, self.games.questions, self.games.voters)
        found = [self.bread @ meat @ self.bread for meat in meats]
        if self.has_prior:  # who won everything leaves no spread to see: the curvature, a question counted once
            found.append(self.bread * max(1.0, len(self.games) / self.num_questions))
        return tuple(found)

    def variance(self, contrast: Floats) -> float:
        """Of a combination of coefficients: the largest over all covariances."""
        return max(float(contrast @ covariance @ contrast) for covariance in self.covariances)

    def half_width(self, contrast: Floats) -> float:
        """Of the 95 % interval, in log-odds; infinite where there is one cluster only."""
        if self.freedom < 1:
            return math.inf
        return student(self.freedom) * math.sqrt(max(0.0, self.variance(contrast)))

    def _of_players(self, contrast: Floats) -> Floats:
        return np.concatenate([contrast, np.zeros(len(self.coefficients) - self.num_players)])

    def rating(self, player: int) -> Estimate:
        """In points, among those it is connected with; no end where nobody beat it, or it beat nobody."""
        own = self.graph.components == self.graph.components[player]
        contrast = self._of_players(np.eye(self.num_players)[player] - own / own.sum())
        value, half = CENTRE + POINTS * float(contrast @ self.coefficients), POINTS * self.half_width(contrast)
        return Estimate(
            value,
            -math.inf if player in self.graph.unbounded_below else value - half,
            math.inf if player in self.graph.unbounded_above else value + half,
        )

    def difference(self, player: int, other: int) -> Estimate:
        """How many points a player is above another; no end where no chain of wins leads that way. Nothing is known of
        two that no chain of votes connects."""
        if self.graph.components[player] != self.graph.components[other]:
            return Estimate(math.nan, -math.inf, math.inf)
        contrast = self._of_players(np.eye(self.num_players)[player] - np.eye(self.num_players)[other])
        value, half = POINTS * float(contrast @ self.coefficients), POINTS * self.half_width(contrast)
        return Estimate(
            value,
            value - half if self.graph.reaches[player, other] else -math.inf,
            value + half if self.graph.reaches[other, player] else math.inf,
        )

    def chance(self, player: int, other: int) -> Estimate:
        """How often a player is preferred to another by the strengths: ties count half, or with Davidson not at all."""
        gap = self.difference(player, other)
        return Estimate(*(float(win_chance(end, 0.0)) for end in (gap.value, gap.low, gap.high)))

    def rank(self, player: int) -> int:
        """1 + how many are certainly better."""
        others = (other for other in range(self.num_players) if other != player)
        return 1 + sum(self.difference(other, player).low > 0 for other in others)

    def effect(self, covariate: str) -> Estimate:
        """What one unit of a covariate is worth to the first, in points."""
        contrast = np.zeros(len(self.coefficients))
        contrast[self.num_players + list(self.games.covariates).index(covariate)] = 1.0
        value, half = POINTS * float(contrast @ self.coefficients), POINTS * self.half_width(contrast)
        return Estimate(value, value - half, value + half)


def fit(games: Games, *, ties: Ties = "half") -> BradleyTerry:
    """The most probable strengths. Raises NoFiniteFit where a covariate separates the votes."""
    if not len(games):
        raise ValueError("strengths need at least one vote that decides or ties")
    if ties == "davidson" and not 0 < np.count_nonzero(games.score == 0.5) < len(games):
        ties = "half"  # none tied, or all: v would be nothing, or everything
    graph = games.graph(ties)
    has_prior = graph.num_strong > graph.num_components
    design = _design(games)
    num_players, num = len(games.names), design.shape[1] + (ties == "davidson")
    # each component's mean is pinned to 0, which its votes cannot tell; the prior, if any, is of players alone
    pins = np.zeros((num, num))
    members = graph.components[:, None] == graph.components[None, :]
    pins[:num_players, :num_players] = members / members.sum(axis=1)
    ridge = np.zeros(num)
    ridge[:num_players] = (POINTS / PRIOR_POINTS) ** 2 if has_prior else 0.0
    at = np.zeros(num)
    if ties == "davidson":
        at[-1] = math.log(2 * np.mean(games.score == 0.5) / np.mean(games.score != 0.5))
    model = _half if ties == "half" else _davidson
    weight = np.ones(len(games)) if games.weight is None else games.weight
    value, scores, information = model(at, design, games.score, weight)
    value -= float(ridge @ at**2) / 2
    for _ in range(_STEPS):
        curvature = information + np.diag(ridge) + pins
        if not np.isfinite(curvature).all() or np.linalg.cond(curvature) > 1e13:
            raise NoFiniteFit("a covariate separates the votes, or says the same as another")
        step = np.linalg.solve(curvature, scores.sum(axis=0) - ridge * at)
        for halving in range(30):
            then = at + step / 2**halving
            new = model(then, design, games.score, weight)
            gain = new[0] - float(ridge @ then**2) / 2 - value
            if gain >= -1e-9 * (1 + abs(value)):
                break
        at, value, (_, scores, information) = then, value + gain, new
        if np.abs(step).max() < 1e-9:
            break
    else:
        raise NoFiniteFit("a covariate separates the votes")
    bread = np.linalg.inv(information + np.diag(ridge) + pins)
    return BradleyTerry(
        games=games, graph=graph, coefficients=at, scores=scores, bread=bread, has_prior=has_prior, ties=ties
    )


def _design(games: Games) -> Floats:
    """(votes, players + covariates): 1 for the first, -1 for the second."""
    rows = np.arange(len(games))
    design = np.zeros((len(games), len(games.names) + len(games.covariates)))
    design[rows, games.first] = 1.0
    design[rows, games.second] = -1.0
    for i, column in enumerate(games.covariates.values()):
        design[:, len(games.names) + i] = column
    return design


def _half(at: Floats, design: Floats, score: Floats, weight: Floats) -> tuple[float, Floats, Floats]:
    """Log-likelihood, gradient of each vote, information; a tie is half a win."""
    odds = design @ at
    chance = 0.5 + 0.5 * np.tanh(odds / 2)
    value = float(weight @ (score * odds - np.logaddexp(0, odds)))
    scores = (weight * (score - chance))[:, None] * design
    return value, scores, design.T @ ((weight * chance * (1 - chance))[:, None] * design)


def _davidson(at: Floats, design: Floats, score: Floats, weight: Floats) -> tuple[float, Floats, Floats]:
    """The same with ties as a third outcome. Statistics of a vote: half of won minus lost, and whether it tied."""
    half, log_v = design @ at[:-1] / 2, at[-1]
    logs = np.stack([half, -half, np.full_like(half, log_v)])
    total = np.logaddexp.reduce(logs, axis=0)
    won, lost, tied = np.exp(logs - total)
    is_tie = score == 0.5
    value = float(weight @ (np.where(is_tie, log_v, np.where(score == 1, half, -half)) - total))
    mean = (won - lost) / 2
    scores = weight[:, None] * np.column_stack([((score - 0.5) - mean)[:, None] * design, is_tie - tied])
    information = np.empty((len(at), len(at)))
    information[:-1, :-1] = design.T @ ((weight * ((won + lost) / 4 - mean**2))[:, None] * design)
    information[:-1, -1] = information[-1, :-1] = design.T @ (-weight * mean * tied)
    information[-1, -1] = float(weight @ (tied * (1 - tied)))
    return value, scores, information


def two_sided(t: float, freedom: int) -> float:
    """The chance that Student's t is further from 0: where t = sqrt(v) tan(a), a has the density cos(a)^(v - 1)."""
    points, weights = np.polynomial.legendre.leggauss(64)

    def area(low: float, high: float) -> float:
        angles = low + (high - low) * (points + 1) / 2
        return float((weights * np.cos(angles) ** (freedom - 1)).sum() * (high - low) / 2)

    angle = math.atan(abs(t) / math.sqrt(freedom))
    beyond = area(angle, math.pi / 2)
    return beyond / (area(0, angle) + beyond)


def freedom_of(questions: Ints, voters: Ints) -> int:
    """One less than the clusters of the kind that has fewer; one voter is no kind."""
    kinds = [len(np.unique(questions)), len(np.unique(voters))]
    return (min(kinds) if kinds[1] > 1 else kinds[0]) - 1


def clustered(scores: Floats, questions: Ints, voters: Ints) -> list[Floats]:
    """The meat of the sandwich, (k, k) from (votes, k): by questions; and by questions plus by voters minus by both,
    unless one voter cast all votes. The second is a difference of estimates, and few voters can bring it below the
    first by luck: whoever uses them takes the larger variance."""
    meats = [_meat(scores, questions)]
    if len(np.unique(voters)) > 1:
        both = _numbered(list(zip(questions.tolist(), voters.tolist(), strict=True)))
        meats.append(meats[0] + _meat(scores, voters) - _meat(scores, both))
    return meats


def _meat(scores: Floats, clusters: Ints) -> Floats:
    """The sum over clusters of their scores' outer products, times G / (G - 1)."""
    num = int(clusters.max()) + 1
    sums = np.zeros((num, scores.shape[1]))
    np.add.at(sums, clusters, scores)
    count = len(np.unique(clusters))
    meat: Floats = sums.T @ sums * (count / (count - 1) if count > 1 else 1.0)
    return meat


def _numbered(labels: Sequence[object]) -> Ints:
    """Labels as numbers from 0 on, in the order in which they first come."""
    found: dict[object, int] = {}
    return np.array([found.setdefault(label, len(found)) for label in labels], np.int64)
