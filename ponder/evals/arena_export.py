"""Votes as comparisons, one JSON object a line, as `Comparison` (types.py) has them: prompt, answers, which is better.

There is no reasoning in them and no name of a model: a scorer that learns from them must not learn either. Which answer
is `a` follows from a hash of the id. "Both bad" is a tie; what nobody decided is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from ponder.evals.votes import FILTERS, VoteLog, ballot_of
from ponder.files import jsonl, write_atomic
from ponder.types import Comparison, Preferred, Vote, text_seed


def comparisons(
    log: VoteLog, *, kinds: Collection[str], without: Collection[str] = ()
) -> tuple[list[Comparison], Counter[str]]:
    """Of the votes that stand, and how many were left out by why."""
    found, left_out = [], Counter[str]()
    for vote in log.standing():
        ballot = ballot_of(log.battles[vote.battle], vote)
        dropped = [name for name in without if FILTERS[name].leaves_out(ballot)]
        if vote.kind not in kinds:
            left_out["another kind of voter"] += 1
        elif ballot.score is None:
            left_out["undecided"] += 1
        elif dropped:
            left_out[dropped[0]] += 1
        else:
            found.append(_comparison(log, vote))
    return found, left_out


def _comparison(log: VoteLog, vote: Vote) -> Comparison:
    battle = log.battles[vote.battle]
    is_swapped = bool(text_seed("sides", vote.id) & 1)
    a, b = battle.left.answer, battle.right.answer
    better: Preferred = {"left": "a", "right": "b"}.get(vote.choice, "tie")  # type: ignore[assignment]
    if is_swapped:
        a, b = b, a
        better = {"a": "b", "b": "a"}.get(better, "tie")  # type: ignore[assignment]
    return Comparison(
        id=vote.id, prompt=battle.prompt, a=a, b=b, preferred=better, annotator=vote.voter, domain=battle.domain
    )


def write_comparisons(found: list[Comparison], path: Path) -> None:
    """JSON Lines, a comparison a line; the file is replaced in one step."""
    write_atomic(path, jsonl(map(asdict, found)))
