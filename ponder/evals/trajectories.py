"""Trajectories of several turns as trees on the report's page: what was proposed, what was chosen, why it ended.

Reads lines of samples.jsonl as `strategies.turns.trajectory_row` makes them; the drawing is trajectories.html.jinja's.
Every text is a model's or a file's, and nothing in a line is taken for granted: what has not the type it should have is
left out, and a line without turns is no trajectory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponder.evals.logs import is_number

MAX_TURNS = 40  # drawn of one trajectory
ENDED = {
    "answer": "a final answer was chosen",
    "window": "the window or the tokens ran out",
    "turns": "the turn limit was met",
    "cancelled": "it was cancelled",
    "unparseable": "no candidate could be read",
}


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One candidate; equal ones are one branch."""

    text: str
    answer: str
    is_chosen: bool
    detail: str  # tokens, how sure, forced


@dataclass(kw_only=True)
class Level:
    """One turn of the tree."""

    number: int
    branches: list[Branch] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Tree:
    problem: str
    facts: str  # step, target
    outcome: str
    ended: str
    is_good_end: bool
    terms: Sequence[tuple[str, str]]  # reward and its parts
    levels: Sequence[Level]
    num_left_out: int
    answer: str


def trees(rows: Sequence[Mapping[str, Any]], clip: Callable[[Any], str], *, limit: int = 8) -> list[Tree]:
    """The last `limit` trajectories among the lines of samples.jsonl."""
    found = [row for row in rows if isinstance(row.get("turns"), list) and row.get("turns")]
    return [_tree(row, clip) for row in found[-limit:]]


def _tree(row: Mapping[str, Any], clip: Callable[[Any], str]) -> Tree:
    levels: dict[int, Level] = {}
    for turn in row.get("turns", ()):
        if not isinstance(turn, Mapping):
            continue
        number = turn.get("number")
        level = levels.setdefault(number if isinstance(number, int) else 0, Level(number=0))
        level.number = number if isinstance(number, int) else 0
        if turn.get("kind") == "choice":
            level.choices.append(clip(turn.get("text", "")).strip())
        else:
            level.branches.append(_branch(turn, clip))
    ordered = [levels[number] for number in sorted(levels)]
    for level in ordered:
        level.branches = _merged(level.branches)
    ended = str(row.get("ended") or "")
    parts = row.get("parts") if isinstance(row.get("parts"), Mapping) else {}
    assert isinstance(parts, Mapping)
    terms = [("reward", row.get("reward")), *parts.items()]
    facts = [f"step {row.get('step')}"] if "step" in row else []
    facts += [f"target {clip(row.get('target'))}"] if row.get("target") else []
    distinct = row.get("distinct")
    facts += [f"{distinct:.0%} of candidates distinct"] if is_number(distinct) else []
    return Tree(
        problem=clip(row.get("problem_text") or row.get("problem") or ""),
        facts=" · ".join(facts),
        outcome=str(row.get("outcome") or ""),
        ended=ENDED.get(ended, clip(ended) or "not recorded"),
        is_good_end=ended == "answer",
        terms=[(clip(name), f"{value:+.3g}") for name, value in terms if is_number(value)],
        levels=ordered[:MAX_TURNS],
        num_left_out=max(0, len(ordered) - MAX_TURNS),
        answer=clip(row.get("answer", "")).strip(),
    )


def _branch(turn: Mapping[str, Any], clip: Callable[[Any], str]) -> Branch:
    tokens, sure, forced = turn.get("tokens"), turn.get("logprob"), turn.get("forced")
    detail = [f"{tokens} tokens"] if is_number(tokens) else []
    detail += [f"{sure:.2f} nats a token"] if is_number(sure) else []
    detail += ["closed by force"] if forced and turn.get("answer") else []
    if turn.get("finish_reason") in ("length", "window", "cancelled"):
        detail.append(f"cut: {turn.get('finish_reason')}")
    return Branch(
        text=clip(turn.get("text", "")).strip(), answer=clip(turn.get("answer", "")).strip(),
        is_chosen=turn.get("chosen") is True, detail=", ".join(detail),
    )  # fmt: skip


def _merged(branches: Sequence[Branch]) -> list[Branch]:
    """Equal ones as one, which says how many there were; the chosen one stands for its equals."""
    groups: dict[tuple[str, str], list[Branch]] = {}
    for branch in branches:
        groups.setdefault((" ".join(branch.text.split()), " ".join(branch.answer.split())), []).append(branch)
    merged = []
    for group in groups.values():
        best = next((branch for branch in group if branch.is_chosen), group[0])
        times = f"{len(group)} × the same, " if len(group) > 1 else ""
        merged.append(Branch(
            text=best.text, answer=best.answer, is_chosen=best.is_chosen, detail=times + best.detail
        ))  # fmt: skip
    return merged
