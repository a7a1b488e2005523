"""The log of votes, one JSON object a line, only ever appended to: battles, votes on them, and votes withdrawn.

    {"row": "battle", "id": "battle_7c..", "prompt": [...], "domain": "mathematics", "left": {...}, "right": {...}, ...}
    {"row": "vote", "id": "vote_02..", "battle": "battle_7c..", "voter": "person_91..", "choice": "left", ...}
    {"row": "undo", "vote": "vote_02..", "voter": "person_91..", "time": 1764460800.0}
    {"row": "failed", "models": ["o", "m"], "failed": ["m"], ...}        a question that has no two answers

The fields are those of `Battle` and `Vote` (types.py). People (`ponder serve --arena`), a judge and a synthetic voter
write the same rows. Nobody deletes any: what is left out of a rating is left out by a named filter, which is counted,
and the rating is shown with and without (FILTERS). Two are the log's own meaning and always hold: a withdrawn vote, and
the second vote of one voter on one battle. A vote that cannot be read is an error that names its row; rows of a later
version, and votes on a battle that is not there, are counted.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, nearest
from ponder.evals.codec import decode
from ponder.evals.style import Style, style_of
from ponder.files import InUse, append_jsonl, lock, read_jsonl
from ponder.types import Battle, Vote

HASTY = 5.0  # seconds in which nobody reads two answers
SCORES = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}  # of the left one


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """A vote with what it was about: all that ratings are made from."""

    left: str  # models
    right: str
    choice: str
    question: str  # the same for the same prompt: its votes belong together
    voter: str = ""  # "" = not known
    kind: str = "person"
    domain: str = ""
    left_style: Style = field(default_factory=Style)
    right_style: Style = field(default_factory=Style)
    seconds: float | None = None
    battle: str = ""
    names_itself: bool = False
    is_cut: bool = False
    is_same: bool = False  # both answers are the same text
    notes: tuple[str, ...] = ()
    probability: float = 1.0

    @property
    def score(self) -> float | None:
        """Of the left one: 1 won, 0.5 tied, 0 lost; None where nothing was decided."""
        return SCORES.get(self.choice)


@dataclass(frozen=True, kw_only=True)
class VoteFilter:
    """A rule that leaves votes out, by its name."""

    name: str
    about: str
    leaves_out: Callable[[Ballot], bool]


FILTERS = {
    each.name: each
    for each in (
        VoteFilter(
            name="self-naming", about="an answer says who it is or who made it", leaves_out=lambda b: b.names_itself
        ),
        VoteFilter(
            name="hasty", about=f"voted within {HASTY:g} s",
            leaves_out=lambda b: b.kind == "person" and b.seconds is not None and b.seconds < HASTY,
        ),
        VoteFilter(name="cut off", about="an answer reached its limit of tokens", leaves_out=lambda b: b.is_cut),
        VoteFilter(name="same answer", about="both answers are the same text", leaves_out=lambda b: b.is_same),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VoteLog:
    """A log that was read."""

    battles: Mapping[str, Battle]
    votes: tuple[Vote, ...]
    withdrawn: frozenset[str]  # ids of votes
    skipped: Mapping[str, int]  # rows that are left alone, by why

    def ballots(self) -> list[Ballot]:
        """Votes that count: not withdrawn, and one a voter and battle, the first."""
        return [ballot_of(self.battles[vote.battle], vote) for vote in self.standing()]

    def standing(self) -> list[Vote]:
        """The first vote of each voter on each battle, unless it was withdrawn: that makes no room for a later one."""
        found: dict[tuple[str, str], Vote] = {}
        for vote in self.votes:
            found.setdefault((vote.battle, vote.voter or vote.id), vote)
        return [vote for vote in found.values() if vote.id not in self.withdrawn]

    @property
    def counts(self) -> dict[str, int]:
        """Of the filters that always hold."""
        num_withdrawn = sum(vote.id in self.withdrawn for vote in self.votes)
        return {
            "withdrawn": num_withdrawn,
            "repeated": len(self.votes) - num_withdrawn - len(self.standing()),
            **self.skipped,
        }


def read_log(path: Path, *, is_part: bool = False) -> VoteLog:
    """The whole log. ConfigError names the line that is no row of it. is_part: its battles may lie in another."""
    if not path.exists():
        raise ConfigError(f"there is no log of votes at {path}; `ponder serve --arena {path}` collects one")
    battles: dict[str, Battle] = {}
    votes: dict[str, Vote] = {}
    undone: list[tuple[str, str]] = []  # vote, by whom
    skipped: Counter[str] = Counter()
    for number, row in enumerate(_rows(path), 1):
        try:
            kind = row.get("row") if isinstance(row, dict) else None
            if kind == "battle":
                battle = decode(Battle, row)
                if not 0 < battle.probability <= 1:
                    raise ValueError(f"probability = {battle.probability} must be above 0 and at most 1")
                if battle.left.model == battle.right.model:
                    skipped["battles of a model with itself"] += 1
                else:
                    battles.setdefault(battle.id, battle)
            elif kind == "vote":
                vote = decode(Vote, row)
                if vote.id in votes:
                    skipped["copied rows"] += 1
                votes.setdefault(vote.id, vote)
            elif kind == "undo":
                undone.append((str(row["vote"]), str(row.get("voter") or "")))
            elif kind == "failed":
                for model in row["failed"]:
                    skipped[f"battles that {model} failed to answer"] += 1
            else:
                skipped["rows of another kind"] += 1
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ConfigError(f"{path}: row {number} is no {kind} of a log of votes: {error}") from None
    withdrawn = {name for name, voter in undone if name not in votes or voter in ("", votes[name].voter)}
    if others := len({name for name, _ in undone} - withdrawn):
        skipped["votes that somebody else withdrew, which stand"] = others
    kept = tuple(vote for vote in votes.values() if is_part or vote.battle in battles)
    if len(kept) < len(votes):
        skipped["votes on no known battle"] = len(votes) - len(kept)
    return VoteLog(battles=battles, votes=kept, withdrawn=frozenset(withdrawn), skipped=dict(skipped))


def read_logs(paths: Sequence[Path]) -> VoteLog:
    """Several logs as one: a judge's votes may lie apart from the battles that they are about."""
    logs = [read_log(path, is_part=len(paths) > 1) for path in paths]
    battles = {name: battle for log in logs for name, battle in log.battles.items()}
    votes = {vote.id: vote for log in logs for vote in log.votes}
    known = tuple(vote for vote in votes.values() if vote.battle in battles)
    skipped = sum((Counter(log.skipped) for log in logs), Counter[str]())
    if len(known) < len(votes):
        skipped["votes on no known battle"] += len(votes) - len(known)
    withdrawn = frozenset[str]().union(*(log.withdrawn for log in logs))
    return VoteLog(battles=battles, votes=known, withdrawn=withdrawn, skipped=dict(skipped))


