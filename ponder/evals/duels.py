"""Win rates of one model against another, straight from their votes, by domain: the shape of o1's preference chart.

    rate = win_rate([1, 1, 0.5, 0], questions, voters)      Estimate(value=0.625, low=0.27, high=0.88)
    holm([0.01, 0.04, 0.03])                                [0.03, 0.06, 0.06]

Ties count half. The interval is Wilson's with an effective number of votes, p(1 - p) over the variance that clustering
by question and voter gives, and Student's t: it has a width where all votes agree. Of many domains some differ from one
half by luck: a mark is set only where the p-value adjusted for all of them is below 5 % (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ponder.evals.bradley_terry import Games, clustered, freedom_of, two_sided
from ponder.evals.stats import Estimate
from ponder.evals.votes import Ballot
from ponder.intervals import student, wilson

FEWEST = 30  # questions: with fewer clusters a sandwich is too narrow by an unknown amount
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Duel:
    """One model against another in one domain."""

    domain: str  # "" = all of them
    num_votes: int
    num_questions: int
    rate: Estimate | None  # of the first model, ties half; None where there are too few questions
    ties: int = 0
    both_bad: int = 0
    p: float | None = None  # of no difference, adjusted for all domains
    is_marked: bool = False
    note: str = ""


def duels(ballots: Sequence[Ballot], first: str, second: str) -> tuple[Duel, ...]:
    """All domains together, then each, in the order of their names."""
    own = [b for b in ballots if {b.left, b.right} == {first, second} and b.score is not None]
    found = [_duel("", own, first)]
    domains = [
        _duel(name, [b for b in own if b.domain == name], first) for name in sorted({b.domain for b in own if b.domain})
    ]
    known = [i for i, each in enumerate(domains) if each.p is not None]
    for i, p in zip(known, holm([domains[i].p or 0.0 for i in known]), strict=True):
        domains[i] = replace(domains[i], p=p, is_marked=p < LEVEL)
    return (*found, *domains)


def _duel(domain: str, ballots: Sequence[Ballot], first: str) -> Duel:
    """p is not adjusted yet."""
    facts = Duel(
        domain=domain, num_votes=len(ballots), num_questions=len({b.question for b in ballots}), rate=None,
        ties=sum(b.choice == "tie" for b in ballots), both_bad=sum(b.choice == "both_bad" for b in ballots),
    )  # fmt: skip
    if facts.num_questions < FEWEST:
        return replace(facts, note=too_few(facts.num_votes, facts.num_questions))
    games = games_of(ballots)
    scores = np.where(games.first == games.names.index(first), games.score, 1 - games.score)
    rate, size = _rate(scores, games)
    freedom = freedom_of(games.questions, games.voters)
    p = two_sided((rate.value - 0.5) / math.sqrt(0.25 / size), freedom) if freedom > 0 else 1.0
    return replace(facts, rate=rate, p=p, is_marked=p < LEVEL)


def win_rate(scores: Sequence[float], games: Games) -> Estimate:
    """The mean of scores of these votes, with its interval over questions and voters."""
    return _rate(np.asarray(scores, float), games)[0]


def _rate(scores: np.ndarray, games: Games) -> tuple[Estimate, float]:
    """Also the effective number of votes."""
    mean, num = float(scores.mean()), len(scores)
    meats = clustered(((scores - mean) / num)[:, None], games.questions, games.voters)
    variance = max(float(meat[0, 0]) for meat in meats)
    num_questions = len(np.unique(games.questions))
    size = min(mean * (1 - mean) / variance, float(num)) if variance > 0 and 0 < mean < 1 else float(num_questions)
    freedom = freedom_of(games.questions, games.voters)
    if freedom < 1:
        return Estimate(mean, 0.0, 1.0), 1.0
    return Estimate(mean, *wilson(mean, size, t=student(freedom))), size


def holm(ps: Sequence[float]) -> list[float]:
    """p-values so adjusted that any one below a level is false with no more than its chance."""
    found = [0.0] * len(ps)
    so_far = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = so_far
    return found


def games_of(ballots: Sequence[Ballot]) -> Games:
    """The votes that decide or tie; the first is the one shown left."""
    return Games.of((b.left, b.right, b.score, b.question, b.voter) for b in ballots if b.score is not None)


def too_few(num_votes: int, num_questions: int) -> str:
    """What stands in place of a number."""
    if not num_votes:
        return "no votes"
    return f"{many(num_votes, 'vote')} on {many(num_questions, 'question')}: too few (fewer than {FEWEST} questions)"


def many(count: int, what: str) -> str:
    """ "1 vote", "2,997 votes"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
