"""What cannot be said from the votes there are, in words: separation, disconnection, too few questions or voters."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.evals.bradley_terry import PRIOR_POINTS, BradleyTerry, Ties
from ponder.evals.duels import FEWEST
from ponder.evals.votes import Ballot


def notes_on(ballots: Sequence[Ballot], found: BradleyTerry | None, *, asked: Ties) -> tuple[str, ...]:
    """asked: how ties were to be counted."""
    if found is None:
        return ("no vote decides anything yet: there are no ratings",)
    return (*_on_scale(found), *_on_intervals(ballots, found), *_on_ties(found, asked), *_on_pairs(ballots))


def _on_scale(found: BradleyTerry) -> list[str]:
    graph, names = found.graph, found.games.names
    notes = []
    if graph.num_components > 1:
        groups = [
            "{" + _listed([names[i] for i in range(len(names)) if graph.components[i] == group]) + "}"
            for group in sorted(set(graph.components.tolist()))
        ]
        notes.append(
            f"the models fall into {len(groups)} groups that never met: {' and '.join(groups)}; each has a scale of "
            "its own, and nothing compares one with another"
        )
    if found.has_prior:
        ends = (graph.unbounded_above, graph.unbounded_below)
        above, below = (_listed([names[i] for i in sorted(players)]) for players in ends)
        notes.append(
            f"the votes allow no finite rating of all: {above} never lost to {below or 'the others'}, not even half. "
            f"Ratings hold under a Gaussian prior of {PRIOR_POINTS:.0f} points, and an end that the votes do not set "
            "is shown as unbounded"
        )
    return notes


def _on_intervals(ballots: Sequence[Ballot], found: BradleyTerry) -> list[str]:
    notes = []
    num_questions = found.num_questions
    voters = {b.voter for b in ballots if b.voter}
    if num_questions == 1:
        notes.append("all votes are on one question: nothing is known of others, and there are no intervals")
    elif num_questions < FEWEST:
        notes.append(f"{num_questions} questions are too few: below {FEWEST} the intervals are rough, often too narrow")
    if not voters:
        notes.append("the voters are not known: the intervals take every vote as another person's")
    elif len(voters) == 1:
        notes.append("all votes are of one voter: the intervals say nothing of other voters")
    elif len(voters) < FEWEST:
        notes.append(f"{len(voters)} voters are too few to stand for others: below {FEWEST} the intervals are rough")
    return notes


def _on_ties(found: BradleyTerry, asked: Ties) -> list[str]:
    if asked == "davidson" and found.ties == "half":
        return ["Davidson's ties need some votes that tie and some that do not: a tie counts as half a win here"]
    return []


def _on_pairs(ballots: Sequence[Ballot]) -> list[str]:
    given = {round(b.probability, 6) for b in ballots}
    if len(given) > 1:
        chances = f"{min(given):g} to {max(given):g}"
        return [f"pairs were drawn with unequal chances, {chances}; shares of wins depend on that"]
    return []


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:4]) + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return ", ".join(shown)