def _rows(path: Path) -> Iterable[Any]:
    try:
        yield from read_jsonl(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Alone with a log: a server that collects votes into it holds it."""
    try:
        file = lock(path.with_name(path.name + ".lock"), path)
    except InUse:
        raise ConfigError(f"a server collects votes in {path}; stop it first, or write elsewhere (--out)") from None
    with file:
        yield


def check_filters(names: Iterable[str]) -> None:
    """ConfigError for a filter that there is not."""
    for name in names:
        if name not in FILTERS:
            raise ConfigError(f"unknown filter {name!r}{nearest(name, FILTERS)}; there are {', '.join(FILTERS)}")


def append(path: Path, rows: Sequence[Battle | Vote]) -> None:
    """Add rows at the end of a log."""
    append_jsonl(path, [{"row": "battle" if isinstance(row, Battle) else "vote", **asdict(row)} for row in rows])


def ballot_of(battle: Battle, vote: Vote) -> Ballot:
    """A vote with everything of its battle that the fit looks at."""
    sides = (battle.left, battle.right)
    return Ballot(
        left=battle.left.model, right=battle.right.model, choice=vote.choice, question=question_of(battle),
        voter=vote.voter, kind=vote.kind, domain=battle.domain, left_style=style_of(battle.left.answer),
        right_style=style_of(battle.right.answer), seconds=vote.seconds, battle=battle.id,
        names_itself=any(side.names_itself for side in sides), is_cut=any(side.ended != "stop" for side in sides),
        is_same=battle.left.answer.strip() == battle.right.answer.strip(), notes=tuple(vote.notes.values()),
        probability=battle.probability,
    )  # fmt: skip


def question_of(battle: Battle) -> str:
    """The same for two battles about the same prompt, whatever its spacing."""
    text = "\0".join(f"{message.role}\0{' '.join(message.content.split())}" for message in battle.prompt)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
