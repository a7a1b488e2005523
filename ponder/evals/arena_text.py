"""The table of an arena in words, 80 columns wide: ratings, ranks, domains, and under them what limits them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from ponder.evals.arena import ArenaResult, DomainStandings, FilterEffect, Standing
from ponder.evals.duels import Duel, many
from ponder.evals.stats import Estimate, in_percent

WIDTH = 80


def lines_of(found: ArenaResult) -> list[str]:
    """Everything that `ponder arena` prints."""
    shown = [*_wrapped(_counts(found)), *_wrapped(_method(found)), *_notes(found.notes), ""]
    if found.standings:
        shown += [*_standings(found.standings), ""]
    if found.duels:
        shown += [*_duels(found), ""]
    shown += _domains(found)
    for sentence in (*_beside(found), *_filters(found.filters), *_voters(found)):
        shown += _wrapped(sentence)
    return shown


def _counts(found: ArenaResult) -> str:
    voters = many(found.num_voters, "voter") if found.num_voters else "unknown voters"
    votes, questions = many(found.num_votes, "vote"), many(found.num_questions, "question")
    parts = [f"{votes} of {voters} on {questions}: {many(found.num_ties, 'tie')}"]
    if found.num_votes:
        share = in_percent(found.num_both_bad / found.num_votes)
        parts.append(f"{found.num_both_bad:,} both bad ({share} %, ties for the ratings)")
    if found.num_undecided:
        parts.append(f"{found.num_undecided:,} undecided, in no number")
    return ", ".join(parts)


def _method(found: ArenaResult) -> str:
    ties = "a tie is half a win" if found.ties == "half" else f"Davidson's ties, v = {found.tie_parameter:.3f}"
    prior = f", Gaussian prior of {found.prior_points:.0f} points" if found.prior_points else ""
    return (
        f"Bradley-Terry, {ties}{prior}; centred at 1000, 400 points a factor of ten in the odds; 95 % intervals over "
        "questions and voters. Rank: 1 + how many are certainly better."
    )


def _notes(notes: Iterable[str]) -> list[str]:
    return [line for note in notes for line in _wrapped(f"! {note}", indent="  ")]


def _standings(rows: Sequence[Standing]) -> list[str]:
    width = max(5, min(26, max(len(row.model) for row in rows)))
    head = f"rank  {'model':<{width}}  rating  {'95 %':>13}  votes  wins %  {'ahead of the next':>17}"
    shown, group = [head], rows[0].group
    for row in rows:
        if row.group != group:
            shown.append(f"      {'-' * width}")
            group = row.group
        ahead = "" if row.ahead is None else f"{row.ahead.value:+.0f} ({_ends(row.ahead, sign='+')})"
        shown.append(
            f"{row.rank:>4}  {_cut(row.model, width):<{width}}  {row.rating.value:>6.1f}  {_ends(row.rating):>13}"
            f"  {row.num_votes:>5}  {in_percent(row.wins):>6}  {ahead:>17}"
        )
    return [line.rstrip() for line in shown]


def _ends(estimate: Estimate, sign: str = "") -> str:
    """ "961..1035"; an end that the votes do not set is unbounded."""
    low, high = (f"{end:{sign}.0f}" if math.isfinite(end) else None for end in (estimate.low, estimate.high))
    if low is None and high is None:
        return "unbounded"
    return f"{low or 'unbounded'}..{high or 'unbounded'}"


def _duels(found: ArenaResult) -> list[str]:
    first, second = (row.model for row in found.standings[:2])
    head = _wrapped(f"How often {first} is preferred to {second}, ties half; * = not 50 %, adjusted for all domains:")
    return [*head, *(_duel(duel) for duel in found.duels)]


def _duel(duel: Duel) -> str:
    name = f"  {_cut(duel.domain or 'all', 20):<20}"
    if duel.rate is None:
        return f"{name}  {duel.note}"
    ends = f"{in_percent(duel.rate.low)} to {in_percent(duel.rate.high)}"
    mark = "*" if duel.is_marked else " "
    return f"{name} {in_percent(duel.rate.value):>5} %{mark} ({ends})  {duel.num_votes} votes, {duel.both_bad} both bad"


def _domains(found: ArenaResult) -> list[str]:
    if not found.domains:
        return []
    shown = _wrapped("By domain; * = not the average of its domain, adjusted for all of them:")
    for domain in found.domains:
        shown.append(f"  {_cut(domain.domain, 30)}: {_of_domain(domain)}")
        for row in domain.standings:
            mark = "*" if row.is_marked else " "
            value = f"{row.rating.value:>7.1f}{mark} {_ends(row.rating):>13}"
            shown.append(f"    {_cut(row.model, 30):<30} {value}  {row.num_votes} votes")
        shown += [f"  {line}" for line in _notes(domain.notes)] if domain.standings else []
    return [*shown, ""]


def _of_domain(domain: DomainStandings) -> str:
    if not domain.standings:
        return domain.notes[0]
    return f"{domain.num_votes} votes on {domain.num_questions} questions, {domain.both_bad} both bad"


def _beside(found: ArenaResult) -> Iterable[str]:
    """What else moves votes, and how few hold up the first place."""
    if found.style:
        effects = ", ".join(f"{each.name} {_points(each.points)}" for each in found.style)
        equal = ", ".join(f"{name} {value:.0f}" for name, value in _sorted(found.at_equal_style))
        yield f"Style, points a standard deviation: {effects}. At equal style: {equal}."
    if found.at_equal_chances:
        equal = ", ".join(f"{name} {value:.0f}" for name, value in _sorted(found.at_equal_chances))
        yield f"Had all pairs been drawn alike often: {equal}."
    if found.position is not None and found.left_wins is not None:
        wins = found.left_wins
        yield (
            f"Place: the left answer wins {in_percent(wins.value)} % ({in_percent(wins.low)} to "
            f"{in_percent(wins.high)}), worth {_points(found.position.points)} points."
        )
    if found.flips is not None:
        share, low, high = (in_percent(end) for end in (found.flips.value, found.flips.low, found.flips.high))
        yield f"Judge: swapping the answers changes {share} % of its choices ({low} to {high})."
    if found.influence is not None:
        few = found.influence
        share = in_percent(few.num_votes / few.num_all, 2)
        yield f"Influence: without {few.num_votes} of {few.num_all} votes ({share} %), {few.instead} would be first."


def _filters(effects: Sequence[FilterEffect]) -> list[str]:
    """What each leaves out; in one sentence those that leave nothing out."""
    idle = [f"{each.name} ({each.about})" for each in effects if not each.num_votes]
    shown = [_filter(each) for each in effects if each.num_votes]
    return [*shown, f"Filters that no vote falls under: {', '.join(idle)}."] if idle else shown


def _filter(effect: FilterEffect) -> str:
    how = "left out" if effect.is_used else "kept"
    start = f"Filter {effect.name} ({effect.about}): {many(effect.num_votes, 'vote')}, {how}"
    if effect.largest_change is None:
        return f"{start}."
    order = "the order changes" if effect.changes_order else "the same order"
    ratings = ", ".join(f"{name} {value:.0f}" for name, value in _sorted(effect.ratings))
    other = "With" if effect.is_used else "Without"
    return f"{start}. {other} them {order}, no rating moves by more than {effect.largest_change:.1f}: {ratings}."


def _voters(found: ArenaResult) -> Iterable[str]:
    compared = [each for each in found.voters if each.agreement is not None]
    if compared:
        shares = [f"{each.voter} {in_percent(each.agreement or 0)} % of {each.num_compared}" for each in compared[:5]]
        shown = ", ".join(shares)
        more = f", and {len(compared) - 5} more" if len(compared) > 5 else ""
        yield f"Agreement with others on the same battle: {shown}{more}."


def _points(estimate: Estimate) -> str:
    return f"{estimate.value:+.0f} ({_ends(estimate, sign='+')})"


def _sorted(ratings: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(ratings.items(), key=lambda pair: -pair[1])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
