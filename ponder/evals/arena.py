"""A table of models from votes: ratings with intervals and ranks, by domain, and everything that limits what they say.

    found = analyse(read_log(Path("votes.jsonl")).ballots())
    found.standings[0]    Standing(model="o", rating=Estimate(1121, 1081, 1161), rank=1, ahead=Estimate(106, ..), ..)
    found.notes           ("all votes are of one voter: the intervals say nothing of other people",)

The fit is bradley_terry.py's; a rating's origin is a convention, so what counts is the difference to the next and the
rank, 1 plus the number of models that are certainly better. "Both bad" is a tie for the rating and is reported apart.
The same fit is made again with the style of the answers, with the place, without each group of votes that a named
filter leaves out, and inside each domain. What cannot be said is said in `notes`, before any number.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ponder.evals.arena_notes import notes_on
from ponder.evals.bradley_terry import (
    CENTRE,
    PRIOR_POINTS,
    BradleyTerry,
    Games,
    NoFiniteFit,
    Ties,
    fit,
    two_sided,
)
from ponder.evals.duels import FEWEST, LEVEL, Duel, duels, games_of, holm, too_few, win_rate
from ponder.evals.influence import Influence, smallest_removal
from ponder.evals.stats import Estimate
from ponder.evals.style import differences
from ponder.evals.votes import FILTERS, Ballot, check_filters
from ponder.intervals import student


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model in the table."""

    model: str
    rating: Estimate
    rank: int  # 1 + how many of its group are certainly better
    num_votes: int
    wins: float  # share of its votes, ties half
    ahead: Estimate | None = None  # points above the next in the table; None for the last of its group
    unbounded: str = ""  # "above", "below": no finite rating without the prior
    group: int = 0  # models that no chain of votes connects have no common scale
    p: float | None = None  # in a domain: of being the average of its group, adjusted for all cells
    is_marked: bool = False


@dataclass(frozen=True, kw_only=True)
class DomainStandings:
    """The same in one domain, or why not."""

    domain: str
    num_votes: int
    num_questions: int
    both_bad: int
    standings: tuple[Standing, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What something beside the model is worth, in points."""

    name: str
    points: Estimate


@dataclass(frozen=True, kw_only=True)
class FilterEffect:
    """What a named filter leaves out, and what difference that makes."""

    name: str
    about: str
    num_votes: int  # that it leaves out
    is_used: bool  # in the table
    ratings: dict[str, float]  # the other way: without these votes, or with them where the filter is used
    largest_change: float | None = None  # of a rating, in points; None where there is nothing to compare
    changes_order: bool = False


@dataclass(frozen=True, kw_only=True)
class VoterFacts:
    """How one voter agrees with others who voted on the same battles; shown, never used."""

    voter: str
    num_votes: int
    num_compared: int
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class ArenaResult:
    """The table of an arena, and everything that says how far to believe it."""

    num_votes: int  # that decide or tie
    num_questions: int
    num_voters: int  # known ones; 0 = not known
    num_ties: int
    num_both_bad: int
    num_undecided: int
    ties: Ties
    tie_parameter: float | None
    prior_points: float | None  # None = none was needed
    standings: tuple[Standing, ...]
    at_equal_style: dict[str, float]  # ratings; {} where no style could be fitted
    at_equal_chances: dict[str, float]  # ratings with votes weighed by 1 / the chance of their pair; {} where all alike
    style: tuple[Effect, ...]
    position: Effect | None
    left_wins: Estimate | None
    flips: Estimate | None  # of a judge: how often the order of the answers decides
    influence: Influence | None
    domains: tuple[DomainStandings, ...]
    duels: tuple[Duel, ...]  # of the first two, where there are two
    filters: tuple[FilterEffect, ...]
    voters: tuple[VoterFacts, ...]
    notes: tuple[str, ...]


def analyse(ballots: Sequence[Ballot], *, ties: Ties = "half", without: Sequence[str] = ()) -> ArenaResult:
    """without: names of filters that the table uses."""
    check_filters(without)
    used = [FILTERS[name] for name in without]
    kept = [b for b in ballots if not any(each.leaves_out(b) for each in used)]
    decided = [b for b in kept if b.score is not None]
    found = fit(games_of(decided), ties=ties) if decided else None
    standings = standings_of(found) if found else ()
    models = [each.model for each in standings]
    style, equal = _style(decided, ties)
    return ArenaResult(
        num_votes=len(decided),
        num_questions=len({b.question for b in decided}),
        num_voters=len({b.voter for b in decided if b.voter}),
        num_ties=sum(b.choice == "tie" for b in decided),
        num_both_bad=sum(b.choice == "both_bad" for b in decided),
        num_undecided=len(kept) - len(decided),
        ties=found.ties if found else ties,
        tie_parameter=found.tie_parameter if found else None,
        prior_points=PRIOR_POINTS if found and found.has_prior else None,
        standings=standings,
        at_equal_style=equal,
        at_equal_chances=_equal_chances(decided, ties),
        style=style,
        position=_position(decided, ties),
        left_wins=win_rate([b.score or 0.0 for b in decided], games_of(decided)) if decided else None,
        flips=_flips(kept),
        influence=smallest_removal(found) if found else None,
        domains=_domains(decided, ties),
        duels=duels(decided, *models) if len(models) == 2 else (),
        filters=tuple(_filter_effect(name, ballots, without, ties, models) for name in FILTERS),
        voters=agreements(kept),
        notes=notes_on(decided, found, asked=ties),
    )


def standings_of(found: BradleyTerry) -> tuple[Standing, ...]:
    """The table: group by group, the best first."""
    games, graph = found.games, found.graph
    made = []
    for i, model in enumerate(games.names):
        first, second = games.first == i, games.second == i
        num = int(first.sum() + second.sum())
        won = float(games.score[first].sum() + (1 - games.score[second]).sum())
        unbounded = "above" if i in graph.unbounded_above else "below" if i in graph.unbounded_below else ""
        made.append(
            (i, Standing(model=model, rating=found.rating(i), rank=found.rank(i), num_votes=num, wins=won / num,
                         unbounded=unbounded, group=int(graph.components[i])))
        )  # fmt: skip
    made.sort(key=lambda pair: (pair[1].group, -pair[1].rating.value, pair[1].model))
    rows = []
    for (i, row), (j, after) in zip(made, [*made[1:], (-1, None)], strict=True):
        is_last = after is None or after.group != row.group
        rows.append(row if is_last else replace(row, ahead=found.difference(i, j)))
    return tuple(rows)


def _domains(ballots: Sequence[Ballot], ties: Ties) -> tuple[DomainStandings, ...]:
    """Each domain by itself; marks are adjusted for all of their cells together."""
    by_name: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        by_name[ballot.domain].append(ballot)
    by_name.pop("", None)
    made = [_domain(name, by_name[name], ties) for name in sorted(by_name)]
    cells = [(d, s) for d, domain in enumerate(made) for s, row in enumerate(domain.standings) if row.p is not None]
    adjusted = dict(zip(cells, holm([made[d].standings[s].p or 0.0 for d, s in cells]), strict=True))
    return tuple(
        replace(
            domain,
            standings=tuple(
                replace(row, p=adjusted[d, s], is_marked=adjusted[d, s] < LEVEL) if (d, s) in adjusted else row
                for s, row in enumerate(domain.standings)
            ),
        )
        for d, domain in enumerate(made)
    )


def _domain(name: str, ballots: Sequence[Ballot], ties: Ties) -> DomainStandings:
    facts = DomainStandings(
        domain=name, num_votes=len(ballots), num_questions=len({b.question for b in ballots}),
        both_bad=sum(b.choice == "both_bad" for b in ballots),
    )  # fmt: skip
    if facts.num_questions < FEWEST:
        return replace(facts, notes=(too_few(facts.num_votes, facts.num_questions),))
    found = fit(games_of(ballots), ties=ties)
    rows = standings_of(found)
    t = student(found.freedom) if found.freedom > 0 else math.inf
    tested = []
    for row in rows:
        half = (row.rating.high - row.rating.low) / 2
        is_known = not row.unbounded and math.isfinite(half) and half > 0
        p = two_sided((row.rating.value - CENTRE) / (half / t), found.freedom) if is_known else None
        tested.append(replace(row, p=p))
    return replace(facts, standings=tuple(tested), notes=notes_on(ballots, found, asked=ties))


def _with(games: Games, columns: dict[str, np.ndarray]) -> Games:
    return replace(games, covariates=columns)


def _style(ballots: Sequence[Ballot], ties: Ties) -> tuple[tuple[Effect, ...], dict[str, float]]:
    """What style is worth, a standard deviation of each difference; and the ratings at equal style."""
    games = games_of(ballots)
    columns = differences([b.left_style for b in ballots], [b.right_style for b in ballots]) if ballots else {}
    if not columns:
        return (), {}
    try:
        found = fit(_with(games, columns), ties=ties)
    except NoFiniteFit:
        return (), {}
    effects = tuple(Effect(name=name, points=found.effect(name)) for name in columns)
    return effects, {name: found.rating(i).value for i, name in enumerate(games.names)}


def _equal_chances(ballots: Sequence[Ballot], ties: Ties) -> dict[str, float]:
    """Ratings as if all pairs had been drawn alike often (arXiv:2403.04132): where no strengths fit all pairs, what was
    drawn more often would decide."""
    chances = np.array([b.probability for b in ballots])
    if len(np.unique(chances.round(6))) < 2:
        return {}
    found = fit(replace(games_of(ballots), weight=(1 / chances) / (1 / chances).mean()), ties=ties)
    return {name: found.rating(i).value for i, name in enumerate(found.games.names)}


def _position(ballots: Sequence[Ballot], ties: Ties) -> Effect | None:
    """The effect of being shown left; None where the votes cannot separate it from the models."""
    games = games_of(ballots)
    if not ballots:
        return None
    try:
        found = fit(_with(games, {"left": np.ones(len(games))}), ties=ties)
    except NoFiniteFit:
        return None
    return Effect(name="shown left", points=found.effect("left"))


def _flips(ballots: Sequence[Ballot]) -> Estimate | None:
    """Of a judge's votes that could be read in both orders, the share in which the order decided."""
    read = [b for b in ballots if b.kind == "judge" and len(b.notes) == 2 and "undecided" not in b.notes]
    if not read:
        return None
    games = Games.of((b.left, b.right, 0.5, b.question, b.voter) for b in read)
    return win_rate([float(b.notes[0] != b.notes[1]) for b in read], games)


def _filter_effect(
    name: str, ballots: Sequence[Ballot], without: Sequence[str], ties: Ties, models: Sequence[str]
) -> FilterEffect:
    """The table made the other way round with regard to one filter."""
    rule, is_used = FILTERS[name], name in without
    others = [FILTERS[each] for each in without if each != name]
    rest = [b for b in ballots if b.score is not None and not any(each.leaves_out(b) for each in others)]
    left_out = [b for b in rest if rule.leaves_out(b)]
    facts = FilterEffect(name=name, about=rule.about, num_votes=len(left_out), is_used=is_used, ratings={})
    fewer = [b for b in rest if not rule.leaves_out(b)]
    if not left_out or not fewer:
        return facts
    tables = {True: standings_of(fit(games_of(fewer), ties=ties)), False: standings_of(fit(games_of(rest), ties=ties))}
    shown, other = tables[is_used], tables[not is_used]
    ratings = {row.model: row.rating.value for row in other}
    changes = [abs(ratings[row.model] - row.rating.value) for row in shown if row.model in ratings]
    return replace(
        facts, ratings=ratings, largest_change=max(changes, default=None),
        changes_order=[row.model for row in other] != [row.model for row in shown],
    )  # fmt: skip


def agreements(ballots: Sequence[Ballot]) -> tuple[VoterFacts, ...]:
    """Of each known voter: how often another voter on the same battle made the same choice."""
    by_battle: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        if ballot.voter and ballot.battle and ballot.score is not None:
            by_battle[ballot.battle].append(ballot)
    votes: dict[str, int] = defaultdict(int)
    shares: dict[str, list[float]] = defaultdict(list)
    for together in by_battle.values():
        for ballot in together:
            votes[ballot.voter] += 1
            others = [other for other in together if other.voter != ballot.voter]
            if others:
                shares[ballot.voter].append(sum(other.score == ballot.score for other in others) / len(others))
    return tuple(
        VoterFacts(
            voter=voter, num_votes=num, num_compared=len(shares[voter]),
            agreement=sum(shares[voter]) / len(shares[voter]) if shares[voter] else None,
        )
        for voter, num in sorted(votes.items(), key=lambda pair: (-pair[1], pair[0]))
    )  # fmt: skip
